"""``compatcheck train-task``: the task adapter of a base model, which ``fix`` compares and repairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from compatcheck.cli import options
from compatcheck.cli.output import check_writable


def command(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Model folder or hub id, without an adapter.")],
    task: Annotated[str, typer.Option(help="The task to train on.", rich_help_panel=options.WHAT)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets adapter/, a PEFT folder, and the work.")],
    data: options.Data = None,
    train_split: Annotated[
        str | None, typer.Option(help="Split to train on.  [default: the task's]", rich_help_panel=options.WHAT)
    ] = None,
    train_limit: Annotated[
        int | None, typer.Option(help="Training documents at most.", rich_help_panel=options.WHAT)
    ] = None,
    num_fewshot: options.NumFewshot = None,
    drop_overlap: Annotated[
        bool,
        typer.Option("--drop-overlap", help="Leave out what the test split holds too.", rich_help_panel=options.WHAT),
    ] = False,
    preset: Annotated[str, typer.Option(help="paper or quick.")] = "paper",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="Any training setting: learning_rate=1e-4.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of split, order and training.")] = 0,
    device: options.Device = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a task adapter on a base model: next-token loss on context and answer of the task's own training split.

    A killed training goes on where it was. `compatcheck fix --train-task` does the same for NEW in one go.

    Example: compatcheck train-task old-base --task piqa --out adapters/piqa-old
    """
    check_writable(out)
    from compatcheck_train import preset as settings_of
    from compatcheck_train.examples import load_examples
    from compatcheck_train.training.run import train_task_adapter

    further: dict[str, Any] = options.parse_pairs("--set", set_ or [])
    given = {"seed": seed, "device": device, "trust_remote_code": trust_remote_code}
    settings = settings_of(preset, **{**given, **further})
    say = options.speaker(quiet)
    examples = load_examples(
        task, data=data, split=train_split, limit=train_limit, num_fewshot=num_fewshot or 0, seed=settings.seed,
        overlap="drop" if drop_overlap else "error",
    )  # fmt: skip
    for note in examples.notes:
        say(note)
    trained = train_task_adapter(base, examples, settings, out, say=say, progress=options.progress(quiet))
    print(f"task adapter: {trained.folder}")
    if not quiet:
        kept = next(each for each in trained.history if each["epoch"] == trained.best_epoch)
        loss = f"validation loss {kept['validation_loss']:.4f}"
        print(f"{trained.steps} steps; kept after epoch {trained.best_epoch}, {loss}")
