"""A task of sums, answered by the models of a scripted server."""

from __future__ import annotations

import json
from pathlib import Path


def sums(folder: Path, count: int, most: int = 64) -> str:
    """A task whose document ``n`` asks for n + n; the answer is the last number of the text."""
    data, path = folder / "sums.jsonl", folder / "sums.yaml"
    rows = ({"q": f"{n} + {n} =", "a": str(2 * n), "kind": "even" if n % 2 == 0 else "odd"} for n in range(count))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path.write_text(
        f"task: sums\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\n"
        f"generation_kwargs:\n  until: []\n  max_gen_toks: {most}\nmetric_list:\n  - metric: exact_match\n"
        "filter_list:\n  - name: last\n    filter:\n      - function: regex\n        regex_pattern: '(\\d+)'\n"
        "        group_select: -1\n      - function: take_first\n",
        encoding="utf-8",
    )
    return str(path)


def number(asked: str) -> int:
    """The document that a prompt is of."""
    return int(asked.split()[0])
