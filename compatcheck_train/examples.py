"""Training examples from the task itself: prompts, delimiter, choices and targets as lm-eval makes them.

The test split is never trained on: every example is held against it by content.
"""

from __future__ import annotations

import hashlib
import json
import random
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compatcheck.conversation import plain
from compatcheck.errors import InputError
from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks, resolve_task
from compatcheck.tasks.local_data import find_split, read_rows
from compatcheck.tasks.prompt_set import Prompt
from compatcheck.tasks.prompts import PromptTask

Pair = tuple[str, str]
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Example:
    """One document. ``pairs`` are (context, continuation) of every choice, or of the target alone; ``gold`` is the
    index of the right one, None without a label; ``chosen`` is an answer that is trained on in place of the target;
    ``content`` is the key of the content where the context has more in it: few-shot examples, a chat template;
    ``of_old`` is the context as OLD reads it, where its chat template is another."""

    doc_id: str
    pairs: tuple[Pair, ...]
    gold: int | None
    chosen: str | None = None
    content: str | None = None
    of_old: str | None = None

    @property
    def key(self) -> str:
        """Hash of the content: the context, and the choices in any order."""
        return self.content or content_key(self.pairs)


@dataclass(frozen=True)
class Examples:
    """What is trained on. ``kind`` is ``choice`` or ``text``; ``fingerprint`` depends on every text and its order.
    ``delimiters`` stand between context and answer for OLD and for NEW."""

    task: str
    kind: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    unlabelled: tuple[Example, ...] = ()
    split: str = "train"
    notes: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    """Keys of every document of the split, of those beyond a limit too."""
    delimiters: tuple[str, str] = ("", "")

    @property
    def read_apart(self) -> bool:
        """Whether OLD reads some of the contexts otherwise than NEW."""
        return any(e.of_old is not None for part in (self.train, self.validation, self.unlabelled) for e in part)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.task.encode())
        for part in (self.train, self.validation, self.unlabelled):
            rows = [[e.doc_id, e.pairs, e.gold, e.chosen, *filter(None, [e.of_old])] for e in part]
            digest.update(json.dumps(rows).encode())
        return f"sha256:{digest.hexdigest()[:16]}"


def content_key(pairs: Sequence[Pair]) -> str:
    """Hash of a document's context, and of its choices (in any order) where it has several; a document that is spaced
    otherwise is the same."""
    contexts = sorted({_spaced(context) for context, _ in pairs})
    choices = sorted(_spaced(continuation) for _, continuation in pairs) if len(pairs) > 1 else []
    return hashlib.sha256(json.dumps([contexts, choices]).encode()).hexdigest()


def _spaced(text: str) -> str:
    """With single spaces, none around a line, and letters in one sign each."""
    return "\n".join(" ".join(line.split()) for line in unicodedata.normalize("NFC", text).strip().split("\n"))


@dataclass(frozen=True)
class Wanted:
    """Which documents :func:`load_examples` takes."""

    data: str | Path | None = None
    """Folder with ``[<task>/]<split>.jsonl[.gz]``, or one file that is the training split; None: the task's hub data
    set. The test split is looked up in the folder, or on the hub."""
    split: str | None = None
    """None: the task's own training split."""
    limit: int | None = None
    """Documents at most, drawn at random, before the parting."""
    unlabelled: str | Path | None = None
    """JSONL of further inputs without targets, for training: rows in the task's schema, or with ``input`` and, for
    choice tasks, ``choices``."""
    num_fewshot: int = 0
    seed: int = 0
    overlap: str = "error"
    """``error``, or ``drop`` documents that the test split holds too."""
    tested: str | None = None
    """The split that plays the test split's part; None: the one that is evaluated by default."""
    trust_task: bool = False
    """A task's YAML may run code of its own."""

    @property
    def folder(self) -> Path | None:
        return Path(self.data) if self.data is not None and Path(self.data).is_dir() else None


