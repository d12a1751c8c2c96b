"""Build lm-eval task objects: its prompts, filters and metrics, with local data and the user's settings laid over."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError, did_you_mean, one_line
from compatcheck.tasks import local_data, patches
from compatcheck.tasks.conversing import let_converse
from compatcheck.tasks.description import describe, label_fault
from compatcheck.tasks.generation import overlaid, read_generation
from compatcheck.tasks.resolve import TaskConfigSource, resolve_task
from compatcheck.text import text_hash

if TYPE_CHECKING:
    from lm_eval.api.task import Task

KEEP = "keep"
"""Reasoning stays in the text that is scored."""
DEFAULT_SEED = 1234
"""lm-eval's default seed for few-shot examples, so that prompts are equal by default."""


@dataclass(frozen=True)
class TaskOptions:
    """What the user sets about tasks, for all of them alike."""

    data: Path | None = None
    split: str | None = None
    limit: int | None = None
    sample: int | None = None
    num_fewshot: int | None = None
    seed: int = DEFAULT_SEED
    trust_task: bool = False
    """A task's YAML may run code of its own: functions, classes, metrics that are scripts."""
    reasoning: str | None = None
    """``strip`` or ``keep``; None strips what models generate and leaves recorded texts as they are."""
    prompts: Path | None = None
    """A file of the user's own prompts, which are a task as well."""
    prompts_name: str | None = None
    """What they are called; the file's name where it is None."""
    drawn_from: TaskOptions | None = None
    """The other side's options, where its prompts are of another file, of which ``--limit`` and ``--sample`` choose."""
    turns: str = "last"
    system: str | None = None
    gen: Mapping[str, Any] = field(default_factory=dict)
    extract: str | None = None
    id_field: str | None = None
    target_field: str | None = None
    input_field: str | None = None


@dataclass(frozen=True)
class LoadedTask:
    """A task ready to run. ``indices`` are the documents to evaluate (sorted), or None for all."""

    name: str
    task: Task
    indices: list[int] | None
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    reasoning: str | None = None
    """As in :class:`TaskOptions`."""
    system: str | None = None
    """A system message that is put before every prompt (lm-eval's ``system_instruction``)."""

    @property
    def conversational(self) -> bool:
        """Whether it takes a model's chat template where it has one and the user does not say."""
        return bool(getattr(self.task, "conversational", False))

    def name_of(self, number: int) -> str:
        """The id of a document, by its number in the task."""
        names = getattr(self.task, "names", None)
        return str(number) if names is None else str(names[number])

    @property
    def numbers(self) -> Sequence[int]:
        """The documents that will be evaluated."""
        return range(len(self.task.eval_docs)) if self.indices is None else self.indices

    @property
    def size(self) -> int:
        return len(self.numbers)


def load_tasks(names: Sequence[str], options: TaskOptions) -> list[LoadedTask]:
    """Load every leaf task that ``names`` mean, in order. Raises InputError: unknown task, missing split or field, bad
    limit, bad local data, code that is not trusted."""
    sources = {source.name: source for name in names for source in resolve_task(name)}
    if options.data is not None and not options.data.exists():
        raise InputError(f"--data {options.data}: no such file or folder")
    if options.data is not None and options.data.is_file() and len(sources) > 1:
        raise InputError(f"--data {options.data}: one file serves one task; give a folder with <task>/<split>.jsonl")
    return [_load(source, options) for source in sources.values()]


def _load(source: TaskConfigSource, options: TaskOptions) -> LoadedTask:
    patches.quiet_for_good()
    patches.render_safely()
    config = {**source.config(options.trust_task), "task": source.name}
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    written = dict(config)
    split = config.get("test_split") or config.get("validation_split")  # lm-eval's order
    if options.split is not None:
        split = config["test_split"] = options.split
    elif split is None and "class" not in config and "custom_dataset" not in config:
        raise InputError(f"task {source.name}: defines neither test_split nor validation_split; name one with --split")
    notes = _set_fewshot(config, options.num_fewshot, source.name)
    where = config.get("dataset_path")
    if options.data:
        where = _use_local_data(config, source.name, options.data, str(split))
    _check_templates(config, source)
    task = _build(config, source, where)
    if not config.get("num_fewshot") and getattr(task, "sampler", None) is not None:
        task.sampler.df = []  # lm-eval holds every document of the examples' split, also where no example is drawn
    task.set_fewshot_seed(seed=options.seed)
    notes += _set_generation(task, source.name, options.gen)
    let_converse(task, source.name)
    size = len(task.eval_docs)
    if size and (fault := label_fault(task, task.eval_docs[0])):
        raise InputError(
            f"{where}: task {source.name}, split {split}, first row: {fault}; rows without labels cannot be compared"
        )
    indices = choose_documents(size, options)
    metadata = config.get("metadata") or {}
    settings: dict[str, Any] = {
        "output_type": task.OUTPUT_TYPE,
        "version": metadata.get("version") if isinstance(metadata, dict) else None,
        "split": str(split),
        "num_fewshot": config.get("num_fewshot") or 0,
        "documents": size,
        "seed": options.seed,
        **describe(task, written),
        **({"system": system_shown(options.system)} if options.system else {}),
    }
    if indices is not None:
        settings["limit"] = f"first:{len(indices)}" if options.sample is None else f"random:{len(indices)}"
    if options.data is not None:
        settings["data"] = "local"
    if options.reasoning == KEEP and task.OUTPUT_TYPE == "generate_until":
        settings["reasoning"] = KEEP
    return LoadedTask(source.name, task, indices, settings, notes, options.reasoning, options.system)


