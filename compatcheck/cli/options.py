"""A model of :mod:`compatcheck.options` as options of a command, and what commands share beside them."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from compatcheck import option_models, options, sides
from compatcheck.errors import InputError, did_you_mean
from compatcheck.option_models import about, flag_of, kind_of

_PANELS = (
    None,
    options.WHAT,
    options.METHOD,
    options.TRAINING,
    options.PROOF,
    options.ENGINE,
    options.COMPARE,
    options.ROWS,
)
Function = TypeVar("Function", bound=Callable[..., Any])

Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress.")]
TextOrJson = Annotated[str, typer.Option(metavar="NAME", help="terminal or json.")]


def with_options(model: type) -> Callable[[Function], Function]:
    """Give a command the options of a model; those that the user wrote reach it as the argument ``given``."""
    known = option_models.options_of(model)

    def wrap(function: Function) -> Function:
        own = inspect.signature(function, eval_str=True).parameters

        def command(context: typer.Context, **values: Any) -> Any:
            def was_written(name: str) -> bool:
                source = context.get_parameter_source(name)
                return source is not None and source.name == "COMMANDLINE"

            given = {
                name: (sides.parse if str(one.type).startswith("Settings") else kind_of(one).parse)(
                    flag_of(one), values[name]
                )
                for name, one in known.items()
                if was_written(name)
            }
            if was_written("no_store"):
                if "store" in given:
                    raise InputError("--store and --no-store exclude each other")
                given["store"] = False
            further = {"context": context} if "context" in own else {}
            return function(given=given, **further, **{name: values[name] for name in own if name in values})

        asked = [one for name, one in own.items() if name not in ("given", "context")]
        made = [_parameter(one) for one in sorted(known.values(), key=lambda one: _PANELS.index(about(one).panel))]
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *(one.replace(kind=one.KEYWORD_ONLY) for one in asked), *made]
        if "store" in known:
            help = "Neither use stored answers nor keep any."
            flag = typer.Option("--no-store", metavar="", help=help, rich_help_panel=options.ENGINE)
            parameters.append(_keyword("no_store", Annotated[bool, flag], False))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        command.__doc__ = function.__doc__
        return command  # type: ignore[return-value]

    return wrap


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _parameter(one: Any) -> inspect.Parameter:
    """An option as typer takes it."""
    said, kind = about(one), kind_of(one)
    names = said.flag.split() or [flag_of(one)]
    if kind.cli is bool and one.default is not False:
        names = [f"{names[0]}/--no-{names[0].removeprefix('--')}"]
    proposals = list(said.choices or said.suggest)
    info = typer.Option(
        *names,
        metavar="" if kind.cli is bool else said.metavar or ("NAME" if proposals and kind.cli is str else kind.metavar),
        help=f"{said.help}  \\[default: {said.shown}]" if said.shown else said.help,
        rich_help_panel=said.panel,
        show_default=one.default not in (None, (), "", False, True),
        autocompletion=(lambda incomplete: [each for each in proposals if each.startswith(incomplete)])
        if proposals
        else None,
    )
    plain = (kind.cli in (int, float, bool) and isinstance(one.default, kind.cli)) or isinstance(one.default, str)
    default = list(one.default) or None if isinstance(one.default, tuple) else one.default
    return _keyword(one.name, Annotated[kind.cli if plain else kind.cli | None, info], default)


def command_line(context: typer.Context) -> str:
    """The command as the user wrote it."""
    return shlex.join(["compatcheck", *(context.obj or [])])


def check_format(name: str) -> None:
    """Raise InputError for a format of a command that has two."""
    if name not in (known := ("terminal", "json")):
        raise InputError(f"--format {name}: unknown format{did_you_mean(name, known)}; known: terminal, json")


def speaker(quiet: bool) -> Callable[[str], None]:
    """Prints one line per step on stderr, or nothing."""
    from compatcheck.cli.output import print_line

    return lambda line: None if quiet else print_line(line)


def progress(quiet: bool) -> Any:
    """A progress bar on stderr where that is a terminal, else a line from time to time; nothing where it is quiet."""
    from compatcheck.engines.progress import BarProgress, LineProgress, SilentProgress

    if quiet:
        return SilentProgress()
    return (BarProgress if sys.stderr.isatty() else LineProgress)(share=_share)


def _share(count: int, of: int) -> str:
    """A share of what has come so far, as a report words one, with the interval of its displays."""
    from compatcheck.compare.intervals import wilson, z_values
    from compatcheck.compare.result import Estimate
    from compatcheck.report import figures

    found = Estimate(count / of, *wilson(count, of, z_values(0.95)[0]))
    return f"{figures.estimate('nfr', found)} ({figures.interval('nfr', found)}), {count:,} of {of:,}"
