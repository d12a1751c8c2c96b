from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compatcheck.engines import open_engine
from compatcheck.engines.hf.encoding import encode_pairs
from compatcheck.engines.hf.packing import Document, common_prefix
from compatcheck.errors import InputError
from tests.engines.conftest import choices, sentence

Pairs = list[tuple[str, list[str]]]


@pytest.fixture(scope="module")
def open_hf(model_folder: Callable[[str], Path]) -> Callable[..., Any]:
    opened: dict[str, Any] = {}

    def open_(kind: str, **options: Any) -> Any:
        name = f"{kind} {options}"
        if name not in opened:
            opened[name] = open_engine("hf", model_folder(kind), **options)
        return opened[name]

    return open_


def _pairs(documents: int = 6, shots: str = "", seed: int = 0) -> Pairs:
    rng = random.Random(seed)
    return [
        (shots + sentence(rng, rng.randint(1, 12)), [" " + sentence(rng, rng.randint(1, 6)) for _ in range(4)])
        for _ in range(documents)
    ]


SHOTS = sentence(random.Random(5), 40) + "\n\n"
HARD: Pairs = [
    ("", ["red bird", " house"]),  # no context: a start token stands in
    ("the red bird   ", [" sings", "runs"]),  # spaces move to the continuation
    ("<s>the bird", [" sings", " runs over the house"]),  # starts with the start token itself
    ("the bird", [" sings", " sings", " s"]),  # equal and one-token continuations
    ("a bird sings", [" over\n\nthe river", "☃ é"]),
    (sentence(random.Random(1), 400), [" under the house", " " + sentence(random.Random(2), 30)]),  # too long
]


def _assert_equal(found: list[tuple[float, bool]], expected: list[tuple[float, bool]]) -> None:
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "granite", "mistral"])
@pytest.mark.parametrize("pairs", [_pairs(), _pairs(shots=SHOTS), HARD], ids=["plain", "shared shots", "hard"])
def test_scores_equal_those_of_lm_eval(
    kind: str, pairs: Pairs, open_hf: Callable[..., Any], lm_eval_hf: Callable[..., Any]
) -> None:
    requests = choices(pairs)
    expected = lm_eval_hf(kind).loglikelihood(requests, disable_tqdm=True)
    engine = open_hf(kind)
    _assert_equal(engine.loglikelihood(requests), expected)
    lost = [note for note in engine.notes if "lost their beginning" in note]
    assert [note.partition(" prompts ")[0] for note in lost] == (["task: 1 of 6"] if pairs is HARD else [])
    own_path = [note for note in engine.notes if "own path" in note]
    assert all("longer than 40 tokens" in note for note in own_path) if kind == "mistral" else not own_path


def test_greedy_continuations_are_told_from_others(open_hf: Callable[..., Any], lm_eval_hf: Callable[..., Any]) -> None:
    reference = lm_eval_hf("llama")
    context = "the red bird"
    tokens = reference.tok_encode(context)
    with torch.no_grad():
        for _ in range(3):
            logits = reference.model(torch.tensor([tokens])).logits[0, -1]
            tokens.append(int(logits.argmax()))
    start = len(reference.tok_encode(context))
    engine = open_hf("llama")
    best, other = tokens[start:], [*tokens[start:-1], (tokens[-1] + 1) % 300]
    requests = [(None, tokens[:start], best), (None, tokens[:start], other), (None, tokens[:start], best[:1])]
    found = engine._loglikelihood_tokens(requests)
    assert [greedy for _, greedy in found] == [True, False, True]
    _assert_equal(found, reference._loglikelihood_tokens(requests, disable_tqdm=True))


def test_scores_do_not_depend_on_order_or_on_what_else_is_scored(open_hf: Callable[..., Any]) -> None:
    engine = open_hf("llama")
    requests = choices(_pairs(8, SHOTS) + _pairs(8, seed=3))
    together = dict(zip(map(id, requests), engine.loglikelihood(requests), strict=True))
    shuffled = random.Random(0).sample(requests, len(requests))
    _assert_equal(engine.loglikelihood(shuffled), [together[id(request)] for request in shuffled])
    for request in requests[::5]:
        _assert_equal(engine.loglikelihood([request]), [together[id(request)]])


