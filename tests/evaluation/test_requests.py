"""Requests are built once for both sides, and are those that lm-eval builds itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval import utils
from lm_eval.evaluator import evaluate

from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks
from tests.evaluation.store.conftest import CountingEngine, build_requests, evaluate_task


def load(fixtures: Path, task: str, **options: Any) -> LoadedTask:
    return load_tasks([task], TaskOptions(data=fixtures / "data", **options))[0]


@pytest.mark.parametrize("options", [{"limit": 5}, {"sample": 5}, {"limit": 5, "num_fewshot": 2}])
@pytest.mark.parametrize("task", ["piqa", "gsm8k"])
def test_they_are_those_of_lm_eval(fixtures: Path, task: str, options: dict[str, Any]) -> None:
    split = {"split": "test"} if task == "gsm8k" else {}
    loaded = load(fixtures, task, **options, **split)
    mine = [request.args for request in build_requests(CountingEngine(), loaded)]
    fresh, engine = load(fixtures, task, **options, **split), CountingEngine()
    fresh.task.set_fewshot_seed(seed=fresh.settings["seed"])
    evaluate(
        lm=engine, task_dict={"tasks": {task: fresh.task}}, samples={task: fresh.indices}, bootstrap_iters=0,
    )  # fmt: skip
    assert [arguments[0] for arguments in engine.asked] == [arguments[0] for arguments in mine]
    assert len(mine) == 5 * (2 if task == "piqa" else 1)


def test_old_and_new_are_asked_the_same_objects_without_each_others_answers(fixtures: Path) -> None:
    loaded = load(fixtures, "piqa", limit=3)
    before = build_requests(CountingEngine(), loaded)
    evaluate_task(CountingEngine(), loaded)
    assert all(len(request.resps) == 1 for request in before)
    after = build_requests(CountingEngine(), loaded)
    assert [id(request) for request in before] == [id(request) for request in after]
    assert all(request.resps == [] and request.filtered_resps == {} for request in after)
    (one,), (two,) = (evaluate_task(CountingEngine(), loaded) for _ in range(2))
    assert one.records.equals(two.records)
    assert "build_all_requests" not in vars(loaded.task), "lm-eval's own method is back"


def test_another_chat_template_makes_other_requests(fixtures: Path) -> None:
    class Chat(CountingEngine):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        @property
        def tokenizer_name(self) -> str:
            return self.name

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return f"<{self.name}>{chat_history[-1]['content']}"

    loaded = load(fixtures, "piqa", limit=1)

    def prompt(engine: CountingEngine, chat: bool) -> str:
        return str(build_requests(engine, loaded, chat)[0].args[0])

    plain = prompt(CountingEngine(), False)
    assert [prompt(Chat(name), True)[:3] for name in "aba"] == ["<a>", "<b>", "<a>"]
    assert prompt(CountingEngine(), False) == plain


def test_a_template_is_compiled_once(fixtures: Path) -> None:
    loaded = load(fixtures, "piqa", limit=20)
    build_requests(CountingEngine(), loaded)
    before = utils.env.from_string.cache_info()
    evaluate_task(CountingEngine(), loaded)
    after = utils.env.from_string.cache_info()
    assert after.hits - before.hits >= 20
    assert after.misses - before.misses <= 3
    assert utils.apply_template("{{a}}", {"a": 1}) == "1"
    assert utils.apply_template("{{a}}", {"a": 2}) == "2"
