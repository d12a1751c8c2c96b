"""What a report says of one comparison: tables, remarks, slices, looks, once for all formats that draw them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from compatcheck.compare.kinds import KINDS
from compatcheck.compare.overview import round_up
from compatcheck.compare.result import Comparison, Estimate, Gate, Pairing, Slice
from compatcheck.report import besides, divergence, figures
from compatcheck.report.instances import Instance
from compatcheck.report.tables import Section, Table
from compatcheck.text import estimated

LEAST = 20
"""Smaller slices are kept in report.json and not shown."""
_OF_NOISE = ("nfr", "pfr", "nfr_mc", "inconsistency", "agreement", "changed", "noticed")


def rule_text(gate: Gate) -> str:
    """The rule, and that it is advisory."""
    return gate.rule if gate.tier == "critical" else f"{gate.rule} ({gate.tier})"


class Change(NamedTuple):
    """The headline score of a comparison: ``short`` is ``21.7 % → 34.7 %``, ``delta`` the difference, of ``metric``."""

    label: str
    short: str
    delta: str
    metric: str


def headline_change(comparison: Comparison) -> Change | None:
    """Accuracy or mean score, old to new, with the difference and its interval; None where it is not known."""
    if comparison.reference is not None:
        return None
    discrete, name = comparison.kind == "discrete", figures.score_name(comparison.kind, "old")
    label, metric = ("accuracy", "net") if discrete else (comparison.metric, "mean_difference")
    old, new = (comparison.metrics.get(figures.score_name(comparison.kind, side)) for side in ("old", "new"))
    if old is None or new is None:
        return None
    figure, delta = comparison.metrics.get(metric), ""
    if figure is not None and figure.value is not None:
        bounds = figures.interval(metric, figure)
        delta = f"Δ {figures.estimate(metric, figure)}" + f"  ({figures.level(comparison)}: {bounds})" * bool(bounds)
    return Change(label, f"{figures.estimate(name, old)} → {figures.estimate(name, new)}", delta, metric)


def gates(comparison: Comparison) -> Table:
    """A row a budget."""
    rows = []
    for gate in comparison.gates:
        needed = f"about {estimated(gate.needed_n or 0):,} instances"
        more = f"; {needed} would settle it" if gate.needed_n and needed not in gate.reason else ""
        rows.append((gate.verdict, rule_text(gate), f"{gate.reason}{more}"))
    return Table((("verdict", "verdict"), ("budget", "name"), ("reason", "text")), tuple(rows))


class Quadrant(NamedTuple):
    """One quadrant or group: its figures as text, and its share as a number."""

    name: str
    label: str
    symbol: str
    n: int
    share: str
    interval: str
    part: float


def quadrants(comparison: Comparison) -> list[Quadrant]:
    """In the order they are shown; of a discrete metric by rows, old right before old wrong."""
    order = figures.groups(comparison)
    if shape(comparison) == "square":
        order = ("both_correct", "negative_flip", "positive_flip", "both_wrong")
    found = []
    for name in order:
        count, n = comparison.quadrants.get(name, 0), comparison.n
        figure = comparison.metrics.get(figures.QUADRANT_METRICS.get(name, name))
        share, bounds = figures.share(count, n), figures.interval("nfr", figure)
        label, symbol = figures.QUADRANT_LABELS[name], figures.QUADRANT_SYMBOLS[name]
        found.append(Quadrant(name, label, symbol, count, share, bounds, count / n if n else 0.0))
    return found


def shape(comparison: Comparison) -> str:
    """``square`` where the groups are the four quadrants, else ``column``."""
    return "square" if comparison.kind == "discrete" and comparison.reference is None else "column"


def first_shown(comparison: Comparison) -> str:
    """What is said of the instances that a report shows first."""
    return "What broke" if comparison.reference is None else "What changed"


def slices_title(comparison: Comparison) -> str:
    return "Worst slices" if comparison.reference is None else "Slices that changed most"


def flip_name(comparison: Comparison) -> str:
    """What one of them is called."""
    return "negative flip" if comparison.reference is None else "changed answer"


def _metrics(title: str) -> Callable[[Comparison], Section | None]:
    """The section of one group of metrics: counts first, then value and interval."""

    def section(comparison: Comparison) -> Section | None:
        known = {name for names in figures.GROUPS.values() for name in names}
        known |= {"kl"} if comparison.kl is not None else set()
        figured = {name for name, figure in comparison.metrics.items() if figure.value is not None}
        known |= figured.intersection(figures.QUADRANT_METRICS.values())
        names = figures.GROUPS.get(title) or [name for name in comparison.metrics if name not in known]
        rows = [metric_row(comparison, name) for name in names if name in comparison.metrics]
        columns = (
            ("metric", "metric"), ("counts", "figures"), ("value", "value"),
            (f"{figures.level(comparison)} interval", "figures"), ("picture", "whisker"),
        )  # fmt: skip
        return (
            Section(title, Table(columns, tuple(rows)), folded=title not in ("Accuracy", "Score", "Change"))
            if rows
            else None
        )

    return section


def metric_row(comparison: Comparison, name: str) -> tuple[Any, ...]:
    """Label and explanation, counts, value, interval; or the label and why there is none."""
    figure, label = comparison.metrics[name], figures.metric_info(name)[::2]
    if figure.value is None:
        return label, "", "undefined", figure.why or ""
    shown = figures.estimate(name, figure), figures.interval(name, figure), whisker(name, figure)
    return label, beside(comparison, name), *shown


def whisker(name: str, figure: Estimate) -> tuple[float, float, float, bool] | None:
    """Low, value and high on a line of 100: shares from 0 to 100 %, signed figures around 50, which then is zero."""
    unit = figures.metric_info(name).unit
    signed = unit == "points" or name == "mean_difference"
    if figure.value is None or figure.low is None or figure.high is None or not (signed or unit == "share"):
        return None
    span = round_up(max(abs(figure.low), abs(figure.high), 1e-9)) if signed else 1.0
    start, scale = (50, 50 / span) if signed else (0, 100)
    low, value, high = (min(max(start + scale * each, 0.0), 100.0) for each in (figure.low, figure.value, figure.high))
    return low, value, high, signed


def beside(comparison: Comparison, name: str) -> str:
    """What stands beside a figure: its denominator, and the noise floor of the same figure where it was measured."""
    of = figures.denominator(comparison.metrics[name])
    noise = comparison.noise.metrics.get(name) if comparison.noise is not None else None
    if noise is None or noise.value is None or name not in _OF_NOISE:
        return of
    return f"{of}{'; ' if of else ''}noise {figures.estimate(name, noise)}"


def tests(comparison: Comparison) -> list[str]:
    """Name and p-value of each test."""
    return [f"{figures.TEST_LABELS.get(name, name)}: {figures.p_value(p)}" for name, p in comparison.tests.items()]


def _noise(comparison: Comparison) -> Section | None:
    if (noise := comparison.noise) is None:
        return None
    rates = []
    for name, said in (("nfr", "NFR"), ("pfr", "PFR"), ("changed", "changed")):
        if (figure := noise.metrics.get(name)) is None:
            continue
        bounds = f" ({figures.interval(name, figure)}, {figures.denominator(figure)})"
        shown = f"{figures.estimate(name, figure)}{'' if figure.value is None else bounds}"
        rates.append(f"{said} {shown}")
    return Section("Noise floor", note=f"without any change {', '.join(rates)}: {noise.source}")


def _near_ties(comparison: Comparison) -> Section | None:
    if (ties := comparison.near_ties) is None:
        return None
    counts = []
    for word, each in (("negative", ties.negative), ("positive", ties.positive)):
        unknown = f", {each.unknown:,} unknown" if each.unknown else ""
        total = each.near + each.confident + each.unknown
        counts.append(f"{each.near:,} of {total:,} {word} flips, {each.confident:,} confident{unknown}")
    threshold = f"(near: old or new prefers its choice by less than {ties.threshold:g} nats)"
    return Section("Near ties", note=f"{'; '.join(counts)} {threshold}")


def _clusters(comparison: Comparison) -> Section | None:
    if (clusters := comparison.clusters) is None:
        return None
    sentence = (
        f"intervals and tests count {clusters.count:,} clusters by '{clusters.field}' (the largest has "
        f"{clusters.largest:,} instances), not {comparison.n:,} single instances"
    )
    return Section("Clusters", note=sentence)


DETAILS: tuple[Callable[[Comparison], Section | None], ...] = (
    _metrics("Accuracy"), _metrics("Score"), _metrics("Change"), _metrics("Compatibility"),
    _metrics("Agreement"), _metrics("Further"), besides.section, _noise, _near_ties, divergence.margins, _clusters,
    divergence.section,
)  # fmt: skip
"""The details of a comparison below its quadrants, in the order they are shown."""


def details(comparison: Comparison) -> list[Section]:
    """The sections of a comparison that say something."""
    return [found for make in DETAILS if (found := make(comparison)) is not None]


def remarks(comparison: Comparison) -> list[tuple[str, str]]:
    """How far the figures can be trusted: headings with a sentence each, of the details without a table."""
    return [(each.title, each.note) for each in details(comparison) if each.table is None]


def kind_label(kind: str) -> str:
    """A kind of failure in words."""
    return KINDS.get(kind, kind.replace("_", " "))


def kinds_of(flip: Instance) -> list[str]:
    """Of which kind a flip is, and the theme that the judge finds in NEW's answer; as known."""
    kind = [kind_label(flip.failure_kind)] if flip.failure_kind else []
    return [*kind, *([f"theme: {flip.failure_theme}"] if flip.failure_theme else [])]


