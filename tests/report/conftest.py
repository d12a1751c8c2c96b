"""Results built by hand, so that the reports are tested without the rest of the house."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import binomtest

from compatcheck.compare.candidates import Candidates
from compatcheck.compare.result import Comparison, Estimate, Gate, Pairing, Result, Side, Slice
from compatcheck.report import save
from tests.browser import Open, browser, offline

TEXT = (
    "Amanda baked cookies and will bring some to Jerry tomorrow while Olivia votes for the liberals as always "
    "Tim meets Kim at the station because the later train was cancelled and they share one taxi home"
)
WORDS = TEXT.split()

HOSTILE = (
    '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">[/red][bold]{{ 7*7 }}{% raw %}'
    "\x1b[31mred\x1b[0m\x07\x9b31m\u202egnp.exe\u202c\ud800 @someone #12 www.evil.example | pipe `tick` ``` <!-- --> "
    "**bold** [link](http://evil.example) ${x}"
)


def rate(count: int, of: int) -> Estimate:
    if not of:
        return Estimate(None, of=0, count=0, why="no instance to divide by")
    bounds = binomtest(count, of).proportion_ci(method="wilson")
    return Estimate(count / of, bounds.low, bounds.high, count, of, bounds.low, bounds.high)


def discrete_metrics(quadrants: dict[str, int], different: int) -> dict[str, Estimate]:
    bc, pf, nf, bw = (quadrants[q] for q in ("both_correct", "positive_flip", "negative_flip", "both_wrong"))
    n = bc + pf + nf + bw
    spread = 1.96 * ((pf + nf) / n) ** 0.5 / n**0.5
    net = (pf - nf) / n
    return {
        "accuracy_old": rate(bc + nf, n),
        "accuracy_new": rate(bc + pf, n),
        "net": Estimate(net, net - spread, net + spread, None, n),
        "nfr": rate(nf, n),
        "pfr": rate(pf, n),
        "nfr_mc": rate(nf + different, n),
        "inconsistency": rate(different, n),
        "relative_nfr": Estimate(nf / n / ((bc + nf) / n * (1 - (bc + pf) / n)), of=n),
        "btc": rate(bc, bc + nf),
        "bec": rate(bw, pf + bw),
        "nfi": rate(nf, nf + bw),
        "agreement": rate(bc + bw - different, n),
    }


def sentence(rng: random.Random, length: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(length)).capitalize() + "."


def number_rows(n: int, seed: int, metric: str = "exact_match", filter_: str = "flexible-extract") -> pd.DataFrame:
    """Rows like GSM8K's: short predictions taken from a long response."""
    rng = random.Random(seed)
    rows = []
    for index in range(n):
        target = str(rng.randint(2, 400))
        old_right, new_right = rng.random() < 0.45, rng.random() < 0.55
        if rng.random() < 0.5:
            new_right = old_right
        old = target if old_right else str(rng.randint(401, 500))
        new = target if new_right else str(rng.randint(450, 520))
        reasoning = sentence(rng, rng.randint(20, 50))
        quadrant = {(1, 1): "both_correct", (0, 1): "positive_flip", (1, 0): "negative_flip", (0, 0): "both_wrong"}[
            (int(old_right), int(new_right))
        ]
        rows.append(
            {
                "task": "gsm8k", "doc_id": str(index), "filter": filter_, "metric": metric,
                "input": f"Question: {sentence(rng, 40)} How many are left?\nAnswer:", "target": target,
                "prediction_old": old, "prediction_new": new,
                "response_old": f"{reasoning} So there are {old} left.\n#### {old}",
                "response_new": f"{reasoning.replace('cookies', 'biscuits')} So {new} remain.\n#### {new}",
                "score_old": float(old_right), "score_new": float(new_right),
                "gain": float(new_right) - float(old_right), "quadrant": quadrant, "changed": old != new,
                "error_old": None, "error_new": None, "doc_hash": f"{index:08x}",
                "steps": rng.choice([2, 3, 4, 5]), "topic": rng.choice(["money", "time", "distance", "mixtures"]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def summary_rows(n: int, seed: int, epsilon: float = 0.02) -> pd.DataFrame:
    """Rows like SAMSum's: long predictions with a smooth score."""
    rng = random.Random(seed)
    rows = []
    for index in range(n):
        target = sentence(rng, 18)
        words = target.split()
        old = " ".join(w if rng.random() < 0.7 else rng.choice(WORDS) for w in words)
        new = " ".join(w if rng.random() < 0.85 else rng.choice(WORDS) for w in old.split())
        score_old, score_new = (round(rng.betavariate(4, 5), 4) for _ in range(2))
        gain = round(score_new - score_old, 4)
        quadrant = "positive_flip" if gain > epsilon else "negative_flip" if gain < -epsilon else "unchanged"
        rows.append(
            {
                "task": "samsum", "doc_id": f"{13_000_000 + index}", "filter": "none", "metric": "rouge1",
                "input": "\r\n".join(f"{rng.choice(['Tim', 'Kim'])}: {sentence(rng, 9)}" for _ in range(6)),
                "target": target, "prediction_old": old, "prediction_new": new,
                "response_old": None, "response_new": None,
                "score_old": score_old, "score_new": score_new, "gain": gain, "quadrant": quadrant,
                "changed": old != new, "error_old": None, "error_new": None, "doc_hash": f"{index:08x}",
                "turns": rng.choice(["short", "long"]),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def discrete(rows: pd.DataFrame, gates: tuple[Gate, ...] = (), **pairing: object) -> Comparison:
    quadrants = {
        q: int((rows["quadrant"] == q).sum()) for q in ("both_correct", "positive_flip", "negative_flip", "both_wrong")
    }
    n = sum(quadrants.values())
    different = int(((rows["quadrant"] == "both_wrong") & rows["changed"].astype(bool)).sum())
    slices = []
    for value in dict.fromkeys(rows["topic"]):
        part = rows[[topic == value for topic in rows["topic"]]]
        negative = int((part["quadrant"] == "negative_flip").sum())
        positive = int((part["quadrant"] == "positive_flip").sum())
        slices.append(Slice("topic", str(value), len(part), positive, negative, rate(negative, len(part)), 0.04, 0.16))
    flips = quadrants["negative_flip"]
    trials = flips + quadrants["positive_flip"]
    return Comparison(
        task="gsm8k", filter=str(rows["filter"].iloc[0]), metric=str(rows["metric"].iloc[0]), kind="discrete",
        signature=f"gsm8k|test|5-shot|limit none|{rows['filter'].iloc[0]}|exact_match|n {n}|Wilson 95 %",
        n=n, pairing=Pairing(paired=n, **pairing),  # type: ignore[arg-type]
        quadrants=quadrants, metrics=discrete_metrics(quadrants, different),
        tests={"mcnemar_p": float(binomtest(flips, trials).pvalue) if trials else None},
        instances=rows, slices=tuple(slices), gates=gates,
    )  # fmt: skip


def smooth(rows: pd.DataFrame, gates: tuple[Gate, ...] = ()) -> Comparison:
    quadrants = {q: int((rows["quadrant"] == q).sum()) for q in ("positive_flip", "negative_flip", "unchanged")}
    n = len(rows)
    up, down = rows["gain"][rows["gain"] > 0], -rows["gain"][rows["gain"] < 0]
    mean = float(rows["gain"].mean())
    half = 1.96 * float(rows["gain"].std()) / n**0.5
    return Comparison(
        task="samsum", filter="none", metric="rouge1", kind="smooth",
        signature=f"samsum|test|0-shot|rouge1 fmeasure, rouge-score 0.1.2|epsilon 0.02|n {n}|bootstrap 10,000, seed 0",
        n=n, pairing=Pairing(paired=n), quadrants=quadrants,
        metrics={
            "score_old": Estimate(float(rows["score_old"].mean()), 0.43, 0.46, n, n),
            "score_new": Estimate(float(rows["score_new"].mean()), 0.43, 0.46, n, n),
            "mean_difference": Estimate(mean, mean - half, mean + half, n, n),
            "nfr": rate(quadrants["negative_flip"], n), "pfr": rate(quadrants["positive_flip"], n),
            "mean_gain": Estimate(float(up.mean()), 0.14, 0.16, len(up), n) if len(up)
            else Estimate(None, why="no instance gains", count=0, of=n),
            "mean_regression": Estimate(float(down.mean()), 0.14, 0.16, len(down), n) if len(down)
            else Estimate(None, why="no instance regresses", count=0, of=n),
        },
        tests={"permutation_p": 0.31}, instances=rows, gates=gates,
    )  # fmt: skip


FAILED = Gate("nfr:2%", "fail", "negative flip rate 10.4 % (lower bound 9.1 %) is above 2 %")
UNSURE = Gate("net:-1%", "inconclusive", "net change +0.4 pts (−1.6 – +2.4 pts) straddles −1 pts", needed_n=4200)

OLD = Side(
    "org/model-v1+adapters/gsm8k", "sha256:1f0c44aa90", "adapter", {"name": "hf", "dtype": "float32"}, {"seed": 0}
)
NEW = Side(
    "org/model-v2+adapters/gsm8k", "sha256:77ab12cd03", "adapter", {"name": "hf", "dtype": "float32"}, {"seed": 0}
)


def result(*comparisons: Comparison, verdict: str = "none", notes: tuple[str, ...] = (), command: str = "") -> Result:
    return Result(OLD, NEW, comparisons, verdict, "0.1.0", notes, command)


def hostile_rows(n: int = 12) -> pd.DataFrame:
    rows = number_rows(n, 5)
    for column in ("input", "target", "prediction_old", "prediction_new", "response_old", "response_new", "topic"):
        # pandas' own string type refuses lone surrogates, which JSON can hold
        rows[column] = pd.Series([HOSTILE + f" {column} {index}" for index in range(n)], dtype=object)
    rows["doc_id"] = pd.Series([f"{HOSTILE}{index}" for index in range(n)], dtype=object)
    rows["quadrant"] = "negative_flip"
    return rows


def error_rows(n: int = 60) -> pd.DataFrame:
    """Some rows with errors (null quadrant) and some without an answer."""
    rows = number_rows(n, 8)
    bad = rows.index[:4]
    rows["error_new"] = rows["error_new"].astype(object)
    rows.loc[bad, "error_new"] = "HTTP 500: upstream timed out"
    rows.loc[bad, ["quadrant", "prediction_new", "score_new", "gain"]] = None
    wrong = rows.index[(rows["score_new"] == 0)][:3]
    rows.loc[wrong, "prediction_new"] = None
    return rows


@pytest.fixture(scope="session")
def failing() -> Result:
    """One discrete comparison of 400 rows that breaks its budget."""
    return result(
        discrete(number_rows(400, 1), (FAILED, UNSURE)), verdict="fail", command="compatcheck diff old new --task gsm8k"
    )


@pytest.fixture(scope="session")
def several() -> Result:
    """Two filters and a smooth task, no budget."""
    return result(
        discrete(number_rows(300, 2, filter_="strict-match")),
        discrete(number_rows(300, 3)),
        smooth(summary_rows(200, 4)),
        notes=("The adapter names another base than the one given; the one given is used.",),
    )


@pytest.fixture(scope="session")
def hostile() -> Result:
    """Every text of the data, the references and the notes tries to break out."""
    comparison = discrete(
        hostile_rows(), (Gate(HOSTILE, "fail", HOSTILE),), errors_old=1, no_answer_new=2, target_changed=1
    )
    comparison = replace(comparison, slices=tuple(replace(part, n=20 + part.n) for part in comparison.slices))
    side = Side(HOSTILE, "sha256:0", "recorded", {HOSTILE: HOSTILE}, {"seed": HOSTILE})
    return Result(side, side, (comparison,), "fail", "0.1.0", (HOSTILE,), HOSTILE)


@pytest.fixture(scope="session")
def errors() -> Result:
    rows = error_rows()
    return result(
        discrete(rows, errors_new=4, no_answer_new=3, only_old=2, duplicates=1, examples={"only_old": ("b7", "b9")})
    )


@pytest.fixture(scope="session")
def large() -> Callable[[int], Result]:
    """A result of ``n`` instances with long texts, and its smooth sister."""

    @functools.cache
    def build(n: int) -> Result:
        return result(discrete(number_rows(n, 11), (FAILED,)), smooth(summary_rows(n, 12)), verdict="fail")

    return build


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def open_report(chromium: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a result's report, offline, and sees that it says nothing and asks for nothing."""
    with offline(chromium) as opened:

        def report(result: Result | Candidates, width: int = 1280, scheme: str = "light", **options: bool) -> Any:
            save(result, tmp_path, ["html"])
            page = opened(tmp_path / "report.html", width, scheme, **options)
            page.wait_for_selector("#instances tbody tr")
            return page

        yield report
