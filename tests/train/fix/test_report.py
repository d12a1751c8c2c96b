"""The report of a fix: data as documented, and every rendering says what the data says and trusts no text."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any
from xml.dom import minidom

import pytest
import yaml

from compatcheck_train.report import render_text
from compatcheck_train.report.data import fix_to_dict
from compatcheck_train.report.html import curves_svg, flow_svg, frontier_svg, render_html
from compatcheck_train.report.markdown import render_card, render_markdown
from compatcheck_train.report.text import MARKS, fall_of, headline
from tests.train.fix.conftest import UNLABELLED, Made
from tests.train.fix.schema import problems

pytestmark = pytest.mark.slow
HOSTILE = "<script>alert(1)</script>\x1b[31m|`*_"


@pytest.fixture
def report(made: Made) -> dict[str, Any]:
    return copy.deepcopy(made.report)


def undefined() -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "count": None, "of": 0, "why": "no document was scored for both"}


def smooth(report: dict[str, Any]) -> dict[str, Any]:
    """The report as one of a smooth metric for which nothing was scored, without trials, blend, bound and control."""
    proof = report["proof"][0]
    names = ("score_old", "score_new", "pfr", "nfr", "mean_gain", "mean_regression", "mean_difference")
    side = {
        "signature": "s", "quadrants": {"positive_flip": 0, "negative_flip": 0, "unchanged": 0},
        "metrics": {name: undefined() for name in names},
    }  # fmt: skip
    proof |= {
        "kind": "smooth", "n": 0, "sides": {"new": side, "compat": side}, "against_control": {}, "control_changes": {},
        "flow": [],
        "changes": {name: undefined() for name in ("nfr", "nfr_relative", "pfr", "score", "regression")},
        "undone": {"count": 0, "ids": []}, "appeared": {"count": 0, "ids": []},
    }  # fmt: skip
    return report | {
        "proof": [proof], "bound": None, "trials": [], "frontier": None, "control": None, "notes": [], "seeds": None,
        "averaged": None,
        "delivered": "compat", "against_control": "",
    }  # fmt: skip


def test_the_data_keep_to_the_documented_schema(report: dict[str, Any], made: Made) -> None:
    assert problems(report) == []
    assert problems(smooth(report), complete=False) == []
    kept = json.loads((made.out / "fix_report.json").read_text())
    assert kept == made.report
    assert fix_to_dict(made.fixed, kept["command"]) == kept


def test_the_schema_finds_what_is_wrong(report: dict[str, Any]) -> None:
    report["documents"]["train"] = "200"
    report["proof"][0]["changes"]["nfr"].pop("low")
    report["surprise"] = 1
    del report["bound"]["score"]
    assert len(problems(report)) == 4


def test_figures_agree_with_each_other(report: dict[str, Any]) -> None:
    for proof in report["proof"]:
        flips = {side: each["quadrants"]["negative_flip"] for side, each in proof["sides"].items()}
        assert proof["changes"]["nfr"]["count"] == flips["compat"] - flips["new"]
        assert proof["against_control"]["nfr"]["count"] == flips["compat"] - flips["control"]
        assert proof["appeared"]["count"] - proof["undone"]["count"] == proof["changes"]["nfr"]["count"]
        assert sum(each["count"] for each in proof["flow"]) == proof["n"]
    assert report["verdict"] == report["proof"][0]["verdict"]
    assert report["delivered"] == report["proof"][0]["delivered"]
    assert report["seeds"]["numbers"] == [each["seed"] for each in report["seeds"]["each"]] == [0, 1]
    assert report["exit_code"] == {"better": 0, "not better": 1, "inconclusive": 3}[report["verdict"]]
    assert [each["name"] for each in report["standings"]] == ["old", "new", "compat"]


def test_the_terminal(report: dict[str, Any]) -> None:
    text = render_text(report)
    lines = text.splitlines()
    assert lines[0] == headline(report)
    assert "Trained with 2 seeds" in text and "2 seeds, piqa/acc" in text
    for proof in report["proof"]:
        assert f"{proof['name']}  ({proof['n']:,} test documents)" in lines
    for side in ("old", "new", "compat", "control"):
        assert any(line.startswith(f"  {side} ") for line in lines)
    for averaged, marked in ((None, 3), (0.5, 2)):
        lines = render_text(report | {"averaged": averaged}).splitlines()
        assert sum(line.startswith("* ") for line in lines) == marked, "the chosen trial, finalist and blend, if any"
        rows = render_html(report | {"averaged": averaged}).split("Weight of compat")[1].split("</table>")[0]
        assert rows.count('class="chosen"') == marked - 2
    assert "-0 %" not in text.replace("(95 %: -0", "")
    assert fall_of({"fall": 0.0}) == "+0 %" and fall_of({"fall": 0.5}) == "-50 %" and fall_of({"fall": None}) == "–"
    without = render_text(smooth(report))
    assert "undefined: no document was scored for both" in without
    assert "One training stands behind this" in without
    assert "\x1b" not in render_text(report | {"new": HOSTILE, "notes": [HOSTILE]})


def test_the_steps_of_both_stages_are_told(report: dict[str, Any]) -> None:
    one, before, control = (report[name]["steps"] for name in ("training", "first_stage", "control"))
    assert one + before == control
    own = report["control"]["history"][-1]["step"]
    assert own == control - before, "it goes on from there"
    for delivered, averaged, count in (
        ("compat", None, control),
        ("compat", 0.5, control + own),
        ("control", 0.5, control),
    ):
        shown = report | {"delivered": delivered, "averaged": averaged}
        assert f", {count} steps, " in render_text(shown)
        assert f", {count} steps\n" in render_markdown(shown)
        assert f", {count} optimiser steps on " in render_card(shown, "base")
        assert f"), {count} steps, " in render_html(shown)


@pytest.mark.parametrize(
    ("verdict", "against", "delivered", "said"),
    [
        ("better", "better", "compat", "than NEW and than plain further training"),
        ("better", "fewer flips", "compat", "than NEW; beside plain further training fewer flips, but the score may"),
        ("better", "open", "compat", "than NEW; not shown to be better than plain further training"),
        ("better", "", "compat", "than NEW; no control was trained"),
        (
            "better",
            "worse",
            "control",
            "than NEW: PLAIN FURTHER TRAINING, at least as good; following OLD is not shown to add anything",
        ),
        ("inconclusive", "open", "compat", ""),
        ("not better", "worse", "control", "than NEW: PLAIN FURTHER TRAINING, at least as good"),
    ],
)
def test_the_headline_says_where_the_control_stands(verdict: str, against: str, delivered: str, said: str) -> None:
    found = headline({"verdict": verdict, "against_control": against, "delivered": delivered, "reference": None})
    assert found.startswith(f"{MARKS[verdict]} {said}".rstrip())


def test_markdown(report: dict[str, Any]) -> None:
    text = render_markdown(report)
    assert text.startswith(f"# {headline(report)}\n")
    assert "## 2 seeds" in text
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == len(report["proof"]) + 3
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
    found = render_markdown(report | {"new": HOSTILE, "notes": [HOSTILE]})
    assert "<script>" not in found and "\x1b" not in found
    assert "undefined (no document was scored for both)" in render_markdown(smooth(report))


def test_html(report: dict[str, Any]) -> None:
    from lxml import html  # type: ignore[import-untyped]

    page = html.document_fromstring(render_html(report))
    assert page.find(".//h1").text_content() == headline(report)
    assert "2 seeds" in page.text_content()
    charts = page.xpath("//*[local-name() = 'svg' and contains(@class, 'chart')]")
    assert len(charts) == len(report["proof"]) + 2, "a flow a proof, the frontier, the curves"
    assert len(page.xpath("//tr[@class='chosen']")) == 3 + len(report["proof"])
    policy = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert policy.startswith("default-src 'none'")
    fetched = page.xpath("//script | //link[@href != 'data:,'] | //img | //*[@src]")
    assert not fetched, "nothing is fetched and nothing runs"
    hostile = html.document_fromstring(
        render_html(report | {"new": HOSTILE.replace("\x1b", ""), "command": "<b>x</b>"})
    )
    assert not hostile.xpath("//script | //b")
    assert "no document was scored for both" in render_html(smooth(report))


def test_pictures(report: dict[str, Any], made: Made) -> None:
    proof = report["proof"][0]
    flow = minidom.parseString(flow_svg(proof))
    titles = [each.firstChild.data for each in flow.getElementsByTagName("title")]  # type: ignore[union-attr]
    assert len(titles) == len(proof["flow"])
    assert sum(int(title.rpartition(" ")[2].replace(",", "")) for title in titles) == proof["n"]
    curves = minidom.parseString(curves_svg([("compat", report["training"]), ("control", report["control"])]))
    points = len(report["training"]["history"]) + len(report["control"]["history"])
    assert len(curves.getElementsByTagName("title")) == points
    frontier = minidom.parseString(frontier_svg(report))
    assert len(frontier.getElementsByTagName("title")) == len(report["frontier"]["points"]) + 1, "NEW is the first"
    assert frontier_svg(report | {"frontier": None}) == ""
    assert curves_svg([("compat", {"history": []})]) == ""


def test_the_model_card(report: dict[str, Any], made: Made, fixtures: Path) -> None:
    text = (made.out / "adapter" / "README.md").read_text()
    assert text == render_card(report | {"old": "piqa-v1", "new": "piqa-v2"}, "base-v2")
    assert str(fixtures) not in text, "the card is read on other machines"
    assert str(made.out) not in text
    front = yaml.safe_load(text.split("---")[1])
    assert "base_model" not in front, "the base is on no hub"
    assert front["library_name"] == "peft"
    on_a_hub = render_card(report, "org/base", "org/base")
    assert yaml.safe_load(on_a_hub.split("---")[1])["base_model"] == "org/base"
    assert "200 training documents" in text
    assert f"and {UNLABELLED} inputs without labels" in text
    assert "biases and mistakes may carry over" in text
    for proof in report["proof"]:
        assert proof["sides"]["compat"]["signature"].split("|")[0] in text
    assert "<script>" not in render_card(report | {"new": HOSTILE}, "base-v2")
