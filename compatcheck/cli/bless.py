"""``compatcheck bless``: keep a run under a name, so that ``@name`` is the baseline from then on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from compatcheck import checks, config
from compatcheck.cli import options
from compatcheck.cli.output import print_spelled
from compatcheck.errors import ExitCode, InputError


def command(
    context: typer.Context,
    reference: Annotated[
        str | None,
        typer.Argument(metavar="[REF]", help="Model, adapter, BASE+ADAPTER, endpoint, recorded outputs or a kept run."),
    ] = None,
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Name of the baseline: OLD is then @NAME.")
    ] = "main",
    task: options.Task = None,
    data: options.Data = None,
    split: options.Split = None,
    limit: options.Limit = None,
    sample: options.Sample = None,
    num_fewshot: options.NumFewshot = None,
    metric: options.Metric = None,
    lower_is_better: options.LowerIsBetter = None,
    engine: options.Engine = "auto",
    engine_arg: options.EngineArg = None,
    batch_size: options.BatchSize = "auto",
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    seed: options.Seed = 1234,
    store: options.Store = None,
    no_store: options.NoStore = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPR", help="Budget against the run blessed before.", rich_help_panel=options.COMPARE),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Bless it although its gate fails.", rich_help_panel=options.COMPARE)
    ] = False,
    history: Annotated[bool, typer.Option("--history", help="Show what was blessed, and bless nothing.")] = False,
    quiet: options.Quiet = False,
) -> int:
    """Keep a run as the baseline @NAME, unless it fails its budgets against the present one.

    Example: compatcheck bless runs/new --as main --fail-on nfr:2%, then compatcheck diff @main newer-model
    """
    from compatcheck.report.summaries import render_history

    if history:
        from compatcheck import baselines

        print(render_history(baselines.check_name(name), baselines.history(name)))
        return ExitCode.OK
    if reference is None:
        raise InputError("REF is missing: name a model, recorded outputs or a kept run to bless")
    given = {
        "task": task, "data": data, "split": split, "limit": limit, "sample": sample, "num_fewshot": num_fewshot,
        "metric": metric, "lower_is_better": lower_is_better, "engine": engine,
        "engine_args": options.parse_pairs("--engine-arg", engine_arg or []),
        "batch_size": options.parse_batch_size(batch_size), "dtype": options.check_dtype(dtype), "device": device,
        "seed": seed, "store": options.choose_store(store, no_store), "fail_on": fail_on,
    }  # fmt: skip
    settled = checks.settle(config.load().options, options.written(context, given))
    from compatcheck import blessing
    from compatcheck import evaluated as evaluation

    rest = {key: value for key, value in settled.items() if key not in (*checks.PRESENTATION, *checks.OF_TWO)}
    run = evaluation.evaluate(
        reference,
        **rest,
        command=shlex.join(["compatcheck", *(context.obj or [])]),
        say=options.speaker(quiet),
        progress=options.progress(quiet),
    )
    rules = settled.get("fail_on") or []
    few = {"max_missing": settled["max_missing"]} if "max_missing" in settled else {}
    done = blessing.bless(run, name, fail_on=[rules] if isinstance(rules, str) else rules, force=force, **few)
    if done.diff is not None:
        from compatcheck.report import render

        print_spelled(render(done.diff, "terminal", quiet=True), "text")
    if done.entry is None:
        print(f"not blessed: the gate against @{done.name} fails; --force blesses it all the same", file=sys.stderr)
        return ExitCode.REGRESSION
    print(f"@{done.name} is now {run.manifest.reference} (kept in {_short(done.folder)})")
    return ExitCode.OK


def _short(folder: Path | None) -> str:
    assert folder is not None
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)
