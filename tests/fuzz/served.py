"""Servers that answer with rubbish; task files, data and stored answers, damaged; odd words on the command line."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from tests import tiny
from tests.engines.endpoint.servers import Handler, Server, chat, completion
from tests.fuzz.damage import ODD, damage_file, damage_value
from tests.fuzz.recorded import plain_rows
from tests.fuzz.watch import Input

FAST = ["--engine-arg", "retries=1", "--engine-arg", "backoff=0.01", "--engine-arg", "timeout=2"]


class Rubbish(Handler):
    """Answers every prompt with a word of it, in a body that is damaged as often as ``damaged`` says."""

    rng = random.Random(0)
    damaged = 0.0

    def get(self) -> None:
        self._answer({"data": [{"id": "m", "owned_by": "tests", "created": 1}]})

    def post(self, body: dict[str, Any]) -> None:
        prompt = str(body.get("prompt") or body.get("messages"))
        words = prompt.split()
        text = words[len(words) // 2] if words else "x"
        if "chat" in self.path:
            return self._answer(chat(text))
        answer = completion(text)
        if body.get("echo"):
            tokens = [f"{word} " for word in words]
            shown = {"tokens": tokens, "token_logprobs": [None, *[-1.0] * (len(tokens) - 1)], "top_logprobs": [None]}
            answer["choices"][0] |= {"logprobs": shown, "text": "".join(tokens)}
        return self._answer(answer)

    def _answer(self, document: Any) -> None:
        rng = type(self).rng
        with self.server.lock:
            if rng.random() >= type(self).damaged:
                return self.send(200, document)
            for _ in range(rng.choice([1, 1, 2])):
                damage_value(document, rng)
            content = json.dumps(document).encode()
            if rng.random() < 0.2:
                content = rng.choice([content[:-3], b"", b"\xff" + content, b"\0", b"[" * 100_000, b"9" * 10_000])
            status = rng.choice([200, 200, 200, 200, 204, 400, 401, 404, 429, 500, 302, 999])
            headers = rng.choice([{}, {}, {"Retry-After": rng.choice(["0", "-1", "x", "nan"])}, {"Location": "/"}])
        return self.send(
            status, content, headers, rng.choice(["application/json", "text/html", "x", "application/json"])
        )


def build(folder: Path) -> Path:
    """Once for all inputs: two tasks and their data."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny.tasks(folder, 4)
    return folder


def answers(rng: random.Random, box: Path, whole: Path, server: Server) -> Input:
    """A server whose answers are damaged."""
    Rubbish.rng, Rubbish.damaged = random.Random(rng.random()), rng.choice([0.1, 0.3, 1.0])
    one = f"{server.url}#m"
    task = rng.choice(["tinygen", "tinygen", "tinychoice"])
    given = ["--task", str(whole / f"{task}.yaml"), "--data", str(whole / "data"), *FAST]
    api = rng.choice([[], [], ["--engine-arg", "api=chat"], ["--engine-arg", "api=completions"]])
    chosen = rng.choice(
        [
            ["diff", one, f"{server.url}#m", "--allow-same", *given, *api],
            ["run", one, *given, *api],
            ["diff", server.url, one, "--allow-same", *given, "--metric", "exact_match"],
        ]
    )
    return Input("answers", f"damaged: {Rubbish.damaged}", [*chosen, "--out", str(box / "out")], box, out=box / "out")


def tasks(rng: random.Random, box: Path, whole: Path, server: Server) -> Input:
    """A task file or its data, damaged."""
    import yaml

    Rubbish.damaged = 0.0
    for name in ("data", "tinygen.yaml", "tinychoice.yaml"):
        source = whole / name
        shutil.copytree(source, box / name) if source.is_dir() else shutil.copy(source, box / name)
    task = rng.choice(["tinygen", "tinychoice"])
    path = box / f"{task}.yaml"
    if rng.random() < 0.7:
        document = yaml.safe_load(path.read_text())
        done = "; ".join(damage_value(document, rng) for _ in range(rng.choice([1, 1, 2])))
        if rng.random() < 0.3:
            key = rng.choice(
                ["num_fewshot", "process_docs", "filter_list", "repeats", "doc_to_text", "include", "fewshot_split"]
            )
            document[key] = rng.choice(ODD)
            done += f"; {key} = {str(document[key])[:30]!r}"
        try:
            path.write_text(yaml.safe_dump(document), encoding="utf-8", errors="surrogateescape")
        except (yaml.YAMLError, UnicodeEncodeError):
            path.write_text(json.dumps(document))
        if rng.random() < 0.15:
            done += f"; {damage_file(path, rng)}"
    else:
        data = box / "data" / task / "test.jsonl"
        rows = [json.loads(line) for line in data.read_text().splitlines()]
        done = f"data: {damage_value(rows, rng)}"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if rng.random() < 0.3:
            done += f"; {damage_file(data, rng)}"
    chosen = rng.choice(
        [
            ["run", f"{server.url}#m", "--task", str(path), "--data", f"{box}/data", *FAST, "--out", f"{box}/out"],
            ["run", f"{server.url}#m", "--task", str(path), "--data", f"{box}/data", *FAST, "--out", f"{box}/out"],
            ["tasks", str(path)],
        ]
    )  # fmt: skip
    return Input("tasks", f"{task}: {done}", chosen, box, out=box / "out")


