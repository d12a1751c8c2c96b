"""Recorded outputs of every tool, damaged, as OLD and NEW of a command line with options drawn at random."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.damage import VALUES, damage_file, damage_value, other_text
from tests.fuzz.watch import Input
from tests.readers.cases import BY_NAME, CASES, Case, csv_file
from tests.readers.foreign_samples import lighteval_tree

WORDS = ("yes", "no", "four", "4", "Zürich", "12.5", '{"a": 1}', "", "the cat sat", "42")


def plain_rows(count: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as a user's own script writes them."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        target = WORDS[number % len(WORDS)]
        row: dict[str, Any] = {
            "id": f"r{number}", "input": f"Question {number}?", "target": target,
            "prediction": rng.choice([target, target, rng.choice(WORDS)]), "score": float(rng.randrange(2)),
            "topic": "ab"[number % 2], "length": number, "meta": {"level": number % 3, "tags": ["x", "y"]},
        }  # fmt: skip
        if number % 7 == 3:
            row = {"id": row["id"], "target": target, "error": "timeout", "topic": "b"}
        rows.append(row)
    return rows


def _plain(name: str) -> Case:
    return replace(BY_NAME[name], value=plain_rows)


def _csv(folder: Path, value: Any) -> Path:
    return csv_file(folder, [{k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in value])


def _tree(folder: Path, value: Any) -> Path:
    """Both tasks of lighteval, each of the parts of the value in a file of its own."""
    tree = lighteval_tree(folder / "tree", "old")
    for path, rows in zip(sorted(tree.rglob("*.parquet")), value, strict=False):
        pq.write_table(pa.Table.from_pylist(rows), path)
    return tree


SIDES = [
    *[_plain(name) for name in ("jsonl", "json", "parquet", "datasets")] * 2,
    *[case for case in CASES if case.name not in ("jsonl", "json", "parquet", "datasets")],
    Case("csv", plain_rows, _csv, lambda value: value, "id", "score"),
    Case("csv", plain_rows, _csv, lambda value: value, "id", "score"),
]
COUNTED = {"jsonl", "json", "parquet", "datasets", "csv", "lm-eval", "helm-lines", "alpaca"}
"""Kinds in which every element of the value is a row of the comparison."""


def rows(rng: random.Random, box: Path) -> Input:
    """``diff``, ``run``, ``export`` or ``bless`` of two sides; the second is damaged, sometimes the first as well."""
    case = rng.choice(SIDES)
    done, paths, counts = [], [], []
    for side in ("old", "new"):
        value = case.value()
        folder = box / side
        folder.mkdir()
        times = rng.choice([0, 1, 1, 1, 2, 3]) if side == "new" else rng.choice([0, 0, 0, 0, 1])
        done += [damage_value(value, rng, rng.choice([[other_text], VALUES])) for _ in range(times)]
        path = _write(case, folder, value)
        if path is None:
            path = _write(case, folder, case.value())
            done.append("(which it cannot hold)")
            value = case.value()
        assert path is not None
        counted: int | None = len(case.rows(value)) if case.name in COUNTED and _all_rows(value) else None
        if rng.random() < (0.25 if side == "new" else 0.05):
            counted = None
            files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
            done.append(
                _column(path, rng)
                if path.suffix == ".parquet" and rng.random() < 0.6
                else damage_file(rng.choice(files), rng)
            )
        elif path.name.endswith((".jsonl", ".json", ".csv")) and rng.random() < 0.1:
            packed = path.with_name(f"{path.name}.gz")
            packed.write_bytes(gzip.compress(path.read_bytes()))
            path = packed
        paths.append(path)
        counts.append(counted)
    total = None if None in counts else sum(count for count in counts if count is not None)
    made = Input("rows", f"{case.name}: {'; '.join(done)}", [], box, out=box / "out", rows=total)
    extra = ["--targets", str(case.layout.targets)] if case.layout.targets is not None and rng.random() < 0.9 else []
    if case.layout.part:  # one provider of several
        paths = [path.with_name(f"{path.name}#{part}") for path, part in zip(paths, ("old", "new"), strict=True)]
    return rng.choice([_diff, _diff, _diff, _diff, _diff, _run, _export, _bless])(made, paths, extra, rng)


def _all_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _write(case: Case, folder: Path, value: Any) -> Path | None:
    try:
        return case.write(folder, value)
    except Exception:  # what this kind of file cannot hold: half a surrogate in Parquet, a text in place of a row
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return None


def _column(path: Path, rng: random.Random) -> str:
    """A column of another type, another name, or metadata of another's."""
    try:
        table = pq.read_table(path)
    except OSError:  # too deep to be read again
        return damage_file(path, rng)
    place = rng.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    kinds: list[Callable[[], pa.Table]] = [
        lambda: table.set_column(place, name, column.cast(rng.choice(TYPES))),
        lambda: table.set_column(place, name, column.dictionary_encode()),
        lambda: table.set_column(place, name, pa.nulls(len(column))),
        lambda: table.set_column(place, name, pa.array([[{"a": 1}]] * len(column))),
        lambda: table.set_column(place, name, pa.array([b"\xff\x00"] * len(column))),
        lambda: table.set_column(place, name, pa.array([{"k": "v"}] * len(column), pa.map_(pa.string(), pa.string()))),
        lambda: table.append_column(name, column),
        lambda: table.rename_columns({name: rng.choice(["", "\0", "ID", "a.b", "score", "task", "n" * 255])}),
        lambda: table.replace_schema_metadata({"pandas": rng.choice(["{", "[]", '{"index_columns": ["nowhere"]}'])}),
        lambda: table.slice(0, 0),
        lambda: table.remove_column(place),
    ]  # fmt: skip
    number = rng.randrange(len(kinds))
    try:
        pq.write_table(kinds[number](), path)
    except (pa.ArrowException, ValueError, KeyError):
        return damage_file(path, rng)
    return f"column {name} changed (way {number})"


