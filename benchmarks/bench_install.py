"""The base install in a new environment: its size, what works in it, what is said of what is missing, the quick loop.

Makes a virtual environment, installs this checkout without extras and runs the command line there: a comparison of
recorded outputs, its report, `doctor`; for every extra what asks for it; with `--with-tasks` models behind a server.
Run: python benchmarks/bench_install.py [--folder DIR] [--with-tasks]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MOST_MB, MOST_CPU = 600, 0.6
NEEDED = {
    "models": ["diff", "{old_model}", "{new_model}", "--task", "piqa"],
    "models, to compare with recorded rows": ["diff", "old.jsonl", "{new_model}", "--task", "piqa"],
    "models, to train": ["fix", "{old_model}", "{new_model}", "--task", "piqa", "--out", "fixed"],
    "models, for BERTScore": ["diff", "old.jsonl", "new.jsonl", "--metric", "bertscore"],
    "models, for noise": ["noise", "{old_model}", "--task", "piqa"],
    "tasks": ["diff", "{url}#old", "{url}#new", "--task", "gsm8k", "--data", "{data}"],
}
"""What is refused in the base install, and the extra that the one line has to name."""


class Answering(BaseHTTPRequestHandler):
    """A server of two models: `old` answers 18, `new` 17."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "old", "object": "model"}, {"id": "new", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = f"#### {18 if body['model'] == 'old' else 17}"
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "text": text, "message": message}
        self._send({"id": "1", "object": "completion", "model": body["model"], "choices": [choice]})

    def _send(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def megabytes(folder: Path, compiled: bool) -> float:
    """What the files take on disk; with the bytecode that pip compiles, or without."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_blocks * 512 for path in files if compiled or path.suffix != ".pyc") / 2**20


class Bare:
    """The new environment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.missed = folder, list[str]()
        self.work = folder / "work"
        self.work.mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
        self.python = folder / "env" / "bin" / "python"
        self.empty = self.size()
        self.install(str(ROOT))

    def install(self, what: str) -> None:
        pip = [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "-c", ROOT / "constraints.txt", what], check=True)

    def size(self, compiled: bool = True) -> float:
        return megabytes(self.folder / "env", compiled)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COMPATCHECK"))}
        clean |= {"XDG_CACHE_HOME": str(self.folder / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [self.python, "-m", "compatcheck", *arguments]
        return subprocess.run(command, cwd=self.work, env=clean, capture_output=True, text=True)

    def works(self, name: str, *arguments: str) -> None:
        done = self.run(*arguments)
        self._tell(done.returncode == 0, name, done.stderr.strip().splitlines()[-1:])

    def needs(self, extra: str, name: str, *arguments: str) -> None:
        """Refused with 2 in one line that says how to get the extra, and nothing was written."""
        done, lines = self.run(*arguments, "-q"), []
        lines = (done.stdout + done.stderr).strip().splitlines()
        right = done.returncode == 2 and len(lines) == 1 and f"pip install 'compatcheck[{extra}]'" in lines[0]
        self._tell(right and not (self.work / "compatcheck-report").exists(), name, lines)

    def _tell(self, right: bool, name: str, lines: list[str]) -> None:
        print(f"{'ok' if right else 'WRONG':6}{name}: {' / '.join(lines)[:200]}", flush=True)
        self.missed += [] if right else [name]


def write_sides(folder: Path) -> None:
    for name, wrong in (("old", 5), ("new", 4)):
        rows = [{"id": i, "target": str(i % 7), "prediction": str(i % 7) if i % wrong else "x"} for i in range(20)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def quick_loop(bare: Bare) -> None:
    """Processor seconds of a comparison of tiny files, the least of nine."""
    seconds = []
    for _ in range(9):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        bare.run("diff", "old.jsonl", "new.jsonl", "--out", "quick")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    least, middle = min(seconds), sorted(seconds)[4]
    print(f"tiny files: {least:.2f} s of processor time at least, median {middle:.2f} s (bar {MOST_CPU})")
    bare.missed += [f"{least:.2f} s for tiny files"] if least > MOST_CPU else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the environment is made (about 1 GB)")
    parser.add_argument("--with-tasks", action="store_true", help="then add the extra `tasks` and ask a server")
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    adapters = ROOT / "fixtures" / "adapters"
    places = {
        "old_model": adapters / "piqa-v1", "new_model": adapters / "piqa-v2",
        "url": f"http://127.0.0.1:{server.server_address[1]}/v1", "data": ROOT / "fixtures" / "data" / "gsm8k",
    }  # fmt: skip
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bare = Bare(Path(folder))
        write_sides(bare.work)
        whole, plain = bare.size(), bare.size(compiled=False)
        print(
            f"base install: {whole:.0f} MB, {plain:.0f} MB without bytecode (bar {MOST_MB}); the empty environment is "
            f"{bare.empty:.0f} MB of it"
        )
        bare.missed += [f"{whole:.0f} MB"] if whole > MOST_MB else []
        bare.works("doctor", "doctor")
        bare.works("diff of recorded outputs", "diff", "old.jsonl", "new.jsonl", "--out", "report")
        bare.works(
            "text metrics", "diff", "old.jsonl", "new.jsonl", "--metric", "rouge1", "--metric", "bleu", "--out", "text"
        )
        for kind in ("html", "markdown", "png", "junit"):
            bare.works(f"report as {kind}", "report", "report", "--format", kind)
        for name, arguments in NEEDED.items():
            bare.needs(name.partition(",")[0], f"needs {name}", *(one.format(**places) for one in arguments))
        quick_loop(bare)
        if options.with_tasks:
            bare.install(f"{ROOT}[tasks]")
            print(f"with tasks: {bare.size():.0f} MB")
            asked = [one.format(**places) for one in NEEDED["tasks"]]
            bare.works("diff of two models behind a server", *asked, "--limit", "5", "--out", "served")
    print(f"missed: {'; '.join(bare.missed)}" if bare.missed else "nothing missed")
    return 1 if bare.missed else 0


if __name__ == "__main__":
    sys.exit(main())
