"""``run``, ``noise``, ``bless``, ``export``: commands about one reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from typer import Argument, Option

from compatcheck import config, options
from compatcheck.cli.options import Quiet, TextOrJson, check_format, command_line, progress, speaker, with_options
from compatcheck.cli.output import check_writable, print_line, print_spelled, print_untrusted, settings
from compatcheck.errors import ExitCode, InputError
from compatcheck.paths import from_here

_REF = "Model, adapter, BASE+ADAPTER, http://HOST/v1#MODEL, recorded outputs or a kept run"


@with_options(options.Run)
def run(
    context: typer.Context,
    given: dict[str, Any],
    reference: str = Argument(..., metavar="REF", help=f"{_REF}; {{task}} as in diff."),
    out: Path = Option(..., metavar="DIR", help="Keep the run here; an older kept run is replaced."),
    format: TextOrJson = "terminal",
    quiet: bool = Option(False, "--quiet", "-q", metavar="", help="Print only where the run is kept; no progress."),
) -> int:
    """Evaluate REF and keep the run, which then serves as OLD or NEW anywhere.

    Example: compatcheck run old-adapter --task samsum --out runs/old
    """
    check_format(format)
    check_writable(out)
    from compatcheck import api
    from compatcheck.report.summaries import render_run, run_to_json
    from compatcheck.table.kept import check_folder, read_manifest

    check_folder(out)
    made = api.evaluate(reference, **given, command=command_line(context), say=speaker(quiet), progress=progress(quiet))
    made.save(out)
    if format == "json":
        print_spelled(run_to_json(read_manifest(out), made.scores), "json")
    elif not quiet:
        print_untrusted(render_run(made, made.scores))
    print(f"kept in {out}", file=sys.stderr if format == "json" or not quiet else sys.stdout)
    return ExitCode.OK


@with_options(options.Noise)
def noise(
    given: dict[str, Any],
    reference: list[str] = Argument(..., metavar="REF…", help="A model or endpoint; or several recorded runs of one."),
    format: TextOrJson = "terminal",
    quiet: Quiet = False,
) -> None:
    """Measure the noise floor: the flips that happen without any change of the model.

    Example: compatcheck noise old-adapter --task samsum --repeats 3
    """
    check_format(format)
    from compatcheck import api
    from compatcheck.report.summaries import noise_json, noise_text

    report = api.noise(reference, **given, say=speaker(quiet), progress=progress(quiet))
    typer.echo(noise_json(report) if format == "json" else noise_text(report))


@with_options(options.Bless)
def bless(
    context: typer.Context,
    given: dict[str, Any],
    reference: str | None = Argument(None, metavar="[REF]", help=f"{_REF}."),
    name: str = Option("main", "--as", metavar="NAME", help="Name of the baseline: OLD is then @NAME."),
    force: bool = Option(
        False, "--force", metavar="", help="Bless it although its gate fails.", rich_help_panel=options.COMPARE
    ),
    history: bool = Option(False, "--history", metavar="", help="Show what was blessed, and bless nothing."),
    quiet: Quiet = False,
) -> int:
    """Keep a run as the baseline @NAME, unless it fails its budgets against the present one.

    Example: compatcheck bless runs/new --as main --fail-on nfr:2%, then compatcheck diff @main newer-model
    """
    if history:
        from compatcheck import baselines
        from compatcheck.report.summaries import render_history

        print(render_history(baselines.check_name(name), baselines.history(name)))
        return ExitCode.OK
    if reference is None:
        raise InputError("REF is missing: name a model, recorded outputs or a kept run to bless")
    settled = config.only(options.Bless, config.settle(settings().options, given))
    from compatcheck import api

    done = api.bless(
        reference, name, **settled, force=force, command=command_line(context), say=speaker(quiet),
        progress=progress(quiet),
    )  # fmt: skip
    if done.diff is not None:
        from compatcheck.report import render

        print_spelled(render(done.diff, "terminal", quiet=True), "text")
    if done.folder is None or done.entry is None:
        print(f"not blessed: the gate against @{done.name} fails; --force blesses it all the same", file=sys.stderr)
        return ExitCode.REGRESSION
    print_line(f"@{done.name} is now {done.entry.reference} (kept in {from_here(done.folder)})", sys.stdout)
    return ExitCode.OK


@with_options(options.Export)
def export(
    given: dict[str, Any],
    reference: str = Argument(..., metavar="RUN", help="A kept run, recorded outputs, or @name."),
    to: str = Option(
        ..., "--to", metavar="FORMAT", help="lm-eval, parquet, csv (safe to open in a spreadsheet), plain-csv or jsonl."
    ),
    out: Path = Option(..., metavar="PATH", help="File ({task} in it: one a task), or folder for lm-eval."),
    quiet: bool = Option(False, "--quiet", "-q", metavar="", help="Print nothing."),
) -> int:
    """Write RUN for other tools; what is written compares as RUN does.

    Example: compatcheck export runs/old --to lm-eval --out old-samples
    """
    from compatcheck import api
    from compatcheck.table.export import check_export, export_run

    check_export(reference, to)
    made = api.evaluate(reference, **given, say=speaker(quiet))
    files = export_run(made, to, out)
    if not quiet:
        for file in files:
            print_line(str(file), sys.stdout)
        for note in made.notes:
            print_line(note)
    return ExitCode.OK