def _set_generation(task: Task, name: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Lay ``--gen`` over what the task says."""
    if not given:
        return ()
    read = read_generation(given)
    if task.OUTPUT_TYPE != "generate_until":
        return (f"{name} generates no text, so --gen does not apply to it",)
    task.config.generation_kwargs = overlaid(task.config.generation_kwargs, read)
    return ()


def system_shown(text: str) -> str:
    """A system message as a signature has it: its beginning, and a few digits that tell it from others."""
    line = " ".join(text.split())
    return f"{line if len(line) <= 60 else line[:59] + '…'} ({text_hash(text)[:8]})"


def _set_fewshot(config: dict[str, Any], wanted: int | None, name: str) -> tuple[str, ...]:
    """lm-eval's rule: a task that sets num_fewshot to 0 keeps it; otherwise the user's number counts."""
    if wanted is not None and wanted < 0:
        raise InputError(f"--num-fewshot {wanted}: must be 0 or more")
    default = config.get("num_fewshot")
    if default == 0 and wanted:
        return (f"{name} fixes num_fewshot at 0, so --num-fewshot {wanted} does not apply to it (as in lm-eval)",)
    config["num_fewshot"] = (default or 0) if wanted is None else wanted
    return ()


def _use_local_data(config: dict[str, Any], task: str, data: Path, split: str) -> str:
    """Replace the hub data set by local files; returns the evaluated file for messages."""
    evaluated = data if data.is_file() else local_data.find_split(data, task, split)
    if evaluated is None:
        there = ", ".join(p.name for p in local_data.files_for(data, task)) or "no .jsonl files"
        raise InputError(f"--data {data}: no {task}/{split}.jsonl[.gz] (found: {there}); --split chooses another split")
    files = {split: evaluated}
    shots = config.get("num_fewshot") or 0
    for key in ("training_split", "fewshot_split", "validation_split", "test_split"):
        name = config.get(key)
        if not isinstance(name, str) or name in files:
            continue
        path = local_data.find_split(data, task, name) if data.is_dir() else None
        needed = shots > 0 and key in ("training_split", "fewshot_split")
        if path is not None and needed:
            files[name] = path
            continue
        config[key] = None
        if needed and not any(config.get(k) in files for k in ("fewshot_split", "training_split")):
            raise InputError(
                f"--data {data}: the {shots} few-shot examples of {task} come from split '{name}', and "
                f"there is no {task}/{name}.jsonl[.gz]; add it or say --num-fewshot 0"
            )
    fewshot = config.get("fewshot_config")
    if isinstance(fewshot, dict) and fewshot.get("split") not in (None, *files):
        fewshot["split"] = None
    loaded = {name: local_data.load_split(path) for name, path in files.items()}
    config.update(dataset_path=None, dataset_name=None, dataset_kwargs=None, custom_dataset=lambda **_: loaded)
    return str(evaluated)


def _check_templates(config: Mapping[str, Any], source: TaskConfigSource) -> None:
    """Raise InputError where a task does not say what is asked, what is right or between what is chosen."""
    if config.get("class") or config.get("use_prompt"):
        return
    needed = ["doc_to_text", "doc_to_target"]
    if config.get("output_type") == "multiple_choice":
        needed.append("doc_to_choice")
    for key in needed:
        if config.get(key) is None:
            raise InputError(f"{source.path}: the key '{key}' is missing")


def _build(config: dict[str, Any], source: TaskConfigSource, where: str | None) -> Task:
    import jinja2
    from lm_eval.api.task import ConfigurableTask

    try:
        with patches.offline_where_unreachable():
            return config["class"]() if callable(config.get("class")) else ConfigurableTask(config=config)
    except jinja2.UndefinedError as error:
        raise InputError(f"{where}: task {source.name} needs a field that the rows lack ({error})") from None
    except jinja2.exceptions.SecurityError as error:
        raise InputError(f"{source.path}: a template of the task reaches too far: {one_line(error)}") from None
    except KeyError as error:
        raise InputError(f"{where}: task {source.name} needs the field or split {error}, which is not there") from None
    except OSError as error:
        first = str(error).strip().splitlines()[0][:160]
        raise InputError(
            f"task {source.name}: its data set '{where}' cannot be loaded ({first}); give local files with --data"
        ) from None
    except SyntaxError as error:  # lm-eval reads the list that a template wrote
        raise InputError(f"{source.path}: doc_to_choice gives no list for the first row ({one_line(error)})") from None
    except (ValueError, jinja2.TemplateError) as error:
        raise InputError(f"{source.path}: {one_line(error)} (first row of {where})") from None
    except (LookupError, AttributeError, TypeError) as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(
            f"{where}: task {source.name}: its settings and the first row do not go together, as lm-eval says ({why})"
        ) from None


def choose_documents(size: int, options: TaskOptions) -> list[int] | None:
    """Which of ``size`` documents ``--limit`` or ``--sample`` mean, sorted; None for all of them."""
    if options.limit is not None and options.sample is not None:
        raise InputError("--limit and --sample exclude each other: the first N documents, or N drawn at random")
    for flag, value in (("--limit", options.limit), ("--sample", options.sample)):
        if value is not None and value < 1:
            raise InputError(f"{flag} {value}: must be at least 1")
    if options.sample is not None and options.sample < size:
        return sorted(random.Random(options.seed).sample(range(size), options.sample))
    return list(range(options.limit)) if options.limit is not None and options.limit < size else None


def check_metric_names(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Raise InputError for a metric that neither a task nor the similarity scores know."""
    for name in wanted:
        if name not in known:
            raise InputError(f"--metric {name}: unknown metric{did_you_mean(name, known)}; known: {', '.join(known)}")