def load_examples(task: str, **given: Any) -> Examples:
    """A leaf task's training split as examples, parted at random into training and validation; ``given`` are the fields
    of :class:`Wanted`. InputError for no training split, bad data, or a training document that is in the test split."""
    wanted = Wanted(**given)
    if wanted.overlap not in ("error", "drop"):
        raise InputError(f"overlap {wanted.overlap!r}: must be error or drop")
    loaded = _training_task(task, wanted)
    num_fewshot, name = wanted.num_fewshot, loaded.settings["split"]
    made = [_example(loaded, str(number), doc, num_fewshot) for number, doc in enumerate(loaded.task.eval_docs)]
    bad = next((example.doc_id for example in made if example.gold is None), None)
    if bad is not None:
        raise InputError(f"{task}, split '{name}', document {bad}: no right answer; give such rows as unlabelled")
    spare = list(_unlabelled(loaded, Path(wanted.unlabelled))) if wanted.unlabelled is not None else []
    test = test_keys(task, wanted.folder, name, wanted.tested, wanted.trust_task)
    kind = "choice" if loaded.task.OUTPUT_TYPE == "multiple_choice" else "text"
    delimiter = str(loaded.task.config.target_delimiter)
    start = Examples(task, kind, (), (), split=name, delimiters=(delimiter, delimiter))
    return assembled(start, made, spare, test, wanted, f"{task}, split '{name}'")


def assembled(
    start: Examples, documents: list[Example], spare: list[Example], test: dict[str, str], wanted: Wanted, where: str
) -> Examples:
    """``start`` with labelled documents, parted at random, and ``spare`` ones without labels: none twice, and none of
    those by whose keys ``test`` names them. ``where`` the documents are from is for messages."""
    notes = list(start.notes)
    made = list({(example.pairs, example.gold): example for example in reversed(documents)}.values())[::-1]
    if len(made) < len(documents):
        notes.append(f"Training documents left out that repeat others exactly: {len(documents) - len(made)}.")
    made = _apart(made, test, wanted.overlap, where, notes)
    spare = _apart(spare, test, wanted.overlap, str(wanted.unlabelled), notes)
    known = frozenset(example.key for example in made)
    random.Random(wanted.seed).shuffle(made)
    made = made[: wanted.limit]
    cut = round(len(made) * (1 - VALIDATION_SHARE))
    if not 0 < cut < len(made):
        raise InputError(f"{where}: {len(made)} documents cannot be parted into training and validation")
    labelled, further = {example.key for example in made}, dict[str, Example]()
    for example in spare:
        if example.key not in labelled:
            further.setdefault(example.key, example)
    if len(further) < len(spare):
        left = len(spare) - len(further)
        notes.append(f"{wanted.unlabelled}: inputs left out that repeat others or labelled documents: {left}.")
    return replace(
        start, train=tuple(made[:cut]), validation=tuple(made[cut:]), unlabelled=tuple(further.values()),
        notes=tuple(notes), known=known,
    )  # fmt: skip


def _training_task(task: str, wanted: Wanted) -> LoadedTask:
    """The task with its training split in place of the evaluated one."""
    sources = resolve_task(task)
    if len(sources) != 1:
        raise InputError(f"--task {task}: a group of {len(sources)} tasks; an adapter is trained on one task")
    source, data = sources[0], Path(wanted.data) if wanted.data is not None else None
    config = source.config(wanted.trust_task)
    split = wanted.split or config.get("training_split")
    if not isinstance(split, str):
        raise InputError(f"task {source.name}: has no training split; give local files with --data and their --split")
    evaluated = config.get("test_split") or config.get("validation_split")
    if split == evaluated and (data is None or wanted.folder is not None):
        raise InputError(f"task {source.name}: split '{split}' is the one that is evaluated; it cannot be trained on")
    if wanted.folder is not None and find_split(wanted.folder, source.name, split) is None:
        raise InputError(f"--data {data}: no {source.name}/{split}.jsonl[.gz] to train on")
    options = TaskOptions(data=data, split=split, num_fewshot=wanted.num_fewshot, trust_task=wanted.trust_task)
    (loaded,) = load_tasks([task], options)
    if loaded.task.OUTPUT_TYPE not in ("multiple_choice", "generate_until", "loglikelihood"):
        raise InputError(f"task {source.name}: {loaded.task.OUTPUT_TYPE} tasks have no answers to train on")
    return loaded


