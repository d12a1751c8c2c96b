"""What a report says of one comparison: tables, remarks, slices, looks, once for all formats that draw them.

Texts may hold names of the user's: each renderer passes every one of them through its own escape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from compatcheck.compare.overview import round_up
from compatcheck.compare.result import BoundPath, Comparison, Divergence, Estimate, Gate, Look, Pairing, Slice
from compatcheck.report import figures

LEAST = 20
"""Smaller slices are kept in report.json and not shown."""
LOOKS = 8
"""Looks that a table shows; report.json has more."""
TRACK = 28
"""Characters of the bar that draws bounds in text."""
_OF_NOISE = ("nfr", "pfr", "nfr_mc", "inconsistency", "agreement", "changed", "noticed")


@dataclass(frozen=True)
class Table:
    """Columns by heading and kind; a row that is shorter than the columns has its last text over the rest of them.

    Kinds: ``name`` (of the user's), ``text``, ``number``, ``figures`` (several numbers), ``value`` (a number that
    matters), ``worse``, ``better``, ``verdict``, ``metric`` (label and help), ``flips`` (counts, worse and better,
    drawn as a bar), ``whisker`` (an interval, drawn), ``track`` (bounds, drawn in text).
    """

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def most(self) -> int:
        """The largest sum in the column of flips, which is the last one."""
        return max((sum(row[-1]) for row in self.rows if self.columns[-1][1] == "flips"), default=0)

    def without(self, *drop: str) -> Table:
        """The table without columns of these headings or kinds, and without those that hold nothing."""
        gone = {
            place
            for place, column in enumerate(self.columns)
            if set(column) & set(drop) or (self.rows and all(row[place : place + 1] == ("",) for row in self.rows))
        }
        rows = tuple(tuple(cell for place, cell in enumerate(row) if place not in gone) for row in self.rows)
        return Table(tuple(c for place, c in enumerate(self.columns) if place not in gone), rows)


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
    pair, metric = ("accuracy", "net") if comparison.kind == "discrete" else ("score", "mean_difference")
    old, new = (comparison.metrics.get(f"{pair}_{side}") for side in ("old", "new"))
    if old is None or new is None:
        return None
    figure, name, delta = comparison.metrics.get(metric), f"{pair}_old", ""
    if figure is not None and figure.value is not None:
        bounds = figures.interval(metric, figure)
        delta = f"Δ {figures.estimate(metric, figure)}" + f"  ({figures.level(comparison)}: {bounds})" * bool(bounds)
    label = "accuracy" if pair == "accuracy" else comparison.metric
    return Change(label, f"{figures.estimate(name, old)} → {figures.estimate(name, new)}", delta, metric)


def gates(comparison: Comparison) -> Table:
    """A row a budget."""
    rows = []
    for gate in comparison.gates:
        needed = f"about {gate.needed_n or 0:,} instances"
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


def order(comparison: Comparison) -> str:
    """In which order they stand: without scores in between there is none."""
    if comparison.reference is None:
        return "worst"
    return "first" if comparison.kind == "discrete" else "most different"


def flip_name(comparison: Comparison) -> str:
    """What one of them is called."""
    return "negative flip" if comparison.reference is None else "changed answer"


def metrics(comparison: Comparison, skip: str = "") -> Table:
    """A row a metric, but for the one whose label is ``skip``: label and explanation, value, interval, denominator."""
    rows: list[tuple[Any, ...]] = []
    for name, figure in comparison.metrics.items():
        label = figures.metric_info(name)[::2]
        if label[0] == skip:
            continue
        if figure.value is None:
            rows.append((label, "undefined", figure.why or ""))
        else:
            bounds = figures.interval(name, figure)
            drawn = whisker(name, figure)
            rows.append((label, figures.estimate(name, figure), bounds, drawn, beside(comparison, name)))
    columns = (
        ("metric", "metric"), ("value", "value"), (f"{figures.level(comparison)} interval", "figures"),
        ("picture", "whisker"), ("of", "figures"),
    )  # fmt: skip
    return Table(columns, tuple(rows))


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


def remarks(comparison: Comparison) -> list[tuple[str, str]]:
    """How far the figures can be trusted: headings with a sentence each."""
    found = []
    if (noise := comparison.noise) is not None:
        rates = []
        for name, said in (("nfr", "NFR"), ("pfr", "PFR"), ("changed", "changed")):
            if (figure := noise.metrics.get(name)) is None:
                continue
            bounds = f" ({figures.interval(name, figure)}, {figures.denominator(figure)})"
            shown = f"{figures.estimate(name, figure)}{'' if figure.value is None else bounds}"
            rates.append(f"{said} {shown}")
        found.append(("Noise floor", f"without any change {', '.join(rates)}: {noise.source}"))
    if (ties := comparison.near_ties) is not None:
        counts = []
        for word, each in (("negative", ties.negative), ("positive", ties.positive)):
            unknown = f", {each.unknown:,} unknown" if each.unknown else ""
            total = each.near + each.confident + each.unknown
            counts.append(f"{each.near:,} of {total:,} {word} flips, {each.confident:,} confident{unknown}")
        threshold = f"(near: old or new prefers its choice by less than {ties.threshold:g} nats)"
        found.append(("Near ties", f"{'; '.join(counts)} {threshold}"))
    if comparison.kl is not None:
        found.append(("Divergence", _divergence(comparison, comparison.kl)))
    if (clusters := comparison.clusters) is not None:
        sentence = (
            f"intervals and tests count {clusters.count:,} clusters by '{clusters.field}' (the largest has "
            f"{clusters.largest:,} instances), not {comparison.n:,} single instances"
        )
        found.append(("Clusters", sentence))
    return found


def _divergence(comparison: Comparison, found: Divergence) -> str:
    """The divergence of next-token distributions in a sentence."""
    mean, ratio, level = comparison.metrics["kl"], found.perplexity_ratio, figures.level(comparison)
    same = f"{figures.estimate('agreement', found.same_top)} ({figures.interval('agreement', found.same_top)})"
    bounds = f" ({level}: {figures.interval('kl', mean)})" if mean.low is not None else ""
    shares = ", ".join(
        f"{'max' if name == 'max' else f'{name} %'} {figures.number(value, 'score')}"
        for name, value in found.percentiles.items()
    )
    ratio_bounds = f" ({level}: {ratio.low:.4g} – {ratio.high:.4g})" if ratio.low is not None else ""
    return (
        f"KL(old ‖ new) {figures.estimate('kl', mean)} nats a token{bounds} over {found.tokens:,} tokens of "
        f"{found.documents:,} documents ({found.texts}); by token {shares}; same first token {same}; perplexity "
        f"{found.perplexity_old:.4g} → {found.perplexity_new:.4g}, ratio {ratio.value:.4g}{ratio_bounds}"
    )


def worst_tokens(comparison: Comparison, count: int) -> Table:
    """The tokens whose distributions diverge the most, a row each; none where that was not measured."""
    rows = []
    for each in comparison.kl.worst[:count] if comparison.kl is not None else ():
        chance = f"{each.p_old:.2g} → {each.p_new:.2g}"
        old = f"{_token(each.choice_old)} {each.choice_old_p_old:.2g} → {each.choice_old_p_new:.2g}"
        new = f"{_token(each.choice_new)} {each.choice_new_p_old:.2g} → {each.choice_new_p_new:.2g}"
        context = f"…{each.before[-40:]}⟦{each.token}⟧"
        rows.append((figures.number(each.kl, "score"), each.doc_id, context, chance, old, new))
    columns = (
        ("KL", "number"), ("id", "name"), ("token in its context", "name"), ("its probability", "name"),
        ("old expected", "name"), ("new expected", "name"),
    )  # fmt: skip
    return Table(columns, tuple(rows))


def _token(text: str) -> str:
    return f"⟦{text}⟧"


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


def drawn(comparison: Comparison) -> str:
    """How many documents a sequential evaluation took, of how many."""
    how = comparison.sequential
    assert how is not None
    less = f", {1 - how.used / how.available:.1%} less" if how.used < how.available else ", all there are"
    return f"{how.used:,} of {how.available:,} documents drawn, a look every {how.step:,}{less}"


def path_title(path: BoundPath) -> str:
    """What a budget came to that was judged at every look."""
    if path.decided_at is None:
        return f"{path.rule}: open after {path.looks[-1].n:,} instances" if path.looks else f"{path.rule}: open"
    return f"{path.rule}: {path.verdict} after {path.decided_at:,} instances"


def look_number(path: BoundPath, value: float | None) -> str:
    """A figure of a path in its unit."""
    return "–" if value is None else figures.number(value, path.unit, signed=path.unit == "points")


def looks(comparison: Comparison, path: BoundPath) -> Table:
    """At most :data:`LOOKS` looks, evenly chosen, the last one among them."""
    last = len(path.looks) - 1
    places = sorted({round(last * part / (LOOKS - 1)) for part in range(LOOKS)}) if last >= LOOKS else range(last + 1)
    chosen = [path.looks[place] for place in places]
    values = [path.threshold, *(bound for look in chosen for bound in (look.lower, look.upper))]
    rows = []
    for look in chosen:
        bounds = f"{look_number(path, look.lower)} – {look_number(path, look.upper)}"
        track = _track(look, path.threshold, min(values), max(values))
        rows.append((f"{look.n:,}", look_number(path, look.value), bounds, track))
    title = f"{figures.level(comparison)} bounds at every look"
    columns = (("n", "number"), ("value", "number"), (title, "figures"), ("• value  | budget", "track"))
    return Table(columns, tuple(rows))


def _track(look: Look, threshold: float, low: float, high: float) -> str:
    def place(value: float) -> int:
        return round((TRACK - 1) * (value - low) / (high - low)) if high > low else 0

    cells = [" "] * TRACK
    for at in range(place(look.lower), place(look.upper) + 1):
        cells[at] = "─"
    if look.value is not None:
        cells[place(look.value)] = "•"
    cells[place(threshold)] = "|"
    return "".join(cells).rstrip()


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
