"""Several candidates against one OLD: evaluated in one go, OLD once, and judged together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compatcheck import options
from compatcheck.compare.counterparts import differences_of
from compatcheck.comparing import diffs_of_runs, rules_of
from compatcheck.errors import InputError
from compatcheck.results import Candidates, blessed_before
from compatcheck.version import __version__

if TYPE_CHECKING:
    from compatcheck.evaluation.request import Request


def diff_candidates(
    old: str | os.PathLike[str],
    news: Sequence[str | os.PathLike[str]],
    chosen: options.Diff,
    scratch: str | os.PathLike[str] | None,
    say: Callable[[str], None],
    progress: Any,
) -> Candidates:
    """Compare several candidates with one OLD.
    Raises InputError: as :func:`compatcheck.diff`; a candidate that is named twice, or an option that is for one alone.
    """
    from compatcheck import gate
    from compatcheck.evaluation.against import grade_of
    from compatcheck.evaluation.collect import runs_of
    from compatcheck.evaluation.judging import judged
    from compatcheck.evaluation.request import refuse_same
    from compatcheck.evaluation.reruns import with_reruns
    from compatcheck.evaluation.settling import check_directions

    names = [os.fspath(each) for each in news]
    _check(names, chosen)
    requests = checked_requests(old, names, chosen, scratch)
    first = requests[0]
    sides = [first.side("old")]
    sides += [replace(each.side("new"), name=f"new {number}") for number, each in enumerate(requests, 1)]
    with judged(first, say, progress) as request:
        before, *runs = runs_of(sides, request, say, progress)
        check_directions(request.metric_options, [one for run in (before, *runs) for one in run.tasks])
        for own, run in () if chosen.allow_same else zip(requests, runs, strict=True):
            found = differences_of(before, run)
            refuse_same(own, before, run, differ=bool(found.found), known=not found.unknown)
        every = [before, *runs]
        (before, *runs), reruns = with_reruns(every, request, chosen.noise_floor, chosen.noise_run, say, progress)
        each = diffs_of_runs(before, runs, chosen, reruns, grade_of(request.against, request.metric_options))
    each = [replace(one, history=blessed_before(first.old, one.comparisons)) for one in each]
    return Candidates(tuple(each), gate.worst(one.verdict for one in each), __version__, names=tuple(names))


def checked_requests(
    old: str | os.PathLike[str], news: Sequence[str | os.PathLike[str]], chosen: options.Diff, scratch: Any
) -> list[Request]:
    """The request of every NEW; what cannot be meant is refused before anything is paid for."""
    from compatcheck import beside
    from compatcheck.evaluation.request import refuse_same_model
    from compatcheck.evaluation.reruns import check_reruns
    from compatcheck.evaluation.side_settings import check_prompts, check_settings, request_of

    rules = rules_of(chosen)
    first = replace(request_of(old, news[0], beside.of_quality(chosen), scratch), needed=beside.needed(rules))
    requests = [replace(first, new=os.fspath(new)) for new in news]
    check_prompts(requests, chosen)
    for request in requests:
        check_settings(request, chosen)
        beside.check(chosen, rules, beside.read(chosen), request.side)
        check_reruns(request, chosen.noise_floor, chosen.noise_run)
    for request in () if chosen.allow_same else requests:
        refuse_same_model(request)
    return requests


def _check(names: Sequence[str], chosen: options.Diff) -> None:
    if not names:
        raise InputError("NEW is an empty list: name at least one candidate")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"NEW {name}: is named twice; every candidate is another one")
    for flag, given in (
        ("--until-decided", chosen.until_decided),
        ("--stream", chosen.stream),
        ("--metric kl", "kl" in chosen.metric),
        ("--judge", chosen.judge is not None),
    ):
        if given:
            raise InputError(f"{flag}: is for one NEW; compare the candidates one by one")
