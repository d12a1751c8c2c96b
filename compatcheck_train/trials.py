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
from compatcheck_train.candidates import Candidate, Prepare, Staged, total_steps, train_candidate
from compatcheck_train.examples import Examples
from compatcheck_train.judging import Judge, Standing, ranked, stand
from compatcheck_train.settings import TrainSettings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """A candidate's training, in part or in full, and where it stands on the validation documents."""

    candidate: Candidate
    trained: Staged
    standing: Standing


def run_trials(
    candidates: Sequence[Candidate], old: Reference, new: Reference, examples: Examples, settings: TrainSettings,
    judge: Judge, documents: LoadedTask, known: Mapping[str, Run], share: float, folder: Path, *,
    prepare: Prepare | None = None, say: Say = lambda _: None, progress: Any = None,
) -> list[Trial]:  # fmt: skip
    """Train every candidate for a share of the steps and judge all of them at once; returns them from the best on.

    Args:
        known: the runs of ``old`` and ``new`` on the validation documents.
        folder: gets one training per candidate; a killed search goes on where it was.
    """
    trained: dict[str, tuple[Candidate, Staged]] = {}
    for number, candidate in enumerate(candidates, 1):
        say(f"trial {number} of {len(candidates)}: {candidate.name}")
        place = folder / f"{number}-{candidate.name.replace(', ', '-').replace(' ', '-')}"
        done = train_candidate(
            candidate, old, new, examples, settings, place, share, prepare=prepare, progress=progress
        )
        trained[candidate.name] = (candidate, done)
    trials = _judged(trained, judge, documents, known, progress)
    order = ranked([trial.standing for trial in trials])
    return sorted(trials, key=lambda trial: order.index(trial.standing))


def run_finals(
    finalists: Sequence[Candidate], old: Reference, new: Reference, examples: Examples, settings: TrainSettings,
    judge: Judge, documents: LoadedTask, known: Mapping[str, Run], folder: Path, *, prepare: Prepare | None = None,
    say: Say = lambda _: None, progress: Any = None,
) -> list[Trial]:  # fmt: skip
    """Train every finalist in full, and judge them.

    Args:
        folder: its name is that of the first one's training; the others' have a number.
    """
    done: dict[str, tuple[Candidate, Staged]] = {}
    for number, candidate in enumerate(finalists, 1):
        say(f"training with {candidate.name}, {total_steps(examples, candidate.settings(settings))} steps")
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        staged = train_candidate(
            candidate, old, new, examples, settings, place, prepare=prepare, say=say, progress=progress
        )
        done[candidate.name] = (candidate, staged)
    return _judged(done, judge, documents, known, progress)


def _judged(
    trained: Mapping[str, tuple[Candidate, Staged]], judge: Judge, documents: LoadedTask, known: Mapping[str, Run],
    progress: Any,
) -> list[Trial]:  # fmt: skip
    models = {name: resolve(str(staged.folder)) for name, (_, staged) in trained.items()}
    runs = judge.run(documents, models, progress=progress)
    standings = {each.name: each for each in stand(judge, known["old"], known["new"], runs, judge.seed)}
    return [Trial(candidate, staged, standings[name]) for name, (candidate, staged) in trained.items()]
