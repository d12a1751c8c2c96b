"""What is said of a long evaluation where there is no terminal."""

from __future__ import annotations

import io

from compatcheck.engines.progress import LineProgress


def test_a_line_every_half_minute_says_how_far_how_fast_and_how_long() -> None:
    now, out = [0.0], io.StringIO()
    progress = LineProgress(out, lambda: now[0])
    progress.start("gsm8k: generating\x1b[2J", 1000)
    for second in range(1, 101):
        now[0] = float(second)
        progress.advance(5)
    progress.finish()
    assert out.getvalue().splitlines() == [
        "gsm8k: generating [2J: 150 of 1,000, 5.0/s, 2:50 left",
        "gsm8k: generating [2J: 300 of 1,000, 5.0/s, 2:20 left",
        "gsm8k: generating [2J: 450 of 1,000, 5.0/s, 1:50 left",
    ]


def test_a_short_stage_says_nothing() -> None:
    out = io.StringIO()
    progress = LineProgress(out, lambda: 0.0)
    progress.start("piqa", 10)
    progress.advance(10)
    progress.finish()
    assert out.getvalue() == ""
