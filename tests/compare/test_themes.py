"""Which flips a judge reads: to name a theme, and to test it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from compatcheck.compare.themes import HELD_OUT, LEAST, NAMED, Group, grouped


def frame(kinds: list[str | None], same: int = 40) -> pd.DataFrame:
    """A negative flip of each kind, then ``same`` pairs that stayed right."""
    rows: list[dict[str, Any]] = [
        {"doc_id": f"f{n:03}", "prediction_old": f"old {n}", "prediction_new": f"new {n}", "kind": kind, "flip": True}
        for n, kind in enumerate(kinds)
    ]
    rows += [
        {"doc_id": f"s{n:03}", "prediction_old": f"old {n}", "prediction_new": f"new {n}", "kind": None, "flip": False}
        for n in range(same)
    ]
    return pd.DataFrame(rows).assign(input="q", target=None, response_old=None, response_new=None)


def groups_of(rows: pd.DataFrame, seed: int = 1) -> tuple[list[Group], int]:
    return grouped(rows, rows["flip"], ~rows["flip"], rows["kind"], seed)


def test_no_flip_that_names_a_theme_tests_it() -> None:
    rows = frame(["format"] * 60 + ["refused"] * 13 + ["language"] * 7 + ["choice"] * 5)
    groups, small = groups_of(rows)
    assert [(each.kind, each.flips) for each in groups] == [("format", 60), ("refused", 13), (None, 12)]
    assert small == 0
    assert [(len(each.named), len(each.held_out)) for each in groups] == [(NAMED, HELD_OUT), (6, 7), (LEAST, LEAST)]
    for each in groups:
        assert not {pair.row for pair in each.named} & {pair.row for pair in each.held_out}
        assert len(each.elsewhere) == len(each.held_out)
        assert all(rows["flip"].iloc[pair.row] for pair in (*each.named, *each.held_out))
        assert not any(rows["flip"].iloc[pair.row] for pair in each.elsewhere)


def test_what_is_read_hangs_on_the_seed_and_not_on_the_order_of_the_rows() -> None:
    rows = frame(["format"] * 50)
    ids = [rows["doc_id"].iloc[pair.row] for pair in groups_of(rows)[0][0].held_out]
    turned = rows.sample(frac=1, random_state=3).reset_index(drop=True)
    assert [turned["doc_id"].iloc[pair.row] for pair in groups_of(turned)[0][0].held_out] == ids
    assert [rows["doc_id"].iloc[pair.row] for pair in groups_of(rows, seed=2)[0][0].held_out] != ids


@pytest.mark.parametrize(
    ("flips", "groups", "small"), [(0, 0, 0), (2 * LEAST - 1, 0, 2 * LEAST - 1), (2 * LEAST, 1, 0)]
)
def test_few_flips_are_no_group(flips: int, groups: int, small: int) -> None:
    found, left = groups_of(frame(["format"] * flips))
    assert (len(found), left) == (groups, small)


def test_only_two_different_texts_can_be_told_apart() -> None:
    rows = frame([None] * 20)
    rows.loc[0, "prediction_new"] = None
    rows.loc[1, "prediction_new"] = "  "
    rows.loc[2, "prediction_new"] = " old 2\n"
    rows.loc[3, ["response_old", "response_new"]] = ["So: old", "So: new"]
    (group,), _ = groups_of(rows)
    assert group.flips == 17
    texts = {pair.row: (pair.old, pair.new) for pair in (*group.named, *group.held_out)}
    assert texts.keys() == {*range(3, 20)}
    assert texts[3] == ("So: old", "So: new")
