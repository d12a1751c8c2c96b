"""Files of FastChat, OpenAI evals, chat APIs, tracing tools, deepeval, NeMo Evaluator and OpenCompass."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck.errors import InputError
from compatcheck.readers import Layout, load_recorded
from compatcheck.readers.chat import answer, asked
from compatcheck.readers.detect import tool_of
from compatcheck.records import TaskRun
from tests.factories import write_rows
from tests.readers.foreign_samples import DATA

SAID = {"old": ["2", "4", "7", "It is 8."], "new": [None, "5", "6", "8"]}
"""What the two models of every file in ``data/`` say to four sums; the first request to the new one fails."""
FILES = {
    "openai_evals": "{side}.jsonl",
    "langsmith": "{side}.csv",
    "braintrust": "{side}.jsonl",
    "langfuse": "{side}.items.jsonl",
    "nemo_evaluator": "{side}",
}


def load(path: Path, **layout: Any) -> TaskRun:
    (run,) = load_recorded(path, layout=Layout(**layout))
    return run


def column(run: TaskRun, name: str) -> list[Any]:
    return [None if pd.isna(value) else value for value in run.records[name]]


@pytest.mark.parametrize("side", ["old", "new"])
@pytest.mark.parametrize("tool", FILES)
def test_what_was_said(tool: str, side: str) -> None:
    path = DATA / tool / FILES[tool].format(side=side)
    assert tool_of(path, Layout()) == tool
    run = load(path)
    records = run.records.sort_values("input", na_position="first")
    assert [None if pd.isna(said) else said for said in records["prediction"]] == SAID[side]
    right = [str(2 * n) == said for n, said in enumerate(SAID[side], 1)]
    scored = records[f"score:{run.metrics[0].name}"].tolist()
    assert scored[1:] == right[1:]
    failed = records["error"].notna().tolist() if "error" in records else [False] * 4
    assert failed == [side == "new", False, False, False]


@pytest.mark.parametrize("tool", FILES)
def test_a_diff_of_what_was_said(tool: str) -> None:
    old, new = (str(DATA / tool / FILES[tool].format(side=side)) for side in ("old", "new"))
    (comparison,) = compatcheck.diff(old, new).comparisons
    assert (comparison.pairing.paired, comparison.pairing.errors_new) == (3, 1)
    assert (comparison.quadrants["negative_flip"], comparison.quadrants["positive_flip"]) == (1, 2)


def test_fastchat_turns_and_judgements() -> None:
    run = load(DATA / "fastchat" / "model_answer" / "old.jsonl")
    assert column(run, "doc_id")[:4] == ["81", "81/2", "82", "82/2"]
    assert column(run, "target")[:2] == ["2", "3"]
    assert column(run, "input")[1] == "What is 1 plus 1?\n\nAnd one more?"
    assert column(run, "error") == [None] * 7 + ["$ERROR$"]
    judged = DATA / "fastchat" / "model_judgment" / "gpt-4_single.jsonl"
    with pytest.raises(InputError, match=r"several models; name one as .*#MODEL: gpt-3.5-turbo, gpt-4"):
        load(judged)
    scores = load(judged, part="gpt-4")
    assert column(scores, "score:score") == [9.0, None, 9.0, 9.0]
    assert column(scores, "error")[1] == "the judge gave no score"


def test_fastchat_without_questions(tmp_path: Path) -> None:
    shutil.copy(DATA / "fastchat" / "model_answer" / "old.jsonl", tmp_path)
    with pytest.raises(InputError, match="no field `target`"):
        load(tmp_path / "old.jsonl")


def test_chat_log_keeps_tool_calls_and_what_an_answer_took() -> None:
    targets = DATA / "chat_log" / "targets.jsonl"
    run = load(DATA / "chat_log" / "old.batch_output.jsonl", targets=targets)
    records = run.records.set_index("doc_id").loc[["q1", "q2", "q3", "q4"]]
    assert json.loads(records["prediction"]["q3"]) == [{"name": "add", "arguments": {"a": 3, "b": 4}}]
    assert records["prediction"].tolist()[:2] == ["2", "4"]
    assert records["finish_reason"].tolist() == ["stop", "stop", "tool_calls", "length"]
    assert records["output_tokens"].tolist() == [3] * 4
    assert "user: What is 1 plus 1?" in records["input"]["q1"]  # from the input file beside it
    failed = load(DATA / "chat_log" / "new.batch_output.jsonl", targets=targets).records.set_index("doc_id")
    assert failed["error"]["q1"] == "the server said no"


@pytest.mark.parametrize("broken", [{"finish_reason": "abort"}, {"finish_reason": "error", "error": {"code": 502}}])
def test_chat_log_half_an_answer_is_an_error(broken: dict[str, Any], tmp_path: Path) -> None:
    lines = (DATA / "chat_log" / "old.batch_output.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["response"]["body"]["choices"][0] |= broken
    path = write_rows(tmp_path / "out.jsonl", rows)
    found = load(path, targets=DATA / "chat_log" / "targets.jsonl").records.set_index("doc_id")["error"]
    assert [row["custom_id"] for row in rows if not pd.isna(found[row["custom_id"]])] == [rows[0]["custom_id"]]


def test_chat_log_pairs_by_what_was_asked(tmp_path: Path) -> None:
    files = []
    for side in ("old", "new"):
        rows = [json.loads(line) for line in (DATA / "chat_log" / f"{side}.log.jsonl").read_text().splitlines()]
        rows = [row | {"target": "4"} for row in (rows if side == "old" else rows[::-1])]
        files.append(tmp_path / f"{side}.jsonl")
        write_rows(files[-1], rows)
    (comparison,) = compatcheck.diff(*map(str, files)).comparisons
    assert (comparison.pairing.paired, comparison.pairing.only_old) == (4, 0)
    assert column(load(files[0]), "latency") == [0.2, 0.201, 0.202, 0.203]


def test_batch_beside_two_input_files_that_differ(tmp_path: Path) -> None:
    shutil.copy(DATA / "chat_log" / "old.batch_output.jsonl", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (DATA / "chat_log" / "old.batch_input.jsonl").read_text().splitlines()]
    write_rows(tmp_path / "a.jsonl", rows)
    rows[0]["body"]["messages"][-1]["content"] = "Something else?"
    write_rows(tmp_path / "b.jsonl", rows)
    run = load(tmp_path / "out.jsonl", targets=DATA / "chat_log" / "targets.jsonl")
    assert "input" not in run.records and "several input files" in run.notes[0]


def test_one_page_of_several_is_said(tmp_path: Path) -> None:
    rows = [{"id": "t", "input": "q", "output": "a", "traceId": None}]
    for total in (1, 50):
        (tmp_path / "page.json").write_text(json.dumps({"data": rows, "meta": {"page": 1, "totalItems": total}}))
        run = load(tmp_path / "page.json", reference="old")
        assert any("1 of 50 records: it is one page of several" in note for note in run.notes) == (total == 50)


def test_scores_of_answers_with_their_reasoning_are_said(tmp_path: Path) -> None:
    row = {"id": 1, "target": "a", "prediction": "<think>b</think>a", "score": 0}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    said = [note for note in load(tmp_path / "rows.jsonl", reasoning="strip").notes if "with their reasoning" in note]
    assert said and "--metric exact_match" in said[0]
    (run,) = load_recorded(tmp_path / "rows.jsonl", layout=Layout(reasoning="strip"), metrics=["exact_match"])
    assert run.records["score:exact_match"].tolist() == [1.0] and not any("with their" in note for note in run.notes)


def test_a_conversation_is_its_last_answer(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (tmp_path / "c.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    (tmp_path / "t.jsonl").write_text(json.dumps({"id": "x", "target": "Hello", "messages": turns}) + "\n")
    assert tool_of(tmp_path / "c.jsonl", Layout()) == "chat_log"
    assert tool_of(tmp_path / "t.jsonl", Layout()) is None  # plain rows may have messages


def test_anthropic_responses_and_langchain() -> None:
    message = {
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "Hm."},
            {"type": "text", "text": "I add."},
            {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 1}},
        ],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 3, "output_tokens": 5},
    }
    assert answer(message) == {
        "finish_reason": "length",
        "prompt_tokens": 3,
        "output_tokens": 5,
        "prediction": '[{"name": "add", "arguments": {"a": 1}}]',
        "response": "I add.",
        "reasoning": "Hm.",
    }
    responses = {
        "object": "response",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "2"}]},
            {"type": "function_call", "name": "add", "arguments": '{"a": 1}'},
        ],
    }
    assert answer(responses)["prediction"] == '[{"name": "add", "arguments": {"a": 1}}]'
    assert answer(responses)["response"] == "2"
    chain = {
        "generations": [
            [{"text": "", "message": {"kwargs": {"content": "", "tool_calls": [{"name": "f", "args": {}}]}}}]
        ]
    }
    assert answer(chain)["prediction"] == '[{"name": "f", "arguments": {}}]'
    assert answer({"answer": "8", "sources": None})["prediction"] == "8"
    assert answer({"choices": [{"text": "abc", "finish_reason": "stop"}]}) == {
        "finish_reason": "stop",
        "prediction": "abc",
    }
    assert asked({"question": "What?"}) == "What?"


def test_steps_of_traces_are_left_out() -> None:
    path = DATA / "langfuse" / "old.observations.jsonl"
    run = load(path)
    assert run.notes == ("langfuse: 4 steps within traces are left out; the traces are compared",)
    calls = load(path, part="llm", targets=DATA / "langfuse" / "targets.jsonl")
    assert (column(calls, "cost"), column(calls, "output_tokens")) == ([0.00012] * 4, [3] * 4)


def test_exports_as_csv_and_in_an_object(tmp_path: Path) -> None:
    sums = [("What is 1 plus 1?", "2"), ("What is 2 plus 2?", "4")]
    names = ["id", "sessionId", "input", "output", "metadata", "latency", "totalCost", "scores", "release"]
    graded = [{"name": "ok", "value": value, "dataType": "NUMERIC"} for value in (1, 0)]
    graded.append({"name": "tone", "value": "nice", "dataType": "CATEGORICAL"})
    with (tmp_path / "langfuse.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for asked_, said in sums:
            turns = {"messages": [{"role": "user", "content": asked_}]}
            texts = [turns, {"role": "assistant", "content": said}, {"expected_output": said, "lang": "en"}]
            writer.writerow(["x", "s", *map(json.dumps, texts), "1.5", "0.001", json.dumps(graded), "v1"])
    run = load(tmp_path / "langfuse.csv")
    assert column(run, "input") == [asked_ for asked_, _ in sums]
    assert (column(run, "prediction"), column(run, "target")) == (["2", "4"], ["2", "4"])
    assert column(run, "score:ok") == [0.5, 0.5]  # two scores of one name
    assert (column(run, "cost"), column(run, "lang"), column(run, "release")) == ([0.001] * 2, ["en"] * 2, ["v1"] * 2)
    rows = [{"span_id": s, "root_span_id": s, "input": s, "output": s, "expected": s, "scores": {"f": 1}} for s in "ab"]
    (tmp_path / "page.json").write_text(json.dumps({"events": rows, "cursor": None}))
    assert column(load(tmp_path / "page.json"), "prediction") == ["a", "b"]


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a", "input": "q", "output": "x", "target": "x", "sessionId": "s"},
        {"id": "a", "spec": "q", "output": "x", "target": "x"},
        {"id": "a", "choices": ["x", "y"], "output": "x", "target": "x"},
        {"id": "a", "request": "q", "response": "x", "target": "x"},
    ],
)
def test_plain_rows_stay_plain(row: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert tool_of(tmp_path / "rows.jsonl", Layout()) is None
    assert column(load(tmp_path / "rows.jsonl"), "prediction") == ["x"]


def test_embeddings_are_no_answers(tmp_path: Path) -> None:
    body = {"object": "list", "data": [{"embedding": [1]}], "model": "m"}
    row = {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
    (tmp_path / "out.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"out\.jsonl:1: embeddings and moderations are no answers"):
        load(tmp_path / "out.jsonl")


def test_tools_that_steps_called(tmp_path: Path) -> None:
    def step(kind: str, name: str, start: int, parent: str | None, **values: Any) -> dict[str, Any]:
        about = {"type": kind, "name": name}
        return {
            "span_id": f"{name}{start}", "root_span_id": "r", "span_parents": parent and [parent], "scores": {},
            "span_attributes": about, "metrics": {"start": start, "end": start + 1}, **values,
        }  # fmt: skip

    expected = [{"name": "find", "arguments": {"q": "a"}}, {"name": "add", "arguments": {"a": 1}}]
    rows = [
        step("task", "root", 0, None, input="What?", output="It is 2.", expected=expected),
        step("tool", "add", 5, "root0", input={"a": 1}, output=2),
        step("tool", "find", 3, "root0", input='{"q": "a"}', output="x"),
    ]
    write_rows(tmp_path / "t.jsonl", rows)
    run = load(tmp_path / "t.jsonl")
    assert json.loads(column(run, "prediction")[0]) == json.loads(column(run, "target")[0]) == expected
    assert (column(run, "response"), column(run, "score:exact_match")) == (["It is 2."], [1.0])
    rows[0]["expected"] = "2"
    write_rows(tmp_path / "t.jsonl", rows)
    run = load(tmp_path / "t.jsonl")
    assert (column(run, "prediction"), json.loads(column(run, "tool_calls")[0])) == (["It is 2."], expected)


def test_targets_of_a_log_that_are_calls(tmp_path: Path) -> None:
    log = [json.loads(line) for line in (DATA / "chat_log" / "old.log.jsonl").read_text().splitlines()][2]
    calls = [{"type": "function", "function": {"name": "add", "arguments": '{"a": 3, "b": 4}'}}]
    (tmp_path / "log.jsonl").write_text(json.dumps(log | {"expected": calls}) + "\n")
    assert column(load(tmp_path / "log.jsonl"), "score:exact_match") == [1.0]


def test_langsmith_runs_as_lines() -> None:
    with pytest.raises(InputError, match="no field `target`"):
        load(DATA / "langsmith" / "old.jsonl")  # runs carry none; the CSV of the experiment does
    run = load(DATA / "langsmith" / "old.csv")
    assert column(run, "doc_id")[0] == "00000000-0000-0000-0000-000000000001"


def test_deepeval_tools(tmp_path: Path) -> None:
    value = json.loads((DATA / "deepeval" / "old.json").read_text())
    run = load(DATA / "deepeval" / "old.json")
    assert json.loads(column(run, "tool_calls")[1]) == [{"name": "add", "arguments": {"a": 2}}]
    assert column(run, "prediction")[1] == "4"
    value["testCases"][1]["expectedTools"] = [{"name": "add", "inputParameters": {"a": 3}}]
    value["testCases"][0]["metricsData"][0] |= {"error": "the judge said no", "score": None}
    (tmp_path / "run.json").write_text(json.dumps(value))
    run = load(tmp_path / "run.json")
    assert column(run, "target")[1] == '[{"name": "add", "arguments": {"a": 3}}]'
    assert column(run, "prediction")[1] == '[{"name": "add", "arguments": {"a": 2}}]'
    assert column(run, "error")[0] == "Exact Match: the judge said no"


def test_nemo_repeats_and_own_benchmarks(tmp_path: Path) -> None:
    run = load(DATA / "nemo_evaluator" / "old")
    assert (run.task, run.settings["repeats"]) == ("sums", 2)
    rows = [
        {
            "sample_id": n,
            "prompt": "q",
            "response": r,
            "target": "2",
            "scores": s,
            "status": t,
            "error": e,
            "metadata": {},
        }
        for n, (r, s, t, e) in enumerate(
            [("2", {"correct": True}, "scored", None), (None, None, "skipped_model_error", "timeout")]
        )
    ]
    write_rows(tmp_path / "byob_predictions.jsonl", rows)
    run = load(tmp_path / "byob_predictions.jsonl")
    assert (column(run, "score:correct"), column(run, "error")) == ([1.0, None], [None, "timeout"])


def test_opencompass_folder_parts_and_details(tmp_path: Path) -> None:
    folder = DATA / "opencompass"
    assert tool_of(folder, Layout()) == "opencompass"
    with pytest.raises(InputError, match="several models"):
        load_recorded(folder)
    runs = load_recorded(folder, layout=Layout(part="old"))
    assert [run.task for run in runs] == ["choosing", "sums"]
    assert runs[0].records["loglikelihoods"].tolist()[0] == [-1.5, -1.5]
    model = tmp_path / "predictions" / "m"
    model.mkdir(parents=True)
    rows = list(json.loads((folder / "predictions" / "old" / "sums.json").read_text()).values())
    for part in range(11):
        (model / f"big_{part}.json").write_text(json.dumps({"0": rows[0] | {"prediction": str(part)}}))
    (run,) = load_recorded(tmp_path)
    assert (run.task, column(run, "prediction")) == ("big", [str(n) for n in range(11)])
    details = {"0": {"prompt": "q", "predictions": "2", "references": ["2", "two"], "correct": True}}
    (tmp_path / "r.json").write_text(json.dumps({"accuracy": 100.0, "details": details}))
    assert column(load(tmp_path / "r.json"), "score:correct") == [1.0]


@pytest.mark.parametrize("tool", ["langfuse", "braintrust"])
def test_rows_without_a_score_are_errors_where_it_is_compared(tool: str, tmp_path: Path) -> None:
    def row(number: int, scores: dict[str, float | None]) -> dict[str, Any]:
        known = {"input": f"{number}?", "output": str(number), "metadata": {}}
        if tool == "braintrust":
            return {**known, "expected": str(number), "scores": scores}
        named = [{"name": name, "value": value, "dataType": "NUMERIC"} for name, value in scores.items()]
        return {**known, "expectedOutput": str(number), "traceId": f"t{number}", "id": f"t{number}", "scores": named}

    rows = [row(n, {"good": 0.5, "whole": 1.0 if n < 4 else None, "rare": None if n < 4 else 1.0}) for n in range(5)]
    (file := tmp_path / "out.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (run,) = load_recorded(file)
    assert [metric.name for metric in run.metrics] == ["good", "whole"]
    assert column(run, "error") == [None] * 4 + ["not scored: the tool gives no whole"]
    assert pd.isna(run.records["score:good"][4])
    assert run.notes == (
        f"{tool}: whole is scored in 4 of 5 rows; the others are errors",
        f"{tool}: rare is scored in 1 of 5 rows only and is not compared (--metric rare)",
    )
    (run,) = load_recorded(file, metrics=["good"])
    assert (column(run, "score:good"), run.notes) == ([0.5] * 5, ())
    (run,) = load_recorded(file, metrics=["rare"])
    assert (run.records["error"].notna().sum(), column(run, "score:rare")[4]) == (4, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("latency", "0,5 s", "0,5 s"),
        ("latency_ms", -3, "-3"),
        ("cost", "$1", "$1"),
        ("output_tokens", float("inf"), "inf"),
        ("output_tokens", 1e60, "1e+60"),
    ],
)
def test_a_figure_that_is_none_is_named(name: str, value: Any, said: str, tmp_path: Path) -> None:
    plain = [{"id": n, "target": "a", "prediction": "a", name: 2 if n < 2 else value} for n in range(4)]
    chat = [{"id": n, "messages": [{"role": "user", "content": f"{n}"}], "target": "a", name: each[name],
             "response": {"choices": [{"message": {"content": "a"}}], "object": "chat"}}
            for n, each in enumerate(plain)]  # fmt: skip
    trace = [{"input": str(n), "output": "a", "expected": "a", "scores": {}, "metrics": {}} for n in range(4)]
    field = {"latency": "duration", "cost": "cost"}.get(name, "completion_tokens")
    for each, one in zip(trace, plain, strict=True):
        each["metrics"] = {field: one[name]}
    for rows in (plain, chat, trace) if name != "latency_ms" else (plain,):
        (file := tmp_path / "out.jsonl").write_text("\n".join(map(json.dumps, rows)))
        rule = "which is no number from 0 to 1e+50: it counts as not measured, as 1 more does"
        assert f"{file}:3: `{name}` is {said}, {rule}" in load(file).notes
