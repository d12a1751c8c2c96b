"""Requests in batches for several workers: even by cost, and no document torn apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

PARTS = 8
"""Batches per worker, so that a slow one holds up the end by an eighth of its share at most."""
FEWEST, MOST = 8, 256
"""Documents in a batch: enough to be computed side by side, and few enough that little is lost with a worker."""


@dataclass
class Batch:
    """Numbers of requests that are answered together."""

    numbers: list[int]
    deaths: int = 0


def batches(requests: Sequence[Instance], workers: int) -> list[Batch]:
    """Shard requests evenly by cost (characters to read and write), the costliest first.

    The choices of a document stay together, so that its text is read once. Since the costliest come first and a worker
    takes the next batch when it has finished one, workers finish at about the same time.
    """
    documents: dict[tuple[Any, Any], list[int]] = {}
    for number, request in enumerate(requests):
        documents.setdefault((request.task_name, request.doc_id), []).append(number)
    costs = {key: _cost([requests[number] for number in numbers]) for key, numbers in documents.items()}
    share = sum(costs.values()) / (workers * PARTS)
    fewest = min(FEWEST, -(-len(documents) // workers))
    found: list[Batch] = []
    cost = count = 0
    for key in sorted(documents, key=lambda key: -costs[key]):
        if not found or count >= MOST or (count >= fewest and cost >= share):
            found.append(Batch([]))
            cost = count = 0
        found[-1].numbers += documents[key]
        cost, count = cost + costs[key], count + 1
    return found


def _cost(requests: Sequence[Instance]) -> int:
    read = sum(len(text) for text in {str(request.args[0]) for request in requests})
    for request in requests:
        rest = request.args[1] if len(request.args) > 1 else ""
        read += 4 * int(rest.get("max_gen_toks", 256)) if isinstance(rest, Mapping) else len(str(rest))
    return read
