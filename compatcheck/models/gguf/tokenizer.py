"""The tokenizer that a GGUF file describes: transformers' reading of it, corrected where it leaves metadata out.

transformers 5.19 does not look at ``add_bos_token``, ``add_eos_token`` and ``add_space_prefix``, and of the rules by
which texts are split before merging it knows some. Defaults below are llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.models.gguf.checks import WAY_OUT

_AS_GPT2 = frozenset(
    {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat", "mellum", "a.x-4.0"}
)
"""Texts are split as for GPT-2, which is what transformers does where it knows nothing else."""
_DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""As for GPT-2, after every digit was set apart."""
_WHOLE_FIRST = frozenset({"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "tekken"})
"""A piece that is a token is taken whole, whatever the merges say; all but tekken begin texts with BOS."""


def load_tokenizer(file: Path, metadata: Mapping[str, Any]) -> Any:
    """The tokenizer of a GGUF file. Raises InputError: it splits texts by a rule that is not known here."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    read = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    backend = read.backend_tokenizer
    kind = str(metadata.get("tokenizer.ggml.model"))
    if kind == "gpt2":
        _split(file, backend, str(metadata.get("tokenizer.ggml.pre", "")))
    else:
        wanted = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
        first = backend.encode("a", add_special_tokens=False).tokens[:1]
        if bool(first and first[0].startswith("\u2581")) != wanted:
            raise InputError(f"{file}: transformers does not read its add_space_prefix {wanted}; {WAY_OUT}")
    begins = kind != "gpt2" or metadata.get("tokenizer.ggml.pre") in _WHOLE_FIRST - {"tekken"}
    around = {
        "bos": bool(metadata.get("tokenizer.ggml.add_bos_token", begins)),
        "eos": bool(metadata.get("tokenizer.ggml.add_eos_token", False)),
    }
    marks = {which: (getattr(read, f"{which}_token"), getattr(read, f"{which}_token_id")) for which in around}
    for which, wanted in around.items():
        if wanted and marks[which][1] is None:
            raise InputError(f"{file}: its texts take a {which.upper()} token, and it names none")
    template = [marks["bos"][0]] * around["bos"] + ["$A"] + [marks["eos"][0]] * around["eos"]
    used = [marks[which] for which, wanted in around.items() if wanted]
    backend.post_processor = TemplateProcessing(single=template, pair=[*template, "$B"], special_tokens=used)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=read.bos_token,
        eos_token=read.eos_token,
        unk_token=read.unk_token,
        pad_token=read.pad_token,
        chat_template=metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )


def _split(file: Path, backend: Any, rule: str) -> None:
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if rule in _DIGITS_APART:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif rule not in GGUF_PRE_TOKENIZER_SPLITS and rule not in _AS_GPT2:
        raise InputError(f"{file}: how its tokenizer splits texts ('{rule}') is not known; {WAY_OUT}")
    if rule in _WHOLE_FIRST:
        backend.model.ignore_merges = True
