"""Where lm-eval's ``hf`` backend fails or does what was not asked for; everything else of it is left as it is.

- A tokenizer with neither a BOS nor an EOS token: it decodes a token that is not there, and stops.
- Sampling at temperature 0, or at none: transformers refuses the temperature 0 that it is handed. Zero means greedy
  decoding, as vLLM takes it; none means that of the model's generation defaults.
- Encoder-decoders: ``max_gen_toks`` is added to the length of the longest prompt of the batch, although the prompt is
  not part of what the decoder writes. A text could be longer than asked for, and depended on its batch.
"""

from __future__ import annotations

from typing import Any

from lm_eval.models.huggingface import HFLM

from compatcheck.engines.hf.encoding import require_start, start_token


class MendedHFLM(HFLM):
    """lm-eval's ``hf`` backend, mended as the module says."""

    @property
    def prefix_token_id(self) -> int:
        """The token that stands in for an empty context.

        Raises:
            InputError: there is none.
        """
        return require_start(self)

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **kwargs: Any,
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
