"""One file with the answers of several models: ``FILE#MODEL``."""

from __future__ import annotations

from pathlib import Path

import pytest

import compatcheck
from compatcheck.errors import InputError
from tests.factories import write_rows


@pytest.fixture
def both(tmp_path: Path) -> Path:
    path = tmp_path / "both.jsonl"
    rows = [
        {"id": i, "target": "a", "prediction": answer, "model": model, "meta": {"release": model[:1]}}
        for model, answer in (("march", "a"), ("june", "b"))
        for i in range(40)
    ]
    return write_rows(path, rows)


@pytest.mark.parametrize(("old", "new"), [("march", "june"), ("meta.release=m", "meta.release=j")])
def test_the_rows_of_two_models_in_one_file(both: Path, old: str, new: str) -> None:
    c = compatcheck.diff(f"{both}#{old}", f"{both}#{new}")
    assert c.only.quadrants["negative_flip"] == 40
    assert c.old.fingerprint != c.new.fingerprint
    with pytest.raises(InputError, match="OLD and NEW are the same"):
        compatcheck.diff(f"{both}#{old}", f"{both}#{old}")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("marsh", "did you mean 'march'"),
        ("release=march", "no field `release`"),
        ("model=may", "there are march, june"),
    ],
)
def test_a_part_that_is_not_there(both: Path, part: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compatcheck.diff(f"{both}#{part}", f"{both}#june")


def test_it_is_done_on_disk_too(both: Path) -> None:
    c = compatcheck.diff(f"{both}#march", f"{both}#june", stream=True)
    assert c.only.quadrants["negative_flip"] == 40
