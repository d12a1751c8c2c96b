"""``--gen``: what can be said, and what an engine gets of it."""

from __future__ import annotations

from typing import Any

import pytest

from compatcheck.errors import InputError
from compatcheck.evaluation.store.keys import asks_to_sample
from compatcheck.option_kinds import KINDS
from compatcheck.tasks.generation import check_engine, for_local, overlaid, read_generation, seed_of


def parsed(*pairs: str) -> dict[str, Any]:
    return dict(KINDS["Decoding"].parse("--gen", list(pairs)))


def test_texts_of_the_command_line() -> None:
    assert parsed("temperature=0.7", "max_tokens=9", "top_p=1e-1") == {
        "temperature": 0.7, "max_tokens": 9, "top_p": 0.1
    }  # fmt: skip
    assert parsed("stop=END", r"stop=\n\n", "stop=5", "stop=") == {"stop": ["END", "\n\n", "5", ""]}
    assert parsed('stop=["a", "b"]', r"stop='\newpage'") == {"stop": ["a", "b", r"\newpage"]}
    assert parsed("stop=none") == {"stop": "none"}


def test_names_are_lm_evals_and_none_leaves_out() -> None:
    assert read_generation({"max_tokens": 5, "temperature": 1, "stop": "x"}) == {
        "max_gen_toks": 5, "temperature": 1.0, "until": ["x"], "do_sample": True
    }  # fmt: skip
    own = {"until": ["\n"], "max_new_tokens": 8, "temperature": 0.0, "do_sample": False, "top_k": 3}
    given = read_generation({"max_tokens": 5, "temperature": "none", "top_k": None, "stop": None})
    made = overlaid(own, given)
    assert made == {"max_gen_toks": 5, "temperature": None}
    assert for_local(made | {"tools": [1], "seed": 4}) == {"max_gen_toks": 5}
    assert asks_to_sample(made) and not asks_to_sample(own), "a server takes its own temperature then"
    assert (seed_of({"seed": 7}, 1), seed_of({"seed": None}, 1), seed_of(None, 1)) == (7, 1, 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temprature": 0}, r"--gen temprature: no such setting.*did you mean 'temperature'"),
        ({"temperature": -1}, "--gen temperature=-1: must be a number from 0 on, or none"),
        ({"temperature": "hot"}, "--gen temperature=hot: must be a number"),
        ({"max_tokens": 1.5}, r"--gen max_tokens=1\.5: must be a whole number of at least 1"),
        ({"max_tokens": True}, "--gen max_tokens=True: must be"),
        ({"temperature": float("inf")}, "--gen temperature=inf: must be"),
        ({"max_tokens": 10**400}, "--gen max_tokens=1000000"),
        ({"stop": [""]}, r"--gen stop=\[''\]: must be a text or a list of texts"),
        ({"max_tokens": 5, "max_gen_toks": 6}, "--gen max_gen_toks: max_tokens is given twice"),
    ],
)
def test_what_cannot_be_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_generation(given)


def test_an_engine_without_a_setting_says_so() -> None:
    with pytest.raises(InputError, match=r"--gen presence_penalty=1\.0: the engine hf has no such setting"):
        check_engine("hf", {"presence_penalty": 1})
    check_engine("hf", {"presence_penalty": 0})
    check_engine("vllm", {"presence_penalty": 1})
    check_engine("endpoint", {"presence_penalty": 1, "reasoning_effort": "low"})
