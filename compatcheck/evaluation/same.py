"""Whether OLD is NEW: a comparison of something with itself shows nothing, and passes."""

from __future__ import annotations

from dataclasses import replace

from compatcheck.errors import InputError
from compatcheck.evaluation.request import Request
from compatcheck.records import Run
from compatcheck.references import Reference

_MEND = (
    "name the other one; where one file holds both answers, name their fields with --old-prediction-field and "
    "--new-prediction-field; for a noise check say --allow-same"
)


def refuse_same_model(request: Request) -> None:
    """Raise InputError where both sides name the same model with equal settings, before any of it is loaded. Told from
    names and places."""
    if request.old_options != request.new_options:
        return
    old, new = request.side("old").references, request.side("new").references
    if old.keys() == new.keys() and all(_place(old[task]) == _place(new[task]) is not None for task in old):
        raise InputError(f"OLD and NEW are the same: {request.old}; {_MEND}")


def _place(reference: Reference) -> Reference | None:
    if reference.recorded is not None:
        return None
    base, adapter = (path and path.resolve() for path in (reference.base, reference.adapter))
    return replace(reference, text="", base_name=None, base=base, adapter=adapter)


def refuse_same(request: Request, old: Run, new: Run, *, differ: bool, known: bool) -> None:
    """Raise InputError where both runs have one fingerprint, and no setting that is known of them differs.

    ``known`` says whether all of them are: what a run does not say of itself may be another prompt. Where both were
    made by this command, it is what their model or server has by itself, and so the same."""
    one, other = old.manifest, new.manifest
    recorded = one.kind == other.kind == "recorded"
    made = not (request.side("old").recorded or request.side("new").recorded)
    differ = differ or (not made and request.old_options.layout != request.new_options.layout)
    if one.fingerprint and one.fingerprint == other.fingerprint and not differ and (recorded or known or made):
        settings = "with the same fields" if recorded else "with the same settings"
        names = one.reference if one.reference == other.reference else f"{one.reference} and {other.reference}"
        raise InputError(f"OLD and NEW are the same: {names} ({one.fingerprint}) {settings}; {_MEND}")
