"""The compatibility section of a model card: what it says, and that it touches nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from compatcheck.cli.app import run
from compatcheck.compare.result import Result
from compatcheck.errors import InputError
from compatcheck.report import card, save

EXISTING = """---
# why this licence: see the paper
license: apache-2.0
tags: [summaries,   "compat"]
model-index:
- name: summaries
  results: []
---

# Summaries\x20\x20

Written by hand,  with trailing spaces.\x20\x20
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_bytes(EXISTING.encode())
    return folder


def test_what_the_section_says(failing: Result, several: Result) -> None:
    for result in (failing, several):
        text = card.section(result)
        for comparison in result.comparisons:
            assert text.count(card.escape(comparison.signature)) == 1
            assert f"{comparison.quadrants['negative_flip']:,} (" in text
            nfr = comparison.metrics["nfr"]
            assert f"{card.figures.estimate('nfr', nfr)} ({card.figures.interval('nfr', nfr)})" in text
    text = card.section(failing)
    assert "❌ **FAIL**" in text
    assert all(card.escape(gate.rule) in text for gate in failing.comparisons[0].gates)
    assert text.startswith(card.START)
    assert text.endswith(card.END)


def test_release_advice(failing: Result) -> None:
    from compatcheck.compare.result import Advice

    assert "**Release advice: major version bump**, worse" in card.section(
        replace(failing, advice=Advice("major", "worse"))
    )
    assert "Release advice" not in card.section(replace(failing, advice=None))


def test_every_other_byte_stays(model: Path, failing: Result, several: Result) -> None:
    path = card.write(failing, model)
    once = path.read_bytes()
    assert once.startswith(EXISTING.encode() + b"\n" + card.START.encode())
    card.write(failing, model)
    assert path.read_bytes() == once
    path.write_bytes(once + b"\nMore, below.\n")
    card.write(several, model)
    text = path.read_text()
    assert text.startswith(EXISTING)
    assert text.endswith(f"{card.END}\n\nMore, below.\n")
    assert text.count(card.START) == 1
    assert card.section(several) in text
    read = ModelCard.load(path)
    assert read.data.to_dict() == yaml.safe_load(EXISTING.split("---")[1])
    assert [p.name for p in model.iterdir()] == ["README.md"]


def test_line_breaks_and_marks_of_the_file_are_kept(failing: Result) -> None:
    windows = EXISTING.replace("\n", "\r\n")
    made = card.insert("\ufeff" + windows, card.section(failing))
    assert made.startswith("\ufeff" + windows)
    assert "\n" not in made.replace("\r\n", "")
    assert card.insert(made, card.section(failing)) == made
    assert card.insert("no line feed at the end", "x") == "no line feed at the end\n\nx\n"


def test_a_model_without_a_card_gets_one(tmp_path: Path, failing: Result) -> None:
    folder = tmp_path / "adapter<b>"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/base-7b"}')
    read = ModelCard.load(card.write(failing, folder))
    assert read.data.to_dict() == {"base_model": "acme/base-7b", "library_name": "peft", "tags": ["compatcheck"]}
    assert "# <code>adapter&#60;b&#62;</code>" in read.text
    (folder / "README.md").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/home/me/base"}')
    assert "/home/me" not in card.write(failing, folder).read_text()


def test_names_and_outputs_are_text(model: Path, hostile: Result) -> None:
    bad = f"x{card.END}\n{card.START} | <script>alert(1)</script> [a](http://b) @everyone\n---\nlicense: other\n---"
    sides = {"old": replace(hostile.old, reference=bad), "new": replace(hostile.new, reference=bad)}
    result = replace(hostile, **sides, notes=(bad,))
    path = card.write(result, model)
    again = card.write(result, model)
    text = again.read_text()
    assert path == again
    assert (text.count(card.START), text.count(card.END)) == (1, 1)
    body = text[len(EXISTING) :].replace(card.START, "").replace(card.END, "")
    assert "<script" not in body
    assert "](http" not in body
    assert "@everyone" not in body
    assert "\n---" not in body
    assert set(re.findall(r"<[^>]*>", body)) <= {"<code>", "</code>"}
    assert ModelCard.load(path).data.license == "apache-2.0"
    for line in body.splitlines():
        if line.startswith("| ") and "FAIL" not in line:
            assert line.endswith(" |")


def test_sides_can_be_named(failing: Result) -> None:
    text = card.section(failing, old="acme/v1", new="acme/v2")
    assert "Compatibility with <code>acme/v1</code>" in text
    assert card.escape(failing.old.reference) not in text
    assert card.escape(failing.new.reference) not in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"a\n{card.START}\nb\n", r"README.md:2: one <!-- compatcheck:start"),
        (f"{card.END}\n{card.START}\n", "README.md:1: one"),
        (f"{card.START}\n{card.END}\n" * 2, "remove the others"),
        ("---\na: [\n---\ntext\n", "metadata block cannot be read"),
        ("---\n- a\n---\ntext\n", "metadata block cannot be read"),
    ],
)
def test_cards_that_cannot_be_written_stay_as_they_are(model: Path, failing: Result, content: str, says: str) -> None:
    (model / "README.md").write_text(content)
    with pytest.raises(InputError, match=says):
        card.write(failing, model)
    assert (model / "README.md").read_text() == content
    assert [p.name for p in model.iterdir()] == ["README.md"]


def test_only_folders_of_models(tmp_path: Path, failing: Result) -> None:
    with pytest.raises(InputError, match="no such folder"):
        card.write(failing, tmp_path / "none")
    with pytest.raises(InputError, match=r"neither README.md nor config.json nor adapter_config.json"):
        card.write(failing, tmp_path)
    (tmp_path / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        card.write(failing, tmp_path)


def test_the_command(tmp_path: Path, model: Path, failing: Result, capsys: pytest.CaptureFixture[str]) -> None:
    save(failing, tmp_path / "kept", [])
    assert run(["card", str(tmp_path / "kept")]) == 0
    assert capsys.readouterr().out.startswith(card.START)
    assert (model / "README.md").read_text() == EXISTING
    assert run(["card", str(tmp_path / "kept"), str(model), "--old", "acme/v1"]) == 0
    assert "acme/v1" in (model / "README.md").read_text()
    assert run(["card", str(tmp_path / "nothing"), str(model)]) == 2
    assert run(["card", str(tmp_path / "kept"), "--push", "not an id"]) == 2
    assert "write the id of a model on the hub as owner/name" in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path, failing: Result) -> None:
    """Offline nothing is sent; the real client says so."""
    save(failing, tmp_path / "kept", [])
    done = subprocess.run(
        [sys.executable, "-c", "from compatcheck.cli import main; main()", "card", "kept", "--push", "acme/v2"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: --push acme/v2: ")
    assert done.stderr.count("\n") == 1
