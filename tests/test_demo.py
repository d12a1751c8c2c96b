from __future__ import annotations

from pathlib import Path

import pytest

from compatcheck import demo
from compatcheck.cli.app import run

FILES = ["instances.parquet", "report.html", "report.json", "report.md"]


def test_recorded_outputs_give_the_figures_of_the_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What travels in the package is what the fixture models answer; see fixtures/figures.json."""
    import json

    assert run(["demo", "--recorded", "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "recorded outputs of the fixture models" in captured.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["changed-prompt", *FILES]
    assert sorted(p.name for p in (tmp_path / "changed-prompt").iterdir()) == FILES
    (changed,) = json.loads((tmp_path / "changed-prompt" / "report.json").read_text())["comparisons"]
    assert changed["n"] == 100 and changed["gates"][0]["verdict"] == "fail"
    figures = json.loads((demo.FIXTURES / "figures.json").read_text())["tasks"]
    for comparison in json.loads((tmp_path / "report.json").read_text())["comparisons"]:
        filters = figures[comparison["task"]]["metrics"]
        expected = filters.get(comparison["metric"]) or filters.get(comparison["filter"])
        metrics = comparison["metrics"]
        names = ("accuracy_old", "accuracy_new") if comparison["kind"] == "discrete" else ("score_old", "score_new")
        assert metrics[names[0]]["value"] == pytest.approx(expected["v1"], abs=6e-5)
        assert metrics[names[1]]["value"] == pytest.approx(expected["v2"], abs=6e-5)
        assert metrics["nfr"]["value"] == pytest.approx(expected["losses"], abs=6e-5)


@pytest.mark.slow
def test_models_give_the_figures_of_the_recorded_outputs() -> None:
    models, recorded = demo.run(), demo.run(recorded=True)
    assert len(models.comparisons) == len(recorded.comparisons) == 7
    for comparison in models.comparisons:
        other = recorded[comparison.name]
        assert comparison.quadrants == other.quadrants
        assert comparison.metrics["nfr"] == other.metrics["nfr"]
    (asked,), (kept,) = demo.changed_prompt().comparisons, demo.changed_prompt(recorded=True).comparisons
    assert (asked.task, asked.quadrants) == ("sums", kept.quadrants)
