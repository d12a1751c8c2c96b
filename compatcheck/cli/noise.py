"""``compatcheck noise``: what flips between runs of one and the same model."""

from __future__ import annotations

from typing import Annotated

import typer

from compatcheck.cli import options
from compatcheck.errors import InputError, did_you_mean


def command(
    reference: Annotated[
        list[str],
        typer.Argument(metavar="REF…", help="A model, adapter or endpoint; or several recorded runs of the same one."),
    ],
    repeats: Annotated[int, typer.Option(help="How often a model is run again.")] = 3,
    task: options.Task = None,
    data: options.Data = None,
    split: options.Split = None,
    limit: options.Limit = None,
    sample: options.Sample = None,
    num_fewshot: options.NumFewshot = None,
    metric: options.Metric = None,
    metric_arg: options.MetricArg = None,
    lower_is_better: options.LowerIsBetter = None,
    epsilon: Annotated[
        float | None, typer.Option(help="A gain within ±X counts as unchanged.  [default: 0; of samples 2.5 errors]")
    ] = None,
    correct_at: Annotated[float | None, typer.Option(help="A score of at least X counts as correct.")] = None,
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
    id_field: options.IdField = None,
    target_field: options.TargetField = None,
    prediction_field: options.PredictionField = None,
    extract: options.Extract = None,
    targets: options.Targets = None,
    format: Annotated[str, typer.Option(metavar="NAME", help="terminal or json.")] = "terminal",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure the noise floor: the flips that happen without any change of the model.

    Example: compatcheck noise old-adapter --task samsum --repeats 3
    """
    from compatcheck.report.summaries import FORMATS, noise_json, noise_text

    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"--format {format}: unknown format{did_you_mean(format, FORMATS)}; known: {known}")
    from compatcheck.noise import measure

    report = measure(
        reference,
        repeats=repeats,
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
        fewshot_as_multiturn=fewshot_as_multiturn,
        trust_remote_code=trust_remote_code,
        seed=seed,
        store=options.choose_store(store, no_store),
        metric=metric,
        metric_args=options.parse_metric_args(metric_arg or []),
        lower_is_better=lower_is_better or (),
        epsilon=epsilon,
        correct_at=correct_at,
        id_field=id_field,
        target_field=target_field,
        prediction_field=prediction_field,
        extract=extract,
        targets=targets,
        say=options.speaker(quiet),
        progress=options.progress(quiet),
    )
    typer.echo(noise_json(report) if format == "json" else noise_text(report))