TYPES = [
    pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(),
    pa.bool_(), pa.decimal128(38, 5), pa.timestamp("ns"), pa.date32(), pa.duration("s"), pa.string_view(),
]  # fmt: skip
BUDGETS = ["nfr:2%", "nfr:90%", "net:-1%", "accuracy:-0.5%", "missing:1%", "errors:1%", "no_answer:50%", "pfr:1%"]
BAD_BUDGETS = [
    "topic=a/nfr:5%", "recorded/nfr:3%", "nfr:nan%", "nfr:1e400", "nfr", ":", "nfr:-3%", "x/y/z/nfr:1%", "nfr:2%:3%",
    "\0:1%", "latency:+10%", "mean_difference:0", "score.regression:0.03", "missing:0%",
]  # fmt: skip
OPTIONS: list[list[str]] = [
    ["--metric", "exact_match"], ["--metric", "contains"], ["--metric", "rouge1"], ["--metric", "bleu"],
    ["--metric", "score"], ["--metric", "chrf", "--metric", "exact_match"], ["--stream"], ["--stream"], ["--no-stream"],
    ["--metric-arg", "exact_match.ignore_case=true"], ["--slice-by", "topic"], ["--slice-by", "auto"], ["--limit", "3"],
    ["--cluster-by", "topic"], ["--extract", r"(\d+)"], ["--extract", r"(a|a?)+$"], ["--extract", r"^((a+)+)$"],
    ["--epsilon", "0.1"], ["--correct-at", "0.5"], ["--max-missing", "2%"], ["--exit-zero"],
    ["--quiet"], ["--advisory", "nfr:1%"], ["--lower-is-better", "score"], ["--until-decided"], ["--noise-floor", "2"],
    ["--format", "html"], ["--format", "markdown"], ["--format", "junit"], ["--format", "sarif"], ["--format", "json"],
    ["--format", "github"], ["--format", "html", "--format", "junit", "--format", "sarif", "--format", "markdown"],
    ["--format", "png"], ["--repeats", "average"],
]  # fmt: skip
BAD_OPTIONS: list[list[str]] = [
    ["--metric", "nothing"], ["--metric-arg", "exact_match.nothing=1"], ["--metric-arg", "x"],
    ["--slice-by", "nowhere"], ["--slice-by", "meta"], ["--slice-by", "meta.level"], ["--cluster-by", "length"],
    ["--limit", "0"], ["--limit", "-1"], ["--extract", "("], ["--extract", "(?P<x>.)(?P=x)"], ["--extract", ""],
    ["--id-field", "meta.level"], ["--id-field", "input"], ["--target-field", "topic"],
    ["--prediction-field", "score"], ["--epsilon", "nan"], ["--new-prediction-field", "target"],
    ["--correct-at", "inf"], ["--max-missing", "x"], ["--seed", "-1"], ["--seed", "99999999999999999999"],
    ["--required", "gsm8k"], ["--format", "nothing"], ["--task", "gsm8k"], ["--task", "x"], ["--engine-arg", "a"],
]  # fmt: skip