def kinds(comparison: Comparison) -> str:
    """How many negative flips are of which kind: ``14 answer in another form, 5 refused``; empty where not known, and
    of a single flip, beside which it stands."""
    if comparison.first_count < 2:
        return ""
    return ", ".join(f"{each.count:,} {kind_label(each.kind)}" for each in comparison.kinds or ())


def stands_out(comparison: Comparison) -> str:
    """The slice that got worse more often than the rest, with at least :data:`LEAST` instances and after correction for
    all that were tested; empty where none did."""
    worst = next((p for p in worst_slices(comparison, 1) if p.p_adjusted is not None and p.p_adjusted < 0.05), None)
    if worst is None or comparison.reference is not None:
        return ""
    tested, n, flips = sum(p.p is not None for p in comparison.slices), worst.n, worst.negative_flips
    rest, others = comparison.n - n, comparison.quadrants.get("negative_flip", 0) - flips
    return (
        f"{worst.field}={worst.value} stands out: {flips:,} of {n:,} got worse ({figures.share(flips, n)}), "
        f"{others:,} of {rest:,} elsewhere ({figures.share(others, rest)}); {figures.p_value(worst.p_adjusted)} after "
        f"correction for {figures.plural(tested, 'slice')}"
    )


def worst_slices(comparison: Comparison, count: int = 6) -> list[Slice]:
    """The slices with the highest negative flip rates, those that stand out from the rest first.

    Those of fewer than :data:`LEAST` instances are left out: the worst of many small ones is worst by chance.
    """

    def key(part: Slice) -> tuple[bool, float, int]:
        stands_out = part.p_adjusted is not None and part.p_adjusted < 0.05
        return not stands_out, -((part.changed or part.nfr).value or 0.0), -part.n

    return [part for part in sorted(comparison.slices, key=key) if part.n >= LEAST][:count]


