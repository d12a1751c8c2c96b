"""``--strategy auto``: short candidates, judged by flips and score on the validation documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compatcheck.records import Run
from compatcheck.references import Reference, resolve
from compatcheck.tasks import LoadedTask
from compatcheck_train.candidates import Candidate, Prepare, Staged, train_candidate
from compatcheck_train.examples import Examples
from compatcheck_train.judging import Judge, Standing, best, stand
from compatcheck_train.settings import TrainSettings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """A candidate's short training and where it stood."""

    candidate: Candidate
    trained: Staged
    standing: Standing


def run_trials(
    candidates: Sequence[Candidate], old: Reference, new: Reference, examples: Examples, settings: TrainSettings,
    judge: Judge, documents: LoadedTask, known: Mapping[str, Run], share: float, folder: Path, *,
    prepare: Prepare | None = None, say: Say = lambda _: None, progress: Any = None,
) -> tuple[list[Trial], Trial]:  # fmt: skip
    """Train every candidate for a share of the steps and judge all of them at once; returns the table and the winner.

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
    models = {name: resolve(str(done.folder)) for name, (_, done) in trained.items()}
    runs = judge.run(documents, models, progress=progress)
    standings = {each.name: each for each in stand(judge, known["old"], known["new"], runs, judge.seed)}
    trials = [Trial(candidate, done, standings[name]) for name, (candidate, done) in trained.items()]
    winner = best([trial.standing for trial in trials], errors=1.0)
    return trials, next(trial for trial in trials if trial.standing is winner)
