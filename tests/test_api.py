from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import compatcheck
from compatcheck.api import compare_runs
from compatcheck.errors import InputError
from compatcheck.records import Manifest, Run
from tests.factories import write_rows


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    old = [{"id": i, "target": "a", "prediction": "a" if i < 60 else "b", "kind": "xy"[i % 2]} for i in range(100)]
    new = [{**row, "prediction": "a" if 10 <= i < 80 else "c"} for i, row in enumerate(old)]
    for name, rows in (("old", old), ("new", new)):
        write_rows(tmp_path / f"{name}.jsonl", rows)
    return tmp_path / "old.jsonl", tmp_path / "new.jsonl"


def test_diff_is_the_contract(files: tuple[Path, Path], tmp_path: Path) -> None:
    c = compatcheck.diff(*files, fail_on="nfr:25%", slice_by="kind")
    assert c.metrics["nfr"].value == 0.10
    assert (c.metrics["nfr"].count, c.metrics["nfr"].of) == (10, 100)
    assert c.metrics["nfr"].low < 0.10 < c.metrics["nfr"].high
    assert c.verdict == "pass"
    assert isinstance(c.instances, pd.DataFrame)
    assert len(c.instances) == 100
    assert c.negative_flips["doc_id"].astype(str).tolist() == [str(i) for i in range(10)]
    assert "PASS" in str(c)
    assert "pass" in c._repr_html_().lower()
    folder = c.save(tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["instances.parquet", "report.html", "report.json", "report.md"]
    again = compatcheck.load(folder)
    assert again == c
    pd.testing.assert_frame_equal(again.instances.astype(object), c.instances.astype(object), check_dtype=False)


def test_several_comparisons_are_taken_by_name(files: tuple[Path, Path]) -> None:
    c = compatcheck.diff(*files, metric=["exact_match", "rouge1"])
    assert [comparison.name for comparison in c.comparisons] == ["recorded/exact_match", "recorded/rouge1"]
    assert c["recorded/rouge1"].kind == "smooth"
    assert c["exact_match"] is c.comparisons[0]
    with pytest.raises(KeyError, match="did you mean 'recorded/rouge1'"):
        c["recorded/roug1"]
    with pytest.raises(InputError, match="2 comparisons"):
        _ = c.metrics


def test_metric_settings_reach_the_metric(files: tuple[Path, Path]) -> None:
    c = compatcheck.diff(*files, metric="rouge1", metric_args={"rouge1": {"use_stemmer": True}})
    assert "stemmer:yes" in c.only.signature


def test_errors_name_the_option(files: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="--epsilon -1"):
        compatcheck.diff(*files, epsilon=-1)
    with pytest.raises(InputError, match="share no task"):
        compare_runs(*empty_runs())


def empty_runs() -> tuple[Run, Run]:
    run = Run(Manifest("x", "sha256:0", "recorded"), ())
    return run, run


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'dif'"):
        _ = compatcheck.dif
