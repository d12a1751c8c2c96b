"""What was chosen, trained with one seed or with several, each beside its control; and which of them is delivered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatcheck.records import Run
from compatcheck.references import Reference, resolve
from compatcheck.tasks import LoadedTask
from compatcheck_train.examples import Examples
from compatcheck_train.fix.candidates import Candidate, Prepare, Staged, train_candidate
from compatcheck_train.fix.frontier import walk
from compatcheck_train.fix.judging import Judge, Standing, best, stand
from compatcheck_train.fix.proof import COMPAT, CONTROL
from compatcheck_train.fix.request import FixRequest
from compatcheck_train.training.run import Trained, train

Say = Callable[[str], None]


@dataclass(frozen=True)
class Repeat:
    """A training with a seed of its own: ``folder`` is its adapter, blended; ``control`` was trained on as long."""

    seed: int
    folder: Path
    staged: Staged
    control: Trained | None = None


def control_of(
    request: FixRequest, candidate: Candidate, staged: Staged, old: Reference, new: Reference, examples: Examples,
    folder: Path, seed: int, *, say: Say = lambda _: None, progress: Any = None,
) -> Trained | None:  # fmt: skip
    """NEW's adapter trained on with the control's strategy, for the steps of all stages of the candidate."""
    if not request.control:
        return None
    say(f"training the control, {request.control}, at equal steps")
    own = candidate.settings(request.settings.changed(seed=seed))
    plain = own.changed(strategy=request.control, strategy_options={}, ce_weight=None, max_steps=staged.steps)
    if staged.first is not None:  # epochs enough for the steps of both stages
        plain = plain.changed(epochs=own.epochs * math.ceil(staged.steps / staged.trained.steps))
    return train(old, new, candidate.examples(examples), plain, folder, say=say, progress=progress)


def repeat(
    request: FixRequest, candidate: Candidate, share: float | None, seed: int, old: Reference, start: Reference,
    new: Reference, examples: Examples, documents: LoadedTask, known: Mapping[str, Run], work: Path, *,
    prepare: Prepare | None = None, say: Say = lambda _: None, progress: Any = None,
) -> Repeat:  # fmt: skip
    """Train what was chosen once more, with another seed, blended with the same weight, and its control.

    Args:
        share: weight of the blend that was chosen, None where there is none.
        work: gets a folder ``seed-N``.
    """
    place = work / f"seed-{seed}"
    say(f"training with {candidate.name} again, seed {seed}")
    settings = request.settings.changed(seed=seed)
    staged = train_candidate(
        candidate, old, start, examples, settings, place / "compat", prepare=prepare, say=say, progress=progress
    )
    folder = staged.folder
    if share is not None:
        own = dataclasses.replace(request, blend=share)
        folder = walk(own, new, folder, documents, known, place / "blend", say=say, progress=progress).chosen.folder
    control = control_of(
        request, candidate, staged, old, new, examples, place / "control", seed, say=say, progress=progress
    )
    return Repeat(seed, folder, staged, control)


@dataclass(frozen=True)
class Picked:
    """Of several trainings the adapter, and the control, that stand best on the documents to choose on."""

    compat: Repeat
    control: Repeat | None
    standings: tuple[Standing, ...]
    """Of every adapter, in the order of the trainings."""


def pick(
    judge: Judge, repeats: Sequence[Repeat], documents: LoadedTask, known: Mapping[str, Run], progress: Any = None
) -> Picked:
    """Judge all of them on the documents to choose on."""
    controls = [each for each in repeats if each.control is not None]
    models = {f"{COMPAT} {each.seed}": resolve(str(each.folder)) for each in repeats}
    if len(repeats) > 1:  # one control needs no choice
        models |= {f"{CONTROL} {each.seed}": resolve(str(each.control.folder)) for each in controls if each.control}
    runs = judge.run(documents, models, progress=progress)
    standings = {each.name: each for each in stand(judge, known["old"], known["new"], runs, judge.seed)}

    def first(side: str, among: Sequence[Repeat]) -> Repeat:
        if len(among) == 1:
            return among[0]
        winner = best([standings[f"{side} {each.seed}"] for each in among])
        return next(each for each in among if standings[f"{side} {each.seed}"] is winner)

    return Picked(
        first(COMPAT, repeats),
        first(CONTROL, controls) if controls else None,
        tuple(dataclasses.replace(standings[f"{COMPAT} {each.seed}"], name=COMPAT) for each in repeats),
    )
