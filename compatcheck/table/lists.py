"""Targets that are several right texts each: lists in the file, or the JSON text of such lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from compatcheck.records import LISTS
from compatcheck.similarity import STRUCTURED
from compatcheck.similarity.exact import references
from compatcheck.table.values import REFERENCES, TEXT

_MEANT = 0.02
"""The share of a file's targets from which on texts of lists are meant as such; fewer are answers that are lists."""


class Lists:
    """Whether the targets of a file are lists, told by all of its rows."""

    def __init__(self) -> None:
        self._listed, self._lists, self._texts = False, 0, 0

    def watch(self, columns: Mapping[str, pa.Array]) -> None:
        """Take note of a chunk."""
        if REFERENCES in columns:
            self._listed = True
        elif "target" in columns and columns["target"].type == TEXT:
            self._texts += len(columns["target"]) - columns["target"].null_count
            self._lists += sum(is_list_text(columns["target"]))

    def typed(self) -> frozenset[str]:
        """What a run says of it."""
        meant = self._listed or (self._lists > 0 and self._lists >= _MEANT * self._texts)
        return frozenset({LISTS} if meant else ())


def is_list_text(texts: pa.Array) -> list[bool]:
    """Which texts are the JSON of a list of texts; nothing where none begins as one."""
    likely = pc.fill_null(pc.starts_with(texts, '["'), False)
    if not pc.any(likely).as_py():
        return []
    return [text is not None and references(text) != [text] for text in texts.to_pylist()]


def references_of(
    records: pd.DataFrame, typed: Collection[str], metrics: Sequence[str]
) -> list[list[str] | None] | None:
    """The right texts of each row, where targets are lists to these metrics; None where each is a text."""
    if LISTS not in typed or "target" not in records or STRUCTURED.issuperset(metrics):
        return None
    return [None if pd.isna(text) else references(str(text)) for text in records["target"]]
