"""Beside quality: how often a bound of the ratio of means is wrong, recorded columns, and streams equal to memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compatcheck
from compatcheck.compare import compare
from compatcheck.compare.answers import REFUSALS, _refusals
from compatcheck.compare.beside import _bounds_of_sums, ratio_bounds
from tests.factories import write_rows

pd = pytest.importorskip("pandas")


def _pairs(rng: np.random.Generator, n: int, spread: float, alike: float, ratio: float) -> tuple[Any, Any]:
    """Log-normal seconds of one document with both models, of which NEW's mean is ``ratio`` times OLD's."""
    first, second = rng.normal(size=(2, n))
    return np.exp(spread * first), ratio * np.exp(spread * (alike * first + np.sqrt(1 - alike**2) * second))


@pytest.mark.parametrize(("spread", "alike"), [(0.3, 0.95), (0.6, 0.5), (1.0, 0.3)])
@pytest.mark.parametrize("n", [30, 120])
def test_a_bound_is_wrong_at_most_as_often_as_it_says(spread: float, alike: float, n: int) -> None:
    """At the budget itself, 5 % pass and 5 % fail at most; three standard errors of 400 draws are allowed for."""
    rng, draws = np.random.default_rng([7, n, int(10 * spread)]), 400
    found = np.array([ratio_bounds(*_pairs(rng, n, spread, alike, 1.1), 0.95) for _ in range(draws)])
    allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    assert (found[:, 0] > 0.1).mean() <= allowed  # shown to be above its budget, and it is not
    assert (found[:, 1] < 0.1).mean() <= allowed  # shown to keep it
    assert (found[:, 1] > found[:, 0]).all()


def test_bounds_narrow_and_hold_the_value() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for n in (50, 200, 800):
        old, new = _pairs(rng, n, 0.5, 0.6, 1.2)
        lower, upper = ratio_bounds(old, new, 0.95)
        assert lower < new.mean() / old.mean() - 1 < upper
        low, high = ratio_bounds(old, new, 0.99)
        assert low < lower < upper < high
        widths.append(upper - lower)
    assert widths[0] > widths[1] > widths[2]
    sums = (old.sum(), new.sum(), old @ old, new @ new, old @ new)
    assert _bounds_of_sums(len(old), sums, 0.95) == pytest.approx((lower, upper), abs=0.01)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([2.0] * 40, [2.0] * 40, (0.0, 0.0)), ([2.0] * 40, [3.0] * 40, (0.5, 0.5)),
        ([2.0] * 40, [0.0] * 40, (-1.0, -1.0)),
        ([0.1, 0.2, 0.7] * 20, [0.1, 0.2, 0.7] * 20, (0.0, 0.0)),
    ],
)  # fmt: skip
def test_what_does_not_vary_has_bounds_at_its_value(old: list[float], new: list[float], expected: Any) -> None:
    assert ratio_bounds(np.array(old), np.array(new), 0.95) == expected, "so that a budget of +0 % is kept"


def _rows(seed: int, columns: dict[str, str], count: int = 60) -> list[dict[str, Any]]:
    """Recorded answers with figures under other names; every seventh row knows none, and one has failed."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        row: dict[str, Any] = {
            "id": n,
            "target": "a",
            "prediction": "a" if rng.random() < 0.8 else "b",
            "topic": "xy"[n % 2],
        }
        figures = {"latency": rng.gamma(2, seed), "tokens": int(rng.integers(5, 90)), "cost": rng.random() / 1000}
        for name, path in columns.items() if n % 7 else ():
            value, place = figures[name], row
            *parts, last = path.split(".")
            for part in parts:
                place = place.setdefault(part, {})
            place[last] = value * 1000 if last.lower().endswith("ms") else value
        row |= (
            {"error": "timeout", "prediction": None} if n == 11 else {"finish_reason": ["stop", "length"][n % 9 == 0]}
        )
        rows.append(row)
    return rows


NAMES = [
    {"latency": "latency", "tokens": "output_tokens", "cost": "cost"},
    {"latency": "latency_ms", "tokens": "usage.completion_tokens", "cost": "cost_usd"},
    {"latency": "latencyMs", "tokens": "raw.usage.completion_tokens", "cost": "usage.cost"},
]


