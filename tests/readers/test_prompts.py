"""Files of the user's own prompts: what is read of them, and what is said of a row that cannot be used."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from compatcheck.errors import InputError
from compatcheck.readers.prompts import read_prompts, system_text
from compatcheck.tasks.load import TaskOptions
from compatcheck.tasks.prompt_set import PromptSet

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "x"}]


def read(file: Path, rows: list[Any] | str, **options: Any) -> PromptSet:
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return read_prompts(TaskOptions(prompts=file, **options))


def test_rows_of_every_kind_of_file_are_the_same_prompts(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "prompt": "2+2?", "target": "4", "topic": "sums"},
        {"id": "b", "prompt": json.dumps(TALK), "target": '["x", "y"]', "topic": "talk"},
    ]
    lines = read(tmp_path / "my.prompts.jsonl", rows)
    pd.DataFrame(rows).to_csv(tmp_path / "my.prompts.csv", index=False)
    nested = [rows[0] | {"prompt": [{"role": "user", "content": "2+2?"}]}, rows[1] | {"prompt": TALK}]
    pd.DataFrame(nested).to_parquet(tmp_path / "my.prompts.parquet")
    single = [rows[0] | {"prompt": json.dumps({"role": "user", "content": "2+2?"})}, rows[1]]
    pd.DataFrame(single).to_csv(tmp_path / "my.prompts.tsv", index=False, sep="\t")
    others = [read_prompts(TaskOptions(prompts=tmp_path / f"my.prompts.{end}")) for end in ("csv", "parquet", "tsv")]
    for found in (lines, *others):
        assert found.name == "my.prompts" and found.own_ids
        assert [(one.id, one.target, one.fields) for one in found.prompts] == [
            ("a", "4", {"topic": "sums"}), ("b", '["x", "y"]', {"topic": "talk"})
        ]  # fmt: skip
        assert [one.turns for one in found.prompts] == [[{"role": "user", "content": "2+2?"}], TALK]


def test_targets_ids_and_labels(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "target": 4, "meta": {"who": "x", "long": "y" * 100}, "error": "none"},
        {"prompt": "b", "target": ["4", "four"], "meta": {"who": "z", "long": "short"}},
        {"prompt": "c", "target": ["4"], "list": [1]},
        {"prompt": "d", "target": {"total": 4}},
        {"prompt": "e", "target": [{"name": "add", "arguments": {}}]},
        {"prompt": [*TALK, {"role": "assistant", "content": "done"}]},
        {"prompt": 7},
        {"prompt": "f", "target": [], "tools": [{"type": "function"}]},  # none of them is to be called
    ]
    found = read(tmp_path / "p.jsonl", rows)
    assert [one.id for one in found.prompts] == list("01234567") and not found.own_ids
    assert [one.target for one in found.prompts] == [
        "4", ["4", "four"], "4", '{"total": 4}', '[{"name": "add", "arguments": {}}]', "done", None, "[]"
    ]  # fmt: skip
    assert found.prompts[0].fields == {"meta.who": "x", "field:error": "none"}
    assert found.prompts[5].turns == TALK and found.prompts[6].turns == [{"role": "user", "content": "7"}]
    assert any("1 conversations end with the assistant's turn" in note for note in found.notes)


def test_a_last_turn_of_tool_calls_is_the_target_and_a_tool_is_answered(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    asking = [TALK[0], {"role": "assistant", "content": None, "tool_calls": [call]}]
    answered = [*asking, {"role": "tool", "tool_call_id": "1", "content": "4"}]
    one, two = read(tmp_path / "p.jsonl", [{"prompt": asking}, {"prompt": answered}]).prompts
    assert one.turns == [TALK[0]] and json.loads(str(one.target)) == [{"name": "add", "arguments": {"a": 2}}]
    assert two.turns == answered and two.target is None


def test_system_stands_before_or_in_place(tmp_path: Path) -> None:
    own = {"role": "developer", "content": "old"}
    rows = [{"prompt": "a"}, {"prompt": "b", "system": "old"}, {"prompt": [own, TALK[0]]}]
    file = tmp_path / "p.jsonl"
    assert [one.turns[0]["role"] for one in read(file, rows).prompts] == ["user", "system", "developer"]
    (tmp_path / "v2.txt").write_text("new\n")
    found = read(file, rows, system=f"@{tmp_path}/v2.txt")
    assert [one.turns[0] for one in found.prompts] == [{"role": "system", "content": "new"}] * 3
    assert any("in place of the system text of 2 prompts" in note for note in found.notes)
    assert system_text("@@home") == "@home"
    with pytest.raises(InputError, match=r"--system @gone\.txt: no such file"):
        system_text("@gone.txt")


def test_the_answer_is_taken_out_of_targets_too(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [{"prompt": "a", "target": "so\n#### 4"}, {"prompt": "b", "target": ["#### 5", "#### five"]}]
    assert [one.target for one in read(file, rows, extract=r"#### (\w+)").prompts] == ["4", ["5", "five"]]
    assert [one.target for one in read(file, rows, extract=r"answer: (\w+)").prompts] == [one["target"] for one in rows]
    with pytest.raises(InputError, match=r"p\.jsonl:2: --extract finds nothing in the target"):
        read(file, [rows[0], {"prompt": "b", "target": "5"}], extract=r"#### (\w+)")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "a", "gold": "b"}], "p.jsonl:1: no field `prompt` (fields: text, gold); did you mean --input-field"),
        ([{"prompt": "a"}, {"prompt": None}], "p.jsonl:2: no `prompt` (fields: prompt)"),
        ([{"id": 1, "prompt": "a"}, {"question": "a"}], "p.jsonl:2: no `id` and no `prompt` (fields: question)"),
        ([{"prompt": " "}], "p.jsonl:1: `prompt` is empty"),
        ([{"prompt": {"text": "a"}}], "p.jsonl:1: `prompt` is neither a text nor a list of messages"),
        ([{"prompt": []}], "p.jsonl:1: `prompt` is neither a text nor a list of messages"),
        ([{"prompt": [{"role": "human", "content": "a"}]}], "p.jsonl:1: `prompt`: message 1 has the role 'human'"),
        ([{"prompt": [{"role": "user"}]}], "p.jsonl:1: `prompt`: message 1 (user) has no content"),
        ([{"prompt": [{"role": "user", "content": 5}]}], "message 1 has a content that is neither text nor a list"),
        ([{"prompt": [{"role": "user", "content": [{"text": "a"}]}]}], "message 1 has a part of its content without"),
        ([{"prompt": [{"role": "assistant", "content": "a"}]}], "p.jsonl:1: `prompt` has no turn of the user"),
        ([{"prompt": [{"role": "system", "content": "a"}]}], "p.jsonl:1: `prompt` has no turn of the user"),
        ([{"prompt": "a", "system": 5}], "p.jsonl:1: `system` must be a text"),
        ([{"prompt": [{"role": "system", "content": "a"}, TALK[0]], "system": "b"}], "leave one of them"),
        ([{"prompt": "a", "tools": "x"}], "p.jsonl:1: `tools` is a text that is not JSON"),
        ([{"prompt": "a", "tools": ["x"]}], "p.jsonl:1: `tools` must be a list of objects"),
        ([{"prompt": "a", "response_format": "[]"}], "p.jsonl:1: `response_format` must be an object"),
        ([{"prompt": "a", "target": []}], "p.jsonl:1: `target` is an empty list"),
        ([{"prompt": '[{"role": "user", "content": "cut of'}], "p.jsonl:1: `prompt` looks like a list of messages"),
        ([{"prompt": "[{'content': 'a', 'role': 'user'}\\n {'content': 'b', 'role': 'user'}]"}], "looks like a list"),
        ([{"prompt": '{"messages": [{"role": "user"}'}], "p.jsonl:1: `prompt` looks like a list of messages"),
        ([{"prompt": '[{"name": "Ann", "role": "user", "content": "cut of'}], "looks like a list of messages"),
        ([{"id": "a", "prompt": "a"}, {"id": "a", "prompt": "b"}], "p.jsonl:2: the id 'a' stands at"),
        ([{"id": [1], "prompt": "a"}], "p.jsonl:1: `id` must be a text or a number"),
        ("", "no rows"),
        ('{"prompt": "a"}\n{"prompt"\n', "p.jsonl:2:"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named(rows: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        read(tmp_path / "p.jsonl", rows)
    assert "\n" not in str(caught.value)


def test_data_in_json_is_a_text_as_any_other(tmp_path: Path) -> None:
    texts = [
        '{"content": "a"}',
        '[{"content": "a"}]',
        "[{role: user}]",
        'Fix this: [{"role": "user", "content": "a'.strip(),
    ]
    (found,) = {
        tuple(one.turns[0]["content"] for one in read(tmp_path / "p.jsonl", [{"prompt": t} for t in texts]).prompts)
    }
    assert list(found) == texts


def test_halves_of_surrogate_pairs_are_replaced(tmp_path: Path) -> None:
    line = r'{"id": "\ud83d", "prompt": [{"role": "user", "content": "a\ud83d"}], "target": ["\ude00"]}'
    (one,) = read(tmp_path / "p.jsonl", line + "\n").prompts
    assert (one.id, one.turns[0]["content"], one.target) == ("\ufffd", "a\ufffd", "\ufffd")


def test_fields_are_named_or_obvious(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [{"qid": 3, "question": "a", "answer": "b"}]
    (one,) = read(file, rows).prompts
    assert (one.id, one.turns[0]["content"], one.target) == ("3", "a", "b")
    (one,) = read(file, [{"x": {"ask": "a"}, "y": "b"}], input_field="x.ask", target_field="y").prompts
    assert (one.turns[0]["content"], one.target, one.fields) == ("a", "b", {})
    with pytest.raises(InputError, match="no field `z`, which --target-field names"):
        read(file, rows, target_field="z")
    with pytest.raises(InputError, match=r"--prompts .*prompts are"):
        read_prompts(TaskOptions(prompts=tmp_path / "p.txt"))
    with pytest.raises(InputError, match=r"--prompts .*gone\.jsonl: no such file"):
        read_prompts(TaskOptions(prompts=tmp_path / "gone.jsonl"))
