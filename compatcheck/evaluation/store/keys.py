"""What an answer is filed under: the model, the engine, the request and the decoding, by content."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from compatcheck.engines.answers import Generated
from compatcheck.text import clean_surrogates

KEY_BYTES = 20
_SURROGATE = re.compile("[\ud800-\udfff]")


def model_key(fingerprint: str, identity: Mapping[str, Any]) -> str:
    """One text (hexadecimal) for a model's content and everything of the engine that bears on its outputs."""
    text = json.dumps([fingerprint, identity], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()


def request_digest(kind: str, arguments: Sequence[Any]) -> bytes | None:
    """Digest of what is asked: the kind, the texts, the decoding settings; None for what cannot be written down.

    Decoding settings are part of the arguments of a request to generate. Images are taken by their content."""
    try:
        text = json.dumps([kind, *arguments], sort_keys=True)
    except TypeError:
        from lm_eval.api.model import hash_args

        try:
            text = str(hash_args(kind, arguments))
        except TypeError:
            return None
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


def is_sampled(kind: str, arguments: Sequence[Any]) -> bool:
    """Whether the answer is drawn at random. A temperature counts even where ``do_sample`` is false: engines differ."""
    return kind == "generate_until" and len(arguments) > 1 and asks_to_sample(arguments[1])


def asks_to_sample(settings: Any) -> bool:
    """Whether settings, or settings within them, ask for random answers."""
    if not isinstance(settings, Mapping):
        return False
    if settings.get("do_sample") or settings.get("temperature") or settings.get("temperature", 0) is None:
        return True  # a server that is told no temperature takes its own
    return any(asks_to_sample(value) for value in settings.values())


class Draws:
    """Counts how often one run asked a model for a random answer to the same request.

    The n-th draw is filed as the n-th draw, so repeats stay distinct, a model compared with itself is drawn twice, and
    the same run made again finds all of its draws."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, bytes]] = Counter()

    @property
    def any(self) -> bool:
        """Whether a random answer was asked for at all."""
        return bool(self._seen)

    def next(self, model: str, digest: bytes) -> int:
        number = self._seen[model, digest]
        self._seen[model, digest] += 1
        return number


def answer_key(model: str, digest: bytes, draw: int | None = None, seed: int = 0) -> bytes:
    """Key of one answer. ``draw`` is the number of a random answer, which depends on ``seed`` too."""
    hashed = hashlib.blake2b(bytes.fromhex(model), digest_size=KEY_BYTES)
    hashed.update(digest)
    if draw is not None:
        hashed.update(f"|{seed}|{draw}".encode())
    return hashed.digest()


def well_formed(answer: Any) -> Any:
    """A text without halves of surrogate pairs, which no file can hold: two make their character, one U+FFFD."""
    if not isinstance(answer, str) or not _SURROGATE.search(answer):
        return answer
    text = clean_surrogates(answer)
    return Generated.of(text, answer.about) if isinstance(answer, Generated) else text


def encode(kind: str, answer: Any) -> str | None:
    """An answer as text; None for what is no proper answer (not a number, of another type) and must not be kept."""
    if kind == "generate_until":
        known = answer.about.known if isinstance(answer, Generated) else {}
        return json.dumps({"text": answer, **known} if known else answer) if isinstance(answer, str) else None
    try:
        if kind == "loglikelihood":
            value, greedy = answer
            number = float(value)
            return None if math.isnan(number) else json.dumps([number, bool(greedy)])
        number = float(answer)
        return None if math.isnan(number) else json.dumps(number)
    except (TypeError, ValueError):
        return None


def decode(kind: str, text: str) -> Any:
    """The answer that :func:`encode` wrote, as the engine gave it. Raises ValueError: the text is none of an answer of
    this kind."""
    value = json.loads(text)
    if kind == "generate_until" and isinstance(value, str):
        return well_formed(value)
    if kind == "generate_until" and isinstance(value, dict) and isinstance(value.get("text"), str):
        return Generated(well_formed(value.pop("text")), **value)
    if kind == "loglikelihood" and isinstance(value, list) and len(value) == 2:
        return float(value[0]), bool(value[1])
    if kind == "loglikelihood_rolling" and isinstance(value, float):
        return value
    raise ValueError(f"no answer of kind {kind}")


def checksum(key: bytes, text: str) -> bytes:
    """Tells a damaged row, or one that belongs to another key."""
    return hashlib.blake2b(key + text.encode(), digest_size=8).digest()
