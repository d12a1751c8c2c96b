"""Options that commands share, and how their values are read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from compatcheck.errors import InputError, did_you_mean

Formats = Annotated[
    list[str] | None,
    typer.Option("--format", metavar="NAME", help="terminal, json, markdown, html; repeatable.  [default: terminal]"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdict line alone; no progress.")]


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


def parse_pairs(option: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``k=v`` pairs; values are numbers, true/false, null or text, as in YAML.

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
            values[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            values[key.strip()] = text
    return values


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
    from compatcheck.report import FORMATS

    for name in names or []:
        if name not in FORMATS:
            raise InputError(
                f"--format {name}: unknown format{did_you_mean(name, FORMATS)}; known: {', '.join(FORMATS)}"
            )
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
