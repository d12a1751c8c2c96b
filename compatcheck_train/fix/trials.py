"""``--strategy auto``: candidates trained for a share of their steps, the best of them in full, all judged by flips and
score on the validation documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatcheck.records import Run
from compatcheck.references import Reference, resolve
from compatcheck.tasks import LoadedTask
from compatcheck_train.examples import Examples
from compatcheck_train.fix.candidates import Candidate, Prepare, Staged, total_steps, train_candidate
from compatcheck_train.fix.judging import Judge, Standing, ranked, stand
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training.loop import Diverged

Say = Callable[[str], None]
CLEARLY = 3.0
"""Standard errors by which labels alone must lift NEW's score for labels to count as what NEW lacks."""


@dataclass(frozen=True)
class Trial:
    """A candidate's training, in part or in full, and where it stands on the validation documents."""

    candidate: Candidate
    trained: Staged
    standing: Standing


def run_trials(
    candidates: Sequence[Candidate], old: Reference, new: Reference, examples: Examples, settings: TrainSettings,
    judge: Judge, documents: LoadedTask, known: Mapping[str, Run], share: float, folder: Path, *,
    prepare: Prepare | None = None, say: Say = lambda _: None, note: Say = lambda _: None, progress: Any = None,
) -> list[Trial]:  # fmt: skip
    """Train every candidate for a share of the steps and judge all of them at once; returns them from the best on.

    Args:
        known: the runs of ``old`` and ``new`` on the validation documents.
        folder: gets one training per candidate; a killed search goes on where it was.
        note: is told of a candidate that is left out because its loss became no number, and where labels alone lift
            the score so clearly that other candidates are tried (``Candidate.lifted``).

    Raises:
        Diverged: every candidate's did.
    """

    def one(number: int, candidate: Candidate) -> Staged:
        say(f"trial {number} of {len(candidates)}: {candidate.name}")
        place = folder / f"{number}-{candidate.name.replace(', ', '-').replace(' ', '-')}"
        return train_candidate(
            candidate, old, new, examples, settings, place, share, prepare=prepare, progress=progress
        )

    probe = next((candidate for candidate in candidates if candidate.labelled), None)
    if probe is not None:
        say(f"what labels alone give: {probe.name}")
        lifted = False
        try:
            staged = train_candidate(probe, old, new, examples, settings, folder / "probe", share, progress=progress)
            (trial,) = _judged({probe.name: (probe, staged)}, judge, documents, known, progress)
            lifted = _lifted(trial.standing, note)
        except Diverged as error:
            note(f"{probe.name} is left out: {error}.")
        candidates = [candidate for candidate in candidates if candidate.lifted in (None, lifted)]
    trials = _judged(_trained(candidates, one, note), judge, documents, known, progress)
    order = ranked([trial.standing for trial in trials])
    return sorted(trials, key=lambda trial: order.index(trial.standing))


def _lifted(standing: Standing, note: Say) -> bool:
    """Whether labels alone lift the score clearly; then a note says so."""
    gain, error = standing.score - standing.score_of_new, standing.score_error
    if gain <= CLEARLY * error:
        return False
    note(
        f"Labels alone lift NEW's score on the validation documents by {gain:.4g} ({error:.2g} is its standard error): "
        "they are what NEW lacks, so candidates that train with them throughout are tried instead of the others."
    )
    return True


def run_finals(
    finalists: Sequence[Candidate], old: Reference, new: Reference, examples: Examples, settings: TrainSettings,
    judge: Judge, documents: LoadedTask, known: Mapping[str, Run], folder: Path, *, prepare: Prepare | None = None,
    say: Say = lambda _: None, note: Say = lambda _: None, progress: Any = None,
) -> list[Trial]:  # fmt: skip
    """Train every finalist in full, and judge them.

    Args:
        folder: its name is that of the first one's training; the others' have a number.
        note: as for :func:`run_trials`.

    Raises:
        Diverged: the loss of every finalist became no number.
    """

    def one(number: int, candidate: Candidate) -> Staged:
        steps = total_steps(candidate.examples(examples), candidate.settings(settings))
        say(f"training with {candidate.name}, {steps} steps")
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        return train_candidate(
            candidate, old, new, examples, settings, place, prepare=prepare, say=say, progress=progress
        )

    return _judged(_trained(finalists, one, note), judge, documents, known, progress)


def _trained(
    candidates: Sequence[Candidate], one: Callable[[int, Candidate], Staged], note: Say
) -> dict[str, tuple[Candidate, Staged]]:
    """All of them by name, less those whose loss became no number, as long as any is left."""
    done: dict[str, tuple[Candidate, Staged]] = {}
    failed: list[Diverged] = []
    for number, candidate in enumerate(candidates, 1):
        try:
            done[candidate.name] = (candidate, one(number, candidate))
        except Diverged as error:
            failed.append(error)
            note(f"{candidate.name} is left out: {error}.")
    if failed and not done:
        raise failed[0]
    return done


def _judged(
    trained: Mapping[str, tuple[Candidate, Staged]], judge: Judge, documents: LoadedTask, known: Mapping[str, Run],
    progress: Any,
) -> list[Trial]:  # fmt: skip
    models = {name: resolve(str(staged.folder)) for name, (_, staged) in trained.items()}
    runs = judge.run(documents, models, progress=progress)
    standings = {each.name: each for each in stand(judge, known["old"], known["new"], runs, judge.seed)}
    return [Trial(candidate, staged, standings[name]) for name, (candidate, staged) in trained.items()]
