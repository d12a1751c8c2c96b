"""Models on chosen documents of a task: candidates on those to choose on, the proof's runs on the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compatcheck.compare import compare
from compatcheck.errors import InputError
from compatcheck.evaluation.evaluate import evaluate_jobs
from compatcheck.evaluation.grouping import EngineOptions, Job
from compatcheck.evaluation.plan import plan_jobs
from compatcheck.evaluation.store import open_store
from compatcheck.records import Manifest, Run, TaskRun
from compatcheck.references import Reference
from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks
from compatcheck_train.examples import Example, Examples, document_key, keys_of, test_keys
from compatcheck_train.fix.prompts import Prompted
from compatcheck_train.training.processes import first

Say = Callable[[str], None]
HELD_OUT = "held-out"
"""``Judge.dev``: the held-out part of the training split, which NEW's own adapter may have been trained on."""
CHOOSING_SHARE = 0.25
"""Share of the evaluation split that is set aside to choose on (measured: docs/muscle.md)."""


@dataclass(frozen=True)
class Judge:
    """How models are evaluated while an adapter is made: engine, store, and which metric counts. ``task`` is its name,
    or what the prompts are called.

    ``split`` is that of the proof, None: the one that is evaluated by default; ``limit`` its documents at most. ``dev``
    names the documents that candidates and blends are judged on: a split, a JSONL file or :data:`HELD_OUT`; None: a
    part of the split of the proof that is drawn with ``seed``, and the proof is on the rest; ``drawn_from`` says of
    which first documents, None: of all up to ``limit``. ``metric`` is the one that
    candidates are chosen by and the verdict is on; empty: the task's first."""

    task: str
    data: Path | None = None
    split: str | None = None
    dev: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    drawn_from: int | None = None
    metric: str = ""
    engine: EngineOptions = field(default_factory=EngineOptions)
    store: str | Path | bool | None = None
    seed: int = 1234
    trust_task: bool = False
    """The task's YAML may run code of its own."""
    prompts: Prompted | None = None
    """The user's own prompts in place of a task."""
    correct_at: float | None = None
    """A score of at least that is right."""

    def validation(self, examples: Examples, most: int | None = None) -> LoadedTask:
        """The task on the documents that candidates are judged on, at most so many of them, drawn at random; InputError
        for a dev file or split that is not there, or that shares documents with the test split."""
        if self.dev is None:
            return self._parted(most)[0]
        if self.dev == HELD_OUT:
            return self.on_training_documents(examples, examples.validation[:most])
        file = Path(self.dev)
        if not file.is_file() and (file.suffix or len(file.parts) > 1 or self.prompts is not None):
            raise InputError(f"--dev {self.dev}: no such file")
        data, split = (file, None) if file.is_file() else (self.data, self.dev)
        loaded = self._load(data, split)
        if most is not None and loaded.size > most:
            loaded = replace(loaded, indices=sorted(random.Random(self.seed).sample(range(loaded.size), most)))
        if self.prompts is not None:
            test = keys_of(self.prompts.evaluated())
        else:
            test = test_keys(self.task, self._folder, str(split), self.split, self.trust_task)
        keys = (document_key(loaded, doc) for doc in loaded.task.eval_docs)
        shared = next((key for key in keys if key in test), None)
        if shared is not None:
            raise InputError(
                f"--dev {self.dev}: document {test[shared]} of the test split is in it; candidates cannot be chosen on "
                "what they are proven on"
            )
        return loaded

    def on_training_documents(self, examples: Examples, chosen: Sequence[Example]) -> LoadedTask:
        """The task on these documents of its training split."""
        if self.prompts is not None:
            return self.prompts.trained({each.key for each in chosen})
        return replace(self._load(self.data, examples.split), indices=sorted(int(each.doc_id) for each in chosen))

    def test(self, most: int | None = None, chooses: bool = True) -> LoadedTask:
        """The task on the documents of the proof: its split, less what is chosen on (at most so many of them) where
        anything is chosen."""
        whole = self.dev is not None or not chooses
        return self._load(self._folder, self.split, self.limit) if whole else self._parted(most)[1]

    @property
    def _folder(self) -> Path | None:
        return self.data if self.data is None or self.data.is_dir() else None

    def _load(self, data: Path | None, split: str | None, limit: int | None = None) -> LoadedTask:
        if self.prompts is not None:
            return self.prompts.evaluated(limit) if data is None else self.prompts.of(data)
        options = TaskOptions(data, split, limit, None, self.num_fewshot, self.seed, self.trust_task)
        (loaded,) = load_tasks([self.task], options)
        return loaded

    def _parted(self, most: int | None) -> tuple[LoadedTask, LoadedTask]:
        """The evaluated documents in two: to choose on, and for the proof; no content is in both. InputError where
        there are too few to be parted."""
        loaded = self._load(self._folder, self.split, self.limit)
        first_ones = set(loaded.numbers if self.drawn_from is None else range(self.drawn_from))
        by_content: dict[str, list[int]] = {}
        for number in loaded.numbers:
            by_content.setdefault(document_key(loaded, loaded.task.eval_docs[number]), []).append(number)
        keys = sorted(key for key, numbers in by_content.items() if first_ones.intersection(numbers))
        random.Random(self.seed).shuffle(keys)
        wanted = round(CHOOSING_SHARE * len(keys))
        chosen = keys[: wanted if most is None else min(wanted, most)]
        if not chosen:
            raise InputError(
                f"task {self.task}: {loaded.size} documents to evaluate are too few to set some aside to choose on; "
                f"give documents with --dev, or --dev {HELD_OUT}"
            )
        taken = {number for key in chosen for number in by_content[key]}
        rest = sorted(set(loaded.numbers) - taken)
        return replace(loaded, indices=sorted(taken & first_ones)), replace(loaded, indices=rest)

    def known_to_new(self, documents: LoadedTask, examples: Examples) -> str | None:
        """A warning where documents to choose on are rows of the training split, which NEW may have been trained on, or
        inputs that candidates are trained on."""
        docs = documents.task.eval_docs
        keys = [document_key(documents, docs[number]) for number in documents.numbers]
        inputs = frozenset(example.key for example in examples.unlabelled)
        for known, what, why in (
            (
                examples.known, "training rows",
                "NEW looks better on rows that it was trained on than it is, so what would help may be passed over",
            ),
            (inputs, "inputs of --unlabelled", "Candidates look better on what they are trained on than they are"),
        ):  # fmt: skip
            if count := sum(key in known for key in keys):
                return (
                    f"Candidates are chosen on {documents.size:,} documents of which {count:,} are {what}. {why}; "
                    "without --dev they are chosen on a part of the evaluation split."
                )
        return None

    def run(
        self, loaded: LoadedTask, models: Mapping[str, Reference], say: Say = lambda _: None, progress: Any = None
    ) -> dict[str, Run]:
        """Evaluate models by name on one task, in the first of several processes; those that share a base are served by
        one engine."""
        return first(lambda: self._run(loaded, models, say, progress))

    def _run(self, loaded: LoadedTask, models: Mapping[str, Reference], say: Say, progress: Any) -> dict[str, Run]:
        jobs = [Job(name, reference, loaded, self.engine) for name, reference in models.items()]
        with open_store(self.store) as store:
            done = evaluate_jobs(jobs, say, progress, store)
        runs = {}
        for each in done:
            of, seconds = each.job.reference, {"seconds": each.seconds}
            about = Manifest(of.text, of.fingerprint(), of.kind, each.engine, seconds)
            found = each.runs if self.prompts is None else tuple(map(self.prompts.scored, each.runs))
            runs[each.job.side] = Run(about, found, tuple(dict.fromkeys((*each.job.task.notes, *each.notes))))
        return runs

    def stored(self, loaded: LoadedTask, models: Mapping[str, Reference]) -> list[str]:
        """The names of those whose answers are all in the store."""
        jobs = [Job(name, reference, loaded, self.engine) for name, reference in models.items()]
        with open_store(self.store) as store:
            plans = plan_jobs(jobs, lambda _: None, None, store)
            return [planned.job.side for plan in plans for planned in plan.jobs if planned.missing == 0]

    def pick(self, run: Run) -> tuple[TaskRun, str]:
        """The records and the name of the metric that counts; InputError where the task has no such metric."""
        found = [(one, metric.name) for one in run.tasks for metric in one.metrics]
        picked = next((each for each in found if self.metric in ("", each[1])), None)
        if picked is None:
            known = ", ".join(dict.fromkeys(name for _, name in found))
            raise InputError(f"--metric {self.metric}: task {self.task} does not give it; it gives {known}")
        return picked

    def scores(self, old: Run, new: Run, candidates: Mapping[str, Run]) -> dict[str, Scores]:
        """Old → candidate beside old → new, by the candidate's name."""
        before, metric = self.pick(old)
        sign = next(1.0 if m.higher_is_better else -1.0 for m in before.metrics if m.name == metric)

        def same(run: Run) -> TaskRun:
            return next(t for t in run.tasks if (t.task, t.filter) == (before.task, before.filter))

        def values(run: Run) -> Any:
            scores = same(run).records.set_index("doc_id")[f"score:{metric}"]
            at = self.correct_at
            return scores if at is None else (sign * scores >= sign * at).where(scores.notna()).astype(float)

        def figures(run: Run) -> tuple[int, float, float, float]:
            how = {"correct_at": self.correct_at, "seed": self.seed, "resamples": 100}
            found = compare(before, same(run), metric=metric, **how)
            names = ("nfr", "pfr", "accuracy_new" if found.kind == "discrete" else "score_new")
            nfr, pfr, score = (float(found.metrics[name].value or 0.0) for name in names)
            return found.n, nfr, pfr, score if found.kind == "discrete" else sign * score

        _, nfr_of_new, _, score_of_new = figures(new)
        scores = {}
        for name, run in candidates.items():
            apart = (values(run) - values(new)).dropna()
            error = float(apart.std() / len(apart) ** 0.5) if len(apart) > 1 else 0.0
            scores[name] = Scores(name, *figures(run), nfr_of_new, score_of_new, error)
        return scores


