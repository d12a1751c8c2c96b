"""What compatcheck wrote itself and reads again, damaged: reports, kept runs, baselines, stores; and settings files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.fuzz.damage import ODD, damage_file, damage_value
from tests.fuzz.recorded import _column, plain_rows
from tests.fuzz.watch import Input


def build(folder: Path) -> Path:
    """Once for all inputs: two reports, a kept run and a baseline with two entries."""
    from compatcheck.cli.app import run

    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in (("a", 0), ("b", 1)):
        rows = plain_rows(30, seed)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    budgets = ["--fail-on", "nfr:1%", "--fail-on", "missing:50%", "--advisory", "net:-1%", "--slice-by", "topic"]
    with _inside(folder):
        assert run(["diff", "a.jsonl", "b.jsonl", *budgets, "--cluster-by", "length", "--out", "report"]) in (0, 1, 3)
        assert run(["diff", "a.jsonl", "b.jsonl", "--stream", "--metric", "rouge1", "--out", "streamed"]) == 0
        assert run(["run", "a.jsonl", "--out", "run"]) == 0
        for name in ("a", "b"):
            assert run(["bless", f"{name}.jsonl", "--as", "main", "--force"]) == 0
    return folder


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    here = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        os.chdir(here)


def _damage_json(path: Path, rng: random.Random) -> str:
    """A change of a value most often, of the file else."""
    if rng.random() < 0.2:
        return damage_file(path, rng)
    document = json.loads(path.read_text(encoding="utf-8"))
    done = "; ".join(damage_value(document, rng) for _ in range(rng.choice([1, 1, 1, 2, 3])))
    path.write_text(json.dumps(document), encoding="utf-8")
    return done


def _damage_either(folder: Path, first: str, second: str, rng: random.Random) -> str:
    if rng.random() < 0.7:
        return f"{first}: {_damage_json(folder / first, rng)}"
    path = folder / second
    return f"{second}: {_column(path, rng) if rng.random() < 0.8 else damage_file(path, rng)}"


def reports(rng: random.Random, box: Path, whole: Path) -> Input:
    """``report``, ``show`` and ``card`` of a kept comparison that somebody changed."""
    kept = shutil.copytree(whole / rng.choice(["report", "report", "streamed"]), box / "kept")
    done = _damage_either(kept, "report.json", "instances.parquet", rng)
    formats = ["terminal", "json", "markdown", "html", "junit", "github", "sarif"]
    out = box / "out"
    command = rng.choice(["report", "report", "report", "show", "card", "card-file", "show-all"])
    given: dict[str, list[str]] = {
        "report": ["report", str(kept), "--format", rng.choice(formats), "--out", str(out)],
        "show": ["show", str(kept), *rng.choice([[], ["r3"], ["--search", "x"], ["--task", "recorded"]])],
        "show-all": ["show", str(kept), "--quadrant", rng.choice(["all", "error", "both_wrong"])],
        "card": ["card", str(kept)],
        "card-file": ["card", str(kept), str(box / "model")],
    }  # fmt: skip
    if command == "card-file":
        (box / "model").mkdir()
        (box / "model" / "README.md").write_text(f"---\nlicense: mit\n---\n# A model\n{rng.choice(ODD)!r}\n")
        return Input("reports", done, given[command], box, out=box / "model", compares=False)
    return Input("reports", done, given[command], box, out=out, compares=False)


def runs(rng: random.Random, box: Path, whole: Path) -> Input:
    """A kept run that somebody changed, as OLD, or run, exported and blessed again."""
    kept = shutil.copytree(whole / "run", box / "kept")
    done = _damage_either(kept, "manifest.json", "records.parquet", rng)
    if "records.parquet" in done and rng.random() < 0.7 and (kept / "records.parquet").is_file():
        _sign(kept)
        done += " (signed again)"
    out, other = box / "out", str(whole / "b.jsonl")
    task = rng.choice([[], [], ["--task", "recorded"], ["--task", "nothing"]])
    given: list[list[str]] = [
        ["diff", str(kept), other, *task, "--fail-on", "nfr:5%", "--out", str(out)],
        ["diff", other, str(kept), *rng.choice([[], ["--stream"]]), "--out", str(out)],
        ["run", str(kept), *task, "--out", str(out)],
        ["export", str(kept), *task, "--to", rng.choice(["lm-eval", "csv", "jsonl", "parquet"]), "--out", str(out)],
        ["bless", str(kept), "--as", "other"],
    ]  # fmt: skip
    chosen = rng.choice(given)
    if chosen[0] == "bless":
        return Input("runs", done, chosen, box, out=box / "cwd" / ".compatcheck", compares=False)
    return Input("runs", done, chosen, box, out=out)


def _sign(folder: Path) -> None:
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["records"]["sha256"] = hashlib.sha256((folder / "records.parquet").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def baselines(rng: random.Random, box: Path, whole: Path) -> Input:
    """A history that somebody changed."""
    shutil.copytree(whole / ".compatcheck", box / "cwd" / ".compatcheck")
    path = box / "cwd" / ".compatcheck" / "baselines" / "main" / "history.jsonl"
    if rng.random() < 0.25:
        done = damage_file(path, rng)
    else:
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        done = "; ".join(damage_value(entries, rng) for _ in range(rng.choice([1, 1, 2])))
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    out, other = box / "out", str(whole / "b.jsonl")
    given: list[list[str]] = [
        ["diff", rng.choice(["@main", "@main~1", "@main~99", "@", "@other"]), other, "--fail-on", "nfr:5%",
         "--format", rng.choice(["html", "terminal", "markdown"]), "--out", str(out)],
        ["bless", "--history", "--as", "main"],
        ["bless", other, "--as", "main", "--fail-on", "nfr:1%"],
        ["run", "@main", "--out", str(out)],
        ["export", "@main", "--to", "csv", "--out", str(out / "x.csv")],
    ]  # fmt: skip
    chosen = rng.choice(given)
    if chosen[0] == "bless":
        return Input("baselines", done, chosen, box, out=box / "cwd" / ".compatcheck", compares=False)
    return Input("baselines", done, chosen, box, out=out)


SETTINGS: dict[str, Any] = {
    "seed": 7, "fail_on": ["nfr:5%", "missing:1%"], "max_missing": "2%", "slice_by": ["topic"], "epsilon": 0.01,
    "metric": "exact_match", "metric_args": {"exact_match": {"ignore_case": True}}, "out": "reports",
    "format": ["html"],
    "limit": 20, "store": False, "noise_run": [], "exit_zero": False, "batch_size": "auto", "until_decided": False,
    "extract": "(.*)", "targets": "", "engine_args": {"a": 1}, "trust_remote_code": False, "lower_is_better": [],
}  # fmt: skip


def settings(rng: random.Random, box: Path, whole: Path) -> Input:
    """A settings file, damaged, with two checks of recorded outputs."""
    keys = rng.sample(sorted(SETTINGS), rng.choice([1, 3, 6]))
    document: dict[str, Any] = {key: json.loads(json.dumps(SETTINGS[key])) for key in keys if key != "targets"}
    sides = {"old": str(whole / "a.jsonl"), "new": str(whole / "b.jsonl")}
    document["checks"] = {"one": {**sides, "fail_on": ["nfr:50%"]}, "two": {**sides, "metric": "contains"}}
    document |= rng.choice([{}, {"fix": {"margin": 1.5, "seeds": 2}}])
    done = [damage_value(document, rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    project = rng.random() < 0.2
    path = box / "cwd" / ("pyproject.toml" if project else "compatcheck.toml")
    path.parent.mkdir(exist_ok=True)
    text = _toml({"tool": {"compatcheck": document}} if project else document)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.25:
        done.append(damage_file(path, rng))
    out = box / "out"
    inside = tuple(box / "cwd" / name for name in ("reports", "compat-report"))
    given: list[list[str]] = [
        ["diff", "--out", str(out)], ["diff", "--check", "one", "--out", str(out)], ["diff"], ["doctor"],
        ["diff", sides["old"], sides["new"], "--out", str(out)], ["diff", "--config", str(path), "--out", str(out)],
        ["bless", sides["old"], "--as", "x"],
    ]  # fmt: skip
    chosen = rng.choice(given)
    made = Input("settings", "; ".join(done), chosen, box, out=out, others=inside, compares=False)
    if chosen[0] == "bless":
        made = replace(made, others=(*inside, box / "cwd" / ".compatcheck"))
    named = document.get("out")
    if isinstance(named, str) and chosen == ["diff"]:
        made = replace(
            made, others=(*made.others, box / "cwd" / named.strip("/") if named.strip("/.") else box / "cwd")
        )
    return made


def _toml(document: Any) -> str:
    lines: list[str] = []
    try:
        _table(document, "", lines)
    except RecursionError:  # deeper than this writer goes: brackets do as well
        lines.append(f"deep = {'[' * 5000}{']' * 5000}")
    return "\n".join(lines) + "\n"


def _table(document: Any, name: str, lines: list[str]) -> None:
    if not isinstance(document, dict):
        return
    inner = {key: value for key, value in document.items() if isinstance(value, dict)}
    lines += [f"{json.dumps(key)} = {_value(value)}" for key, value in document.items() if key not in inner]
    for key, value in inner.items():
        whole = f"{name}.{json.dumps(key)}" if name else json.dumps(key)
        lines.append(f"[{whole}]")
        _table(value, whole, lines)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)} = {_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, float):
        return repr(value)
    return "nan" if value is None else json.dumps(value, ensure_ascii=False)
