"""Models on chosen documents of a task: candidates on the validation documents, the proof's runs on the test split."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compatcheck.compare import compare
from compatcheck.compare.result import Comparison
from compatcheck.errors import InputError
from compatcheck.evaluation.evaluate import EngineOptions, evaluate_jobs
from compatcheck.evaluation.plan import Job
from compatcheck.evaluation.store import open_store
from compatcheck.records import Manifest, Run, TaskRun
from compatcheck.references import Reference
from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks
from compatcheck_train.examples import Examples, document_key, test_keys
from compatcheck_train.training.processes import first

Say = Callable[[str], None]
HELD_OUT = "held-out"
"""``Judge.dev``: the held-out part of the training split, which NEW's own adapter may have been trained on."""
CHOOSING_SHARE = 0.25
"""Share of the evaluation split that is set aside to choose on (measured: docs/muscle.md)."""


@dataclass(frozen=True)
class Judge:
    """How models are evaluated while an adapter is made: engine, store, and which metric counts.

    ``metric`` names the one that candidates are chosen by and the verdict is on; empty: the task's first.
    """

    task: str
    data: Path | None = None
    split: str | None = None
    """The split of the proof; None: the one that is evaluated by default."""
    dev: str | None = None
    """Documents that candidates and blends are judged on: a split's name, a JSONL file or :data:`HELD_OUT`; None: a
    part of the split of the proof that is drawn with ``seed``, and the proof is on the rest."""
    num_fewshot: int | None = None
    limit: int | None = None
    """Documents of the proof at most."""
    metric: str = ""
    engine: EngineOptions = field(default_factory=EngineOptions)
    store: str | Path | bool | None = None
    seed: int = 1234

    def validation(self, examples: Examples, most: int | None = None) -> LoadedTask:
        """The task on the documents that candidates are judged on, at most so many of them, drawn at random.

        Raises:
            InputError: a dev file or split that is not there, or that shares documents with the test split.
        """
        if self.dev is None:
            return self._parted(most)[0]
        if self.dev == HELD_OUT:
            chosen = examples.validation if most is None else examples.validation[:most]
            return self.on_training_documents(examples, [int(example.doc_id) for example in chosen])
        file = Path(self.dev)
        data, split = (file, None) if file.is_file() else (self.data, self.dev)
        options = TaskOptions(data, split, None, None, self.num_fewshot, self.seed)
        (loaded,) = load_tasks([self.task], options)
        if most is not None and loaded.size > most:
            loaded = replace(loaded, indices=sorted(random.Random(self.seed).sample(range(loaded.size), most)))
        test = test_keys(self.task, self._folder, str(split), self.split)
        shared = next((doc for doc in loaded.task.eval_docs if document_key(loaded, doc) in test), None)
        if shared is not None:
            raise InputError(
                f"--dev {self.dev}: document {test[document_key(loaded, shared)]} of the test split is in it; "
                "candidates cannot be chosen on what they are proven on"
            )
        return loaded

    def on_training_documents(self, examples: Examples, documents: Sequence[int]) -> LoadedTask:
        """The task on these documents of the training split."""
        options = TaskOptions(self.data, examples.split, None, None, self.num_fewshot, self.seed)
        (loaded,) = load_tasks([self.task], options)
        return replace(loaded, indices=sorted(documents))

    @property
    def _folder(self) -> Path | None:
        return self.data if self.data is None or self.data.is_dir() else None

    def test(self, most: int | None = None) -> LoadedTask:
        """The task on the documents of the proof: its split, less what is chosen on (at most so many of them)."""
        return self._evaluated() if self.dev is not None else self._parted(most)[1]

    def _evaluated(self) -> LoadedTask:
        options = TaskOptions(self._folder, self.split, self.limit, None, self.num_fewshot, self.seed)
        (loaded,) = load_tasks([self.task], options)
        return loaded

    def _parted(self, most: int | None) -> tuple[LoadedTask, LoadedTask]:
        """The evaluated documents in two: to choose on, and for the proof; documents of equal content stay together.

        Raises:
            InputError: there are too few to be parted.
        """
        loaded = self._evaluated()
        numbers = range(len(loaded.task.eval_docs)) if loaded.indices is None else loaded.indices
        by_content: dict[str, list[int]] = {}
        for number in numbers:
            by_content.setdefault(document_key(loaded, loaded.task.eval_docs[number]), []).append(number)
        keys = sorted(by_content)
        random.Random(self.seed).shuffle(keys)
        wanted = round(CHOOSING_SHARE * len(keys))
        chosen = keys[: wanted if most is None else min(wanted, most)]
        if not chosen:
            raise InputError(
                f"task {self.task}: {loaded.size} documents to evaluate are too few to set some aside to choose on; "
                f"give documents with --dev, or --dev {HELD_OUT}"
            )
        choosing = sorted(number for key in chosen for number in by_content[key])
        rest = sorted(set(numbers) - set(choosing))
        return replace(loaded, indices=choosing), replace(loaded, indices=rest)

    def known_to_new(self, documents: LoadedTask, examples: Examples) -> str | None:
        """A warning where documents to choose on are rows of the training split, which NEW may have been trained on."""
        seen = {example.key for example in (*examples.train, *examples.validation)}
        numbers = range(len(documents.task.eval_docs)) if documents.indices is None else documents.indices
        count = sum(document_key(documents, documents.task.eval_docs[number]) in seen for number in numbers)
        if not count:
            return None
        return (
            f"Candidates are chosen on {documents.size:,} documents of which {count:,} are training rows. NEW looks "
            "better on rows that it was trained on than it is, so what would help may be passed over; without --dev "
            "they are chosen on a part of the evaluation split."
        )

    def run(
        self, loaded: LoadedTask, models: Mapping[str, Reference], say: Say = lambda _: None, progress: Any = None
    ) -> dict[str, Run]:
        """Evaluate models by name on one task; those that share a base are served by one engine.

        Of several processes the first one evaluates.
        """
        return first(lambda: self._run(loaded, models, say, progress))

    def _run(self, loaded: LoadedTask, models: Mapping[str, Reference], say: Say, progress: Any) -> dict[str, Run]:
        jobs = [Job(name, reference, loaded) for name, reference in models.items()]
        with open_store(self.store) as store:
            done = evaluate_jobs(jobs, self.engine, say, progress, store)
        runs = {}
        for each in done:
            reference = each.job.reference
            about = Manifest(
                reference.text, reference.fingerprint(), reference.kind, each.engine, {"seconds": each.seconds}
            )
            runs[each.job.side] = Run(about, each.runs, tuple(dict.fromkeys((*each.job.task.notes, *each.notes))))
        return runs

    def pick(self, run: Run) -> tuple[TaskRun, str]:
        """The records and the name of the metric that counts.

        Raises:
            InputError: the task has no such metric.
        """
        for one in run.tasks:
            for metric in one.metrics:
                if self.metric in ("", metric.name):
                    return one, metric.name
        known = ", ".join(dict.fromkeys(metric.name for one in run.tasks for metric in one.metrics))
        raise InputError(f"--metric {self.metric}: task {self.task} does not give it; it gives {known}")


