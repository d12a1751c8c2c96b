"""Stands where vLLM's host stands: a session of processes that would sleep for minutes if nobody ended them."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

from compatcheck.engines.processes import end_now, watch_parent

if __name__ == "__mp_main__":
    watch_parent()


def sleep() -> None:
    time.sleep(300)


def main() -> None:
    folder = Path(os.environ["TMPDIR"])
    watch_parent([folder], whole_session=True)
    (folder / "large").write_bytes(b"x" * 1000)
    context = multiprocessing.get_context("spawn")
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=1000)
    child = context.Process(target=sleep)
    child.start()
    print("a line of the log", flush=True)
    with os.fdopen(int(sys.argv[1]), "w") as answers:
        print(json.dumps({"pids": [os.getpid(), child.pid], "memory": memory.name}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps({"echo": json.loads(line)}), file=answers, flush=True)
        end_now([folder], whole_session=True)


if __name__ == "__main__":
    import multiprocessing.shared_memory

    main()
