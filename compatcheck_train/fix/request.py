"""What ``compatcheck fix`` is asked for, and what it refuses before anything is paid for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError, did_you_mean
from compatcheck.memory import available_memory
from compatcheck.references import Reference, resolve
from compatcheck_train.examples import Examples
from compatcheck_train.fix.candidates import Candidate
from compatcheck_train.fix.judging import Judge, Standing
from compatcheck_train.fix.proof import MARGIN
from compatcheck_train.folders import Claim
from compatcheck_train.loss import strategies
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training.run import check_trackers
from compatcheck_train.weights import METHODS, why_not_blended

AUTO = "auto"
CONTROL = "continue-ce"
MUCH_WORSE = 0.6
"""An old model whose score is below this share of the new one's has little that is worth keeping: in the paper's own
pairs of that kind (Phi 1 → 1.5: 32 % against 70 % on HellaSwag) the method brings the flips down by 5 % or less."""


@dataclass(frozen=True)
class FixRequest:
    """Everything about one fix. ``settings.strategy`` is overruled by ``strategy``."""

    old: str
    new: str
    judge: Judge
    settings: TrainSettings
    strategy: str = AUTO
    """A strategy's name, or ``FIRST+STRATEGY`` for one with a stage before it (see :class:`Candidate`), or ``auto``:
    short trials, judged on the validation documents."""
    candidates: tuple[str, ...] = ()
    """What auto tries; empty: :func:`compatcheck_train.fix.candidates.candidates_for` the task's kind."""
    trial_share: float = 0.2
    """Share of the steps that a trial gets; 1: trials are whole trainings, and none is trained again."""
    finalists: int = 2
    """So many of the candidates are trained in full and blended; the blend that stands best is taken."""
    blend: str | float | None = AUTO
    """Weight of compat in the blend with NEW: a number, ``auto`` (the best on the validation documents), or None."""
    blend_method: str = "exact"
    control: str | None = CONTROL
    init: str = "new"
    """What the adapter starts as: ``new``, or ``transfer`` (NEW with the old adapter's update on top)."""
    train_task: bool = False
    """NEW is a base without an adapter: train one on the task first."""
    unlabelled: Path | None = None
    train_split: str | None = None
    train_limit: int | None = None
    validation_most: int | None = 1000
    overlap: str = "error"
    margin: float = MARGIN
    """By so much the score may be below NEW's, as a proportion (0.01 is one point)."""
    seeds: int = 1
    """So many trainings of what is chosen, with seeds from ``settings.seed`` on; the proof is over all of them."""
    force: bool = False
    notes: tuple[str, ...] = field(default=())


def check(request: FixRequest) -> tuple[Reference, Reference]:
    """Resolve OLD and NEW and refuse what cannot be meant.

    Raises:
        InputError: recorded outputs or an endpoint in place of a model, unknown names, numbers out of range.
    """
    found = []
    for side, text in (("OLD", request.old), ("NEW", request.new)):
        reference = resolve(text, request.settings.trust_remote_code)
        if reference.base is None:
            raise InputError(f"{side} {text}: fix trains on weights; name a model folder, an adapter or BASE+ADAPTER")
        found.append(reference)
    old, new = found
    if old.fingerprint() == new.fingerprint():
        raise InputError(f"OLD {request.old} and NEW {request.new} are the same model; there is nothing to fix")
    for name in _named(request):
        if name != AUTO:
            strategies.get(name)
    if request.blend_method not in METHODS:
        hint = did_you_mean(request.blend_method, METHODS)
        raise InputError(f"--blend-method {request.blend_method}: no such method{hint}; known: {', '.join(METHODS)}")
    if isinstance(request.blend, str) and request.blend != AUTO:
        raise InputError(f"--blend {request.blend}: give a number such as 0.75 or 1.25, auto or none")
    if isinstance(request.blend, float) and request.blend != 1 and new.adapter is not None:
        why = why_not_blended(new.adapter)
        if why:
            raise InputError(f"--blend {request.blend:g}: {why}; say --blend none")
    if request.init not in ("new", "transfer"):
        raise InputError(f"--init {request.init}: must be new or transfer")
    if request.init == "transfer" and old.adapter is None:
        raise InputError("--init transfer: OLD is a full model; only an adapter's update can be transferred")
    if not 0 <= request.margin < 1:
        raise InputError(f"--margin {100 * request.margin:g}: must be 0 points or more, and below 100")
    if request.seeds < 1:
        raise InputError(f"--seeds {request.seeds}: must be at least 1")
    if request.finalists < 1:
        raise InputError(f"--finalists {request.finalists}: must be at least 1")
    if not 0 < request.trial_share <= 1:
        raise InputError(f"--trial-share {request.trial_share:g}: must be above 0 and at most 1")
    if request.train_task and new.adapter is not None:
        raise InputError(f"--train-task: NEW {request.new} has an adapter already; name the base alone")
    check_trackers(request.settings.report_to)
    return old, new


