from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from compatcheck.compare.result import Estimate, Result
from compatcheck.report import embedded, notebook_fragment, render
from compatcheck.report import html as html_report
from compatcheck.report.charts import histogram
from compatcheck.report.sections import quadrants, whisker


def unpacked(page: str) -> dict[str, Any]:
    data = re.search(r'id="payload">([^<]*)</script>', page)
    assert data
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(data[1])))
    return found


def without_scripts(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_one_file_without_any_reference_to_another(failing: Result) -> None:
    page = render(failing, "html")
    outside = without_scripts(page)
    assert not re.search(r"""(src|href|action|srcset|data)\s*=\s*["']?\s*(https?:)?//""", outside)
    links = set(re.findall(r'href="([^"]*)"', outside))
    assert links - {"#figures", "data:,"} == {
        f"#gsm8k/flexible-extract/exact_match/{each}" for each in failing.comparisons[0].negative_flips["doc_id"][:5]
    }
    assert "src=" not in outside
    assert "@import" not in page
    assert not re.search(r"url\(\s*['\"]?(https?:)?//", page)
    assert "http" not in re.sub(r"http-equiv", "", outside)


def test_the_content_security_policy_names_exactly_the_scripts(failing: Result) -> None:
    page = render(failing, "html")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; ")
    scripts = re.findall(r'<script type="module">(.*?)</script>', page, flags=re.S)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.findall(r"'sha256-([^']*)'", policy[1]) == hashes
    assert len(hashes) == 2
    assert "unsafe-eval" not in policy[1]
    assert "script-src 'unsafe-inline'" not in policy[1]


def test_licences_of_what_is_embedded_travel_along(failing: Result) -> None:
    page = render(failing, "html")
    assert "DataTables" in page
    assert "datatables.net/license/mit" in page


def test_sizes(large: Callable[[int], Result]) -> None:
    assert len(render(large(1_000), "html").encode()) < 2_000_000
    page = render(large(12_000), "html")
    assert len(page.encode()) < 8_000_000
    data = unpacked(page)
    assert [len(columns["id"]) for columns in data["comparisons"]] == [12_000, 12_000]


def test_a_thousand_very_long_instances_stay_below_six_megabytes(large: Callable[[int], Result]) -> None:
    result = large(1_000)
    comparison = result.comparisons[0]
    noise = np.random.default_rng(0).integers(33, 126, (1_000, 12_000), dtype=np.uint8)
    rows = comparison.instances.assign(input=[bytes(row).decode("ascii") for row in noise])
    page = render(replace(result, comparisons=(replace(comparison, instances=rows),)), "html")
    assert len(page.encode()) < 6_000_000
    assert "1,000 texts longer than 2,000 characters are shortened" in page
    data = unpacked(page)
    assert "… 10,000 characters left out …" in data["strings"][data["comparisons"][0]["input"][0]]


def test_more_rows_than_fit_keep_flips_and_errors(errors: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MAX_ROWS", 25)
    page = render(errors, "html")
    quadrants = unpacked(page)["comparisons"][0]["quadrant"]
    assert len(quadrants) == 25
    assert (quadrants.count(2), quadrants.count(1), quadrants.count(-1)) == (3, 13, 4)  # all of these
    assert "25 of 60 instances are embedded, flips and errors first" in page


def test_many_comparisons_share_the_rows_that_are_embedded(
    large: Callable[[int], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "ROWS_IN_ALL", 2_000)
    comparison = large(1_000).comparisons[0]
    many = replace(large(1_000), comparisons=tuple(replace(comparison, task=f"t{i}") for i in range(4)))
    assert [len(columns["id"]) for columns in unpacked(render(many, "html"))["comparisons"]] == [500] * 4


def test_the_payload_shares_texts_and_keeps_nulls_apart(several: Result, errors: Result) -> None:
    data = unpacked(render(several, "html"))
    assert len(set(data["strings"])) == len(data["strings"])
    first = data["comparisons"][0]
    row = several.comparisons[0].instances.iloc[0]
    assert data["strings"][first["id"][0]] == row["doc_id"]
    assert data["strings"][first["input"][0]] == row["input"]
    assert first["fields"] == ["steps", "topic"]
    assert data["strings"][first["values"][0][0]] == str(row["steps"])
    failed = unpacked(render(errors, "html"))
    columns = failed["comparisons"][0]
    assert columns["new"][0] == -1
    assert columns["score_new"][0] is None
    assert failed["strings"][columns["error_new"][0]] == "HTTP 500: upstream timed out"


def test_hostile_text_is_text(hostile: Result) -> None:
    page = render(hostile, "html")
    outside = without_scripts(page)
    assert page.lower().count("</script") == 3
    assert "<script" not in outside.lower()
    assert "<img" not in outside
    assert "&lt;/script&gt;&lt;script&gt;window.hacked=1" in outside
    assert "{{ 7*7 }}" in outside
    assert "\\x1b[31mred" in outside
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", outside)
    strings = unpacked(page)["strings"]
    assert any("\\u202egnp.exe\\u202c\\ud800" in string for string in strings)


def test_figures_of_the_page_are_those_of_the_result(failing: Result) -> None:
    outside = without_scripts(render(failing, "html"))
    for part in ("✗ FAIL", "42.2 %", "49.8 %", "41 of 400", "7.6 – 13.6 %", "about 4,200 instances would settle it"):
        assert part in outside


def bars(picture: str) -> dict[str, float]:
    """The bars of a histogram by their tooltips, and how tall each is drawn."""
    found = {}
    for shape in ElementTree.fromstring(picture).iter("g"):
        if (title := shape.find("title")) is not None:
            heights = [float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", shape.find("path").get("d"))]  # type: ignore[union-attr, arg-type]
            found[str(title.text)] = max(heights) - min(heights)
    return found


def test_histogram_counts_every_scored_instance(several: Result, errors: Result) -> None:
    smooth = bars(histogram(several.comparisons[2]))
    assert sum(int(re.search(r": ([\d,]+) instance", label)[1]) for label in smooth) == 200  # type: ignore[index]
    assert len(smooth) == 41
    discrete = bars(histogram(errors.comparisons[0]))
    assert list(discrete) == ["gain −1: 3 instances", "gain 0: 40 instances", "gain +1: 13 instances"]
    worse, same, better = discrete.values()
    assert worse / same == pytest.approx(3 / 40, abs=0.01)
    assert better / same == pytest.approx(13 / 40, abs=0.01)


def test_pictures_on_a_page_follow_its_theme_and_clash_with_nothing(several: Result) -> None:
    picture = histogram(several.comparisons[2])
    root = ElementTree.fromstring(picture)
    assert root.get("viewBox") == "0 0 560 240"
    assert {element.tag for element in root.iter()} == {"svg", "g", "path", "text", "title"}
    assert not [element for element in root.iter() if element.get("id") or element.get("clip-path")]
    assert "var(--neg-fill, #d9573f)" in picture
    assert "font" not in picture


def test_nothing_scored_has_no_histogram(failing: Result) -> None:
    comparison = failing.comparisons[0]
    rows = comparison.instances.head(3).assign(gain=None, quadrant=None)
    empty = replace(comparison, instances=rows, n=0, quadrants=dict.fromkeys(comparison.quadrants, 0))
    assert histogram(empty) == ""
    assert "Nothing was scored." in render(replace(failing, comparisons=(empty,)), "html")


def test_only_the_comparisons_that_matter_most_have_pictures(failing: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_report, "PICTURED", 1)
    tasks = tuple(replace(failing.comparisons[0], task=f"t{i}", gates=()) for i in range(3))
    page = render(replace(failing, comparisons=(*tasks, failing.comparisons[0])), "html")
    last = page.index('data-comparison="3"')
    assert page.count("Histogram of the gain") == 1
    assert page.index("Histogram of the gain") > last  # the one that breaks its budget


def test_squares_have_the_area_of_their_share(failing: Result) -> None:
    found = {cell.name: cell for cell in quadrants(failing.comparisons[0])}
    assert list(found) == ["both_correct", "negative_flip", "positive_flip", "both_wrong"]
    assert found["both_wrong"].part == pytest.approx(160 / 400)
    assert (found["negative_flip"].n, found["negative_flip"].share) == (41, "10.2 %")
    page = render(failing, "html")
    sides = re.findall(r'<rect class="fill" x="[^"]*" y="[^"]*" width="([^"]*)"', page)
    assert [float(side) ** 2 / 10_000 for side in sides] == pytest.approx(
        [cell.part for cell in found.values()], abs=0.001
    )


def test_whiskers_lie_where_the_figures_are() -> None:
    assert whisker("nfr", Estimate(0.1, 0.08, 0.13, 41, 400)) == (8.0, 10.0, 13.0, False)
    assert whisker("net", Estimate(0.05, 0.0, 0.1)) == (50.0, 75.0, 100.0, True)
    assert whisker("nfr", Estimate(None, why="x")) is None
    assert whisker("score_old", Estimate(0.5, 0.4, 0.6)) is None


def test_notebook_fragment_is_a_small_table(several: Result, hostile: Result) -> None:
    fragment = notebook_fragment(several)
    assert fragment.count("<tr>") == 4
    assert "45.5 %" in fragment
    assert "<script" not in fragment
    assert len(fragment) < 6_000
    assert "<img" not in notebook_fragment(hostile)
