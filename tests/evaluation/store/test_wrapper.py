"""The engine that answers from the store: what reaches the real one, and what is kept of its answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from compatcheck.evaluation.store.database import Store
from compatcheck.evaluation.store.engine import LazyEngine, StoredEngine
from compatcheck.evaluation.store.keys import Draws
from tests.evaluation.store.conftest import CountingEngine, scoring, source, writing


def wrap(store: Store | None, engine: CountingEngine, **options: Any) -> StoredEngine:
    return StoredEngine(LazyEngine(lambda adapter: engine), None, source(), store, **options)


def asked_of(engine: CountingEngine) -> list[str]:
    return [arguments[0] for arguments in engine.asked]


@pytest.mark.parametrize(
    ("kind", "requests"),
    [
        ("loglikelihood", scoring("a", "bb", "ccc")),
        ("generate_until", writing("a", "bb", "ccc")),
        ("loglikelihood_rolling", [Instance("loglikelihood_rolling", {}, (t,), 0, ("task", 0, 1)) for t in "abc"]),
    ],
)
def test_the_second_time_nothing_is_asked(folder: Path, kind: str, requests: list[Instance]) -> None:
    with Store(folder) as store:
        first, engine = wrap(store, CountingEngine()), CountingEngine()
        answers = getattr(first, kind)(requests)
        assert (first.asked, first.from_store) == (3, 0)
        again = wrap(store, engine)
        assert getattr(again, kind)(requests) == answers
        assert (again.asked, again.from_store) == (3, 3)
    assert engine.asked == []
    assert not again._engine.opened
    with Store(folder) as store:  # and by another process
        assert getattr(wrap(store, engine), kind)(requests) == answers


def test_only_what_is_missing_is_asked_and_equal_requests_once(folder: Path) -> None:
    engine = CountingEngine()
    with Store(folder) as store:
        wrap(store, CountingEngine()).loglikelihood(scoring("b"))
        answers = wrap(store, engine).loglikelihood(scoring("a", "b", "a", "ccc", "a"))
    assert asked_of(engine) == ["a", "ccc"]
    assert [round(value, 1) for value, _ in answers] == [-1.1, -1.1, -1.1, -3.1, -1.1]
    alone = CountingEngine()
    assert len(wrap(None, alone).loglikelihood(scoring("a", "a", "b"))) == 3
    assert asked_of(alone) == ["a", "b"], "without a store too"


def test_what_is_missing_is_known_without_opening_anything(folder: Path) -> None:
    with Store(folder) as store:
        wrap(store, CountingEngine()).loglikelihood(scoring("b"))
        wrapped = wrap(store, CountingEngine())
        assert wrapped.missing(scoring("a", "b", "a", "c"), Draws()) == 2
        assert wrapped.missing(scoring("b"), Draws()) == 0
        assert not wrapped._engine.opened
        assert wrapped.missing(writing("a", "a", temperature=1.0), Draws()) == 2


def test_requests_stay_as_they_are_whatever_a_backend_does_to_them(folder: Path) -> None:
    requests = writing("a", "b")
    engine = CountingEngine()  # takes `until` out of the arguments
    with Store(folder) as store:
        answers = wrap(store, engine).generate_until(requests)
        assert [request.args[1] for request in requests] == [{"until": ["\n"]}, {"until": ["\n"]}]
        assert wrap(store, CountingEngine()).generate_until(writing("a", "b")) == answers


def test_another_model_another_engine_another_setting_is_another_answer(folder: Path) -> None:
    with Store(folder) as store:
        wrap(store, CountingEngine()).generate_until(writing("a"))
        engine = CountingEngine()
        StoredEngine(LazyEngine(lambda _: engine), None, source(model="bb" * 20), store).generate_until(writing("a"))
        wrap(store, engine).generate_until(writing("a", max_gen_toks=3))
        wrap(store, engine).loglikelihood(scoring("a"))
        assert asked_of(engine) == ["a", "a", "a"]


@pytest.mark.parametrize("reports", [True, False])
def test_an_interrupted_run_loses_the_batch_it_was_in(folder: Path, reports: bool) -> None:
    engine = CountingEngine(batch=2)
    engine.dies_after, engine.reports = 6, reports
    requests = scoring(*"abcdefghij")
    with Store(folder) as store, pytest.raises(KeyboardInterrupt):
        wrap(store, engine).loglikelihood(requests)
    rest = CountingEngine()
    with Store(folder) as store:
        answers = wrap(store, rest).loglikelihood(requests)
    assert asked_of(rest) == (list("ghij") if reports else list("abcdefghij"))
    assert answers == wrap(None, CountingEngine()).loglikelihood(requests)


def test_draws_stay_apart_and_are_found_again(folder: Path) -> None:
    requests = writing("a", "a", "b", temperature=0.7)

    def run(engine: CountingEngine) -> tuple[list[str], list[str]]:
        draws = Draws()  # one run: OLD and NEW are the same model
        with Store(folder) as store:
            return (
                wrap(store, engine, draws=draws).generate_until(requests),
                wrap(store, engine, draws=draws).generate_until(requests),
            )

    engine = CountingEngine()
    old, new = run(engine)
    assert engine.draws == [0, 1, 0, 2, 3, 1]
    assert len({*old, *new}) == 6, "a model compared with itself is drawn anew"
    again = CountingEngine()
    assert run(again) == (old, new)
    assert again.asked == []
    with Store(folder) as store:
        wrap(store, again, seed=1).generate_until(requests)
    assert len(again.asked) == 3, "another seed, other draws"
    with Store(folder) as store:
        fixed = wrap(store, again, engine_args={"do_sample": True})
        fixed.generate_until(writing("c", "c"))
    assert again.draws[-2:] == [0, 1]


def test_draws_are_kept_as_they_were_returned(folder: Path) -> None:
    """Answers may come in another order than they were asked for."""

    class Backwards(CountingEngine):
        def generate_until(self, requests: list[Instance]) -> list[str]:
            answers = [f"draw {number}" for number in range(len(requests))]
            for request, answer in reversed(list(zip(requests, answers, strict=True))):
                self.cache_hook.add_partial("generate_until", request.args, answer)
            return answers

    requests = writing("a", "a", "a", temperature=1.0)
    with Store(folder) as store:
        wrap(store, Backwards()).generate_until(requests)
        assert wrap(store, CountingEngine()).generate_until(requests) == ["draw 0", "draw 1", "draw 2"]


def test_failures_are_told_and_never_stored(folder: Path) -> None:
    engine = CountingEngine()
    engine.failures[("task", 0)] = "left from another model"
    engine.fails = lambda request: "HTTP 500" if request.args[0] == "b" else None
    requests = scoring("a", "b", "c", "b")
    with Store(folder) as store:
        wrapped = wrap(store, engine)
        wrapped.loglikelihood(requests)
        assert wrapped.failures == {("task", 1): "HTTP 500", ("task", 3): "HTTP 500"}
        assert store.written == 2
        rest = CountingEngine()
        again = wrap(store, rest)
        again.loglikelihood(requests)
    assert asked_of(rest) == ["b"]
    assert again.failures == {}


def test_what_cannot_be_written_down_is_computed_every_time(folder: Path) -> None:
    requests = writing("a", "a", odd=object())
    engine = CountingEngine()
    with Store(folder) as store:
        wrap(store, engine).generate_until(requests)
        wrap(store, engine).generate_until(requests)
        assert store.written == 0
    assert len(engine.asked) == 4


def test_a_backend_that_reports_what_nobody_asked(folder: Path) -> None:
    class Confused(CountingEngine):
        def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
            self.cache_hook.add_partial("loglikelihood", ("other", " x"), (-9.0, False))
            self.cache_hook.add_partial("generate_until", requests[0].args, "text")
            self.cache_hook.add_partial("loglikelihood", requests[0].args, "no pair of numbers")
            return [(-1.0, True) for _ in requests]

    with Store(folder) as store:
        assert wrap(store, Confused()).loglikelihood(scoring("a")) == [(-1.0, True)]
        assert wrap(store, CountingEngine()).loglikelihood(scoring("a")) == [(-1.0, True)]
        assert store.written == 1


def test_identity_and_notes_are_those_of_the_engine_that_answered(folder: Path) -> None:
    with Store(folder) as store:
        first = wrap(store, CountingEngine())
        assert first.identity == {"engine": "planned"}
        first.loglikelihood(scoring("a"))
        assert first.identity == {"engine": "counting", "versions": {"counting": "1"}}
        assert first.notes == ("The engine was opened.", "loglikelihood was answered.")
    with Store(folder) as store:
        again = wrap(store, CountingEngine())
        again.loglikelihood(scoring("a"))
        assert again.identity == first.identity
        assert again.notes == first.notes


def test_one_engine_is_opened_for_all_and_adapters_when_they_are_needed(folder: Path) -> None:
    opened: list[str | None] = []
    engine = CountingEngine()

    def open_(adapter: str | None) -> CountingEngine:
        opened.append(adapter)
        return engine

    lazy = LazyEngine(open_)
    activated: list[str | None] = []
    engine.activate = activated.append  # type: ignore[method-assign,assignment]
    with Store(folder) as store:
        jobs = [StoredEngine(lazy, name, source(model=f"{name}{name}" * 20), store) for name in "abc"]
        StoredEngine(LazyEngine(lambda _: CountingEngine()), None, source(model="aa" * 20), store).loglikelihood(
            scoring("x")
        )
        for job in jobs:
            job.loglikelihood(scoring("x"))
            job.loglikelihood(scoring("x"))
    assert opened == ["b"], "the first one is answered from the store"
    assert activated == ["b", "c"]
    lazy.close()
    assert engine.closed
    assert not lazy.opened
    LazyEngine(open_).close()
    assert opened == ["b"]


@pytest.mark.parametrize("system", [True, False])
def test_a_chat_template_is_read_without_the_model(
    fixtures: Path, tmp_path: Path, model_with_template: Callable[[str], Path], system: bool
) -> None:
    """The prompt equals the real engine's, system role or not."""
    from compatcheck.engines import open_engine

    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    folder = model_with_template("" if system else refuse)
    engine = open_engine("hf", folder, device="cpu")
    opened: list[str | None] = []

    def open_(adapter: str | None) -> Any:
        opened.append(adapter)
        return engine

    wrapped = StoredEngine(LazyEngine(open_), None, source(), None, tokenizer_folder=folder)
    history = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    for prompt in (True, False):
        chat = history if prompt else [*history, {"role": "assistant", "content": "Well,"}]
        assert wrapped.apply_chat_template(chat, prompt) == engine.apply_chat_template(chat, prompt)
    assert opened == []
    assert "Hello?" in wrapped.apply_chat_template(history)
    other = StoredEngine(LazyEngine(open_), None, source(), None)
    assert other.apply_chat_template(history) == engine.apply_chat_template(history)
    assert opened == [None], "where only the engine knows how, it is asked"


@pytest.fixture
def model_with_template(fixtures: Path, tmp_path: Path) -> Callable[[str], Path]:
    import shutil

    def make(before: str) -> Path:
        folder = tmp_path / "chat"
        shutil.copytree(fixtures / "models" / "base-v1", folder)
        template = (
            "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
            "{% if add_generation_prompt %}<assistant>{% endif %}"
        )
        (folder / "chat_template.jinja").write_text(before + template)
        return folder

    return make
