"""`--until-decided`: rows drawn in a random order until the budgets are decided, recorded ones and models' answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.errors import InputError

Rows = Callable[..., tuple[Path, Path]]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Two recorded files: OLD right on 70 %, NEW losing this share of the rows and winning another."""

    def write(n: int, lost: float, won: float = 0.0, seed: int = 0, **fields: Any) -> tuple[Path, Path]:
        draw = np.random.default_rng(seed)
        right, dice = draw.random(n) < 0.7, draw.random(n)
        down, up = right & (dice < lost / 0.7), ~right & (dice < won / 0.3)
        files = []
        for name, good in (("old", right), ("new", (right & ~down) | up)):
            path = tmp_path / f"{name}-{n}-{seed}.jsonl"
            lines = [{"id": f"q{i}", "target": "a", "prediction": "a" if good[i] else "b", **fields} for i in range(n)]
            path.write_text("\n".join(map(json.dumps, lines)) + "\n")
            files.append(path)
        return files[0], files[1]

    return write


def decided(pair: tuple[Path, Path], *rules: str, **options: Any) -> compatcheck.Diff:
    return compatcheck.diff(*pair, fail_on=rules or "nfr:2%", until_decided=True, **options)


def test_stops_when_the_budget_is_kept(rows: Rows) -> None:
    result = decided(rows(6000, 0.002))
    how = result.only.sequential
    assert how is not None
    (path,) = how.paths
    assert (result.verdict, path.verdict) == ("pass", "pass")
    assert how.used == result.only.n == path.decided_at < 600
    assert (how.available, how.step) == (6000, 25)
    assert [look.n for look in path.looks] == sorted({look.n for look in path.looks})
    assert path.looks[-1].upper <= 0.02 < path.looks[-2].upper
    assert [look.upper for look in path.looks] == sorted((look.upper for look in path.looks), reverse=True)
    assert "decided after" in result.only.gates[0].reason
    assert "|sequential:every 25 of 6000, stopped when decided|" in result.only.signature
    assert any("6,000 rows were drawn" in note for note in result.notes)
    assert result.advice is not None and result.advice.bump == "undecided"


def test_stops_when_the_budget_is_broken(rows: Rows) -> None:
    result = decided(rows(6000, 0.1))
    assert result.verdict == "fail"
    assert result.only.n <= 150
    assert result.only.sequential is not None
    assert result.only.sequential.paths[0].looks[-1].lower >= 0.02


def test_at_the_end_of_the_rows_it_is_inconclusive(rows: Rows) -> None:
    result = decided(rows(300, 0.02))
    assert (result.verdict, result.only.n) == ("inconclusive", 300)
    assert "open after 300 instances" in result.only.gates[0].reason
    assert any("300 of 300 rows were drawn, all there are" in note for note in result.notes)


