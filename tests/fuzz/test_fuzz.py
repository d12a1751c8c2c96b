"""Damaged inputs of every kind, in this process: exit codes, no traceback, nothing lost, nothing written elsewhere.

Five hundred run with the other tests (``COMPATCHECK_FUZZ`` says how many); ``make fuzz`` runs 20,000 and prints the
exit codes by kind. ``python -m tests.fuzz --first N --count 1 --show`` shows one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines.endpoint.servers import serving
from tests.fuzz.inputs import Whole, build, make
from tests.fuzz.recorded import plain_rows
from tests.fuzz.served import FAST, Rubbish
from tests.fuzz.watch import SECRETS, Input, attempt, complaints, empty

COUNT = int(os.environ.get("COMPATCHECK_FUZZ", "500"))
AT_ONCE = 50


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    with serving(Rubbish) as server:
        yield build(tmp_path_factory.mktemp("whole").resolve(), server)


@pytest.mark.parametrize("first", range(0, COUNT, AT_ONCE))
def test_damaged_inputs(first: int, whole: Whole, tmp_path: Path) -> None:
    wrong = []
    for number in range(first, min(first + AT_ONCE, COUNT)):
        outcome = attempt(make(number, tmp_path.resolve() / "box", whole))
        if found := complaints(outcome):
            wrong.append(f"#{number} {'; '.join(found)}\n    {outcome}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_same_number_is_the_same_input(whole: Whole, tmp_path: Path) -> None:
    box = tmp_path.resolve() / "box"
    one, two = (make(3, box, whole) for _ in range(2))
    assert one == two and one != make(4, box, whole)


def test_what_is_whole_goes_through(whole: Whole, tmp_path: Path) -> None:
    """Else every refusal above would be right."""
    box, kept, task = empty(tmp_path.resolve() / "box"), whole.kept, str(whole.served / "tinygen.yaml")
    asked = ["--task", task, "--data", str(whole.served / "data"), *FAST]
    for number, arguments in enumerate(
        [
            *[["report", str(kept / name), "--format", "html"] for name in ("report", "streamed")],
            ["run", str(kept / "run")],
            ["diff", str(kept / "run"), str(kept / "b.jsonl")],
            ["export", str(kept / "run"), "--to", "jsonl"],
            ["run", f"{whole.server.url}#m", *asked],
            *[["show", str(kept / name), "--quadrant", "all"] for name in ("report", "streamed")],
            ["card", str(kept / "report")],
            ["tasks", task],
        ]
    ):
        out = box / str(number)
        where = [] if arguments[0] in ("show", "card", "tasks") else ["--out", str(out)]
        Rubbish.damaged = 0.0
        outcome = attempt(Input("own", "none", [*arguments, *where], box, out=out, compares=False))
        expected = 1 if arguments[:2] == ["report", str(kept / "report")] else 0
        assert outcome.code == expected and not complaints(outcome), outcome


def test_what_is_wrong_is_seen(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each invariant, broken on purpose: else every input above would be right."""
    import compatcheck.cli.runs as command

    box, outside = empty(tmp_path.resolve() / "box"), tmp_path.resolve() / "outside"
    (box / "cwd").mkdir()
    (box / "rows.jsonl").write_text("".join(f"{row}\n" for row in map(json.dumps, plain_rows())))
    given = Input("own", "none", ["run", str(box / "rows.jsonl"), "--out", str(box / "out")], box, out=box / "out")
    assert complaints(attempt(given)) == []

    def broken(*_: object) -> None:
        (box / "cwd" / "elsewhere").write_text("x")
        outside.write_text("x")
        print(f"\x1b[31m{SECRETS['OPENAI_API_KEY']}")
        raise ZeroDivisionError

    monkeypatch.setattr(command, "check_writable", broken)
    found = " ".join(complaints(attempt(given)))
    for word in (
        "internal error",
        "elsewhere",
        "control character",
        "OPENAI_API_KEY",
        "no line that begins",
        "half-written",
    ):
        assert word in found, (word, found)
    assert "cwd/elsewhere" in found and str(outside) in found
    few = replace(given, arguments=["diff", *[str(box / "rows.jsonl")] * 2, "--allow-same", "--out", f"{box}/two"])
    assert "24 of 25 rows" in " ".join(complaints(attempt(replace(few, out=box / "two", rows=25))))