class Slices(NamedTuple):
    """A row a slice, how many more there are, and what their figures stand for."""

    table: Table
    more: int
    note: str


def slices(comparison: Comparison, count: int) -> Slices:
    """The worst slices as a table."""
    worst = worst_slices(comparison, count)
    of_changes = comparison.reference is not None
    rows = tuple(
        (
            f"{part.field}={part.value}", f"{part.n:,}", figures.estimate("nfr", part.changed or part.nfr),
            figures.interval("nfr", part.changed or part.nfr),
            figures.denominator(part.changed) if part.changed else figures.estimate("btc", part.lost),
            "" if part.p_adjusted is None else figures.p_value(part.p_adjusted, bare=True),
            *([] if of_changes else [(part.negative_flips, part.positive_flips)]),
        )
        for part in worst
    )  # fmt: skip
    rate, beside, last = ("changed", "of", ()) if of_changes else ("NFR", "1−BTC", (("flips", "flips"),))
    columns = (
        ("slice", "name"), ("n", "number"), (rate, "value"), (f"{figures.level(comparison)} interval", "figures"),
        (beside, "number"), ("adj. p", "number"), *last,
    )  # fmt: skip
    small = sum(part.n < LEAST for part in comparison.slices)
    notes = []
    asked, most, more = ("change", "first", "higher") if of_changes else ("flip negatively", "worst", "worse")
    if tested := sum(part.p is not None for part in comparison.slices):
        notes.append(
            f"{tested:,} tests, one a slice: does it {asked} more often than the rest? p adjusted over all of "
            f"them (Benjamini–Hochberg); rates and intervals are not adjusted for selection: the {most} of many look "
            f"{more} than they are"
        )
    if small:
        which = "slice has" if small == 1 else "slices have"
        notes.append(f"{small:,} {which} fewer than {LEAST} instances: in report.json")
    return Slices(Table(columns, rows), len(comparison.slices) - len(worst) - small, ". ".join(notes))


def bar(flips: tuple[int, int], most: int, width: int) -> tuple[int, int]:
    """Lengths of the parts of a bar of flips; the longest of all has ``width``, and none that counts is invisible."""
    scale = min(1.0, width / most) if most else 0.0
    worse, better = (round(count * scale) or int(count > 0) for count in flips)
    return worse, better


def silent_rows(p: Pairing) -> list[str]:
    """Scored pairs that show little, by side."""
    sides = (("no answer", p.no_answer_old, p.no_answer_new), ("cut off", p.cut_off_old, p.cut_off_new))
    said = [f"{what}: {old or 0:,} old, {new or 0:,} new" for what, old, new in sides if old or new]
    if p.thinking_old or p.thinking_new:
        said[-1] += f" ({p.thinking_old or 0:,} and {p.thinking_new or 0:,} of them while still thinking)"
    return said


def pairing_remarks(comparison: Comparison) -> list[str]:
    """What is off with the pairing, a phrase each; empty where all rows found their partner and were scored."""
    p = comparison.pairing
    remarks = []
    kinds = (
        ("only_old", "only in old"), ("only_new", "only in new"), ("duplicates", "repeated rows dropped"),
        ("target_changed", "with changed content, not scored"),
    )  # fmt: skip
    for kind, what in kinds:
        if count := getattr(p, kind):
            ids = p.examples.get(kind, ())
            such = f" ({', '.join(ids[:3])}{' …' if count > 3 else ''})" if ids else ""
            remarks.append(f"{count:,} {what.replace('rows', 'row') if count == 1 else what}{such}")
    if p.errors_old or p.errors_new:
        remarks.append(f"errors, not scored: {p.errors_old:,} old, {p.errors_new:,} new")
    return [*remarks, *silent_rows(p), *([] if p.key == "id" else [f"paired by {p.key}"])]
