"""The types an option can have: how a value is read, and what is said of a wrong one."""

from __future__ import annotations

import numbers
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from compatcheck.errors import InputError

Texts = tuple[str, ...]
"""One text, or several."""
Tasks = tuple[str, ...]
"""As :data:`Texts`, of task names and YAML files."""
Reference = str
"""What names a model: in a settings file a path in it is relative to the file."""
References = tuple[str, ...]
"""As :data:`Texts`, of references."""
Pairs = Mapping[str, Any]
"""K=V pairs on the command line, a table elsewhere."""
Decoding = Mapping[str, Any]
"""As :data:`Pairs`, where ``stop`` may be there several times and is a text, ``\\n`` in it a new line."""
Instruction = str
"""A text, or with ``@`` before it the name of a file that holds it."""
Settings = Mapping[str, Any]
"""KEY=VALUE on the command line, a table elsewhere: options by their names (:mod:`compatcheck.sides`)."""
Tables = Mapping[str, Mapping[str, Any]]
"""M.K=V pairs on the command line, a table of tables elsewhere."""
Share = float | str
"""``"2%"`` or ``0.02``."""
Size = int | str
"""A whole number of at least 1, or ``auto``."""
Store = Path | bool | None
"""A folder, False for none, None for the usual one."""
Weight = float | str | None
"""A number, ``auto`` or ``none``."""


@dataclass(frozen=True)
class Kind:
    """How values of a type are read. ``read`` raises ValueError for what is none."""

    words: str
    """What a value must be."""
    read: Callable[[Any], Any]
    cli: Any = str
    """Type of the option on the command line."""
    metavar: str = ""
    parse: Callable[[str, Any], Any] = lambda _, value: value
    """Gets the flag and the value of the command line."""


def _of(*types: type, as_: Callable[[Any], Any] = lambda value: value) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ValueError(value)
        return as_(value)

    return read


def _several(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str | os.PathLike) else value
    if isinstance(values, Mapping) or not all(isinstance(each, str | os.PathLike) for each in iter(values)):
        raise ValueError(value)
    return tuple(os.fspath(each) for each in values)


def _tables(value: Any) -> dict[str, dict[str, Any]]:
    return {name: dict(_of(Mapping)(each)) for name, each in _of(Mapping)(value).items()}


def _size(value: Any) -> int | str:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(value)
    return cast(int | str, value)


def _weight(value: Any) -> float | str:
    return value if value in ("auto", "none") else float(_of(numbers.Real, str)(value))


def _store(value: Any) -> Path | bool:
    if value is False:
        return False
    return Path(_of(str, os.PathLike)(value))


def parse_pairs(flag: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``k=v`` pairs; values are numbers, true/false, null or text, as in YAML, and 1e-4 is a number.
    Raises InputError: a pair without ``=``.
    """
    import yaml

    values: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise InputError(f"{flag} {pair}: write it as key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value, re.ASCII):
            value = float(value)  # YAML 1.1 wants a point before the e
        values[key.strip()] = value
    return values


def _parse_decoding(flag: str, pairs: Sequence[str]) -> dict[str, Any]:
    stops: list[str] = []
    others = []
    for pair in pairs:
        key, _, text = pair.partition("=")
        if key.strip() not in ("stop", "until") or text == "none":
            others.append(pair)
        elif text[:1] in ("[", '"', "'"):
            (value,) = parse_pairs(flag, [f"stop={text}"]).values()
            stops += value if isinstance(value, list) else [value]
        else:
            stops.append(text.replace("\\n", "\n").replace("\\t", "\t"))
    return parse_pairs(flag, others) | ({"stop": stops} if stops else {})


def _parse_tables(flag: str, pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {}
    for key, value in parse_pairs(flag, pairs).items():
        metric, separator, name = key.partition(".")
        if not separator or not name:
            raise InputError(f"{flag} {key}: write it as metric.key=value, e.g. bertscore.model_type=roberta-large")
        values.setdefault(metric, {})[name] = value
    return values


KINDS: Mapping[str, Kind] = {
    "str": Kind("text", _of(str, os.PathLike, as_=os.fspath), metavar="TEXT"),
    "int": Kind("a whole number", _of(numbers.Integral, as_=int), int, "N"),
    "float": Kind("a number", _of(numbers.Real, as_=float), float, "X"),
    "bool": Kind("true or false", _of(bool), bool),
    "Path": Kind("text", _of(str, os.PathLike, as_=Path), Path, "PATH"),
    "Texts": Kind("text, or a list of texts", _several, list[str], "NAME"),
    "Tasks": Kind("text, or a list of texts", _several, list[str], "NAME"),
    "Reference": Kind("text", _of(str, os.PathLike, as_=os.fspath), metavar="REF"),
    "References": Kind("text, or a list of texts", _several, list[str], "REF"),
    "Pairs": Kind("a table", _of(Mapping, as_=dict), list[str], "K=V", parse_pairs),
    "Decoding": Kind("a table", _of(Mapping, as_=dict), list[str], "K=V", _parse_decoding),
    "Instruction": Kind("text", _of(str), metavar="TEXT|@FILE"),
    "Settings": Kind("a table of settings", _of(Mapping, as_=dict), list[str], "KEY=VALUE"),
    "Tables": Kind("a table of tables", _tables, list[str], "M.K=V", _parse_tables),
    "Share": Kind('a share such as "2%" or 0.02', _of(str, numbers.Real), metavar="RATE"),
    "Size": Kind('a whole number of at least 1 or "auto"', _size, metavar="N|auto"),
    "Store": Kind("a folder, or false for none", _store, Path, "DIR"),
    "Weight": Kind('a number such as 0.75 or 1.25, "auto" or "none"', _weight, metavar="A|auto|none"),
}
"""By annotation, without ``| None``."""
