"""BERTScore: how well the words of two texts match in an encoder's embedding space, as bert-score computes it."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compatcheck.errors import InputError, one_line, require
from compatcheck.paths import user_path
from compatcheck.similarity.base import References, Scorer, scorer, several
from compatcheck.version import installed

DEFAULT_MODEL = "roberta-large"
"""bert-score's own default encoder for English."""


def _unusable(model_type: str, error: Exception) -> InputError:
    return InputError(
        f"BERTScore's encoder '{model_type}' cannot be loaded ({one_line(error)}); download it first or name the "
        "folder of a local encoder"
    )


@lru_cache(maxsize=1)
def _encoder(model_type: str, num_layers: int | None, batch_size: int) -> Any:
    from bert_score import BERTScorer
    from transformers.utils import logging

    if not Path(model_type).is_dir():  # at once where it is neither cached nor on the hub: loading would retry for long
        from huggingface_hub import HfApi, try_to_load_from_cache

        try:
            if not isinstance(try_to_load_from_cache(model_type, "config.json"), str):
                HfApi().model_info(model_type, timeout=10)
        except Exception as error:  # the hub client raises many kinds: no network, no such model, offline mode
            raise _unusable(model_type, error) from None
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # the pooler, which is not used, would be reported as newly initialised
    logging.disable_progress_bar()
    try:
        return BERTScorer(model_type=model_type, num_layers=num_layers, batch_size=batch_size)
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(model_type, error) from None
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@scorer("bertscore")
def bertscore(
    name: str, model_type: str = DEFAULT_MODEL, num_layers: int | None = None, batch_size: int = 64
) -> Scorer:
    """BERTScore F1, not rescaled, without idf weights.

    ``model_type`` is a hub name or the folder of an encoder; ``num_layers`` the layer whose embeddings are used
    (default: bert-score's choice for encoders it knows, else the last). An empty text scores 0.
    """
    folder = user_path(model_type)
    local = folder.is_dir()
    for option, value in (("num_layers", num_layers), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise InputError(f"--metric-arg {name}.{option}={value}: must be at least 1")
    require("bertscore", "bert_score")
    if local and num_layers is None:
        config = folder / "config.json"
        try:
            num_layers = int(json.loads(config.read_text(encoding="utf-8"))["num_hidden_layers"])
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"{config}: BERTScore needs an encoder folder with a config.json that has num_hidden_layers"
            ) from None
    model_type = str(folder) if local else model_type

    def score(predictions: list[str], targets: list[References]) -> NDArray[np.float64]:
        # An empty text has no words to match: 0, as bert-score says; its own code for that case needs an older
        # transformers.
        pairs = [
            (row, text, one)
            for row, (text, right) in enumerate(zip(predictions, targets, strict=True))
            for one in several(right)
            if text.strip() and one.strip()
        ]
        scores = np.zeros(len(predictions), dtype=np.float64)
        if pairs:
            rows, texts, references = zip(*pairs, strict=True)
            _, _, f1 = _encoder(model_type, num_layers, batch_size).score(list(texts), list(references))
            best = np.full(len(predictions), -np.inf)
            np.maximum.at(best, list(rows), f1.double().numpy())
            scores = np.where(np.isfinite(best), best, 0.0)
        return scores

    shown = folder.name if local else model_type
    layer = f"layer:{num_layers}" if num_layers else "layer:default"
    return Scorer(name, "smooth", f"bertscore|f1|{shown}|{layer}|idf:no|bert-score {installed('bert-score')}", score)