@dataclass(frozen=True)
class Standing:
    """A candidate on the validation documents, beside NEW. Rates are proportions; a score is the metric's mean, with
    the sign turned where a lower one is better."""

    name: str
    n: int
    nfr: float
    pfr: float
    score: float
    nfr_of_new: float
    score_of_new: float
    score_error: float = 0.0
    """Standard error of the mean difference between its score and NEW's, document by document."""

    @property
    def fall(self) -> float | None:
        """By how much of itself the negative flip rate fell; None where NEW has no negative flip."""
        return None if self.nfr_of_new == 0 else 1 - self.nfr / self.nfr_of_new


def stand(judge: Judge, old: Run, new: Run, candidates: Mapping[str, Run], seed: int = 0) -> list[Standing]:
    """Where each candidate stands: old → candidate beside old → new."""
    before, metric = judge.pick(old)
    sign = next(1.0 if m.higher_is_better else -1.0 for m in before.metrics if m.name == metric)

    def same(run: Run) -> TaskRun:
        return next(t for t in run.tasks if (t.task, t.filter) == (before.task, before.filter))

    def figures(run: Run) -> tuple[int, float, float, float]:
        found = compare(before, same(run), metric=metric, seed=seed, resamples=100)
        nfr, pfr, score = _figures(found)
        return found.n, nfr, pfr, sign * score

    def scores(run: Run) -> Any:
        return same(run).records.set_index("doc_id")[f"score:{metric}"]

    def error(run: Run) -> float:
        differences = (scores(run) - scores(new)).dropna()
        return float(differences.std() / len(differences) ** 0.5) if len(differences) > 1 else 0.0

    _, nfr_of_new, _, score_of_new = figures(new)
    return [Standing(name, *figures(run), nfr_of_new, score_of_new, error(run)) for name, run in candidates.items()]


KEPT = 0.5
"""Standard errors below NEW's at which a score still counts as kept. Of two equal models one is below on any documents;
asking for NEW's score itself throws away every second candidate that has it."""


def best(standings: Sequence[Standing], errors: float = KEPT) -> Standing:
    """The candidate with the fewest negative flips among those that keep NEW's score.

    Of equal flips the better score counts. Where none keeps the score, those are taken whose score lies below by less
    than its standard error, and where there are none, the one with the best score.

    Args:
        errors: so many standard errors below NEW's still count as kept.
    """
    for allowed in (errors, max(errors, 1.0)):
        kept = [each for each in standings if each.score >= each.score_of_new - allowed * each.score_error]
        if kept:
            break
    else:
        return max(standings, key=lambda each: (each.score, -each.nfr))
    return min(kept, key=lambda each: (each.nfr, -each.score))


def ranked(standings: Sequence[Standing], errors: float = 2.0) -> list[Standing]:
    """Those of a short trial from the best on: first the ones whose score is not clearly below NEW's, by flips."""

    def place(each: Standing) -> tuple[bool, float, float]:
        below = each.score < each.score_of_new - errors * each.score_error
        return (below, -each.score if below else each.nfr, each.nfr if below else -each.score)

    return sorted(standings, key=place)


def _figures(comparison: Comparison) -> tuple[float, float, float]:
    metrics = comparison.metrics
    score = metrics["accuracy_new" if comparison.kind == "discrete" else "score_new"].value
    return float(metrics["nfr"].value or 0.0), float(metrics["pfr"].value or 0.0), float(score or 0.0)
