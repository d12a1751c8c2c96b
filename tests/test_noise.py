"""The noise floor from models and from files, as `diff` and `compatcheck noise` give it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import compatcheck
from compatcheck.advice import margin_of, noise_share
from compatcheck.api import noise as measure
from compatcheck.cli.app import run
from compatcheck.compare.result import Comparison, Estimate, NoiseFloor
from compatcheck.errors import InputError
from compatcheck.gate import noise_remarks, parse_rules
from tests.factories import answered, write_rows


def write(path: Path, answers: str) -> Path:
    """Recorded outputs: the target is always ``a``."""
    return write_rows(path, answered(answers))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {
        "old": write(tmp_path / "old.jsonl", "aaaaaaaabb"),
        "new": write(tmp_path / "new.jsonl", "aaaaaaxxab"),
        "again": write(tmp_path / "again.jsonl", "aaaaaaayab"),
        "third": write(tmp_path / "third.jsonl", "aaaaaaaabc"),
    }


def test_recorded_reruns_give_the_noise_floor(files: dict[str, Path], tmp_path: Path) -> None:
    c = compatcheck.diff(files["old"], files["new"], noise_run=[files["again"], files["third"]])
    noise = c.only.noise
    assert noise is not None
    assert (noise.reruns, noise.n, noise.source) == (2, 10, "2 reruns as recorded")
    assert (noise.metrics["nfr"].count, noise.metrics["nfr"].of) == (1, 20)
    assert (noise.metrics["pfr"].count, noise.metrics["inconsistency"].count) == (1, 1)
    c.save(tmp_path / "out", ["markdown", "html"])
    kept = json.loads((tmp_path / "out" / "report.json").read_text())["comparisons"][0]["noise"]
    assert kept["metrics"]["nfr"]["value"] == 0.05
    assert compatcheck.load(tmp_path / "out").only.noise == noise
    sentence = "without any change NFR 5.0 % (0.5 – 34.5 %, 1 of 20)"
    assert "7 of 10; noise 85.0 %" in str(c)
    assert sentence in " ".join(str(c).split())
    for page in ("report.md", "report.html"):
        assert "2 reruns as recorded" in (tmp_path / "out" / page).read_text(encoding="utf-8")


def test_recorded_old_cannot_be_run_again(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"is recorded, so it cannot be run again; name recorded reruns .*--noise-run"):
        compatcheck.diff(files["old"], files["new"], noise_floor=2)


def test_old_itself_shows_no_noise(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"--noise-run .*: is OLD itself, which shows no noise"):
        compatcheck.diff(files["old"], files["new"], noise_run=[files["again"], files["old"]])


def test_what_is_new_or_named_twice_shows_no_noise(files: dict[str, Path]) -> None:
    old, new, again, third = (files[name] for name in ("old", "new", "again", "third"))
    for news in (new, [third, new]):
        with pytest.raises(InputError, match=r"--noise-run .*new.jsonl: is NEW, whose flips are no noise"):
            compatcheck.diff(old, news, noise_run=new)
    with pytest.raises(InputError, match="--noise-run: one of them is named twice"):
        compatcheck.diff(old, new, noise_run=[again, again])


def test_noise_of_several_runs_speaks_of_runs(files: dict[str, Path], fixtures: Path) -> None:
    with pytest.raises(InputError, match=r"^\S*old.jsonl: is named twice"):
        measure([files["old"], files["old"]])
    with pytest.raises(InputError, match=r"base-v1: is no recorded run; named alone it is run again by itself"):
        measure([files["old"], fixtures / "models" / "base-v1"])


def test_a_rerun_must_be_recorded(files: dict[str, Path], fixtures: Path) -> None:
    with pytest.raises(InputError, match="is no recorded run"):
        compatcheck.diff(files["old"], files["new"], noise_run=str(fixtures / "models" / "base-v1"))


def test_a_budget_within_the_noise_is_an_error_and_no_verdict(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["diff", str(files["old"]), str(files["new"]), "--noise-run", str(files["again"])]
    assert run([*arguments, "--fail-on", "nfr:0.5%"]) == 2  # 1 of 10: shown to be 0.51 % or more
    assert "the budget is within the noise floor of" in capsys.readouterr().err
    assert run([*arguments, "--fail-on", "nfr:20%", "-q"]) in (1, 3)


def floor(**metrics: Estimate) -> Comparison:
    noise = NoiseFloor("3 reruns", 3, 1000, metrics)
    return Comparison("t", "none", "acc", "discrete", "", 1000, None, {}, dict(metrics), {}, None, noise=noise)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ("nfr:1.1%", "error"),  # reruns are shown to use up more
        ("nfr:1.2%", "note"),
        ("nfr:2%", "note"),  # the measured value itself
        ("nfr:3%", "note"),
        ("nfr:3.1%", "fine"),
        ("agreement:98%", "error"),  # at least so much: OLD is shown to agree with itself in less than 97 %
        ("agreement:96%", "note"),
        ("agreement:95.5%", "note"),
        ("agreement:94%", "fine"),
        ("pfr:1%", "fine"),
        ("inconsistency:0%", "fine"),  # none was measured
    ],
)
def test_budgets_against_the_floor(rule: str, outcome: str) -> None:
    comparison = floor(
        nfr=Estimate(0.02, lower=0.012, upper=0.03),
        agreement=Estimate(0.96, lower=0.95, upper=0.97),
        inconsistency=Estimate(0.0, lower=0.0, upper=0.003),
        pfr=Estimate(None, why="no pair could be scored"),
    )
    if outcome == "error":
        with pytest.raises(InputError, match=r"within the noise floor of t/acc .*3 reruns"):
            noise_remarks([comparison], parse_rules([rule]))
    else:
        assert len(noise_remarks([comparison], parse_rules([rule]))) == (outcome == "note")


def test_the_advice_takes_the_measured_noise() -> None:
    for nfr, pfr, share, margin in ((0.0, 0.0, 0.0, 0.01), (0.02, 0.03, 0.03, 0.04), (0.0, None, None, 0.01)):
        comparison = floor(nfr=Estimate(nfr), pfr=Estimate(pfr))
        assert (noise_share(comparison), margin_of(comparison)) == (share, margin)


def test_runs_of_the_same_model_among_themselves(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Pairs of the three: old–again 1 worse 1 better, old–third none, again–third 1 worse 1 better."""
    report = measure([files["old"], files["again"], files["third"]])
    (found,) = report.measured
    assert found.floor.reruns == 3
    rates = {name: (figure.count, figure.of) for name, figure in found.floor.metrics.items()}
    assert (rates["nfr"], rates["pfr"], rates["flips"], rates["inconsistency"]) == ((2, 30), (2, 30), (4, 30), (2, 30))
    assert run(["noise", *map(str, files.values()), "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["schema"], data["measured"][0]["floor"]["reruns"]) == ("compatcheck.noise/1", 6)
    assert run(["noise", str(files["old"]), str(files["again"])]) == 0
    assert "negative flip rate" in capsys.readouterr().out


def test_one_recorded_run_shows_no_noise(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="one recorded run shows no noise"):
        measure(files["old"])


@pytest.mark.slow
def test_a_model_is_run_again_in_other_batches(fixtures: Path) -> None:
    """In float32 on one machine a choice hardly moves: the reruns are there, and pair with OLD on every instance."""
    adapter = fixtures / "adapters" / "piqa-v1"
    said: list[str] = []
    c = compatcheck.diff(
        adapter, adapter, task="piqa", data=fixtures / "data", limit=12, noise_floor=2, say=said.append, allow_same=True
    )
    noise = c["acc"].noise
    assert noise is not None
    assert (noise.reruns, noise.n) == (2, 12)
    assert noise.source == "2 reruns with requests in another order, in other batches and with another seed"
    assert noise.metrics["nfr"].of == 24
    assert [line for line in said if line.startswith("rerun")] == [
        "rerun 1: piqa, 12 instances", "rerun 2: piqa, 12 instances",
    ]  # fmt: skip


@pytest.mark.slow
def test_sampled_answers_of_reruns_are_drawn_anew(fixtures: Path, tmp_path: Path) -> None:
    """A hot task of the adapter: reruns differ from each other, though nothing of the model changed."""
    task = tmp_path / "hot.yaml"
    rows = "".join(json.dumps({"q": f"{n} + {n} =", "a": str(2 * n)}) + "\n" for n in range(6))
    (tmp_path / "hot.jsonl").write_text(rows, encoding="utf-8")
    task.write_text(
        "task: hot\ndataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tmp_path / 'hot.jsonl'}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\n"
        "generation_kwargs:\n  until: ['\\n']\n  do_sample: true\n  temperature: 1.5\n  max_gen_toks: 8\n"
        "metric_list:\n  - metric: exact_match\n",
        encoding="utf-8",
    )
    report = measure(fixtures / "models" / "base-v1", task=str(task), repeats=2)
    (found,) = report.measured
    assert found.floor.reruns == 3
    agreement = found.floor.metrics["agreement"]
    assert agreement.value is not None and agreement.value < 1


def test_clusters_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": str(n), "target": "a", "prediction": "a", "passage": f"p{n // 4}"} for n in range(40)]
    for name, wrong in (("old", 0), ("new", 4)):
        text = "".join(
            json.dumps(row | ({"prediction": "b"} if n < wrong else {})) + "\n" for n, row in enumerate(rows)
        )
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    sides = [str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl")]
    assert run(["diff", *sides, "--cluster-by", "passage", "--format", "terminal", "--out", str(tmp_path / "out")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "intervals and tests count 10 clusters by 'passage' (the largest has 4 instances)" in printed
    assert "only 10 clusters by 'passage': with fewer than 30" in printed
    kept = json.loads((tmp_path / "out" / "report.json").read_text())["comparisons"][0]
    assert kept["clusters"] == {"field": "passage", "count": 10, "largest": 4}
    assert kept["metrics"]["nfr"]["effective"] == pytest.approx(9)
    assert compatcheck.load(tmp_path / "out").only.metrics["nfr"].effective == pytest.approx(9)
    assert run(["diff", *sides, "--cluster-by", "passage", "--stream"]) == 2
    assert "cannot count by clusters; add --no-stream" in capsys.readouterr().err
