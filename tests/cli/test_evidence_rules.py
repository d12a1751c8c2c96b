"""No budget passes by a rule that does not fit the answers: nothing right, everything right, another scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck.errors import InputError
from tests.cli.test_evidence import RIGHT, STREAM, WRONG, sides


@STREAM
def test_nothing_right_on_both_sides_shows_nothing(tmp_path: Path, stream: bool) -> None:
    old = [{"target": "Paris", "prediction": f"The capital is Paris. {i}"} for i in range(300)]
    new = [{"target": "Paris", "prediction": f"It is Rome, I think. {i}"} for i in range(300)]
    for budget in ("nfr:2%", "net:-1%", "accuracy:-1%"):
        c = compatcheck.diff(*sides(tmp_path, old, new), fail_on=budget, stream=stream)
        assert c.verdict == "inconclusive"
        assert "does not seem to fit" in c.only.gates[0].reason
        assert "--metric contains" in c.only.gates[0].reason
    assert (
        compatcheck.diff(*sides(tmp_path, old, new), fail_on="nfr:2%", metric="contains", stream=stream).verdict
        == "fail"
    )


def test_nothing_right_in_old_alone_cannot_be_broken(tmp_path: Path) -> None:
    c = compatcheck.diff(*sides(tmp_path, [WRONG] * 400, [RIGHT] * 200 + [WRONG] * 200), fail_on="nfr:2%")
    assert c.verdict == "inconclusive"
    assert "no NEW could break this budget" in c.only.gates[0].reason
    assert (
        compatcheck.diff(*sides(tmp_path, [WRONG] * 400, [RIGHT] * 200 + [WRONG] * 200), fail_on="net:1%").verdict
        == "pass"
    )


def test_everything_right_with_other_texts_shows_no_net_change(tmp_path: Path) -> None:
    old = [{"target": "a", "prediction": f"a {i}"} for i in range(400)]
    new = [{"target": "a", "prediction": f"{i} a"} for i in range(400)]
    c = compatcheck.diff(*sides(tmp_path, old, new), metric="contains", fail_on="net:-1%")
    assert "tells hardly any answers apart" in c.only.gates[0].reason
    assert c.verdict == "inconclusive"
    same = compatcheck.diff(*sides(tmp_path, [RIGHT] * 400, [RIGHT | {"x": 1}] * 400), fail_on="net:-1%")
    assert same.verdict == "pass"


def test_smooth_scores_that_are_all_zero(tmp_path: Path) -> None:
    old = [{"target": "Paris", "prediction": f"x{i}"} for i in range(100)]
    new = [{"target": "Paris", "prediction": f"y{i}"} for i in range(100)]
    c = compatcheck.diff(*sides(tmp_path, old, new), metric="rouge1", fail_on="rouge1.regression:0.01")
    assert c.verdict == "inconclusive"


@STREAM
def test_a_side_in_percent_passes_nothing(tmp_path: Path, stream: bool) -> None:
    """Each of its scores was a gain."""
    old = [{"prediction": "a", "score": (i % 10) / 10} for i in range(100)]
    new = [{"prediction": "a", "score": 10 * (i % 9)} for i in range(100)]
    c = compatcheck.diff(*sides(tmp_path, old, new), fail_on="score.regression:0.1", stream=stream)
    said = "OLD's scores are 0.45 on average and NEW's 39.6: one side seems to be in percent; bring both to one scale"
    assert c.verdict == "inconclusive" and said in c.only.gates[0].reason
    assert (c.advice.bump, c.advice.reason) == ("undecided", said)
    both = [row | {"score": 100 * row["score"]} for row in old]
    assert compatcheck.diff(*sides(tmp_path, both, new), fail_on="nfr:99%").verdict == "pass"


@STREAM
@pytest.mark.parametrize("percent", ["OLD", "NEW"])
def test_a_side_in_percent_is_said_whatever_the_verdict(percent: str, tmp_path: Path, stream: bool) -> None:
    share = [{"prediction": "a", "score": 0.75 + (i % 10) / 100} for i in range(100)]
    hundred = [row | {"score": 100 * row["score"]} for row in share]
    files = sides(tmp_path, *((hundred, share) if percent == "OLD" else (share, hundred)))
    other = "NEW" if percent == "OLD" else "OLD"
    said = f"{other}'s scores are 0.795 on average and {percent}'s 79.5: one side seems to be in percent"
    for budget in ([], "nfr:1%"):
        c = compatcheck.diff(*files, fail_on=budget, stream=stream)
        assert [said in note for note in c.notes].count(True) == 1
    with pytest.raises(InputError, match=f"--correct-at 0.8: {other}'s scores of 'score' are at most 0.84, and"):
        compatcheck.diff(*files, correct_at=0.8, stream=stream)
    with pytest.raises(InputError, match=r"did you mean --correct-at 80\?"):
        compatcheck.diff(*sides(tmp_path, hundred, hundred[::-1]), correct_at=0.8, stream=stream)
    assert compatcheck.diff(*sides(tmp_path, share, share[::-1]), correct_at=0.8, stream=stream).only.n == 100
    assert compatcheck.diff(*sides(tmp_path, hundred, hundred[::-1]), correct_at=80, stream=stream).only.n == 100


@STREAM
def test_where_targets_are_empty_no_answer_can_be_right(tmp_path: Path, stream: bool) -> None:
    """Of the 50 rows that have a target NEW breaks 10, which is 10 % of all."""
    rows = [{"target": "a" if i % 2 else "", "prediction": "a"} for i in range(100)]
    worse = [row | {"prediction": "b"} if i % 10 == 1 else row for i, row in enumerate(rows)]
    c = compatcheck.diff(*sides(tmp_path, rows, worse), fail_on="nfr:17%", stream=stream)
    said = (
        "50 of 100 rows (50 %) show nothing, more than --max-missing 2 %: 50 with an empty target, which no answer is"
    )
    assert c.verdict == "inconclusive" and said in c.only.gates[0].reason
    silent = [row if row["target"] else row | {"prediction": " "} for row in rows]  # the empty answer is meant
    right = compatcheck.diff(*sides(tmp_path, silent, worse), fail_on="nfr:80%", stream=stream)
    assert (right.verdict, right.only.quadrants["negative_flip"]) == ("pass", 60)
    scored = ([row | {"score": 0.5} for row in each] for each in (rows, worse))
    assert compatcheck.diff(*sides(tmp_path, *scored), fail_on="nfr:17%", stream=stream).verdict == "pass"


@STREAM
@pytest.mark.parametrize("reference", [None, "old"])
def test_rouge_passes_nothing_of_what_it_does_not_read(tmp_path: Path, reference: str | None, stream: bool) -> None:
    """It reads letters and digits of ASCII: both answers were 2024, and NEW's that of OLD."""
    old = [{"target": "Москва 2024", "prediction": "Москва 2024"}] * 60
    wrong = sides(tmp_path, old, [row | {"prediction": "Париж 2024"} for row in old])
    budget = "rouge1.regression:0.1" if reference is None else "changed:10%"
    how: dict[str, Any] = {"reference": reference, "stream": stream}
    c = compatcheck.diff(*wrong, metric="rouge1", fail_on=budget, **how)
    said = "rouge1 reads no letters but those of ASCII, and 60 of 60 rows are written in others; say --metric chrf"
    assert c.verdict == "inconclusive" and said in c.only.gates[0].reason
    assert not any(note.startswith("every answer of NEW is that of OLD") for note in c.notes)
    assert compatcheck.diff(*wrong, metric="chrf", fail_on=budget.replace("rouge1", "chrf"), **how).verdict == "fail"
    latin = [{"target": "Größe, Äpfel", "prediction": "Größe, Äpfel"}] * 60
    right = sides(tmp_path, latin, [row | {"x": 1} for row in latin])
    assert compatcheck.diff(*right, metric="rouge1", fail_on=budget, **how).verdict == "pass"


