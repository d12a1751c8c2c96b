"""The divergence and the margins in every format, with texts that mean harm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compatcheck.compare.margins import Margins
from compatcheck.compare.result import Divergence, Estimate, Result
from compatcheck.records import DivergentToken
from compatcheck.report import divergence, load, render, save
from tests.report.conftest import HOSTILE

MEAN = Estimate(0.01234, 0.01, 0.015, None, 5000, 0.0105, 0.0145, effective=200.0)


def token(place: int, text: str = " word") -> DivergentToken:
    return DivergentToken(f"doc{place}", place, f"before {text}", text, 3.5 - place / 10, 0.5, 0.25, text, 0.5, 0.25,
                          " other", 0.01, 0.7)  # fmt: skip


@pytest.fixture
def diverged(failing: Result) -> Result:
    """Twenty tokens, of which the first holds everything that a renderer must not believe."""
    worst = (token(0, HOSTILE), *(token(n) for n in range(1, 20)))
    shares = {"50": 0.001, "90": 0.02, "99": 0.2, "99.9": 1.5, "max": 3.5}
    same = Estimate(0.97, 0.96, 0.98, 4850, 5000)
    kl = Divergence("prompt and right choice", 200, 5000, shares, same, 12.5, 12.75,
                    Estimate(1.02, 1.01, 1.03, None, 5000), worst)  # fmt: skip
    margins = Margins(200, 2.5, 2.25, 1.75, 1.5, 0.4, 9, 0.05, 4, 0.021)
    first = failing.comparisons[0]
    changed = replace(first, metrics={**first.metrics, "kl": MEAN}, kl=kl, margins=margins)
    return replace(failing, comparisons=(changed,))


@pytest.mark.parametrize("format", ["terminal", "markdown", "html"])
def test_every_format_for_people_has_both(diverged: Result, format: str) -> None:
    text = " ".join(render(diverged, format).split())
    for words in ("Divergence", "5,000 tokens of 200 documents", "prompt and right choice", "Margins", "2.5 nats"):
        assert words in text, words
    assert "4.5 % (5.0 % predicted)" in text  # choices that changed
    assert "doc1" in text or format == "terminal"


def test_what_was_not_measured_is_not_there(failing: Result) -> None:
    plain = render(failing, "json")
    assert '"kl"' not in plain and '"margins"' not in plain
    assert "Divergence" not in render(failing, "markdown")
    assert divergence.section(failing.comparisons[0]) is None and divergence.margins(failing.comparisons[0]) is None


def test_it_comes_back_from_disk_as_it_was(diverged: Result, tmp_path: Path) -> None:
    save(diverged, tmp_path / "kept")
    assert load(tmp_path / "kept").comparisons == diverged.comparisons
    kept = json.loads((tmp_path / "kept" / "report.json").read_text())["comparisons"][0]
    assert kept["kl"]["percentiles"]["99.9"] == 1.5
    assert len(kept["kl"]["worst"]) == 20
    assert kept["metrics"]["kl"]["value"] == MEAN.value
    assert kept["margins"]["changed_predicted"] == 0.05


def test_tokens_are_untrusted_text(diverged: Result) -> None:
    page, text, plain = (render(diverged, name) for name in ("html", "markdown", "terminal"))
    assert "<script>window.hacked" not in page and "<img src=x" not in page
    assert "<script>" not in text and "@someone" not in text.replace("\\@", "")
    assert all(hidden not in plain for hidden in ("\x1b[31m", "\x07", "\u202e"))


def test_a_table_has_no_more_tokens_than_asked_for(diverged: Result) -> None:
    rows = divergence.worst_tokens(diverged.comparisons[0], 3).rows
    assert [row[0] for row in rows] == ["3.5000", "3.4000", "3.3000"]
