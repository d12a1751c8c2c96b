"""Seeded damage to values, texts and files: what editors, converters, disks, copy-and-paste and ill will do to them."""

from __future__ import annotations

import bz2
import copy
import gzip
import json
import lzma
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 7, 2**31, 2**53 + 1, 2**63, 10**30, -(10**30), 10**400, 0.5, -2.5, 1e308,
    5e-324, -0.0, float("nan"), float("inf"), float("-inf"), "", " ", "x", "12", "nan", "\0", "a\0b", "\ud800",
    "\udfff\ud800",
    "é" * 300, "\u202eabc", "\x1b[31mred\x07", "::error::x", "<script>alert(1)</script>", "![x](http://127.0.0.1:9/x)",
    "=1+1", "@everyone", "{{", "{task}", "%s%n", "a\nb\r\nc\u2028d", "x" * 20_000, "ﬃ", "0" * 500, "float16",
    "torch.int8", "../..", "../../x", "/dev/null", "/", "~nouser", "~", "n" * 255, "n" * 256, "con", ".", "http://[",
    [], [1], [None], ["a", "b"], [[[]]], [{}], {}, {"a": 1}, {"": None}, {"\ud800": 1}, {"a": {"b": {"c": [1, "x"]}}},
)  # fmt: skip
"""Values put in place of others."""
Place = tuple[Any, ...]
Change = Callable[[Any, random.Random], str]


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Every place in a value of objects and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*here, key)
        yield from places(item, (*here, key))


def pick(document: Any, rng: random.Random) -> Place:
    """A place, at the top as often as below: the vocabulary of a tokenizer has thousands of them."""
    every = list(places(document))
    if not every:
        raise Nowhere
    depth = rng.choice(sorted({len(place) for place in every}))
    return rng.choice([place for place in every if len(place) == depth])


class Nowhere(Exception):
    """There is no place for this damage."""


def parent(document: Any, place: Place) -> Any:
    """What holds the place."""
    for key in place[:-1]:
        document = document[key]
    return document


def other_value(document: Any, rng: random.Random) -> str:
    place, value = pick(document, rng), copy.deepcopy(rng.choice(ODD))  # later changes may be within it
    parent(document, place)[place[-1]] = value
    return f"{place} = {str(value)[:40]!r}"


def taken_away(document: Any, rng: random.Random) -> str:
    place = pick(document, rng)
    del parent(document, place)[place[-1]]
    return f"{place} taken away"


def wrapped(document: Any, rng: random.Random) -> str:
    place = pick(document, rng)
    inside = parent(document, place)
    inside[place[-1]] = rng.choice([lambda v: [v], lambda v: {"value": v}, str, repr])(inside[place[-1]])
    return f"{place} wrapped"


def swapped(document: Any, rng: random.Random) -> str:
    """Two values in one object or list change places."""
    inside = parent(document, pick(document, rng))
    keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
    if len(keys) < 2:
        raise Nowhere
    one, two = rng.sample(keys, 2)
    inside[one], inside[two] = inside[two], inside[one]
    return f"{one} and {two} swapped"


def renamed(document: Any, rng: random.Random) -> str:
    named = [place for place in places(document) if isinstance(parent(document, place), dict)]
    if not named:
        raise Nowhere
    place = rng.choice(named)
    inside, old = parent(document, place), place[-1]
    new = rng.choice(
        [old.upper(), f"{old} ", f"_{old}", "", "id", "score", "k" * 255, "a.b", "\0", "\ud800", "prediction"]
    )
    inside[new] = inside.pop(old)
    return f"{place} named {new[:20]!r}"


def repeated(document: Any, rng: random.Random) -> str:
    """An item of a list is there again, or many times."""
    inside = parent(document, pick(document, rng))
    if not isinstance(inside, list) or not inside:
        raise Nowhere
    item, times = rng.choice(inside), rng.choice([1, 1, 2, 50])
    inside.extend(json.loads(json.dumps(item)) for _ in range(times))
    return f"an item {times} times more"


def nested(document: Any, rng: random.Random) -> str:
    place, depth = pick(document, rng), rng.choice([3, 20, 60, 200])
    value: Any = 1
    for _ in range(depth):
        value = [value] if rng.random() < 0.5 else {"a": value}
    parent(document, place)[place[-1]] = value
    return f"{place} {depth} levels deep"


def other_text(document: Any, rng: random.Random) -> str:
    """A text, or another scalar, becomes an odd text: what a model may say anywhere."""
    scalars = [place for place in places(document) if not isinstance(parent(document, place)[place[-1]], dict | list)]
    if not scalars:
        raise Nowhere
    place, value = rng.choice(scalars), rng.choice([value for value in ODD if isinstance(value, str)])
    parent(document, place)[place[-1]] = value
    return f"{place} = {value[:40]!r}"


VALUES: tuple[Change, ...] = (
    other_value, other_value, other_value, other_value, taken_away, taken_away, wrapped, swapped, renamed, repeated,
    nested,
)  # fmt: skip


def damage_value(document: Any, rng: random.Random, kinds: Sequence[Change] = VALUES) -> str:
    """One change somewhere in a value of objects and lists; returns what was done, in words."""
    for _ in range(5):
        try:
            return rng.choice(kinds)(document, rng)
        except Nowhere:
            continue
    return "nothing"


