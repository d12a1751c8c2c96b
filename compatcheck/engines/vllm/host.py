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
import traceback
from pathlib import Path
from typing import Any

from compatcheck.engines.processes import end_now, watch_parent

if __name__ == "__mp_main__":
    watch_parent()


def main() -> None:
    from compatcheck.errors import one_line

    folder = Path(os.environ["TMPDIR"])
    watch_parent([folder], whole_session=True)
    calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(calls, folder), daemon=True).start()
    answers = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1 << 16)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    serving: Any = None
    while True:
        call = calls.get()
        try:
            if serving is None:
                serving = _load(call)
                say({"ready": True})
            elif call["method"] == "exchange":
                _merge(call["given"])
                serving.exchange(call["given"]["model"])
                say({"end": None})
            else:
                say({"end": serving.answer(call, say)})
        except Exception as error:
            traceback.print_exception(error)
            sys.stderr.flush()
            say({"error": one_line(error)})
            if serving is None:
                return


def _read(calls: queue.SimpleQueue[dict[str, Any]], folder: Path) -> None:
    for line in sys.stdin.buffer:
        calls.put(json.loads(line))
    end_now([folder], whole_session=True)  # whoever started us is gone


def _merge(order: dict[str, Any]) -> None:
    """Write the merged copy that is to be loaded, where one is; imports torch and transformers only then."""
    if order["merge"]:
        from compatcheck.engines.hf.merging import merge_adapter

        one = order["merge"]
        merge_adapter(
            Path(one["base"]), Path(one["adapter"]), Path(order["model"]), one["dtype"], one["trust_remote_code"]
        )


def _load(order: dict[str, Any]) -> Any:
    from compatcheck.engines.patches import name_cpu_build_of_vllm

    _merge(order)
    name_cpu_build_of_vllm()
    from compatcheck.engines.vllm.serving import Serving

    return Serving(order)


if __name__ == "__main__":
    main()
