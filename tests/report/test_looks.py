"""How the bounds went over instances, in every format that shows it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from compatcheck.compare.result import BoundPath, Look, Result, Sequential
from compatcheck.report import looks, render


def path(count: int, rule: str = "nfr:2%", unit: str = "share") -> BoundPath:
    """Bounds about a figure of 0.5 % that narrow with the number of instances."""
    each = tuple(Look(25 * i, 0.005, 0.0, 0.3 / i) for i in range(1, count + 1))
    return BoundPath(rule, 0.02, "pass", 25 * count, each, unit)


@pytest.fixture
def drawn(failing: Result) -> Result:
    how = Sequential(25, 500, 10_042, 1234, (path(20), path(3, "net:-2%", "points")))
    return replace(failing, comparisons=(replace(failing.comparisons[0], sequential=how),))


def test_at_most_eight_looks_with_the_first_and_the_last() -> None:
    found = looks.rows(path(20))
    assert len(found) == looks.ROWS
    assert (found[0].n, found[-1].n) == ("25", "500")
    assert [row.n for row in looks.rows(path(3))] == ["25", "50", "75"]
    assert looks.rows(path(0)) == ()


def test_the_bar_shows_the_budget_and_the_bounds_on_one_scale() -> None:
    found = looks.rows(path(20))
    places = [row.track.index("|") for row in found]
    assert len(set(places)) == 1
    assert len(found[0].track) == looks.TRACK
    assert len(found[-1].track) == places[0] + 1, "at the end the bounds are within the budget"


@pytest.mark.parametrize("format", ["terminal", "markdown", "html"])
def test_every_format_shows_them(drawn: Result, format: str) -> None:
    text = re.sub(r"<[^>]*>|\\|&#\d+;", "", render(drawn, format))
    assert "500 of 10,042 documents drawn, a look every 25" in text
    assert "pass after 500 instances" in text
    assert "0.0 % – 1.5 %" in text


def test_a_picture_stays_in_its_frame() -> None:
    picture = looks.picture(path(20))
    assert picture is not None
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d+", picture.band + picture.line)]
    xs, ys = numbers[0::2], numbers[1::2]
    assert min(xs) >= picture.left
    assert max(xs) <= picture.width
    assert 0 <= min(ys) <= picture.budget <= max(ys) <= picture.baseline
    assert looks.picture(path(1)) is None
