"""``--turns all``: every turn is asked by itself, both models with OLD's answers before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck.errors import InputError
from compatcheck.tasks.prompt_set import Prompt, conversations
from tests.engines.endpoint.scripted import Reply, Scripted
from tests.engines.endpoint.servers import serving
from tests.factories import write_rows

ROWS: list[dict[str, Any]] = [
    {"id": "a", "system": "Count.", "target": "old: 3",
     "prompt": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "old: 1"},
                {"role": "user", "content": "2"}, {"role": "user", "content": "3"}]},
    {"id": "b", "prompt": "4", "target": "new: 4"},
    {"id": "c", "prompt": [{"role": "user", "content": "broken"}, {"role": "user", "content": "5"}], "target": "x"},
]  # fmt: skip


class Counting(Scripted):
    """Says who it is and what it was asked; ``broken`` it cannot answer."""

    @staticmethod
    def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
        if asked == "broken":
            return Reply(status=400, error={"message": "broken"})
        return Reply(f"{model}: {asked}")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "talks.jsonl", ROWS)


@pytest.mark.parametrize("stored", [True, False])
def test_both_models_get_olds_answers(prompts: Path, stored: bool) -> None:
    options: dict[str, Any] = {"prompts": prompts, "turns": "all", "engine_args": {"retries": 0}}
    with serving(Counting) as server:
        references = f"{server.url}#old", f"{server.url}#new"
        result = compatcheck.diff(*references, reference="old", **options, **({} if stored else {"store": False}))
        asked = [body for path, body in server.asked if path.endswith("chat/completions")]
    (found,) = result.comparisons
    shown = result.instances.set_index("doc_id")
    assert sorted(shown.index) == ["a/1", "a/2", "a/3", "b/1", "c/1"], "what follows a failed answer is left out"
    assert shown.loc["a/3", "prediction_new"] == "new: 3" and shown.loc["a/2", "prediction_old"] == "old: 2"
    assert any("1 turns are left out" in note for note in result.notes)
    last = [
        {"role": "system", "content": "Count."}, {"role": "user", "content": "1"},
        {"role": "assistant", "content": "old: 1"}, {"role": "user", "content": "2"},
        {"role": "assistant", "content": "old: 2"}, {"role": "user", "content": "3"},
    ]  # fmt: skip
    assert {body["model"] for body in asked if body["messages"] == last} == {"old", "new"}
    assert found.signature.partition("turns:")[2].startswith("all")
    if stored:
        assert len([body for body in asked if body["messages"] == last]) == 2, "OLD is asked once"


def test_a_recorded_old_gives_its_answers_and_targets_stand_in_the_file(prompts: Path, tmp_path: Path) -> None:
    write_rows(prompts, ROWS[:2])
    options: dict[str, Any] = {"prompts": prompts, "turns": "all"}
    with serving(Counting) as server:
        run = compatcheck.evaluate(f"{server.url}#old", **options)
        run.save(tmp_path / "old")
        assert run.tasks[0].records["target"].tolist()[0] == "old: 1" and not run.tasks[0].metrics
        asked = len(server.asked)
        result = compatcheck.diff(tmp_path / "old", f"{server.url}#new", reference="old", **options)
        with pytest.raises(InputError, match="1 of 4 prompts have no `target`"):
            compatcheck.diff(tmp_path / "old", f"{server.url}#new", **options)
        assert {body["model"] for path, body in server.asked[asked:] if "completions" in path} == {"new"}
    assert result.comparisons[0].n == 4 and result.comparisons[0].metrics["agreement"].count == 0
    with serving(Counting) as server:
        limited = compatcheck.evaluate(f"{server.url}#old", limit=1, **options)
    assert limited.tasks[0].records["doc_id"].tolist() == ["a/1", "a/2", "a/3"], "conversations are counted"


@pytest.mark.parametrize("part", [{"limit": 2}, {"sample": 2, "seed": 3}])
def test_a_kept_run_is_limited_by_conversations_as_the_models_are(
    part: dict[str, Any], prompts: Path, tmp_path: Path
) -> None:
    write_rows(prompts, [ROWS[0], *({**ROWS[1], "id": name} for name in "bcd")])
    options: dict[str, Any] = {"prompts": prompts, "turns": "all"}
    with serving(Counting) as server:
        compatcheck.evaluate(f"{server.url}#old", **options).save(tmp_path / "all")
        some = compatcheck.evaluate(f"{server.url}#old", **options, **part)
        some.save(tmp_path / "some")
        for kept in ("all", "some"):
            (found,) = compatcheck.diff(
                tmp_path / kept, f"{server.url}#new", reference="old", **options, **part
            ).comparisons
            assert found.pairing.only_old == found.pairing.only_new == 0
            assert found.instances["doc_id"].tolist() == some.tasks[0].records["doc_id"].tolist()


def test_turns_of_tools_cannot_be_played_again() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]
    with pytest.raises(InputError, match=r"p:1: --turns all cannot play turns of tools"):
        conversations([Prompt("p:1", "0", turns)])
