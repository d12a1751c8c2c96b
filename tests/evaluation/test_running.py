"""While NEW answers, its progress shows the job and the flips so far; what is compared is scored once, at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.engines.progress import Measured
from compatcheck.errors import InputError
from compatcheck.evaluation import bridge, running

LIMIT = 48


class Looking(Measured):
    """Keeps label, total and the last of what each stage knew."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0, lambda count, of: f"{count}/{of}")
        self.stages: list[tuple[str, float, float]] = []
        self.shown: dict[str, str] = {}

    def finish(self) -> None:
        self.stages.append((self.label, self.total, self.done))
        self.shown[self.label] = self.known


def diff(fixtures: Path, task: str, looking: Looking | None = None, **options: Any) -> tuple[compatcheck.Diff, Looking]:
    looking = looking or Looking()
    old, new = (fixtures / "adapters" / f"{task}-{version}" for version in ("v1", "v2"))
    chosen: dict[str, Any] = {"limit": LIMIT, "num_fewshot": 0, "store": False} | options
    found = compatcheck.diff(chosen.pop("old", old), new, task=task, data=fixtures / "data", progress=looking, **chosen)
    return found, looking


@pytest.mark.parametrize(("task", "metric", "label"), [("gsm8k", "", "generating"), ("piqa", "acc", "scoring choices")])
def test_the_flips_so_far_end_as_those_of_the_report(fixtures: Path, task: str, metric: str, label: str) -> None:
    found, looking = diff(fixtures, task)
    count = found[metric or "strict-match"].quadrants["negative_flip"]
    named = f"{metric}: " if metric else ""
    assert looking.shown == {
        f"1 of 2, old: {task}, {label}": "",
        f"2 of 2, new: {task}, {label}": f"{named}NFR so far {count}/{LIMIT}",
    }
    assert count > 0


def test_a_task_in_parts_is_one_stage(fixtures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "CHUNK", 20)
    found, looking = diff(fixtures, "gsm8k")
    new = [(total, done) for label, total, done in looking.stages if "new" in label]
    assert new == [(LIMIT, 20), (LIMIT, 40), (LIMIT, LIMIT)]
    count = found["gsm8k/strict-match/exact_match"].quadrants["negative_flip"]
    assert looking.shown["2 of 2, new: gsm8k, generating"] == f"NFR so far {count}/{LIMIT}"


def test_stored_answers_are_in_the_flips_and_no_work(fixtures: Path, tmp_path: Path) -> None:
    diff(fixtures, "gsm8k", limit=30, store=tmp_path / "store")
    found, looking = diff(fixtures, "gsm8k", store=tmp_path / "store")
    assert looking.stages[-1] == ("2 of 2, new: gsm8k, generating", LIMIT, LIMIT)
    count = found["gsm8k/strict-match/exact_match"].quadrants["negative_flip"]
    assert looking.shown["2 of 2, new: gsm8k, generating"] == f"NFR so far {count}/{LIMIT}"


def test_a_kept_run_is_compared_by_content(fixtures: Path, tmp_path: Path) -> None:
    """Its documents stand under the same numbers; those of another split are others."""
    old = fixtures / "adapters" / "gsm8k-v1"
    for name, split in (("same", "test"), ("other", "train")):
        run = compatcheck.evaluate(old, task="gsm8k", data=fixtures / "data", limit=LIMIT, num_fewshot=0, split=split)
        run.save(tmp_path / name)
    found, looking = diff(fixtures, "gsm8k", old=tmp_path / "same")
    count = found["gsm8k/strict-match/exact_match"].quadrants["negative_flip"]
    assert looking.shown == {"new: gsm8k, generating": f"NFR so far {count}/{LIMIT}"}
    looking = Looking()
    with pytest.raises(InputError):  # when all is evaluated, nothing can be paired
        diff(fixtures, "gsm8k", looking, old=tmp_path / "other")
    assert looking.shown == {"new: gsm8k, generating": ""}


def test_metrics_without_right_and_wrong_have_none(fixtures: Path) -> None:
    _, looking = diff(fixtures, "samsum", limit=8)
    assert set(looking.shown.values()) == {""}


def test_where_scoring_is_dear_answers_are_passed_over(fixtures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock says that each look takes a second, and that nothing else takes any time."""
    now = [0.0]

    class Timed:
        @staticmethod
        def perf_counter() -> float:
            now[0] += 0.5
            return now[0]

    monkeypatch.setattr(running, "time", Timed)
    found, looking = diff(fixtures, "gsm8k")
    assert found["gsm8k/strict-match/exact_match"].n == LIMIT
    shown = looking.shown["2 of 2, new: gsm8k, generating"]
    assert shown.startswith("NFR so far ")
    assert int(shown.rpartition("/")[2]) < LIMIT / 4
