"""Runs that are in memory or on disk, compared and judged: what a finished comparison is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compatcheck import option_models, options
from compatcheck.compare import comparability
from compatcheck.compare.counterparts import (
    absent_notes,
    counterparts,
    differences_of,
    field_notes,
    sample_notes,
)
from compatcheck.compare.result import Absent, Comparison, Gate, Side, Stored
from compatcheck.errors import InputError
from compatcheck.records import Manifest, Run
from compatcheck.results import Diff
from compatcheck.scratch import Scratch
from compatcheck.version import __version__

if TYPE_CHECKING:
    from compatcheck.compare.quadrants import Grade
    from compatcheck.sequential import Decided

Say = Callable[[str], None]


def diff_of_runs(
    old: Run,
    new: Run,
    chosen: options.Diff = options.Diff(),  # noqa: B008 - frozen
    *,
    reruns: Sequence[Run] = (),
    decided: Decided | None = None,
    grade: Grade | None = None,
) -> Diff:
    """Compare two runs that are in memory, as :func:`compatcheck.evaluate` and ``load_run`` give them.

    The noise floor is taken from ``reruns`` of OLD; ``decided`` says how budgets were judged while the runs grew;
    ``grade`` scores answers by OLD's, where these are the reference.
    Raises InputError: they share nothing, a rule covers nothing, or a budget is within the noise floor.
    """
    compared = _compared(old, new, chosen, reruns, grade)
    if decided is not None:
        comparisons = [decided.with_paths(each) for each in compared.comparisons]
        compared = replace(compared, comparisons=comparisons, notes=[*decided.notes, *compared.notes])
    (found,) = judged([compared], chosen, settled=decided.gates if decided is not None else None)
    return found


def diffs_of_runs(
    old: Run, news: Sequence[Run], chosen: options.Diff, reruns: Sequence[Run] = (), grade: Grade | None = None
) -> list[Diff]:
    """Compare several runs with one OLD; a failure is shown over all budgets of all of them together.
    Raises InputError: as :func:`diff_of_runs`.
    """
    return judged([_compared(old, new, chosen, reruns, grade) for new in news], chosen)


@dataclass(frozen=True)
class Compared:
    """Two runs and their comparisons, not judged yet."""

    old: Run
    new: Run
    comparisons: Sequence[Comparison]
    notes: Sequence[str]
    stored: Stored | None = None


def _compared(old: Run, new: Run, chosen: options.Diff, reruns: Sequence[Run], grade: Grade | None) -> Compared:
    from compatcheck.beside import from_store, read
    from compatcheck.gate import slice_fields
    from compatcheck.rereading import with_parts

    epsilon, correct_at = chosen.epsilon, chosen.correct_at
    comparisons, notes = compare_runs(
        old, new, epsilon=epsilon, correct_at=correct_at, slice_by=chosen.slice_by, cluster_by=chosen.cluster_by,
        also_slice_by=slice_fields(rules_of(chosen)), seed=chosen.seed, grade=grade, beside=read(chosen),
    )  # fmt: skip
    notes += from_store(comparisons, old.manifest.settings, new.manifest.settings)
    comparisons = [with_parts(each, (chosen.metric_args or {}).get(each.metric, {})) for each in comparisons]
    if reruns:
        from compatcheck.noise import with_noise

        comparisons, said = with_noise(comparisons, old, reruns, epsilon=epsilon, correct_at=correct_at, grade=grade)
        notes += [*said, *(note for run in reruns for note in run.notes)]
    return Compared(old, new, comparisons, notes)


def compare_runs(old: Run, new: Run, **how: Any) -> tuple[list[Comparison], list[str]]:
    """Compare two runs on every (task, filter, metric) they share; returns comparisons and notes on what they do not.

    ``how`` are options of :class:`compatcheck.compare.settings.Settings`.
    Raises InputError: they share nothing.
    """
    from compatcheck.compare.clusters import FEW
    from compatcheck.compare.comparison import compare_all
    from compatcheck.compare.settings import Settings
    from compatcheck.rereading import reread

    how = {"seed": 1234, "reread": reread, **how}
    pairs, absent = counterparts(old, new)
    notes = absent_notes(absent)
    comparisons = compare_all(pairs, Settings(**how))
    if new.divergences:
        from compatcheck.compare.divergence import with_divergence

        comparisons = with_divergence(comparisons, new.divergences, how.get("cluster_by"))
    if how.get("epsilon") is None and how.get("correct_at") is None:
        notes += sample_notes(pairs)
    named = [*how.get("slice_by", ()), *how.get("also_slice_by", ()), *filter(None, [how.get("cluster_by")])]
    notes += field_notes(pairs, named)
    notes += [
        f"{each.name}: only {each.clusters.count} clusters by '{each.clusters.field}': with fewer than {FEW} their "
        "spread is badly known, and so are the intervals"
        for each in comparisons
        if each.clusters is not None and each.clusters.count < FEW
    ]
    return comparisons, notes


def diff_of_streams(
    old: Run, new: Run, scratch: Scratch, say: Say, chosen: options.Diff, grade: Grade | None = None
) -> Diff:
    from compatcheck.beside import read
    from compatcheck.compare.comparison import compare_stored
    from compatcheck.compare.settings import Settings
    from compatcheck.gate import slice_fields
    from compatcheck.rereading import reread, with_parts

    if chosen.cluster_by is not None:
        raise InputError(
            "--cluster-by: with its records on disk a comparison cannot count by clusters; add --no-stream"
        )
    if chosen.noise_floor or chosen.noise_run:
        raise InputError("with its records on disk the noise floor of a comparison cannot be measured; add --no-stream")
    pairs, absent = counterparts(old, new)
    also = slice_fields(rules_of(chosen))
    settings = option_models.part_of(
        chosen, Settings, also_slice_by=also, reread=reread, grade=grade, beside=read(chosen)
    )
    with scratch.writing():
        comparisons, file = compare_stored(pairs, settings, scratch, say)
    comparisons = [with_parts(one, (chosen.metric_args or {}).get(one.metric, {})) for one in comparisons]
    notes = absent_notes(absent) + [
        f"{one.name}: compared as a stream; {len(one.instances):,} of {one.rows:,} instances are shown, flips first, "
        "and all of them are in instances.parquet where the comparison is kept (--out)"
        for one in comparisons
        if len(one.instances) < one.rows
    ]
    (found,) = judged([Compared(old, new, comparisons, notes, Stored(file.path, scratch))], chosen)
    return found


def judged(
    compared: Sequence[Compared], chosen: options.Diff, settled: Mapping[tuple[str, str], Gate] | None = None
) -> list[Diff]:
    """Candidates against one OLD, judged together: each with its verdict.
    Raises InputError: a rule that covers nothing.
    """
    from compatcheck import gate

    rules, most_missing = rules_of(chosen), gate.parse_share("--max-missing", chosen.max_missing)
    absent = [counterparts(one.old, one.new)[1] for one in compared]
    pairs = [(one.comparisons, lacking) for one, lacking in zip(compared, absent, strict=True)]
    found = gate.judge_all(pairs, rules, chosen.required, settled, most_missing)
    made = [
        _finished(one, comparisons, rules, lacking, gate.doubts_of(comparisons, most_missing, lacking))
        for one, comparisons, lacking in zip(compared, found, absent, strict=True)
    ]
    new_name = chosen.new_name if len(made) == 1 else None  # of several candidates no one has it
    return [
        replace(one, old=replace(one.old, name=chosen.old_name), new=replace(one.new, name=new_name)) for one in made
    ]


def _finished(
    compared: Compared,
    comparisons: tuple[Comparison, ...],
    rules: Sequence[Any],
    absent: tuple[Absent, ...],
    doubts: Sequence[str],
) -> Diff:
    from compatcheck import gate
    from compatcheck.advice import advise

    old, new, before = compared.old, compared.new, compared.comparisons
    remarks = (*comparability.remarks(old, new), *gate.noise_remarks(before, rules), *gate.remarks(before))
    verdict = gate.verdict_of(comparisons)
    return Diff(
        old=_side(old.manifest),
        new=_side(new.manifest),
        comparisons=comparisons,
        verdict=verdict,
        version=__version__,
        notes=tuple(dict.fromkeys((*old.notes, *new.notes, *compared.notes, *remarks))),
        advice=advise(comparisons, verdict, doubts),
        differences=differences_of(old, new),
        absent=absent,
        stored=compared.stored,
    )


def _side(manifest: Manifest) -> Side:
    return Side(manifest.reference, manifest.fingerprint, manifest.kind, manifest.engine, manifest.settings)


def rules_of(chosen: options.Diff) -> list[Any]:
    from compatcheck import gate

    rules = [*gate.parse_rules(chosen.fail_on), *gate.parse_rules(chosen.advisory, gate.ADVISORY)]
    if chosen.reference is not None:
        gate.check_reference(rules)
    return rules
