"""Runs what a page of the documentation shows, and says where it differs.

A page is one session in a folder of its own, from top to bottom:

| block | what becomes of it |
|---|---|
| any language with ``title="name"`` | is written to the file ``name`` |
| ``console`` | lines that begin with ``$ `` are run and print the lines below them, exactly, errors among them |
| ``pycon`` | is run as a doctest in the same folder |
| ``python`` without a title | is compiled |
| ``sh`` | commands that need models, a server or the hub: parsed with all their options and values, not run |

In what is printed a line ``[…]`` stands for lines that are left out, and ``‹time›`` or ``‹path›`` for text that is
another one each time. ``console`` knows ``compatcheck …``, ``cat FILE`` and ``echo $?``; anything else is an error, so
that nothing is shown that was not run.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
LEFT_OUT = "[…]"
PLACEHOLDER = re.compile(r"‹(?:time|path)›")
LM_EVAL_TASK = "mmlu"
"""The one of lm-eval's own tasks that pages name."""
NOT_OURS = ("pip", "git", "cd", "export", "accelerate")
"""First words of other programs' commands in ``sh`` blocks, which are not looked at any further."""
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w-]*)(?P<rest>[^\n`]*)\n", re.MULTILINE)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """A fenced block: ``line`` is that of its first line of text in the page."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order.

    Raises:
        ValueError: one that is not closed.
    """
    found, position = [], 0
    while match := _FENCE.search(page, position):
        close = re.compile(rf"^{match['indent']}{match['fence']}[ \t]*$", re.MULTILINE).search(page, match.end())
        line = page.count("\n", 0, match.end()) + 1
        if close is None:
            raise ValueError(f"line {line - 1}: this block is not closed")
        text = page[match.end() : close.start()]
        text = "".join(each.removeprefix(match["indent"]) for each in text.splitlines(keepends=True))
        title = _TITLE.search(match["rest"])
        found.append(Block(match["language"], title[1] if title else "", text, line))
        position = close.end()
    return found


@dataclass(frozen=True)
class Step:
    """One command of a ``console`` block and what it prints."""

    command: str
    expected: tuple[str, ...]
    line: int


def steps(block: Block) -> list[Step]:
    """The commands of a ``console`` block; ``\\`` at the end of a line goes on in the next one.

    Raises:
        ValueError: output before the first command.
    """
    found: list[Step] = []
    lines = block.text.splitlines()
    place = 0
    while place < len(lines):
        line = block.line + place
        if not lines[place].startswith("$ "):
            raise ValueError(f"line {line}: output without a command")
        command = lines[place][2:]
        while command.endswith("\\"):
            place += 1
            command = command[:-1] + lines[place].removeprefix(">").strip()
        end = next((k for k in range(place + 1, len(lines)) if lines[k].startswith("$ ")), len(lines))
        found.append(Step(command, tuple(lines[place + 1 : end]), line))
        place = end
    return found


def differs(expected: tuple[str, ...] | list[str], printed: list[str]) -> str:
    """Where what was printed is not what is shown; empty where it is. Spaces at the ends of lines do not count."""
    wanted = [line.rstrip() for line in expected]
    got = [line.rstrip() for line in printed]
    if _matches(wanted, got):
        return ""
    return "shown:\n" + "\n".join(wanted) + "\nprinted:\n" + "\n".join(got)


def _matches(wanted: list[str], got: list[str]) -> bool:
    """Parts between ``[…]`` stand in their order; the first at the beginning and the last at the end."""
    parts: list[list[str]] = [[]]
    for line in wanted:
        if line == LEFT_OUT:
            parts.append([])
        else:
            parts[-1].append(line)
    if len(parts) == 1:
        return len(wanted) == len(got) and all(map(_same, wanted, got))
    first, last = parts[0], parts[-1]
    if len(first) + len(last) > len(got) or not all(map(_same, first, got)):
        return False
    end = len(got) - len(last)
    if not all(map(_same, last, got[end:])):
        return False
    place = len(first)
    for part in parts[1:-1]:
        place = next(
            (k + len(part) for k in range(place, end - len(part) + 1) if all(map(_same, part, got[k : k + len(part)]))),
            -1,
        )
        if place < 0:
            return False
    return True


def _same(wanted: str, got: str) -> bool:
    if not PLACEHOLDER.search(wanted):
        return wanted == got
    return re.fullmatch("\\S+".join(map(re.escape, PLACEHOLDER.split(wanted))), got) is not None


class Session:
    """Runs the blocks of one page in ``folder``, which must be the current one and empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = 0
        self.commands = 0
        """How many commands were run."""

    def run(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            AssertionError: it does not do what is shown, with the line of the page.
        """
        if block.title:
            path = self.folder / block.title
            assert path.resolve().is_relative_to(self.folder.resolve()), f"line {block.line}: a file outside the folder"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for step in steps(block):
                difference = differs(step.expected, self.execute(step.command))
                assert not difference, f"line {step.line}: $ {step.command}\n{difference}"
        elif block.language == "pycon":
            self._doctest(block)
        elif block.language == "python":
            compile(block.text, f"line {block.line}", "exec")
        elif block.language == "sh":
            for command in shell_commands(block.text):
                with at(f"line {block.line}: {shlex.join(command)}"):
                    check_command(command)

    def execute(self, command: str) -> list[str]:
        """Run one command and return the lines it prints."""
        from compatcheck.cli.app import run

        words = shlex.split(command)
        self.commands += 1
        if words == ["echo", "$?"]:
            return [str(self.code)]
        if words[:1] == ["cat"] and len(words) == 2:
            return (self.folder / words[1]).read_text(encoding="utf-8").splitlines()
        assert words[:1] == ["compatcheck"], f"{command}: a console block runs compatcheck, cat and echo $? alone"
        buffer = io.StringIO()
        with contextlib.redirect_stdout(buffer), contextlib.redirect_stderr(buffer):
            self.code = run(words[1:])
        return buffer.getvalue().splitlines()

    def _doctest(self, block: Block) -> None:
        test = doctest.DocTestParser().get_doctest(block.text, {}, f"line {block.line}", None, block.line - 1)
        assert test.examples, f"line {block.line}: no example"
        said = io.StringIO()
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
        runner.run(test, out=said.write)
        assert not runner.failures, said.getvalue()


def shell_commands(text: str) -> list[list[str]]:
    """Words of every command of a shell text: comments are left out, ``\\`` goes on in the next line.

    As in a shell ``#`` begins a comment at the start of a word alone; shlex would cut ``http://host/v1#model`` there.
    """
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(re.sub(r"(?:^|\s)#.*", "", line)))]


def indented(page: str) -> str:
    """The text of the indented code blocks of a page: four blanks, after an empty line."""
    body = re.sub(r"^ *```.*?^ *```", "\n", page, flags=re.DOTALL | re.MULTILINE)
    return "\n".join(
        line.removeprefix("    ")
        for block in re.findall(r"(?:\A|\n)\n((?:(?: {4}[^\n]*)?(?:\n|\Z))+)", body)
        for line in block.splitlines()
    )


def indented_commands(page: str) -> list[list[str]]:
    """The commands of compatcheck in the indented blocks of a page; what stands beside them is output or other code."""
    lines = indented(page).replace("\\\n", " ").splitlines()
    ours = [line for line in lines if re.match(r"(?:[A-Z_]+=\S* )*(?:\.venv/bin/)?compatcheck ", line)]
    return [words for line in ours for words in shell_commands(line.replace(".venv/bin/", "", 1))]


def check_command(words: list[str]) -> dict[str, Any]:
    """Parse a command that is shown but not run, and check the values of its options; returns its parameters.

    Raises:
        AssertionError: a command of another program that is not known here, or a target that the Makefile lacks.
        Exception: the option parser's own error, or InputError for a value that the command would refuse.
    """
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]  # an environment variable before the command
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE) for target in words[1:]), words
        return {}
    if words[0] == "sh":
        assert (ROOT / words[1]).is_file(), words
        return {}
    if words[0] != "compatcheck":
        assert words[0] in NOT_OURS, f"{words[0]}: is no command of this project, and not one that is known here"
        return {}
    command = command_line()
    context, rest, name = None, words[1:], "compatcheck"
    while hasattr(command, "commands"):
        assert rest and rest[0] in command.commands, f"{' '.join(words)}: no such command"
        name, *rest = rest
        command = command.commands[name]
    context = command.make_context(name, list(rest))
    check_values(context.params)
    return dict(context.params)


@cache
def command_line() -> Any:
    """The parser of compatcheck, with all its commands."""
    import typer

    from compatcheck.cli.app import app

    return typer.main.get_command(app)


def check_values(given: dict[str, Any]) -> None:
    """Values that the commands read themselves, after the parser.

    Raises:
        InputError: one that is refused.
    """
    from compatcheck import gate
    from compatcheck import option_kinds as options
    from compatcheck.cli.output import check_formats
    from compatcheck.tasks.resolve import bundled_names

    if given.get("fail_on"):
        gate.parse_rules(given["fail_on"])
    if isinstance(given.get("format"), list):
        check_formats(given["format"])
    for name in ("engine_args", "set", "strategy_args"):
        options.parse_pairs(f"--{name}", given.get(name) or [])
    tasks = given.get("task") or []
    for task in [tasks] if isinstance(tasks, str) else tasks:
        assert task in (*bundled_names(), LM_EVAL_TASK) or task.endswith(".yaml"), (
            f"--task {task}: not one that is known without the hub"
        )
    if "preset" in given:
        from compatcheck_train import preset
        from compatcheck_train.loss import strategies

        preset(given["preset"], **options.parse_pairs("--set", given.get("set") or []))
        if given.get("strategy", "auto") != "auto":
            strategies.get(given["strategy"])


@contextlib.contextmanager
def at(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{where}\n{error}") from error


def headings(page: str) -> set[str]:
    """Anchors of a page, as the site and GitHub name them."""
    body = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    names = re.findall(r"^#+ +(.*?)\s*$", body, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", name.lower())).strip("-") for name in names}


def links(page: str) -> list[str]:
    """Targets of the links of a page that are not addresses."""
    body = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    body = re.sub(r"`[^`\n]*`", "", body)
    return [to for to in re.findall(r"\]\(([^)\s]+)\)", body) if not re.match(r"[a-z]+:", to)]
