from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

from compatcheck.engines.answers import Generated
from compatcheck.evaluation.store import keys

MODEL = "0f" * keys.KEY_BYTES


def test_a_key_is_its_content() -> None:
    one = keys.request_digest("generate_until", ("a", {"until": ["x"], "max_gen_toks": 3}))
    assert one == keys.request_digest("generate_until", ("a", {"max_gen_toks": 3, "until": ["x"]}))
    others = [
        keys.request_digest("generate_until", ("a", {"until": ["x"], "max_gen_toks": 4})),
        keys.request_digest("generate_until", ("b", {"until": ["x"], "max_gen_toks": 3})),
        keys.request_digest("loglikelihood", ("a", "b")),
        keys.request_digest("loglikelihood_rolling", ("a", "b")),
        keys.request_digest("loglikelihood", ("a ", "b")),
        keys.request_digest("loglikelihood", ("a", " b")),
        keys.request_digest("loglikelihood", ("a\ud800", " b")),
    ]
    assert len({one, *others}) == 8
    assert one is not None
    assert len(one) == keys.KEY_BYTES
    assert keys.answer_key(MODEL, one) != keys.answer_key("1f" * keys.KEY_BYTES, one)


def test_images_are_taken_by_content_and_what_cannot_be_written_down_has_no_key() -> None:
    from PIL import Image

    def digest(color: str) -> bytes | None:
        return keys.request_digest("generate_until", ("a", {}, {"visual": [Image.new("RGB", (2, 2), color)]}))

    assert digest("red") == digest("red") != digest("blue")
    assert keys.request_digest("generate_until", ("a", {"f": object()})) is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"temperature": 0.0}, False),
        ({"temperature": 0.0, "do_sample": False}, False),
        ({"temperature": 0.7}, True),
        ({"temperature": 0.7, "do_sample": False}, True),  # engines differ on this one
        ({"do_sample": True}, True),
        ({"extra_body": {"temperature": 1}}, True),
    ],
)
def test_what_is_drawn_at_random(settings: dict[str, Any], expected: bool) -> None:
    assert keys.is_sampled("generate_until", ("a", settings)) is expected
    assert not keys.is_sampled("loglikelihood", ("a", "b"))


def test_draws_are_counted_by_model_and_request() -> None:
    draws = keys.Draws()
    assert [draws.next("m", b"a"), draws.next("m", b"a"), draws.next("m", b"b"), draws.next("n", b"a")] == [0, 1, 0, 0]
    digest = keys.request_digest("generate_until", ("a", {"temperature": 1}))
    assert digest is not None
    found = {keys.answer_key(MODEL, digest, draw, seed) for draw in range(3) for seed in (0, 1)}
    assert len(found | {keys.answer_key(MODEL, digest)}) == 7


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("loglikelihood", (-1.0000000000000002e-300, True)),
        ("loglikelihood", (-math.inf, False)),
        ("loglikelihood_rolling", -123.45678901234567),
        ("generate_until", "a\n\"'\\ \x00 \U0001f600"),
        ("generate_until", ""),
    ],
)
def test_answers_come_back_as_they_were(kind: str, answer: Any) -> None:
    text = keys.encode(kind, answer)
    assert text is not None
    assert keys.decode(kind, text) == answer
    assert type(keys.decode(kind, text)) is type(answer)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("loglikelihood", (math.nan, True)),
        ("loglikelihood", None),
        ("loglikelihood_rolling", math.nan),
        ("loglikelihood_rolling", None),
        ("generate_until", None),
        ("generate_until", 3),
    ],
)
def test_what_is_no_answer_is_not_kept(kind: str, answer: Any) -> None:
    assert keys.encode(kind, answer) is None


@pytest.mark.parametrize(
    ("given", "kept"), [("a\ud800b", "a\ufffdb"), ("\ud83d\ude00", "\U0001f600"), ("\udfff", "\ufffd")]
)
def test_halves_of_surrogate_pairs_end_at_the_door(given: str, kept: str) -> None:
    assert keys.well_formed(given) == kept
    found = keys.well_formed(Generated(given, "length"))
    assert (found, found.about.finish_reason) == (kept, "length")
    stored = keys.encode("generate_until", given)  # as earlier versions stored it
    assert stored is not None
    assert keys.decode("generate_until", stored) == kept


def test_an_answer_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no answer of kind"):
        keys.decode("loglikelihood", '"text"')
    with pytest.raises(ValueError, match="no answer of kind"):
        keys.decode("generate_until", "[1.0, true]")
    assert keys.checksum(b"a", "x") != keys.checksum(b"b", "x")


def test_what_came_with_an_answer_is_stored_with_it_and_travels_between_processes() -> None:
    came = {"finish_reason": "stop", "reasoning": "2 + 2", "tool_calls": [{"name": "add", "arguments": {"a": 2}}],
            "prompt_tokens": 7, "output_tokens": 5, "latency_first": 0.25, "latency": 1.5}  # fmt: skip
    answer = Generated("4", **came)
    text = keys.encode("generate_until", answer)
    assert text is not None
    for found in (keys.decode("generate_until", text), pickle.loads(pickle.dumps(answer)), copy.deepcopy(answer)):
        assert (found, vars(found.about)) == ("4", came)


def test_answers_of_before_are_read() -> None:
    assert keys.decode("generate_until", '"plain"') == "plain"
    found = keys.decode("generate_until", '{"text": "cut", "finish_reason": "length"}')
    assert (found, found.about.known) == ("cut", {"finish_reason": "length"})
    with pytest.raises((ValueError, TypeError)):  # the store takes either for a damaged row
        keys.decode("generate_until", '{"text": "of a later version", "colour": "red"}')
