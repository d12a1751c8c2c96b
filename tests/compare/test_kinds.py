"""Kinds of failure: a hundred flips whose kind is known, and what could be mistaken for it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from compatcheck.cli.app import run
from compatcheck.compare import compare
from compatcheck.compare.kinds import KINDS, Flip, failure_kind, labels
from tests.factories import write_rows

SUMMARY = "Amanda baked cookies and will bring some to Jerry tomorrow after work."
LONG = f"{SUMMARY} She also asked him whether he would like tea, and he said that he would like that very much."
CODE = "def add(a, b):\n    return a + b"
CASES: dict[str, list[tuple[str | None, str | None, str | None]]] = {  # target, old, new
    "empty": [
        ("7", "7", None), ("7", "7", ""), ("Paris", "Paris", "  \n"), ("B", "B", "[invalid]"), (SUMMARY, SUMMARY, "\t"),
        ("yes", "yes", None), (None, "Rome", ""), ("3.5", "3.5", " "),
    ],
    "refused": [
        ("7", "7", "I'm sorry, but I can't help with that."), ("Paris", "Paris", "I cannot assist with this request."),
        (SUMMARY, SUMMARY, "As an AI language model, I do not have opinions."), ("B", "B", "I'm unable to answer."),
        ("42", "42", "Sorry, I can't provide that."), ("yes", "yes", "I won't answer that."),
        ("ok", "ok", "I am not able to help you with this."), ("7", "7", "Es tut mir leid, das kann ich nicht sagen."),
        ("3", "3", "Unfortunately, I must decline."),
    ],
    "cut_off": [
        (SUMMARY, SUMMARY, "Amanda baked cookies and will bring some to"),
        (SUMMARY, SUMMARY, "Amanda made some cookies for the"),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2}', '{"a": 1, "b'), (CODE, CODE, f"```python\n{CODE}"),
        ("Rome", "The capital of Italy is Rome", "The capital of Italy is"),
        (SUMMARY, SUMMARY, "Amanda baked cookies and will bring so"),
        (SUMMARY, SUMMARY, "Well, first of all, there are cookies,"),
    ],
    "language": [
        (SUMMARY, SUMMARY, "Amanda hat Kekse gebacken und bringt Jerry morgen nach der Arbeit ein paar mit."),
        (SUMMARY, SUMMARY, "Аманда испекла печенье."), ("Paris", "Paris", "巴黎"), ("Tokyo", "Tokyo", "東京です"),
        ("Athens", "Athens", "Αθήνα"), (SUMMARY, SUMMARY, "Amanda a fait des biscuits et les donne à Jerry demain."),
        (SUMMARY, SUMMARY, "Amanda hizo las galletas y se las da a Jerry por la mañana."),
        ("Cairo", "Cairo", "القاهرة"),
    ],
    "spelling": [
        ("Paris", "Paris", "paris"), ("Paris", "Paris", "Paris."), ("New York", "New York", "NewYork"),
        ("café", "café", "cafe"), ("yes", "yes", "YES!"), ("a b", "a b", "a  b"), ("it's", "it's", "it’s"),
        ("Paris", "Paris", '"Paris"'), ("12", "12", "12."),
    ],
    "format": [
        ("2295", "2295", "2,295.00 USD"), ("2295", "2295", "The total is 2295 dollars"), ("12", "12", "$12"),
        ("12", "12", "twelve"), ("12", "12", "\\boxed{12}"), ("Paris", "Paris", "The answer is Paris, of course"),
        ("B", "B", "(B)"), ("B", "B", "B. Paris"), ("0.5", "0.5", "1/2"), ("0.5", "0.5", "50%"),
        ("2024-01-05", "2024-01-05", "January 5, 2024"), ('{"a": 1}', '{"a": 1}', "a is one"), ("1000", "1000", "1e3"),
        ("billing", "billing", "Category: billing"), ("1.5", "1.5", "1,5"),
    ],
    "choice": [
        ("B", "B", "C"), ("B", "B", "(C)"), ("A", "A", "Answer: D"), ("yes", "yes", "no"),
        ("yes", "yes", "No, it is not"),
        ("True", "True", "False"), ("positive", "positive", "negative"), ("billing", "billing", "shipping"),
        ("returns", "returns", "account"),
    ],
    "number_scale": [
        ("2295", "2295", "22950"), ("2295", "2295", "229.5"), ("12", "12", "-12"), ("12", "12", "24"),
        ("5 km", "5 km", "5 miles"), ("120", "120", "2"), ("0.05", "0.05", "5"), ("3", "3", "3000"), ("-4", "-4", "4"),
        ("10", "10", "The answer is 5"), ("7 kg", "7 kg", "7 lb"), ("36", "36", "0.36"),
    ],
    "number": [
        ("2295", "2295", "2296"), ("12", "12", "17"), ("12", "12", "The answer is 13."), ("3.5", "3.5", "3.6"),
        ("18", "18", "So 3 + 4 = 7"), ("100", "100", "99"), ("$40", "$40", "$43"), ("7", "7", "0"),
    ],
    "longer": [
        (SUMMARY, SUMMARY, LONG), ("Rome", "Rome", "It was the city of Florence, in which she lived for a long time."),
        (SUMMARY, SUMMARY, f"{LONG} Then they watched a film."),
        ("blue", "blue", "It was red as far as I can tell from it."),
    ],
    "shorter": [
        (LONG, LONG, "Amanda baked cookies."), (LONG, LONG, "Jerry gets cookies."), (SUMMARY, SUMMARY, "Cookies."),
        (LONG, LONG, "She bakes."),
    ],
    "other": [
        ("Paris", "Paris", "Rome"), ("red", "red", "blue"), (SUMMARY, SUMMARY, SUMMARY.replace("Jerry", "Tom")),
        ("Ada Lovelace", "Ada Lovelace", "Grace Hopper"), ("dog", "dog", "a cat"), ("की", "की", "का"),
        ("no", "no", "I have no idea at all"),
    ],
}  # fmt: skip
TARGETS = labels(["billing", "shipping", "returns", "account"], 400)


def test_there_are_a_hundred_of_every_kind_together() -> None:
    assert list(CASES) == list(KINDS)
    assert sum(map(len, CASES.values())) == 100


@pytest.mark.parametrize("kind", CASES)
def test_constructed_flips(kind: str) -> None:
    found = [(case, failure_kind(Flip(*case), TARGETS)) for case in CASES[kind]]
    assert [(case, got) for case, got in found if got != kind] == []


def test_the_counts_of_a_comparison(tmp_path: Path) -> None:
    rows = [case for kind in CASES for case in CASES[kind] if case[0] is not None]
    sides: dict[str, list[dict[str, object]]] = {"old": [], "new": []}
    for place, (target, old, new) in enumerate(rows):
        about = {"id": place, "target": target}
        sides["old"].append({**about, "prediction": old, "score": 1})
        sides["new"].append({**about, "prediction": new, "score": 0})
    for name, made in sides.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    old, new, out = (str(tmp_path / name) for name in ("old.jsonl", "new.jsonl", "out"))
    assert run(["diff", old, new, "--metric", "score", "--correct-at", "1", "-q", "--out", out]) == 0
    (comparison,) = json.loads((tmp_path / "out" / "report.json").read_text())["comparisons"]
    counts = {each["kind"]: each["count"] for each in comparison["kinds"]}
    expected = Counter({kind: sum(case[0] is not None for case in cases) for kind, cases in CASES.items()})
    # Of targets of all sorts none is a label: two flips between categories are other answers.
    expected.subtract({"choice": 2, "other": -2})
    assert counts == dict(expected)
    assert [each["count"] for each in comparison["kinds"]] == sorted(counts.values(), reverse=True)


def test_what_else_is_known_of_an_answer() -> None:
    assert failure_kind(Flip("7", "7", "8", finish_reason="length")) == "cut_off"
    assert failure_kind(Flip("a long way", "a long way", "a short way", chosen=True)) == "choice"
    # No answer was found in the text: it has another form, whatever it says.
    assert failure_kind(Flip("10", "10", "[invalid]", "#### 10", "The answer is 12")) == "format"
    assert failure_kind(Flip("10", "10", None, "#### 10", "I'm sorry, but I can't do that.")) == "refused"


def test_few_targets_are_labels() -> None:
    assert labels(["a", "b"] * 50, 100) == {"a", "b"}
    assert labels(map(str, range(60)), 1_000) == frozenset()
    assert labels(["a", "b", "c"], 8) == frozenset()
    assert labels(["a"] * 10, 10) == frozenset()


def test_what_a_rule_could_take_for_something_else() -> None:
    code = "Here is a function that is of use to you:\n```python\nfor com in de: os = re.sub(no, do, em)\n```\n"
    assert (
        failure_kind(Flip(code, code, f"{code} It is the one that you asked for, and there is more to it."))
        != "language"
    )
    assert failure_kind(Flip("I went", "I trudged home", "I walk in the rain")) == "other"  # no option I
    assert failure_kind(Flip("A cat", "A cat", "A dog")) == "other"  # nor A
    assert failure_kind(Flip(None, "It is sorry", "It is a pity")) == "other"
    # Where OLD declined, too, or was to, declining is not what went wrong.
    assert failure_kind(Flip("no", "I can't help with that.", "I'm unable to answer.")) != "refused"
    assert failure_kind(Flip("I can't help with that.", "no", "I'm unable to answer.")) != "refused"


@pytest.mark.parametrize(
    "new", ["9" * 4000, "1e" + "9" * 3000, "-" * 5000, "[" * 5000, "٣", "\ud800 5", "1/0", "0", "{" * 3000]
)
def test_hostile_answers_have_a_kind(new: str) -> None:
    for right in ("5", "0", "9" * 4000, '{"a": 1}', None):
        assert failure_kind(Flip(right, right, new)) in KINDS


def test_where_the_score_alone_says_that_it_got_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both were "white space, case or punctuation only"."""
    text = "A long text about cookies."
    rows = [{"id": n, "target": "x" if n else text, "prediction": text, "score": 1} for n in range(2)]
    worse = [rows[0] | {"score": 0}, rows[1] | {"prediction": "x", "score": 0}]
    old, new = write_rows(tmp_path / "old.jsonl", rows), write_rows(tmp_path / "new.jsonl", worse)
    assert run(["diff", str(old), str(new), "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert found["quadrants"]["negative_flip"] == 2
    assert found["kinds"] == [{"kind": "other", "count": 1}], "of one text nothing is told"


@pytest.mark.parametrize("reasons", [["stop", None], [None, float("nan")], [1.0, float("nan")], [1, 2]])
def test_reasons_that_are_no_texts_say_nothing(reasons: list[Any], make_run) -> None:
    old = make_run([1, 1], prediction=["Paris", "Rome"], target=["Paris", "Rome"])
    new = make_run([1, 0], prediction=["Paris", "Oslo"], target=["Paris", "Rome"], finish_reason=reasons)
    kinds = compare(old, new, metric="exact_match").kinds
    assert kinds is not None and [each.count for each in kinds] == [1]


@pytest.mark.parametrize(("reason", "kind"), [("length", "cut_off"), ("Max_Tokens", "cut_off"), ("safety", "refused")])
@pytest.mark.parametrize("column", ["finish_reason", "stop_reason", "usage.stop_reason"])
def test_why_an_answer_ended_is_read_wherever_it_stands(column: str, reason: str, kind: str, make_run) -> None:
    old = make_run([1, 1], prediction=["Paris", "Rome"], target=["Paris", "Rome"])
    new = make_run([1, 0], prediction=["Paris", "Oslo"], target=["Paris", "Rome"], **{column: ["stop", reason]})
    kinds = compare(old, new, metric="exact_match").kinds
    assert kinds is not None and [each.kind for each in kinds] == [kind]
