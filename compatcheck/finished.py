"""A finished comparison as Python users hold it, and loading a kept one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compatcheck.compare.result import Comparison, Estimate, Result
from compatcheck.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Diff(Result):
    """A finished comparison, as :func:`diff` and :func:`load` return it. Displays itself in a notebook."""

    @property
    def only(self) -> Comparison:
        """The one comparison.

        Raises:
            InputError: there are several; take one from ``comparisons`` or by ``diff["task/filter/metric"]``.
        """
        if len(self.comparisons) != 1:
            names = ", ".join(comparison.name for comparison in self.comparisons)
            raise InputError(f"{len(self.comparisons)} comparisons ({names}); take one as diff['{self._first_name()}']")
        return self.comparisons[0]

    def __getitem__(self, name: str) -> Comparison:
        """Comparison by name: ``task/filter/metric``, or any part of it that is unambiguous."""
        exact = [c for c in self.comparisons if c.name == name]
        found = exact or [c for c in self.comparisons if set(name.split("/")) <= {c.task, c.filter, c.metric}]
        if len(found) == 1:
            return found[0]
        names = [comparison.name for comparison in self.comparisons]
        problem = "is ambiguous" if found else "is no comparison here"
        raise KeyError(f"{name!r} {problem}{did_you_mean(name, names)}; there are: {', '.join(names)}")

    @property
    def metrics(self) -> Mapping[str, Estimate]:
        """Metrics of the one comparison, by their contract names: ``diff.metrics["nfr"].value``."""
        return self.only.metrics

    @property
    def instances(self) -> pd.DataFrame:
        """Every instance of every comparison; one row per (task, document, filter, metric)."""
        import pandas as pd

        return pd.concat([comparison.instances for comparison in self.comparisons], ignore_index=True)

    @property
    def negative_flips(self) -> pd.DataFrame:
        """The instances that got worse, of every comparison, worst first."""
        import pandas as pd

        return pd.concat([comparison.negative_flips for comparison in self.comparisons], ignore_index=True)

    def save(self, folder: str | Path, formats: Sequence[str] = ("markdown", "html")) -> Path:
        """Write report.json, instances.parquet and further formats to a folder; returns the folder.

        Raises:
            InputError: the folder cannot be written. Nothing is left half-written.
        """
        from compatcheck.report import save

        save(self, Path(folder), formats)
        return Path(folder)

    def _first_name(self) -> str:
        return self.comparisons[0].name if self.comparisons else ""

    def _repr_html_(self) -> str:
        from compatcheck.report import notebook_fragment

        return notebook_fragment(self)

    def __str__(self) -> str:
        from compatcheck.report import render

        return render(self, "terminal")


def load(folder: str | os.PathLike[str]) -> Diff:
    """Load a comparison that ``save`` or ``--out`` kept.

    Raises:
        InputError: the folder holds no report, or a damaged one.
    """
    from compatcheck.report import load as load_result

    return as_diff(load_result(Path(folder)))


def as_diff(result: Result) -> Diff:
    """The same result with the methods of :class:`Diff`."""
    return Diff(**{f.name: getattr(result, f.name) for f in fields(Result)})


def with_history(result: Diff, old: str) -> Diff:
    """The result with what was blessed before OLD under its name, where OLD is a baseline."""
    if not old.startswith("@"):
        return result
    from compatcheck import baselines
    from compatcheck.compare.result import BlessedRun, BlessedScore

    def number(value: Any) -> float | None:
        return float(value) if isinstance(value, int | float) else None

    def read(score: Mapping[str, Any]) -> BlessedScore:
        task, filter_, metric, kind = (str(score.get(name, "")) for name in ("task", "filter", "metric", "kind"))
        value, low, high, n = (number(score.get(name)) for name in ("value", "low", "high", "n"))
        return BlessedScore(task, filter_, metric, value, low, high, int(n or 0), kind)

    each = dict.fromkeys(old.replace("{task}", comparison.task) for comparison in result.comparisons)
    runs = [
        BlessedRun(
            name, entry.time, entry.reference, entry.verdict, entry.forced, tuple(read(one) for one in entry.scores)
        )
        for reference in each
        for name, entry in baselines.up_to(reference)
    ]
    return replace(result, history=tuple(runs))
