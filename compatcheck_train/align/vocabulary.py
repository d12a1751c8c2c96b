"""What each token of a fast tokenizer stands for, as bytes of UTF-8."""

from __future__ import annotations

import json
import re
from typing import Any

from compatcheck.errors import InputError

_WITHOUT_SPACES = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_alphabet() -> dict[str, int]:
    """The printable sign that byte-level tokenizers write for each byte: itself where it prints, else from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(plain))
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


class Vocabulary:
    """The tokens of a tokenizer as bytes, in its own conventions read from its decoder.

    Byte-level (GPT-2's alphabet), SentencePiece's sign for a space with or without byte fallback, WordPiece's prefix of
    a continued word, a suffix at a word's end (there a word's space is not part of a token). Special tokens that a
    tokenizer puts around a text stand for no bytes. Raises InputError: the tokenizer is not a fast one."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
            raise InputError(f"{name}: the tokenizer is not a fast one (no tokenizer.json), so it cannot be aligned")
        self.tokenizer = tokenizer
        self.eos: int | None = tokenizer.eos_token_id
        self.bos: int | None = tokenizer.bos_token_id
        self._added = {int(number): token for number, token in tokenizer.added_tokens_decoder.items()}
        decoder, splitter = _parts(backend.decoder), _parts(backend.pre_tokenizer)
        parts = decoder or splitter
        found = {part["type"]: part for part in parts}
        self._alphabet = _byte_alphabet() if "ByteLevel" in found else None
        self._fallback = "ByteFallback" in found
        self._continued: str | None = found.get("WordPiece", {}).get("prefix")
        self._suffix: str | None = found.get("BPEDecoder", {}).get("suffix")
        self._space: str | None = found.get("Metaspace", {}).get("replacement")
        for part in parts:
            if part["type"] == "Replace" and part["content"] == " ":
                self._space = part["pattern"].get("String")
        with_spaces = self._alphabet is not None or self._space is not None or self._suffix is not None
        self._drops_spaces = not with_spaces and any(part["type"] in _WITHOUT_SPACES for part in splitter)
        self._known: dict[int, bytes] = {}

    def special(self, number: int) -> bool:
        """Whether it is a special token (start, end, padding, unknown)."""
        return number in self._added and bool(self._added[number].special)

    def added(self, number: int) -> bool:
        """Whether it was added to the vocabulary, and so is looked for in the text before it is split."""
        return number in self._added

    def unknown(self, number: int) -> bool:
        """Whether it is the token for what the vocabulary does not know."""
        return number == self.tokenizer.unk_token_id

    def bytes_of(self, number: int) -> bytes:
        """The bytes that a token stands for; those of its own text for an added token."""
        if number not in self._known:
            self._known[number] = self._make(number)
        return self._known[number]

    def _make(self, number: int) -> bytes:
        if number in self._added:
            return self._added[number].content.encode()
        text = self.tokenizer.convert_ids_to_tokens(number)
        if text is None:
            return b""
        if self._fallback and (match := _BYTE.fullmatch(text)):
            return bytes([int(match[1], 16)])
        if self._alphabet is not None:
            values = [self._alphabet.get(sign) for sign in text]
            if None not in values:
                return bytes(values)  # type: ignore[arg-type]
        text = text.replace(self._space, " ") if self._space else text
        return text.removeprefix(self._continued or "").removesuffix(self._suffix or "").encode()

    def event(self, number: int) -> bytes:
        """The bytes by which tokens of two vocabularies are matched: as :meth:`bytes_of`, and where the space of a word
        is part of no token, with that space on a token that begins a word."""
        made = self.bytes_of(number)
        if self._drops_spaces and number not in self._added:
            text = self.tokenizer.convert_ids_to_tokens(number)
            if text[:1].isalnum() and not (self._continued and text.startswith(self._continued)):
                return b" " + made
        return made

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and character offsets of a text, with the special tokens that the tokenizer adds by itself."""
        given = self.tokenizer(text, return_offsets_mapping=True)
        return given["input_ids"], given["offset_mapping"]

    def __len__(self) -> int:
        return len(self.tokenizer)


def _parts(component: Any) -> list[dict[str, Any]]:
    """The steps of a tokenizer's component as JSON, sequences opened."""
    if component is None:
        return []
    state = json.loads(component.__getstate__())
    if state["type"] == "Sequence":
        return list(state.get("decoders") or state.get("pretokenizers") or [])
    return [state]
