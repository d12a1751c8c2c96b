from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compatcheck.engines import open_engine
from compatcheck.engines.hf.sampling import GenerationArguments, Text, next_tokens, read_generation_arguments
from compatcheck.errors import InputError
from tests.engines.conftest import prompts, sentence

SHOTS = "\n\n".join(sentence(random.Random(n), 20) for n in range(3)) + "\n\n"
Given = list[tuple[str, dict[str, Any]]]


def _given(shots: str = "", count: int = 10, **arguments: Any) -> Given:
    rng = random.Random(1)
    return [
        (shots + sentence(rng, rng.randint(1, 9)), {"until": ["\n\n"], "max_gen_toks": 12, **arguments})
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def engine(model_folder: Callable[[str], Path]) -> Any:
    return open_engine("hf", model_folder("llama"))


def _own_path(engine: Any) -> list[str]:
    return [note for note in engine.notes if "own path" in note]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2", "granite"])
@pytest.mark.parametrize("shots", ["", SHOTS], ids=["plain", "shared shots"])
def test_texts_equal_those_of_lm_eval(
    kind: str, shots: str, model_folder: Callable[[str], Path], lm_eval_hf: Callable[..., Any]
) -> None:
    requests = prompts(_given(shots))
    engine: Any = open_engine("hf", model_folder(kind))
    found = engine.generate_until(requests)
    assert found == lm_eval_hf(kind).generate_until(requests, disable_tqdm=True)
    assert len(set(found)) > 5
    assert not _own_path(engine)


@pytest.mark.parametrize(
    "arguments",
    [
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 1, "max_gen_toks": 20},
        {"repetition_penalty": 1.5},
        {"do_sample": False, "temperature": 0.0},
        {"temperature": 0},
        {"do_sample": False, "top_p": 1.0, "num_beams": 1},
        {"max_new_tokens": 3, "max_gen_toks": None},
        {"max_tokens": 1, "max_gen_toks": None},
        {"until": []},
        {"until": "e"},
        {"until": ["the", "bird", "a", "\n"], "max_gen_toks": 30},
        {"max_gen_toks": 150},
    ],
    ids=str,
)
@pytest.mark.parametrize("shots", ["", SHOTS], ids=["plain", "shared shots"])
def test_arguments_mean_what_they_mean_to_lm_eval(
    arguments: dict[str, Any], shots: str, engine: Any, lm_eval_hf: Callable[..., Any]
) -> None:
    given = _given(shots, 6, **arguments)
    for _, asked in given:
        for name in [name for name, value in asked.items() if value is None and name != "until"]:
            del asked[name]
    before = [dict(asked) for _, asked in given]
    requests = prompts(given)
    expected = lm_eval_hf("llama").generate_until(requests, disable_tqdm=True)
    assert engine.generate_until(requests) == expected
    assert [request.args[1] for request in requests] == before, "the arguments are left as they were"
    assert not _own_path(engine)


def test_requests_of_different_kinds_are_decoded_together(engine: Any, lm_eval_hf: Callable[..., Any]) -> None:
    given = [
        *_given(SHOTS, 9, max_gen_toks=3), *_given("", 9, max_gen_toks=25, until=["re", "\n"]),
        *_given(SHOTS, 9, no_repeat_ngram_size=2), (SHOTS * 3 + "the bird", {"max_gen_toks": 40}),
    ]  # fmt: skip
    random.Random(3).shuffle(given)
    requests = prompts(given)
    expected = lm_eval_hf("llama").generate_until(requests, disable_tqdm=True)
    assert engine.generate_until(requests) == expected


@pytest.mark.parametrize("rows", [1, 3])
def test_finished_rows_are_refilled(
    rows: int, model_folder: Callable[[str], Path], lm_eval_hf: Callable[..., Any]
) -> None:
    rng = random.Random(2)
    given = [(SHOTS + sentence(rng, 3), {"until": ["e"], "max_gen_toks": rng.randint(1, 30)}) for _ in range(12)]
    requests = prompts(given)
    engine: Any = open_engine("hf", model_folder("llama"), batch_size=rows)
    assert engine.generate_until(requests) == lm_eval_hf("llama").generate_until(requests, disable_tqdm=True)


