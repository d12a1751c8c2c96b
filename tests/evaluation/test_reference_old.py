"""``--reference old`` with models that are asked: prompts and a task without targets, and a judge, all scripted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.errors import InputError
from tests.engines.endpoint.scripted import Reply, Scripted
from tests.engines.endpoint.servers import serving
from tests.evaluation.served import sums
from tests.factories import write_rows

N = 60
ORDER = ("clear", "first", "tie", "worse", "mixed")


def kind(number: int) -> str:
    """What NEW makes of a prompt: every other answer stays the same."""
    return "same" if number % 2 else ORDER[number // 2 % len(ORDER)]


def answer(model: str, number: int) -> str:
    return f"answer {number}" if model == "old" or kind(number) == "same" else f"{kind(number)} answer {number}"


def verdict(a: str, b: str) -> str:
    """The judge's rule: by the word of NEW's answer, wherever it stands."""
    word = next((word for word in ORDER if f"{word} " in f"{a} {b}"), "tie")
    new = "A" if word in a else "B"
    old = "B" if new == "A" else "A"
    return {"clear": new, "worse": old, "first": "A", "tie": "TIE", "mixed": new if new == "A" else "TIE"}[word]


class Both(Scripted):
    """Two models, and a judge of their answers."""

    @staticmethod
    def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
        if model != "judge":
            return Reply(answer(model, int(re.findall(r"\d+", asked)[0])))
        found = [re.search(rf"<answer_{name}>\n(.*)\n</answer_{name}>", asked, re.S) for name in "ab"]
        return Reply(f"[[{verdict(*(each[1] if each else '' for each in found))}]]")


def prompts(folder: Path) -> Path:
    file = folder / "prompts.jsonl"
    rows = ({"id": n, "prompt": f"say {n}", "part": n % 3} for n in range(N))
    return write_rows(file, rows)


def counts(metrics: Any) -> dict[str, tuple[int, int]]:
    return {name: (each.count, each.of) for name, each in metrics.items()}


def test_prompts_without_targets_and_a_judge(tmp_path: Path) -> None:
    """The judge names the same one in both orders of "clear" and "worse" alone; of the same answer it is not asked."""
    made = [kind(n) for n in range(N)]
    each = {word: made.count(word) for word in ("same", *ORDER)}
    changed = N - each["same"]
    with serving(Both) as server:
        result = compatcheck.diff(
            f"{server.url}#old", f"{server.url}#new", prompts=prompts(tmp_path), reference="old", slice_by="part",
            metric=["changed", "rouge1", "judge"], metric_args={"judge": {"model": f"{server.url}#judge"}},
            fail_on=["changed:20%", "noticed:50%", "rouge1.similarity:0.5"], store=tmp_path / "store",
        )  # fmt: skip
        asked = [body for path, body in server.asked if body and body.get("model") == "judge"]
        again = compatcheck.diff(
            f"{server.url}#old", f"{server.url}#new", prompts=prompts(tmp_path), reference="old", metric="judge",
            metric_args={"judge": {"model": f"{server.url}#judge"}}, store=tmp_path / "store",
        )  # fmt: skip
        assert len([body for _, body in server.asked if body and body.get("model") == "judge"]) == len(asked)
    plain, alike, judged = result.comparisons
    assert counts(plain.metrics) == {"agreement": (each["same"], N), "changed": (changed, N)}
    assert alike.metrics["similarity"].value == pytest.approx((each["same"] + 0.8 * changed) / N)  # 2 of 2 and 2 of 3
    assert dict(judged.quadrants) == {
        "unchanged": each["same"], "new_preferred": each["clear"], "old_preferred": each["worse"],
        "tied": each["first"] + each["tie"] + each["mixed"],
    }  # fmt: skip
    assert counts(judged.metrics) == {
        "agreement": (each["same"], N), "changed": (changed, N),
        "noticed": (each["clear"] + each["worse"], N), "preferred_new": (each["clear"], N),
        "preferred_old": (each["worse"], N), "tied": (each["first"] + each["tie"] + each["mixed"], N),
        "self_agreement": (each["clear"] + each["worse"] + each["tie"], changed),
    }  # fmt: skip
    assert len(asked) == 2 * changed
    for part in plain.slices:
        mine = [n for n in range(N) if str(n % 3) == part.value]
        assert part.changed is not None
        assert (part.changed.count, part.n) == (sum(kind(n) != "same" for n in mine), len(mine))
    verdicts = [[gate.verdict for gate in one.gates] for one in result.comparisons]
    assert verdicts == [["fail"], ["fail", "pass"], ["fail", "pass"]]
    text = str(again)
    assert f"A reader would notice {each['clear'] + each['worse']}" in " ".join(text.split())


def test_without_it_prompts_without_targets_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with serving(Both) as server:
        with pytest.raises(InputError, match="--reference old"):
            compatcheck.diff(f"{server.url}#old", f"{server.url}#new", prompts=prompts(tmp_path), metric="rouge1")
        with pytest.raises(InputError, match="--reference old"):
            compatcheck.diff(f"{server.url}#old", f"{server.url}#new", prompts=prompts(tmp_path))
        assert not [path for path, _ in server.asked if path.endswith("completions")]


def test_a_task_and_its_noise_floor(tmp_path: Path) -> None:
    with serving(Both) as server:
        result = compatcheck.diff(
            f"{server.url}#old", f"{server.url}#new", task=sums(tmp_path, N), reference="old", noise_floor=1,
            fail_on=["changed:60%"], store=False,
        )  # fmt: skip
    (found,) = result.comparisons
    assert (found.task, found.filter, found.metric) == ("sums", "last", "changed")
    assert found.noise is not None
    assert counts(found.noise.metrics)["changed"] == (0, N)
    assert dict(found.quadrants) == {"unchanged": N, "changed": 0}, "the filter takes the number, which stays"
    assert "every answer of NEW is that of OLD" in " ".join(result.notes)


class Calls(Scripted):
    """OLD always searches; NEW searches otherwise, calls nothing or answers in words."""

    @staticmethod
    def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
        number = int(re.findall(r"\d+", asked)[0])
        call = {"name": "search", "arguments": {"q": str(number)}}
        if model == "old" or number % 4 == 0:
            return Reply(None, tool_calls=[call])
        if number % 4 == 1:
            return Reply(None, tool_calls=[{**call, "arguments": {"q": "x"}}])
        return Reply("Let me look.", tool_calls=[call, call]) if number % 4 == 2 else Reply("I do not know.")


@pytest.mark.parametrize("reference", [None, "old"])
def test_tool_calls_of_a_server(tmp_path: Path, reference: str | None) -> None:
    file, tool = tmp_path / "calls.jsonl", {"type": "function", "function": {"name": "search", "parameters": {}}}
    rows = [{"id": n, "prompt": f"find {n}", "tools": [tool]} for n in range(40)]
    if reference is None:
        rows = [{**row, "target": [{"name": "search", "arguments": {"q": str(row["id"])}}]} for row in rows]
    write_rows(file, rows)
    with serving(Calls) as server:
        result = compatcheck.diff(
            f"{server.url}#old", f"{server.url}#new", prompts=file, metric="tool_call", reference=reference, store=False
        )
    (found,) = result.comparisons
    groups = {"both_correct": 10, "positive_flip": 0, "negative_flip": 30, "both_wrong": 0}
    assert dict(found.quadrants) == (groups if reference is None else {"unchanged": 10, "changed": 30})
    flips = {part.value: part.negative_flips or (part.changed.count if part.changed else 0) for part in found.slices}
    assert flips == {"arguments": 10, "extra call": 10, "(nothing that can be read)": 10}
