"""Options that commands share, and how their values are read."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from compatcheck.errors import InputError, did_you_mean

WHAT, ENGINE, COMPARE, ROWS = "What", "Engine", "Comparison and gate", "Recorded outputs"
"""Panels of the help."""

Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="terminal, json, markdown, html, junit, github, sarif, png, svg; repeatable.  [default: terminal]",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdict line alone; no progress.")]

Task = Annotated[
    list[str] | None,
    typer.Option(help="Bundled, lm-eval's (task or group), or a YAML file; repeatable.", rich_help_panel=WHAT),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Local JSONL(.gz) in place of hub data: a file, or a folder with <task>/<split>.jsonl[.gz].",
        rich_help_panel=WHAT,
    ),
]
Split = Annotated[str | None, typer.Option(help="Split to evaluate.", rich_help_panel=WHAT)]
Limit = Annotated[int | None, typer.Option(help="The first N documents.", rich_help_panel=WHAT)]
Sample = Annotated[int | None, typer.Option(help="N documents drawn at random with --seed.", rich_help_panel=WHAT)]
NumFewshot = Annotated[int | None, typer.Option(help="Examples in the prompt.", rich_help_panel=WHAT)]
Engine = Annotated[str, typer.Option(help="auto, hf, vllm, ray, or any lm-eval backend.", rich_help_panel=ENGINE)]
EngineArg = Annotated[
    list[str] | None, typer.Option(metavar="K=V", help="Passed to the engine; repeatable.", rich_help_panel=ENGINE)
]
BatchSize = Annotated[str, typer.Option(metavar="N|auto", help="Sequences at a time.", rich_help_panel=ENGINE)]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.", rich_help_panel=ENGINE)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; found by itself.", rich_help_panel=ENGINE)]
ApplyChatTemplate = Annotated[
    bool, typer.Option("--apply-chat-template", help="Use the model's chat template.", rich_help_panel=ENGINE)
]
FewshotAsMultiturn = Annotated[
    bool,
    typer.Option(
        "--fewshot-as-multiturn/--no-fewshot-as-multiturn",
        help="Under a chat template, examples are turns of their own or all in one message.",
        rich_help_panel=ENGINE,
    ),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.", rich_help_panel=ENGINE)
]
Seed = Annotated[int, typer.Option(help="For few-shot examples, --sample and bootstrap.", rich_help_panel=ENGINE)]
Store = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Keep answers here, not in the user's cache (see `compatcheck cache`).",
        rich_help_panel=ENGINE,
    ),
]
NoStore = Annotated[
    bool, typer.Option("--no-store", help="Neither use stored answers nor keep any.", rich_help_panel=ENGINE)
]
Metric = Annotated[
    list[str] | None,
    typer.Option(
        help="Of the task, or exact_match, contains, rouge1, rouge2, rougeL, bertscore, bleu, chrf, judge, score; "
        "repeatable. "
        "[default: the task's own]",
        rich_help_panel=WHAT,
    ),
]
MetricArg = Annotated[
    list[str] | None,
    typer.Option(metavar="M.K=V", help="Setting of a metric: exact_match.ignore_case=true.", rich_help_panel=WHAT),
]
LowerIsBetter = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC", help="A smaller score is better; repeatable.", rich_help_panel=WHAT),
]
IdField = Annotated[str | None, typer.Option(help="Dotted: meta.id.", rich_help_panel=ROWS)]
TargetField = Annotated[str | None, typer.Option(help="Dotted.", rich_help_panel=ROWS)]
PredictionField = Annotated[str | None, typer.Option(help="Dotted, on both sides.", rich_help_panel=ROWS)]
Extract = Annotated[
    str | None,
    typer.Option(metavar="REGEX", help="Answer = group 1 of the last match, on both sides.", rich_help_panel=ROWS),
]
Targets = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Take the targets from this file, by id.", rich_help_panel=ROWS)
]


def parse_metric_args(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read ``metric.k=v`` pairs, by metric name.

    Raises:
        InputError: a pair without ``=`` or without the metric's name.
    """
    values: dict[str, dict[str, Any]] = {}
    for key, value in parse_pairs("--metric-arg", pairs).items():
        metric, separator, name = key.partition(".")
        if not separator or not name:
            raise InputError(
                f"--metric-arg {key}: write it as metric.key=value, e.g. bertscore.model_type=roberta-large"
            )
        values.setdefault(metric, {})[name] = value
    return values


_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


def parse_pairs(option: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``k=v`` pairs; values are numbers, true/false, null or text, as in YAML, and 1e-4 is a number.

    Raises:
        InputError: a pair without ``=``.
    """
    import yaml

    values: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise InputError(f"{option} {pair}: write it as key=value")
        try:
            value = yaml.safe_load(text)
            if isinstance(value, str) and _EXPONENT.fullmatch(value):  # YAML 1.1 wants a point before the e
                value = float(value)
            values[key.strip()] = value
        except yaml.YAMLError:
            values[key.strip()] = text
    return values


def parse_rate(option: str, text: str) -> float:
    """A proportion: ``2%`` or ``0.02``.

    Raises:
        InputError: no number, or a bare one of 1 or more, which would mean 100 % or more.
    """
    stripped = text.strip()
    try:
        value = float(stripped.removesuffix("%"))
    except ValueError:
        raise InputError(f"{option} {text}: give a percentage such as 2%, or a proportion such as 0.02") from None
    if stripped.endswith("%"):
        return value / 100
    if value > 1:
        raise InputError(f"{option} {text}: means {100 * value:g} %; write {stripped}%")
    return value


def on_command_line(context: typer.Context, *names: str) -> bool:
    """Whether the user wrote one of these options, so that it comes before settings of the file."""
    sources = (context.get_parameter_source(name) for name in names)
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


_WRITTEN_AS = {"engine_args": ("engine_arg",), "metric_args": ("metric_arg",), "store": ("store", "no_store")}
"""Options whose parameters on the command line have other names."""


def written(context: typer.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that the user wrote on the command line."""
    return {key: value for key, value in given.items() if on_command_line(context, *_WRITTEN_AS.get(key, (key,)))}


def choose_store(store: Path | None, no_store: bool) -> Path | bool | None:
    """What ``--store`` and ``--no-store`` mean together: a folder, False for none, None for the usual one."""
    if store is not None and no_store:
        raise InputError("--store and --no-store exclude each other")
    return False if no_store else store


def parse_batch_size(text: str) -> int | str:
    """``auto`` or a whole number of at least 1."""
    if text == "auto":
        return text
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise InputError(f"--batch-size {text}: give 'auto' or a whole number of at least 1")


def check_dtype(text: str) -> str:
    """``auto`` or the name of a torch floating-point type."""
    known = ("auto", "float32", "float16", "bfloat16", "float64")
    if text not in known:
        raise InputError(f"--dtype {text}: unknown{did_you_mean(text, known)}; known: {', '.join(known)}")
    return text


def check_formats(names: Sequence[str] | None) -> list[str]:
    """The report formats asked for; terminal where none is."""
    from compatcheck.report import check_formats as check

    try:
        check(names or [])
    except InputError as error:
        raise InputError(f"--{error}") from None
    return list(dict.fromkeys(names or ["terminal"]))


def speaker(quiet: bool) -> Callable[[str], None]:
    """Prints one line per step on stderr, or nothing."""

    def say(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr, flush=True)

    return say


def progress(quiet: bool) -> Any:
    """A progress bar on stderr where that is a terminal; else nothing."""
    from compatcheck.engines.progress import BarProgress, SilentProgress

    return BarProgress() if sys.stderr.isatty() and not quiet else SilentProgress()
