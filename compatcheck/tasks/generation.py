"""``--gen``: how texts are generated, over what a task says; in lm-eval's names, as its engines take them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compatcheck.errors import InputError, did_you_mean

LEFT_OUT = "left out"
"""In a signature: the server decides."""
MOST_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What the most new tokens are called, by lm-eval and by others."""
OF_SERVERS = ("tools", "response_format", "reasoning_effort")
"""Generation arguments that a model run here does not get."""


@dataclass(frozen=True)
class _Setting:
    """One key of ``--gen``: what lm-eval calls it, and what it can be."""

    name: str
    words: str
    kind: type
    least: float = -math.inf
    most: float = math.inf


_NUMBER, _WHOLE = "a number", "a whole number"
_KNOWN: Mapping[str, _Setting] = {
    "max_tokens": _Setting("max_gen_toks", f"{_WHOLE} of at least 1", int, 1),
    "temperature": _Setting("temperature", f"{_NUMBER} from 0 on", float, 0),
    "top_p": _Setting("top_p", f"{_NUMBER} from 0 to 1", float, 0, 1),
    "top_k": _Setting("top_k", f"{_WHOLE} from -1 on", int, -1),
    "min_p": _Setting("min_p", f"{_NUMBER} from 0 to 1", float, 0, 1),
    "stop": _Setting("until", "a text or a list of texts", list),
    "seed": _Setting("seed", f"{_WHOLE} from 0 on", int, 0),
    "presence_penalty": _Setting("presence_penalty", f"{_NUMBER} from -2 to 2", float, -2, 2),
    "frequency_penalty": _Setting("frequency_penalty", f"{_NUMBER} from -2 to 2", float, -2, 2),
    "repetition_penalty": _Setting("repetition_penalty", f"{_NUMBER} from 0 on", float, 0),
    "no_repeat_ngram_size": _Setting("no_repeat_ngram_size", f"{_WHOLE} from 0 on", int, 0),
    "num_beams": _Setting("num_beams", f"{_WHOLE} of at least 1", int, 1),
    "reasoning_effort": _Setting("reasoning_effort", "a text", str),
}
_ALIASES = {**dict.fromkeys(MOST_TOKENS, "max_tokens"), "until": "stop"}
_HELD = ("temperature", "seed", "max_gen_toks")
"""What an engine would send by itself: it has to know that it is left out."""
_NOT_OF: Mapping[str, tuple[str, ...]] = {
    "hf": ("presence_penalty", "frequency_penalty", "reasoning_effort"),
    "ray": ("presence_penalty", "frequency_penalty", "reasoning_effort"),
    "vllm": ("num_beams", "reasoning_effort"),
}
"""Settings that an engine does not have."""


def read_generation(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """``--gen`` in lm-eval's names; None stands for a setting that is left out. Raises InputError: a key that does not
    exist, twice the same one, or a value that it cannot have."""
    found: dict[str, Any] = {}
    for key, value in (given or {}).items():
        name = _ALIASES.get(key, key)
        if name not in _KNOWN:
            hint = did_you_mean(key, _KNOWN)
            raise InputError(
                f"--gen {key}: no such setting{hint}; there are {', '.join(_KNOWN)}; further fields of a server go "
                "into --engine-arg extra_body='{…}'"
            )
        setting = _KNOWN[name]
        if setting.name in found:
            raise InputError(f"--gen {key}: {name} is given twice")
        found[setting.name] = None if value is None or value == "none" else _read(key, setting, value)
    if found.get("temperature") is not None:
        found["do_sample"] = found["temperature"] > 0
    return found


def _read(key: str, setting: _Setting, value: Any) -> Any:
    if setting.kind is list:
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list | tuple) and all(isinstance(one, str) and one for one in texts):
            return list(texts)
    elif setting.kind is str and isinstance(value, str):
        return value
    elif isinstance(value, int | float) and not isinstance(value, bool) and setting.kind in (int, float):
        finite = -sys.float_info.max <= value <= sys.float_info.max  # also of a whole number that no float holds
        if finite and (setting.kind is float or value == int(value)) and setting.least <= value <= setting.most:
            return setting.kind(value)
    raise InputError(f"--gen {key}={value}: must be {setting.words}, or none to leave it out")


def overlaid(own: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """A task's generation arguments with those of ``--gen`` in place of them."""
    kept = dict(own or {})
    if "max_gen_toks" in given:
        kept = {name: value for name, value in kept.items() if name not in MOST_TOKENS}
    if "temperature" in given and given["temperature"] is None:
        kept.pop("do_sample", None)
    kept |= given
    return {name: value for name, value in kept.items() if value is not None or name in _HELD}


def for_local(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as a model that runs here takes them: what is left out is the engine's own default, and what only
    a server has is gone."""
    return {name: value for name, value in arguments.items() if value is not None and name not in (*OF_SERVERS, "seed")}


def seed_of(given: Mapping[str, Any] | None, otherwise: int) -> int:
    """The seed by which texts are drawn: that of ``--gen``, else ``--seed``."""
    seed = read_generation(given).get("seed")
    return otherwise if seed is None else int(seed)


def check_engine(engine: str, given: Mapping[str, Any] | None) -> None:
    """Raise InputError for a setting of ``--gen`` that an engine does not have."""
    for name, value in read_generation(given).items():
        if name in _NOT_OF.get(engine, ()) and value not in (None, 0, 0.0):
            raise InputError(
                f"--gen {name}={value}: the engine {engine} has no such setting; leave it out, or give it to the side "
                f"that has: --new-set gen.{name}={value}"
            )


def shown(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Generation arguments as a signature has them."""
    return {name: LEFT_OUT if value is None else value for name, value in arguments.items()}
