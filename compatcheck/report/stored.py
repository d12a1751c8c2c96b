"""Kept comparisons that are too large to hold: their instances stay on disk but for the most telling ones."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ("task", "filter", "metric")


def is_streamed(report: Mapping[str, Any]) -> bool:
    """Whether the report.json is one of a comparison that was streamed."""
    comparisons = report.get("comparisons")
    return isinstance(comparisons, list) and any(isinstance(one, dict) and "overview" in one for one in comparisons)


def copy_file(source: Path, target: Path) -> None:
    """Give ``target``, which does not exist, the contents of ``source``: on the same disk without a copy.

    Raises OSError. ``source`` is never written again, so that one file under two names is as good as two.
    """
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def telling_instances(path: Path) -> pd.DataFrame:
    """The most telling instances of every comparison of a file, the same that were held when it was written.

    Of each row group the quadrants and gains are read first, its texts only where one of its rows is chosen.

    Raises:
        InputError: a file that is no Parquet, or not one of instances.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from compatcheck.compare.result import INSTANCE_COLUMNS
    from compatcheck.compare.telling import Telling

    found: dict[tuple[str, ...], Telling] = {}
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            missing = [name for name in INSTANCE_COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise InputError(f"{path}: has no column '{missing[0]}'; it does not belong to this report")
            for number in range(file.num_row_groups):
                known = file.read_row_group(number, [*_KEYS, "quadrant", "gain"]).to_pandas()
                if known.empty:
                    continue
                # A row group holds rows of one comparison.
                telling = found.setdefault(tuple(known[name].iloc[0] for name in _KEYS), Telling())
                if telling.wants(known["quadrant"], known["gain"].to_numpy(dtype=float)):
                    telling.add(file.read_row_group(number).to_pandas(types_mapper=nullable))
                else:
                    telling.skip(len(known))
            if not found:
                return file.schema_arrow.empty_table().to_pandas()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as Parquet ({reason}); run the comparison again") from error
    return pd.concat([telling.chosen() for telling in found.values()], ignore_index=True)
