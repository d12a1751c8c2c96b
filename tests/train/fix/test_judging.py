"""Candidates are judged by flips counted by hand, on documents that are not those of the proof."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compatcheck.errors import InputError
from compatcheck.records import Manifest, Metric, Run, TaskRun
from compatcheck_train.examples import Examples, load_examples
from compatcheck_train.fix.candidates import Candidate, candidates_for, total_steps
from compatcheck_train.fix.judging import HELD_OUT, Judge, Scores, best, ranked
from compatcheck_train.loss import strategies
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training.run import train


def run_of(scores: list[float], metric: Metric) -> Run:
    records = pd.DataFrame(
        {
            "doc_id": [str(i) for i in range(len(scores))],
            "target": "a",
            "prediction": "b",
            f"score:{metric.name}": scores,
        }
    )
    return Run(Manifest("r", "sha256:0", "model"), (TaskRun("t", "none", (metric,), records, {}),))


def test_standings_are_counted_by_hand() -> None:
    rng = np.random.default_rng(1)
    old, new, one, two = (list((rng.random(200) < share).astype(float)) for share in (0.7, 0.8, 0.75, 0.6))
    right = Metric("acc", "discrete", True, "test")
    runs = {name: run_of(scores, right) for name, scores in (("one", one), ("two", two))}
    found = Judge("t").scores(run_of(old, right), run_of(new, right), runs).values()
    flips = sum(o == 1 and n == 0 for o, n in zip(old, new, strict=True)) / 200
    for each, scores in zip(found, (one, two), strict=True):
        assert each.nfr == pytest.approx(sum(o == 1 and s == 0 for o, s in zip(old, scores, strict=True)) / 200)
        assert each.pfr == pytest.approx(sum(o == 0 and s == 1 for o, s in zip(old, scores, strict=True)) / 200)
        assert each.score == pytest.approx(np.mean(scores))
        assert (each.n, each.nfr_of_new, each.score_of_new) == (200, flips, pytest.approx(np.mean(new)))
        assert each.score_error == pytest.approx(np.std(np.subtract(scores, new), ddof=1) / 200**0.5)
        assert each.fall == pytest.approx(1 - each.nfr / flips)


def test_where_less_is_better_the_score_is_turned() -> None:
    errors = Metric("wer", "smooth", False, "test")
    old, new, better = [0.2, 0.4], [0.3, 0.3], [0.1, 0.1]
    found = Judge("t").scores(run_of(old, errors), run_of(new, errors), {"better": run_of(better, errors)})["better"]
    assert (found.score, found.score_of_new) == (pytest.approx(-0.1), pytest.approx(-0.3))
    assert (found.nfr, found.nfr_of_new) == (0.0, 0.5)


def standing(name: str, nfr: float, score: float, nfr_of_new: float = 0.1, error: float = 0.0) -> Scores:
    return Scores(name, 100, nfr, 0.0, score, nfr_of_new, 0.8, error)


def test_the_best_has_the_fewest_flips_among_those_that_keep_the_score() -> None:
    kept = [standing("a", 0.05, 0.80), standing("b", 0.04, 0.81), standing("c", 0.01, 0.79)]
    assert best(kept).name == "b"
    within = [replace(each, score_error=0.015) for each in kept]
    assert best(within).name == "b", "where one keeps the score, it counts"
    assert best(within, errors=1.0).name == "c"
    half = [standing("a", 0.05, 0.80), standing("b", 0.02, 0.796, error=0.01), standing("c", 0.01, 0.794, error=0.01)]
    assert best(half).name == "b", "half a standard error below is as good as equal"
    assert best(half, errors=0.0).name == "a"
    assert best([standing("a", 0.03, 0.79, error=0.02), standing("b", 0.05, 0.795, error=0.001)]).name == "a"
    assert best([standing("a", 0.05, 0.80), standing("b", 0.05, 0.82)]).name == "b", "of equal flips the better score"
    assert best([standing("a", 0.05, 0.70), standing("b", 0.09, 0.75)]).name == "b", "none keeps the score"
    assert standing("a", 0.0, 0.8, nfr_of_new=0.0).fall is None


def test_trials_are_ranked_by_flips_where_the_score_is_not_clearly_below() -> None:
    trials = [
        standing("clearly below, few flips", 0.01, 0.70, error=0.01), standing("more flips", 0.06, 0.82, error=0.01),
        standing("within two errors", 0.03, 0.785, error=0.01), standing("clearly below", 0.02, 0.75, error=0.01),
    ]  # fmt: skip
    assert [each.name for each in ranked(trials)] == [
        "within two errors", "more flips", "clearly below", "clearly below, few flips",
    ]  # fmt: skip


def test_an_unknown_metric_names_those_there_are() -> None:
    run = run_of([1.0], Metric("acc", "discrete", True, "test"))
    with pytest.raises(InputError, match="--metric f1: task t does not give it; it gives acc"):
        Judge("t", metric="f1").pick(run)


@pytest.fixture(scope="module")
def examples(fixtures: Path) -> Examples:
    return load_examples("piqa", data=fixtures / "data", limit=50)


def test_a_part_of_the_evaluation_split_is_set_aside_to_choose_on(examples: Examples, fixtures: Path) -> None:
    judge = Judge("piqa", data=fixtures / "data", limit=100)
    choosing, proof = judge.validation(examples), judge.test()
    assert choosing.indices is not None and proof.indices is not None
    assert (len(choosing.indices), len(proof.indices)) == (25, 75)
    assert sorted((*choosing.indices, *proof.indices)) == list(range(100)), "every document is in one of them"
    assert judge.validation(examples).indices == choosing.indices, "drawn with a seed"
    assert replace(judge, seed=2).validation(examples).indices != choosing.indices
    few = judge.validation(examples, 10).indices
    assert few is not None and set(few) < set(choosing.indices)
    assert judge.test(10).size == 90, "what is not chosen on is proven on"
    assert judge.test(10, chooses=False).size == 100, "where nothing is chosen every document proves"
    assert judge.known_to_new(choosing, examples) is None
    with pytest.raises(InputError, match=r"1 documents to evaluate are too few .* --dev held-out"):
        replace(judge, limit=1).test()


def test_documents_of_equal_content_are_not_parted(examples: Examples, fixtures: Path, tmp_path: Path) -> None:
    (tmp_path / "piqa").mkdir()
    twice = [row for row in rows(fixtures, "validation", 20) for _ in range(2)]
    (tmp_path / "piqa" / "validation.jsonl").write_text("".join(twice))
    judge = Judge("piqa", data=tmp_path)
    choosing, proof = judge.validation(examples).indices, judge.test().indices
    assert choosing is not None and proof is not None
    assert {number // 2 for number in choosing}.isdisjoint(number // 2 for number in proof)
    assert len(choosing) == 10


def test_more_documents_are_more_to_prove_on(examples: Examples, fixtures: Path, tmp_path: Path) -> None:
    """What was chosen on stays that, and no content of it is proven on."""
    (tmp_path / "piqa").mkdir()
    once = rows(fixtures, "validation", 40)
    (tmp_path / "piqa" / "validation.jsonl").write_text("".join(once + once[:20] + rows(fixtures, "dev", 10)))
    before = Judge("piqa", data=tmp_path, limit=40)
    after = replace(before, limit=70, drawn_from=40)
    choosing = before.validation(examples).indices
    assert choosing is not None and after.validation(examples).indices == choosing
    proof = after.test().indices
    assert proof is not None
    again = {number + 40 for number in choosing if number < 20}
    assert again, "there is something to go wrong"
    assert set(proof) == set(range(70)) - set(choosing) - again
    assert set(before.test().indices or ()) < set(proof)


def test_rows_that_new_was_trained_on_are_warned_of(examples: Examples, fixtures: Path, tmp_path: Path) -> None:
    held_out = Judge("piqa", data=fixtures / "data", dev=HELD_OUT)
    warning = held_out.known_to_new(held_out.validation(examples), examples)
    assert warning is not None and "on 10 documents of which 10 are training rows" in warning
    own = tmp_path / "own.jsonl"
    known = int(examples.train[0].doc_id)
    own.write_text("".join([*rows(fixtures, "dev", 5), rows(fixtures, "train", known + 1)[known]]))
    mixed = Judge("piqa", data=fixtures / "data", dev=str(own))
    warning = mixed.known_to_new(mixed.validation(examples), examples)
    assert warning is not None and "on 6 documents of which 1 are training rows" in warning
    few = load_examples("piqa", data=fixtures / "data", limit=5)
    warning = mixed.known_to_new(mixed.validation(few), few)
    assert warning is not None and "of which 1 are training rows" in warning, "NEW's own training had no --train-limit"


def test_documents_to_choose_on_that_are_trained_on_without_their_label(fixtures: Path, tmp_path: Path) -> None:
    own, further = tmp_path / "own.jsonl", tmp_path / "further.jsonl"
    own.write_text("".join(rows(fixtures, "dev", 5)))
    further.write_text("".join(rows(fixtures, "dev", 2)))
    examples = load_examples("piqa", data=fixtures / "data", unlabelled=further)
    judge = Judge("piqa", data=fixtures / "data", dev=str(own))
    warning = judge.known_to_new(judge.validation(examples), examples)
    assert warning is not None and "on 5 documents of which 2 are inputs of --unlabelled" in warning


@pytest.mark.parametrize(
    ("dev", "message"),
    [
        ("nowhere.jsonl", "--dev nowhere.jsonl: no such file"),
        ("validation", "split 'validation' is the one that is evaluated; it cannot be trained or chosen on"),
    ],
)
def test_documents_to_choose_on_that_are_not_there(dev: str, message: str, examples: Examples, fixtures: Path) -> None:
    with pytest.raises(InputError, match=message):
        Judge("piqa", data=fixtures / "data", dev=dev).validation(examples)


def test_the_held_out_part_of_the_training_split(examples: Examples, fixtures: Path) -> None:
    judge = Judge("piqa", data=fixtures / "data", dev=HELD_OUT)
    loaded = judge.validation(examples)
    assert loaded.settings["split"] == "train"
    assert sorted(loaded.indices or []) == sorted(int(each.doc_id) for each in examples.validation)
    assert judge.validation(examples, 4).size == 4
    contexts = {loaded.task.doc_to_text(loaded.task.eval_docs[index]) for index in loaded.indices or []}
    assert contexts == {each.pairs[0][0] for each in examples.validation}


def rows(fixtures: Path, split: str, most: int) -> list[str]:
    with gzip.open(fixtures / "data" / "piqa" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        return list(islice(file, most))


def test_documents_of_ones_own_to_choose_on(examples: Examples, fixtures: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text("".join(rows(fixtures, "dev", 12)))
    assert Judge("piqa", data=fixtures / "data", dev=str(own)).validation(examples).size == 12
    split = Judge("piqa", data=fixtures / "data", dev="dev")
    first, again = split.validation(examples, 10), split.validation(examples, 10)
    assert first.indices == again.indices and first.size == 10
    with_test = [*rows(fixtures, "dev", 3), *rows(fixtures, "validation", 1)]
    assert json.loads(with_test[-1])["goal"]
    own.write_text("".join(with_test))
    # The test split is looked up in the data folder, which a file of one's own has not.
    with pytest.raises(InputError, match="document 0 of the test split is in it; candidates cannot be chosen on"):
        Judge("piqa", data=fixtures / "data", dev=str(own)).validation(examples)


def test_what_auto_tries_is_for_the_kind() -> None:
    for kind in ("choice", "text"):
        for candidate in candidates_for(kind):
            own = candidate.settings(TrainSettings())
            strategy = strategies.get(own.strategy)
            assert kind in strategy.kinds, candidate.name
            strategy.settled(own.strategy_options)
        assert len({candidate.name for candidate in candidates_for(kind)}) == len(candidates_for(kind))
        assert {c.name for c in candidates_for(kind)} - {c.name for c in candidates_for(kind, share=1.0)} >= {
            "muscle, answer"
        }
    named = candidates_for("text", ("muscle", "continue-ce+pct"))
    assert named == (Candidate("muscle", "muscle"), Candidate("continue-ce+pct", "pct", first="continue-ce"))
    with pytest.raises(InputError, match=r"strategy a\+b\+c: has more than two stages; write FIRST"):
        candidates_for("text", ("a+b+c",))


@pytest.mark.parametrize("changes", [{}, {"batch_size": 5, "gradient_accumulation": 2}, {"max_steps": 3}])
def test_the_steps_that_are_announced_are_those_that_are_taken(
    changes: dict[str, int], pair: dict[str, str], choice_examples: Examples, tmp_path: Path
) -> None:
    own = TrainSettings(**{"epochs": 2, "batch_size": 4, "gradient_accumulation": 1, "device": "cpu"} | changes)  # type: ignore[arg-type]
    own = own.changed(strategy="continue-ce")
    assert total_steps(choice_examples, own) == train(None, pair["new"], choice_examples, own, tmp_path).steps