def _options(rng: random.Random, most: int) -> list[str]:
    bad = rng.random() < 0.2
    chosen = rng.sample(OPTIONS + BAD_OPTIONS if bad else OPTIONS, rng.choice([0, 0, 1, 1, 2, most]))
    budgets = rng.sample(BUDGETS + BAD_BUDGETS if bad else BUDGETS, rng.choice([0, 1, 1, 2]))
    return [word for option in chosen for word in option] + [word for rule in budgets for word in ("--fail-on", rule)]


def _diff(made: Input, paths: list[Path], extra: list[str], rng: random.Random) -> Input:
    options = _options(rng, 4)
    noise = ["--noise-run", str(paths[1])] if rng.random() < 0.05 else []
    where = [] if rng.random() < 0.1 and "--format" not in options else ["--out", str(made.box / "out")]
    given = ["diff", str(paths[0]), str(paths[1]), "--allow-same", *extra, *options, *noise, *where]
    partial = {"--limit", "--exit-zero", "--repeats", "--task", "--until-decided"} & set(options)
    return replace(
        made, arguments=given, rows=None if partial else made.rows, out=made.box / "out" if where else None,
        compares="--exit-zero" not in options, plain=not {"json", "junit", "sarif", "markdown", "html"} & set(options),
    )  # fmt: skip


def _run(made: Input, paths: list[Path], extra: list[str], rng: random.Random) -> Input:
    few = [option for option in OPTIONS if option[0] in ("--metric", "--limit", "--extract", "--id-field")]
    options = rng.choice([[], [], [], *few])
    given = [
        "run",
        str(paths[1]),
        *extra,
        *options,
        "--out",
        str(made.box / "out"),
        *rng.choice([[], ["--format", "json"]]),
    ]
    return replace(made, arguments=given, rows=None)


def _export(made: Input, paths: list[Path], extra: list[str], rng: random.Random) -> Input:
    to = rng.choice(["lm-eval", "parquet", "csv", "jsonl", "jsonl", "xml"])
    out = made.box / "out" / rng.choice(["x", f"x.{to}", "{task}.csv", "n" * 255, "a/b/c"])
    return replace(made, arguments=["export", str(paths[1]), *extra, "--to", to, "--out", str(out)], rows=None)


def _bless(made: Input, paths: list[Path], extra: list[str], rng: random.Random) -> Input:
    name = rng.choice(["main", "@x", "v1.2", "a b", "..", "n" * 255, "\0", ""])
    given = ["bless", str(paths[1]), "--as", name, *rng.choice([[], ["--fail-on", "nfr:2%"], ["--force"]])]
    return replace(made, arguments=given, rows=None, out=made.box / "cwd" / ".compatcheck", compares=False)


BOMBS = ("one line, gzipped", "one value, Parquet", "a long row", "many fields", "many tasks", "slow pattern")


def bombs(rng: random.Random, box: Path) -> Input:
    """Small files that are large inside."""
    kind = rng.choice(BOMBS)
    old = box / "old.jsonl"
    old.write_text("".join(json.dumps(row) + "\n" for row in plain_rows()))
    new, options = box / "new.jsonl", []
    if kind == "one line, gzipped":
        new = box / "new.jsonl.gz"
        with gzip.open(new, "wb", compresslevel=1) as file:
            file.write(b'{"id": "r0", "target": "1", "prediction": "')
            for _ in range(600):
                file.write(b"x" * (1 << 20))
            file.write(b'"}\n')
    elif kind == "one value, Parquet":
        new = box / "new.parquet"
        ids = pa.array([f"r{number}" for number in range(2_000)])
        same = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), pa.array(["x" * (1 << 20)]))
        pq.write_table(pa.table({"id": ids, "target": ids, "prediction": same}), new, compression="zstd")
    elif kind == "a long row":
        new.write_text(json.dumps(plain_rows(1)[0] | {"prediction": "y " * 10_000_000}) + "\n")
    elif kind == "many fields":
        new.write_text("".join(json.dumps(row | {f"f{n}": n for n in range(5_000)}) + "\n" for row in plain_rows()))
    elif kind == "many tasks":
        old, new = box / "many", box / "many2"
        for folder in (old, new):
            folder.mkdir()
            row = json.dumps(BY_NAME["lm-eval"].value()[0])
            for number in range(300):
                (folder / f"samples_t{number}_2026-01-01T00-00-00.000000.jsonl").write_text(row + "\n")
    else:
        new.write_text("".join(json.dumps(row | {"prediction": "a" * 40 + "!"}) + "\n" for row in plain_rows()))
        options = ["--extract", r"^((a+)+)$"]
    given = ["diff", str(old), str(new), *options, "--out", str(box / "out")]
    return Input("bombs", kind, given, box, out=box / "out")