@pytest.mark.parametrize("names", NAMES)
def test_columns_of_the_usual_names_are_used_and_streams_give_the_same(tmp_path: Path, names: dict[str, str]) -> None:
    sides = [_rows(seed, names) for seed in (1, 2)]
    old, new = (write_rows(tmp_path / f"{side}.jsonl", rows) for side, rows in zip(("old", "new"), sides, strict=True))
    asked: dict[str, Any] = {"metric": ["exact_match", "length", "refusal"], "slice_by": ["new:cut_off", "old:latency"]}
    (held,) = compatcheck.diff(old, new, stream=False, **asked).comparisons
    (streamed,) = compatcheck.diff(old, new, stream=True, **asked).comparisons
    assert held.metric == "exact_match"
    assert list(held.beside) == ["length", "output_tokens", "latency", "cost", "cut_off", "refusal"]
    plain = [_rows(seed, NAMES[0]) for seed in (1, 2)]
    both = [pair for pair in zip(*plain, strict=True) if all("error" not in row and "latency" in row for row in pair)]
    for name in ("latency", "output_tokens", "cost"):
        each = held.beside[name]
        means = [np.mean([pair[side][name] for pair in both]) for side in (0, 1)]
        assert (each.n, each.old.value, each.new.value) == (len(both), *map(pytest.approx, means))
    assert held.beside["cut_off"].new.count == sum(
        row["finish_reason"] == "length" for row in sides[1] if "error" not in row
    )
    assert held.beside["length"].change.value == 0
    assert streamed.beside == held.beside
    assert [(one.field, one.value, one.n) for one in streamed.slices] == [
        (one.field, one.value, one.n) for one in held.slices
    ]
    flips = held.instances.query("quadrant == 'negative_flip'")
    cut = {one.value: one.negative_flips for one in held.slices if one.field == "new:cut_off"}
    assert cut["1"] == sum(int(n) % 9 == 0 for n in flips["doc_id"])


def test_samples_of_one_document_are_averaged(tmp_path: Path) -> None:
    def rows(times: int) -> list[dict[str, Any]]:
        samples = [(n, sample) for n in range(40) for sample in range(3)]
        return [
            {"id": n, "target": "x", "prediction": "xy"[sample == 0], "usage": {"output_tokens": times * (sample + n)}}
            | ({"error": "timeout"} if (n, sample) == (7, 2) else {})
            for n, sample in samples
        ]

    old, new = (write_rows(tmp_path / f"{times}.jsonl", rows(times)) for times in (1, 2))
    (only,) = compatcheck.diff(old, new, repeats="average").comparisons
    mean = np.mean([n + (0.5 if n == 7 else 1) for n in range(40)])
    assert only.beside["output_tokens"].old.value == pytest.approx(mean)
    assert only.beside["output_tokens"].ratio.value == pytest.approx(1.0)


def test_what_is_nowhere_is_not_shown_and_one_side_alone_says_why(tmp_path: Path) -> None:
    plain = [{"id": n, "target": "a", "prediction": "ab"[n % 2]} for n in range(40)]
    old = write_rows(tmp_path / "old.jsonl", plain)
    new = write_rows(tmp_path / "new.jsonl", [{**row, "prediction": "a"} for row in plain])
    assert compatcheck.diff(old, new).comparisons[0].beside is None
    (shown,) = compatcheck.diff(old, new, fail_on="length:+20%").comparisons
    assert list(shown.beside) == ["length"] and shown.gates[0].verdict == "pass"
    with pytest.raises(compatcheck.InputError, match=r"'latency:\+10%': .*old.jsonl does not say the latency"):
        compatcheck.diff(old, new, fail_on="latency:+10%")
    timed = write_rows(tmp_path / "timed.jsonl", [{**row, "latency": 1.0} for row in plain])
    (half,) = compatcheck.diff(old, timed).comparisons
    assert half.beside["latency"].new.value is None and half.beside["latency"].new.why.startswith("OLD: not measured")
    with pytest.raises(compatcheck.InputError, match=r"old.jsonl does not say the latency of its answers"):
        compatcheck.diff(old, timed, fail_on="latency:+10%")
    same = write_rows(tmp_path / "same.jsonl", [{**row, "latency": 1.0, "prediction": "a"} for row in plain])
    assert compatcheck.diff(timed, same).comparisons[0].beside is None  # a field of the data, most likely
    with pytest.raises(compatcheck.InputError, match="no latency of NEW: not measured"):
        compatcheck.diff(old, new, slice_by="new:latency")


