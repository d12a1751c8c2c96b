"""lm-eval's vLLM backend, answering each request as soon as vLLM has it, under any of several adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.models.utils import maybe_truncate, postprocess_generated_text
from lm_eval.models.vllm_causallms import VLLM
from vllm import SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind

from compatcheck.engines.hf.encoding import encode_all, encode_pairs, require_start
from compatcheck.engines.vllm.logits import ARGUMENT
from compatcheck.errors import InputError

Say = Callable[[dict[str, Any]], None]
_NEUTRAL: dict[str, Any] = {
    "num_beams": 1, "num_beam_groups": 1, "num_return_sequences": 1, "typical_p": 1.0, "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0, "diversity_penalty": 0.0, "encoder_repetition_penalty": 1.0,
}  # fmt: skip
"""Arguments of transformers that vLLM lacks, with the value at which they change nothing."""
_WITHOUT_EFFECT = ("pad_token_id", "bos_token_id", "length_penalty", "early_stopping", "use_cache")
_SLICE = 32
"""Whole texts scored before their answers are told."""


class Serving(VLLM):
    """What ``host`` loads. Prompts, tokens and truncation are lm-eval's; tokens become text as in its ``hf``."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__(pretrained=order["model"], batch_size="auto", **order["arguments"])
        self._adapters = {
            name: LoRARequest(one["name"], number, one["path"])
            for number, (name, one) in enumerate(order["adapters"].items(), start=1)
        }
        self._adapter: LoRARequest | None = None
        self._say: Say = lambda _: None
        self._done: list[list[Any]] = []
        self._defaults = _generation_defaults(order["model"])
        self._flat: dict[str, Any] = {"flat_logprobs": True} if hasattr(SamplingParams, "flat_logprobs") else {}
        self._seed = int(order["arguments"].get("seed") or 0)
        self._number = 0

    def exchange(self, model: str) -> None:
        """Take the weights of another model of the same shapes; what was cached of the former ones is forgotten."""
        self.model.collective_rpc("reload_weights", kwargs={"weights_path": model})
        if not self.model.reset_prefix_cache():
            raise RuntimeError("the prefix cache of the former weights could not be emptied")

    def answer(self, call: dict[str, Any], say: Say) -> Any:
        """Answer one call. Requests are answered through ``say`` as ``{"done": [[number, answer], ...]}``."""
        self._say = say
        method, given = call["method"], call["given"]
        self._adapter = self._adapters[call["adapter"]] if call.get("adapter") else None
        if method == "generate_until":
            return self._generate(given)
        if method == "loglikelihood":
            pairs = encode_pairs(self, [(context, continuation) for context, continuation in given])
            self._cut([len(before) + len(rest) > self.max_length - 1 for before, rest in pairs])
            self._score(pairs, lambda number, score: self._done.append([number, list(score)]))
            return None
        if method == "loglikelihood_rolling":
            return self._rolling([args[0] for args in given])
        arguments, options = given  # the chat template
        return getattr(self, method)(*arguments, **options)

    def _cut(self, beyond: Sequence[bool]) -> None:
        """Tell which requests are longer than the model reads, and how much that is."""
        if any(beyond):
            cut = [number for number, lost in enumerate(beyond) if lost]
            self._say({"done": [], "cut": cut, "reads": self.max_length})

    # Log-likelihoods

    def _score(
        self, pairs: Sequence[tuple[list[int], list[int]]], done: Callable[[int, tuple[float, bool]], None]
    ) -> None:
        """Score continuations. Texts lose tokens on their left down to one less than vLLM reads, as in lm-eval."""
        most = self.max_length - 1  # vLLM always generates a token
        params = SamplingParams(
            temperature=0, prompt_logprobs=0, max_tokens=1, detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY, **self._flat,
        )  # fmt: skip
        order = sorted(range(len(pairs)), key=lambda n: -len(pairs[n][0]) - len(pairs[n][1]))
        prompts, tails = [], []
        for number in order:
            context, continuation = pairs[number]
            if not context or not continuation:
                raise ValueError(f"request {number}: context or continuation has no tokens and cannot be scored")
            prompt = (context + continuation)[-most:]
            prompts.append(prompt)
            tails.append(min(len(continuation), len(prompt) - 1))

        def finished(position: int, output: Any) -> None:
            done(order[position], read_scores(output.prompt_logprobs, prompts[position], tails[position]))

        self._run([(prompt, params) for prompt in prompts], finished)

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Windows of rolling log-likelihoods."""
        found: list[Any] = [None] * len(requests)
        self._score([(context, rest) for _, context, rest in requests], found.__setitem__)
        return found

    def _rolling(self, strings: list[str]) -> None:
        from lm_eval.api.instance import Instance

        for start in range(0, len(strings), _SLICE):
            part = [
                Instance("loglikelihood_rolling", {}, (string,), 0, ("task", number, 1))
                for number, string in enumerate(strings[start : start + _SLICE])
            ]
            totals = super().loglikelihood_rolling(part, disable_tqdm=True)
            self._say({"done": [[start + number, total] for number, total in enumerate(totals)]})

    # Generation

    def _generate(self, given: list[Any]) -> None:
        encoded = encode_all(self, [context for context, *_ in given])
        end = self.eot_token_id
        eos = None if end is None else self.tokenizer.decode(end) or self.tokenizer.eos_token
        jobs: list[tuple[list[int], SamplingParams]] = []
        untils: list[list[str]] = []
        beyond: list[bool] = []
        for number, (tokens, (_, arguments, *draw)) in enumerate(zip(encoded, given, strict=True)):
            settings, until, most = self.modify_gen_kwargs(arguments, eos=eos, default_max_gen_toks=self.max_gen_toks)
            # lm-eval leaves the temperature out where the task does; vLLM would take 1, transformers decodes greedily.
            settings.setdefault("temperature", 1.0 if arguments.get("do_sample") else 0.0)
            if most >= self.max_length:
                raise InputError(
                    f"max_gen_toks {most} leaves no room for a prompt: the model reads {self.max_length} tokens in all"
                )
            beyond.append(len(tokens) + most > self.max_length)
            prompt, most = maybe_truncate(
                tokens or [require_start(self)], max_gen_toks=most, max_model_len=self.max_length,
                side=self.truncation_side, verbose=False,
            )  # fmt: skip
            # With a thinking part the task's stop strings may stand in it: they are applied to what follows it.
            stops = [one for one in until if one == eos] if self.think_end_token else until
            # Repeats of a document must differ, and be the same again whatever they are batched with.
            seed = self._seed + (draw[0] if draw else number)
            jobs.append((prompt, self._sampling(settings, stops, most, seed)))
            untils.append(until)
        self._cut(beyond)
        order = sorted(range(len(jobs)), key=lambda n: (-len(jobs[n][0]), given[n][0]))

        def finished(position: int, output: Any) -> None:
            number, written = order[position], output.outputs[0]
            if not math.isfinite(written.cumulative_logprob):
                self._done.append([number, None])
                return
            ids = list(written.token_ids)
            text = self.tokenizer.decode(ids, skip_special_tokens=self.think_end_token is None)
            text = postprocess_generated_text(text, untils[number], self.think_end_token)
            tokens = {"prompt_tokens": len(jobs[number][0]), "output_tokens": len(ids)}
            self._done.append([number, {"text": text, "finish_reason": written.finish_reason, **tokens}])

        self._run([jobs[number] for number in order], finished)

    def _sampling(self, settings: dict[str, Any], stops: list[str], most: int, seed: int) -> SamplingParams:
        """vLLM's parameters for a task's, over the model's own generation defaults, as transformers has it. Raises
        InputError: an argument that vLLM does not know."""
        greedy = settings["temperature"] == 0
        names = [ARGUMENT, "repetition_penalty", *(() if greedy else ("top_k", "top_p", "min_p"))]
        defaults = {name: self._defaults[name] for name in names if self._defaults.get(name) is not None}
        asked = defaults | {name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT}
        size = int(asked.pop(ARGUMENT, 0) or 0)
        ends = asked.pop("eos_token_id", None)
        least = asked.pop("min_new_tokens", None)
        for name, neutral in _NEUTRAL.items():
            if name in asked and asked[name] in (neutral, None):
                del asked[name]
        given: dict[str, Any] = asked if greedy else {"seed": seed} | asked
        if ends is not None:
            given["stop_token_ids"] = [ends] if isinstance(ends, int) else list(ends)
        if least is not None:
            given["min_tokens"] = int(least)
        if size:
            given["extra_args"] = {ARGUMENT: size}
        try:
            # The chosen tokens' log-probabilities tell a model that computes no numbers.
            return SamplingParams(
                max_tokens=most, stop=stops, output_kind=RequestOutputKind.FINAL_ONLY, **{"logprobs": 0} | given
            )
        except TypeError as error:
            raise InputError(
                f"vLLM does not know a generation argument of the task ({error}); use --engine hf"
            ) from None

    def _run(self, jobs: list[tuple[list[int], SamplingParams]], finished: Callable[[int, Any], None]) -> None:
        """Hand all to vLLM, and each output on as it is done. After an error nothing of it stays in the engine."""
        engine = self.model.llm_engine
        numbers: dict[str, int] = {}
        try:
            for position, (tokens, params) in enumerate(jobs):
                name = str(self._number)
                self._number += 1
                numbers[name] = position
                engine.add_request(name, TokensPrompt(prompt_token_ids=tokens), params, lora_request=self._adapter)
            while engine.has_unfinished_requests():
                for output in engine.step():
                    if output.finished:
                        finished(numbers.pop(output.request_id), output)
                if self._done:
                    self._say({"done": self._done})
                    self._done = []
        except BaseException:
            self._done = []
            engine.abort_request(list(numbers))
            raise


def read_scores(prompt_logprobs: Any, prompt: Sequence[int], tail: int) -> tuple[float, bool]:
    """Sum of the last ``tail`` tokens' log-probabilities, and whether each was the likeliest.

    vLLM gives for every position a mapping from the token to its log-probability and rank (1: the likeliest), either as
    dictionaries or, flat, as parallel lists."""
    total, greedy = 0.0, True
    flat = getattr(prompt_logprobs, "start_indices", None)
    for position in range(len(prompt) - tail, len(prompt)):
        if flat is not None:
            at = flat[position]
            value, rank = prompt_logprobs.logprobs[at], prompt_logprobs.ranks[at]
        else:
            one = prompt_logprobs[position][prompt[position]]
            value, rank = one.logprob, one.rank
        total += value
        greedy = greedy and rank == 1
    return total, greedy


def _generation_defaults(model: str) -> dict[str, Any]:
    from transformers import GenerationConfig

    try:
        return dict(GenerationConfig.from_pretrained(model).to_dict())
    except OSError:  # the model has none
        return {}