def stores(rng: random.Random, box: Path, whole: Path, server: Server) -> Input:
    """Answers that were stored before, damaged: the run is made all the same."""
    from tests.fuzz.watch import attempt

    Rubbish.damaged = 0.0
    given = ["run", f"{server.url}#m", "--task", str(whole / "tinygen.yaml"), "--data", str(whole / "data"), *FAST]
    first = attempt(Input("stores", "whole", [*given, "--out", str(box / "first")], box, out=box / "first"))
    assert first.code == 0, first
    files = sorted(path for path in (box / "cache" / "store").rglob("*") if path.is_file())
    path = rng.choice(files)
    done = f"{path.name}: {damage_file(path, rng)}"
    chosen = rng.choice(
        [[*given, "--out", str(box / "out")], ["cache", "info"], ["cache", "prune", "--max-size", "1KB"]]
    )
    return Input("stores", done, chosen, box, out=box / "out")


ODD_WORDS = [
    "", " ", "\0", "a\0b", "\ud800", "n" * 255, "n" * 256, "x/" * 3_000, "~nouser", "~nouser/x", "~", ".", "..", "/",
    "/dev/null", "/proc/self/mem", "http://", "http://[", "http://[::1", "http://127.0.0.1:9/v1",
    "http://127.0.0.1:99999/v1", "http://user:pass@127.0.0.1:9/v1#m", "file:///etc/passwd", "@", "@main", "@main~",
    "@main~-1", "@\0", "a+b", "+", "++", "{task}", "{task", "{nothing}", "{0}", "%s", "-", "--", "-x", "--nothing",
    "=", "a=b", "é" * 200, "\u202ex", "\x1b[31m", "1e400", "nan", "-1", "99999999999999999999999", "0", "2%", "nfr:2%",
    "x.jsonl", "a.jsonl", "b.jsonl", "*", "**/*", "?", "kept", "report", "gsm8k", "samsum", "hf", "a,b", "meta.level",
    "score", "(a+)+$", "(?i)x", "[", "$(id)", "`id`", "'", '"',
]  # fmt: skip
_NAMES = [
    "--task", "--data", "--split", "--limit", "--sample", "--num-fewshot", "--metric", "--metric-arg", "--engine-arg",
    "--lower-is-better", "--batch-size", "--dtype", "--device", "--seed", "--store", "--epsilon", "--correct-at",
    "--slice-by", "--cluster-by", "--noise-run", "--fail-on", "--advisory", "--required", "--max-missing",
    "--id-field", "--target-field", "--prediction-field", "--extract", "--targets", "--repeats", "--format",
    "--config", "--check",
]  # fmt: skip
_COMMANDS: dict[str, tuple[int, list[str]]] = {
    "diff": (2, _NAMES),
    "run": (1, [*_NAMES[:15], "--id-field", "--target-field", "--extract", "--targets", "--format"]),
    "bless": (1, ["--as", "--fail-on", "--task", "--metric", "--history"]),
    "report": (1, ["--format"]),
    "show": (1, ["--task", "--quadrant", "--search", "--limit", "--width"]),
    "card": (1, ["--old", "--new"]),
    "export": (1, ["--to", "--task", "--metric", "--extract"]),
    "plan": (0, ["--fail-on", "--nfr", "--n", "--from"]),
    "tasks": (1, []),
    "cache": (1, ["--store", "--older-than", "--max-size", "--format"]),
    "init": (0, []),
    "doctor": (0, []),
    "nothing": (1, []),
}
"""Commands, how many references they take, and options that take a value."""


def words(rng: random.Random, box: Path) -> Input:
    """Odd words where references, names and values of options belong."""
    here = box / "cwd"
    here.mkdir()
    for name, seed in (("a", 0), ("b", 1)):
        (here / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain_rows(seed=seed)))
    command = rng.choice([*_COMMANDS, "diff", "diff", "diff", "run"])
    references, options = _COMMANDS[command]
    good = {"diff": ["a.jsonl", "b.jsonl"], "cache": [rng.choice(["info", "prune"])]}.get(command, ["a.jsonl"])[
        :references
    ]
    odd = rng.random() < 0.5 and bool(good)
    if odd:
        good[rng.randrange(len(good))] = rng.choice(ODD_WORDS)
    given = [command, *good]
    for name in rng.sample(options, min(len(options), rng.choice([0, 1, 2] if odd else [1, 2, 3]))):
        given += [name, rng.choice(ODD_WORDS)]
    out = box / "out"
    if command in ("diff", "run", "report", "export"):
        given += ["--out", str(out) if rng.random() < 0.9 else str(out / rng.choice(["\0", "n" * 256, "é", "a" * 100]))]
    others = tuple(here / name for name in (".compatcheck", "compat-report", "compatcheck.toml", ".github"))
    plain = not {"json", "junit", "sarif"} & set(given)
    return Input("words", "odd words", given, box, out=out, others=others, compares=False, plain=plain)
