"""The documentation does what it shows: its commands run, its outputs are what is printed, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from compatcheck import config
from tests.docs import pages
from tests.docs.pages import DOCS, ROOT, Block, Session, blocks, check_command, differs, headings, links, steps

NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
QUESTIONS = [next(iter(page.values())) for page in NAV[0]["Questions"]]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_page_does_what_it_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for variable in ("COMPATCHECK_BASELINES", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / ".git").mkdir()  # so that no settings or baselines from further up count
    session = Session(tmp_path)
    for block in blocks((DOCS / name).read_text(encoding="utf-8")):
        session.run(block)


def test_few_commands_are_run() -> None:
    """Each takes a second or so where everything is busy; what can be parsed alone belongs into ``sh``."""
    shown = [block for name in QUESTIONS for block in blocks((DOCS / name).read_text(encoding="utf-8"))]
    runs = [
        s.command for b in shown if b.language == "console" for s in steps(b) if s.command.startswith("compatcheck")
    ]
    assert 8 <= len(runs) <= 30
    assert sum(len(pages.shell_commands(block.text)) for block in shown if block.language == "sh") >= 10


EVERY = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), ROOT / "fixtures" / "README.md"]


@pytest.mark.parametrize("path", EVERY, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_command_in_a_reference_page_is_one(path: Path) -> None:
    """With all its options, their values, tasks, budgets and formats."""
    for words in pages.indented_commands(path.read_text(encoding="utf-8")):
        with pages.at(shlex.join(words)):
            check_command(words)


@pytest.mark.parametrize("path", [path for path in EVERY if path.name not in QUESTIONS], ids=lambda path: path.name)
def test_the_blocks_of_a_reference_page_are_what_they_say(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["inputs"]
    for block in blocks(path.read_text(encoding="utf-8")):
        with pages.at(f"line {block.line}"):
            if block.language == "toml":
                Path("compatcheck.toml").write_text(block.text, encoding="utf-8")
                assert config.load(Path("compatcheck.toml")).checks
            elif block.language == "yaml":
                found = (yaml.safe_load(block.text) or {}).get("steps", [])
                used = [each for each in found if each.get("uses", "").startswith("compatcheck/")]
                assert all(set(each["with"]) <= set(inputs) for each in used)
                assert len(used) == block.text.count("uses: compatcheck/")
            elif block.language == "python":
                compile(block.text, f"line {block.line}", "exec")
            elif block.language in ("sh", "console"):
                commands = block.text if block.language == "sh" else "\n".join(step.command for step in steps(block))
                for words in pages.shell_commands(commands):
                    check_command(words)


def test_the_reference_pages_show_commands() -> None:
    shown = [words for path in EVERY for words in pages.indented_commands(path.read_text(encoding="utf-8"))]
    assert len(shown) >= 60
    assert {words[1] for words in shown if not words[0].isupper()} >= {
        "diff", "run", "fix", "bless", "report", "show", "noise", "plan", "export"
    }  # fmt: skip


def test_extras_that_are_named_are_there_and_those_that_are_there_are_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    sources = [*EVERY, *(ROOT / "compatcheck").rglob("*.py"), *(ROOT / "compatcheck_train").rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    named = {name for text in texts for name in re.findall(r"compatcheck\[([a-z-]+)\]", text)}
    assert named <= extras
    assert extras - named <= {
        "dev",
        "docs",
        "plots",
        "tensorboard",
    }  # what `make` installs, what is empty, what the doctor names by table


def test_every_page_is_in_the_navigation_once() -> None:
    named = [next(iter(page.values())) for part in NAV for page in next(iter(part.values()))]
    assert sorted(named) == sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{path.name}: {link}"
        if anchor:
            assert anchor in headings(target.read_text(encoding="utf-8")), f"{path.name}: {link}"


def console(text: str) -> Block:
    return Block("console", "", text, 1)


def test_blocks_of_a_page() -> None:
    page = 'Text\n\n```json title="a.jsonl"\n{}\n```\n\n  ````sh\n  one\n  ```\n  ````\n'
    assert blocks(page) == [Block("json", "a.jsonl", "{}\n", 4), Block("sh", "", "one\n```\n", 8)]
    with pytest.raises(ValueError, match="line 1: this block is not closed"):
        blocks("```sh\nfor ever\n")


def test_steps_of_a_session() -> None:
    found = steps(console("$ one \\\n> two\nsaid\n$ three\n"))
    assert [(step.command, step.expected, step.line) for step in found] == [
        ("one two", ("said",), 1),
        ("three", (), 4),
    ]
    with pytest.raises(ValueError, match="output without a command"):
        steps(console("said\n"))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a", "b"], ["a  ", "b"], True),
        (["a", "b"], ["a"], False),
        (["a"], ["a", "b"], False),
        (["a", "[…]"], ["a", "b", "c"], True),
        (["[…]", "c"], ["a", "b", "c"], True),
        (["a", "[…]", "c", "[…]", "e"], ["a", "b", "c", "d", "e"], True),
        (["a", "[…]", "c", "[…]", "b"], ["a", "b", "c"], False),
        (["a", "[…]", "c"], ["b", "a", "c"], False),
        (["a", "[…]", "a"], ["a"], False),
        (["kept in x/‹time›)"], ["kept in x/2026-01-01)"], True),
        (["kept in x/‹time›)"], ["kept in x/)"], False),
        (["kept in x/‹time›)"], ["kept in x/a b)"], False),
        (["‹other›"], ["x"], False),
    ],
)
def test_what_counts_as_the_same(shown: list[str], printed: list[str], same: bool) -> None:
    assert (differs(shown, printed) == "") is same


def test_a_wrong_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = Session(tmp_path)
    with pytest.raises(AssertionError, match=r"line 1: \$ compatcheck --version\nshown:\ncompatcheck 9"):
        session.run(console("$ compatcheck --version\ncompatcheck 9\n"))
    with pytest.raises(AssertionError, match="runs compatcheck, cat and echo"):
        session.run(console("$ rm -r x\n"))
    with pytest.raises(AssertionError, match="Expected:\n    3"):
        session.run(Block("pycon", "", ">>> 1 + 1\n3\n", 1))
    with pytest.raises(AssertionError, match="outside the folder"):
        session.run(Block("json", "../x.json", "{}", 1))
    assert not (tmp_path.parent / "x.json").exists()
    with pytest.raises(SyntaxError):
        session.run(Block("python", "", "def", 1))
    with pytest.raises(AssertionError, match="No such option"):
        session.run(Block("sh", "", "compatcheck diff a b --streamed\n", 1))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("compatcheck nothing", "no such command"),
        ("compatcheck diff a b --fail-on nonsense", "a rule reads"),
        ("compatcheck diff a b --format word", "unknown"),
        ("compatcheck diff a b --engine-arg x", "key=value"),
        ("compatcheck diff a b --task samsun", "not one that is known"),
        ("compatcheck fix a b --task piqa --out c --preset papers", "must be one of"),
        ("compatcheck fix a b --task piqa --out c --set epoch=3", "no such training setting"),
        ("compatcheck fix a b --task piqa --out c --strategy muscles", "muscle"),
        ("compatcheck fix a b --task piqa", "Missing parameter: out"),
        ("compatcheck cache prune --nothing", "No such option"),
        ("make nothing", "make"),
        ("sh recipes/none.sh", "none.sh"),
        ("rm -r x", "no command of this project"),
    ],
)
def test_commands_that_are_only_parsed(command: str, says: str) -> None:
    with pytest.raises(Exception, match=re.escape(says)):
        check_command(command.split())


def test_a_hash_within_a_word_is_no_comment() -> None:
    text = "# all of it\ncompatcheck diff http://host/v1#old b --task x  # no --task y\n"
    assert pages.shell_commands(text) == [["compatcheck", "diff", "http://host/v1#old", "b", "--task", "x"]]


def test_parsed_commands_give_their_parameters() -> None:
    assert check_command(["HF_HOME=x", "compatcheck", "fix", "a", "b", "--task", "piqa", "--out", "c"])["old"] == "a"
    assert check_command(["make", "docs"]) == {}
    assert check_command(["compatcheck", "cache", "info"]) is not None


def test_indented_commands_of_a_page() -> None:
    page = "Text\n\n    compatcheck diff a \\\n        b  # c\n\n    compatcheck x\n    output\n\n- list\n"
    page += "    compatcheck no\n"
    assert pages.indented_commands(page) == [["compatcheck", "diff", "a", "b"], ["compatcheck", "x"]]
    assert pages.indented_commands("```sh\n\n    compatcheck no\n```\n\n    A=b .venv/bin/compatcheck y") == [
        ["A=b", "compatcheck", "y"]
    ]


def test_anchors_and_links() -> None:
    assert headings("# A `b`, c\n```\n# no\n```\n## Figures – two\n") == {"a-b-c", "figures-two"}
    assert links("[a](b.md#c) `[d](e)` [f](https://g) ![h](i.png)\n```\n[j](k)\n```\n") == ["b.md#c", "i.png"]
