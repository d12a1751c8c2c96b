"""Every option once: name, type, default, help, panel and checks.

From these models come the commands' options, the keys of compatcheck.toml, the keyword arguments in Python, those of
the pytest plugin, and what a kept run says of how it was made. An option is a field; its annotation is one of
:data:`compatcheck.option_kinds.KINDS`. Plain dataclasses: pydantic adds 80 ms to the 170 ms of ``compatcheck --help``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field as ModelField
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast, dataclass_transform

from compatcheck.errors import InputError, did_you_mean

from compatcheck.option_kinds import (  # isort: skip
    KINDS, Decoding, Instruction, Kind, Pairs, Reference, References, Settings, Share, Size, Store, Tables,
    Tasks, Texts, Weight,
)  # fmt: skip
from compatcheck.text import clean_surrogates

WHAT, ENGINE, COMPARE, ROWS = "What", "Engine", "Comparison and gate", "Recorded outputs"
METHOD, TRAINING, PROOF = "Method", "Training", "Proof"
"""Panels of the help."""
ENGINES = ("auto", "hf", "vllm", "ray")
DTYPES = ("auto", "float32", "float16", "bfloat16", "float64")
TURNS = ("last", "all")
METRICS = ("exact_match", "contains", "json", "tool_call", "rouge1", "rouge2", "rougeL", "bertscore", "bleu", "chrf",
           "judge", "changed", "score", "kl")  # fmt: skip
BUDGETS = "nfr:2%, accuracy:-0.5%, rouge1.regression:0.03, task/nfr:3%, field=value/nfr:5%"
DEAD_BAND = "0; of averaged samples 2.5 standard errors"
PART = "a quarter of the evaluation split, the proof is on the rest"
FORMATS = ("terminal", "json", "markdown", "html", "junit", "github", "sarif", "png", "svg")

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


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
    shown: str = ""
    """The default in words, where the value does not say it."""


def option(default: Any, help: str, panel: str | None = None, **further: Any) -> Any:
    """A field of a model; ``further`` as in :class:`Option`."""
    return field(default=default, metadata={"option": Option(help, panel, **further)})


@dataclass_transform(frozen_default=True, kw_only_default=True)
def panel(name: str | None) -> Callable[[type[T]], type[T]]:
    """Make a model of a class; its options stand in this panel of the help, where they name no other."""

    def make(cls: type[T]) -> type[T]:
        for each in vars(cls).values():
            if isinstance(each, ModelField):
                said = each.metadata["option"]
                each.metadata = MappingProxyType({"option": replace(said, panel=said.panel or name)})
        return dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)  # half the time of import

    return make


@panel(WHAT)
class Shared:
    """Of all that runs or trains a model."""

    data: Path | None = option(
        None, "Local JSONL(.gz) for hub data: a file, or a folder of <task>/<split>.jsonl\\[.gz]."
    )
    num_fewshot: int | None = option(None, "Examples in the prompt.")
    device: str | None = option(None, "cpu, cuda, cuda:1, mps; found by itself.", ENGINE, environment=True)
    trust_remote_code: bool = option(False, "Run code that comes with a model.", ENGINE, power=True)
    trust_task: bool = option(False, "Run code that comes with a task's YAML.", power=True)


@panel(ENGINE)
class Engine(Shared):
    """How a model is run."""

    engine: str = option("auto", "auto, hf, vllm, ray, or any lm-eval backend.", suggest=ENGINES, environment=True)
    engine_args: Pairs | None = option(None, "Passed to the engine; repeatable.", flag="--engine-arg")
    batch_size: Size = option("auto", "Sequences at a time.", environment=True)
    dtype: str = option("auto", "auto, float32, bfloat16, float16.", choices=DTYPES, environment=True)
    store: Store = option(
        None, "Keep answers here, not in the user's cache (see `compatcheck cache`).", environment=True
    )


@panel(ROWS)
class Fields:
    """How recorded rows are read."""

    id_field: str | None = option(None, "Field of the id, dotted where nested: meta.id.", metavar="FIELD")
    target_field: str | None = option(None, "Field of the target.", metavar="FIELD")
    prediction_field: str | None = option(None, "Field of the prediction, on both sides.", metavar="FIELD")
    input_field: str | None = option(None, "Field of the input.", metavar="FIELD")
    model_field: str | None = option(None, "Field of the model that FILE#VALUE names, of several.", metavar="FIELD")
    extract: str | None = option(None, "Answer = group 1 of the last match, on both sides.", metavar="REGEX")
    targets: Path | None = option(None, "Take the targets from this file, by id.", metavar="FILE")


@panel(WHAT)
class Chosen:
    """Which tasks, documents and scores."""

    task: Tasks = option((), "Bundled, lm-eval's (task or group), or a YAML file; repeatable.")
    filter: str | None = option(None, "Of several filters of a task's answers this one.", metavar="NAME")
    limit: int | None = option(None, "The first N documents.", environment=True)
    metric: Texts = option(
        (), f"Of the task, or {', '.join(METRICS)}; repeatable.", suggest=METRICS, shown="the task's own"
    )


@panel(WHAT)
class Export(Fields, Chosen):
    """Of ``compatcheck export``."""


@panel(WHAT)
class Evaluate(Engine, Fields, Chosen):
    """Of everything that evaluates references."""

    prompts: Path | None = option(None, "Own prompts: JSONL, CSV or Parquet with `prompt`, `target` …", metavar="FILE")
    turns: str = option("last", "Of a conversation the last answer is compared, or all.", choices=TURNS)
    system: Instruction | None = option(None, "System message, in place of the prompts' own.")
    gen: Decoding | None = option(None, "Decoding: temperature=0.7, max_tokens=256, stop=TEXT, X=none; repeatable.")
    split: str | None = option(None, "Split to evaluate.", metavar="NAME")
    api_key_env: str | None = option(None, "Variable that holds the servers' key.", ENGINE, metavar="NAME", power=True)
    sample: int | None = option(None, "N documents drawn at random with --seed.")
    apply_chat_template: bool | None = option(
        None, "Use the model's chat template.", ENGINE, shown="where there is one, for prompts; not for tasks"
    )
    fewshot_as_multiturn: bool = option(True, "In a chat template, examples are turns or all in one message.", ENGINE)
    reasoning: str | None = option(
        None,
        "What a model thinks before it answers: strip (not scored, kept apart) or keep.",
        choices=("strip", "keep"),
        shown="strip; recorded outputs keep it",
    )
    seed: int = option(1234, "For few-shot examples, --sample and bootstrap.", ENGINE)
    metric_args: Tables | None = option(None, "Setting: exact_match.ignore_case=true.", flag="--metric-arg")
    lower_is_better: Texts = option((), "A smaller score is better; repeatable.", metavar="METRIC")


@panel(None)
class Run(Evaluate):
    """Of ``compatcheck run``."""

    lm_eval_log: bool = option(False, "Add what lm-eval writes with --log_samples, in DIR/lm-eval.")


@panel(COMPARE)
class Judged(Evaluate):
    """Of everything that compares."""

    epsilon: float | None = option(None, "A gain within ±X counts as unchanged.", least=0, shown=DEAD_BAND)
    correct_at: float | None = option(None, "A score of at least X counts as correct.")


@panel(None)
class Noise(Judged):
    """Of ``compatcheck noise``."""

    repeats: int = option(3, "How often a model is run again.")


@panel(COMPARE)
class Bless(Evaluate):
    """Of ``compatcheck bless``."""

    fail_on: Texts = option((), "Budget against the run blessed before.", metavar="EXPR")
    max_missing: Share = option("2%", "No budget passes where more rows than that show nothing.")


@panel(COMPARE)
class Diff(Judged):
    """Of :func:`compatcheck.diff`."""

    reference: str | None = option(
        None, "old: without targets, hold NEW's answers against OLD's: what changed.", choices=("old",)
    )
    slice_by: Texts = option((), "Break down by a field; auto: lengths and OLD's confidence.", metavar="FIELD")
    cluster_by: str | None = option(None, "Instances of one value count as a group, not singly.", metavar="FIELD")
    noise_floor: int = option(0, "Run OLD K times again: what flips without change.", metavar="K", least=0)
    noise_run: References = option((), "A recorded rerun of OLD; repeatable.", metavar="FILE")
    fail_on: Texts = option((), f"Budget, such as {BUDGETS}; repeatable.", metavar="EXPR")
    until_decided: bool = option(
        False, "Draw documents until every budget is decided; the verdict holds at every look."
    )
    step: int | None = option(None, "Documents between two looks.", least=1, shown="25")
    max: int | None = option(None, "Draw no more of a task than this.", least=1)
    advisory: Texts = option((), "A budget that is shown and bears on no verdict; repeatable.", metavar="EXPR")
    required: Texts = option((), "An error where it was not compared; repeatable.", metavar="TASK")
    max_missing: Share = option("2%", "No budget passes where more rows than that show nothing.", environment=True)
    judge: Reference | None = option(None, "A model that names what negative flips share; see docs/themes.md.")
    price: Pairs | None = option(None, "Dollars a million tokens, in and out: old=3/15.", metavar="SIDE=IN/OUT")
    allow_same: bool = option(False, "OLD and NEW may be the same.")
    old_set: Settings | None = option(None, "A setting of OLD alone, as --new-set; repeatable.", ENGINE)
    new_set: Settings | None = option(
        None, "A setting of NEW alone by its option's name: dtype=float16; repeatable.", ENGINE
    )
    old_name: str | None = option(None, "What reports call OLD.", metavar="NAME")
    new_name: str | None = option(None, "What reports call NEW.", metavar="NAME")
    old_prediction_field: str | None = option(None, "Only in OLD.", ROWS, metavar="FIELD")
    new_prediction_field: str | None = option(None, "Only in NEW.", ROWS, metavar="FIELD")
    repeats: str | None = option(None, "Rows of one id are samples: average them.", ROWS, choices=("average",))
    stream: bool | None = option(None, "Hold no rows in memory; by itself where they are too large.", ROWS)


@panel(None)
class Check(Diff):
    """Of ``compatcheck diff`` and of a settings file: how the result is shown as well."""

    exit_zero: bool = option(False, "Exit with 0 whatever the verdict.", COMPARE)
    format: Texts = option(("terminal",), f"{', '.join(FORMATS)}; repeatable.", choices=FORMATS)
    junit_flips: bool = option(False, "In junit.xml a test case per listed flip, not per budget alone.")
    out: Path | None = option(
        None, "Keep report.json, instances.parquet and other files here.", metavar="DIR", environment=True
    )
    overwrite: bool = option(False, "Replace files in --out that compatcheck did not write.")
    quiet: bool = option(False, "Print the verdict line alone; no progress.", flag="--quiet -q")


@panel(TRAINING)
class TrainTask(Shared):
    """Of ``compatcheck train-task``."""

    task: str = option("", "The task to train on.", WHAT, metavar="NAME")
    train_split: str | None = option(None, "Split to train on.", WHAT, metavar="NAME", shown="the task's")
    train_limit: int | None = option(None, "Training documents at most.", WHAT)
    drop_overlap: bool = option(False, "Leave out what the test split holds too.", WHAT)
    preset: str = option("paper", "paper or quick.", suggest=("paper", "quick"))
    set: Pairs | None = option(None, "Any training setting: learning_rate=1e-4.")
    seed: int = option(0, "Of split, order and training.")


@panel(METHOD)
class Choosing(TrainTask, Engine):
    """Of ``compatcheck fix``: the documents, and what is tried."""

    split: str | None = option(None, "Split of the proof.", WHAT, metavar="NAME")
    dev: str | None = option(None, "Documents to choose on.", WHAT, metavar="SPLIT|FILE|held-out", shown=PART)
    limit: int | None = option(None, "Test documents at most.", WHAT)
    unlabelled: Path | None = option(None, "Further inputs without targets, JSONL.", WHAT, metavar="FILE")
    metric: str = option("", "The one that counts.", WHAT, metavar="NAME", shown="the task's first")
    strategy: str = option("auto", "auto, a strategy of docs/fix.md, or FIRST+STRATEGY.", metavar="NAME")
    strategy_args: Pairs | None = option(None, "An option of it; repeatable.", flag="--strategy-arg")
    candidate: Texts = option((), "What auto tries; repeatable.")
    trial_share: float | None = option(None, "Share of the steps of a trial.", shown="0.2; 1 if quick")
    finalists: int = option(2, "Candidates of auto that are trained in full.", least=1)


@panel(METHOD)
class Training:
    """Settings of a training (``compatcheck_train.settings``) that are options too."""

    tokens: str = option("all", "Loss on all or answer tokens.", metavar="all|answer")
    context_weight: float | None = option(None, "Weight of a context token beside an answer's.")
    temperature: float = option(2.0, "T of the divergence.")
    ce_weight: float | None = option(None, "Share of cross-entropy.", shown="the strategy's")
    teacher: str = option("auto", "cache (old runs once and is freed), online or auto.", TRAINING, metavar="NAME")
    report_to: Texts = option((), "tensorboard, wandb, trackio; repeatable.", TRAINING)


@panel(METHOD)
class Fix(Training, Choosing):
    """Of ``compatcheck fix``."""

    blend: Weight = option("auto", "Weight of compat beside NEW.")
    blend_method: str = option("exact", "exact, or one of PEFT's merging methods.", metavar="NAME")
    init: str = option("new", "Start as new, or transfer OLD's update.", metavar="new|transfer")
    train_task: bool = option(False, "NEW is a base: train its task adapter first.")
    seeds: int = option(1, "Trainings behind the proof.", PROOF, metavar="K", least=1)
    margin: float = option(1.0, "By so much the score may be below NEW's.", PROOF, metavar="POINTS")
    control: str = option("auto", "Control at equal steps: labels alone, a strategy, or none.", PROOF, metavar="NAME")
    force: bool = option(False, "Go on with a poor old model.", PROOF)


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
    Raises ValueError: none that it can have; the message says what it must be.
    """
    said, kind = about(one), kind_of(one)
    try:
        found = kind.read(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"must be {kind.words}") from None
    if said.least is not None and found < said.least:
        raise ValueError(f"must be {'at least 1' if said.least else '0 or more'}")
    for each in found if isinstance(found, tuple) else (found,):
        if said.choices and each not in said.choices:
            hint = did_you_mean(str(each), said.choices)
            raise ValueError(f"is an unknown {one.name}{hint}; known: {', '.join(said.choices)}")
    if not one.type.startswith("Reference") and any(
        clean_surrogates(text) != text for text in _texts(found)
    ):  # a file's name may be any bytes
        raise ValueError("is no text that UTF-8 can hold")
    return found


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value, those of tables and lists among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | tuple | list):
        for each in (*value, *value.values()) if isinstance(value, Mapping) else value:
            yield from _texts(each)


def build(model: type[T], given: Mapping[str, Any]) -> T:
    """A model with these options; None stands for the default.
    Raises InputError: an option that does not exist, or a value that it cannot have.
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


def part_of(chosen: Any, kind: Callable[..., T], **further: Any) -> T:
    """Another dataclass, of those of its fields that ``chosen`` has too, and ``further``."""
    mine = {each.name: getattr(chosen, each.name) for each in fields(cast(Any, kind)) if hasattr(chosen, each.name)}
    return kind(**{name: value for name, value in mine.items() if value is not None} | further)


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
