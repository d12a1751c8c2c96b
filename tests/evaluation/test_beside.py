"""Tokens, seconds, dollars, cut-offs and refusals of two models of a server: equal to an independent count."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

import compatcheck
from compatcheck import report
from compatcheck.cli.app import run
from tests.engines.endpoint.scripted import Reply, Scripted
from tests.engines.endpoint.servers import serving
from tests.evaluation.served import number, sums
from tests.factories import write_rows

COUNT = 40
DECLINED = "I’m sorry, but I can't help with that."


def reply(model: str, n: int) -> Reply:
    """NEW writes more, refuses every tenth question and is cut off at every eighth."""
    if model == "old":
        return Reply(f"The answer is {2 * n}.", tokens=(10 + n % 3, 6), pause=0.001)
    if n % 10 == 4:
        return Reply(DECLINED, tokens=(10 + n % 3, 9))
    cut = n % 8 == 7
    return Reply(f"So, the answer is {2 * n}.", "Let me add. " * (n % 4), finish_reason="length" if cut else "stop",
                 tokens=(10 + n % 3, 8 + 4 * (n % 4)), pause=0.004)  # fmt: skip


class Sums(Scripted):
    models = ("old", "new", "other")

    @staticmethod
    def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
        if number(asked) == 5 and before == 0:
            return Reply(status=429, headers={"Retry-After": "0"})
        return reply(model, number(asked))


def _diff(url: str, folder: Path, **options: Any) -> compatcheck.results.Diff:
    options = {"engine_args": {"api": "chat", "backoff": 0.01}, "store": folder / "store", **options}
    return compatcheck.diff(f"{url}#old", f"{url}#new", task=sums(folder, COUNT), **options)


def test_the_figures_are_those_of_an_independent_count(tmp_path: Path) -> None:
    with serving(Sums) as server:
        found = _diff(server.url, tmp_path, price={"old": "3/15", "new": "1/5"},
                      engine_args={"api": "chat", "stream": True, "backoff": 0.01})  # fmt: skip
    (only,) = found.comparisons
    beside = only.beside
    assert list(beside) == ["length", "output_tokens", "latency", "latency_first", "cost", "cut_off", "refusal"]
    prices = {"old": (3, 15), "new": (1, 5)}
    for name, count in {
        "length": lambda model, one: len(one.text),
        "output_tokens": lambda model, one: one.tokens[1],
        "cost": lambda model, one: sum(n * price / 1e6 for n, price in zip(one.tokens, prices[model], strict=True)),
        "cut_off": lambda model, one: float(one.finish_reason == "length"),
        "refusal": lambda model, one: float(one.text == DECLINED),
    }.items():
        values = {model: [count(model, reply(model, n)) for n in range(COUNT)] for model in ("old", "new")}
        old, new = (statistics.fmean(values[model]) for model in ("old", "new"))
        each = beside[name]
        assert (each.n, each.old.value, each.new.value) == (COUNT, pytest.approx(old), pytest.approx(new)), name
        assert each.change.value == pytest.approx(new - old)
        assert each.change.low <= new - old <= each.change.high
        if each.unit == "share":
            assert (each.old.count, each.new.count, each.ratio) == (sum(values["old"]), sum(values["new"]), None)
        else:
            assert each.ratio.value == pytest.approx(new / old - 1)
            assert each.ratio.low < each.ratio.lower < each.ratio.value < each.ratio.upper < each.ratio.high
    rows = only.instances
    for side in ("old", "new"):
        assert (rows[f"latency_{side}"] > rows[f"latency_first_{side}"]).all()
        assert getattr(beside["latency"], side).value == pytest.approx(rows[f"latency_{side}"].mean())
    kept = compatcheck.load(found.save(tmp_path / "out"))
    assert kept.comparisons[0].beside == beside
    written = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert written["comparisons"][0]["beside"]["cost"]["unit"] == "dollars"
    for form in ("terminal", "markdown", "html"):
        text = report.render(kept, form)
        assert "refusals" in text and "0.0 % → 10.0 %" in " ".join(text.split()), form
    assert "cut off: 0 old, 5 new" in report.render(kept, "markdown")


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("output_tokens:+10%", "fail"), ("output_tokens:+400%", "pass"), ("length:+20%", "fail"),
        ("length:+34%", "inconclusive"),
        ("length:+60%", "pass"), ("cost:+0%", "pass"), ("cost:-90%", "fail"), ("latency:+2000000%", "pass"),
        ("refusal:1%", "fail"), ("refusal:30%", "pass"), ("refusal:9%", "inconclusive"), ("cut_off:2%", "fail"),
        ("sums/cut_off:20%", "pass"), ("no_answer:5%", "fail"), ("errors:1%", "pass"), ("missing:1%", "pass"),
    ],
)  # fmt: skip
def test_budgets(server_url: str, shared_folder: Path, rule: str, verdict: str) -> None:
    found = _diff(server_url, shared_folder, price={"old": "3/15", "new": "1/5"}, fail_on=rule)
    (gate,) = [gate for each in found.comparisons for gate in each.gates]
    assert gate.verdict == found.verdict == verdict, gate.reason
    assert any("come from the store" in note for note in found.notes) or not found.comparisons[0].beside


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beside")


@pytest.fixture(scope="module")
def server_url(shared_folder: Path) -> Any:
    with serving(Sums) as server:
        _diff(server.url, shared_folder)
        yield server.url


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fail-on", "cost:+0%"], "what an answer of OLD costs takes --price old=IN/OUT"),
        (["--fail-on", "cost:+0%", "--price", "old=1/2"], "what an answer of NEW costs takes --price new=IN/OUT"),
        (["--fail-on", "latency_first:+10%"], "where they stream (--engine-arg stream=true)"),
        (["--fail-on", "latency:0.5"], "write latency:+10%"),
        (["--fail-on", "latency:-100%"], "cannot fall by more than all of it"),
        (["--fail-on", "refusal:+1%"], "it is a share of NEW's answers, not a change; write refusal:1%"),
        (["--fail-on", "refusal:2"], "write refusal:2%"),
        (["--fail-on", "exact_match.length:+10%"], "whatever they are scored by"),
        (["--fail-on", "kind=odd/length:+10%"], "on a slice a budget is set on nfr or btc"),
        (["--fail-on", "latncy:+1%"], "did you mean 'latency'"),
        (["--price", "old=3/1e60"], "dollars of a million tokens in and out, such as old=3/15"),
        (["--price", "old=3"], "dollars of a million tokens in and out, such as old=3/15"),
        (["--price", "old=3/x"], "such as old=3/15"),
        (["--price", "old=-3/1"], "such as old=3/15"),
        (["--price", "both=3/1"], "a price is of old or of new"),
        (["--metric-arg", "refusal.patterns=("], "is no regular expression as RE2 reads them"),
        (["--metric-arg", "refusal.patterns=@nowhere.txt"], "cannot be read"),
        (["--metric-arg", "refusal.pattern=x"], "did you mean 'patterns'"),
        (["--metric-arg", "length.unit=lines"], "characters or words"),
        (["--reasoning", "hide"], "known: strip, keep"),
        (["--fail-on", "length:+10%", "--cluster-by", "kind"], "it counts single instances"),
        (["--fail-on", "length:+10%", "--until-decided"], "leave it out"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_one_line_before_anything_is_asked(
    tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Sums) as server:
        code = run(["diff", f"{server.url}#old", f"{server.url}#new", "--task", sums(tmp_path, 4), *options])
        assert not [path for path, _ in server.asked if path.endswith("completions")]
    assert code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_models_that_run_here_have_no_time_of_their_own(fixtures: Path, tmp_path: Path) -> None:
    old, new = fixtures / "adapters" / "gsm8k-v1", fixtures / "adapters" / "gsm8k-v2"
    given: dict[str, Any] = {"task": "gsm8k", "data": fixtures / "data", "limit": 4, "num_fewshot": 0}
    with pytest.raises(compatcheck.InputError, match=r"runs here, many texts at a time"):
        compatcheck.diff(old, new, fail_on="latency:+10%", **given)
    found = compatcheck.diff(old, new, fail_on="output_tokens:+1000%", metric=["exact_match", "latency"], **given)
    firsts = [each for each in found.comparisons if each.beside]
    assert len(firsts) == 1  # of two filters of the same answers
    assert firsts[0].beside["latency"].new.value is None and "not measured" in firsts[0].beside["latency"].new.why
    assert firsts[0].beside["output_tokens"].old.value == firsts[0].instances["output_tokens_old"].mean()
    assert found.verdict == "inconclusive"  # four answers settle nothing


@pytest.mark.parametrize("to", ["jsonl", "parquet", "plain-csv", "lm-eval"])
def test_kept_and_exported_runs_carry_the_figures(
    server_url: str, shared_folder: Path, tmp_path: Path, to: str
) -> None:
    kept, exported = [], []
    for side in ("old", "new"):
        run_ = compatcheck.evaluate(
            f"{server_url}#{side}", task=sums(shared_folder, COUNT), engine_args={"api": "chat", "backoff": 0.01},
            store=shared_folder / "store",
        )  # fmt: skip
        kept.append(run_.save(tmp_path / side))
        exported.append(tmp_path / (f"{side}-log" if to == "lm-eval" else f"{side}.{to.removeprefix('plain-')}"))
        assert run(["export", str(kept[-1]), "--to", to, "--out", str(exported[-1])]) == 0
    (first,) = compatcheck.diff(*kept).comparisons
    (again,) = compatcheck.diff(*exported).comparisons
    assert list(again.beside) == ["length", "output_tokens", "latency", "cut_off", "refusal"]
    assert again.beside == first.beside
    thoughts = first.instances["reasoning_new"].fillna("")
    assert thoughts.tolist() == [reply("new", n).reasoning or "" for n in range(COUNT)]
    assert again.instances["reasoning_new"].fillna("").tolist() == thoughts.tolist()


def test_several_candidates_and_settings(server_url: str, shared_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "compatcheck.toml").write_text(
        f'task = "{sums(shared_folder, COUNT)}"\n'
        f'store = "{shared_folder / "store"}"\nadvisory = ["cost:+0%"]\nfail_on = ["output_tokens:+1%"]\n'
        '[price]\nold = "3/15"\nnew = "1/5"\n[engine_args]\napi = "chat"\n',
        encoding="utf-8",
    )
    sides = [f"{server_url}#old", f"{server_url}#new"]
    assert run(["diff", *sides, "--config", str(tmp_path / "compatcheck.toml"), "--out", str(tmp_path / "out")]) == 1
    (only,) = compatcheck.load(tmp_path / "out").comparisons
    assert {gate.rule: gate.verdict for gate in only.gates} == {"output_tokens:+1%": "fail", "cost:+0%": "pass"}
    several = compatcheck.diff(
        f"{server_url}#old", [f"{server_url}#new", f"{server_url}#other"], task=sums(shared_folder, COUNT),
        engine_args={"api": "chat", "backoff": 0.01}, store=shared_folder / "store", fail_on="output_tokens:+1%",
    )  # fmt: skip
    assert [one.verdict for one in several] == ["fail", "fail"]


def test_recorded_answers_that_do_not_say_it_are_refused_before_the_server_is_asked(tmp_path: Path) -> None:
    old = write_rows(tmp_path / "old.jsonl", ({"id": n, "target": str(2 * n), "prediction": "1"} for n in range(4)))
    with serving(Sums) as server, pytest.raises(compatcheck.InputError, match=r"old\.jsonl does not say the latency"):
        compatcheck.diff(old, f"{server.url}#new", task=sums(tmp_path, 4), fail_on="latency:+10%")
    assert not [path for path, _ in server.asked if path.endswith("completions")]


def test_tool_calls_are_answers(tmp_path: Path) -> None:
    """NEW calls another city once and another tool once; what it says beside its calls does not matter."""

    class Calls(Scripted):
        @staticmethod
        def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
            n = number(asked)
            city, name = (
                ("Rome" if (model, n) == ("new", 3) else f"city {n}"),
                "time" if (model, n) == ("new", 5) else "weather",
            )
            made = [{"name": name, "arguments": {"city": city, "days": n}}]
            return Reply("I look." if model == "new" and n % 2 else None, tool_calls=made, finish_reason="tool_calls")

    rows = [
        {"id": n, "prompt": f"{n} days in city {n}?",
         "target": [{"name": "weather", "arguments": {"days": n, "city": f"city {n}"}}],
         "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]}
        for n in range(8)
    ]  # fmt: skip
    file = write_rows(tmp_path / "calls.jsonl", rows)
    with serving(Calls) as server:
        (only,) = compatcheck.diff(
            f"{server.url}#old", f"{server.url}#new", prompts=file, metric="tool_call", store=False
        ).comparisons
    assert dict(only.quadrants) == {"both_correct": 6, "positive_flip": 0, "negative_flip": 2, "both_wrong": 0}
    assert sorted(only.negative_flips["doc_id"].astype(str)) == ["3", "5"]
    assert (only.pairing.no_answer_old, only.pairing.no_answer_new) == (0, 0)
    made = [json.loads(calls) for calls in only.instances["tool_calls_old"]]
    assert made == [row["target"] for row in rows]
