"""`compatcheck show`: printed without a terminal, paged through on one."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from compatcheck.cli.app import run
from tests.factories import write_rows

HOSTILE = "::error::x [red]m[/red] \x1b[2J\x1b]0;title\x07 \u202egnp {{ x }}"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 rows: 6 negative flips, 3 positive ones, 2 errors, 4 both wrong, the rest both correct."""
    folder = tmp_path_factory.mktemp("kept")
    old, new = [], []
    for i in range(30):
        row = {
            "id": f"q{i}",
            "input": f"Question {i}?\nAnswer:",
            "target": f"the answer is {i}",
            "topic": ["odd", "even"][i % 2],
        }
        right, wrong = f"the answer is {i}", f"the answer was {i + 1}"
        before, after = (
            (right, wrong) if i < 6 else (wrong, right) if i < 9 else (wrong, wrong) if i < 13 else (right, right)
        )
        old.append(row | {"prediction": before})
        new.append(row | {"prediction": f"{after} {HOSTILE}" if i == 0 else after})
    for i in (28, 29):
        new[i]["error"] = "HTTP 500: upstream timed out"
    for name, rows in (("old", old), ("new", new)):
        write_rows(folder / f"{name}.jsonl", rows)
    assert run(["diff", str(folder / "old.jsonl"), str(folder / "new.jsonl"), "--out", str(folder / "out"), "-q"]) == 0
    return folder / "out"


def ids(text: str) -> list[str]:
    return re.findall(r"^id +(q\d+)(?:  .*)?$", text, flags=re.M)


def test_flips_are_printed_negative_ones_first(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(kept)]) == 0
    captured = capsys.readouterr()
    assert ids(captured.out) == ["q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8"]
    assert captured.err == ""
    assert "old      the answer [-is-] [-1-]" in captured.out or "old      the answer [-is 1-]" in captured.out
    assert "new      the answer {+was 2+}" in captured.out
    assert "input    Question 1?\n         Answer:" in captured.out
    assert "topic=even" in captured.out


def test_hostile_text_and_narrow_terminals(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for width in (40, 80):
        assert run(["show", str(kept), "--width", str(width), "--quadrant", "all", "--limit", "99"]) == 0
        out = capsys.readouterr().out
        assert not CONTROL.search(out)
        assert max(cell_len(line) for line in out.split("\n")) <= width
        assert "\\x1b[2J" in re.sub(r"\s+", "", out)
    assert "[red]m[/red]" in out


def test_the_number_printed_is_bounded_and_the_rest_counted(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["show", str(kept), "--limit", "2"])
    captured = capsys.readouterr()
    assert ids(captured.out) == ["q0", "q1"]
    assert captured.err == "7 more of 9: raise --limit\n"


def test_choosing_a_kind_of_failure(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(kept), "--quadrant", "number-scale"]) == 0
    printed = capsys.readouterr().out
    assert ids(printed) == ["q1"]  # 2 for 1
    assert "q1  number off by a factor, sign or unit" in printed
    assert run(["show", str(kept), "--quadrant", "refused"]) == 0
    assert "no instance is in 'refused'" in capsys.readouterr().err
    assert run(["show", str(kept), "--quadrant", "refusd"]) == 2
    assert "--quadrant refusd: unknown (did you mean 'refused'?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--quadrant", "positive_flip"], ["q6", "q7", "q8"]),
        (["--quadrant", "negative-flips", "--search", "QUESTION odd"], ["q0", "q2", "q4"]),
        (["--quadrant", "both_wrong"], ["q9", "q10", "q11", "q12"]),
        (["--quadrant", "error"], ["q28", "q29"]),
        (["--quadrant", "all", "--search", "upstream"], ["q28", "q29"]),
        (["--task", "exact_match", "--search", "18"], []),
        (["--quadrant", "all", "--search", "18"], ["q18"]),
    ],
)
def test_choosing(kept: Path, options: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(kept), *options]) == 0
    captured = capsys.readouterr()
    assert ids(captured.out) == expected
    assert ("no instance is in" in captured.err) == (not expected)


def test_one_instance_by_its_id(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(kept), "q29"]) == 0
    out = capsys.readouterr().out
    assert ids(out) == ["q29"]
    assert out.startswith("! not scored")
    assert "new failed HTTP 500: upstream timed out" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["q299"], "no instance has this id (did you mean 'q29'?)"),
        (["--quadrant", "negativ_flip"], "did you mean 'negative_flip'?"),
        (["--task", "gsm8k"], "--task gsm8k: is not in this report"),
    ],
)
def test_what_is_not_there(kept: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(kept), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_without_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(tmp_path)]) == 2
    assert "has no report.json" in capsys.readouterr().err


