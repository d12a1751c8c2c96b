"""Training examples from the task itself: prompts, delimiter, choices and targets as lm-eval makes them.

The test split is never trained on: every example is held against it by content.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.records import TaskRun
from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks, resolve_task
from compatcheck.tasks.local_data import find_split, read_rows

Pair = tuple[str, str]


@dataclass(frozen=True)
class Example:
    """One document. ``pairs`` are (context, continuation) of every choice, or of the target alone; ``gold`` is the
    index of the right one, None without a label. ``chosen`` and ``rejected`` are continuations for preference tuning.
    ``zero_shot`` is the key of the content where the context has examples in front of it."""

    doc_id: str
    pairs: tuple[Pair, ...]
    gold: int | None
    chosen: str | None = None
    rejected: str | None = None
    zero_shot: str | None = None

    @property
    def key(self) -> str:
        """Hash of the content: the context, and the choices in any order."""
        return self.zero_shot or content_key(self.pairs)


@dataclass(frozen=True)
class Examples:
    """What is trained on. ``kind`` is ``choice`` or ``text``; ``fingerprint`` depends on every text and its order."""

    task: str
    kind: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    unlabelled: tuple[Example, ...] = ()
    split: str = "train"
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.task.encode())
        for part in (self.train, self.validation, self.unlabelled):
            rows = [[e.doc_id, e.pairs, e.gold, e.chosen, e.rejected] for e in part]
            digest.update(json.dumps(rows).encode())
        return f"sha256:{digest.hexdigest()[:16]}"


def content_key(pairs: Sequence[Pair]) -> str:
    """Hash of a document's context, and of its choices (in any order) where it has several."""
    contexts = sorted({context.strip() for context, _ in pairs})
    choices = sorted(continuation.strip() for _, continuation in pairs) if len(pairs) > 1 else []
    return hashlib.sha256(json.dumps([contexts, choices]).encode()).hexdigest()


def load_examples(
    task: str,
    *,
    data: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    unlabelled: str | Path | None = None,
    validation_share: float = 0.2,
    num_fewshot: int = 0,
    seed: int = 0,
    overlap: str = "error",
    tested: str | None = None,
) -> Examples:
    """The task's training split as examples, parted at random into training and validation.

    Args:
        task: one leaf task of ``compatcheck tasks``, or a YAML file.
        data: folder with ``[<task>/]<split>.jsonl[.gz]``, or one file that is the training split; None: the task's hub
            data set. The test split is looked up in the folder, or on the hub.
        split: the training split's name; None: the task's own.
        limit: documents at most, drawn at random, before the parting.
        unlabelled: JSONL of further inputs without targets: rows in the task's schema, or with ``input`` and, for
            choice tasks, ``choices``. They go to training.
        num_fewshot: examples in front of every prompt.
        overlap: ``error``, or ``drop`` documents that the test split holds too.
        tested: the split that plays the test split's part; None: the one that is evaluated by default.

    Raises:
        InputError: no training split, bad data, or a training document that is in the test split.
    """
    if overlap not in ("error", "drop"):
        raise InputError(f"overlap {overlap!r}: must be error or drop")
    if not 0 < validation_share < 1:
        raise InputError(f"validation_share {validation_share}: must be between 0 and 1")
    folder = Path(data) if data is not None else None
    loaded = _training_task(task, folder, split, num_fewshot, seed)
    name = loaded.settings["split"]
    made = [_example(loaded, str(number), doc, num_fewshot) for number, doc in enumerate(loaded.task.eval_docs)]
    kind = "choice" if loaded.task.OUTPUT_TYPE == "multiple_choice" else "text"
    unlabelled_rows = list(_unlabelled(loaded, Path(unlabelled))) if unlabelled is not None else []
    notes: list[str] = []
    made = _without_repeats(made, notes)
    bad = [example.doc_id for example in made if example.gold is None]
    if bad:
        raise InputError(f"{task}, split '{name}', document {bad[0]}: no right answer; give such rows as unlabelled")
    test = test_keys(task, folder if folder is not None and folder.is_dir() else None, name, tested)
    made = _apart(made, test, overlap, f"{task}, split '{name}'", notes)
    unlabelled_rows = _apart(unlabelled_rows, test, overlap, str(unlabelled), notes)
    random.Random(seed).shuffle(made)
    if limit is not None:
        made = made[:limit]
    cut = round(len(made) * (1 - validation_share))
    if not 0 < cut < len(made):
        raise InputError(f"{task}, split '{name}': {len(made)} documents cannot be parted into training and validation")
    return Examples(task, kind, tuple(made[:cut]), tuple(made[cut:]), tuple(unlabelled_rows), name, tuple(notes))


