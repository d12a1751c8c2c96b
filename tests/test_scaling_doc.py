"""The commands of docs/scaling.md are commands of this version."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from compatcheck import option_kinds as options
from compatcheck.cli.app import app

TEXT = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text(encoding="utf-8")


def shown() -> list[list[str]]:
    """Arguments of every command of the page, those of the manifest included."""
    lines = re.findall(r"^    compatcheck (.+)$", TEXT, re.MULTILINE)
    manifests = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
    containers = [one for job in manifests for one in job["spec"]["template"]["spec"]["containers"]]
    assert all(one["command"] == ["compatcheck"] for one in containers)
    return [*map(shlex.split, lines), *([str(word) for word in one["args"]] for one in containers)]


def test_there_are_commands() -> None:
    assert len(shown()) >= 13
    assert {words[0] for words in shown()} == {"run", "diff", "report"}


@pytest.mark.parametrize("words", shown(), ids=" ".join)
def test_every_command_is_understood(words: list[str]) -> None:
    """Parsed with all its options, not run: models and machines of the page are not here."""
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    given = command.make_context(words[0], words[1:]).params
    pairs = options.parse_pairs("--engine-arg", given.get("engine_args") or [])
    assert all(
        isinstance(pairs.get(name, 1), int) for name in ("tensor_parallel_size", "data_parallel_size", "workers")
    )
    assert given.get("engine") in (None, "auto", "hf", "vllm", "ray")


def test_the_parser_would_notice() -> None:
    command = typer.main.get_command(app).commands["diff"]  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="No such option"):
        command.make_context("diff", ["a", "b", "--streamed"])
