"""What a reader of figures should know of two models that were not run alike: template, tokens, context, precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compatcheck.records import Run


def remarks(old: Run, new: Run) -> list[str]:
    """A sentence for each way in which the sides cannot be held against each other without more ado.

    Only what both sides say of themselves counts.
    """
    settings = [_settings(run) for run in (old, new)]
    engines = [run.manifest.engine for run in (old, new)]
    tokens = [engine.get("tokenizer") or {} for engine in engines]
    known = all("prompt" in each for each in settings)
    generates = any(each.get("generation") for each in settings)
    return [
        *(_template(*(each.get("chat_template") for each in settings)) if known else ()),
        *_special_tokens(*tokens),
        *_vocabulary(tokens[0].get("tokens"), tokens[1].get("tokens"), generates),
        *_context(*(_most_read(engine) for engine in engines)),
        *_precision(*(engine.get("dtype") for engine in engines)),
    ]


def _settings(run: Run) -> dict[str, Any]:
    """Of all tasks together; where one has a setting, the side has it."""
    found: dict[str, Any] = {}
    for task in run.tasks:
        found = {**found, **task.settings}
    return found


def _most_read(engine: Mapping[str, Any]) -> int | None:
    length = engine.get("max_length") or (engine.get("server") or {}).get("max_model_len")
    return length if isinstance(length, int) else None


def _template(old: str | None, new: str | None) -> Iterator[str]:
    if bool(old) != bool(new):
        yield f"the prompts of {'NEW' if new else 'OLD'} alone are put into a chat template"
    elif old != new:
        yield "each model has a chat template of its own, so the prompts differ in it"


def _special_tokens(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if not old.get("tokens") or old.get("tokens") != new.get("tokens"):
        return  # of models that have nothing in common they differ anyway
    names = [name for name in ("begin", "end") if old.get(name) != new.get(name)]
    shown = [f"{name}: {old.get(name) or 'none'} and {new.get(name) or 'none'}" for name in names]
    if shown:
        yield f"special tokens of OLD and NEW differ ({'; '.join(shown)})"


def _vocabulary(old: int | None, new: int | None, generates: bool) -> Iterator[str]:
    if old and new and old != new:
        limit = ": a limit of tokens is not the same amount of text for both" if generates else ""
        yield f"OLD knows {old:,} tokens and NEW {new:,}{limit}"


def _context(old: int | None, new: int | None) -> Iterator[str]:
    if old and new and old != new:
        shorter = "OLD" if old < new else "NEW"
        yield f"OLD reads at most {old:,} tokens and NEW {new:,}: what is longer is cut or fails with {shorter} alone"


def _precision(old: str | None, new: str | None) -> Iterator[str]:
    if old and new and "auto" not in (old, new) and old != new:
        yield f"OLD was computed in {old} and NEW in {new}: near ties flip by rounding, whatever the model"
