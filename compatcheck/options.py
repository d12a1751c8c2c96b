"""Every option once: name, type, default, help, panel and checks.

From these models come the commands' options, the keys of compatcheck.toml, the keyword arguments in Python, those of
the pytest plugin, and what a kept run says of how it was made. An option is a field; its annotation is one of
:data:`KINDS`. Plain dataclasses: pydantic adds 80 ms to the 170 ms of ``compatcheck --help``.
"""

from __future__ import annotations

import inspect
import numbers
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field as ModelField
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from compatcheck.errors import InputError, did_you_mean

WHAT, ENGINE, COMPARE, ROWS = "What", "Engine", "Comparison and gate", "Recorded outputs"
METHOD, TRAINING, PROOF = "Method", "Training", "Proof"
"""Panels of the help."""
DEFAULT_SEED = 1234
DTYPES = ("auto", "float32", "float16", "bfloat16", "float64")
METRICS = ("exact_match", "contains", "rouge1", "rouge2", "rougeL", "bertscore", "bleu", "chrf", "judge", "score")
FORMATS = ("terminal", "json", "markdown", "html", "junit", "github", "sarif", "png", "svg")

Texts = tuple[str, ...]
"""One text, or several."""
Tasks = tuple[str, ...]
"""As :data:`Texts`, of task names and YAML files."""
References = tuple[str, ...]
"""As :data:`Texts`, of references: in a settings file their paths are relative to it."""
Pairs = Mapping[str, Any]
"""K=V pairs on the command line, a table elsewhere."""
Tables = Mapping[str, Mapping[str, Any]]
"""M.K=V pairs on the command line, a table of tables elsewhere."""
Share = float | str
"""``"2%"`` or ``0.02``."""
Size = int | str
"""A whole number of at least 1, or ``auto``."""
Store = Path | bool | None
"""A folder, False for none, None for the usual one."""
Weight = float | str | None
"""A number, ``auto`` or ``none``."""


@dataclass(frozen=True)
class Option:
    """What is said of an option beside its name, type and default."""

    help: str
    panel: str | None = None
    metavar: str = ""
    flag: str = ""
    """On the command line, where that is not the name: ``--engine-arg``; with ``-q`` behind it a short one too."""
    least: float | None = None
    choices: Sequence[str] = ()
    environment: bool = False
    """Read from ``COMPATCHECK_NAME`` and, in pytest, from ``--compatcheck-name``."""
    power: bool = False
    """Lets others' code run: not taken from a settings file that was merely found."""
    suggest: Sequence[str] = ()
    """What shell completion proposes, where other values are possible too."""


def option(default: Any, help: str, panel: str | None = None, **further: Any) -> Any:
    """A field of a model; ``further`` as in :class:`Option`."""
    return field(default=default, metadata={"option": Option(help, panel, **further)})


@dataclass(frozen=True)
class Kind:
    """How values of a type are read. ``read`` raises ValueError for what is none."""

    words: str
    """What a value must be."""
    read: Callable[[Any], Any]
    cli: Any = str
    """Type of the option on the command line."""
    metavar: str = ""
    parse: Callable[[str, Any], Any] = lambda _, value: value
    """Gets the flag and the value of the command line."""


def _of(*types: type, as_: Callable[[Any], Any] = lambda value: value) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ValueError(value)
        return as_(value)

    return read


def _several(value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str | os.PathLike) else value
    if isinstance(values, Mapping) or not all(isinstance(each, str | os.PathLike) for each in iter(values)):
        raise ValueError(value)
    return tuple(os.fspath(each) for each in values)


def _tables(value: Any) -> dict[str, dict[str, Any]]:
    return {name: dict(_of(Mapping)(each)) for name, each in _of(Mapping)(value).items()}


def _size(value: Any) -> int | str:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if value != "auto" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(value)
    return cast(int | str, value)


def _weight(value: Any) -> float | str:
    return value if value in ("auto", "none") else float(_of(numbers.Real, str)(value))


