"""``compatcheck diff``: compare an old and a new model."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from compatcheck.cli import options
from compatcheck.cli.output import check_writable, emit

_WHAT, _ENGINE, _COMPARE, _ROWS, _OUT = "What", "Engine", "Comparison and gate", "Recorded outputs", "Output"


def command(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="Model, adapter, BASE+ADAPTER or recorded outputs.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same kinds. {task} stands for the task's name.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="Bundled, lm-eval's (task or group), or a YAML file; repeatable.", rich_help_panel=_WHAT),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Local JSONL(.gz) in place of hub data: a file, or a folder with <task>/<split>.jsonl[.gz].",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to evaluate.", rich_help_panel=_WHAT)] = None,
    limit: Annotated[int | None, typer.Option(help="The first N documents.", rich_help_panel=_WHAT)] = None,
    sample: Annotated[
        int | None, typer.Option(help="N documents drawn at random with --seed.", rich_help_panel=_WHAT)
    ] = None,
    num_fewshot: Annotated[int | None, typer.Option(help="Examples in the prompt.", rich_help_panel=_WHAT)] = None,
    engine: Annotated[str, typer.Option(help="auto, hf, or any lm-eval backend.", rich_help_panel=_ENGINE)] = "auto",
    engine_arg: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Passed to the engine; repeatable.", rich_help_panel=_ENGINE)
    ] = None,
    batch_size: Annotated[str, typer.Option(metavar="N|auto", help="Sequences at a time.", rich_help_panel=_ENGINE)] = (
        "auto"
    ),
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.", rich_help_panel=_ENGINE)] = "auto",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps; found by itself.", rich_help_panel=_ENGINE)
    ] = None,
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="Use the model's chat template.", rich_help_panel=_ENGINE)
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.", rich_help_panel=_ENGINE)
    ] = False,
    seed: Annotated[
        int, typer.Option(help="For few-shot examples, --sample and bootstrap.", rich_help_panel=_ENGINE)
    ] = 1234,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Of the task, or exact_match, rouge1, rouge2, rougeL, bertscore, bleu, chrf, score; repeatable. "
            "[default: the task's own]",
            rich_help_panel=_COMPARE,
        ),
    ] = None,
    metric_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="M.K=V", help="Setting of a metric: rouge1.use_stemmer=true.", rich_help_panel=_COMPARE),
    ] = None,
    epsilon: Annotated[
        float, typer.Option(help="A gain within ±X counts as unchanged.", rich_help_panel=_COMPARE)
    ] = 0.0,
    correct_at: Annotated[
        float | None, typer.Option(help="A score of at least X counts as correct.", rich_help_panel=_COMPARE)
    ] = None,
    slice_by: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Break down by a field.", rich_help_panel=_COMPARE)
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXPR",
            help="Budget: nfr:2%, net:-1%, accuracy:-0.5%, rouge1.regression:0.03, gsm8k/nfr:3%; repeatable.",
            rich_help_panel=_COMPARE,
        ),
    ] = None,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 whatever the verdict.", rich_help_panel=_COMPARE)
    ] = False,
    id_field: Annotated[str | None, typer.Option(help="Dotted: meta.id.", rich_help_panel=_ROWS)] = None,
    target_field: Annotated[str | None, typer.Option(help="Dotted.", rich_help_panel=_ROWS)] = None,
    prediction_field: Annotated[str | None, typer.Option(help="Dotted, on both sides.", rich_help_panel=_ROWS)] = None,
    old_prediction_field: Annotated[str | None, typer.Option(help="Only in OLD.", rich_help_panel=_ROWS)] = None,
    new_prediction_field: Annotated[str | None, typer.Option(help="Only in NEW.", rich_help_panel=_ROWS)] = None,
    extract: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Answer = group 1 of the last match, on both sides.", rich_help_panel=_ROWS),
    ] = None,
    targets: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the targets from this file, by id.", rich_help_panel=_ROWS)
    ] = None,
    format: options.Formats = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep report.json, instances.parquet and file formats here."),
    ] = None,
    quiet: options.Quiet = False,
) -> int:
    """Compare OLD and NEW instance by instance: quadrants, flips, gains, verdict.

    Example: compatcheck diff old-adapter new-adapter --task samsum --fail-on nfr:30% --format html --out report
    """
    formats = options.check_formats(format)
    check_writable(out)
    from compatcheck import api

    result = api.diff(
        old,
        new,
        task=task,
        data=data,
        split=split,
        limit=limit,
        sample=sample,
        num_fewshot=num_fewshot,
        engine=engine,
        engine_args=options.parse_pairs("--engine-arg", engine_arg or []),
        batch_size=options.parse_batch_size(batch_size),
        dtype=options.check_dtype(dtype),
        device=device,
        apply_chat_template=apply_chat_template,
        trust_remote_code=trust_remote_code,
        seed=seed,
        metric=metric,
        metric_args=options.parse_metric_args(metric_arg or []),
        epsilon=epsilon,
        correct_at=correct_at,
        slice_by=slice_by or [],
        fail_on=fail_on or [],
        id_field=id_field,
        target_field=target_field,
        prediction_field=prediction_field,
        old_prediction_field=old_prediction_field,
        new_prediction_field=new_prediction_field,
        extract=extract,
        targets=targets,
        say=options.speaker(quiet),
        progress=options.progress(quiet),
    )
    result = replace(result, command=shlex.join(["compatcheck", *(context.obj or [])]))
    return emit(result, formats=formats, out=out, quiet=quiet, exit_zero=exit_zero)
