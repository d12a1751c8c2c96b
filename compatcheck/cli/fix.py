"""``compatcheck fix``: train a compatibility adapter, and prove that it helped."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from compatcheck import config
from compatcheck.cli import options
from compatcheck.cli.output import check_writable, print_untrusted
from compatcheck.errors import ExitCode, InputError

_METHOD, _TRAINING, _PROOF = "Method", "Training", "Proof"


def command(
    context: typer.Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="Model folder or hub id, adapter, or BASE+ADAPTER.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The same kinds; its base gets the new adapter.")],
    task: Annotated[str, typer.Option(help="The task to train on and to prove it on.", rich_help_panel=options.WHAT)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets adapter/, the report and the work.")],
    data: options.Data = None,
    train_split: Annotated[
        str | None, typer.Option(help="Split to train on.  [default: the task's]", rich_help_panel=options.WHAT)
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the proof.", rich_help_panel=options.WHAT)] = None,
    dev: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT|FILE|held-out",
            help="Documents to choose on.  [default: a quarter of the evaluation split, the proof is on the rest]",
            rich_help_panel=options.WHAT,
        ),
    ] = None,
    train_limit: Annotated[
        int | None, typer.Option(help="Training documents at most.", rich_help_panel=options.WHAT)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Test documents at most.", rich_help_panel=options.WHAT)] = None,
    num_fewshot: options.NumFewshot = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Further inputs without targets, JSONL.", rich_help_panel=options.WHAT),
    ] = None,
    drop_overlap: Annotated[
        bool,
        typer.Option("--drop-overlap", help="Leave out what the test split holds too.", rich_help_panel=options.WHAT),
    ] = False,
    metric: Annotated[
        str, typer.Option(help="The one that counts.  [default: the task's first]", rich_help_panel=options.WHAT)
    ] = "",
    strategy: Annotated[
        str, typer.Option(help="auto, a strategy of docs/fix.md, or FIRST+STRATEGY.", rich_help_panel=_METHOD)
    ] = "auto",
    strategy_arg: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="An option of it; repeatable.", rich_help_panel=_METHOD)
    ] = None,
    candidate: Annotated[
        list[str] | None, typer.Option(help="What auto tries; repeatable.", rich_help_panel=_METHOD)
    ] = None,
    trial_share: Annotated[
        float | None,
        typer.Option(help="Share of the steps of a trial.  [default: 0.2; 1 if quick]", rich_help_panel=_METHOD),
    ] = None,
    finalists: Annotated[
        int, typer.Option(help="Candidates of auto that are trained in full.", rich_help_panel=_METHOD)
    ] = 2,
    tokens: Annotated[str, typer.Option(help="Loss on all or answer tokens.", rich_help_panel=_METHOD)] = "all",
    context_weight: Annotated[
        float | None, typer.Option(help="Weight of a context token beside an answer's.", rich_help_panel=_METHOD)
    ] = None,
    temperature: Annotated[float, typer.Option(help="T of the divergence.", rich_help_panel=_METHOD)] = 2.0,
    ce_weight: Annotated[
        float | None, typer.Option(help="Share of cross-entropy.  [default: the strategy's]", rich_help_panel=_METHOD)
    ] = None,
    blend: Annotated[
        str, typer.Option(metavar="A|auto|none", help="Weight of compat beside NEW.", rich_help_panel=_METHOD)
    ] = "auto",
    blend_method: Annotated[
        str, typer.Option(help="exact, or one of PEFT's merging methods.", rich_help_panel=_METHOD)
    ] = "exact",
    init: Annotated[str, typer.Option(help="Start as new, or transfer OLD's update.", rich_help_panel=_METHOD)] = "new",
    train_task: Annotated[
        bool, typer.Option("--train-task", help="NEW is a base: train its task adapter first.", rich_help_panel=_METHOD)
    ] = False,
    preset: Annotated[str, typer.Option(help="paper or quick.", rich_help_panel=_TRAINING)] = "paper",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="K=V", help="Any training setting: learning_rate=1e-4.", rich_help_panel=_TRAINING
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of split, order and training.", rich_help_panel=_TRAINING)] = 0,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="K", help="Trainings behind the proof.  [default: 1]", rich_help_panel=_PROOF),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", help="By so much the score may be below NEW's.  [default: 1]", rich_help_panel=_PROOF
        ),
    ] = None,
    teacher: Annotated[
        str, typer.Option(help="cache (old runs once and is freed), online or auto.", rich_help_panel=_TRAINING)
    ] = "auto",
    report_to: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb, trackio; repeatable.", rich_help_panel=_TRAINING)
    ] = None,
    control: Annotated[
        str, typer.Option(help="Control at equal steps, or none.", rich_help_panel=_PROOF)
    ] = "continue-ce",
    force: Annotated[
        bool, typer.Option("--force", help="Go on with a poor old model.", rich_help_panel=_PROOF)
    ] = False,
    engine: options.Engine = "auto",
    engine_arg: options.EngineArg = None,
    batch_size: options.BatchSize = "auto",
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    trust_remote_code: options.TrustRemoteCode = False,
    store: options.Store = None,
    no_store: options.NoStore = False,
    quiet: options.Quiet = False,
) -> int:
    """Train an adapter on NEW's base that gives back negative flips and keeps NEW's gains, then prove it.

    Exits with 0 where what is delivered is proven better than NEW (the control's adapter where plain further training
    is as good), 1 not better, 3 inconclusive. A killed fix goes on where it was.

    Example: compatcheck fix old-adapter new-adapter --task piqa --preset quick --out fixed
    """
    check_writable(out)
    quiet = quiet or bool(int(os.environ.get("RANK", "0")))  # of several processes the first one speaks
    from compatcheck.evaluation.evaluate import EngineOptions
    from compatcheck_train.fix.judging import Judge
    from compatcheck_train.fix.request import FixRequest
    from compatcheck_train.fix.run import fix
    from compatcheck_train.report import render_text, save
    from compatcheck_train.settings import TRIAL_SHARES
    from compatcheck_train.settings import preset as settings_of

    given: dict[str, Any] = {
        "tokens": tokens, "context_weight": context_weight, "temperature": temperature, "ce_weight": ce_weight,
        "teacher": teacher, "seed": seed, "report_to": tuple(report_to or ()), "device": device,
        "strategy_options": options.parse_pairs("--strategy-arg", strategy_arg or []),
        "trust_remote_code": trust_remote_code,
    }  # fmt: skip
    further = options.parse_pairs("--set", set_ or [])
    asked = {"seeds": seeds, "margin": margin}
    usual = {**config.load().fix, **{name: value for name, value in asked.items() if value is not None}}
    request = FixRequest(
        old=old,
        new=new,
        judge=Judge(
            task=task,
            data=data,
            split=split,
            dev=dev,
            num_fewshot=num_fewshot,
            limit=limit,
            metric=metric,
            engine=EngineOptions(
                engine,
                options.parse_pairs("--engine-arg", engine_arg or []),
                options.parse_batch_size(batch_size),
                options.check_dtype(dtype),
                device,
                trust_remote_code=trust_remote_code,
            ),
            store=options.choose_store(store, no_store),
        ),
        settings=settings_of(preset, **{**given, **further}),
        strategy=strategy,
        candidates=tuple(candidate or ()),
        trial_share=TRIAL_SHARES[preset] if trial_share is None else trial_share,
        finalists=finalists,
        blend=_blend(blend),
        blend_method=blend_method,
        control=None if control == "none" else control,
        init=init,
        train_task=train_task,
        unlabelled=unlabelled,
        train_split=train_split,
        train_limit=train_limit,
        overlap="drop" if drop_overlap else "error",
        force=force,
        margin=usual.get("margin", 1) / 100,
        seeds=usual.get("seeds", 1),
    )
    fixed = fix(request, out, say=options.speaker(quiet), progress=options.progress(quiet))
    if int(os.environ.get("RANK", "0")):
        return ExitCode.OK  # and reports
    report = save(fixed, out, shlex.join(["compatcheck", *(context.obj or [])]))
    text = render_text(report)
    print_untrusted(" ".join(text.splitlines()[:2]) if quiet else text)
    if not quiet:
        print(f"kept in {out}: adapter, fix_report.json, fix_report.md, fix_report.html", file=sys.stderr)
    return int(report["exit_code"])


def _blend(text: str) -> str | float | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--blend {text}: give a number such as 0.75 or 1.25, auto or none") from None