def _training_task(task: str, data: Path | None, split: str | None, num_fewshot: int, seed: int) -> LoadedTask:
    """The task with its training split in place of the evaluated one."""
    from lm_eval.tasks._yaml_loader import load_yaml

    sources = resolve_task(task)
    if len(sources) != 1:
        raise InputError(f"--task {task}: a group of {len(sources)} tasks; an adapter is trained on one task")
    source = sources[0]
    config: dict[str, Any] = {**load_yaml(source.path), **source.overrides}
    wanted = split or config.get("training_split")
    if not isinstance(wanted, str):
        raise InputError(f"task {source.name}: has no training split; give local files with --data and their --split")
    evaluated = config.get("test_split") or config.get("validation_split")
    if wanted == evaluated and (data is None or data.is_dir()):
        raise InputError(f"task {source.name}: split '{wanted}' is the one that is evaluated; it cannot be trained on")
    if data is not None and data.is_dir() and find_split(data, source.name, wanted) is None:
        raise InputError(f"--data {data}: no {source.name}/{wanted}.jsonl[.gz] to train on")
    options = TaskOptions(data=data, split=wanted, num_fewshot=num_fewshot)
    (loaded,) = load_tasks([task], options)
    if loaded.task.OUTPUT_TYPE not in ("multiple_choice", "generate_until", "loglikelihood"):
        raise InputError(f"task {source.name}: {loaded.task.OUTPUT_TYPE} tasks have no answers to train on")
    return loaded


def _example(loaded: LoadedTask, doc_id: str, doc: Any, num_fewshot: int) -> Example:
    try:
        pairs = _pairs(loaded, doc, num_fewshot)
        zero_shot = content_key(_pairs(loaded, doc, 0)) if num_fewshot else None
        return Example(doc_id, pairs, _gold(loaded.task, doc, len(pairs)), zero_shot=zero_shot)
    except (KeyError, TypeError, ValueError) as error:
        where = f"task {loaded.name}, document {doc_id}"
        raise InputError(f"{where}: no training example can be made of it ({type(error).__name__}: {error})") from None


def _pairs(loaded: LoadedTask, doc: Any, num_fewshot: int, labelled: bool = True) -> tuple[Pair, ...]:
    task: Any = loaded.task
    context = task.fewshot_context(doc, num_fewshot, gen_prefix=task.doc_to_prefix(doc))
    if task.OUTPUT_TYPE == "multiple_choice":
        requests = task.construct_requests(doc, context)
        return tuple((str(r.args[0]), str(r.args[1])) for r in requests[: len(task.doc_to_choice(doc))])
    if not labelled:
        return ((context, ""),)
    target = task.doc_to_target(doc)
    target = target[0] if isinstance(target, list) else target
    if isinstance(target, int) and task.config.doc_to_choice is not None:
        target = task.doc_to_choice(doc)[target]
    delimiter = "" if task.OUTPUT_TYPE == "loglikelihood" else task.config.target_delimiter
    return ((context, f"{delimiter}{target}"),)


def _gold(task: Any, doc: Any, count: int) -> int | None:
    if task.OUTPUT_TYPE != "multiple_choice":
        return 0
    value = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    value = value[0] if isinstance(value, list) else value
    if isinstance(value, str):
        value = task.doc_to_choice(doc).index(value)
    return value if isinstance(value, int) and 0 <= value < count else None


def _without_repeats(made: list[Example], notes: list[str]) -> list[Example]:
    kept = list({(example.pairs, example.gold): example for example in reversed(made)}.values())[::-1]
    if len(kept) < len(made):
        notes.append(f"{len(made) - len(kept)} training documents repeat others exactly and were left out.")
    return kept


def test_keys(task: str, data: Path | None, trained: str, tested: str | None = None) -> dict[str, str]:
    """Content key -> document id of the split that is evaluated: ``tested``, or the task's own."""
    (loaded,) = load_tasks([task], TaskOptions(data=data, split=tested, num_fewshot=0))
    if loaded.settings["split"] == trained:
        raise InputError(f"task {task}: split '{trained}' is the one that is evaluated; it cannot be trained on")
    docs = loaded.task.eval_docs
    return {document_key(loaded, doc): str(number) for number, doc in enumerate(docs)}


