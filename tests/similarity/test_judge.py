"""A judge that follows rules written here, so that every score can be said beforehand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from compatcheck import similarity
from compatcheck.errors import InputError
from compatcheck.similarity.judge import RUBRIC, Verdicts, read_verdict, rubric_text


def answers_of(prompt: str) -> tuple[str, str]:
    a, b = (re.search(rf"<answer_{name}>\n(.*)\n</answer_{name}>", prompt, re.S) for name in "ab")
    assert a and b
    return a[1], b[1]


def longest(prompts: list[str]) -> list[str]:
    """Prefers the longer answer, whichever comes first."""
    replies = []
    for prompt in prompts:
        a, b = (len(text) for text in answers_of(prompt))
        replies.append(f"Thinking about A and B. [[{'A' if a > b else 'B' if b > a else 'TIE'}]]")
    return replies


def first(prompts: list[str]) -> list[str]:
    """Always prefers what comes first."""
    return ["[[A]]"] * len(prompts)


def test_better_as_good_and_worse_than_the_target() -> None:
    scorer = similarity.get("judge", verdicts=Verdicts(longest, RUBRIC), model="m")
    scores, agreed = scorer.grade(["longer text", "same", "ab", "x", None], ["text", "same", "cd", "four", "four"])
    assert scores.tolist() == [1.0, 0.5, 0.5, 0.0, 0.0]
    assert agreed is not None
    assert np.array_equal(agreed, [1, np.nan, 1, 1, np.nan], equal_nan=True)  # not asked: the target itself, no answer
    assert (scorer.kind, scorer.score(["longer text"], ["text"]).tolist()) == ("smooth", [1.0])
    assert re.fullmatch(r"judge\|m\|pairwise to target, both orders\|rubric:[0-9a-f]{8}", scorer.signature)


def test_a_judge_that_likes_the_first_answer_says_nothing_and_is_found_out() -> None:
    scores, agreed = Verdicts(first, RUBRIC).grade(["a", "b"], ["x", "y"], [None, None])
    assert scores.tolist() == [0.5, 0.5]
    assert agreed.tolist() == [0.0, 0.0]


def test_of_several_targets_the_best_counts() -> None:
    scores, agreed = Verdicts(longest, RUBRIC).grade(["four"], [["longer", "xyz", "abcd"]], [None])
    assert (scores.tolist(), agreed.tolist()) == ([1.0], [1.0])


def test_input_and_rubric_reach_the_judge_in_both_orders() -> None:
    asked: list[str] = []

    def ask(prompts: list[str]) -> list[str]:
        asked.extend(prompts)
        return ["TIE"] * len(prompts)

    Verdicts(ask, "Prefer {brief} answers.").grade(["mine"], ["right"], ["What? {x}"])
    assert [answers_of(prompt) for prompt in asked] == [("mine", "right"), ("right", "mine")]
    assert all("Rubric: Prefer {brief} answers." in prompt and "What? {x}" in prompt for prompt in asked)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("[[A]]", "A"), ("A is fine, but [[ B ]]", "B"), ("[[A]] no, wait: [[TIE]]", "TIE"), (" b. ", "B"),
        ("**Tie**", "TIE"), ("A is better than B", None), ("", None), ("[[C]]", None),
    ],
)  # fmt: skip
def test_verdicts_are_read_from_the_reply(reply: str, verdict: str | None) -> None:
    assert read_verdict(reply) == verdict


def test_a_reply_without_a_verdict_is_a_tie_and_counted() -> None:
    replies = iter(["[[A]]", "hm"])
    verdicts = Verdicts(lambda prompts: [next(replies) for _ in prompts], RUBRIC)
    scores, agreed = verdicts.grade(["a"], ["b"], [None])
    assert (scores.tolist(), agreed.tolist(), verdicts.unreadable) == ([0.75], [0.0], 1)


def test_a_model_that_gives_no_verdict_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match="none of 2 replies ends with"):
        Verdicts(lambda prompts: ["I cannot say"] * len(prompts), RUBRIC).grade(["a"], ["b"], [None])


def test_settings_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs a model that judges: --metric-arg judge\.model="):
        similarity.get("judge")
    with pytest.raises(InputError, match=r"judge\.rubrik: no such setting.*did you mean 'rubric'"):
        similarity.get("judge", rubrik="x")
    with pytest.raises(InputError, match="no such file"):
        rubric_text(str(tmp_path / "none.md"))
    (tmp_path / "mine.md").write_text(" Be strict.\n", encoding="utf-8")
    assert rubric_text(str(tmp_path / "mine.md")) == "Be strict."
    assert (rubric_text("Be kind."), rubric_text(None)) == ("Be kind.", RUBRIC)
