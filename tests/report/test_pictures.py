from __future__ import annotations

import io
import re
import warnings
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from compatcheck.compare.result import Advice, Gate, Result
from compatcheck.errors import InputError
from compatcheck.report import render, save
from compatcheck.report.pictures import COLORS, DPI, MAX_ROWS, WIDTH, draw, png

NAMES = ["failing", "several", "hostile", "errors"]


def texts(result: Result) -> list[str]:
    return [text.get_text() for axes in draw(result).axes for text in axes.texts]


@pytest.mark.parametrize("name", NAMES)
def test_png_and_svg_can_be_read(name: str, request: pytest.FixtureRequest) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    result = request.getfixturevalue(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = image.open(io.BytesIO(png(result)))
    assert shown.format == "PNG"
    assert shown.width == round(WIDTH * DPI) == 1170
    root = ElementTree.fromstring(render(result, "svg"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    kinds = {element.tag.rpartition("}")[2] for element in root.iter() if isinstance(element.tag, str)}
    assert kinds.isdisjoint({"script", "image", "foreignObject", "a", "text"})


def test_it_says_what_the_report_says(failing: Result) -> None:
    found = texts(replace(failing, advice=Advice("major", "…")))
    for part in (
        "✗ FAIL",
        "Release advice: major version bump",
        "new  org/model-v2+adapters/gsm8k",
        "400 instances;  accuracy 42.2 % → 49.8 %",
        "− negative flips 41 · 10.2 %",
        "+ positive flips 71 · 17.8 %",
        "topic=distance",
        "14.3 %",
    ):
        assert part in found
    assert "".join(found).replace("\u00a0", " ").endswith(failing.comparisons[0].signature)  # the footer


def test_bands_are_as_thick_as_their_shares(failing: Result) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Polygon

    bands = {}
    for axes in draw(failing).axes:
        for shape in (each for each in axes.patches if isinstance(each, Polygon)):
            corners = shape.get_xy()
            start = corners[np.isclose(corners[:, 0], corners[:, 0].min())][:, 1]
            end = corners[np.isclose(corners[:, 0], corners[:, 0].max())][:, 1]
            bands[to_rgb(shape.get_facecolor()[:3])] = (np.ptp(start), np.ptp(end))
    count = failing.comparisons[0].quadrants
    unit = bands[to_rgb(COLORS["both_wrong"])][0] / count["both_wrong"]
    assert len(bands) == 4
    for quadrant, size in count.items():
        assert bands[to_rgb(COLORS[quadrant])] == pytest.approx((unit * size, unit * size))


def test_a_smooth_comparison_shows_its_gains_and_all_rates(several: Result) -> None:
    found = texts(several)
    gains = several.comparisons[2].instances["gain"]
    assert f"{(gains < 0).sum()} score lower, {(gains > 0).sum()} score higher" in found
    assert found.index("Negative flips") < found.index("gsm8k/strict-match/exact_match") < found.index("samsum/rouge1")
    assert "45.5 %" in found


def test_many_comparisons_and_slices_are_bounded(failing: Result) -> None:
    comparison = failing.comparisons[0]
    parts = tuple(replace(comparison.slices[0], value=f"v{i}") for i in range(200))
    many = tuple(replace(comparison, task=f"t{i}", slices=parts) for i in range(300))
    figure = draw(replace(failing, comparisons=many))
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "290 more comparisons are in report.json" in found
    assert "190 more slices are in report.json" in found
    assert len([text for text in found if text.startswith("topic=")]) == MAX_ROWS
    assert figure.get_size_inches()[1] < 25


def test_nothing_compared_and_nothing_scored(failing: Result) -> None:
    assert texts(replace(failing, comparisons=(), verdict="none"))[0] == "· NO BUDGET"
    comparison = failing.comparisons[0]
    empty = replace(
        comparison, n=0, quadrants=dict.fromkeys(comparison.quadrants, 0), instances=comparison.instances.head(0)
    )
    assert "0 instances" in " ".join(texts(replace(failing, comparisons=(empty,))))
    png(replace(failing, comparisons=(empty,)))


def test_text_is_never_mathematics(failing: Result) -> None:
    gates = (Gate("nfr:2%", "fail", "costs $\\frac{1}{$ and 日本語 $x^2$"),)
    result = replace(failing, comparisons=(failing.comparisons[0].with_gates(gates),))
    assert any("$\\frac{1}{$" in text for text in texts(result))
    png(result)
    assert "<!--" not in re.sub(r"<!-- [^\n]* -->", "", render(result, "svg"))


def test_pictures_are_kept_as_files(failing: Result, tmp_path: Path) -> None:
    save(failing, tmp_path, ["png", "svg"])
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert (tmp_path / "report.svg").read_text().startswith("<?xml")
    with pytest.raises(InputError, match="is a picture; keep it in a folder"):
        render(failing, "png")
