"""``compatcheck export``: recorded outputs or a kept run in a format that other tools read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from compatcheck.cli import options


def command(
    reference: Annotated[str, typer.Argument(metavar="RUN", help="A kept run, recorded outputs, or @name.")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="lm-eval, parquet, csv or jsonl.")],
    out: Annotated[
        Path,
        typer.Option(metavar="PATH", help="File of the table, {task} in it for one file a task; folder for lm-eval."),
    ],
    task: options.Task = None,
    limit: options.Limit = None,
    metric: options.Metric = None,
    id_field: options.IdField = None,
    target_field: options.TargetField = None,
    prediction_field: options.PredictionField = None,
    extract: options.Extract = None,
    targets: options.Targets = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.")] = False,
) -> int:
    """Write RUN for other tools; what is written compares as RUN does.

    Example: compatcheck export runs/old --to lm-eval --out old-samples
    """
    from compatcheck import evaluated as evaluation
    from compatcheck.table.export import check_export, export_run

    check_export(reference, to)
    run = evaluation.evaluate(
        reference,
        task=task,
        limit=limit,
        metric=metric,
        id_field=id_field,
        target_field=target_field,
        prediction_field=prediction_field,
        extract=extract,
        targets=targets,
        say=options.speaker(quiet),
    )
    files = export_run(run, to, out)
    if not quiet:
        for path in files:
            print(path, file=sys.stdout)
        for note in run.notes:
            print(note, file=sys.stderr)
    return 0
