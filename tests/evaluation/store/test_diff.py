"""`compatcheck diff` with the store, on the fixture models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.evaluation.store import database

LIMIT = 6


def adapters(fixtures: Path, *versions: str) -> list[str]:
    return [f"{fixtures}/adapters/{{task}}-{version}" for version in versions]


def arguments(fixtures: Path, store: Path, *more: str) -> list[str]:
    tasks = [part for task in ("piqa", "samsum") for part in ("--task", task)]
    return [
        "diff", *adapters(fixtures, "v1", "v2"), *tasks, "--data", str(fixtures / "data"), "--num-fewshot", "0",
        "--limit", str(LIMIT), "--engine", "hf", "--device", "cpu", "--store", str(store), *more,
    ]  # fmt: skip


def diff(fixtures: Path, store: object, old: str = "v1", new: str = "v2", **options: object) -> compatcheck.Diff:
    return compatcheck.diff(
        *adapters(fixtures, old, new), task="piqa", data=fixtures / "data", limit=LIMIT, device="cpu", engine="hf",
        store=store, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def from_store(result: compatcheck.Diff) -> list[object]:
    return [side.settings["from_store"] for side in (result.old, result.new)]


def test_both_sides_stored_loads_neither_model_nor_torch(fixtures: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert run(arguments(fixtures, store, "--out", str(tmp_path / "first"), "-q")) == 0
    script = (
        "import sys\nfrom compatcheck.cli.app import run\n"
        f"assert run({arguments(fixtures, store, '--out', str(tmp_path / 'second'))!r}) == 0\n"
        "print([name for name in ('torch', 'peft', 'compatcheck.engines.hf.engine') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "loading" not in done.stderr
    assert "old: piqa, 6 instances (answers stored)" in done.stderr
    first, second = (compatcheck.load(tmp_path / name) for name in ("first", "second"))
    assert from_store(first) == [0, 0]
    assert from_store(second) == [3 * LIMIT, 3 * LIMIT]
    assert {"old: 18 of 18 answers from the store", "new: 18 of 18 answers from the store"} <= set(second.notes)
    assert set(second.notes) - set(first.notes) == {note for note in second.notes if "from the store" in note}
    assert first.old.engine == second.old.engine
    assert first.old.engine["versions"]["torch"]
    for one, two in zip(first.comparisons, second.comparisons, strict=True):
        assert one == two
        pd.testing.assert_frame_equal(one.instances, two.instances)


def test_an_unchanged_old_is_not_loaded(fixtures: Path, tmp_path: Path) -> None:
    said: list[str] = []
    diff(fixtures, tmp_path, say=said.append)
    assert sum(line.startswith("loading") for line in said) == 2
    said.clear()
    other = tmp_path / "other"
    shutil.copytree(fixtures / "adapters" / "piqa-v2", other)
    again = compatcheck.diff(
        fixtures / "adapters" / "piqa-v1", f"{fixtures}/models/base-v2", task="piqa", data=fixtures / "data",
        limit=LIMIT, engine="hf", device="cpu", store=tmp_path, say=said.append,
    )  # fmt: skip
    assert [line for line in said if line.startswith("loading")] == [f"loading {fixtures}/models/base-v2"]
    assert from_store(again) == [2 * LIMIT, 0]
    same = compatcheck.diff(  # the same adapter from another folder, on the same base: the content counts
        fixtures / "adapters" / "piqa-v1", f"{fixtures}/models/base-v2+{other}", task="piqa", data=fixtures / "data",
        limit=LIMIT, engine="hf", device="cpu", store=tmp_path,
    )  # fmt: skip
    assert from_store(same) == [2 * LIMIT, 2 * LIMIT]


def test_more_documents_cost_what_is_new(fixtures: Path, tmp_path: Path) -> None:
    diff(fixtures, tmp_path)
    more = compatcheck.diff(
        *adapters(fixtures, "v1", "v2"), task="piqa", data=fixtures / "data", limit=LIMIT + 2, engine="hf",
        device="cpu", store=tmp_path,
    )  # fmt: skip
    assert from_store(more) == [2 * LIMIT, 2 * LIMIT]
    assert more.old.settings["answers"] == 2 * LIMIT + 4


def test_an_adapter_is_put_on_its_base_when_it_is_asked(fixtures: Path, tmp_path: Path) -> None:
    base, adapter = fixtures / "models" / "base-v1", fixtures / "adapters" / "piqa-v1"
    said: list[str] = []

    def compare(old: Path, new: Path) -> compatcheck.Diff:
        said.clear()
        return compatcheck.diff(
            old, new, task="piqa", data=fixtures / "data", limit=LIMIT, engine="hf", device="cpu", store=tmp_path,
            say=said.append, allow_same=True,
        )  # fmt: skip

    alone = compare(base, base)
    assert f"loading {base}" in said
    assert from_store(alone) == [0, 2 * LIMIT], "NEW is what OLD just answered"
    both = compare(base, adapter)
    assert f"loading {base} with piqa-v1" in said
    assert from_store(both) == [2 * LIMIT, 0]
    fresh = compatcheck.diff(base, adapter, task="piqa", data=fixtures / "data", limit=LIMIT, engine="hf", store=False)
    assert fresh["acc"].quadrants == both["acc"].quadrants


def test_without_a_store_nothing_is_kept(fixtures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPATCHECK_STORE", str(tmp_path / "store"))
    assert from_store(diff(fixtures, False)) == [0, 0]
    assert not (tmp_path / "store").exists()
    assert from_store(diff(fixtures, None)) == [0, 0]
    assert (tmp_path / "store" / database.FILE).exists()
    assert from_store(diff(fixtures, None)) == [2 * LIMIT, 2 * LIMIT]
    assert from_store(diff(fixtures, False)) == [0, 0]


def test_a_damaged_store_is_said_in_the_report(fixtures: Path, tmp_path: Path) -> None:
    first = diff(fixtures, tmp_path)
    (tmp_path / database.FILE).write_bytes(os.urandom(20_000))
    second = diff(fixtures, tmp_path)
    assert [note for note in second.notes if note not in first.notes] == [
        note for note in second.notes if "is damaged" in note and "set aside" in note
    ]
    assert from_store(second) == [0, 0]
    assert second.comparisons == first.comparisons
    assert from_store(diff(fixtures, tmp_path)) == [2 * LIMIT, 2 * LIMIT]


def test_options_that_exclude_each_other(fixtures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(fixtures, tmp_path, "--no-store")) == 2
    assert "--store and --no-store exclude each other" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("")
    assert run(arguments(fixtures, file)) == 2
    assert "name a folder, or say --no-store" in capsys.readouterr().err


def test_chat_templates_are_read_without_the_model(fixtures: Path, tmp_path: Path) -> None:
    model = tmp_path / "chat"
    shutil.copytree(fixtures / "models" / "base-v1", model)
    (model / "chat_template.jinja").write_text("{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}")
    said: list[str] = []

    def compare() -> compatcheck.Diff:
        said.clear()
        return compatcheck.diff(
            model, model, task="piqa", data=fixtures / "data", limit=LIMIT, engine="hf", device="cpu",
            apply_chat_template=True, store=tmp_path / "store", say=said.append, allow_same=True,
        )  # fmt: skip

    first = compare()
    assert any(line.startswith("loading") for line in said)
    second = compare()
    assert not any(line.startswith("loading") for line in said)
    assert first.comparisons == second.comparisons
    plain = compatcheck.diff(
        model, model, task="piqa", data=fixtures / "data", limit=LIMIT, engine="hf", device="cpu",
        store=tmp_path / "store", allow_same=True,
    )  # fmt: skip
    assert from_store(plain)[0] == 0, "other prompts"
