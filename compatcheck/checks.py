"""The checks of a settings file, one after the other, and the one verdict of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.config import Check, Config, from_environment
from compatcheck.errors import ExitCode, InputError, did_you_mean

if TYPE_CHECKING:
    from compatcheck.finished import Diff

PRESENTATION = ("format", "out", "exit_zero", "quiet")
"""Options that bear on how a result is shown, not on what it is."""
OF_TWO = (
    "fail_on", "advisory", "required", "max_missing", "allow_same", "epsilon", "correct_at", "slice_by",
    "old_prediction_field",
    "new_prediction_field", "stream", "noise_floor", "noise_run", "cluster_by", "repeats", "until_decided", "step",
    "max",
)  # fmt: skip
"""Options of a comparison that the evaluation of one side does not have."""


def choose(config: Config, names: Sequence[str] = ()) -> tuple[Check, ...]:
    """The checks of these names, or all.

    Raises:
        InputError: there are none, or none of a name.
    """
    if config.path is None:
        raise InputError(
            "OLD and NEW are missing, and there is no compatcheck.toml here that names checks (`compatcheck init` "
            "writes one)"
        )
    if not config.checks:
        raise InputError(f"{config.path}: no check is named there; add a table [{_below(config)}checks.NAME]")
    known = {check.name: check for check in config.checks}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(f"--check {name}: no such check in {config.path}{hint}; there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else config.checks


def settle(options: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a check with what the environment and, above it, the command line says."""
    return {**options, **from_environment(), **given}


def run(check: Check, options: Mapping[str, Any], **further: Any) -> Diff:
    """Compare the sides of a check with settled options; ``further`` is handed to :func:`compatcheck.diff`.

    Raises:
        InputError: as ``diff`` does.
    """
    from compatcheck import api

    rest = {key: value for key, value in options.items() if key not in PRESENTATION}
    return api.diff(check.old, check.new, **rest, **further)


def folder_of(check: Check, out: str | Path | None, alone: bool) -> Path | None:
    """Where the files of a check go: ``out`` itself when it is the only one, else a folder of its name in it."""
    if out is None:
        return None
    return Path(out) if alone else Path(out) / check.name


def worst(codes: Iterable[int]) -> int:
    """The exit code of several checks: an error, else a shown regression, else inconclusive, else passed."""
    found = {int(code) for code in codes}
    order = (ExitCode.USAGE, ExitCode.REGRESSION, ExitCode.INCONCLUSIVE)
    return int(next((code for code in order if int(code) in found), ExitCode.OK))


def _below(config: Config) -> str:
    return f"{config.key}." if config.key else ""