# Files


def cut_off(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    size = rng.choice([0, 1, 7, rng.randrange(len(content) or 1), max(len(content) - 1, 0)])
    path.write_bytes(content[:size])
    return f"cut off after {size} bytes"


def other_bytes(path: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes() or b" ")
    end = rng.choice([len(content), min(len(content), 2_000)])  # headers, and the beginnings of texts
    for _ in range(rng.choice([1, 4, 40])):
        content[rng.randrange(end)] = rng.choice([0, 0x22, 0x2C, 0x7D, 0x80, 0xFF, rng.randrange(256)])
    path.write_bytes(bytes(content))
    return "bytes changed"


def nul_inside(path: Path, rng: random.Random) -> str:
    content = path.read_bytes() or b" "
    at = rng.randrange(len(content))
    path.write_bytes(content[:at] + bytes(rng.choice([1, 100])) + content[at:])
    return "NUL bytes inside"


def encoded(path: Path, rng: random.Random) -> str:
    name = rng.choice(["utf-16", "utf-8-sig", "utf-32", "latin-1", "utf-7"])
    path.write_bytes(path.read_bytes().decode("utf-8", "replace").encode(name, "replace"))
    return name


def no_file(path: Path, rng: random.Random) -> str:
    path.unlink()
    kind = rng.choice(["missing", "a folder", "a broken link", "a link to itself"])
    if kind == "a folder":
        path.mkdir()
    elif kind != "missing":
        path.symlink_to("nowhere" if kind == "a broken link" else path.name)
    return kind


def packed(path: Path, rng: random.Random) -> str:
    content = path.read_bytes()
    kinds: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
        "gzip twice": lambda b: gzip.compress(gzip.compress(b)),
        "two gzip streams": lambda b: gzip.compress(b[: len(b) // 2]) + gzip.compress(b[len(b) // 2 :]),
        "gzip and rubbish": lambda b: gzip.compress(b) + b"rubbish",
        "half a gzip stream": lambda b: gzip.compress(b)[: len(b) // 4],
    }  # fmt: skip
    kind = rng.choice(list(kinds))
    path.write_bytes(kinds[kind](content))
    return kind


FILES: tuple[Callable[[Path, random.Random], str], ...] = (cut_off, other_bytes, nul_inside, encoded, no_file)
"""Damage to any file."""


def _deep(text: str, rng: random.Random) -> str:
    depth = rng.choice([50, 1_000, 5_000, 100_000])
    opened, closed = rng.choice([("[", "]"), ('{"a":', "}")])
    return rng.choice(["", text[: len(text) // 2]]) + opened * depth + "1" + closed * depth


def _long_number(text: str, rng: random.Random) -> str:
    return re.sub(r"\b\d+\b", "9" * rng.choice([25, 400, 5_000]), text, count=rng.choice([1, 3]))


def _line_ends(text: str, rng: random.Random) -> str:
    return text.replace("\n", rng.choice(["\r\n", "\r", "\n\n", "\u2028", " \n", "\n\t"]))


def _lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    where = rng.randrange(len(lines))
    new = rng.choice(
        [[], [lines[where]] * 3, ["\n"], ["null\n"], ["{}\n"], ["[]\n"], ["NaN\n"], ["x" * 100_000 + "\n"], [lines[0]]]
    )
    return "".join([*lines[:where], *new, *lines[where + rng.choice([0, 1]) :]])


def _twice(text: str, rng: random.Random) -> str:
    """A key that stands twice in its object."""
    keys = list(re.finditer(r'"(\w+)": ?', text))
    if not keys:
        return text
    key = rng.choice(keys)
    return text[: key.start()] + f'"{key[1]}": {rng.choice(["null", "3", "[]", chr(34) * 2])}, ' + text[key.start() :]


def _spliced(text: str, rng: random.Random) -> str:
    """A piece of the text is taken from elsewhere in it."""
    one, two = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    at = rng.randrange(len(text) + 1)
    return text[:at] + text[one : min(two, one + 200)] + text[at + rng.choice([0, 1, 40]) :]


def _whole(text: str, rng: random.Random) -> str:
    return rng.choice(["null", "[]", "{}", "3", '"text"', "true", "[{}]", "NaN", "", "\n", "[[]]", "-", "{", "---"])


TEXTS: tuple[Callable[[str, random.Random], str], ...] = (
    _deep, _long_number, _line_ends, _lines, _lines, _twice, _spliced, _spliced, _whole
)  # fmt: skip


def damage_text(path: Path, rng: random.Random) -> str:
    """One change to a file of text."""
    change = rng.choice(TEXTS)
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    path.write_bytes(change(text, rng).encode("utf-8", "surrogateescape"))
    return change.__name__.strip("_").replace("_", " ")


def damage_file(path: Path, rng: random.Random) -> str:
    """One change to a file of any kind; nothing where it is not there (any more)."""
    if not path.is_file():
        return "no file"
    binary = path.suffix in (".parquet", ".arrow", ".eval", ".gz", ".safetensors", ".db", ".sqlite")
    kinds = [cut_off, other_bytes, other_bytes, nul_inside, no_file, packed]
    kinds += [] if binary else [damage_text] * 8 + [encoded] * 2
    return rng.choice(kinds)(path, rng)
