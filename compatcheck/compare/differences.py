"""What OLD and NEW differ in besides the model: prompt, decoding, engine …, from what their runs say of themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PROMPTED = ("prompt", "system prompt", "chat template", "few-shot", "few-shot examples", "few-shot turns", "seed")
"""Names of what changes the text that a model is given."""
PRECISION = "precision"
"""Of what differs this is shown with its values."""
_NAMES = {
    "prompt": "prompt", "system": "system prompt", "chat_template": "chat template", "num_fewshot": "few-shot",
    "examples": "few-shot examples",
    "fewshot_as_multiturn": "few-shot turns", "filters": "filters", "extract": "--extract",
    "prediction_field": "--prediction-field", "scoring": "scoring",
    "repeats": "samples per document", "version": "task version", "task_file": "task file", "split": "split",
    "limit": "choice of documents", "seed": "seed", "data": "data", "engine": "engine", "dtype": "dtype",
    "device": "device", "batch_size": "batch size", "output_type": "kind of task", "documents": "number of documents",
    "revision": "engine version", "rows": "targets or fields of the prompts",
}  # fmt: skip
_ESSENTIAL = {"prompt": "prompt", "generation": "decoding", "engine": "engine", "dtype": "dtype"}
"""What a run should say of itself: where one does not, nobody knows whether it differs."""
_OPTIONAL = frozenset(
    {"system", "chat_template", "fewshot_as_multiturn", "extract", "prediction_field", "repeats", "limit"}
)  # fmt: skip
"""Settings that are absent where there are none, in a run that says everything that matters: one with a prompt."""
_COVERED = ("prompt", "generation", "filters", "scoring", "num_fewshot", "output_type", "fewshot_as_multiturn")
"""Where one of these differs, that the task's file differs says nothing more."""


@dataclass(frozen=True)
class Difference:
    """One setting with its value on both sides, as text."""

    name: str
    old: str
    new: str

    @property
    def shown(self) -> str:
        """The name, and of the precision what it is."""
        return f"{self.name} ({self.old} → {self.new})" if self.name == PRECISION else self.name


@dataclass(frozen=True)
class Differences:
    """What differs besides the model, and what is not known of one side or both."""

    found: tuple[Difference, ...] = field(default=(), metadata={"name": "in"})
    unknown: tuple[str, ...] = ()
    same: bool = False
    """OLD and NEW are one model, or one file (``--allow-same``)."""

    @property
    def sentence(self) -> str:
        """What a report says of it in its head."""
        names, unknown = ", ".join(each.shown for each in self.found), ", ".join(self.unknown)
        unsaid = f"; not known: {unknown}" if unknown else ""
        if names:
            return f"OLD and NEW differ in: {names}{unsaid}"
        if self.same:
            return f"OLD and NEW are the same{', as far as is known' if unsaid else ''}{unsaid}"
        if len(self.unknown) == len(_ESSENTIAL):
            return f"not recorded how OLD and NEW were made: {unknown} may differ"
        return f"OLD and NEW differ in the model alone{', as far as is known' if unsaid else ''}{unsaid}"

    def with_precision(self, old: str | None, new: str | None) -> Differences:
        """With how the weights of both models are kept, where that is known and differs."""
        if old is None or new is None or old == new:
            return self
        return replace(self, found=(*self.found, Difference(PRECISION, old, new)))

    @property
    def of_prompts(self) -> bool:
        """Whether the models were given different texts."""
        return any(each.name in PROMPTED for each in self.found)


def with_engine(run: Any) -> Any:
    """A run, in memory or streamed, with what its manifest says of the engine among the settings of each task."""
    about = run.manifest.engine
    known = {name: about[name] for name in ("engine", "revision", "dtype", "device") if about.get(name)}
    if "device" in known:
        known["device"] = str(known["device"]).partition(":")[0]
    known |= {name: dict(about[name]) for name in ("versions", "arguments") if about.get(name)}
    compared = dict(about.get("settings") or {})  # of speed, where they are what is compared
    known |= {name: compared.pop(name) for name in ("batch_size", "device") if name in compared}
    if compared:
        known["arguments"] = {**compared, **known.get("arguments", {})}
    return replace(run, tasks=tuple(replace(one, settings={**known, **one.settings}) for one in run.tasks))


def differences(pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Differences:
    """What differs in any of the pairs of settings, of OLD and of NEW on one task."""
    found: dict[str, Difference] = {}
    unknown: dict[str, None] = {}
    for old, new in pairs:
        for one in _of_pair(old, new):
            found.setdefault(one.name, one)
        for name, label in _ESSENTIAL.items():
            said = [side.get(name) is not None for side in (old, new)]
            if name == "generation":
                said = ["prompt" in side or name in side for side in (old, new)]
            if not all(said):
                unknown[label] = None
    return Differences(tuple(found.values()), tuple(unknown))


def _of_pair(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    whole = ["prompt" in side for side in (old, new)]
    one, other = _flat(old), _flat(new)
    for name in dict.fromkeys([*_NAMES, *one, *other]):
        if name == "seed" and not any(side.get("num_fewshot") or _samples(side) for side in (old, new)):
            continue
        lacking = (name not in one) + (name not in other)
        may_lack = (name == "extract" and not any(whole)) or (
            all(whole) and (name in _OPTIONAL or (name not in _NAMES and not name.startswith("version of ")))
        )
        if lacking == 2 or (lacking and not may_lack):
            continue
        if name == "task_file" and any(old.get(key) != new.get(key) for key in _COVERED):
            continue
        values = one.get(name), other.get(name)
        if values[0] != values[1]:
            shown = ["none" if value is None else value if isinstance(value, str) else as_json(value)
                     for value in values]  # fmt: skip
            yield Difference(_NAMES.get(name, name), *shown)


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, generation arguments and versions each by its own; greedy decoding is left out."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name == "generation":
            greedy = {"do_sample": False, "temperature": 0}
            flat |= {key: one for key, one in value.items() if key not in greedy or one != greedy[key]}
        elif name == "versions":
            flat |= {f"version of {package}": version for package, version in value.items()}
        elif name == "arguments":
            flat |= {f"engine argument {key}": one for key, one in value.items()}
        elif value is not None and value is not False:
            flat[name] = value
    return flat


def _samples(settings: Mapping[str, Any]) -> bool:
    generation = settings.get("generation") or {}
    return bool(generation.get("do_sample") or generation.get("temperature"))


def as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
