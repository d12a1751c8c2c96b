"""What ``key=value`` options mean."""

from __future__ import annotations

from typing import Any

import pytest

from compatcheck.errors import InputError
from compatcheck.option_kinds import parse_pairs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("2E5", 2e5), ("-1.e-3", -1e-3), ("1.5e-3", 1.5e-3), ("0.1", 0.1), ("12", 12), ("true", True),
        ("null", None), ("lora", "lora"), ("1e", "1e"), ("e5", "e5"), ("'1e-4'", 1e-4), ("a: b: c", "a: b: c"),
    ],
)  # fmt: skip
def test_values_are_yaml_and_exponents_are_numbers(text: str, value: Any) -> None:
    found = parse_pairs("--engine-arg", [f" key ={text}"])
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize("pair", ["key", "=1"])
def test_a_pair_needs_both_sides(pair: str) -> None:
    with pytest.raises(InputError, match=f"--set {pair}: write it as key=value"):
        parse_pairs("--set", [pair])
