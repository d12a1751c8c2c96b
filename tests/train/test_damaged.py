"""Training refuses a damaged model as evaluating does: one line that names the file, exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from compatcheck.cli.app import run
from tests import tiny


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGE: list[tuple[str, Callable[[Path], None]]] = [
    ("config.json", lambda base: edit(base / "config.json", num_key_value_heads={"value": 2})),
    ("config.json", lambda base: edit(base / "config.json", num_hidden_layers=3)),
    ("config.json", lambda base: edit(base / "config.json", hidden_size=64)),
    ("tokenizer.json", lambda base: edit(base / "tokenizer.json", version=None)),
    ("generation_config.json", lambda base: (base / "generation_config.json").write_text("[]") and None),
    ("model.safetensors", lambda base: (base / "model.safetensors").write_bytes(b"\0" * 40) and None),
]


@pytest.mark.parametrize(("file", "damage"), DAMAGE, ids=[f"{n}-{file}" for n, (file, _) in enumerate(DAMAGE)])
def test_a_damaged_base_is_refused(
    file: str, damage: Callable[[Path], None], fixtures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = tiny.tokenizer()
    base = tiny.save(tiny.llama(words), words, tmp_path / "base")
    damage(base)
    given = [
        "train-task",
        str(base),
        "--task",
        "piqa",
        "--data",
        str(fixtures / "data"),
        "--out",
        str(tmp_path / "out"),
    ]
    capfd.readouterr()
    assert run(given) == 2
    line = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error", "internal"))]
    assert len(line) == 1
    assert line[0].startswith("error: ")
    assert file in line[0]