def document_key(loaded: LoadedTask, doc: Any) -> str:
    """Content key of one document of a task."""
    return content_key(_pairs(loaded, doc, 0))


def _apart(made: list[Example], test: dict[str, str], overlap: str, where: str, notes: list[str]) -> list[Example]:
    both = [example for example in made if example.key in test]
    if both and overlap == "error":
        first = both[0]
        raise InputError(
            f"{where}: {len(both)} documents are in the test split too (document {first.doc_id} is test document "
            f"{test[first.key]}); remove them, or have them dropped"
        )
    if both:
        notes.append(f"{where}: {len(both)} documents that the test split holds too were left out.")
    return [example for example in made if example.key not in test]


def _unlabelled(loaded: LoadedTask, path: Path) -> Iterator[Example]:
    if not path.is_file():
        raise InputError(f"--unlabelled {path}: no such file")
    choice = loaded.task.OUTPUT_TYPE == "multiple_choice"
    delimiter = loaded.task.config.target_delimiter
    for line, row in read_rows(path):
        if isinstance(row.get("input"), str):
            choices = row.get("choices")
            if choice and not (isinstance(choices, list) and len(choices) > 1):
                raise InputError(f"{path}:{line}: a choice task needs a list 'choices' beside 'input'")
            texts = [f"{delimiter}{text}" for text in choices] if choice and choices else [""]
            yield Example(f"unlabelled:{line}", tuple((row["input"], text) for text in texts), None)
            continue
        try:
            pairs = _pairs_without_label(loaded, row)
        except Exception as error:  # a task's own functions raise anything
            raise InputError(
                f"{path}:{line}: neither a row with 'input' nor one that task {loaded.name} can read "
                f"({type(error).__name__}: {error})"
            ) from None
        yield Example(f"unlabelled:{line}", pairs, None)


def _pairs_without_label(loaded: LoadedTask, row: dict[str, Any]) -> tuple[Pair, ...]:
    """Prompt and choices of a row in the task's schema that may lack its label.

    lm-eval's templates read the label even where it does not matter. Missing fields are taken from several labelled
    rows in turn: what the prompt needs is missing when it changes with them.
    """
    from datasets import Dataset

    labelled = loaded.task.dataset[loaded.settings["split"]]
    spare = [labelled[number] for number in {0, len(labelled) // 2, len(labelled) - 1}]
    found = set()
    for other in spare:
        docs = Dataset.from_list([{**other, **row}])
        process = loaded.task.config.process_docs
        found.add(_pairs(loaded, (docs if process is None else process(docs))[0], 0, labelled=False))
    if len(found) != 1:
        missing = ", ".join(name for name in spare[0] if name not in row)
        raise ValueError(f"a field of the prompt is missing; not there: {missing}")
    return found.pop()


def with_preferences(examples: Examples, old: TaskRun, new: TaskRun, delimiter: str = " ") -> Examples:
    """Examples on which the new model scored below the old one get both outputs: the old one's chosen, the new one's
    rejected.

    Args:
        old, new: both models' runs on the training split (``examples.split``), with the same metric first.

    Raises:
        InputError: the runs do not fit the examples, or nothing got worse.
    """
    column = f"score:{old.metrics[0].name}"
    texts = []
    for run in (old, new):
        rows = run.records
        text = rows["response"].where(rows["response"].notna(), rows["prediction"]) if "response" in rows else None
        text = rows["prediction"] if text is None else text
        texts.append(
            {str(i): (t, s) for i, t, s in zip(rows["doc_id"], text, rows[column], strict=True) if isinstance(t, str)}
        )

    def mark(example: Example) -> Example:
        before, after = texts[0].get(example.doc_id), texts[1].get(example.doc_id)
        if before is None or after is None or not before[1] > after[1] or before[0].strip() == after[0].strip():
            return example
        return replace(example, chosen=delimiter + before[0].strip(), rejected=delimiter + after[0].strip())

    train, validation = tuple(map(mark, examples.train)), tuple(map(mark, examples.validation))
    if not any(example.chosen for example in train):
        raise InputError(f"{examples.task}: the new model got worse on no training document; nothing to prefer")
    return replace(examples, train=train, validation=validation)
