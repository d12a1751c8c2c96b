from __future__ import annotations

from typing import Any

from compatcheck.evaluation.shuffled import PARTS, Shuffled


class Engine:
    """Answers with what it was asked, and remembers the calls."""

    notes = ("said",)

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    def generate_until(self, requests: list[Any]) -> list[Any]:
        self.calls.append(list(requests))
        return [f"answer {request}" for request in requests]


def test_answers_keep_their_place_whatever_the_order() -> None:
    engine = Engine()
    shuffled = Shuffled(engine, seed=1)
    requests = list(range(40))
    assert shuffled.generate_until(requests) == [f"answer {number}" for number in requests]
    assert len(engine.calls) == PARTS
    asked = [number for call in engine.calls for number in call]
    assert sorted(asked) == requests
    assert asked != requests


def test_no_two_calls_are_alike_and_the_same_seed_repeats_them() -> None:
    engine, again = Engine(), Engine()
    for one in (engine, again):
        shuffled = Shuffled(one, seed=1)
        shuffled.generate_until(list(range(40)))
        shuffled.generate_until(list(range(40)))
    assert engine.calls == again.calls
    assert engine.calls[:PARTS] != engine.calls[PARTS:]


def test_few_requests_and_none() -> None:
    for size in range(4):
        assert Shuffled(Engine(), 0).generate_until(list(range(size))) == [f"answer {n}" for n in range(size)]


def test_everything_else_is_the_engines_own() -> None:
    assert Shuffled(Engine(), 0).notes == ("said",)
