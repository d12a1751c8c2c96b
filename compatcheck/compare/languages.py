"""The script that a text is written in, and for a few languages in Latin script which one, by their commonest words."""

from __future__ import annotations

import re
from collections import Counter

_SCRIPTS = (
    ("Latin", "A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff"), ("Greek", "\u0370-\u03ff\u1f00-\u1fff"),
    ("Cyrillic", "\u0400-\u052f"), ("Hebrew", "\u0590-\u05ff"), ("Arabic", "\u0600-\u06ff\u0750-\u077f"),
    ("Indic", "\u0900-\u0dff"), ("Thai", "\u0e00-\u0eff"), ("Georgian or Armenian", "\u0530-\u058f\u10a0-\u10ff"),
    ("Ethiopic", "\u1200-\u137f"), ("Hangul", "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"),
    ("Kana", "\u3040-\u30ff"), ("Han", "\u3400-\u4dbf\u4e00-\u9fff"),
)  # fmt: skip
_PATTERNS = [(name, re.compile(f"[{letters}]")) for name, letters in _SCRIPTS]
_ASCII = re.compile(r"[A-Za-z]")
_LEAST = 3
_WORDS = {
    "English": "the and of is are was were with that this for it you not from have his they to in will some after by",
    "German": "der die das und ist nicht ein eine mit den zu von auf für ich sie wir wird dass sich dem auch es im hat",
    "French": "le les des est une dans pour que qui pas avec sur au du il elle nous vous et la un ce sont cette a",
    "Spanish": "el los las es una por que con para del se su en y no lo al la un son como está más pero",
    "Italian": "il gli è una per che con del della di non sono e un la nel si al dei più come ha",
    "Portuguese": "o os as é uma por que com para do da em não e um se na no dos mais como ao foi",
    "Dutch": "de het een en van is niet met op voor dat zijn te die er aan ook ik je wordt",
    "Polish": "i w nie na się jest z że do to jak po co ale za od przez są",
    "Turkish": "ve bir bu için de da ile olarak çok daha ne var ama gibi en",
}
_OF = {name: frozenset(words.split()) for name, words in _WORDS.items()}


def script(text: str) -> str | None:
    """The script of more than half of the letters; Japanese for any part of it in kana. None where letters are few."""
    if text.isascii():
        return "Latin" if len(_ASCII.findall(text)) >= _LEAST else None
    counts = Counter({name: len(pattern.findall(text)) for name, pattern in _PATTERNS})
    total = sum(counts.values())
    if counts["Kana"] and counts["Kana"] + counts["Han"] > total / 2:
        return "Japanese"
    name, most = counts.most_common(1)[0]
    return name if most > total / 2 and total >= (_LEAST if name not in ("Han", "Hangul") else 1) else None


def language(text: str) -> str | None:
    """The language whose commonest words a text holds clearly more of than of any other's; None where that is open.

    Code, and words of one letter, say nothing of it.
    """
    words = re.findall(
        r"[^\W\d_]{2,}", re.sub(r"```.*?(?:```|\Z)|`[^`]*`|\S+@\S+|https?:\S+", " ", text, flags=re.DOTALL).casefold()
    )
    if len(words) < _LEAST:
        return None
    counts = Counter({name: sum(word in common for word in words) for name, common in _OF.items()})
    (first, most), (_, second) = counts.most_common(2)
    return first if most >= _LEAST and most >= second + 2 and most >= 1.4 * second and most >= len(words) / 8 else None