def test_milliseconds_beside_seconds_pass_nothing(tmp_path: Path) -> None:
    files = sides(tmp_path, [RIGHT | {"latency": 500}] * 100, [RIGHT | {"latency": 0.6}] * 100)
    c = compatcheck.diff(*files, fail_on="latency:+10%")
    said = "OLD's latency is 500 on average and NEW's 0.6: one seems to be in milliseconds"
    assert c.verdict == "inconclusive" and said in c.only.gates[0].reason
    faster = sides(tmp_path, [RIGHT | {"latency": 50}] * 100, [RIGHT | {"latency": 0.6}] * 100)
    assert compatcheck.diff(*faster, fail_on="latency:+10%").verdict == "pass"


@STREAM
@pytest.mark.parametrize(("name", "cell"), [("latency", "0.9s"), ("latency", "900 ms"), ("latency_ms", "0.90 sec")])
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_seconds_with_their_unit_are_read(name: str, cell: str, kind: str, tmp_path: Path, stream: bool) -> None:
    """They counted as not measured, so that no budget on them could be judged."""
    rows = [{"id": i, **RIGHT, name: 900 if name == "latency_ms" else 0.9} for i in range(30)]
    files = [tmp_path / f"old.{kind}", tmp_path / f"new.{kind}"]
    for file, made in zip(files, (rows, [row | {name: cell} for row in rows]), strict=True):
        frame = pd.DataFrame(made)
        frame.to_csv(file, index=False) if kind == "csv" else frame.to_json(file, orient="records", lines=True)
    c = compatcheck.diff(*files, fail_on="latency:+10%", stream=stream)
    assert c.verdict == "pass"
    assert c.only.beside["latency"].new.value == pytest.approx(0.9)


@STREAM
def test_seconds_that_cannot_be_read_are_shown_with_how_to_write_them(tmp_path: Path, stream: bool) -> None:
    files = sides(tmp_path, [RIGHT | {"latency": 0.9}] * 30, [RIGHT | {"latency": "1 min"}] * 30)
    with pytest.raises(InputError) as error:
        compatcheck.diff(*files, fail_on="latency:+10%", stream=stream)
    assert str(error.value).endswith(
        "new.jsonl has no `latency` that is a number: '1 min'; write seconds as 0.9, 0.9s or 900ms"
    )
    files = sides(tmp_path, [RIGHT | {"cost": "$1"}] * 30, [RIGHT | {"cost": 2}] * 30)
    with pytest.raises(
        InputError, match=r"old.jsonl has no `cost` that is a number: '\$1'; write it as a number alone"
    ):
        compatcheck.diff(*files, fail_on="cost:+10%", stream=stream)
