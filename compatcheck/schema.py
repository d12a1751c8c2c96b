"""Dataclasses as plain JSON and back; what is read is held against the types that the fields declare.

A field's metadata may be :data:`NOT_KEPT`, :data:`WHERE_KNOWN` (left out where it is None), :data:`NEEDED` (it must be
there although it has a default) or ``{"name": …}``, its name in JSON. ``Annotated[str, ("a", "b")]`` lists the values
that a text may have.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from compatcheck.errors import InputError

NOT_KEPT: Mapping[str, Any] = {"kept": False}
WHERE_KNOWN: Mapping[str, Any] = {"kept": None}
NEEDED: Mapping[str, Any] = {"needed": True}
MOST = 2**63  # no whole number that is read is as large
DEEPEST = 50
_WORDS = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "an object", list: "a list",
}  # fmt: skip
_Kind = TypeVar("_Kind")
_Read = Callable[[Any], Any]


class _Wrong(Exception):
    """A value that is not as declared; ``path`` leads to it, and is gathered on the way up."""

    def __init__(self, expected: str, value: Any = None, lacks: str | None = None) -> None:
        self.expected, self.value, self.lacks, self.path = expected, value, lacks, ""


def to_json(value: Any) -> Any:
    """Dicts, lists, texts and finite numbers; what has no kind there (a path, a dtype) as text, NaN as None."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return int(value)
    if is_dataclass(value):
        found = ((name, getattr(value, own), always) for own, name, always in _written(cast(Hashable, type(value))))
        return {name: to_json(each) for name, each, always in found if always or each is not None}
    if isinstance(value, Mapping):
        return {str(name): to_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(each) for each in value]
    return to_json(value.tolist()) if hasattr(value, "tolist") else str(value)  # numpy's arrays and numbers


@cache
def _written(kind: Any) -> list[tuple[str, str, bool]]:
    known = ((each, each.metadata.get("kept", True)) for each in fields(kind))
    return [(each.name, each.metadata.get("name", each.name), bool(kept)) for each, kept in known if kept is not False]


def from_json(kind: type[_Kind], data: Any, what: str) -> _Kind:
    """A dataclass of what :func:`to_json` wrote; keys that it does not declare are left aside.
    Raises InputError: ``what`` lacks a field, or has one of another kind."""
    try:
        found: _Kind = _reader(cast(Hashable, kind))(data)
    except _Wrong as error:
        path = error.path.lstrip(".")
        if error.lacks is not None:
            where = f" in {path}" if path else ""
            raise InputError(f"{what} lacks the field '{error.lacks}'{where}: it was cut or edited") from None
        shown = ascii(error.value) if isinstance(error.value, str | bool | float | None) else type(error.value).__name__
        shown = shown if len(shown) <= 60 else f"{shown[:59]}…"
        raise InputError(
            f"{what} has a field of the wrong kind: {path or 'all of it'} is {shown} in place of {error.expected}"
        ) from None
    return found


@cache
def _reader(kind: Any) -> _Read:
    """What reads a value of this kind, or raises :class:`_Wrong`."""
    origin, of = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _dataclass(kind)
    if origin is Annotated:
        return _one_of(of[1])
    if origin in (Union, UnionType):
        (inner,) = (_reader(one) for one in of if one is not NoneType)
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        return _sequence([_reader(one) for one in of if one is not Ellipsis], of[-1] is Ellipsis)
    if origin is not None and issubclass(origin, Mapping):
        inner = _reader(of[1])
        return lambda value: {name: _inside(inner, each, f".{name}") for name, each in _expect(dict, value).items()}
    return _anything if kind is Any else lambda value: _plain(kind, value)


def _inside(read: _Read, value: Any, step: str) -> Any:
    try:
        return read(value)
    except _Wrong as error:
        error.path = step + error.path
        raise


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise _Wrong(_WORDS[kind], value)
    return value


def _dataclass(kind: Any) -> _Read:
    hints = get_type_hints(kind, include_extras=True)
    known = [
        (each.name, each.metadata.get("name", each.name), _reader(hints[each.name]),
         each.metadata.get("needed", each.default is MISSING and each.default_factory is MISSING))
        for each in fields(kind) if each.metadata.get("kept", True) is not False
    ]  # fmt: skip

    def read(value: Any) -> Any:
        _expect(dict, value)
        found = {}
        for own, name, reader, needed in known:
            if name in value:
                found[own] = _inside(reader, value[name], f".{name}")
            elif needed:
                raise _Wrong("", lacks=name)
        return kind(**found)

    return read


def _sequence(readers: list[_Read], repeated: bool) -> _Read:
    def read(value: Any) -> Any:
        if not repeated and len(_expect(list, value)) != len(readers):
            raise _Wrong(f"a list of {len(readers)}", value)
        each = itertools.repeat(readers[0]) if repeated else readers
        return tuple(_inside(one, item, f"[{i}]") for i, (one, item) in enumerate(zip(each, _expect(list, value))))  # noqa: B905

    return read


def _one_of(names: tuple[str, ...]) -> _Read:
    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in names:
            raise _Wrong(f"one of {', '.join(names)}", value)
        return value

    return read


def _plain(kind: type, value: Any) -> Any:
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits or (type(value) is int and abs(value) >= MOST) or (type(value) is float and not math.isfinite(value)):
        raise _Wrong(_WORDS[kind], value)
    return float(value) if kind is float else value


def _anything(value: Any, depth: int = 0) -> Any:
    """JSON of any form, not nested deeper than what reads it again can bear."""
    if depth > DEEPEST:
        raise _Wrong(f"values nested at most {DEEPEST} deep")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _anything(each, depth + 1)
    return _plain(type(value), value) if isinstance(value, int | float) else value


def read_object(path: Path, hint: str) -> dict[str, Any]:
    """The JSON object in a file.
    Raises FileNotFoundError: there is no such file. InputError: it cannot be read, is no JSON, nests too deep or
    holds a number that is too large; or no object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except RecursionError:
        raise InputError(f"{path}: cannot be read as JSON (it is nested too deep); {hint}") from None
    except (OSError, ValueError) as error:
        where = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)
        raise InputError(f"{where}: cannot be read as JSON ({str(error).splitlines()[0]}); {hint}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a {type(data).__name__} in place of a report; {hint}")
    return data
