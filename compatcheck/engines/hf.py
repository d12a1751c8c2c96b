"""The transformers engine: lm-eval's ``hf`` backend with its two slow paths made fast.

Prompts, tokens, truncation and post-processing are lm-eval's. Where an architecture cannot be packed (a recurrent
state, a sliding window shorter than the text, position biases ...) its own path is taken, and ``notes`` say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import postprocess_generated_text

from compatcheck.engines import memory
from compatcheck.engines.decoding import Decoder
from compatcheck.engines.encoding import encode_all, encode_pairs
from compatcheck.engines.loading import Adapters, one_line, without_bars
from compatcheck.engines.progress import Progress, SilentProgress, Stage
from compatcheck.engines.runner import Runner, check_tokens, longest_text
from compatcheck.engines.sampling import Wish, read_wish
from compatcheck.engines.scoring import Answer, documents_of, score
from compatcheck.errors import InputError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

_T = TypeVar("_T")
_Request = tuple[Any, list[int], list[int]]
_log = logging.getLogger(__name__)


class HFEngine(HFLM):
    """A full model, or one base with several adapters of which one is active at a time.

    ``notes`` are plain sentences about paths taken; ``identity`` is what the outputs depend on besides the weights.
    """

    def __init__(
        self,
        model: str | Path,
        adapters: Mapping[str, str | Path] | None = None,
        *,
        batch_size: int | str = "auto",
        dtype: str = "auto",
        device: str | None = None,
        seed: int = 0,
        engine_args: Mapping[str, Any] | None = None,
        trust_remote_code: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Load the model and its adapters.

        Args:
            batch_size: documents in one forward, or "auto" for as many as a budget of tokens holds.
            dtype: a torch dtype's name; "auto" is the checkpoint's own on an accelerator and float32 on a CPU.
            engine_args: further arguments of lm-eval's ``HFLM``.

        Raises:
            InputError: the model or an adapter cannot be loaded, or an argument is wrong.
        """
        self._model: Any = None
        self.batch_size_per_gpu: int | str
        self.notes: list[str] = []
        self.progress: Progress = progress or SilentProgress()
        self._folders = dict(adapters or {})
        self._adapters: Adapters | None = None
        self._runner: Runner | None = None
        self._refusal: str | None = None
        self._checked = False
        self._tokens_at_once: int | None = None
        self._stage = Stage(self.progress, "", ())
        self._said: set[str] = set()
        self._wishes: dict[str, tuple[Wish | None, str]] = {}
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if dtype == "auto" and device == "cpu":
            dtype = "float32"
            self._note("On the CPU the weights are computed in float32 (--dtype auto).")
        if device == "cpu":
            memory.keep_freed_memory()
        torch.manual_seed(seed)
        try:
            with without_bars():
                super().__init__(
                    pretrained=str(model), device=device, dtype=dtype, batch_size=_batch_size(batch_size),
                    trust_remote_code=trust_remote_code, **dict(engine_args or {}),
                )  # fmt: skip
        except (OSError, ValueError, TypeError, AttributeError, ImportError, KeyError) as error:
            raise InputError(f"{model}: cannot be loaded: {one_line(error)}") from error

    # Loading and switching

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        super()._create_model(pretrained, **kwargs)
        base = self._model
        config = getattr(base.config, "text_config", None) or base.config
        # lm-eval fits the embeddings to the tokenizer when there is an adapter. Growing is done alike; where it would
        # drop rows that pad the matrix they are left out of the softmax instead, so that the base alone stays whole.
        self._vocabulary: int | None = None
        if self._folders and len(self.tokenizer) > config.vocab_size:
            base.resize_token_embeddings(len(self.tokenizer))
        elif self._folders and len(self.tokenizer) < config.vocab_size:
            self._vocabulary = len(self.tokenizer)
        self._adapters = Adapters(base, self._folders)
        self._model = self._adapters.model

    def activate(self, name: str | None) -> None:
        """Use the adapter of this name; None is the base alone.

        Raises:
            InputError: no adapter of that name.
        """
        assert self._adapters is not None
        self._adapters.activate(name)
        self._model = self._adapters.model
        self._model.eval()
        self._said.clear()  # what is noted below concerns another model

    def close(self) -> None:
        """Free the memory; the engine cannot be used afterwards."""
        self._model = self._adapters = self._runner = None
        memory.give_back()

    @property
    def identity(self) -> dict[str, Any]:
        """Engine, versions, dtype, device and adapter: what the outputs depend on besides weights and prompts."""
        import lm_eval
        import peft
        import transformers

        return {
            "engine": "hf",
            "versions": {
                "torch": torch.__version__, "transformers": transformers.__version__,
                "lm_eval": lm_eval.__version__, "peft": peft.__version__,
            },
            "dtype": str(next(self.model.parameters()).dtype).removeprefix("torch."),
            "device": str(self.device),
            "max_length": self.max_length,
        }  # fmt: skip

    def _note(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.notes.append(sentence)
            _log.info(sentence)

    def _fast(self, tokens: Sequence[int], what: str) -> Runner | None:
        """The packed runner if it may be used for the active adapter; checked on some real tokens the first time."""
        assert self._adapters is not None
        reason = None
        if self.backend != "causal":
            reason = "it is an encoder-decoder"
        elif self._adapters.learns_prompts:
            reason = "its adapter puts virtual tokens before the text"
        elif self.mixed_precision_dtype is not None:
            reason = "mixed precision is asked for"
        elif not self._checked:
            runner = Runner(self._adapters.base, self.device)
            self._refusal = runner.check(check_tokens(tokens))
            self._runner, self._checked = runner, True
        reason = reason or self._refusal
        if reason:
            self._note(f"{what} took lm-eval's own path for this model: {reason}.")
            return None
        assert self._runner is not None
        self._runner.vocabulary = self._vocabulary if self._adapters.active is not None else None
        return self._runner

    def _staged(self, label: str, requests: Sequence[Any]) -> Stage:
        self._stage = Stage(self.progress, label, requests)
        return self._stage

    @property
    def _budget(self) -> int:
        if self._tokens_at_once is None:
            self._tokens_at_once = memory.tokens_at_once(self.device.type)
        return self._tokens_at_once

    @property
    def _most(self) -> int | None:
        """The user's batch size, or None for auto."""
        return self.batch_size if isinstance(self.batch_size, int) else None

    # Log-likelihoods

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        """(log-likelihood, is greedy) of each (context, continuation)."""
        if self.enable_thinking or self.backend != "causal":
            return super().loglikelihood(requests, disable_tqdm=True)
        strings = [request.args for request in requests]
        pairs = encode_pairs(self, strings)
        encoded = [(args, *pair) for args, pair in zip(strings, pairs, strict=True)]
        with self._staged("scoring choices", requests):
            return self._loglikelihood_tokens(encoded)

    def _loglikelihood_tokens(
        self, requests: list[_Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[Answer]:
        if override_bs is not None:  # windows of a rolling log-likelihood
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)
        if not requests:
            return []
        runner = self._fast(requests[0][1] + requests[0][2], "Scoring")
        answers: list[Answer | None] = [None] * len(requests)
        limit = longest_text(self.config)
        plain: list[int] = []
        if runner is None:
            plain = list(range(len(requests)))
        else:
            documents = documents_of(
                [(context, continuation) for _, context, continuation in requests], self.max_length
            )
            if limit is not None:
                long = [d for d in documents if d.size(0) > limit]
                plain = sorted(branch.request for document in long for branch in document.branches)
                documents = [d for d in documents if d.size(0) <= limit]
                self._note_long(len(plain), limit)

            def done(found: list[tuple[int, Answer]]) -> None:
                for number, answer in found:
                    answers[number] = answer
                    if requests[number][0] is not None:
                        self.cache_hook.add_partial("loglikelihood", requests[number][0], answer)
                self._stage.advance(len(found))

            self._tokens_at_once = score(runner, documents, self._budget, done, self._most)
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
        texts: list[str | None] = [None] * len(requests)
        prompts = encode_all(self, [request.args[0] for request in requests]) if self.backend == "causal" else None
        runner = self._fast(next((p for p in prompts or [] if p), []), "Generation")
        plain: list[int] = []
        jobs: list[tuple[int, tuple[int, ...], Wish]] = []
        for number, request in enumerate(requests):
            tokens, wish = (None, None) if runner is None or prompts is None else self._job(request, prompts[number])
            if tokens and wish:
                jobs.append((number, tokens, wish))
            else:
                plain.append(number)

        def done(job: int, written: list[int]) -> None:
            number, _, wish = jobs[job]
            text = postprocess_generated_text(self.tok_decode(written), list(wish.stops), None)
            texts[number] = text
            self.cache_hook.add_partial("generate_until", requests[number].args, text)
            self._stage.advance(1)

        if jobs:
            assert runner is not None
            decoder = Decoder(runner, self.tokenizer, self._budget, self._most, done)
            decoder.run([(tokens, wish) for _, tokens, wish in jobs])
        if plain:
            own = super().generate_until
            longest = max((len(prompts[n]) for n in plain), default=1) + 256 if prompts else self.max_length
            found = self._in_slices(plain, longest, lambda part: own([requests[n] for n in part], disable_tqdm=True))
            for number, text in zip(plain, found, strict=True):
                texts[number] = text
        return [text if text is not None else "" for text in texts]

    def _job(self, request: Instance, prompt: list[int]) -> tuple[tuple[int, ...] | None, Wish | None]:
        """The prompt as it is read and what is asked for; (None, None) where transformers must generate."""
        given = repr(request.args[1])
        if given not in self._wishes:  # a task asks the same for each of its documents
            eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
            self._wishes[given] = read_wish(
                request.args[1], self.max_gen_toks, eos, self.eot_token_id, self._adapter_base.generation_config
            )
        wish, reason = self._wishes[given]
        if wish is None or self.think_end_token is not None or wish.most < 1 or not prompt:
            reason = reason or ("a thinking token is set" if self.think_end_token is not None else "nothing to go on")
            self._note(f"Generation took transformers' own path where {reason}.")
            return None, None
        most_read = self.max_length - wish.most
        if most_read <= 0:
            raise InputError(
                f"max_gen_toks {wish.most} leaves no room for a prompt: the model reads {self.max_length} tokens in all"
            )
        prompt = prompt[-most_read:]
        limit = longest_text(self.config)
        if limit is not None and len(prompt) + wish.most > limit:
            self._note_long(1, limit)
            return None, None
        return tuple(prompt), wish

    @property
    def _adapter_base(self) -> Any:
        assert self._adapters is not None
        return self._adapters.base

    # lm-eval's own path

    def _note_long(self, count: int, limit: int) -> None:
        if count:
            self._note(f"Texts longer than {limit} tokens took lm-eval's own path: the model's positions are special.")

    def _in_slices(
        self,
        items: Sequence[Any],
        longest: int,
        work: Callable[[Sequence[Any]], list[_T]],
        per_slice: int = 8,
    ) -> list[_T]:
        """lm-eval's own path at a batch size that fits, slice by slice so that progress shows; halved on no memory."""
        given = self.batch_size_per_gpu
        config = getattr(self.config, "text_config", None) or self.config
        # Logits and their logarithms of every token, float32.
        per_row = 2 * 4 * max(1, min(longest, self.max_length)) * int(getattr(config, "vocab_size", 2**16))
        fits = int(0.25 * memory.available_bytes(str(self.device)) // per_row)
        size = self._most or max(1, min(64, fits))
        found: list[_T] = []
        try:
            while len(found) < len(items):
                self.batch_size_per_gpu = size
                part = items[len(found) : len(found) + size * per_slice]
                try:
                    done = work(part)
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


def _batch_size(given: int | str) -> int | str:
    if str(given) == "auto":
        return "auto"
    try:
        size = int(given)
    except ValueError:
        size = 0
    if size < 1:
        raise InputError(f"batch size {given!r}: a positive number or 'auto'")
    return size
