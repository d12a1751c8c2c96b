"""``compatcheck run``: evaluate one reference and keep the run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from compatcheck.cli import options
from compatcheck.cli.output import check_writable, print_spelled, print_untrusted
from compatcheck.errors import InputError, did_you_mean


def command(
    context: typer.Context,
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="Model, adapter, BASE+ADAPTER, http://HOST/v1#MODEL or recorded outputs; {task} as in diff.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Keep the run here; an older kept run is replaced.")],
    task: options.Task = None,
    data: options.Data = None,
    split: options.Split = None,
    limit: options.Limit = None,
    sample: options.Sample = None,
    num_fewshot: options.NumFewshot = None,
    metric: options.Metric = None,
    metric_arg: options.MetricArg = None,
    lower_is_better: options.LowerIsBetter = None,
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
    lm_eval_log: Annotated[
        bool, typer.Option("--lm-eval-log", help="Add what lm-eval writes with --log_samples, in DIR/lm-eval.")
    ] = False,
    format: Annotated[str, typer.Option(metavar="NAME", help="terminal or json (manifest and scores).")] = "terminal",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only where the run is kept; no progress.")
    ] = False,
) -> int:
    """Evaluate REF and keep the run, which then serves as OLD or NEW anywhere.

    Example: compatcheck run old-adapter --task samsum --out runs/old
    """
    from compatcheck.report.summaries import FORMATS, render_run, run_to_json

    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"--format {format}: unknown format{did_you_mean(format, FORMATS)}; known: {known}")
    check_writable(out)
    from compatcheck import evaluated as evaluation
    from compatcheck.table.kept import check_folder, read_manifest

    check_folder(out)
    run = evaluation.evaluate(
        reference,
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
        id_field=id_field,
        target_field=target_field,
        prediction_field=prediction_field,
        extract=extract,
        targets=targets,
        lm_eval_log=lm_eval_log,
        command=shlex.join(["compatcheck", *(context.obj or [])]),
        say=options.speaker(quiet),
        progress=options.progress(quiet),
    )
    run.save(out)
    if format == "json":
        print_spelled(run_to_json(read_manifest(out), run.scores), "json")
    elif not quiet:
        print_untrusted(render_run(run, run.scores))
    print(f"kept in {out}", file=sys.stderr if format == "json" or not quiet else sys.stdout)
    return 0