@pytest.mark.parametrize("tokens", [1, 30, 200])
def test_small_forwards_give_the_same_scores(
    tokens: int, open_hf: Callable[..., Any], model_folder: Callable[[str], Path], lm_eval_hf: Callable[..., Any]
) -> None:
    requests = choices(_pairs(5, SHOTS) + _pairs(3, seed=4))
    engine = open_hf("llama", batch_size=2 if tokens == 200 else "auto")
    engine.tokens_at_once = tokens
    _assert_equal(engine.loglikelihood(requests), lm_eval_hf("llama").loglikelihood(requests, disable_tqdm=True))


@pytest.mark.parametrize("tokens", range(40, 400, 30))
def test_a_forward_may_end_one_shared_prefix_and_begin_the_next(
    tokens: int, open_hf: Callable[..., Any], lm_eval_hf: Callable[..., Any]
) -> None:
    """Wherever the cut falls between groups, the keys of the one that goes on are there and no other's."""
    requests = choices(_pairs(5, SHOTS) + _pairs(5, "Another set. " + SHOTS, seed=1) + _pairs(3, seed=4))
    engine = open_hf("llama")
    engine.tokens_at_once = tokens
    _assert_equal(engine.loglikelihood(requests), lm_eval_hf("llama").loglikelihood(requests, disable_tqdm=True))


class _Memory:
    """Makes forwards of more than ``limit`` tokens fail as a full device does, and counts them all."""

    def __init__(self, engine: Any, limit: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures = 0
        layer = engine.model.model.layers[1]
        forward = layer.forward

        def limited(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if hidden.shape[1] > limit:
                self.failures += 1
                raise error
            return forward(hidden, *args, **kwargs)

        monkeypatch.setattr(layer, "forward", limited)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
    ids=["accelerator", "cpu", "python"],
)
def test_scoring_halves_its_forwards_when_memory_runs_out(
    error: Exception,
    model_folder: Callable[[str], Path],
    lm_eval_hf: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine: Any = open_engine("hf", model_folder("llama"))
    requests = choices(_pairs(12, SHOTS))
    expected = lm_eval_hf("llama").loglikelihood(requests, disable_tqdm=True)
    memory = _Memory(engine, 150, error, monkeypatch)
    _assert_equal(engine.loglikelihood(requests), expected)
    assert memory.failures >= 1
    failed = memory.failures
    _assert_equal(engine.loglikelihood(requests), expected)
    assert memory.failures == failed, "the smaller forward is remembered"


def test_a_document_that_alone_exhausts_memory_is_an_error(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = open_engine("hf", model_folder("llama"))
    engine.loglikelihood(choices(_pairs(1)))
    _Memory(engine, 20, MemoryError(), monkeypatch)
    with pytest.raises(InputError, match="out of memory on a single document"):
        engine.loglikelihood(choices([(SHOTS, [" bird"])]))


def test_other_errors_are_not_taken_for_full_memory(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: Any = open_engine("hf", model_folder("llama"))
    engine.loglikelihood(choices(_pairs(1)))
    _Memory(engine, 20, RuntimeError("shapes do not fit"), monkeypatch)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        engine.loglikelihood(choices(_pairs(3)))


def test_contexts_and_shared_examples_are_read_once(open_hf: Callable[..., Any]) -> None:
    engine = open_hf("llama")
    engine.loglikelihood(choices(_pairs(1)))  # the first call checks the runner on forwards of its own
    seen: list[int] = []
    hook = engine.model.model.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).shape[1]), with_kwargs=True
    )
    requests = choices([(SHOTS + word, [" red", " the bird sings", " a"]) for word in ("house", "river", "bird")])
    try:
        engine.loglikelihood(requests)
    finally:
        hook.remove()
    pairs = encode_pairs(engine, [request.args for request in requests])
    contexts = {tuple(context) for context, _ in pairs}
    shared = min(common_prefix(one, two) for one in contexts for two in contexts)
    assert shared >= 40
    own = sum(len(context) - shared for context in contexts)
    assert sum(seen) == shared + own + sum(len(continuation) - 1 for _, continuation in pairs)


def test_the_output_layer_sees_only_the_rows_that_are_needed(
    open_hf: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_hf("llama")
    requests = choices([(SHOTS + "bird", [" red", " the bird sings"])])
    engine.loglikelihood(requests)  # the first call checks the runner on forwards of its own
    rows: list[int] = []
    hidden = engine._runner.hidden
    monkeypatch.setattr(engine._runner, "hidden", lambda *args: rows.append(len(args[-1])) or hidden(*args))
    engine.loglikelihood(requests)
    lengths = [len(continuation) for _, continuation in encode_pairs(engine, [r.args for r in requests])]
    assert sum(rows) == 1 + sum(length - 1 for length in lengths)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("mamba", "cannot be exchanged"),
        ("bloom", "cannot be exchanged"),
        ("gemma2", "softcap"),
    ],
)
def test_special_architectures_take_the_own_path_and_say_so(
    kind: str, why: str, open_hf: Callable[..., Any], lm_eval_hf: Callable[..., Any]
) -> None:
    engine = open_hf(kind)
    requests = choices(_pairs(3))
    expected = lm_eval_hf(kind).loglikelihood(requests, disable_tqdm=True)
    _assert_equal(engine.loglikelihood(requests), expected)
    assert [note for note in engine.notes if note.startswith("Scoring took lm-eval's own path") and why in note]


