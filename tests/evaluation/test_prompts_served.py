"""Own prompts asked of a scripted server: what is sent, what it refuses, and figures equal to its own script."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import compatcheck
from compatcheck.cli.app import run
from compatcheck.errors import InputError
from tests.engines.endpoint.scripted import Reply, Scripted
from tests.engines.endpoint.servers import Handler, Server, serving
from tests.factories import write_rows

FAST = {"engine_args": {"retries": 2, "backoff": 0.01}}
PNG = "data:image/png;base64,iVBORw0KGgo="


def write(folder: Path, rows: list[dict[str, Any]], name: str = "prompts.jsonl") -> Path:
    return write_rows(folder / name, rows)


def right(model: str, number: int) -> bool:
    return number % 5 != 0 if model == "old" else number % 7 != 0


class Sums(Scripted):
    """Answers with the sum, or a wrong one; every third request is met with 429 first. OLD refuses a temperature and
    stops, NEW another name for the most tokens."""

    @staticmethod
    def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
        refused = {"old": ("temperature", "stop"), "new": ("max_tokens", "seed")}[model]
        for name in refused:
            if name in body:
                said = f"Unsupported parameter: '{name}'"
                said += ". Use 'max_completion_tokens' instead." if name == "max_tokens" else " is not supported."
                return Reply(status=400, error={"message": said, "param": name, "code": "unsupported_parameter"})
        number = int(asked.split()[1])
        if number % 3 == 0 and before < 3:
            return Reply(status=429, error={"message": "slow down"}, headers={"Retry-After": "0.01"})
        return Reply(f"Thus the answer: {number + 1 if right(model, number) else 0}. END of it", tokens=(5, 7))


def test_figures_equal_the_servers_own_script(tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "prompt": f"add {n}", "target": str(n + 1), "half": n % 2} for n in range(40)]
    prompts = write(tmp_path, rows)
    with serving(Sums) as server:
        result = compatcheck.diff(
            f"{server.url}#old", f"{server.url}#new", prompts=prompts, extract=r"answer: (\d+)", slice_by="half",
            system="You add one.", gen={"max_tokens": 50, "stop": ["END"]}, engine_args={"retries": 6, "backoff": 0.01},
        )  # fmt: skip
        asked = [body for path, body in server.asked if path == "/v1/chat/completions"]
    (found,) = result.comparisons
    both = Counter((right("old", n), right("new", n)) for n in range(40))
    assert dict(found.quadrants) == {
        "both_correct": both[True, True], "negative_flip": both[True, False],
        "positive_flip": both[False, True], "both_wrong": both[False, False],
    }  # fmt: skip
    assert (found.task, found.metric, found.n) == ("prompts", "exact_match", 40)
    assert sorted(result.instances["doc_id"]) == sorted(row["id"] for row in rows)
    assert {one.value for one in found.slices} == {"0", "1"}
    messages = [body["messages"] for body in asked]
    assert all(turns[0] == {"role": "system", "content": "You add one."} for turns in messages)
    assert all([turn["role"] for turn in turns] == ["system", "user"] for turns in messages)
    answered = {model: next(body for body in reversed(asked) if body["model"] == model) for model in ("old", "new")}
    assert "temperature" not in answered["old"] and "stop" not in answered["old"]
    assert answered["old"]["max_tokens"] == 50 and answered["new"]["max_completion_tokens"] == 50
    assert answered["new"]["stop"] == ["END"] and answered["new"]["temperature"] == 0
    refusals = [body for body in asked if body["model"] == "old" and ("temperature" in body or "stop" in body)]
    assert len(refusals) == 2, "each refusal is learned from once, by the request that goes first"
    (note,) = [note for note in result.notes if "refuses" in note]
    assert "refuses stop, temperature" in note and "differ from run to run" in note and "cut at the stops here" in note
    answers = result.instances["response_old"]
    assert not any("END" in text for text in answers), "where the server takes no stop, texts are cut here"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "Please add 7"}, "OLD and NEW differ in: prompt;"),
        ({"prompt": "add 7", "target": "9"}, "OLD and NEW differ in: targets or fields of the prompts;"),
        ({"prompt": "add 7"}, "OLD and NEW differ in the model alone"),
    ],
)
def test_another_order_of_prompts_is_no_difference(change: dict[str, str], said: str, tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "prompt": f"add {n}", "target": str(n + 1)} for n in range(9)]
    other = [row | (change if row["id"] == "q7" else {}) for row in reversed(rows)]
    with serving(Sums) as server:
        result = compatcheck.diff(
            f"{server.url}#old", f"{server.url}#new", prompts=write(tmp_path, rows), extract=r"answer: (\d+)",
            new_set={"prompts": str(write(tmp_path, other, "other.jsonl"))}, **FAST,
        )  # fmt: skip
    assert result.differences is not None and result.differences.sentence.startswith(said)
    assert result.only.pairing.target_changed == ("target" in change)


def test_prompts_ask_the_candidates_that_are_not_recorded(tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "prompt": f"add {n}", "target": str(n + 1)} for n in range(9)]
    options: dict[str, Any] = {"prompts": write(tmp_path, rows), "extract": r"answer: (\d+)"}
    options["engine_args"] = {"retries": 6, "backoff": 0.01}
    with serving(Sums) as server:
        kept = [
            compatcheck.evaluate(f"{server.url}#{name}", **options).save(tmp_path / name) for name in ("old", "new")
        ]
        several = compatcheck.diff(kept[0], [kept[1], f"{server.url}#new"], **options)
        for each in (several[0], several[1]):
            assert each.only.n == 9 and each.only.quadrants["negative_flip"] == 1
        with pytest.raises(InputError, match="both sides are recorded, so nobody is asked"):
            compatcheck.diff(*kept, **options)


class Echoing(Scripted):
    """Says what it was given, so that a test can read it."""

    @staticmethod
    def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
        return Reply(json.dumps({key: body.get(key) for key in ("messages", "tools", "response_format")}))


def test_turns_tools_forms_and_images_are_sent_as_they_are(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    picture = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PNG}}]
    talk = [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye"}
    ]  # fmt: skip
    rows = [
        {"prompt": "How warm is Rome?", "system": "Be brief.", "tools": tools},
        {"prompt": [{"role": "user", "content": picture}], "response_format": {"type": "json_object"}},
        {"prompt": [*talk, {"role": "assistant", "content": "See you"}]},
        {"prompt": json.dumps(talk)},
        {"prompt": str(talk)},
    ]
    with serving(Echoing) as server:
        found = compatcheck.evaluate(f"{server.url}#old", prompts=write(tmp_path, rows), **FAST)
    records = found.tasks[0].records
    sent = [json.loads(text) for text in records["prediction"]]
    assert sent[0]["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "How warm is Rome?"}
    ]  # fmt: skip
    assert sent[0]["tools"] == tools and sent[1]["tools"] is None
    assert sent[1]["messages"][0]["content"] == picture
    assert sent[1]["response_format"] == {"type": "json_object"}
    assert sent[2]["messages"] == sent[3]["messages"] == sent[4]["messages"] == talk
    assert records["full_prompt"].iloc[0] == "system: Be brief.\nuser: How warm is Rome?" or (
        records["input"].iloc[0] == "system: Be brief.\nuser: How warm is Rome?"
    )
    assert PNG not in str(records["input"].iloc[1]) and "image/png" in records["input"].iloc[1]
    assert pd.isna(records["target"].iloc[0]) and records["target"].iloc[2] == "See you"
    assert found.tasks[0].metrics == (), "nothing says what is right in every row"


def test_a_task_whose_prompts_are_messages_sends_messages(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}]
    data = write(tmp_path, [{"talk": talk, "answer": "x"}, {"talk": talk[1:], "answer": "x"}])
    for text in ("talk", "{{talk}}"):
        yaml = tmp_path / "talks.yaml"
        yaml.write_text(
            f'task: talks\ndataset_path: json\noutput_type: generate_until\ntest_split: test\ndoc_to_text: "{text}"\n'
            'doc_to_target: "{{answer}}"\ngeneration_kwargs:\n  until: ["\\n"]\n'
            "metric_list:\n  - {metric: exact_match, aggregation: mean, higher_is_better: true}\n"
        )
        with serving(Echoing) as server:
            found = compatcheck.evaluate(f"{server.url}#old", task=str(yaml), data=data, store=False, **FAST)
        records = found.tasks[0].records
        sent = [json.loads(text)["messages"] for text in records["prediction"]]
        assert sent == [talk, talk[1:]], text
        assert records["input"].iloc[0] == "system: Brief.\nuser: Hi"


class Base(Handler):
    """A server of a base model: no chat template."""

    status = 400

    def get(self) -> None:
        self.send(200, {"data": [{"id": "base"}]})

    def post(self, body: dict[str, Any]) -> None:
        if self.path.endswith("/chat/completions"):
            said = {
                "error": {"message": "default chat template is no longer allowed, so you must provide a chat template"}
            }
            self.send(self.status, said if self.status == 400 else {"error": {"message": "no such page"}})
        else:
            self.send(200, {"choices": [{"text": body["prompt"], "finish_reason": "stop"}]})


@pytest.mark.parametrize("status", [400, 404])
def test_a_server_without_chat_gets_plain_text_and_a_note(status: int, tmp_path: Path) -> None:
    class Lacking(Base):
        pass

    Lacking.status = status
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "x"},
    ]
    prompts = write(tmp_path, [{"prompt": "Once upon"}, {"prompt": talk}, {"prompt": "a", "system": "b"}])
    with serving(Lacking) as server:
        found = compatcheck.evaluate(f"{server.url}#base", prompts=prompts, **FAST)
        with pytest.raises(InputError):
            compatcheck.evaluate(f"{server.url}#base", prompts=prompts, apply_chat_template=True, store=False, **FAST)
    said = found.tasks[0].records["prediction"].tolist()
    assert said == ["Once upon", "User: Hi\n\nAssistant: Yes?\n\nUser: x\n\nAssistant:", "b\n\na"]
    assert any("prompts were given as plain text" in note for note in found.notes)


def test_decoding_is_sent_kept_and_left_out(tmp_path: Path) -> None:
    class Noting(Scripted):
        @staticmethod
        def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
            return Reply(json.dumps({key: body[key] for key in sorted(body) if key not in ("messages", "model")}))

    prompts = write(tmp_path, [{"prompt": "a", "target": "b"}])

    def sent(server: Server, **gen: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        one = compatcheck.evaluate(f"{server.url}#old", prompts=prompts, gen=gen, **FAST).tasks[0]
        return json.loads(one.records["prediction"].iloc[0]), dict(one.settings["generation"])

    with serving(Noting) as server:
        plain, settings = sent(server)
        assert (plain["temperature"], plain["max_tokens"], plain["seed"]) == (0.0, 512, 1234) and "stop" not in plain
        without, settings = sent(server, temperature=None, seed="none", max_tokens="none")
        assert not {"temperature", "seed", "max_tokens"} & without.keys()
        assert settings["temperature"] == settings["seed"] == "left out"
        warm, settings = sent(
            server, temperature=0.7, top_p=0.9, stop="\n\n", seed=3, presence_penalty=0.5, reasoning_effort="low"
        )
        assert warm == {
            "temperature": 0.7, "top_p": 0.9, "stop": ["\n\n"], "seed": 3, "presence_penalty": 0.5, "max_tokens": 512,
            "reasoning_effort": "low",
        }  # fmt: skip
        asked = len(server.asked)
        again, _ = sent(server, temperature=0.7, top_p=0.9, stop="\n\n", seed=3, presence_penalty=0.5,
                        reasoning_effort="low")  # fmt: skip
        posts = [path for path, _ in server.asked[asked:] if "completions" in path]
        assert again == warm and not posts, "the same decoding is answered from the store, another one is not"


def test_a_context_that_is_too_long_is_no_refusal_of_max_tokens(tmp_path: Path) -> None:
    class Short(Scripted):
        @staticmethod
        def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
            if asked == "long":
                said = "max_tokens is too large: 512. This model's maximum context length is 100 tokens"
                return Reply(status=400, error={"message": said})
            return Reply("yes" if "max_tokens" in body else "no")

    prompts = write(tmp_path, [{"prompt": text, "target": "yes"} for text in ("a", "long", "b")])
    with serving(Short) as server:
        found = compatcheck.evaluate(f"{server.url}#old", prompts=prompts, **FAST)
    records = found.tasks[0].records
    assert records["prediction"].tolist()[::2] == ["yes", "yes"]
    assert "maximum context length" in records["error"].iloc[1]


def test_until_decided_and_a_kept_run_meet_by_the_users_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"q{n}", "prompt": f"add {n}", "target": str(n + 1)} for n in range(60)]
    prompts, kept = write(tmp_path, rows), tmp_path / "kept"
    options = ["--prompts", str(prompts), "--extract", r"answer: (\d+)"]
    fast = ["--engine-arg", "retries=6", "--engine-arg", "backoff=0.01"]
    with serving(Sums) as server:
        assert run(["run", f"{server.url}#old", *options, *fast, "--out", str(kept)]) == 0
        code = run(["diff", str(kept), f"{server.url}#new", *options, *fast, "--until-decided", "--step", "20",
                    "--fail-on", "nfr:50%", "--out", str(tmp_path / "out"), "--format", "json"])  # fmt: skip
    assert code == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["verdict"] == "pass"
    shown = pd.read_parquet(tmp_path / "out" / "instances.parquet")
    for one in shown.itertuples():
        number = int(str(one.doc_id)[1:])
        assert (one.score_old, one.score_new) == (right("old", number), right("new", number))


class Plus(Scripted):
    """Answers what was asked for."""

    @staticmethod
    def script(model: str, asked: str, body: dict[str, Any], before: int) -> Reply:
        return Reply(asked.split()[1])


@pytest.mark.parametrize(
    "setting", [{"gen.temperature": 0}, {"gen.max_tokens": 512}, {"input-field": "prompt"}, {"reasoning": "strip"}]
)
@pytest.mark.parametrize("candidates", [1, 2])
def test_a_model_against_itself_is_refused_though_a_default_is_written_out(
    setting: dict[str, Any], candidates: int, tmp_path: Path
) -> None:
    prompts = write(tmp_path, [{"id": n, "prompt": f"say {n}", "target": str(n)} for n in range(4)])
    with serving(Plus) as server:
        new = [f"{server.url}#old"] if candidates == 1 else [f"{server.url}#new", f"{server.url}#old"]
        options: dict[str, Any] = {"prompts": prompts, "new_set": setting, "store": False, **FAST}
        with pytest.raises(InputError, match="OLD and NEW are the same"):
            compatcheck.diff(f"{server.url}#old", new if candidates > 1 else new[0], **options)
        assert compatcheck.diff(f"{server.url}#old", f"{server.url}#old", allow_same=True, **options).comparisons
        kept = compatcheck.evaluate(f"{server.url}#old", prompts=prompts, store=False, **FAST).save(tmp_path / "kept")
        then = compatcheck.diff(kept, f"{server.url}#old", prompts=prompts, store=False, **FAST)
    assert then.comparisons, "a server then and now: the model behind it may have been exchanged"


def test_what_is_the_default_anyway_changes_no_signature(tmp_path: Path) -> None:
    prompts = write(tmp_path, [{"id": n, "prompt": f"say {n}", "target": str(n)} for n in range(4)])
    written: list[dict[str, Any]] = [
        {},
        {"reasoning": "strip"},
        {"gen": {"temperature": 0}},
        {"new_set": {"reasoning": "strip"}},
    ]
    with serving(Plus) as server:
        made = [
            compatcheck.diff(f"{server.url}#old", f"{server.url}#new", prompts=prompts, store=False, **FAST, **options)
            for options in written
        ]
        recorded = write(tmp_path, [{"id": n, "target": str(n), "prediction": str(n)} for n in range(4)], "old.jsonl")
        beside = compatcheck.diff(
            recorded, f"{server.url}#new", prompts=prompts, reasoning="strip", store=False, **FAST
        )
        apart = compatcheck.diff(
            f"{server.url}#old",
            f"{server.url}#new",
            prompts=prompts,
            new_set={"reasoning": "keep"},
            store=False,
            **FAST,
        )
    assert len({each.comparisons[0].signature for each in made}) == 1
    assert "|reasoning:strip|" in beside.comparisons[0].signature
    assert "|reasoning:strip/keep|" in apart.comparisons[0].signature


@pytest.mark.parametrize("chosen", [{"limit": 6}, {"sample": 6}])
def test_of_two_files_the_same_ids_are_drawn(chosen: dict[str, int], tmp_path: Path) -> None:
    rows = [{"id": f"q{n}", "prompt": f"say {n}", "target": str(n)} for n in range(20)]
    first, second = write(tmp_path, rows), write(tmp_path, [*rows[::-1], {**rows[0], "id": "more"}], "other.jsonl")
    with serving(Plus) as server:
        found = compatcheck.diff(
            f"{server.url}#old", f"{server.url}#new", prompts=first, new_set={"prompts": second}, store=False,
            **chosen, **FAST,
        ).comparisons[0]  # fmt: skip
        asked = Counter(body["model"] for path, body in server.asked if path == "/v1/chat/completions")
    assert (found.pairing.paired, found.pairing.only_old, found.pairing.only_new) == (6, 0, 0)
    assert asked == {"old": 6, "new": 6}


def test_a_side_without_prompts_is_named(tmp_path: Path) -> None:
    prompts = write(tmp_path, [{"id": 1, "prompt": "say 1", "target": "1"}])
    with serving(Plus) as server, pytest.raises(InputError, match="--task or --prompts is missing for OLD: say"):
        compatcheck.diff(f"{server.url}#old", f"{server.url}#new", new_set={"prompts": prompts}, store=False, **FAST)


def test_settings_of_tasks_are_said_to_have_no_part_in_prompts(tmp_path: Path) -> None:
    prompts = write(tmp_path, [{"id": n, "prompt": f"say {n}", "target": str(n)} for n in range(4)])
    with serving(Plus) as server:
        given = {"num_fewshot": 2, "split": "test", "data": prompts}
        run = compatcheck.evaluate(f"{server.url}#old", prompts=prompts, store=False, **given, **FAST)
    notes = " ".join(run.notes)
    for flag in ("--num-fewshot 2", "--split test", f"--data {prompts}"):
        assert f"prompts.jsonl: {flag} is of tasks; prompts are asked without" in notes


def test_a_system_message_of_a_file_has_plain_ends_of_lines(tmp_path: Path) -> None:
    prompts = write(tmp_path, [{"id": 1, "prompt": "say 1", "target": "1"}])
    (tmp_path / "system.txt").write_bytes(b"\xef\xbb\xbfBe brief.\r\nBe kind.\r\n")
    with serving(Plus) as server:
        compatcheck.evaluate(
            f"{server.url}#old", prompts=prompts, system=f"@{tmp_path / 'system.txt'}", store=False, **FAST
        )
        sent = [body["messages"][0] for _, body in server.asked if "messages" in body]
    assert sent == [{"role": "system", "content": "Be brief.\nBe kind."}]