def test_every_text_stops_at_its_own_stop_string(engine: Any) -> None:
    steps: list[int] = []
    hook = engine.model.lm_head.register_forward_pre_hook(lambda _, args: steps.append(args[0].shape[0]))
    free = engine.generate_until(prompts([("the bird", {"until": [], "max_gen_toks": 40})]))[0]
    steps.clear()
    stop = free[6:9]
    assert len(stop) == 3
    try:
        (cut,) = engine.generate_until(prompts([("the bird", {"until": [stop], "max_gen_toks": 40})]))
    finally:
        hook.remove()
    assert cut == free.split(stop)[0]
    assert sum(steps) <= len(engine.tok_encode(free[: free.index(stop) + 3], add_special_tokens=False)) + 2 < 40


def test_the_end_token_ends_a_text(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    requests = prompts(_given(count=12, until=["zzz"], max_gen_toks=40))
    with torch.no_grad():  # the end token becomes a little likelier than what the first text has in tenth place
        prompt = torch.tensor([tokenizer.encode(requests[0].args[0])])
        written = model.generate(prompt, max_length=prompt.shape[1] + 10, do_sample=False)[0].tolist()
        model.lm_head.weight[1] = model.lm_head.weight[written[-1]] * 1.02
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine: Any = open_engine("hf", tmp_path)
    found = engine.generate_until(requests)
    reference = HFLM(pretrained=str(tmp_path), device="cpu", dtype="float32", batch_size=1)
    assert found == reference.generate_until(requests, disable_tqdm=True)
    monkeypatch.setattr(
        engine, "tok_decode", lambda given, **_: " ".join(map(str, given)) if isinstance(given, list) else "</s>"
    )
    written = [list(map(int, text.split())) for text in engine.generate_until(requests)]
    assert len(written[0]) <= 10
    assert all(len(tokens) == 40 or tokens.index(1) == len(tokens) - 1 for tokens in written)


def test_long_prompts_lose_their_left_end(engine: Any, lm_eval_hf: Callable[..., Any]) -> None:
    requests = prompts([
        (sentence(random.Random(n), 300), {"until": ["\n\n"], "max_gen_toks": 20}) for n in range(3)
    ] + _given(count=2))  # fmt: skip
    assert engine.generate_until(requests) == lm_eval_hf("llama").generate_until(requests, disable_tqdm=True)
    said = "task: 3 of 5 prompts lost their beginning: with what is to follow they are longer than the 192 tokens"
    assert any(note.startswith(said) for note in engine.notes)


def test_a_wish_that_leaves_no_room_for_the_prompt_is_an_error(engine: Any) -> None:
    with pytest.raises(InputError, match="max_gen_toks 192 leaves no room for a prompt"):
        engine.generate_until(prompts([("the bird", {"until": [], "max_gen_toks": 192})]))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"num_beams": 2}, "num_beams=2 is set"),
        ({"min_new_tokens": 3}, "min_new_tokens=3 is set"),
        ({"max_length": 60}, "max_length is set"),
    ],
    ids=str,
)
def test_what_the_loop_does_not_do_transformers_does(
    arguments: dict[str, Any], why: str, model_folder: Callable[[str], Path], lm_eval_hf: Callable[..., Any]
) -> None:
    engine: Any = open_engine("hf", model_folder("llama"), batch_size=1)  # max_length counts padding
    requests = prompts(_given(count=3, **arguments) + _given(count=3))
    assert engine.generate_until(requests) == lm_eval_hf("llama").generate_until(requests, disable_tqdm=True)
    assert [note for note in engine.notes if why in note]


