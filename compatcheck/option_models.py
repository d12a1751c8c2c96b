"""How the models of :mod:`compatcheck.options` are declared, made of what a user gives, and shown.

Plain dataclasses: pydantic adds 80 ms to the 170 ms of ``compatcheck --help``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field as ModelField
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast, dataclass_transform

from compatcheck.errors import InputError, did_you_mean
from compatcheck.option_kinds import KINDS, Kind
from compatcheck.text import clean_surrogates

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Option:
    """What is said of an option beside its name, type and default."""

    help: str
    panel: str | None = None
    metavar: str = ""
    flag: str = ""
    """On the command line, where that is not the name: ``--engine-arg``; with ``-q`` behind it a short one too."""
    least: float | None = None
    choices: Sequence[str] = ()
    environment: bool = False
    """Read from ``COMPATCHECK_NAME`` and, in pytest, from ``--compatcheck-name``."""
    power: bool = False
    """Lets others' code run: not taken from a settings file that was merely found."""
    suggest: Sequence[str] = ()
    """What shell completion proposes, where other values are possible too."""
    shown: str = ""
    """The default in words, where the value does not say it."""


def option(default: Any, help: str, panel: str | None = None, **further: Any) -> Any:
    """A field of a model; ``further`` as in :class:`Option`."""
    return field(default=default, metadata={"option": Option(help, panel, **further)})


@dataclass_transform(frozen_default=True, kw_only_default=True)
def panel(name: str | None) -> Callable[[type[T]], type[T]]:
    """Make a model of a class; its options stand in this panel of the help, where they name no other."""

    def make(cls: type[T]) -> type[T]:
        for each in vars(cls).values():
            if isinstance(each, ModelField):
                said = each.metadata["option"]
                each.metadata = MappingProxyType({"option": replace(said, panel=said.panel or name)})
        return dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)  # half the time of import

    return make


def options_of(model: type) -> dict[str, ModelField[Any]]:
    """The options of a model by name."""
    return {each.name: each for each in fields(model)}


def about(one: ModelField[Any]) -> Option:
    """What is said of an option."""
    return cast(Option, one.metadata["option"])


def kind_of(one: ModelField[Any]) -> Kind:
    """The kind that an option's annotation names."""
    return KINDS[str(one.type).removesuffix(" | None")]


def flag_of(one: ModelField[Any]) -> str:
    """The option on the command line, as messages name it."""
    return about(one).flag.partition(" ")[0] or f"--{one.name.rstrip('_').replace('_', '-')}"


def read(one: ModelField[Any], value: Any) -> Any:
    """The value of an option, as its model holds it.
    Raises ValueError: none that it can have; the message says what it must be.
    """
    said, kind = about(one), kind_of(one)
    try:
        found = kind.read(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"must be {kind.words}") from None
    if said.least is not None and found < said.least:
        raise ValueError(f"must be {'at least 1' if said.least else '0 or more'}")
    for each in found if isinstance(found, tuple) else (found,):
        if said.choices and each not in said.choices:
            hint = did_you_mean(str(each), said.choices)
            raise ValueError(f"is an unknown {one.name}{hint}; known: {', '.join(said.choices)}")
    if not one.type.startswith("Reference") and any(
        clean_surrogates(text) != text for text in _texts(found)
    ):  # a file's name may be any bytes
        raise ValueError("is no text that UTF-8 can hold")
    return found


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value, those of tables and lists among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for each in (*value, *value.values()) if isinstance(value, Mapping) else value:
            yield from _texts(each)


def build(model: type[T], given: Mapping[str, Any]) -> T:
    """A model with these options; None stands for the default.
    Raises InputError: an option that does not exist, or a value that it cannot have.
    """
    known = options_of(cast(type, model))
    values = {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{name}: no such option{did_you_mean(name, known)}; there are {', '.join(known)}")
        if value is not None:
            try:
                values[name] = read(known[name], value)
            except ValueError as error:
                shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
                raise InputError(f"{flag_of(known[name])} {shown}: {error}") from None
    return model(**values)


def part_of(chosen: Any, kind: Callable[..., T], **further: Any) -> T:
    """Another dataclass, of those of its fields that ``chosen`` has too, and ``further``."""
    mine = {each.name: getattr(chosen, each.name) for each in fields(cast(Any, kind)) if hasattr(chosen, each.name)}
    return kind(**{name: value for name, value in mine.items() if value is not None} | further)


def written(chosen: Any) -> dict[str, Any]:
    """The options that differ from their defaults, as JSON can hold them."""
    values = {each.name: getattr(chosen, each.name) for each in fields(chosen)}
    changed = {name: value for name, value in values.items() if value != options_of(type(chosen))[name].default}
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in changed.items()
    }


def takes(model: type) -> Callable[[Function], Function]:
    """Show the options of a model as keyword arguments of a function that ends in ``**given``."""

    def sign(function: Function) -> Function:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        shown = [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
            for each in fields(model)
        ]
        first = [p for p in own if p.kind is not p.KEYWORD_ONLY]
        function.__signature__ = inspect.Signature([*first, *shown, *own[len(first) :]])  # type: ignore[attr-defined]
        return function

    return sign