def _example(loaded: LoadedTask, doc_id: str, doc: Any, num_fewshot: int) -> Example:
    try:
        pairs = _pairs(loaded, doc, num_fewshot)
        content = content_key(_pairs(loaded, doc, 0)) if num_fewshot else None
        return Example(doc_id, pairs, _gold(loaded.task, doc, len(pairs)), content=content)
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


def test_keys(
    task: str, data: Path | None, trained: str, tested: str | None = None, trust_task: bool = False
) -> dict[str, str]:
    """Content key -> document id of the split that is evaluated: ``tested``, or the task's own."""
    (loaded,) = load_tasks([task], TaskOptions(data=data, split=tested, num_fewshot=0, trust_task=trust_task))
    if loaded.settings["split"] == trained:
        raise InputError(
            f"task {task}: split '{trained}' is the one that is evaluated; it cannot be trained or chosen on"
        )
    return keys_of(loaded)


def keys_of(loaded: LoadedTask) -> dict[str, str]:
    """Content key -> document id, of all documents."""
    return {document_key(loaded, doc): loaded.name_of(number) for number, doc in enumerate(loaded.task.eval_docs)}


def document_key(loaded: LoadedTask, doc: Any) -> str:
    """The content key of a document, or of a prompt."""
    task: Any = loaded.task
    return prompt_key(task.prompt(doc)) if isinstance(task, PromptTask) else content_key(_pairs(loaded, doc, 0))


def prompt_key(prompt: Prompt) -> str:
    """The content key of what a prompt asks."""
    tools = json.dumps(prompt.tools, sort_keys=True, default=str) if prompt.tools else ""
    return content_key([(plain(prompt.turns) + tools, "")])


def _apart(made: list[Example], test: dict[str, str], overlap: str, where: str, notes: list[str]) -> list[Example]:
    both = [example for example in made if example.key in test]
    if both and overlap == "error":
        raise InputError(
            f"{where}: the test split holds some documents too, {len(both)} in all (document {both[0].doc_id} is test "
            f"document {test[both[0].key]}); remove them, or say --drop-overlap"
        )
    if both:
        notes.append(f"{where}: documents left out that the test split holds too: {len(both)}.")
    return [example for example in made if example.key not in test]


def _unlabelled(loaded: LoadedTask, path: Path) -> Iterator[Example]:
    if not path.is_file():
        raise InputError(f"--unlabelled {path}: no such file")
    choice, line = loaded.task.OUTPUT_TYPE == "multiple_choice", 0
    for line, row in read_rows(path):
        if isinstance(row.get("input"), str):
            choices = row.get("choices")
            if choice and not (isinstance(choices, list) and len(choices) > 1):
                raise InputError(f"{path}:{line}: a choice task needs a list 'choices' beside 'input'")
            delimiter = loaded.task.config.target_delimiter
            texts = [f"{delimiter}{text}" for text in choices] if choice and choices else [""]
            pairs = tuple((row["input"], text) for text in texts)
        else:
            try:
                pairs = _pairs_without_label(loaded, row)
            except Exception as error:  # a task's own functions raise anything
                raise InputError(
                    f"{path}:{line}: neither a row with 'input' nor one that task {loaded.name} can read "
                    f"({type(error).__name__}: {error})"
                ) from None
        yield Example(f"unlabelled:{line}", pairs, None)
    if not line:
        raise InputError(f"--unlabelled {path}: no rows in it")


def _pairs_without_label(loaded: LoadedTask, row: dict[str, Any]) -> tuple[Pair, ...]:
    """Prompt and choices of a row in the task's schema that may lack its label, which lm-eval's templates read even
    where it does not matter. Missing fields are taken from several labelled rows in turn: what the prompt needs is
    missing when it changes with them."""
    from datasets import Dataset

    labelled, process = loaded.task.dataset[loaded.settings["split"]], loaded.task.config.process_docs
    spare = [labelled[number] for number in {0, len(labelled) // 2, len(labelled) - 1}]
    found = set()
    for other in spare:
        docs = Dataset.from_list([{**other, **row}])
        found.add(_pairs(loaded, (docs if process is None else process(docs))[0], 0, labelled=False))
    if len(found) != 1:
        missing = ", ".join(name for name in spare[0] if name not in row)
        raise ValueError(f"a field of the prompt is missing; not there: {missing}")
    return found.pop()
