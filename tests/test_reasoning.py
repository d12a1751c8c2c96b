"""Reasoning of known families told apart from the answer; what merely speaks of the marks stays whole."""

from __future__ import annotations

import re
import time

import pytest

from compatcheck.reasoning import SEEN, split
from compatcheck.similarity.structured import calls

FINISHED = [
    ("<think>two and two</think>4", "4", "two and two"),
    ("<think>\ntwo\n\nand two\n</think>\n\nThe answer is 4.\n", "The answer is 4.", "two\n\nand two"),
    ("\n <THINK>a</think> 4", "4", "a"),
    ("<thinking>a</thinking>\n4", "4", "a"),
    ("<reasoning>a</reasoning>4", "4", "a"),
    ("<thought>a</thought>4", "4", "a"),
    ("<seed:think>a</seed:think>4", "4", "a"),
    ("[THINK]a[/THINK]4", "4", "a"),
    ("◁think▷a◁/think▷4", "4", "a"),
    ("<|START_THINKING|>a<|END_THINKING|>4", "4", "a"),
    ("<|begin_of_thought|>a<|end_of_thought|>4", "4", "a"),
    ("the template opened it</think>4", "4", "the template opened it"),
    ("the template opened it[/THINK]4", "4", "the template opened it"),
    ("<think>\n\n</think>\n\n4", "4", None),
    ("<think>a</think>Sure.\n<think>b</think>\n4", "Sure.\n\n4", "a\n\nb"),
    ("<think>a <think> b </think> c</think>4", "4", "a <think> b </think> c"),
    ("<think>the tag <think> opens</think>4", "4", "the tag <think> opens"),
    ("<think>a</think>The tag `</think>` closes.", "The tag `</think>` closes.", "a"),
    ("<think>a </thinking> b</think>4", "4", "a </thinking> b"),
    ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>", "4", "a"),
    ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>4", "4", "a"),
    ("analysisWe add.assistantfinal4", "4", "We add."),
]
UNFINISHED = [
    ("<think>let me see", "", "let me see"),
    ("<think>", "", None),
    ("4\n<think>or is it", "4", "or is it"),
    ("<think>a</think>\n<think>b", "", "a\n\nb"),
    ("[THINK]a", "", "a"),
    ("<|channel|>analysis<|message|>let me", "", "let me"),
    ("<|channel|>analysis", "", None),
    ("analysisWe need", "", "We need"),
]
WHOLE = [
    "", "4", "I think so.", "Use the <think> tag, and `</think>` to close it.", "`</think>` closes.",
    "```xml\n<think>\n</think>\n```", "a < b and c > d", "analysis of variance", "<thinker>a</thinker>",
    "[think] it over",
    "a\n    b <think>c", "<b>thought</b>",
]  # fmt: skip


@pytest.mark.parametrize(("text", "answer", "reasoning"), FINISHED)
def test_answer_and_reasoning_are_told_apart(text: str, answer: str, reasoning: str | None) -> None:
    found = split(text)
    assert (found.answer, found.reasoning, found.unfinished) == (answer, reasoning, False)
    assert split(found.answer).answer == found.answer
    assert re.search(SEEN, text) or text.startswith("analysisWe")


@pytest.mark.parametrize(("text", "answer", "reasoning"), UNFINISHED)
def test_a_text_that_ends_within_its_reasoning(text: str, answer: str, reasoning: str | None) -> None:
    found = split(text)
    assert (found.answer, found.reasoning, found.unfinished) == (answer, reasoning, True)


@pytest.mark.parametrize("text", WHOLE)
def test_what_holds_no_reasoning_stays_as_it_is(text: str) -> None:
    found = split(text)
    assert (found.answer, found.reasoning, found.unfinished) == (text, None, False)


def test_a_call_in_harmony_is_an_answer() -> None:
    text = (
        "<|channel|>analysis<|message|>I look it up.<|end|><|start|>assistant<|channel|>commentary "
        'to=functions.weather <|constrain|>json<|message|>{"city": "Bonn"}<|call|>'
    )
    found = split(text)
    assert calls(found.answer) == [{"name": "weather", "arguments": {"city": "Bonn"}}]
    assert (found.reasoning, found.unfinished) == ("I look it up.", False)


@pytest.mark.parametrize(
    "piece", ["<think>", "</think>", "\n<think>", "<|channel|>", "<|channel|>a<|message|>", "[THINK]\n[/THINK]"]
)
def test_no_text_takes_long(piece: str) -> None:
    began = time.process_time()
    split(piece * 50_000)
    assert time.process_time() - began < 10  # a second or so; what grows with the square takes minutes
