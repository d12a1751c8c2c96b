"""The transformers engine: lm-eval's ``hf`` backend with its two slow paths made fast.

Prompts, tokens, truncation and post-processing are lm-eval's. Where an architecture cannot be packed (a recurrent
state, a sliding window shorter than the text, position biases ...) its own path is taken, and ``notes`` say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from transformers import LogitsProcessor, LogitsProcessorList

from compatcheck.engines.answers import LENGTH, NOT_FINITE, STOP, Generated
from compatcheck.engines.base import cut_prompts
from compatcheck.engines.hf import memory
from compatcheck.engines.hf.decoding import Decoder
from compatcheck.engines.hf.encoding import encode_all, encode_pairs
from compatcheck.engines.hf.model import HFModel
from compatcheck.engines.hf.runner import Runner, check_tokens, longest_text
from compatcheck.engines.hf.sampling import GenerationArguments, read_generation_arguments
from compatcheck.engines.hf.scoring import Answer, documents_of, score
from compatcheck.engines.hf.states import Text, hidden_states
from compatcheck.engines.progress import Stage
from compatcheck.errors import InputError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from torch import Tensor

_T = TypeVar("_T")
_Request = tuple[Any, list[int], list[int]]


class NotFinite(Exception):
    """Some row of a batch got logits that are not finite."""


class _Watch(LogitsProcessor):
    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if not scores.amax(-1).isfinite().all():
            raise NotFinite
        return scores


class HFEngine(HFModel):
    """Answers requests with an :class:`HFModel`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As :class:`HFModel`."""
        self._runner: Runner | None = None
        self._refusal: str | None = None
        self._checked = False
        self._read: dict[str, tuple[GenerationArguments | None, str]] = {}
        super().__init__(*args, **options)
        self.tokens_at_once = memory.CPU_TOKENS if self.device.type == "cpu" else memory.ACCELERATOR_TOKENS
        self._stage = Stage(self.progress, "", ())

    def close(self) -> None:
        """Free the memory; the engine cannot be used afterwards."""
        self._runner = None
        super().close()

    def _fast(self, tokens: Sequence[int], what: str) -> Runner | None:
        """The packed runner if it may be used for the active adapter; checked on some real tokens the first time."""
        reason = None
        kind = self._adapters.kind
        if self.backend != "causal":
            reason = "it is an encoder-decoder"
        elif kind is not None and kind.in_forward:
            reason = f"its adapter ({kind.name}) works in the call of the whole model"
        elif self.mixed_precision_dtype is not None:
            reason = "mixed precision is asked for"
        elif not self._checked:
            runner = Runner(self._adapters.base, self.device)
            self._refusal = runner.check(check_tokens(tokens), self._model)
            self._runner, self._checked = runner, True
        if reason := reason or self._refusal:
            self._note(f"{what} took lm-eval's own path for this model: {reason}.")
            return None
        return self._runner

    def _staged(self, label: str, requests: Sequence[Any]) -> Stage:
        self._stage = Stage(self.progress, label, requests)
        return self._stage

    # Log-likelihoods

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        """(log-likelihood, is greedy) of each (context, continuation)."""
        if self.enable_thinking or self.backend != "causal":
            return super().loglikelihood(requests, disable_tqdm=True)
        strings = [request.args for request in requests]
        encoded = [(args, *pair) for args, pair in zip(strings, encode_pairs(self, strings), strict=True)]
        self._note_cut(requests, [len(before) + len(rest) > self.max_length + 1 for _, before, rest in encoded])
        with self._staged("scoring choices", requests):
            return self._loglikelihood_tokens(encoded)

    def _loglikelihood_tokens(
        self, requests: list[_Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        if override_bs is not None:  # windows of a rolling log-likelihood
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)
        if not requests:
            return []
        self._check_rows(tokens for _, context, continuation in requests for tokens in (context, continuation))
        runner = self._fast(requests[0][1] + requests[0][2], "Scoring")
        answers: list[Answer | None] = [None] * len(requests)
        plain = list(range(len(requests)))
        if runner is not None:
            pairs = [(context, continuation) for _, context, continuation in requests]
            documents = documents_of(pairs, self.max_length)
            limit = longest_text(self.config)
            long = [document for document in documents if limit is not None and document.size(0) > limit]
            tokens = {  # a context counts once, whatever number of choices it has
                each.branches[0].request: len(each.context) + sum(len(branch.tokens) for branch in each.branches)
                for each in documents
            }
            plain = sorted(branch.request for document in long for branch in document.branches)
            if plain:
                self._note_long(limit)

            def done(found: list[tuple[int, Answer]]) -> None:
                for number, answer in found:
                    answers[number] = answer
                    if requests[number][0] is not None:
                        self.cache_hook.add_partial("loglikelihood", requests[number][0], answer)
                self._stage.advance(len(found), sum(tokens.get(number, 0) for number, _ in found))

            short = [document for document in documents if limit is None or document.size(0) <= limit]
            self.tokens_at_once = score(runner, short, self.tokens_at_once, done, self.most)
        if plain:
            own = super()._loglikelihood_tokens
            longest = max(len(requests[n][1]) + len(requests[n][2]) for n in plain)
            found = self._in_slices(plain, longest, lambda part: own([requests[n] for n in part], disable_tqdm=True))
            for number, answer in zip(plain, found, strict=True):
                answers[number] = answer
        return [answer for answer in answers if answer is not None]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts: lm-eval's own path."""
        own = super().loglikelihood_rolling
        with self._staged("scoring texts", requests):
            return self._in_slices(
                requests, self.max_length, lambda part: own(list(part), disable_tqdm=True), per_slice=1
            )

    # Generation

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text generated for each (context, generation arguments), cut at its stop strings."""
        with self._staged("generating", requests):
            return self._generate(requests)

    def _generate(self, requests: list[Instance]) -> list[str]:
        texts: list[str] = [""] * len(requests)
        prompts = encode_all(self, [request.args[0] for request in requests]) if self.backend == "causal" else None
        self._check_rows(prompts or [])
        most = [normalize_gen_kwargs(request.args[1], self.max_gen_toks)["max_gen_toks"] for request in requests]
        sizes = [len(prompt) for prompt in prompts or ()]
        if sizes:
            self._note_cut(requests, [n + new > self.max_length for n, new in zip(sizes, most, strict=True)])
        runner = self._fast(next((p for p in prompts or [] if p), []), "Generation")
        plain: list[int] = []
        jobs: list[tuple[int, tuple[int, ...], GenerationArguments]] = []
        for number, request in enumerate(requests):
            job = None if runner is None or prompts is None else self._job(request, prompts[number])
            if job is None:
                plain.append(number)
            else:
                jobs.append((number, *job))

        def done(job: int, written: list[int] | None) -> None:
            number, prompt, arguments = jobs[job]
            self._stage.advance(1, len(written or ()))
            if written is None:
                self._fail(requests[number])
                return
            whole = self.tok_decode(written)
            ended = written[-1] in arguments.ends or any(stop in whole for stop in arguments.stops)
            cut = postprocess_generated_text(whole, list(arguments.stops), None)
            tokens = {"prompt_tokens": len(prompt), "output_tokens": len(written)}
            texts[number] = Generated(cut, STOP if ended else LENGTH, **tokens)
            self.cache_hook.add_partial("generate_until", requests[number].args, texts[number])

        if jobs and runner is not None:
            decoder = Decoder(runner, self.tokenizer, self.tokens_at_once, self.most, done)
            decoder.run([(tokens, arguments) for _, tokens, arguments in jobs])
        if plain:
            longest = max((len(prompts[n]) for n in plain), default=1) + 256 if prompts else self.max_length
            found = self._in_slices(plain, longest, lambda part: self._own_texts([requests[n] for n in part]))
            for number, text in zip(plain, found, strict=True):
                texts[number] = text
        return texts

    def _own_texts(self, requests: list[Instance]) -> list[str]:
        """transformers' own generation; one by one where logits of a batch are not finite, or it takes no batch."""
        try:
            return super().generate_until(requests, disable_tqdm=True)
        except NotFinite:
            if len(requests) == 1:
                self._fail(requests[0])
                return [""]
        except ValueError as error:  # ways to generate that take one text at a time, such as prompt lookup
            if len(requests) == 1 or "batch_size" not in str(error):
                raise
        return [text for request in requests for text in self._own_texts([request])]

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **arguments: Any) -> Any:
        watched = LogitsProcessorList([_Watch()])
        return super()._model_generate(context, max_length, stop, logits_processor=watched, **arguments)

    def _fail(self, request: Instance) -> None:
        self.failures[request.task_name, request.doc_id] = NOT_FINITE

    def _job(self, request: Instance, prompt: list[int]) -> tuple[tuple[int, ...], GenerationArguments] | None:
        """The prompt as it is read and what is asked for; None where transformers must generate."""
        given = repr(request.args[1])
        if given not in self._read:  # a task asks the same for each of its documents
            eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
            defaults = self._adapters.base.generation_config
            self._read[given] = read_generation_arguments(
                request.args[1], self.max_gen_toks, eos, self.eot_token_id, defaults
            )
        arguments, reason = self._read[given]
        if not prompt:
            raise InputError(
                f"task {request.task_name}, document {request.doc_id}: the prompt is empty, and the tokenizer begins "
                "no text with a token of its own; there is nothing to go on from"
            )
        if arguments is None or self.think_end_token is not None or arguments.most < 1:
            reason = reason or ("a thinking token is set" if self.think_end_token is not None else "nothing to go on")
            self._note(f"Generation took transformers' own path where {reason}.")
            return None
        most_read = self.max_length - arguments.most
        if most_read <= 0:
            raise InputError(
                f"max_gen_toks {arguments.most} leaves no room for a prompt: the model reads {self.max_length} tokens "
                "in all"
            )
        prompt = prompt[-most_read:]
        limit = longest_text(self.config)
        if limit is not None and len(prompt) + arguments.most > limit:
            self._note_long(limit)
            return None
        return tuple(prompt), arguments

    # Hidden states

    def states(self, texts: Sequence[Text]) -> Tensor:
        """Hidden states (n, d) from which each token that counts is predicted: see :func:`hidden_states`."""
        self._check_rows(text.tokens for text in texts)
        return hidden_states(self, texts, self._fast(texts[0].tokens, "Reading texts"))

    # lm-eval's own path

    def _note_cut(self, requests: Sequence[Instance], beyond: Sequence[bool]) -> None:
        for sentence in cut_prompts(requests, beyond, self.max_length):
            self._note(sentence)

    def _note_long(self, limit: int | None) -> None:
        self._note(f"Texts longer than {limit} tokens took lm-eval's own path: the model's positions are special.")

    def _in_slices(
        self, items: Sequence[Any], longest: int, work: Callable[[Sequence[Any]], list[_T]], per_slice: int = 8
    ) -> list[_T]:
        """lm-eval's own path at a batch size that fits, slice by slice so that progress shows; halved on no memory."""
        given = self.batch_size_per_gpu
        # Logits and their logarithms of every token, float32.
        vocabulary = int(getattr(self.config.get_text_config(), "vocab_size", 2**16))
        per_row = 2 * 4 * max(1, min(longest, self.max_length)) * vocabulary
        fits = int(0.25 * memory.available_bytes(str(self.device)) // per_row)
        size = self.most or max(1, min(64, fits))
        found: list[_T] = []
        try:
            while len(found) < len(items):
                self.batch_size_per_gpu = size
                try:
                    done = work(items[len(found) : len(found) + size * per_slice])
                except (RuntimeError, MemoryError) as error:
                    if not memory.is_out_of_memory(error):
                        raise
                    done = None
                if done is None:
                    memory.give_back()
                    if size == 1:
                        raise InputError("out of memory on a single text; use a smaller model or a narrower --dtype")
                    size = max(1, size // 2)
                    continue
                found.extend(done)
                self._stage.advance(len(done))
        finally:
            self.batch_size_per_gpu = given
        return found
