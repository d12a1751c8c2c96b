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


def read(result: Result) -> Any:
    """The document, valid and read by two parsers."""
    text = render(result, "junit")
    SCHEMA.assertValid(etree.fromstring(text.encode()))
    return ElementTree.fromstring(text)


@pytest.mark.parametrize("name", ["failing", "several", "hostile", "errors"])
def test_it_follows_the_schema_and_counts_its_cases(name: str, request: pytest.FixtureRequest) -> None:
    root = read(request.getfixturevalue(name))
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.get("tests")) == len(cases)
        for tag, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(suite.get(count)) == len(suite.findall(f"testcase/{tag}"))
    assert int(root.get("tests")) == len(root.findall(".//testcase"))


def test_the_schema_refuses_what_is_wrong(failing: Result) -> None:
    text = render(failing, "junit")
    for old, new in (
        ('tests="43"', 'tests="many"'),
        ("<system-err />", "<system-oops />"),
        ('name="nfr:2%" ', ""),
        (' type="negative flip"', ""),
    ):
        assert old in text
        assert not SCHEMA.validate(etree.fromstring(text.replace(old, new).encode()))


def test_a_case_per_budget_and_per_flip(failing: Result) -> None:
    (suite,) = read(failing)
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
    assert read(several).get("failures") == "0"  # no budget: flips are shown as skipped
    skipped = read(several).findall(".//skipped")
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
    suite = read(result)[0]
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
    text = render(replace(hostile, comparisons=(replace(comparison, instances=rows),)), "junit")
    assert not re.search("[\x00-\x08\x0b-\x1f\ufffe\uffff\ud800-\udfff]", text)
    root = ElementTree.fromstring(text)
    assert "\\x00\\x01" in root.find(".//testcase[2]/failure").text  # type: ignore[union-attr, operator]
    assert "\\ufffe\\uffff\\ud800" in text
    assert "<script>" not in text
