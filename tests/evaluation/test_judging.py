"""``--metric judge`` against a server on loopback and against a local model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from tests.engines.endpoint.servers import Handler, chat, serving
from tests.factories import write_rows


class LongerIsBetter(Handler):
    """Judges by length, the first answer where the input says so; ``stuck`` in the input makes it fail."""

    def get(self) -> None:
        self.send(200, {"data": [{"id": "judge"}]})

    def post(self, body: dict[str, Any]) -> None:
        prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        if "stuck" in prompt:
            self.send(400, {"error": {"message": "will not judge"}})
            return
        found = [re.search(rf"<answer_{name}>\n(.*)\n</answer_{name}>", prompt, re.S) for name in "ab"]
        lengths = [len(each[1]) if each else 0 for each in found]
        a, b = lengths
        verdict = "A" if "first" in prompt or a > b else "B" if b > a else "TIE"
        self.send(200, chat(f"So [[{verdict}]]"))


def write(path: Path, answers: dict[str, str | None], question: str = "q") -> Path:
    """The target is always ``four``."""
    rows = [{"id": n, "input": f"{question} {n}", "target": "four", "prediction": a} for n, a in answers.items()]
    return write_rows(path, rows)


def test_old_and_new_are_graded_against_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: old 0, ½, 1, 0 and new 1, ½, 0, 0; the judge is asked of four answers of old and two of new."""
    old = write(tmp_path / "old.jsonl", {"a": "x", "b": "abcd", "c": "longer", "d": "y"})
    new = write(tmp_path / "new.jsonl", {"a": "longer", "b": "four", "c": "x", "d": None})
    with serving(LongerIsBetter) as server:
        settings = {"judge": {"model": f"{server.url}#judge"}}
        c = compatcheck.diff(old, new, metric="judge", metric_args=settings, store=tmp_path / "store")
        only = c.only
        assert only.instances["score_old"].tolist() == [0.0, 0.5, 1.0, 0.0]
        assert only.instances["score_new"].tolist() == [1.0, 0.5, 0.0, 0.0]
        assert (only.kind, only.metrics["mean_difference"].value) == ("smooth", 0.0)
        agreements = [only.metrics[f"self_agreement_{side}"] for side in ("old", "new")]
        assert [(each.count, each.of) for each in agreements] == [(4, 4), (2, 2)]
        assert "the judge agrees with itself on 4 of 4 answers (100.0 %) when the order is swapped" in " ".join(c.notes)
        assert "judge's self-agreement, old" in str(c)
        assert "agreed:judge" not in only.instances
        asked = len([path for path, _ in server.asked if path.endswith("completions")])
        assert asked == 2 * 4 + 2 * 2  # both ways round, four answers of old and two of new
        again = compatcheck.diff(old, new, metric="judge", metric_args=settings, store=tmp_path / "store")
        assert again.only.metrics == only.metrics
        assert len([path for path, _ in server.asked if path.endswith("completions")]) == asked  # cached
        arguments = ["--metric", "judge", "--metric-arg", f"judge.model={server.url}#judge", "--no-store", "-q"]
        assert run(["diff", str(old), str(new), *arguments, "--fail-on", "judge.nfr:90%"]) in (0, 3)


def test_a_judge_that_likes_the_first_answer_shows_in_its_self_agreement(tmp_path: Path) -> None:
    old = write(tmp_path / "old.jsonl", {"a": "x", "b": "abcd"}, "first")
    with serving(LongerIsBetter) as server:
        c = compatcheck.diff(
            old, old, allow_same=True, metric="judge", metric_args={"judge": {"model": f"{server.url}#judge"}}
        )
    assert c.only.metrics["self_agreement_old"].value == 0.0
    assert c.only.metrics["score_old"].value == 0.5


def test_a_judge_that_fails_is_an_error(tmp_path: Path) -> None:
    old = write(tmp_path / "old.jsonl", {"a": "x", "b": "abcd"}, "stuck")
    with serving(LongerIsBetter) as server, pytest.raises(InputError, match="will not judge"):
        compatcheck.diff(
            old, old, allow_same=True, metric="judge", metric_args={"judge": {"model": f"{server.url}#judge"}}
        )


def test_what_a_judge_needs(tmp_path: Path) -> None:
    old = write(tmp_path / "old.jsonl", {"a": "x"})

    def compare(stream: bool | None = None, **settings: Any) -> None:
        compatcheck.diff(old, old, allow_same=True, metric="judge", metric_args={"judge": settings}, stream=stream)

    with pytest.raises(InputError, match="needs a model that judges"):
        compare()
    with pytest.raises(InputError, match="is recorded; name a model or an endpoint"):
        compare(model=str(old))
    with pytest.raises(InputError, match=r"judge\.max_tokens=0: must be a whole number"):
        compare(model="m", max_tokens=0)
    with pytest.raises(InputError, match=r"judge\.chat=maybe: must be true or false"):
        compare(model="m", chat="maybe")
    with pytest.raises(
        InputError, match="--stream: --metric judge asks a model about every answer; leave out --stream"
    ):
        compare(stream=True, model="m")


def test_a_local_model_that_cannot_judge_is_told_so(tmp_path: Path, fixtures: Path) -> None:
    """The tiny base was never taught to judge; it is loaded and asked all the same."""
    old = write(tmp_path / "old.jsonl", {"a": "x"})
    settings = {"judge": {"model": str(fixtures / "models" / "base-v1"), "max_tokens": 4}}
    with pytest.raises(InputError, match="none of 2 replies ends with"):
        compatcheck.diff(old, old, allow_same=True, metric="judge", metric_args=settings)
