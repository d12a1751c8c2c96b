"""``--judge``: themes that a judge on loopback names, and what held-out flips say of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.compare.themes import LEAST
from compatcheck.errors import InputError
from compatcheck.evaluation import judging
from compatcheck.evaluation.grouping import EngineOptions
from compatcheck.themes import with_themes
from tests.engines.endpoint.servers import Handler, Server, chat, serving
from tests.factories import write_rows

NAMED = "**NAME:** drops the unit\n**SHOWS:** The answer gives a number without its unit."


def answers(prompt: str) -> tuple[str, str]:
    found = [re.search(rf"<answer_{name}>\n(.*?)\n</answer_{name}>", prompt, re.S) for name in "ab"]
    assert found[0] and found[1]
    return found[0][1], found[1][1]


def without_unit(prompt: str) -> str:
    """The verdict of a reader who sees a unit where there is one."""
    a, b = ("euro" not in each for each in answers(prompt))
    return "So [[A]]" if a and not b else "So [[B]]" if b and not a else "[[TIE]]"


class Reads(Handler):
    """A judge that names one theme and reads answers for it; subclasses are worse ones."""

    naming: str = NAMED

    def get(self) -> None:
        self.send(200, {"data": [{"id": "judge"}]})

    def post(self, body: dict[str, Any]) -> None:
        prompt = body["messages"][-1]["content"]
        asks = "<description>" in prompt or "Rubric:" in prompt
        self.send(200, chat(self.verdict(prompt) if asks else self.naming))

    def verdict(self, prompt: str) -> str:
        return without_unit(prompt)


class LikesTheFirst(Reads):
    def verdict(self, prompt: str) -> str:
        return "[[A]]"


class Babbles(Reads):
    def verdict(self, prompt: str) -> str:
        return "Both have their merits."


class NamesNothing(Reads):
    naming = "I see several things here."


class SeesNothing(Reads):
    naming = "Nothing stands out.\nNONE"


class Breaks(Reads):
    """Names a theme, and fails at every question after it; the client is asked not to try again today."""

    def post(self, body: dict[str, Any]) -> None:
        if "<description>" not in body["messages"][-1]["content"]:
            return super().post(body)
        return self.send(500, {"error": {"message": "out of memory"}}, {"Retry-After": "86400"})


def write(folder: Path, flips: int = 40, of: int = 120, dropped: Callable[[int], bool] = lambda n: True) -> list[str]:
    """Sums in euros, of which NEW gets ``flips`` wrong, and drops the unit of those that ``dropped`` names."""
    sides: dict[str, list[dict[str, Any]]] = {"old": [], "new": []}
    for n in range(of):
        shared = {"id": n, "input": f"What do {n} apples cost?", "target": str(n)}
        sides["old"].append({**shared, "prediction": f"They cost {n} euro"})
        wrong = f"They cost {n + 1001}" if dropped(n) else f"They cost {n + 1001} euro"
        sides["new"].append({**shared, "prediction": wrong if n < flips else f"All cost {n} euro"})
    return [str(write_rows(folder / f"{side}.jsonl", rows)) for side, rows in sides.items()]


def compared(folder: Path, server: Server, **given: Any) -> compatcheck.Diff:
    sides = [folder / "old.jsonl", folder / "new.jsonl"]
    given = {"extract": r"(\d+)", "store": folder / "store", "fail_on": "nfr:2%", **given}
    return compatcheck.diff(*sides, judge=f"{server.url}#judge", **given)


def asked(server: Server) -> list[str]:
    return [body["messages"][-1]["content"] for path, body in server.asked if path.endswith("completions")]


def test_a_planted_theme_holds_on_flips_that_did_not_name_it(tmp_path: Path) -> None:
    """By hand: 40 flips, all without unit, 8 to name it, 24 held out: p = 2⁻²⁴."""
    write(tmp_path)
    said: list[str] = []
    with serving(Reads) as server:
        c = compared(tmp_path, server, say=said.append)
        prompts = asked(server)
    themes = c.only.themes
    assert themes is not None and themes.judge == f"{server.url}#judge"
    (theme,) = themes.found
    assert (theme.name, theme.description) == ("drops the unit", "The answer gives a number without its unit.")
    assert (theme.kind, theme.flips, theme.named, theme.holds) == ("number", 40, 8, True)
    assert (theme.held_out.new, theme.held_out.old, theme.held_out.tied, theme.held_out.unreadable) == (24, 0, 0, 0)
    assert theme.elsewhere is not None and (theme.elsewhere.new, theme.elsewhere.tied) == (0, 24)
    assert theme.p == theme.p_adjusted == 0.5**24
    assert any("reads 32 of 40 answers that got worse, 97 questions at most" in line for line in said)
    assert len(prompts) == 97
    found = c.only.instances
    named = {int(n) for n in re.findall(r"What do (\d+) apples", prompts[0])}
    tested = {int(n) for prompt in prompts[1:] for n in re.findall(r"What do (\d+) apples", prompt)}
    assert len(named) == 8 and not named & tested, "held-out flips were not shown when the theme was named"
    assert not any("target" in prompt for prompt in prompts[1:]), "nothing says which answer is right"
    shown = found[found["failure_theme"] == "drops the unit"]
    assert len(shown) == 24 and {*shown["quadrant"]} == {"negative_flip"}
    c.save(tmp_path / "out")
    again = compatcheck.load(tmp_path / "out")
    assert again.only.themes == themes
    assert again.instances["failure_theme"].tolist() == found["failure_theme"].tolist()


def test_the_verdict_and_figures_are_those_without_a_judge(tmp_path: Path) -> None:
    write(tmp_path)
    with serving(Reads) as server:
        c = compared(tmp_path, server)
    plain = compatcheck.diff(tmp_path / "old.jsonl", tmp_path / "new.jsonl", extract=r"(\d+)", fail_on="nfr:2%")
    assert (c.verdict, c.metrics, c.only.gates, c.notes) == (
        plain.verdict,
        plain.metrics,
        plain.only.gates,
        plain.notes,
    )
    assert plain.only.themes is None and "failure_theme" not in plain.instances


def test_a_theme_of_half_the_answers_of_both_sides_does_not_hold(tmp_path: Path) -> None:
    """The judge names what is not there more often in NEW."""
    write(tmp_path, dropped=lambda n: False)
    with serving(Reads) as server:
        c = compared(tmp_path, server)
    (theme,) = c.only.themes.found  # type: ignore[union-attr]
    assert (theme.holds, theme.p, theme.held_out.tied) == (False, 1.0, 24)
    assert "failure_theme" not in c.instances
    assert "1 proposed theme did not hold" in str(c) and "drops the unit" not in str(c)


def test_a_judge_that_likes_the_first_answer_finds_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    with serving(LikesTheFirst) as server:
        (theme,) = compared(tmp_path, server).only.themes.found  # type: ignore[union-attr]
    assert (theme.holds, theme.held_out.tied, theme.p) == (False, 24, 1.0)


def test_replies_that_cannot_be_read_are_counted_and_claim_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    with serving(Babbles) as server:
        c = compared(tmp_path, server)
    (theme,) = c.only.themes.found  # type: ignore[union-attr]
    assert (theme.held_out.unreadable, theme.held_out.read, theme.p, theme.holds) == (24, 0, None, False)
    assert theme.why == f"of 24 held-out pairs 0 could be judged: too few, it takes {LEAST}"
    assert "was not tested: of 24 held-out pairs 0 could be judged" in " ".join(str(c).split())


@pytest.mark.parametrize(
    ("judge", "why"),
    [(NamesNothing, "the reply names none"), (SeesNothing, "the judge sees nothing that they")],
)
def test_a_judge_that_names_no_theme_is_asked_no_more(tmp_path: Path, judge: type[Handler], why: str) -> None:
    write(tmp_path)
    with serving(judge) as server:
        c = compared(tmp_path, server)
        assert len(asked(server)) == 1
    assert c.only.themes.found == () and why in c.only.themes.notes[0]  # type: ignore[union-attr]


def test_a_judge_that_breaks_loses_no_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write(tmp_path)
    with serving(Breaks) as server:
        port = server.server_address[1]
        arguments = ["--judge", f"{server.url}#judge", "--extract", r"(\d+)", "--store", str(tmp_path / "store")]
        assert run(["diff", old, new, *arguments, "--fail-on", "nfr:2%", "--out", str(tmp_path / "out")]) == 1
    (kept,) = json.loads((tmp_path / "out" / "report.json").read_text())["comparisons"]
    (theme,), (note,) = kept["themes"]["found"], kept["themes"]["notes"]
    assert (theme["holds"], theme["p"], theme["held_out"]["unreadable"]) == (False, None, 24)
    assert note.startswith(f"the judge http://127.0.0.1:{port}/v1#judge did not answer 96 of 96 questions: HTTP 500")
    assert "did not answer 96 of 96 questions" in " ".join(capsys.readouterr().out.split())


class Hangs(Reads):
    """Names a theme, and never ends its second answer."""

    def verdict(self, prompt: str) -> str:
        self.server.over.wait(20)
        return "[[A]]"


def test_a_judge_that_does_not_end_is_one_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patience = {"timeout": 0.5, "retries": 0}
    monkeypatch.setattr(judging, "EngineOptions", partial(EngineOptions, engine_args=patience))
    write(tmp_path)
    with serving(Hangs) as server:
        c = compared(tmp_path, server)
    (theme,), (note,) = c.only.themes.found, c.only.themes.notes  # type: ignore[union-attr]
    assert (c.verdict, theme.p, theme.holds) == ("fail", None, False)
    assert "did not answer 96 of 96 questions: no answer within 0.5 s" in note


class Gone(Reads):
    """Is there when it is looked for, and answers nothing."""

    def post(self, body: dict[str, Any]) -> None:
        self.send(401, {"error": {"message": "the key has run out"}})


def test_a_judge_that_answers_nothing_at_all_loses_no_diff(tmp_path: Path) -> None:
    write(tmp_path)
    with serving(Gone) as server:
        c = compared(tmp_path, server)
    assert (c.verdict, c.only.themes.found) == ("fail", ())  # type: ignore[union-attr]
    assert c.only.themes.notes[0].startswith("not found: ")  # type: ignore[union-attr]
    assert "the key has run out" in " ".join(str(c).split())


class Stumbles(Reads):
    """Fails at some questions, for as long as it is told to."""

    stumbling = True

    def post(self, body: dict[str, Any]) -> None:
        if (
            type(self).stumbling
            and re.search(r"What do \d*[05] apples", body["messages"][-1]["content"])
            and ("<description>" in body["messages"][-1]["content"])
        ):
            return self.send(400, {"error": {"message": "no"}})
        return super().post(body)


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    write(tmp_path)
    with serving(Stumbles) as server:
        Stumbles.stumbling = True
        first = compared(tmp_path, server)
        unread = first.only.themes.found[0].held_out.unreadable  # type: ignore[union-attr]
        assert 0 < unread < 24
        assert "run it again, answers are kept" in first.only.themes.notes[0]  # type: ignore[union-attr]
        Stumbles.stumbling, before = False, len(asked(server))
        second = compared(tmp_path, server)
        assert second.only.themes.found[0].holds  # type: ignore[union-attr]
        missing = asked(server)[before:]
        assert 0 < len(missing) < 97 and all(re.search(r"What do \d*[05] apples", prompt) for prompt in missing)
        third = compared(tmp_path, server)
        assert third.only.themes == second.only.themes
        assert len(asked(server)) == before + len(missing)


def test_few_flips_claim_nothing_and_ask_nothing(tmp_path: Path) -> None:
    write(tmp_path, flips=11)
    with serving(Reads) as server:
        c = compared(tmp_path, server)
        assert asked(server) == []
    assert c.only.themes.notes == (  # type: ignore[union-attr]
        "11 got worse: too few to name a theme and to test it, which takes 12",
    )
    assert "11 got worse: too few to name a theme" in " ".join(str(c).split())


def test_without_flips_there_is_nothing_to_say(tmp_path: Path) -> None:
    write(tmp_path, flips=0)
    with serving(Reads) as server:
        assert compared(tmp_path, server).only.themes is None


def test_what_changed_has_themes_where_old_is_the_reference(tmp_path: Path) -> None:
    write(tmp_path, flips=40, of=40)
    with serving(Reads) as server:
        c = compared(tmp_path, server, reference="old", fail_on=(), extract=None)
    (theme,) = c.only.themes.found  # type: ignore[union-attr]
    assert (theme.holds, theme.kind, theme.flips, theme.elsewhere) == (True, None, 40, None)
    assert "New alone in 24 of 24 held-out changes" in " ".join(str(c).split())


def test_the_judge_of_themes_is_that_of_the_metric_too(tmp_path: Path) -> None:
    """``--metric judge`` without a model of its own takes it; with a model alone nobody pays for themes."""
    write(tmp_path, flips=4, of=8)
    with serving(Reads) as server:
        c = compared(tmp_path, server, metric="judge", fail_on=(), extract=None)
        assert f"impl:judge,{server.url}#judge,pairwise to target" in c.only.signature
        sides = [tmp_path / "old.jsonl", tmp_path / "new.jsonl"]
        settings = {"judge": {"model": f"{server.url}#judge"}}
        alone = compatcheck.diff(*sides, metric="judge", metric_args=settings, store=tmp_path / "store")
    assert alone.only.metrics == c.only.metrics and alone.only.themes is None


def test_what_cannot_be_meant_is_said_before_anything_is_compared(tmp_path: Path) -> None:
    old, new = write(tmp_path, flips=4, of=8)
    with pytest.raises(InputError, match="is recorded; name a model or an endpoint"):
        compatcheck.diff(old, new, judge=old)
    with pytest.raises(InputError, match="--judge: is for one NEW; compare the candidates one by one"):
        compatcheck.diff(old, [new, old], judge="http://127.0.0.1:9/v1#judge", allow_same=True)
    with pytest.raises(InputError, match="the server does not answer"):
        compatcheck.diff(old, new, judge="http://127.0.0.1:9/v1#judge")
    with (
        serving(Reads) as server,
        pytest.raises(InputError, match="--stream: --judge reads negative flips in memory; leave out --stream"),
    ):
        compatcheck.diff(old, new, judge=f"{server.url}#judge", stream=True)


def test_by_chance_a_theme_holds_in_at_most_five_of_a_hundred_comparisons(tmp_path: Path) -> None:
    """600 judges that throw dice, three groups each: 30 comparisons with any theme would be 5 %."""
    old, new = (tmp_path / f"{side}.jsonl" for side in ("old", "new"))
    wrong = [
        "{n}1",
        "I'm sorry, but I can't help with that, {n}.",
        "Es sind {n}1 und das ist nicht so viel wie der",
        "{n}.{n}5 kg",
    ]
    rows = [{"id": n, "input": f"q{n}", "target": str(n + 5), "prediction": str(n + 5)} for n in range(160)]
    write_rows(old, rows)
    write_rows(new, [{**row, "prediction": wrong[n % 4].format(n=n + 5)} for n, row in enumerate(rows)])
    plain = compatcheck.diff(old, new)

    def any_holds(seed: int) -> bool:
        dice = Random(seed)

        def ask(prompts: list[str]) -> tuple[list[str | None], str]:
            return [dice.choice(["[[A]]", "[[B]]"]) if "<description>" in each else NAMED for each in prompts], ""

        themes = with_themes(plain, ask, "dice", seed).only.themes
        assert themes is not None and len(themes.found) == 3
        return any(each.holds for each in themes.found)

    assert sum(map(any_holds, range(600))) <= 30