def test_only_texts_beyond_a_sliding_window_take_the_own_path(
    model_folder: Callable[[str], Path], lm_eval_hf: Callable[..., Any]
) -> None:
    engine: Any = open_engine("hf", model_folder("mistral"))
    short, long = choices([("the bird", [" sings"])]), choices([(SHOTS, [" sings"])])
    expected = lm_eval_hf("mistral").loglikelihood(short + long, disable_tqdm=True)
    _assert_equal(engine.loglikelihood(short), expected[:1])
    assert not [note for note in engine.notes if "own path" in note]
    _assert_equal(engine.loglikelihood(short + long), expected)
    assert [note for note in engine.notes if "longer than 40 tokens took lm-eval's own path" in note]


def test_a_packed_forward_that_disagrees_is_not_used(
    model_folder: Callable[[str], Path], lm_eval_hf: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compatcheck.engines.hf.attention import PrefixTree

    place = PrefixTree._place

    def shifted(self: PrefixTree, document: Document, prefix: int, tokens: list[int], positions: list[int]) -> Any:
        span = place(self, document, prefix, tokens, positions)
        positions[span.start :] = [position + 3 for position in positions[span.start :]]
        return span

    monkeypatch.setattr(PrefixTree, "_place", shifted)
    engine: Any = open_engine("hf", model_folder("llama"))
    requests = choices(_pairs(3))
    expected = lm_eval_hf("llama").loglikelihood(requests, disable_tqdm=True)
    _assert_equal(engine.loglikelihood(requests), expected)
    assert [note for note in engine.notes if "packed forwards differ from plain ones" in note]


def test_half_precision_agrees_with_lm_eval_to_its_rounding(
    model_folder: Callable[[str], Path], lm_eval_hf: Callable[..., Any]
) -> None:
    engine: Any = open_engine("hf", model_folder("llama"), dtype="bfloat16")
    assert engine.identity["dtype"] == "bfloat16"
    requests = choices(_pairs(4, SHOTS))
    found = engine.loglikelihood(requests)
    expected = lm_eval_hf("llama").loglikelihood(requests, disable_tqdm=True)
    assert not [note for note in engine.notes if "own path" in note]
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], rel=0.05, abs=0.5)


def test_the_cache_hook_gets_every_answer(open_hf: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_hf("llama")
    told: dict[Any, Any] = {}

    class Hook:
        def add_partial(self, kind: str, request: Any, answer: Any) -> None:
            told[(kind, request)] = answer

    monkeypatch.setattr(engine, "cache_hook", Hook())
    requests = choices(_pairs(3))
    answers = engine.loglikelihood(requests)
    assert told == {("loglikelihood", r.args): answer for r, answer in zip(requests, answers, strict=True)}


def test_rolling_log_likelihoods_equal_those_of_lm_eval(
    open_hf: Callable[..., Any], lm_eval_hf: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from lm_eval.api.instance import Instance

    texts = [sentence(random.Random(n), n * 120) for n in (1, 2, 3)]
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0, ("task", n, 1)) for n, text in enumerate(texts)]
    expected = lm_eval_hf("llama").loglikelihood_rolling(requests, disable_tqdm=True)
    capsys.readouterr()
    assert open_hf("llama").loglikelihood_rolling(requests) == pytest.approx(expected, abs=1e-3)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_a_continuation_without_tokens_is_an_error(open_hf: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="request 0: context or continuation has no tokens"):
        open_hf("llama").loglikelihood(choices([("the bird", [""])]))


def test_nothing_to_score(open_hf: Callable[..., Any]) -> None:
    assert open_hf("llama").loglikelihood([]) == []
