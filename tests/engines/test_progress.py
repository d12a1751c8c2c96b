"""What is said of long work, on a terminal and where there is none."""

from __future__ import annotations

import io
import threading

from rich.console import Console

from compatcheck.engines.answers import Generated
from compatcheck.engines.progress import BarProgress, LineProgress, Stage


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Request:
    def __init__(self, document: int) -> None:
        self.task_name, self.doc_id = "gsm8k", document


def test_a_line_every_half_minute_says_how_far_how_fast_and_how_long() -> None:
    clock, out = Clock(), io.StringIO()
    progress = LineProgress(out, clock)
    progress.start("gsm8k: generating\x1b[2J", 1000)
    for second in range(1, 101):
        clock.now = float(second)
        progress.advance(5, 100)
        progress.tick()
    progress.finish()
    assert out.getvalue().splitlines() == [
        "gsm8k: generating [2J: 150 of 1,000, 5.0/s, 100 tokens/s, 2:50 left",
        "gsm8k: generating [2J: 300 of 1,000, 5.0/s, 100 tokens/s, 2:20 left",
        "gsm8k: generating [2J: 450 of 1,000, 5.0/s, 100 tokens/s, 1:50 left",
    ]


def test_many_short_stages_are_told_of_as_one_long_one_is() -> None:
    """The parts of a large task, or the phases of a fix, may each take less than the time between two lines."""
    clock, out = Clock(), io.StringIO()
    progress = LineProgress(out, clock)
    for part in range(4):
        progress.start("piqa", 400, 100 * part)
        clock.now += 20
        progress.advance(100)
        progress.tick()
        progress.finish()
    assert out.getvalue().splitlines() == [
        "piqa: 200 of 400, 5.0/s, 0:40 left",
        "piqa: 400 of 400, 5.0/s, 0:00 left",
    ]


def test_a_line_comes_although_nothing_moves() -> None:
    """The clock runs in leaps, so that the line is due at once; the thread that looks at it is the real one."""
    written = threading.Event()

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            written.set()
            return super().write(text)

    class Leaping(Clock):
        def __call__(self) -> float:
            self.now += 31
            return self.now

    out = Out()
    progress = LineProgress(out, Leaping())
    progress.start("generating", 10)
    assert written.wait(60)
    progress.finish()
    assert out.getvalue().startswith("generating: 0 of 10, ")
    assert "so far" in out.getvalue()


def test_what_was_there_before_is_in_no_rate() -> None:
    clock, out = Clock(), io.StringIO()
    progress = LineProgress(out, clock)
    progress.start("training", 1000, 700)
    clock.now = 30.0
    progress.advance(60)
    progress.beside("loss 0.5000")
    progress.tick()
    progress.finish()
    assert out.getvalue() == "training: 760 of 1,000, 2.0/s, 2:00 left, loss 0.5000\n"


def test_time_left_is_told_when_enough_is_done_to_know_it() -> None:
    clock, out = Clock(), io.StringIO()
    progress = LineProgress(out, clock)
    progress.start("generating", 1000)
    clock.now = 30.0
    progress.advance(3)
    progress.tick()
    progress.finish()
    assert out.getvalue() == "generating: 3 of 1,000, 0.1/s, 0:30 so far\n"


def test_tokens_are_told_only_where_all_are_known() -> None:
    for answers, said in (
        ([Generated("a", output_tokens=40), Generated("b", output_tokens=80)], ", 4 tokens/s"),
        ([Generated("a", output_tokens=40), "of a backend that does not say"], ""),
        ([Generated("a", output_tokens=120), None], ", 4 tokens/s"),
    ):
        clock, out = Clock(), io.StringIO()
        progress = LineProgress(out, clock)
        with Stage(progress, "generating", [Request(number) for number in range(4)]) as stage:
            clock.now = 30.0
            stage.answered(answers)
            progress.tick()
        assert out.getvalue() == f"generating: 2 of 4, 0.1/s{said}, 0:30 left\n"


def test_a_short_stage_says_nothing() -> None:
    out = io.StringIO()
    progress = LineProgress(out, Clock())
    progress.start("piqa", 10)
    progress.advance(10)
    progress.tick()
    progress.finish()
    assert out.getvalue() == ""


def test_the_rows_of_the_bar_fit_a_narrow_terminal() -> None:
    clock = Clock()
    for width in (80, 120):
        bar = BarProgress(io.StringIO(), clock)
        bar._console = Console(file=io.StringIO(), width=width)
        bar.start("2 of 8, new: gsm8k, generating" + " and more" * 20, 1_319_000)
        clock.now += 7000
        bar.advance(659_500, 2_100_000)
        bar.beside("NFR so far 8.2 % (6.1 – 10.9 %), 40 of 490")
        rows = Console(file=io.StringIO(), width=width)
        rows.print(bar._rows())
        bar.finish()
        found = rows.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert len(found) == 3
        assert all(len(row) <= width for row in found)
        assert found[0].startswith("2 of 8, new: gsm8k, generating and more")
        assert found[1].startswith("━" * 8)
        assert found[1].rstrip().endswith(" 659,500 of 1,319,000 · 94.2/s · 300 tokens/s · 1:56:40 left")
        assert found[2].rstrip() == "NFR so far 8.2 % (6.1 – 10.9 %), 40 of 490"