def _store(value: Any) -> Path | bool:
    if value is False:
        return False
    return Path(_of(str, os.PathLike)(value))


def parse_pairs(flag: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``k=v`` pairs; values are numbers, true/false, null or text, as in YAML, and 1e-4 is a number.

    Raises:
        InputError: a pair without ``=``.
    """
    import yaml

    values: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise InputError(f"{flag} {pair}: write it as key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value, re.ASCII):
            value = float(value)  # YAML 1.1 wants a point before the e
        values[key.strip()] = value
    return values


def _parse_tables(flag: str, pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {}
    for key, value in parse_pairs(flag, pairs).items():
        metric, separator, name = key.partition(".")
        if not separator or not name:
            raise InputError(f"{flag} {key}: write it as metric.key=value, e.g. bertscore.model_type=roberta-large")
        values.setdefault(metric, {})[name] = value
    return values


KINDS: Mapping[str, Kind] = {
    "str": Kind("text", _of(str, os.PathLike, as_=os.fspath), metavar="TEXT"),
    "int": Kind("a whole number", _of(numbers.Integral, as_=int), int, "N"),
    "float": Kind("a number", _of(numbers.Real, as_=float), float, "X"),
    "bool": Kind("true or false", _of(bool), bool),
    "Path": Kind("text", _of(str, os.PathLike, as_=Path), Path, "PATH"),
    "Texts": Kind("text, or a list of texts", _several, list[str], "NAME"),
    "Tasks": Kind("text, or a list of texts", _several, list[str], "NAME"),
    "References": Kind("text, or a list of texts", _several, list[str], "REF"),
    "Pairs": Kind("a table", _of(Mapping, as_=dict), list[str], "K=V", parse_pairs),
    "Tables": Kind("a table of tables", _tables, list[str], "M.K=V", _parse_tables),
    "Share": Kind('a share such as "2%" or 0.02', _of(str, numbers.Real), metavar="RATE"),
    "Size": Kind('a whole number of at least 1 or "auto"', _size, metavar="N|auto"),
    "Store": Kind("a folder, or false for none", _store, Path, "DIR"),
    "Weight": Kind('a number such as 0.75 or 1.25, "auto" or "none"', _weight, metavar="A|auto|none"),
}
"""By annotation, without ``| None``."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Of all that runs or trains a model."""

    data: Path | None = option(
        None, "Local JSONL(.gz) in place of hub data: a file, or a folder with <task>/<split>.jsonl\\[.gz].", WHAT
    )
    num_fewshot: int | None = option(None, "Examples in the prompt.", WHAT)
    device: str | None = option(
        None, "cpu, cuda, cuda:1, mps; found by itself.", ENGINE, environment=True, suggest=("cpu", "cuda", "mps")
    )
    trust_remote_code: bool = option(False, "Run code that comes with a model.", ENGINE, power=True)


@dataclass(frozen=True, kw_only=True)
class Engine(Shared):
    """How a model is run."""

    engine: str = option(
        "auto", "auto, hf, vllm, ray, or any lm-eval backend.", ENGINE, metavar="NAME", environment=True,
        suggest=("auto", "hf", "vllm", "ray"),
    )  # fmt: skip
    engine_args: Pairs | None = option(None, "Passed to the engine; repeatable.", ENGINE, flag="--engine-arg")
    batch_size: Size = option("auto", "Sequences at a time.", ENGINE, environment=True)
    dtype: str = option(
        "auto", "auto, float32, bfloat16, float16.", ENGINE, metavar="TYPE", environment=True, choices=DTYPES
    )
    store: Store = option(
        None, "Keep answers here, not in the user's cache (see `compatcheck cache`).", ENGINE, environment=True
    )


@dataclass(frozen=True, kw_only=True)
class Fields:
    """How recorded rows are read."""

    id_field: str | None = option(None, "Dotted: meta.id.", ROWS, metavar="FIELD")
    target_field: str | None = option(None, "Dotted.", ROWS, metavar="FIELD")
    prediction_field: str | None = option(None, "Dotted, on both sides.", ROWS, metavar="FIELD")
    extract: str | None = option(None, "Answer = group 1 of the last match, on both sides.", ROWS, metavar="REGEX")
    targets: Path | None = option(None, "Take the targets from this file, by id.", ROWS, metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which tasks, documents and scores."""

    task: Tasks = option((), "Bundled, lm-eval's (task or group), or a YAML file; repeatable.", WHAT)
    filter: str | None = option(None, "Of several filters of a task's answers this one.", WHAT, metavar="NAME")
    limit: int | None = option(None, "The first N documents.", WHAT, environment=True)
    metric: Texts = option(
        (), f"Of the task, or {', '.join(METRICS)}; repeatable.  \\[default: the task's own]", WHAT, suggest=METRICS
    )


@dataclass(frozen=True, kw_only=True)
class Export(Fields, Chosen):
    """Of ``compatcheck export``."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Engine, Fields, Chosen):
    """Of everything that evaluates references."""

    split: str | None = option(None, "Split to evaluate.", WHAT, metavar="NAME")
    sample: int | None = option(None, "N documents drawn at random with --seed.", WHAT)
    apply_chat_template: bool = option(False, "Use the model's chat template.", ENGINE)
    fewshot_as_multiturn: bool = option(
        True, "Under a chat template, examples are turns of their own or all in one message.", ENGINE
    )
    seed: int = option(DEFAULT_SEED, "For few-shot examples, --sample and bootstrap.", ENGINE)
    metric_args: Tables | None = option(
        None, "Setting of a metric: exact_match.ignore_case=true.", WHAT, flag="--metric-arg"
    )
    lower_is_better: Texts = option((), "A smaller score is better; repeatable.", WHAT, metavar="METRIC")


@dataclass(frozen=True, kw_only=True)
class Run(Evaluate):
    """Of ``compatcheck run``."""

    lm_eval_log: bool = option(False, "Add what lm-eval writes with --log_samples, in DIR/lm-eval.")


@dataclass(frozen=True, kw_only=True)
class Judged(Evaluate):
    """Of everything that compares."""

    epsilon: float | None = option(
        None, "A gain within ±X counts as unchanged.  \\[default: 0; of averaged samples 2.5 standard errors]", COMPARE,
        least=0,
    )  # fmt: skip
    correct_at: float | None = option(None, "A score of at least X counts as correct.", COMPARE)


@dataclass(frozen=True, kw_only=True)
class Noise(Judged):
    """Of ``compatcheck noise``."""

    repeats: int = option(3, "How often a model is run again.")


@dataclass(frozen=True, kw_only=True)
class Bless(Evaluate):
    """Of ``compatcheck bless``."""

    fail_on: Texts = option((), "Budget against the run blessed before.", COMPARE, metavar="EXPR")
    max_missing: Share = option("2%", "No budget passes where more rows than that show nothing.", COMPARE)


@dataclass(frozen=True, kw_only=True)
class Diff(Judged):
    """Of :func:`compatcheck.diff`."""

    slice_by: Texts = option(
        (), "Break down by a field; auto: lengths and the old model's confidence.", COMPARE, metavar="FIELD"
    )
    cluster_by: str | None = option(
        None, "Instances of one value count as a group, not singly.", COMPARE, metavar="FIELD"
    )
    noise_floor: int = option(0, "Run OLD K times again: what flips without change.", COMPARE, metavar="K", least=0)
    noise_run: References = option((), "A recorded rerun of OLD; repeatable.", COMPARE, metavar="FILE")
    fail_on: Texts = option(
        (), "Budget: nfr:2%, accuracy:-0.5%, rouge1.regression:0.03, task/nfr:3%, field=value/nfr:5%; repeatable.",
        COMPARE, metavar="EXPR",
    )  # fmt: skip
    until_decided: bool = option(
        False, "Draw documents at random until every budget is decided; the verdict holds at every look.", COMPARE
    )
    step: int | None = option(None, "Documents between two looks.  \\[default: 25]", COMPARE, least=1)
    max: int | None = option(None, "Draw no more of a task than this.", COMPARE, least=1)
    advisory: Texts = option(
        (), "A budget that is judged and shown, and bears on no verdict; repeatable.", COMPARE, metavar="EXPR"
    )
    required: Texts = option((), "An error where it was not compared; repeatable.", COMPARE, metavar="TASK")
    max_missing: Share = option(
        "2%", "No budget passes where more rows than that show nothing.", COMPARE, environment=True
    )
    allow_same: bool = option(False, "OLD and NEW may be the same.", COMPARE)
    old_prediction_field: str | None = option(None, "Only in OLD.", ROWS, metavar="FIELD")
    new_prediction_field: str | None = option(None, "Only in NEW.", ROWS, metavar="FIELD")
    repeats: str | None = option(
        None, "Rows of one id are samples: average them.", ROWS, metavar="average", choices=("average",)
    )
    stream: bool | None = option(
        None, "Compare without holding all rows in memory; by itself where they are too large.", ROWS
    )


@dataclass(frozen=True, kw_only=True)
class Check(Diff):
    """Of ``compatcheck diff`` and of a settings file: how the result is shown as well."""

    exit_zero: bool = option(False, "Exit with 0 whatever the verdict.", COMPARE)
    format: Texts = option(("terminal",), f"{', '.join(FORMATS)}; repeatable.", metavar="NAME", choices=FORMATS)
    out: Path | None = option(
        None, "Keep report.json, instances.parquet and file formats here.", metavar="DIR", environment=True
    )
    quiet: bool = option(False, "Print the verdict line alone; no progress.", flag="--quiet -q")


@dataclass(frozen=True, kw_only=True)
class TrainTask(Shared):
    """Of ``compatcheck train-task``."""

    task: str = option("", "The task to train on.", WHAT, metavar="NAME")
    train_split: str | None = option(None, "Split to train on.  \\[default: the task's]", WHAT, metavar="NAME")
    train_limit: int | None = option(None, "Training documents at most.", WHAT)
    drop_overlap: bool = option(False, "Leave out what the test split holds too.", WHAT)
    preset: str = option("paper", "paper or quick.", TRAINING, metavar="NAME", suggest=("paper", "quick"))
    set: Pairs | None = option(None, "Any training setting: learning_rate=1e-4.", TRAINING)
    seed: int = option(0, "Of split, order and training.", TRAINING)


@dataclass(frozen=True, kw_only=True)
class Fix(TrainTask, Engine):
    """Of ``compatcheck fix``."""

    split: str | None = option(None, "Split of the proof.", WHAT, metavar="NAME")
    dev: str | None = option(
        None,
        "Documents to choose on.  \\[default: a quarter of the evaluation split, the proof is on the rest]",
        WHAT,
        metavar="SPLIT|FILE|held-out",
    )
    limit: int | None = option(None, "Test documents at most.", WHAT)
    unlabelled: Path | None = option(None, "Further inputs without targets, JSONL.", WHAT, metavar="FILE")
    metric: str = option("", "The one that counts.  \\[default: the task's first]", WHAT, metavar="NAME")
    strategy: str = option("auto", "auto, a strategy of docs/fix.md, or FIRST+STRATEGY.", METHOD, metavar="NAME")
    strategy_args: Pairs | None = option(None, "An option of it; repeatable.", METHOD, flag="--strategy-arg")
    candidate: Texts = option((), "What auto tries; repeatable.", METHOD)
    trial_share: float | None = option(None, "Share of the steps of a trial.  \\[default: 0.2; 1 if quick]", METHOD)
    finalists: int = option(2, "Candidates of auto that are trained in full.", METHOD)
    tokens: str = option("all", "Loss on all or answer tokens.", METHOD, metavar="all|answer")
    context_weight: float | None = option(None, "Weight of a context token beside an answer's.", METHOD)
    temperature: float = option(2.0, "T of the divergence.", METHOD)
    ce_weight: float | None = option(None, "Share of cross-entropy.  \\[default: the strategy's]", METHOD)
    blend: Weight = option("auto", "Weight of compat beside NEW.", METHOD)
    blend_method: str = option("exact", "exact, or one of PEFT's merging methods.", METHOD, metavar="NAME")
    init: str = option("new", "Start as new, or transfer OLD's update.", METHOD, metavar="new|transfer")
    train_task: bool = option(False, "NEW is a base: train its task adapter first.", METHOD)
    teacher: str = option(
        "auto", "cache (old runs once and is freed), online or auto.", TRAINING, metavar="NAME",
        suggest=("auto", "cache", "online"),
    )  # fmt: skip
    report_to: Texts = option((), "tensorboard, wandb, trackio; repeatable.", TRAINING)
    seeds: int = option(1, "Trainings behind the proof.", PROOF, metavar="K")
    margin: float = option(1.0, "By so much the score may be below NEW's.", PROOF, metavar="POINTS")
    control: str = option("continue-ce", "Control at equal steps, or none.", PROOF, metavar="NAME")
    force: bool = option(False, "Go on with a poor old model.", PROOF)


Model = TypeVar("Model")
Function = TypeVar("Function", bound=Callable[..., Any])


def options_of(model: type) -> dict[str, ModelField[Any]]:
    """The options of a model by name."""
    return {each.name: each for each in fields(model)}


def about(one: ModelField[Any]) -> Option:
    """What is said of an option."""
    return cast(Option, one.metadata["option"])


def kind_of(one: ModelField[Any]) -> Kind:
    """The kind that an option's annotation names."""
    return KINDS[str(one.type).removesuffix(" | None")]


def flag_of(one: ModelField[Any]) -> str:
    """The option on the command line, as messages name it."""
    return about(one).flag.partition(" ")[0] or f"--{one.name.rstrip('_').replace('_', '-')}"


def read(one: ModelField[Any], value: Any) -> Any:
    """The value of an option, as its model holds it.

    Raises:
        ValueError: none that it can have; the message says what it must be.
    """
    said, kind = about(one), kind_of(one)
    try:
        found = kind.read(value)
    except (ValueError, TypeError):
        raise ValueError(f"must be {kind.words}") from None
    if said.least is not None and found < said.least:
        raise ValueError(f"must be {'at least 1' if said.least else '0 or more'}")
    for each in found if isinstance(found, tuple) else (found,):
        if said.choices and each not in said.choices:
            hint = did_you_mean(str(each), said.choices)
            raise ValueError(f"is an unknown {one.name}{hint}; known: {', '.join(said.choices)}")
    return found


def build(model: type[Model], given: Mapping[str, Any]) -> Model:
    """A model with these options; None stands for the default.

    Raises:
        InputError: an option that does not exist, or a value that it cannot have.
    """
    known = options_of(cast(type, model))
    values = {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{name}: no such option{did_you_mean(name, known)}; there are {', '.join(known)}")
        if value is not None:
            try:
                values[name] = read(known[name], value)
            except ValueError as error:
                shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
                raise InputError(f"{flag_of(known[name])} {shown}: {error}") from None
    return model(**values)


def written(chosen: Any) -> dict[str, Any]:
    """The options that differ from their defaults, as JSON can hold them."""
    values = {each.name: getattr(chosen, each.name) for each in fields(chosen)}
    changed = {name: value for name, value in values.items() if value != options_of(type(chosen))[name].default}
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in changed.items()
    }


def takes(model: type) -> Callable[[Function], Function]:
    """Show the options of a model as keyword arguments of a function that ends in ``**given``."""

    def sign(function: Function) -> Function:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        shown = [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
            for each in fields(model)
        ]
        first = [p for p in own if p.kind is not p.KEYWORD_ONLY]
        function.__signature__ = inspect.Signature([*first, *shown, *own[len(first) :]])  # type: ignore[attr-defined]
        return function

    return sign