def test_what_takes_one_text_at_a_time_gets_one(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = prompts([("the bird sings", {"until": ["\n\n"], "max_gen_toks": 8})] * 2)
    plain = engine.generate_until(requests)
    monkeypatch.setattr(engine.base.generation_config, "prompt_lookup_num_tokens", 3)
    monkeypatch.setattr(engine, "_read", {})
    assert engine.generate_until(requests) == plain


def test_sampling_is_seeded(model_folder: Callable[[str], Path]) -> None:
    texts = []
    for seed in (1, 1, 2):
        engine: Any = open_engine("hf", model_folder("llama"), seed=seed)
        requests = prompts(_given(count=2, do_sample=True, temperature=1.0))
        texts.append(engine.generate_until(requests))
        assert [note for note in engine.notes if "sampling is asked for" in note]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("kind", ["mamba", "bloom", "gemma2", "mistral"])
def test_special_architectures_generate_by_their_own_path(
    kind: str, model_folder: Callable[[str], Path], lm_eval_hf: Callable[..., Any]
) -> None:
    requests = prompts(_given(SHOTS, 2))
    engine: Any = open_engine("hf", model_folder(kind))
    assert engine.generate_until(requests) == lm_eval_hf(kind).generate_until(requests, disable_tqdm=True)
    assert _own_path(engine)


def test_generation_halves_its_rows_when_memory_runs_out(
    model_folder: Callable[[str], Path], lm_eval_hf: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compatcheck.engines.hf.attention import RowBuffers

    engine: Any = open_engine("hf", model_folder("llama"))
    made: list[int] = []
    write = RowBuffers.write_context

    def limited(self: RowBuffers, layer: int, row: int, key: torch.Tensor, value: torch.Tensor) -> None:
        made.append(self.rows)
        if self.rows > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        write(self, layer, row, key, value)

    monkeypatch.setattr(RowBuffers, "write_context", limited)
    requests = prompts(_given(SHOTS))
    assert engine.generate_until(requests) == lm_eval_hf("llama").generate_until(requests, disable_tqdm=True)
    assert sorted(set(made), reverse=True) == [10, 5, 2]


def test_the_shared_prefix_is_read_once(engine: Any) -> None:
    seen: list[int] = []
    engine.generate_until(prompts(_given(count=1)))  # the first call checks the runner on forwards of its own
    hook = engine.model.model.layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0] if args else kwargs["hidden_states"]).shape[1]), with_kwargs=True
    )
    given = _given(SHOTS, 8, max_gen_toks=1)
    try:
        engine.generate_until(prompts(given))
    finally:
        hook.remove()
    assert sum(seen) < len(engine.tok_encode(SHOTS)) + 8 * 25


def test_the_cache_hook_gets_every_text(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Hook:
        def add_partial(self, kind: str, request: Any, answer: Any) -> None:
            told.append((kind, request, answer))

    monkeypatch.setattr(engine, "cache_hook", Hook())
    requests = prompts(_given(count=3))
    texts = engine.generate_until(requests)
    expected = [("generate_until", request.args, text) for request, text in zip(requests, texts, strict=True)]
    assert sorted(told, key=str) == sorted(expected, key=str)


def test_no_n_gram_is_repeated() -> None:
    text = Text(0, (1, 2, 3, 1, 2), GenerationArguments(9, (), frozenset(), no_repeat=3))
    assert text.ngrams is not None
    assert text.ngrams.banned() == {3}
    logits = torch.tensor([[0.0, 0, 0, 9, 5, 0]])
    assert next_tokens([text], logits) == [4]
    text.append(4)
    assert text.ngrams.banned() == set()
    for token in (1, 2):
        text.append(token)
    assert text.ngrams.banned() == {3, 4}


def test_a_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    text = Text(0, (1, 3), GenerationArguments(9, (), frozenset(), penalty=2.0))
    assert next_tokens([text], torch.tensor([[-1.0, 3.0, 1.4, -0.5]])) == [1]
    text.append(1)
    assert next_tokens([text], torch.tensor([[-1.0, 2.6, 1.4, -0.5]])) == [2]


def test_defaults_of_the_model_count() -> None:
    from transformers import GenerationConfig

    defaults = GenerationConfig(repetition_penalty=1.1, do_sample=True, top_p=0.8, eos_token_id=[3, 4])
    arguments, reason = read_generation_arguments({"until": ["x"]}, 256, "</s>", 1, defaults)
    assert (arguments, reason) == (GenerationArguments(256, ("x", "</s>"), frozenset({1, 3, 4}), 0, 1.1), "")
    assert read_generation_arguments({}, 256, "</s>", 1, GenerationConfig(suppress_tokens=[5])) == (
        None,
        "suppress_tokens=[5] is set",
    )
