"""How the bounds went over instances, in every format that shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from compatcheck.compare.looks import BoundPath, Look
from compatcheck.compare.result import Result, Sequential
from compatcheck.report import charts, looks, render


def path(count: int, rule: str = "nfr:2%", unit: str = "share") -> BoundPath:
    """Bounds about a figure of 0.5 % that narrow with the number of instances."""
    each = tuple(Look(25 * i, 0.005, 0.0, 0.3 / i) for i in range(1, count + 1))
    return BoundPath(rule, 0.02, "pass", 25 * count, each, unit)


@pytest.fixture
def drawn(failing: Result) -> Result:
    how = Sequential(25, 500, 10_042, 1234, (path(20), path(3, "net:-2%", "points")))
    return replace(failing, comparisons=(replace(failing.comparisons[0], sequential=how),))


def test_at_most_eight_looks_with_the_first_and_the_last(failing: Result) -> None:
    comparison = failing.comparisons[0]
    found = looks.looks(comparison, path(20)).rows
    assert len(found) == looks.LOOKS
    assert (found[0][0], found[-1][0]) == ("25", "500")
    assert [row[0] for row in looks.looks(comparison, path(3)).rows] == ["25", "50", "75"]
    assert looks.looks(comparison, path(0)).rows == ()


def test_the_bar_shows_the_budget_and_the_bounds_on_one_scale(failing: Result) -> None:
    tracks = [row[-1] for row in looks.looks(failing.comparisons[0], path(20)).rows]
    places = [track.index("|") for track in tracks]
    assert len(set(places)) == 1
    assert len(tracks[0]) == looks.TRACK
    assert len(tracks[-1]) == places[0] + 1, "at the end the bounds are within the budget"


@pytest.mark.parametrize("format", ["terminal", "markdown", "html"])
def test_every_format_shows_them(drawn: Result, format: str) -> None:
    text = re.sub(r"<[^>]*>|\\|&#\d+;", "", render(drawn, format))
    assert "500 of 10,042 documents drawn, a look every 25" in text
    assert "pass after 500 instances" in text
    assert "0.0 % – 1.5 %" in text


def test_a_picture_stays_in_its_frame() -> None:
    root = ElementTree.fromstring(charts.looks(path(20)))
    band, line, budget = [str(shape.get("d")) for shape in root.iter("path")][:3]
    numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", band + line)]
    xs, ys = numbers[0::2], numbers[1::2]
    level = float(budget.split()[2])
    assert 72 <= min(xs) <= max(xs) <= 560
    assert 0 <= min(ys) <= level <= max(ys) <= 180
    assert charts.looks(path(1)) == ""
