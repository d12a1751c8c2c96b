from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from compatcheck.compare.result import Result
from compatcheck.report import instances, render

etree = pytest.importorskip("lxml.etree", reason="lxml is not installed")
SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).with_name("junit.xsd")))


def read(result: Result, format: str = "junit") -> Any:
    """The document, valid and read by two parsers."""
    text = render(result, format)
    SCHEMA.assertValid(etree.fromstring(text.encode()))
    return ElementTree.fromstring(text)


@pytest.mark.parametrize("format", ["junit", "junit-flips"])
@pytest.mark.parametrize("name", ["failing", "several", "hostile", "errors"])
def test_it_follows_the_schema_and_counts_its_cases(name: str, format: str, request: pytest.FixtureRequest) -> None:
    root = read(request.getfixturevalue(name), format)
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.get("tests")) == len(cases)
        for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.get(count)) == len(suite.findall(f"testcase/{tag}"))
    assert int(root.get("tests")) == len(root.findall(".//testcase"))


def test_the_schema_refuses_what_is_wrong(failing: Result) -> None:
    text = render(failing, "junit-flips")
    for old, new in (
        ('tests="43"', 'tests="many"'),
        ("<system-err />", "<system-oops />"),
        ('name="nfr:2%" ', ""),
        (' type="negative flip"', ""),
    ):
        assert old in text
        assert not SCHEMA.validate(etree.fromstring(text.replace(old, new).encode()))


def test_a_case_per_budget_that_shows_the_worst_flips(failing: Result, several: Result) -> None:
    (suite,) = read(failing)
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["nfr:2%", "net:-1%"]
    shown = cases[0].find("failure").text
    ((_, worst),) = instances.listed_flips(failing)
    heads = [line for line in shown.splitlines()[1:] if line.startswith("negative flip ")]
    assert heads == [f"negative flip {flip.doc_id}" for flip in worst[:10]]
    assert "31 more negative flips are not listed here" in suite.find("system-out").text
    for each in read(several):  # without a budget there is one case, which is neither green nor red
        assert [case.get("name") for case in each.findall("testcase")] == ["no budget"]
        assert each.find("testcase/skipped") is not None
        assert "negative flip " in each.find("system-out").text


def test_a_case_per_flip(failing: Result) -> None:
    (suite,) = read(failing, "junit-flips")
    assert suite.get("name") == "gsm8k/flexible-extract/exact_match"
    budgets = [case for case in suite.findall("testcase") if case.get("classname").endswith(".budgets")]
    assert [case.get("name") for case in budgets] == ["nfr:2%", "net:-1%"]
    failure, error = budgets[0].find("failure"), budgets[1].find("error")
    assert failure.get("message") == "negative flip rate 10.4 % (lower bound 9.1 %) is above 2 %"
    assert error.get("type") == "inconclusive"
    assert "about 4,200 instances would settle it" in error.text
    listed = [case for case in suite.findall("testcase") if case.get("classname").endswith(".negative_flips")]
    rows = failing.comparisons[0].negative_flips
    assert [case.get("name") for case in listed] == [*rows["doc_id"]]
    assert (
        f"target: {rows.iloc[0]['target']}\nold: {rows.iloc[0]['prediction_old']}\n" in listed[0].find("failure").text
    )
    properties = {each.get("name"): each.get("value") for each in suite.find("properties")}
    assert properties["signature"] == failing.comparisons[0].signature
    assert properties["nfr"] == "0.1025 [0.0764589, 0.136103]"
    assert properties["negative_flip"] == "41"


def test_the_file_is_red_exactly_where_the_verdict_is(failing: Result, several: Result) -> None:
    assert read(several, "junit-flips").get("failures") == "0"  # no budget: flips are shown as skipped
    skipped = read(several, "junit-flips").findall(".//skipped")
    assert len(skipped) == sum(min(c.quadrants["negative_flip"], 100) for c in several.comparisons)
    comparison = failing.comparisons[0]
    kept = replace(comparison, gates=(replace(comparison.gates[0], verdict="pass"),))
    root = read(replace(failing, comparisons=(kept,), verdict="pass"))
    assert (root.get("failures"), root.get("errors")) == ("0", "0")
    assert root.find(".//testcase[@name='nfr:2%']").find("*") is None


def test_the_number_of_flips_is_bounded_and_the_rest_counted(
    large: Callable[[int], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = large(12_000)
    flips_of = result.comparisons[0].quadrants["negative_flip"]
    suite = read(result, "junit-flips")[0]
    assert len([case for case in suite.findall("testcase") if "negative_flips" in case.get("classname")]) == 100
    assert f"{flips_of - 100:,} more negative flips are not listed here" in suite.find("system-out").text
    monkeypatch.setattr(instances, "IN_ALL", 10)
    many = replace(result, comparisons=tuple(replace(result.comparisons[0], task=f"t{i}") for i in range(40)))
    listed = list(instances.listed_flips(many, in_all=10))
    assert [len(flips) for _, flips in listed] == [1] * 40  # one each at least


def test_no_character_that_xml_forbids(hostile: Result) -> None:
    comparison = hostile.comparisons[0]
    bad = "".join(map(chr, [*range(32), 0xFFFE, 0xFFFF, 0xD800, 0x85, 0x2028]))
    size = len(comparison.instances)
    columns = {"prediction_new": [bad] * size, "doc_id": [f" {bad} {i}" for i in range(size)]}
    rows = comparison.instances.assign(**{name: pd.Series(texts, dtype=object) for name, texts in columns.items()})
    text = render(replace(hostile, comparisons=(replace(comparison, instances=rows),)), "junit-flips")
    assert not re.search("[\x00-\x08\x0b-\x1f\ufffe\uffff\ud800-\udfff]", text)
    root = ElementTree.fromstring(text)
    assert "\\x00\\x01" in root.find(".//testcase[2]/failure").text  # type: ignore[union-attr, operator]
    assert "\\ufffe\\uffff\\ud800" in text
    assert "<script>" not in text
