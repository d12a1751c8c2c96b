from __future__ import annotations

import html
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from compatcheck.compare.result import Gate, Result
from compatcheck.report import render
from compatcheck.report.text import defuse, shield

NASTY = "::error::boom\n  ::add-mask::secret\n\t::stop-commands::x\n###[error]y ##[add-mask]z %0A a:b,c"


def commands(text: str) -> list[str]:
    """The lines that a runner acts on: it takes blanks away at the start, and finds the older mark anywhere."""
    return [line for line in text.splitlines() if line.lstrip().startswith("::") or "##[" in line]


@pytest.fixture
def nasty(failing: Result) -> Result:
    comparison = failing.comparisons[0]
    texts = dict.fromkeys(
        ("input", "target", "prediction_old", "prediction_new", "response_old", "response_new"), NASTY
    )
    rows = comparison.instances.assign(**texts, doc_id=[f"{NASTY}{i}" for i in range(len(comparison.instances))])
    named = replace(
        comparison, task="::error::x", filter="##[error]f", instances=rows, gates=(Gate("::a", "fail", NASTY),)
    )
    return replace(failing, comparisons=(named,), notes=(NASTY,), command=NASTY)


def test_a_report_on_a_runner_is_shielded() -> None:
    assert shield("::error::x\n##[error]y", "t0k3n") == "::stop-commands::t0k3n\n::error::x\n##[error]y\n::t0k3n::"


@pytest.mark.parametrize("format", ["json", "sarif", "junit", "markdown"])
def test_no_line_of_a_defused_format_is_a_command(nasty: Result, format: str) -> None:
    text = render(nasty, format)
    assert commands(text)
    assert commands(defuse(text, format)) == []


@pytest.mark.parametrize("format", ["json", "sarif"])
def test_json_says_the_same(nasty: Result, format: str) -> None:
    text = render(nasty, format)
    assert json.loads(defuse(text, format)) == json.loads(text)


def test_xml_says_the_same(nasty: Result) -> None:
    text = render(nasty, "junit")
    one, other = (ElementTree.canonicalize(each) for each in (defuse(text, "junit"), text))
    assert one == other
    assert "\n  ::add-mask::secret" in "".join(ElementTree.fromstring(text).itertext())


def test_markdown_says_the_same(nasty: Result) -> None:
    text = render(nasty, "markdown")
    assert html.unescape(defuse(text, "markdown")) == html.unescape(text)


def test_a_line_for_people_shows_what_was_there() -> None:
    assert defuse("error: a.jsonl: ##[error]x ::y", "text") == "error: a.jsonl: #\\x23[error]x ::y"
    assert defuse(" ::error::x", "text") == " \\x3a:error::x"
