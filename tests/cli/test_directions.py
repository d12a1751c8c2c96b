"""Which way a recorded score points: by the file, the name, the user; in memory and streamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from tests.factories import write_rows

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])


def rows(path: Path, values: list[dict[str, Any]]) -> str:
    return str(write_rows(path, ({"id": i, **row} for i, row in enumerate(values))))


def pair(folder: Path, name: str, old: float | None, new: float | None, **more: Any) -> tuple[str, str]:
    made = [rows(folder / side, [{name: value, **more}] * 40) for side, value in (("o.jsonl", old), ("n.jsonl", new))]
    return made[0], made[1]


@STREAM
@pytest.mark.parametrize("name", ["val_loss", "avg_WER", "Perplexity", "latency_ms"])
def test_a_score_that_fell_is_better_by_its_name(tmp_path: Path, name: str, stream: bool) -> None:
    c = compatcheck.diff(*pair(tmp_path, f"score:{name}", 2.0, 1.5), stream=stream)
    assert c.only.quadrants["positive_flip"] == 40
    assert not any("nothing says" in note for note in c.notes)


@STREAM
def test_a_name_that_says_nothing_is_said(tmp_path: Path, stream: bool) -> None:
    old, new = pair(tmp_path, "score:glossary", 2.0, 1.5)
    c = compatcheck.diff(old, new, stream=stream)
    assert c.only.quadrants["negative_flip"] == 40
    (note,) = [note for note in c.notes if "which way glossary points" in note]
    assert "--lower-is-better glossary" in note
    for options in ({"lower_is_better": "glossary"}, {"metric_args": {"glossary": {"higher_is_better": False}}}):
        turned = compatcheck.diff(old, new, stream=stream, **options)
        assert turned.only.quadrants["positive_flip"] == 40
        assert not any("glossary" in note for note in turned.notes)
    confirmed = compatcheck.diff(old, new, stream=stream, metric_args={"glossary": {"higher_is_better": True}})
    assert confirmed.only.quadrants["negative_flip"] == 40
    assert not any("glossary" in note for note in confirmed.notes)


@STREAM
def test_the_user_comes_before_the_name(tmp_path: Path, stream: bool) -> None:
    old, new = pair(tmp_path, "score:loss", 2.0, 1.5)
    c = compatcheck.diff(old, new, stream=stream, metric_args={"loss": {"higher_is_better": True}})
    assert c.only.quadrants["negative_flip"] == 40


@STREAM
def test_a_perplexity_below_zero_is_a_log_likelihood(tmp_path: Path, stream: bool) -> None:
    c = compatcheck.diff(*pair(tmp_path, "score:perplexity", -3.5, -2.5), stream=stream)
    assert c.only.quadrants["positive_flip"] == 40
    assert any("log-likelihood of each document" in note for note in c.notes)
    said = compatcheck.diff(
        *pair(tmp_path, "score:perplexity", -3.5, -2.5), stream=stream, lower_is_better="perplexity"
    )
    assert said.only.quadrants["negative_flip"] == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lower-is-better", "los"], "did you mean 'loss'"),
        (["--lower-is-better", "loss", "--metric-arg", "loss.higher_is_better=true"], "says otherwise"),
        (["--metric-arg", "loss.higher_is_better=perhaps"], "must be true or false"),
    ],
)
def test_what_cannot_be_meant(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diff", *pair(tmp_path, "score:loss", 2.0, 1.5), "-q", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_computed_metric_is_not_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = [rows(tmp_path / name, [{"target": "a", "prediction": "a b"}] * 5) for name in ("o.jsonl", "n.jsonl")]
    assert run(["diff", *sides, "--metric", "rouge1", "--lower-is-better", "rouge1", "-q"]) == 2
    assert "is computed here" in capsys.readouterr().err


@STREAM
@pytest.mark.parametrize(
    ("name", "old", "exits"),
    [("wer", 0.5, True), ("logprob", -3.0, True), ("reward", 0.5, False), ("is_toxic", 1, False), ("pass", 1, False)],
)
def test_no_answer_is_never_the_best(tmp_path: Path, name: str, old: float, exits: bool, stream: bool) -> None:
    """No answer and no score: the worst score where there is one, else a refusal; with other rows that have scores."""
    before = rows(tmp_path / "o.jsonl", [{"prediction": "a", f"score:{name}": old}] * 40)
    some = [{"prediction": "a", f"score:{name}": old}] * 20 + [{"prediction": None, f"score:{name}": None}] * 20
    after = rows(tmp_path / "n.jsonl", some)
    if exits:
        with pytest.raises(InputError, match=f"n.jsonl:21: no answer and no `score:{name}`"):
            compatcheck.diff(before, after, stream=stream)
        return
    if name == "is_toxic":
        before = rows(tmp_path / "o.jsonl", [{"prediction": "a", f"score:{name}": 0}] * 40)
        some = [{"prediction": "a", f"score:{name}": 0}] * 20 + [{"prediction": None, f"score:{name}": None}] * 20
        after = rows(tmp_path / "n.jsonl", some)
    c = compatcheck.diff(before, after, stream=stream)
    assert c.only.quadrants["negative_flip"] == 20


def test_a_side_that_says_nothing_at_all_is_refused(tmp_path: Path) -> None:
    old, new = pair(tmp_path, "score:quality", 0.5, None, prediction=None)
    with pytest.raises(InputError, match="no answer and no `score:quality`"):
        compatcheck.diff(new, old)


@STREAM
def test_a_score_beside_target_and_prediction_is_said(tmp_path: Path, stream: bool) -> None:
    old, new = pair(tmp_path, "score", 0.9, 0.99, target="a", prediction="a")
    (note,) = [note for note in compatcheck.diff(old, new, stream=stream).notes if "`score`" in note]
    assert "--metric exact_match" in note
    assert not any("`score`" in n for n in compatcheck.diff(old, new, stream=stream, metric="score").notes)


def test_sides_that_point_in_different_directions(tmp_path: Path) -> None:
    old, new = pair(tmp_path, "score:glossary", 2.0, 1.5)
    kept = compatcheck.evaluate(old, lower_is_better="glossary").save(tmp_path / "kept")
    with pytest.raises(InputError, match="a higher glossary is worse in OLD and better in NEW"):
        compatcheck.diff(kept, new)
    assert compatcheck.diff(kept, new, lower_is_better="glossary").only.quadrants["positive_flip"] == 40


def test_a_run_that_an_earlier_version_kept_is_read_by_the_name(tmp_path: Path) -> None:
    old, new = pair(tmp_path, "score:loss", 2.0, 1.5)
    kept = compatcheck.evaluate(old, metric_args={"loss": {"higher_is_better": True}}).save(tmp_path / "kept")
    manifest = json.loads((kept / "manifest.json").read_text())
    (metric,) = manifest["tasks"][0]["metrics"]
    del metric["assumed"], metric["settled"]
    (kept / "manifest.json").write_text(json.dumps(manifest))
    assert compatcheck.diff(kept, new).only.quadrants["positive_flip"] == 40


def test_a_metric_of_one_side_alone_is_told(tmp_path: Path) -> None:
    rows = [{"id": n, "score:accuracy": 1.0, "score:recall": 1.0} for n in range(4)]
    both = write_rows(tmp_path / "both.jsonl", rows)
    one = write_rows(tmp_path / "one.jsonl", [{"id": n, "score:accuracy": 1.0} for n in range(4)])
    for old, new, stream in ((both, one, False), (one, both, False), (both, one, True)):
        said = compatcheck.diff(old, new, stream=stream).notes
        sides = ("old", "new") if old == both else ("new", "old")
        assert f"{sides[0]}: recorded (none) is scored by recall too, which {sides[1]} lacks: not compared" in said


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
def test_no_budget_passes_on_a_metric_that_new_lacks(stream: bool, tmp_path: Path) -> None:
    rows = [{"id": n, "score:accuracy": 1.0, "score:recall": 1.0, "score:length": 3.5} for n in range(300)]
    both = write_rows(tmp_path / "both.jsonl", rows)
    one = write_rows(tmp_path / "one.jsonl", [{"id": n, "score:accuracy": 1.0} for n in range(300)])

    def verdict(old: Path, new: Path, rule: str, **more: Any) -> str:
        return compatcheck.diff(old, new, fail_on=[rule], stream=stream, **more).verdict

    found = compatcheck.diff(both, one, fail_on=["nfr:2%"], stream=stream)
    assert found.verdict == "inconclusive"
    assert "OLD is scored by length, recall too, which NEW lacks" in found.only.gates[0].reason
    for rule in ("recorded/nfr:2%", "accuracy:-2%", "btc:95%"):
        assert verdict(both, one, rule) == "inconclusive"
    for rule in ("accuracy.nfr:2%", "missing:1%"):
        assert verdict(both, one, rule) == "pass"
    assert verdict(both, one, "nfr:2%", metric="accuracy") == verdict(both, one, "nfr:2%", max_missing="100%") == "pass"
    assert verdict(one, both, "nfr:2%") == "pass"  # nothing of OLD was left out
    worse = write_rows(tmp_path / "worse.jsonl", [{"id": n, "score:accuracy": n % 2} for n in range(300)])
    assert verdict(both, worse, "nfr:2%") == "fail"


def test_a_metric_of_another_kind_than_the_budget_keeps_nothing_from_passing(tmp_path: Path) -> None:
    rows = [{"id": n, "score:accuracy": 1.0, "score:length": 3.5} for n in range(300)]
    both = write_rows(tmp_path / "both.jsonl", rows)
    one = write_rows(tmp_path / "one.jsonl", [{"id": n, "score:accuracy": 1.0} for n in range(300)])
    assert compatcheck.diff(both, one, fail_on=["accuracy:-2%"]).verdict == "pass"
    kept = compatcheck.diff(both, one, fail_on=["nfr:2%"]).save(tmp_path / "kept")
    assert compatcheck.load(kept).absent == compatcheck.diff(both, one).absent
