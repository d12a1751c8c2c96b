"""`compatcheck diff` with endpoints: errors are the fifth bucket, nothing secret is written, nothing is asked twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck.api import noise
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from compatcheck.evaluation.bridge import only_answered
from compatcheck.tasks import TaskOptions, load_tasks
from tests.engines.endpoint.servers import Hostile, Model, serving
from tests.factories import write_rows

KEY = "sk-a-secret-of-the-tests-0123456789"
ARGS = ["--engine-arg", "retries=1", "--engine-arg", "backoff=0.01", "--engine-arg", "timeout=2"]
QUESTIONS = ["good 0", "refusing 1", "busy:1 2", "empty 3", "good 4", "broken 5"]


@pytest.fixture
def task(tmp_path: Path) -> list[str]:
    """Arguments of a task whose answers are what the server says, but for the last good one."""
    rows = [{"q": q, "a": "no" if q == "good 4" else f"said: {q}"} for q in QUESTIONS]
    data = write_rows(tmp_path / "data.jsonl", rows)
    return ["--task", quiz_yaml(tmp_path), "--data", str(data)]


def quiz_yaml(folder: Path) -> str:
    yaml = folder / "quiz.yaml"
    yaml.write_text(
        "task: quiz\ndataset_path: json\noutput_type: generate_until\ntest_split: test\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: "{{a}}"\ngeneration_kwargs:\n  until: ["\\n"]\n'
        "metric_list:\n  - {metric: exact_match, aggregation: mean, higher_is_better: true}\n"
    )
    return str(yaml)


def test_settings_of_one_side_reach_its_requests_alone(task: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Hostile) as server:
        one = f"{server.url}#m"
        sides = ["--new-set", "gen.temperature=0.5", "--old-set", "batch-size=1", "--new-set", "batch-size=4"]
        assert run(["diff", one, one, *task, *ARGS, "--no-store", "--limit", "1", *sides]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert {body.get("temperature") for path, body in server.asked if path == "/v1/completions"} == {0, 0.5}
        assert "OLD and NEW differ in: batch size, temperature" in out
        for setting in ("dtype=float16", "engine=hf", "device=cpu", "engine-arg.max_model_len=3"):
            assert run(["diff", one, one, *task, "--new-set", setting]) == 2
            assert f"--new-set {setting.partition('=')[0]}: no model runs here" in capsys.readouterr().err
        assert run(["diff", one, one, *task, "--new-set", "batch-size=auto"]) == 2
        assert "OLD and NEW are the same" in capsys.readouterr().err


def everything_under(*folders: Path) -> bytes:
    return b"".join(path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file())


def test_failures_are_errors_and_never_flips_and_are_asked_again(
    task: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    store = ["--store", str(tmp_path / "store")]
    out = ["--out", str(tmp_path / "out"), "--format", "json", "--format", "markdown", "--format", "html"]
    with serving(Hostile) as server:
        old, new = f"{server.url}#m", f"{server.url}#n"
        assert run(["diff", old, new, *task, *ARGS, *store, *out]) == 0
        assert server.paths()["/v1/models"] == 2, "each reference is resolved once"
        first = server.paths()["/v1/completions"]
        assert first == 2 * (1 + 1 + 2 + 2 + 1 + 2) - 1, "'busy:1' answers the second time, whoever asks"
        assert run(["diff", old, new, *task, *ARGS, *store, *out]) == 0
        again = 2 * (1 + 2 + 2 + 1)  # of each side the failures, which are not stored, and a trivial request
        assert server.paths()["/v1/completions"] == first + again
        assert {headers.get("Authorization") for headers in server.headers} == {f"Bearer {KEY}"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (comparison,) = report["comparisons"]
    assert comparison["n"] == 3
    assert comparison["pairing"]["errors_old"] == comparison["pairing"]["errors_new"] == 3
    assert comparison["quadrants"] == {"both_correct": 2, "positive_flip": 0, "negative_flip": 0, "both_wrong": 1}
    assert report["old"]["kind"] == "endpoint"
    assert report["old"]["fingerprint"] != report["new"]["fingerprint"]
    rows = pd.read_parquet(tmp_path / "out" / "instances.parquet").set_index("doc_id").sort_index()
    assert [None if pd.isna(error) else error for error in rows["error_new"]] == [
        None, "HTTP 400: prompt too long [31m (you sent Bearer ***)", None,
        "the answer holds no choices (2 tries)", None, "HTTP 500 (2 tries)",
    ]  # fmt: skip
    failed = rows["error_new"].notna()
    assert rows.loc[failed, "prediction_new"].isna().all() and rows.loc[failed, "score_new"].isna().all()
    assert rows.loc[~failed, "prediction_new"].tolist() == ["said: good 0", "said: busy:1 2", "said: good 4"]
    printed = capsys.readouterr()
    warning = (
        f"Warning, 50% of quiz failed: figures rest on the other documents alone. {new}: 3 of 6 documents of quiz "
    )
    assert [note[: len(warning)] for note in report["notes"] if new in note and "failed" in note] == [warning]
    assert KEY not in printed.out + printed.err
    assert KEY.encode() not in everything_under(tmp_path)


def test_a_sample_keeps_each_failure_at_its_document(task: list[str]) -> None:
    with serving(Hostile) as server:
        diff = compatcheck.diff(
            f"{server.url}#m", f"{server.url}#m", task=task[1], data=task[3], sample=5, seed=3,
            engine_args={"retries": 1}, allow_same=True,
        )  # fmt: skip
    found = diff.instances.set_index("doc_id")["error_new"]
    assert len(found) == 5
    for number, question in enumerate(QUESTIONS):
        if str(number) in found:
            expected = question.split()[0] in ("refusing", "empty", "broken")
            assert bool(pd.notna(found[str(number)])) == expected, (number, question, found)


def test_nothing_answered_is_an_error(task: list[str]) -> None:
    data = Path(task[3]).with_name("bad.jsonl")
    data.write_text(json.dumps({"q": "refusing", "a": "x"}) + "\n")
    told = pytest.raises(InputError, match="task quiz: no document could be answered: HTTP 400")
    with serving(Hostile) as server, told:
        compatcheck.diff(f"{server.url}#m", f"{server.url}#n", task=task[1], data=data)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"engine": "hf"}, "--engine hf: no model runs here, the server of http.* runs it; leave it away"),
        ({"dtype": "bfloat16"}, "--dtype bfloat16: no model runs here"),
        ({"device": "cpu"}, "--device cpu: no model runs here"),
        ({"engine_args": {"api": "chats"}}, "api=chats: unknown; known: auto, completions, chat"),
        ({"engine_args": {"retry": 3}}, r"has no such setting \(did you mean 'retries'\?\)"),
        ({"engine_args": {"timeout": 0}}, "timeout=0: give a number above 0"),
        ({"engine_args": {"retries": 1.5}}, "retries=1.5: give a whole number"),
        ({"engine_args": {"api_key": KEY}}, "api_key: would stand in reports; set the key in the environment"),
        ({"engine_args": {"extra_body": {"auth_token": KEY}}}, "auth_token: would stand in reports"),
        ({"engine_args": {"extra_body": 3}}, "give a mapping"),
        ({"engine_args": {"extra_body": {"temperature": 1}}}, "temperature is decided by the task"),
    ],
)
def test_options_that_cannot_be(arguments: dict[str, Any], why: str, task: list[str]) -> None:
    with serving(Hostile) as server, pytest.raises(InputError, match=why) as told:
        compatcheck.diff(f"{server.url}#m", f"{server.url}#n", task=task[1], data=task[3], **arguments)
    assert KEY not in str(told.value)


def test_an_endpoint_and_the_model_that_it_serves_do_not_differ(fixtures: Path) -> None:
    folder = fixtures / "models" / "base-v1"
    with serving(type("Tiny", (Model,), {"folder": folder, "_loaded": None})) as server:
        diff = compatcheck.diff(
            folder, server.url, task=["piqa", "gsm8k"], data=fixtures / "data", sample=8, num_fewshot=0,
            engine_args={"timeout": 100, "backoff": 0.1},
        )  # fmt: skip
    for comparison in diff.comparisons:
        assert comparison.n == 8
        assert comparison.metrics["agreement"].value == 1.0
    assert (diff.old.kind, diff.new.kind) == ("model", "endpoint")
    assert diff.new.engine["api"] == "auto"
    assert any("cannot be fingerprinted" in note for note in diff.notes)


def test_lm_evals_own_log_leaves_failed_documents_out(fixtures: Path) -> None:
    (loaded,) = load_tasks(["piqa"], TaskOptions(data=fixtures / "data", limit=4))
    samples = [{"doc_id": n, "filter": "none", "acc": float(n % 2), "acc_norm": 1.0} for n in range(4)]
    results = {
        "results": {"piqa": {"alias": "piqa", "acc,none": 0.5, "acc_stderr,none": 0.3, "acc_norm,none": 1.0}},
        "n-samples": {"piqa": {"original": 800, "effective": 4}},
        "samples": {"piqa": samples},
    }
    assert only_answered(results, loaded, {}) == results
    found = only_answered(results, loaded, {0: "no", 2: "no"})
    assert [sample["doc_id"] for sample in found["samples"]["piqa"]] == [1, 3]
    assert found["results"]["piqa"] == {
        "alias": "piqa", "acc,none": 1.0, "acc_stderr,none": "N/A", "acc_norm,none": 1.0,
    }  # fmt: skip
    assert found["n-samples"]["piqa"] == {"original": 800, "effective": 2}
    with pytest.raises(InputError, match="no document could be answered: gone"):
        only_answered(results, loaded, dict.fromkeys(range(4), "gone"))


def quiz(folder: Path, questions: list[str]) -> dict[str, Any]:
    """Data and task with these questions, whose answers are what the server says."""
    rows = [{"q": q, "a": f"said: {q}"} for q in questions]
    write_rows(folder / "many.jsonl", rows)
    return {"data": folder / "many.jsonl", "engine_args": {"retries": 0, "backoff": 0.01, "timeout": 2}}


def test_until_decided_asks_no_more_than_it_needs(task: list[str], tmp_path: Path) -> None:
    """Failed requests are errors of the documents that were drawn, and no document is asked beyond the last look."""
    options = quiz(tmp_path, [f"refusing {i}" if i % 10 == 0 else f"good {i}" for i in range(200)])
    with serving(Hostile) as server:
        result = compatcheck.diff(
            f"{server.url}#m", f"{server.url}#n", task=task[1], **options,
            fail_on="nfr:10%", until_decided=True, step=20, store=False, max_missing=0.2,
        )  # fmt: skip
        asked = server.paths()["/v1/completions"]
    how = result.only.sequential
    assert how is not None
    assert result.verdict == "pass"
    assert how.used < 100
    assert 2 * how.used <= asked <= 2 * how.used + 4, "a trivial request now and then shows that the server is there"
    assert result.only.pairing.errors_old == result.only.pairing.errors_new == how.used - result.only.n > 0


def test_until_decided_gives_up_where_nothing_is_answered(task: list[str], tmp_path: Path) -> None:
    options = quiz(tmp_path, ["refusing"] * 400)
    with serving(Hostile) as server:
        with pytest.raises(InputError, match="no document could be answered: HTTP 400"):
            compatcheck.diff(
                f"{server.url}#m", f"{server.url}#n", task=task[1], **options, fail_on="nfr:10%", until_decided=True
            )
        assert server.paths()["/v1/completions"] <= 60


def test_a_step_without_any_answer_is_waited_for(task: list[str], tmp_path: Path) -> None:
    """One document at a time: the failed ones come before it is known what the task is scored by."""
    options = quiz(tmp_path, ["refusing 1", "refusing 2", "good 3", "good 4", "refusing 5", "good 6"])
    with serving(Hostile) as server:
        result = compatcheck.diff(
            f"{server.url}#m", f"{server.url}#n", task=task[1], **options,
            fail_on="nfr:10%", until_decided=True, step=1, store=False,
        )  # fmt: skip
    assert result.verdict == "inconclusive"
    assert (result.only.n, result.only.pairing.errors_old, len(result.instances)) == (3, 3, 6)


def test_a_key_of_another_variable(task: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "COMPATCHECK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KEY_OF_THE_TESTS", KEY)
    with serving(Hostile) as server:
        given = [*task, *ARGS, "--limit", "1", "--no-store", "--api-key-env", "KEY_OF_THE_TESTS", "-q"]
        assert run(["diff", f"{server.url}#m", f"{server.url}#n", *given]) == 0
        assert {headers.get("Authorization") for headers in server.headers} == {f"Bearer {KEY}"}


WITHOUT = ("torch", "transformers", "peft", "accelerate", "safetensors", "vllm", "ray", "bert_score", "sklearn")


def test_no_model_library_is_needed(task: list[str], tmp_path: Path) -> None:
    """What `pip install 'compatcheck[tasks]'` brings is enough for two servers."""
    with serving(Hostile) as server:
        sides = [f"{server.url}#m", f"{server.url}#n"]
        script = (
            "import sys\nfrom importlib.machinery import PathFinder\nown = PathFinder.find_spec\n"
            f"hidden = lambda name, *more: None if name.split('.')[0] in {WITHOUT!r} else own(name, *more)\n"
            "PathFinder.find_spec = staticmethod(hidden)\nfrom compatcheck.cli.app import run\n"
            f"sys.exit(run(['diff', *{sides!r}, *{task!r}, '--no-store', '-q', *{ARGS!r}]))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert server.paths()["/v1/completions"] > 10


def test_the_same_answers_of_a_server_are_no_comparison(tmp_path: Path) -> None:
    """Its weights may change under one name, so it is compared with what it said before, but with no copy of that."""
    options = {**quiz(tmp_path, [f"good {i}" for i in range(3)]), "task": quiz_yaml(tmp_path)}
    kept = {name: tmp_path / name for name in ("first", "stored", "again")}
    with serving(Hostile) as server:
        model = f"{server.url}#m"
        for name, store in (("first", None), ("stored", None), ("again", False)):
            compatcheck.evaluate(model, **options, store=store).save(kept[name])
        for new in (kept["first"], kept["stored"], model):
            with pytest.raises(InputError, match=r"OLD and NEW are the same: .*--no-store.*--allow-same"):
                compatcheck.diff(kept["first"], new, **options)
        assert compatcheck.diff(kept["first"], kept["again"], **options).only.n == 3
        assert compatcheck.diff(kept["first"], model, **options, store=False).only.n == 3
        with pytest.raises(InputError, match=r"--noise-run .*stored: 3 of 3 answers come from the store.*--no-store"):
            compatcheck.diff(kept["first"], f"{server.url}#n", **options, noise_run=str(kept["stored"]))
        found = compatcheck.diff(kept["first"], f"{server.url}#n", **options, noise_run=str(kept["again"]))
        assert found.only.noise and not any("is a run of another model" in note for note in found.notes)
        compatcheck.evaluate(f"{server.url}#n", **options, store=False).save(tmp_path / "other")
        said = f"{tmp_path / 'other'} is a run of another model than {kept['first']}, by their fingerprints"
        found = compatcheck.diff(kept["first"], kept["again"], noise_run=str(tmp_path / "other"))
        assert any(note.startswith(said) for note in found.notes)
        report = noise([kept["first"], tmp_path / "other"])
        assert any(note.startswith(said) for note in report.notes)