@dataclass(frozen=True)
class Scores:
    """A candidate on the documents to choose on, beside NEW. Rates are proportions; a score is the metric's mean, with
    the sign turned where a lower one is better; ``score_error`` is the standard error of the mean difference between
    its score and NEW's, document by document."""

    name: str
    n: int
    nfr: float
    pfr: float
    score: float
    nfr_of_new: float
    score_of_new: float
    score_error: float = 0.0

    @property
    def fall(self) -> float | None:
        """By how much of itself the negative flip rate fell; None where NEW has no negative flip."""
        return None if self.nfr_of_new == 0 else 1 - self.nfr / self.nfr_of_new


KEPT = 0.5
"""Standard errors below NEW's at which a score still counts as kept. Of two equal models one is below on any documents;
asking for NEW's score itself throws away every second candidate that has it."""


def best(candidates: Sequence[Scores], errors: float = KEPT) -> Scores:
    """The candidate with the fewest negative flips among those that keep NEW's score: not more than ``errors`` standard
    errors below it. Of equal flips the better score counts. Where none keeps the score, those are taken whose score
    lies below by less than its standard error, and where there are none, the one with the best score."""
    for allowed in (errors, max(errors, 1.0)):
        kept = [each for each in candidates if each.score >= each.score_of_new - allowed * each.score_error]
        if kept:
            return min(kept, key=lambda each: (each.nfr, -each.score))
    return max(candidates, key=lambda each: (each.score, -each.nfr))


def ranked(candidates: Sequence[Scores], errors: float = 2.0) -> list[Scores]:
    """Those of a short trial from the best on: first the ones whose score is not clearly below NEW's, by flips."""

    def place(each: Scores) -> tuple[bool, float, float]:
        below = each.score < each.score_of_new - errors * each.score_error
        return (below, -each.score if below else each.nfr, each.nfr if below else -each.score)

    return sorted(candidates, key=place)
