"""A model as the transformers engine holds it: loaded by lm-eval's ``hf`` backend, adapters put on, and proven.

lm-eval ties embeddings again after it has put an adapter on, and cuts them to the tokenizer; so here adapters come on
when its own loading is done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from compatcheck.engines import settings
from compatcheck.engines.hf import memory, proof
from compatcheck.engines.hf.finite import not_finite
from compatcheck.engines.hf.loading import LOAD_ERRORS, Adapters, Checked, listening, without_bars
from compatcheck.engines.hf.mended import MendedHFLM
from compatcheck.engines.progress import Progress, SilentProgress
from compatcheck.errors import InputError, one_line
from compatcheck.models import kind_of

_log = logging.getLogger(__name__)


class HFModel(MendedHFLM):
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
        self._said: set[str] = set()
        self._one_by_one = False
        self.failures: dict[tuple[Any, Any], str] = {}
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if dtype == "auto" and device == "cpu":
            dtype = "float32"
            self._note("On the CPU the weights are computed in float32 (--dtype auto).")
        if device == "cpu":
            memory.keep_freed_memory()
        torch.manual_seed(seed)
        special = next((str(one) for one in self._folders.values() if not kind_of(Path(one)).plain), None)
        expected = self._alone(model, special, dtype, device, trust_remote_code, engine_args or {})
        arguments = dict(engine_args or {})
        self._unused = bool(arguments.pop("unused_weights", False))
        try:
            with without_bars(), listening(self.notes):
                super().__init__(
                    pretrained=str(model), device=device, dtype=dtype, trust_remote_code=trust_remote_code,
                    batch_size=settings.batch_size(batch_size) or "auto", **arguments,
                )  # fmt: skip
        except LOAD_ERRORS as error:
            raise InputError(f"{model}: cannot be loaded: {one_line(error)}") from error
        self._adapters = Adapters(self._model, self._folders, self.notes)
        self._model = self._adapters.model
        self._rows = self._adapters.base.get_input_embeddings().weight.shape[0]
        if (self.tokenizer.pad_token_id or 0) >= self._rows:
            self.tokenizer.pad_token_id = self.tokenizer.eos_token_id or 0
        damaged = not_finite(self._adapters.model)
        if damaged:
            self._note(
                f"{model}: {len(damaged)} of the weights loaded with it hold NaN or infinity ({damaged[0]} …): what is "
                "computed with them means nothing."
            )
        if special is not None and expected is None:
            self._note(
                f"{special}: not compared with transformers and PEFT alone: they failed to load it plainly, or engine "
                "arguments ask for another way of loading."
            )
        if special is not None and self.backend == "causal":
            self._prove(special, expected)

    def _alone(
        self,
        model: str | Path,
        folder: str | None,
        dtype: str,
        device: str,
        trusted: bool,
        arguments: Mapping[str, Any],
    ) -> torch.Tensor | None:
        """What the adapter makes of its base where transformers and PEFT alone load them; None where they fail."""
        if folder is None or arguments.keys() - {"tokenizer", "max_length", "add_bos_token"}:
            return None
        try:
            kwargs = {"dtype": getattr(torch, dtype, dtype), "trust_remote_code": trusted}
            return proof.alone(model, folder, device, **kwargs)
        except Exception:  # of whatever kind: the engine's own loading says it in one line
            return None
        finally:
            memory.give_back()

    def _prove(self, folder: str, expected: torch.Tensor | None) -> None:
        dtype = str(self._model.dtype).removeprefix("torch.")
        try:
            found = proof.probe(self._model, folder)
            self._one_by_one = proof.depends_on_batch(self._model)
        except Exception as error:  # multitask prompts and Poly want to be told the task of every text
            raise InputError(f"{folder}: the model cannot be called with this adapter: {one_line(error)}") from error
        if self._one_by_one:
            self._note(f"{folder}: its answers depend on the texts beside them in a batch: batches are of one text.")
        if expected is not None:
            proof.check_same(folder, expected, found, "loaded by lm-eval", dtype)

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        auto_class: Any = self.AUTO_MODEL_CLASS  # type: ignore[has-type]
        self.AUTO_MODEL_CLASS = Checked(auto_class, pretrained, self._note if self._unused else None)
        try:
            super()._create_model(pretrained, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = auto_class

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
        self._model = self._adapters = None
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
    def _most(self) -> int | None:
        """The user's batch size, or None for auto; one where a text's answer would depend on its batch."""
        if self._one_by_one:
            return 1
        return self.batch_size if isinstance(self.batch_size, int) else None

    @property
    def _adapter_base(self) -> Any:
        assert self._adapters is not None
        return self._adapters.base
