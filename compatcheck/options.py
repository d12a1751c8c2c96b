"""Every option once: name, type, default, help, panel and checks.

From these models come the commands' options, the keys of compatcheck.toml, the keyword arguments in Python, those of
the pytest plugin, and what a kept run says of how it was made. An option is a field; its annotation is one of
:data:`compatcheck.option_kinds.KINDS`.
"""

from __future__ import annotations

from pathlib import Path

from compatcheck.option_kinds import (  # isort: skip
    Decoding, Instruction, Pairs, Reference, References, Settings, Share, Size, Store, Tables, Tasks, Texts, Weight,
)  # fmt: skip
from compatcheck.option_models import option, panel

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
class Rows:
    """How rows are read, recorded ones and prompts."""

    id_field: str | None = option(None, "Field of the id, dotted where nested: meta.id.", metavar="FIELD")
    target_field: str | None = option(None, "Field of the target.", metavar="FIELD")
    input_field: str | None = option(None, "Field of the input.", metavar="FIELD")
    extract: str | None = option(None, "Answer = group 1 of the last match, on both sides.", metavar="REGEX")


@panel(ROWS)
class Fields(Rows):
    """How recorded rows are read."""

    prediction_field: str | None = option(None, "Field of the prediction, on both sides.", metavar="FIELD")
    model_field: str | None = option(None, "Field of the model that FILE#VALUE names, of several.", metavar="FIELD")
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
class Prompts:
    """The user's own prompts."""

    prompts: Path | None = option(None, "Own prompts: JSONL, CSV or Parquet with `prompt`, `target` …", metavar="FILE")
    system: Instruction | None = option(None, "System message, in place of the prompts' own.")
    gen: Decoding | None = option(None, "Decoding: temperature=0.7, max_tokens=256, stop=TEXT, X=none; repeatable.")


@panel(COMPARE)
class Correct:
    """When an answer is right."""

    correct_at: float | None = option(None, "A score of at least X counts as correct.")


@panel(COMPARE)
class AgainstOld:
    """What stands in for targets."""

    reference: str | None = option(
        None, "old: without targets, hold NEW's answers against OLD's: what changed.", choices=("old",)
    )


@panel(WHAT)
class Evaluate(Engine, Fields, Chosen, Prompts):
    """Of everything that evaluates references."""

    turns: str = option("last", "Of a conversation the last answer is compared, or all.", choices=TURNS)
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
class Judged(Evaluate, Correct):
    """Of everything that compares."""

    epsilon: float | None = option(None, "A gain within ±X counts as unchanged.", least=0, shown=DEAD_BAND)


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
class Diff(Judged, AgainstOld):
    """Of :func:`compatcheck.diff`."""

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
class Choosing(AgainstOld, Correct, Rows, Prompts, TrainTask, Engine):
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
