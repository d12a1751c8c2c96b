"""What Python users hold: a comparison, an evaluated reference, a noise floor, what blessing a run came to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from compatcheck.compare.candidates import Candidates as CandidateResults
from compatcheck.compare.noise import Measurements
from compatcheck.compare.result import BlessedRun, Comparison, Estimate, Result
from compatcheck.errors import InputError, did_you_mean
from compatcheck.table.kept import KeptRun, save_run
from compatcheck.table.kept import load_run as load_kept

if TYPE_CHECKING:
    import pandas as pd

    from compatcheck.compare.scores import Score
    from compatcheck.evaluation.lm_eval_log import LmEvalLog
    from compatcheck.records import Blessed

Shown = TypeVar("Shown", bound="Diff | Candidates | Evaluation")


class _Kept:
    """What a comparison and several candidates share: they are kept in a folder, and show themselves."""

    def save(
        self, folder: str | Path, formats: Sequence[str] = ("markdown", "html"), *, overwrite: bool = False
    ) -> Path:
        """Write report.json, instances.parquet and further formats to a folder; returns the folder.

        Raises:
            InputError: the folder cannot be written, or holds files of others under these names and ``overwrite`` does
                not say to replace them. Nothing is left half-written.
        """
        from compatcheck.report import save

        save(cast(Any, self), Path(folder), formats, overwrite=overwrite)
        return Path(folder)

    def _repr_html_(self) -> str:
        from compatcheck.report import notebook_fragment

        return notebook_fragment(cast(Any, self))

    def __str__(self) -> str:
        from compatcheck.report import render

        return render(cast(Any, self), "terminal")


@dataclass(frozen=True)
class Diff(_Kept, Result):
    """A finished comparison, as :func:`diff` and :func:`load` return it. Displays itself in a notebook."""

    @property
    def only(self) -> Comparison:
        """The one comparison.

        Raises:
            InputError: there are several; take one from ``comparisons`` or by ``diff["task/filter/metric"]``.
        """
        if len(self.comparisons) != 1:
            names = [comparison.name for comparison in self.comparisons]
            first = names[0] if names else ""
            raise InputError(f"{len(names)} comparisons ({', '.join(names)}); take one as diff['{first}']")
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

    def __repr__(self) -> str:
        """One line, which a failed ``assert`` of pytest shows: what happened, and the worst flips."""
        from compatcheck.report.headline import in_one_line

        return f"<Diff {self.verdict}: {in_one_line(self)}>"


@dataclass(frozen=True)
class Candidates(_Kept, CandidateResults):
    """Several candidates against one OLD, as :func:`diff` returns them for a list. Displays itself in a notebook."""

    def __getitem__(self, name: str | int) -> Diff:
        """One candidate's comparison, by its name as it was written or by its place."""
        return _as(Diff, self.results[name if isinstance(name, int) else self.place(name)])

    @property
    def matrix(self) -> pd.DataFrame:
        """A row a candidate and (task, filter, metric): scores, NFR and verdict."""
        import pandas as pd

        rows = []
        for cell in self.cells:
            figures = {name: getattr(cell, name).value for name in ("score_old", "score_new", "nfr")}
            named = {name: getattr(cell, name) for name in ("candidate", "task", "filter", "metric", "n")}
            rows.append({**named, **figures, "verdict": cell.verdict})
        return pd.DataFrame(rows)

    @property
    def instances(self) -> pd.DataFrame:
        """Every instance of every candidate, whose name the column ``candidate`` has."""
        from compatcheck.compare.candidates import join_candidates

        return join_candidates(self)


def _as(kind: type[Shown], found: Any) -> Shown:
    """What was read as the class of it that Python users hold."""
    return kind(**{each.name: getattr(found, each.name) for each in fields(found)})


def load(folder: str | os.PathLike[str], candidate: str | None = None) -> Diff:
    """Load a comparison that ``save`` or ``--out`` kept; of several candidates the one named, or by its number.

    Raises:
        InputError: the folder holds no report, or a damaged one; or several candidates, and none is named.
    """
    from compatcheck.report import load as load_result

    result = load_result(Path(folder), candidate)
    if isinstance(result, Result):
        if candidate is not None:
            raise InputError(f"--candidate {candidate}: {folder} holds one comparison, not several")
        return _as(Diff, result)
    if candidate is None:
        names = ", ".join(f"{number} {name}" for number, name in enumerate(result.names, 1))
        raise InputError(f"{folder}: holds several candidates; name one with --candidate: {names}")
    return _as(Diff, result.results[0])


def load_candidates(folder: str | os.PathLike[str]) -> Candidates:
    """Load several candidates that ``save`` or ``--out`` kept.

    Raises:
        InputError: the folder holds no report, a damaged one, or one of a single NEW.
    """
    from compatcheck.report import load as load_result

    result = load_result(Path(folder))
    if isinstance(result, Result):
        raise InputError(f"{folder}: holds one comparison, not several candidates; read it with compatcheck.load")
    return _as(Candidates, result)


@dataclass(frozen=True)
class Evaluation(KeptRun):
    """One reference on its tasks, as :func:`evaluate` and :func:`load_run` return it. Printing it shows its scores."""

    log: LmEvalLog | None = field(default=None, repr=False, compare=False)
    """What lm-eval would log, where it was asked for."""

    @cached_property
    def scores(self) -> tuple[Score, ...]:
        """The mean of every metric with its interval, and how many documents it is made of."""
        from compatcheck.compare.scores import scores

        return tuple(scores(self))

    @property
    def records(self) -> pd.DataFrame:
        """Every record of every task and filter, in one table."""
        import pandas as pd

        frames = []
        for one in self.tasks:
            frame = one.records.drop(columns=["task", "filter"], errors="ignore")
            frame.insert(0, "task", one.task)
            frame.insert(2, "filter", one.filter)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Keep the run in a folder, which then serves as OLD or NEW anywhere; returns the folder.

        Raises:
            InputError: the folder holds something else, or cannot be written. Nothing is left half-written.
        """
        return save_run(self, Path(folder), write_log=self.log.write if self.log else None)

    def __str__(self) -> str:
        from compatcheck.report.summaries import render_run

        return render_run(self, self.scores)


def load_run(folder: str | os.PathLike[str], tasks: Sequence[str] = ()) -> Evaluation:
    """Load a run that ``save`` or ``compatcheck run`` kept, or only some of its tasks.

    Raises:
        InputError: no kept run, one of a newer schema, a damaged one, or a task that is not in it.
    """
    return _as(Evaluation, load_kept(Path(folder), tasks))


@dataclass(frozen=True)
class NoiseReport(Measurements):
    """A measured noise floor. Printing it shows a table."""

    def __str__(self) -> str:
        from compatcheck.report.summaries import noise_text

        return noise_text(self)


@dataclass(frozen=True)
class Blessing:
    """What came of blessing a run. ``entry`` is None where the gate failed and it was not forced: nothing was kept."""

    name: str
    entry: Blessed | None
    diff: Diff | None
    """Against the run blessed before; None for the first."""
    folder: Path | None
    """Where the run is kept."""


def blessed_before(old: str, comparisons: Sequence[Comparison]) -> tuple[BlessedRun, ...]:
    """What was blessed before OLD under its name, where OLD is a baseline."""
    if not old.startswith("@"):
        return ()
    from compatcheck import baselines

    return tuple(
        BlessedRun(name, entry.time, entry.reference, entry.verdict, entry.forced, entry.scores)
        for reference in dict.fromkeys(old.replace("{task}", comparison.task) for comparison in comparisons)
        for name, entry in baselines.up_to(reference)
    )