def test_no_more_than_the_most(rows: Rows, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = rows(6000, 0.015)
    asked = [str(old), str(new), "--fail-on", "nfr:2%", "--until-decided", "--max", "110", "--step", "50", "-q"]
    assert run(["diff", *asked]) == 3
    assert "1 of 110 answers" in capsys.readouterr().out


def test_the_order_of_rows_plays_no_part(rows: Rows, tmp_path: Path) -> None:
    old, new = rows(2000, 0.004)
    first = decided((old, new))
    lines = new.read_text().splitlines()
    np.random.default_rng(1).shuffle(lines)
    (shuffled := tmp_path / "shuffled.jsonl").write_text("\n".join(lines) + "\n")
    second = decided((old, shuffled))
    assert first.only.sequential == second.only.sequential
    assert set(first.instances["doc_id"]) == set(second.instances["doc_id"])
    assert set(decided((old, new), seed=1).instances["doc_id"]) != set(first.instances["doc_id"])


def test_every_budget_has_to_be_decided(rows: Rows) -> None:
    """The second budget takes more rows than the first; what was decided first stays so."""
    result = decided(rows(8000, 0.004, won=0.004), "nfr:3%", "net:-2%")
    nfr, net = result.only.sequential.paths  # type: ignore[union-attr]
    assert (nfr.verdict, net.verdict, result.verdict) == ("pass", "pass", "pass")
    assert nfr.decided_at is not None and net.decided_at is not None
    assert nfr.decided_at < net.decided_at == result.only.n


def test_an_advisory_budget_is_not_waited_for(rows: Rows) -> None:
    from compatcheck.evaluation.request import Request
    from compatcheck.gate import parse_rules
    from compatcheck.gate.rules import ADVISORY
    from compatcheck.options import Diff
    from compatcheck.sequential import decide

    old, new = rows(4000, 0.004)
    rules = [*parse_rules(["nfr:2%"]), *parse_rules(["net:-0.41%"], ADVISORY)]
    found = decide(Request(str(old), str(new)), rules, Diff(until_decided=True, seed=1), print)
    verdicts = {rule: gate.verdict for (_, rule), gate in found.gates.items()}
    assert verdicts == {"nfr:2%": "pass", "net:-0.41%": "inconclusive"}
    assert max(found.used.values()) < 4000


def test_a_smooth_score(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    for name in ("old", "new"):
        texts = [" ".join(draw.choice(["red", "blue", "green", "black"], 6)) for _ in range(1500)]
        lines = [
            {"id": i, "target": "red blue green black red blue", "prediction": text} for i, text in enumerate(texts)
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = compatcheck.diff(
        tmp_path / "old.jsonl", tmp_path / "new.jsonl", metric="rouge1", fail_on="regression:0.05", until_decided=True
    )
    assert result.only.kind == "smooth"
    assert (result.verdict, result.only.n < 1500) == ("pass", True)
    assert result.only.sequential is not None
    assert result.only.sequential.paths[0].looks[-1].lower >= -0.05


def test_missing_rows_are_drawn_like_others(rows: Rows) -> None:
    old, new = rows(3000, 0.0)
    lines = new.read_text().splitlines()
    new.write_text("\n".join(lines[:2400]) + "\n")
    result = decided((old, new))
    pairing = result.only.pairing
    assert pairing.only_old > 0
    assert result.only.sequential is not None
    assert pairing.paired + pairing.only_old == result.only.sequential.used


def test_too_many_missing_rows_are_no_pass(rows: Rows) -> None:
    old, new = rows(3000, 0.0)
    lines = new.read_text().splitlines()
    new.write_text("\n".join(lines[:2400]) + "\n")
    result = decided((old, new))
    assert result.verdict == "inconclusive"
    assert "--max-missing" in result.only.gates[0].reason
    assert decided((old, new), "nfr:2%", "missing:50%", max_missing="60%").verdict == "pass"
    assert decided((old, new), "nfr:2%", "missing:5%", max_missing="60%").verdict == "fail"


def test_a_task_of_one_side_alone_is_not_left_out_unsaid(rows: Rows, tmp_path: Path) -> None:
    runs = []
    for name, path, tasks in zip(("old", "new"), rows(1500, 0.0), (["gsm8k", "piqa"], ["gsm8k"]), strict=True):
        for task in tasks:
            (tmp_path / f"{name}-{task}.jsonl").write_text(path.read_text())
        run_of = compatcheck.evaluate(str(tmp_path / f"{name}-{{task}}.jsonl"), task=tasks, metric="exact_match")
        runs.append(run_of.save(tmp_path / name))
    result = decided((runs[0], runs[1]))
    assert result.verdict == "inconclusive"
    assert "piqa" in result.only.gates[0].reason
    assert any("piqa" in note for note in result.notes)


def test_kept_and_read_again(rows: Rows, tmp_path: Path) -> None:
    result = decided(rows(1000, 0.002))
    result.save(tmp_path / "kept")
    again = compatcheck.load(tmp_path / "kept")
    assert again.only.sequential == result.only.sequential
    found = json.loads((tmp_path / "kept" / "report.json").read_text())["comparisons"][0]["sequential"]
    assert found["saved"] == found["available"] - found["used"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fail_on": ()}, "nothing to decide"),
        ({"fail_on": ("cut_off:2%", "no_answer:1%")}, "nothing to decide: rows are counted, in all .* nfr:2%"),
        ({"step": 0}, "--step 0: must be at least 1"),
        ({"max": 0}, "--max 0: must be at least 1"),
        ({"cluster_by": "id"}, "--cluster-by exclude each other"),
        ({"stream": True}, "--stream exclude each other"),
        ({"noise_floor": 1}, "--noise-floor exclude each other"),
        ({"fail_on": "relative_nfr:0.5"}, "no bound of relative_nfr holds at every look"),
        ({"until_decided": False, "step": 5}, "--step goes with --until-decided"),
        ({"until_decided": False, "max": 5}, "--max goes with --until-decided"),
        ({"fail_on": "gsm8k/nfr:2%"}, "no task or filter is called 'gsm8k'"),
    ],
)
def test_what_cannot_be_meant(rows: Rows, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        compatcheck.diff(*rows(50, 0.0), **{"fail_on": "nfr:2%", "until_decided": True, **options})


@pytest.mark.parametrize(("score", "said"), [(0.5, "score: its scores are taken to lie in 0 to 1"), (3.5, "")])
def test_a_score_whose_range_is_not_known(rows: Rows, score: float, said: str) -> None:
    pair = rows(700, 0.0, quality=score)
    for path in pair:
        path.write_text(path.read_text().replace('"quality"', '"score"'))
    if said:
        result = decided(pair, "regression:0.02", allow_same=True)
        assert said in result.notes
        assert result.verdict == "pass"
        return
    with pytest.raises(InputError, match="score has a value outside 0 to 1"):
        decided(pair, "score_new:0.1", allow_same=True)


@pytest.mark.slow
def test_models_are_evaluated_no_further_than_needed(fixtures: Path, tmp_path: Path) -> None:
    """OLD's answers are in the store; NEW is asked step by step, and a second run asks for nothing."""
    old, new = fixtures / "adapters" / "piqa-v1", fixtures / "adapters" / "piqa-v2"
    options: dict[str, Any] = {"task": "piqa", "data": fixtures / "data", "metric": "acc", "fail_on": "nfr:60%"}
    options |= {"until_decided": True, "step": 4, "store": tmp_path / "store"}
    said: list[str] = []
    result = compatcheck.diff(old, new, **options, say=said.append)
    assert result.only.sequential is not None
    used = result.only.sequential.used
    assert result.verdict == "pass"
    assert used == result.only.n < result.only.sequential.available
    assert result.old.settings["answers"] == 2 * used
    assert sum(line.startswith("loading") for line in said) == 2, "each model once, whatever the number of steps"
    said.clear()
    again = compatcheck.diff(old, new, **options, say=said.append)
    assert again.only.sequential == result.only.sequential
    assert again.instances.equals(result.instances)
    assert not [line for line in said if line.startswith("loading")]


@pytest.mark.slow
def test_a_recorded_side_beside_a_model(fixtures: Path, tmp_path: Path) -> None:
    old, new = fixtures / "adapters" / "piqa-v1", fixtures / "adapters" / "piqa-v2"
    options: dict[str, Any] = {"task": "piqa", "data": fixtures / "data", "metric": "acc", "store": tmp_path / "store"}
    compatcheck.evaluate(old, **options).save(tmp_path / "kept")
    gate: dict[str, Any] = {"fail_on": "nfr:60%", "until_decided": True, "step": 4}
    result = compatcheck.diff(tmp_path / "kept", new, **options, **gate)
    both = compatcheck.diff(old, new, **options, **gate)
    assert result.only.sequential == both.only.sequential
    assert result.only.quadrants == both.only.quadrants
    assert result.only.pairing.only_old == 0