def check_strategies(request: FixRequest, examples: Examples) -> None:
    """Whether what is to be trained fits the task's kind, and its options are known.

    Raises:
        InputError: it does not, or they are not.
    """
    names = [name for name in _named(request) if name != AUTO]
    for name in names:
        if examples.kind not in strategies.get(name).kinds:
            fitting = ", ".join(strategies.names(examples.kind))
            raise InputError(
                f"strategy {name} is not for {examples.kind} tasks like {examples.task}; there are: {fitting}"
            )
    if request.strategy != AUTO:
        strategies.get(Candidate.of(request.strategy).strategy).settled(request.settings.strategy_options)


def _named(request: FixRequest) -> list[str]:
    """The names of all strategies that are asked for."""
    found = [Candidate.of(text) for text in (request.strategy, *request.candidates)]
    names = [name for each in found for name in (each.first, each.strategy)]
    return [name for name in (*names, request.control) if name]


def claim_of(out: Path) -> Claim:
    """By what a folder is that of a fix."""
    return Claim(out / "fix.json", "compatcheck.fix-folder/1", "fix")


def check_old_is_worth_keeping(standing: Standing, force: bool) -> str | None:
    """A warning where the old model is much worse than the new one, or nothing flips; ``standing`` is OLD's own.

    Raises:
        InputError: it is, and ``force`` is not given.
    """
    old, new = standing.score, standing.score_of_new
    if new > 0 and old < MUCH_WORSE * new:
        text = (
            f"OLD scores {old:.4g} and NEW {new:.4g} on the validation documents: an old model this much worse is a "
            "poor teacher, and the method hardly lowers the flips then"
        )
    elif standing.nfr_of_new == 0:
        text = (
            f"on {standing.n} documents to choose on NEW loses nothing that OLD had right: there is nothing to fix, or "
            "they are too few (--dev names others)"
        )
    else:
        return None
    if not force:
        raise InputError(f"{text}; --force goes on all the same")
    return text


def check_room(out: Path, references: Sequence[Reference], say: Any) -> None:
    """Memory and disk that the work takes at least, held against what is free; a warning is said, not raised.

    Raises:
        InputError: the disk cannot hold even the adapters.
    """
    biggest = max(sum(p.stat().st_size for p in r.base.glob("*.safetensors")) for r in references if r.base)
    free = shutil.disk_usage(next(p for p in (out, *out.absolute().parents) if p.exists())).free
    need = 200_000_000 + biggest // 10
    if free < need:
        raise InputError(f"--out {out}: {free / 1e9:.1f} GB of disk are free, about {need / 1e9:.1f} GB are needed")
    memory = available_memory()
    if memory < 2 * biggest:
        say(f"about {2 * biggest / 1e9:.1f} GB of memory are needed and {memory / 1e9:.1f} GB are free")
