"""``fix``: train a compatibility adapter and prove that it helped; ``train-task``: a base's task adapter."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import typer
from typer import Argument, Option

from compatcheck import option_models, options
from compatcheck.cli.options import Quiet, command_line, progress, speaker, with_options
from compatcheck.cli.output import check_writable, print_untrusted, settings
from compatcheck.errors import ExitCode, InputError


@with_options(options.Fix)
def fix(
    context: typer.Context,
    given: dict[str, Any],
    old: str = Argument(..., metavar="OLD", help="Model folder or hub id, adapter, or BASE+ADAPTER."),
    new: str = Argument(..., metavar="NEW", help="The same kinds; its base gets the new adapter."),
    out: Path = Option(..., metavar="DIR", help="Gets adapter/, the report and the work."),
    quiet: Quiet = False,
) -> int:
    """Train an adapter on NEW's base that gives back negative flips and keeps NEW's gains, then prove it.

    Exits with 0 where what is delivered is proven better than NEW (the control's adapter where plain further training
    is as good), 1 not better, 3 inconclusive. A killed fix is resumed.

    Example: compatcheck fix old-adapter new-adapter --task piqa --preset quick --out fixed
    """
    check_writable(out)
    rank = int(os.environ.get("RANK", "0"))
    quiet = quiet or bool(rank)  # of several processes the first one speaks
    chosen = {**settings(quiet=bool(rank)).fix, **given}
    if not chosen.get("prompts"):
        _check_task(chosen, ", or give prompts of your own with --prompts")
    from compatcheck_train.api import fix as train
    from compatcheck_train.report import fix_to_dict, render_text

    command = command_line(context)
    fixed = train(old, new, out, **chosen, say=speaker(quiet), progress=progress(quiet), command=command)
    if rank:
        return ExitCode.OK
    report = fix_to_dict(fixed, command)
    text = render_text(report)
    print_untrusted(" ".join(text.splitlines()[:2]) if quiet else text)
    if not quiet:
        print(f"kept in {out}: adapter, fix_report.json, fix_report.md, fix_report.html", file=sys.stderr)
    return int(report["exit_code"])


@with_options(options.TrainTask)
def train_task(
    given: dict[str, Any],
    base: str = Argument(..., metavar="BASE", help="Model folder or hub id, without an adapter."),
    out: Path = Option(..., metavar="DIR", help="Gets adapter/, a PEFT folder, and the work."),
    quiet: Quiet = False,
) -> None:
    """Train a task adapter on a base model: next-token loss on context and answer of the task's own training split.

    A killed training is resumed. `compatcheck fix --train-task` does the same for NEW in one go.

    Example: compatcheck train-task old-base --task piqa --out adapters/piqa-old
    """
    check_writable(out)
    _check_task(given)
    from compatcheck_train.examples import load_examples
    from compatcheck_train.settings import settings_of
    from compatcheck_train.training.run import train_task_adapter

    chosen = option_models.build(options.TrainTask, given)
    say = speaker(quiet)
    examples = load_examples(
        chosen.task, data=chosen.data, split=chosen.train_split, limit=chosen.train_limit,
        num_fewshot=chosen.num_fewshot or 0, seed=chosen.seed, overlap="drop" if chosen.drop_overlap else "error",
        trust_task=chosen.trust_task,
    )  # fmt: skip
    for note in examples.notes:
        say(note)
    trained = train_task_adapter(base, examples, settings_of(chosen), out, say=say, progress=progress(quiet))
    print(f"task adapter: {trained.folder}")
    if not quiet:
        kept = next(each for each in trained.history if each["epoch"] == trained.best_epoch)
        loss = f"validation loss {kept['validation_loss']:.4f}"
        print(f"{trained.steps} steps; kept after epoch {trained.best_epoch}, {loss}")


def _check_task(given: dict[str, Any], otherwise: str = "") -> None:
    if not given.get("task"):
        raise InputError(f"--task is missing: name the task to train on (see `compatcheck tasks`){otherwise}")
