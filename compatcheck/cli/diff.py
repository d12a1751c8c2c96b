"""``compatcheck diff``: compare an old and a new model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from compatcheck.cli import options
from compatcheck.cli.checks import run_checks


def command(
    context: typer.Context,
    old: Annotated[
        str | None,
        typer.Argument(metavar="[OLD]", help="Model, adapter, BASE+ADAPTER, http://HOST/v1#MODEL or recorded outputs."),
    ] = None,
    new: Annotated[
        str | None, typer.Argument(metavar="[NEW]", help="The same kinds. {task} stands for the task's name.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Without OLD and NEW: this check of the settings file alone; repeatable."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings file.  [default: compatcheck.toml, pyproject.toml]")
    ] = None,
    task: options.Task = None,
    data: options.Data = None,
    split: options.Split = None,
    limit: options.Limit = None,
    sample: options.Sample = None,
    num_fewshot: options.NumFewshot = None,
    engine: options.Engine = "auto",
    engine_arg: options.EngineArg = None,
    batch_size: options.BatchSize = "auto",
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    apply_chat_template: options.ApplyChatTemplate = False,
    fewshot_as_multiturn: options.FewshotAsMultiturn = True,
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 1234,
    store: options.Store = None,
    no_store: options.NoStore = False,
    metric: options.Metric = None,
    metric_arg: options.MetricArg = None,
    lower_is_better: options.LowerIsBetter = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="A gain within ±X counts as unchanged.  [default: 0; of averaged samples 2.5 standard errors]",
            rich_help_panel=options.COMPARE,
        ),
    ] = None,
    correct_at: Annotated[
        float | None, typer.Option(help="A score of at least X counts as correct.", rich_help_panel=options.COMPARE)
    ] = None,
    slice_by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD",
            help="Break down by a field; auto: lengths and the old model's confidence.",
            rich_help_panel=options.COMPARE,
        ),
    ] = None,
    cluster_by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Instances of one value count as a group, not singly.",
            rich_help_panel=options.COMPARE,
        ),
    ] = None,
    noise_floor: Annotated[
        int,
        typer.Option(
            metavar="K", help="Run OLD K times again: what flips without change.", rich_help_panel=options.COMPARE
        ),
    ] = 0,
    noise_run: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A recorded rerun of OLD; repeatable.", rich_help_panel=options.COMPARE),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPR",
            help="Budget: nfr:2%, net:-1%, accuracy:-0.5%, rouge1.regression:0.03, gsm8k/nfr:3%; repeatable.",
            rich_help_panel=options.COMPARE,
        ),
    ] = None,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Draw documents at random until every budget is decided; the verdict holds at every look.",
            rich_help_panel=options.COMPARE,
        ),
    ] = False,
    step: Annotated[
        int | None,
        typer.Option(metavar="N", help="Documents between two looks.  [default: 25]", rich_help_panel=options.COMPARE),
    ] = None,
    max: Annotated[
        int | None,
        typer.Option(metavar="N", help="Draw no more of a task than this.", rich_help_panel=options.COMPARE),
    ] = None,
    advisory: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPR",
            help="A budget that is judged and shown, and bears on no verdict; repeatable.",
            rich_help_panel=options.COMPARE,
        ),
    ] = None,
    required: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK", help="An error where it was not compared; repeatable.", rich_help_panel=options.COMPARE
        ),
    ] = None,
    max_missing: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="No budget passes where more rows than that show nothing.  [default: 2%]",
            rich_help_panel=options.COMPARE,
        ),
    ] = None,
    allow_same: Annotated[
        bool,
        typer.Option("--allow-same", help="OLD and NEW may be the same.", rich_help_panel=options.COMPARE),
    ] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 whatever the verdict.", rich_help_panel=options.COMPARE)
    ] = False,
    id_field: options.IdField = None,
    target_field: options.TargetField = None,
    prediction_field: options.PredictionField = None,
    old_prediction_field: Annotated[str | None, typer.Option(help="Only in OLD.", rich_help_panel=options.ROWS)] = None,
    new_prediction_field: Annotated[str | None, typer.Option(help="Only in NEW.", rich_help_panel=options.ROWS)] = None,
    extract: options.Extract = None,
    targets: options.Targets = None,
    repeats: Annotated[
        str | None,
        typer.Option(metavar="average", help="Rows of one id are samples: average them.", rich_help_panel=options.ROWS),
    ] = None,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Compare without holding all rows in memory; by itself where they are too large.",
            rich_help_panel=options.ROWS,
        ),
    ] = None,
    format: options.Formats = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep report.json, instances.parquet and file formats here."),
    ] = None,
    quiet: options.Quiet = False,
) -> int:
    """Compare OLD and NEW instance by instance: quadrants, flips, gains, verdict.

    Without OLD and NEW every check of compatcheck.toml is run, with one verdict.

    Example: compatcheck diff old-adapter new-adapter --task samsum --fail-on nfr:30% --format html --out report
    """
    given = {
        "task": task,
        "data": data,
        "split": split,
        "limit": limit,
        "sample": sample,
        "num_fewshot": num_fewshot,
        "engine": engine,
        "engine_args": options.parse_pairs("--engine-arg", engine_arg or []),
        "batch_size": options.parse_batch_size(batch_size),
        "dtype": options.check_dtype(dtype),
        "device": device,
        "apply_chat_template": apply_chat_template,
        "fewshot_as_multiturn": fewshot_as_multiturn,
        "trust_remote_code": trust_remote_code,
        "seed": seed,
        "store": options.choose_store(store, no_store),
        "metric": metric,
        "metric_args": options.parse_metric_args(metric_arg or []),
        "lower_is_better": lower_is_better,
        "epsilon": epsilon,
        "correct_at": correct_at,
        "slice_by": slice_by,
        "cluster_by": cluster_by,
        "noise_floor": noise_floor,
        "noise_run": noise_run,
        "fail_on": fail_on,
        "advisory": advisory,
        "required": required,
        "max_missing": max_missing,
        "allow_same": allow_same,
        "until_decided": until_decided,
        "step": step,
        "max": max,
        "id_field": id_field,
        "target_field": target_field,
        "prediction_field": prediction_field,
        "old_prediction_field": old_prediction_field,
        "new_prediction_field": new_prediction_field,
        "extract": extract,
        "targets": targets,
        "repeats": repeats,
        "stream": stream,
        "format": format,
        "out": out,
        "exit_zero": exit_zero,
        "quiet": quiet,
    }
    written = options.written(context, given)
    return run_checks(old, new, check or [], config, written, shlex.join(["compatcheck", *(context.obj or [])]))
