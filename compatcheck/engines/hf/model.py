"""A model as the transformers engine holds it: loaded by lm-eval's ``hf`` backend, adapters put on, and proven.

lm-eval ties embeddings again after it has put an adapter on, and cuts them to the tokenizer; so here adapters come on
when its own loading is done. And it fails, or does what was not asked for, in these places, which are overridden:

- A tokenizer with neither a BOS nor an EOS token: it decodes a token that is not there, and stops.
- Sampling at temperature 0, or at none: transformers refuses the temperature 0 that it is handed. Zero means greedy
  decoding, as vLLM takes it; none means that of the model's generation defaults.
- Encoder-decoders: ``max_gen_toks`` is added to the length of the longest prompt of the batch, although the prompt is
  not part of what the decoder writes. A text could be longer than asked for, and depended on its batch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from lm_eval import __version__ as lm_eval_version
from lm_eval.models.huggingface import HFLM

from compatcheck.engines.base import batch_size as read_batch_size
from compatcheck.engines.hf import memory, proof
from compatcheck.engines.hf.adapters import Adapters
from compatcheck.engines.hf.encoding import require_start, start_token
from compatcheck.engines.hf.loading import LOAD_ERRORS, Checked, listening, not_finite
from compatcheck.engines.progress import Progress, SilentProgress
from compatcheck.errors import InputError, one_line
from compatcheck.models import kind_of
from compatcheck.models.quiet import quiet

_log = logging.getLogger(__name__)


class HFModel(HFLM):
    """A full model, or one base with several adapters of which one is active at a time.

    ``notes`` are plain sentences about paths taken; ``identity`` is what the outputs depend on besides the weights."""

    def __init__(
        self,
        model: str | Path,
        adapters: Mapping[str, str | Path] | None = None,
        *,
        dtype: str = "auto",
        device: str | None = None,
        engine_args: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> None:
        """Load the model and its adapters, as :func:`compatcheck.engines.open_engine`.

        ``dtype`` "auto" is the checkpoint's own on an accelerator and float32 on a CPU; ``engine_args`` are those of
        lm-eval's ``HFLM``; ``batch_size`` is of one forward, "auto" for as many documents as a budget of tokens holds.
        Raises InputError: the model or an adapter cannot be loaded, or an argument is wrong."""
        self._model: Any = None
        self.batch_size_per_gpu: int | str
        self.notes: list[str] = []
        self.progress: Progress = progress or SilentProgress()
        self._said: set[str] = set()
        self._one_by_one = False
        self.failures: dict[tuple[Any, Any], str] = {}
        folders = dict(adapters or {})
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cpu":
            memory.keep_freed_memory()
            if dtype == "auto":
                dtype = "float32"
                self._note("On the CPU the weights are computed in float32 (--dtype auto).")
        torch.manual_seed(options.get("seed", 0))
        arguments, trusts = dict(engine_args or {}), bool(options.get("trust_remote_code"))
        special = next((str(folder) for folder in folders.values() if not kind_of(Path(folder)).plain), None)
        plainly = special is not None and not arguments.keys() - {"tokenizer", "max_length", "add_bos_token"}
        expected = _expected(str(model), str(special), device, dtype, trusts) if plainly else None
        self._unused = bool(arguments.pop("unused_weights", False))
        arguments["batch_size"] = read_batch_size(options.get("batch_size", "auto")) or "auto"
        try:
            with quiet(), listening(self.notes):
                super().__init__(str(model), device=device, dtype=dtype, trust_remote_code=trusts, **arguments)
        except LOAD_ERRORS as error:
            raise InputError(f"{model}: cannot be loaded: {one_line(error)}") from error
        self._adapters: Any = Adapters(self._model, folders, self.notes)
        self._model = self._adapters.model
        self._rows = self._adapters.base.get_input_embeddings().weight.shape[0]
        if (self.tokenizer.pad_token_id or 0) >= self._rows:
            self.tokenizer.pad_token_id = self.tokenizer.eos_token_id or 0
        if damaged := not_finite(self._model):
            self._note(
                f"{model}: {len(damaged)} of the weights loaded with it hold NaN or infinity ({damaged[0]} …): what is "
                "computed with them means nothing."
            )
        if special is not None:
            self._prove(special, expected)

    def _prove(self, folder: str, expected: torch.Tensor | None) -> None:
        if expected is None:
            self._note(
                f"{folder}: not compared with transformers and PEFT alone: they failed to load it plainly, or engine "
                "arguments ask for another way of loading."
            )
        if self.backend != "causal":
            return
        try:
            found = proof.probe(self._model, folder)
            self._one_by_one = proof.depends_on_batch(self._model)
        except Exception as error:  # multitask prompts and Poly want to be told the task of every text
            raise InputError(f"{folder}: the model cannot be called with this adapter: {one_line(error)}") from error
        if self._one_by_one:
            self._note(f"{folder}: its answers depend on the texts beside them in a batch: batches are of one text.")
        if expected is not None:
            proof.check_same(
                folder, expected, found, "loaded by lm-eval", str(self._model.dtype).removeprefix("torch.")
            )

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        auto_class: Any = self.AUTO_MODEL_CLASS  # type: ignore[has-type]
        self.AUTO_MODEL_CLASS = Checked(auto_class, pretrained, self._note if self._unused else None)
        try:
            super()._create_model(pretrained, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = auto_class

    def activate(self, name: str | None) -> None:
        """Use the adapter of this name; None is the base alone. Raises InputError for no adapter of that name."""
        self._adapters.activate(name)
        self._model = self._adapters.model
        self._model.eval()
        self._said.clear()  # what is noted below concerns another model

    def close(self) -> None:
        """Free the memory; the engine cannot be used afterwards."""
        self._model = self._adapters = None
        memory.give_back()

    @property
    def identity(self) -> dict[str, Any]:
        """Engine, versions, dtype, device and adapter: what the outputs depend on besides weights and prompts."""
        return {
            "engine": "hf",
            "versions": {
                "torch": torch.__version__, "transformers": transformers.__version__,
                "lm_eval": lm_eval_version, "peft": peft.__version__,
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

    def _check_rows(self, texts: Iterable[Sequence[int]]) -> None:
        """Refuse tokens that the model has no embedding for, where its tokenizer knows more than it embeds."""
        if len(self.tokenizer) <= self._rows:
            return
        worst = max((token for tokens in texts for token in tokens), default=0)
        if worst >= self._rows:
            raise InputError(
                f"{self.tokenizer.name_or_path}: the tokenizer has {len(self.tokenizer)} tokens, the model embeds "
                f"{self._rows}: {self.tokenizer.convert_ids_to_tokens(worst)!r} in a prompt has no embedding; the "
                "grown embeddings were not saved with the adapter, or the tokenizer is another model's"
            )

    @property
    def base(self) -> Any:
        """The model inside, with its layers as the active adapter makes them."""
        return self._adapters.base

    @property
    def most(self) -> int | None:
        """The user's batch size, or None for auto; one where a text's answer would depend on its batch."""
        if self._one_by_one:
            return 1
        return self.batch_size if isinstance(self.batch_size, int) else None

    # Where lm-eval's own fails

    @property
    def prefix_token_id(self) -> int:
        """The token that stands in for an empty context; raises InputError where there is none."""
        return require_start(self)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **kwargs: Any
    ) -> list[int]:
        if add_special_tokens is None and start_token(self) is None:
            given = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
            return list(self.tokenizer.encode(string, **given)[-(left_truncate_len or 0) :])
        return list(super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs))

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        return "" if tokens is None else str(super().tok_decode(tokens, skip_special_tokens))

    def _model_generate(self, context: Any, max_length: int, stop: list[str], **generation_kwargs: Any) -> Any:
        settings = dict(generation_kwargs)
        if settings.get("do_sample"):
            if "temperature" not in settings:
                defaults = getattr(self.model, "generation_config", None)
                settings["temperature"] = float(getattr(defaults, "temperature", None) or 1.0)
            elif not settings["temperature"]:
                settings["do_sample"], settings["temperature"] = False, 0.0
        if self.backend == "seq2seq":
            max_length = max_length - context.shape[1] + 1  # the decoder's start token
        return super()._model_generate(context, max_length, [one for one in stop if one], **settings)


def _expected(model: str, adapter: str, device: str, dtype: str, trusts: bool) -> torch.Tensor | None:
    """What an adapter makes of its base where transformers and PEFT alone load them; None where they fail."""
    try:
        return proof.alone(model, adapter, device, dtype=getattr(torch, dtype, dtype), trust_remote_code=trusts)
    except Exception:  # of whatever kind: the engine's own loading says it in one line
        return None
    finally:
        memory.give_back()