@pytest.mark.parametrize("bad", ["fast", -1, float("nan"), None, True, [1], {"p50": 2}])
def test_what_is_no_figure_is_not_known(tmp_path: Path, bad: Any) -> None:
    rows = [{"id": n, "target": "a", "prediction": "a", "latency": 1.0 + n} for n in range(40)]
    old = write_rows(tmp_path / "old.jsonl", rows)
    new = write_rows(
        tmp_path / "new.jsonl", [{**rows[0], "latency": bad}, *({**row, "latency": 2.0} for row in rows[1:])]
    )
    try:
        each = compatcheck.diff(old, new, metric="latency").comparisons[0].beside["latency"]
    except compatcheck.InputError as error:
        assert "\n" not in str(error)  # a file that cannot be read so
        return
    assert each.n == (0 if isinstance(bad, list | dict) else 39)
    assert each.new.value is None or each.new.value <= 2.0


REFUSED = [
    "I'm sorry, but I can't help with that.", "I cannot assist with this request.", "I’m unable to provide that.",
    "As an AI language model, I am not able to browse.", "I won't help with that.", "That is against my guidelines.",
    "We are sorry; we're not able to answer.", "Sorry, I can't comply.", "I must respectfully decline.",
]  # fmt: skip
ANSWERED = [
    "The answer is 4.", "I'm sorry for your loss. She was loved.", "You can't divide by zero.",
    "He declined the offer.",
    "I can help with that.", "Paris", "It is not able to fly.", "I cannot overstate how good it is.",
]  # fmt: skip


@pytest.mark.parametrize(("texts", "share"), [(REFUSED, 1.0), (ANSWERED, 0.0)])
def test_refusals_are_told(texts: list[str], share: float) -> None:
    found = _refusals(pd.Series(texts), REFUSALS)
    assert found.tolist() == [share] * len(texts), [
        text for text, one in zip(texts, found, strict=True) if one != share
    ]


def test_what_a_server_withholds_is_refused_whatever_is_left_of_it(tmp_path: Path) -> None:
    rows = [{"id": n, "target": "a", "prediction": "a", "finish_reason": "stop", "latency": n + 1.0} for n in range(40)]
    withheld: list[dict[str, Any]] = [
        {"prediction": "", "finish_reason": "content_filter"}, {"prediction": None, "finish_reason": "SAFETY"},
        {"prediction": "It was", "finish_reason": "refusal"},
    ]  # fmt: skip
    old = write_rows(tmp_path / "old.jsonl", rows)
    new = write_rows(tmp_path / "new.jsonl", [*map(dict.__or__, rows, withheld), *rows[len(withheld) :]])
    found = compatcheck.diff(old, new, fail_on="refusal:1%")
    assert found.only.beside["refusal"].new.count == 3 and found.verdict == "fail"
    assert found.only.kinds is not None and [(one.kind, one.count) for one in found.only.kinds] == [("refused", 3)]


def test_patterns_can_be_replaced(tmp_path: Path) -> None:
    rows = [{"id": n, "target": "a", "prediction": "NEIN" if n < 3 else "a"} for n in range(30)]
    old = write_rows(tmp_path / "old.jsonl", [{**row, "prediction": "a"} for row in rows])
    new = write_rows(tmp_path / "new.jsonl", rows)
    (tmp_path / "patterns.txt").write_text("\\bnein\\b\n\n^niet\n", encoding="utf-8")
    for patterns in ("nein", ["nein", "x"], f"@{tmp_path / 'patterns.txt'}"):
        (only,) = compatcheck.diff(old, new, metric_args={"refusal": {"patterns": patterns}}).comparisons
        assert only.beside["refusal"].new.count == 3


def test_why_an_answer_ended_is_told_of_both_sides(make_run) -> None:
    old = make_run([1, 1], prediction=["a", "a"], finish_reason=["stop", "stop"])
    new = make_run([1, 0], prediction=["a", "b"], finish_reason=["stop", "length"])
    found = compare(old, new, metric="exact_match")
    told = found.instances[["finish_reason_old", "finish_reason_new"]].to_numpy().tolist()
    assert told == [["stop", "stop"], ["stop", "length"]] and "finish_reason" not in found.instances