def test_a_runner_takes_no_line_for_a_command(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    run(["show", str(kept)])
    assert capsys.readouterr().out.startswith("::stop-commands::")


class Terminal:
    """A pseudo-terminal with the command running in it, and what it shows after each key."""

    def __init__(self, folder: Path, *options: str, columns: int = 80, rows: int = 24, **environment: str) -> None:
        import fcntl
        import struct
        import termios

        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        code = "from compatcheck.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "show", str(folder), *options],
            stdin=slave, stdout=slave, stderr=slave, env={**plain, "TERM": "xterm-256color", **environment},
        )  # fmt: skip
        self.columns, self.rows = columns, rows

    def screen(self, wanted: str, seconds: float = 60) -> str:
        """The last page drawn, once it holds ``wanted``."""
        seen, end = "", time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    seen += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    break
            page = seen.rpartition("\x1b[2J")[2]
            if wanted in page and "q quit" in page:
                return page
        raise AssertionError(f"{wanted!r} did not come; seen: {seen!r}")

    def press(self, keys: str, wanted: str) -> str:
        os.write(self.master, keys.encode())
        return self.screen(wanted)

    def quit(self, key: str = "q") -> str:
        os.write(self.master, key.encode())
        assert self.process.wait(30) == 0
        rest = ""
        while select.select([self.master], [], [], 0.2)[0]:
            rest += os.read(self.master, 65536).decode("utf-8", "replace")
        return rest


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    pytest.importorskip("termios", reason="needs a POSIX terminal")
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        os.close(each.master)
        os.close(each.slave)


@pytest.mark.slow
def test_paging_on_a_terminal(kept: Path, terminals: list[Terminal]) -> None:
    import termios

    terminal = Terminal(kept)
    terminals.append(terminal)
    first = terminal.screen("1 of 9 · flips")
    assert "q0" in first
    assert "\\x1b]0;title\\x07" in re.sub(r"\x1b\[[0-9;]*m|\s", "", first)
    terminal.press("n", "2 of 9")
    assert "q2" in terminal.press("\x1b[C", "3 of 9")
    terminal.press("p", "2 of 9")
    terminal.press("p", "1 of 9")
    page = terminal.press("1", "1 of 6 · negative flips")
    assert "3 of 6" in terminal.press("jj", "3 of 6")
    terminal.press("G", "6 of 6")
    assert "q6" in terminal.press("2", "1 of 3 · positive flips")
    assert "q9" in terminal.press("3", "1 of 4 · both wrong")
    terminal.press("4", "1 of 15 · both correct")
    assert "upstream timed out" in terminal.press("e", "1 of 2 · not scored")
    terminal.press("0", "1 of 9 · flips")
    terminal.press("/Question q4\n", '1 of 1 · flips, with "Question q4"')
    assert "No instance" in terminal.press("/nothing\n", "none · flips")
    terminal.press("/\n", "1 of 9")
    assert "this help" in terminal.press("?", "this help")
    page = terminal.press("n", "1 of 9")  # any key leaves the help
    lines = re.sub(r"\x1b\[[0-9;]*m", "", page).split("\r\n")
    assert len(lines) <= terminal.rows
    assert max(cell_len(line) for line in lines) <= terminal.columns
    assert terminal.quit().endswith("\x1b[?1049l")  # the screen is given back
    assert termios.tcgetattr(terminal.slave)[:4] == terminal.before[:4]


@pytest.mark.slow
def test_long_instances_scroll(kept: Path, terminals: list[Terminal]) -> None:
    terminal = Terminal(kept, rows=7)
    terminals.append(terminal)
    assert re.search(r"↓ \d+ more lines", terminal.screen("1 of 9"))
    for _ in range(12):
        page = terminal.press(" ", "of 9")
        if "2 of 9" in page:
            break
    assert "2 of 9" in page  # at the end of one instance the next follows
    terminal.quit()


@pytest.mark.slow
def test_no_color_on_a_terminal(kept: Path, terminals: list[Terminal]) -> None:
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = Terminal(kept, **environment)
        terminals.append(terminal)
        page = terminal.screen("1 of 9")
        assert bool(re.search(r"\x1b\[[0-9;]+m", page)) == coloured
        assert ("[-is" in page) != coloured
        terminal.quit("\x04")


def test_a_dumb_terminal_gets_everything_printed(kept: Path, terminals: list[Terminal]) -> None:
    terminal = Terminal(kept, TERM="dumb")
    terminals.append(terminal)
    seen = ""
    while terminal.process.poll() is None or select.select([terminal.master], [], [], 0.1)[0]:
        if select.select([terminal.master], [], [], 0.1)[0]:
            seen += os.read(terminal.master, 65536).decode()
    assert "\x1b" not in seen
    assert re.findall(r"^id +(q\d+)", seen.replace("\r", ""), flags=re.M) == [f"q{i}" for i in range(9)]
