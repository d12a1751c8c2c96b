"""Commands and the one place where errors become exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
import typer.core

from compatcheck.cli import cache, diff, fix, kept, runs, setup
from compatcheck.cli.output import print_failure, print_line, reader_is_gone
from compatcheck.errors import ExitCode
from compatcheck.version import __version__

# typer carries its own copy of click since 0.27 and uses the installed one before: its public error leads to both
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_ClickError: type[Exception] = _UsageError.__mro__[1]


def _quickly(parameter: Any) -> Any:
    """A parameter that leaves to typer what needs work: from 0.27 on it imports pydantic for every value."""
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    if "process_value" in vars(parameter):
        return parameter
    convert = parameter.process_value

    def process_value(context: Any, value: Any) -> Any:
        if value is None or value == []:
            ready = not parameter.required
        elif kind is Path and isinstance(value, str):
            ready, value = True, Path(value)
        else:
            ready = type(value) is kind or (kind == list[str] and all(isinstance(one, str) for one in value))
        if not ready:
            return convert(context, value)
        return value if parameter.callback is None else parameter.callback(context, parameter, value)

    parameter.process_value = process_value
    return parameter


class _Group(typer.core.TyperGroup):
    """All commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        return [_quickly(each) for each in super().get_params(ctx)]


class _Command(typer.core.TyperCommand):
    """A command whose help names no Python types: ``--quiet`` and not ``--quiet <bool>``."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = [_quickly(each) for each in super().get_params(ctx)]
        for each in params:
            if each.param_type_name == "argument":
                each.display_type_rich = lambda ctx: ""
            elif each.name == "help":
                each.metavar = ""
        return params


app = typer.Typer(
    name="compatcheck",
    cls=_Group,
    help="Is this model upgrade safe? Compare an old and a new model instance by instance, and gate on negative flips.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 passed or no gate · 1 regression shown · 2 usage or data error · 3 inconclusive.",
)
app.command("diff", cls=_Command, epilog=diff.EXAMPLES)(diff.command)
_COMMANDS: dict[str, Callable[..., Any]] = {
    "run": runs.run, "fix": fix.fix, "train-task": fix.train_task, "bless": runs.bless, "report": kept.report,
    "show": kept.show, "card": kept.card, "noise": runs.noise, "plan": setup.plan, "export": runs.export,
    "tasks": setup.tasks, "doctor": setup.doctor, "init": setup.init, "demo": setup.demo,
}  # fmt: skip
for _name, _command in _COMMANDS.items():
    app.command(_name, cls=_Command)(_command)
app.add_typer(cache.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"compatcheck {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", metavar="", help="Print the version and exit.", callback=_print_version, is_eager=True
    ),
) -> None:
    pass


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; whatever goes wrong is one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = int(app(args=given, standalone_mode=False, obj=given) or ExitCode.OK)
        sys.stdout.flush()
        return code
    except _ClickError as error:
        if given and (said := str(getattr(error, "format_message", error.__str__)())):  # else the help was printed
            where = getattr(getattr(error, "ctx", None), "command_path", "compatcheck")
            print_line(f"error: {said}" + (f" (see `{where} --help`)" if isinstance(error, _UsageError) else ""))
        return ExitCode.USAGE
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BaseException as error:  # a panic of a library written in Rust is no Exception, and sys.exit() is none
        if isinstance(error, SystemExit) and isinstance(error.__context__, OSError):
            error = error.__context__  # click's and rich's own answer to a broken pipe is sys.exit(1)
        if isinstance(error, BrokenPipeError) and (reader_is_gone() or _of_rich(error)):
            return ExitCode.OK  # `compatcheck tasks | head`: nothing is wrong on our side
        print_failure(error)
        return ExitCode.USAGE


def _of_rich(error: BaseException) -> bool:
    """Whether rich was writing a help, and has put the null device in the place of standard output."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts[-2:] == ("rich", "console.py")
