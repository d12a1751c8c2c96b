"""Settings of one side alone: ``--old-set``, ``--new-set``, and the tables ``[old]`` and ``[new]`` of compatcheck.toml.

A setting is an option of the evaluation by its name, dashes or underscores; ``engine-arg.NAME`` is one entry of a
repeatable one. It is read and checked as the option is, and laid over what holds for both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.option_models import flag_of, kind_of, options_of, read
from compatcheck.options import Check, Diff, Evaluate
from compatcheck.paths import user_path

SIDES = {"old": "old_set", "new": "new_set"}
_DOCUMENTS, _SCORES = "both sides answer the same documents", "both sides are scored alike"
_ALIKE = {
    **dict.fromkeys(("task", "data", "split", "limit", "sample", "filter", "turns"), _DOCUMENTS),
    **dict.fromkeys(("metric", "metric_args", "lower_is_better", "targets"), _SCORES),
    "store": "one store serves both sides",
}
"""Options of the evaluation that both sides share, and why."""


def parse(flag: str, pairs: Sequence[str]) -> dict[str, Any]:
    """The settings of one side as the command line has them, ``KEY=VALUE``: every value is read as that of its option.

    Without a value the option's default holds.
    Raises InputError: no setting, or a value that it cannot have.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.strip():
            raise InputError(f"{flag} {pair}: write it as KEY=VALUE, such as dtype=float16")
        try:
            found = laid_over(found, setting(key.strip(), _from_text(*_named(key.strip()), text)))
        except ValueError as error:
            raise InputError(f"{flag} {pair}: {error}") from None
    return found


def setting(key: str, value: Any) -> dict[str, Any]:
    """One setting by the name of its option, checked; an entry of a table is a table of its own.
    Raises ValueError: none that one side can have, or a value that it cannot have.
    """
    name, entry = _named(key)
    own = {entry: value} if entry else value
    return {name: None if own is None else read(options_of(Evaluate)[name], own)}


def given(chosen: Diff, side: str) -> dict[str, Any]:
    """What is set for one side alone, by the names of the options.
    Raises InputError: something that one side alone cannot have.
    """
    found: dict[str, Any] = {}
    for key, value in (getattr(chosen, SIDES[side]) or {}).items():
        try:
            found = laid_over(found, setting(key, value))
        except ValueError as error:
            raise InputError(f"--{side}-set {key}={value}: {error}") from None
    return found


def of_side(chosen: Diff, side: str) -> Diff:
    """The options as they hold for one side. Raises InputError: a setting that one side alone cannot have."""
    own = given(chosen, side)
    if "seed" in own and chosen.sample is not None:
        raise InputError(f"--{side}-set seed: with --sample it draws the documents, and {_DOCUMENTS}")
    known = options_of(Diff)
    common = {name: getattr(chosen, name) or {} for name, value in own.items() if isinstance(value, Mapping)}
    values = laid_over(common, {name: known[name].default if value is None else value for name, value in own.items()})
    return replace(chosen, **values, old_set=None, new_set=None)


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, tables entry by entry; of what is in both that of ``above``."""
    merged = dict(below)
    for name, value in above.items():
        known = merged.get(name)
        merged[name] = {**known, **value} if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged


def entries(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every setting as the name of its option and, of a table, each entry; the latter is empty elsewhere."""
    for name, value in settings.items():
        yield from ((name, entry) for entry in value) if isinstance(value, Mapping) else ((name, ""),)


def written(name: str, entry: str = "") -> str:
    """The key of a setting as a user writes it."""
    return flag_of(options_of(Evaluate)[name]).removeprefix("--") + (f".{entry}" if entry else "")


def _named(key: str) -> tuple[str, str]:
    """The option that a key names, and which entry of it. Raises ValueError: none, or one that both sides share."""
    spelled, _, entry = key.partition(".")
    known = options_of(Evaluate)
    flags = {written(each).replace("-", "_"): each for each in known}
    name = spelled.replace("-", "_")
    name = flags.get(name, name)
    if name in _ALIKE:
        raise ValueError(f"{_ALIKE[name]}; set it with {flag_of(known[name])}")
    if name in options_of(Check).keys() - known.keys():
        raise ValueError("is of the whole comparison, not of one side")
    if name not in known:
        able = [written(each) for each in known if each not in _ALIKE]
        raise ValueError(f"no such setting{did_you_mean(name.replace('_', '-'), able)}; there are {', '.join(able)}")
    if entry and not _is_table(name):
        raise ValueError(f"{written(name)} has no entries; write {written(name)}=VALUE")
    return name, entry


def _is_table(name: str) -> bool:
    return str(options_of(Evaluate)[name].type).startswith(("Pairs", "Decoding"))


def _from_text(name: str, entry: str, text: str) -> Any:
    """A value as the command line reads that of an option. Raises ValueError: none that it can have."""
    kind = kind_of(options_of(Evaluate)[name])
    if _is_table(name):
        if not entry:
            raise ValueError(f"write {written(name)}.NAME=VALUE")
        return kind.parse("", [f"{entry}={text}"])[entry]
    if text == "":
        return None
    if kind.cli is bool:
        text = text.lower()
        return {"true": True, "false": False}.get(text, text)
    try:
        return user_path(text) if kind.cli is Path else kind.cli(text)
    except ValueError:
        return text  # which is then refused as what it is
