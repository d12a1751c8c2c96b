"""The log that lm-eval writes with ``--log_samples``, of an evaluation that compatcheck ran.

It is written by lm-eval's own tracker, so that lm-eval's tools and everything that reads its logs take it:
``<model>/results_<time>.json`` and ``<model>/samples_<task>_<time>.jsonl``.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.evaluation.grouping import EngineOptions, Job

_BY_TASK = ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "samples")


class LmEvalLog:
    """Collects what lm-eval returned of each task; a :data:`compatcheck.evaluation.evaluate.Log`."""

    def __init__(self, options: EngineOptions, seed: int, limit: int | None = None) -> None:
        self._options, self._seed, self._limit = options, seed, limit
        self._started = time.time()
        self._environment: dict[str, Any] = {}
        self._trackers: dict[str, Any] = {}
        self._results: dict[str, dict[str, Any]] = {}

    def __call__(self, job: Job, results: Mapping[str, Any], engine: Any) -> None:
        """Take the results of one job. What is said of the engine is read now: it is closed afterwards."""
        from lm_eval.loggers.evaluation_tracker import EvaluationTracker

        reference, options = job.reference, self._options
        arguments = {"pretrained": reference.base_name or str(reference.base)}
        if reference.endpoint is not None:
            arguments = {"pretrained": reference.endpoint.model, "base_url": reference.endpoint.url}
        if reference.adapter is not None:
            arguments["peft"] = str(reference.adapter)
        if options.dtype != "auto":
            arguments["dtype"] = options.dtype
        name = arguments.get("peft", arguments["pretrained"])
        if name not in self._results:
            tracker, template = EvaluationTracker(), options.apply_chat_template
            tracker.general_config_tracker.log_experiment_args(
                model_source=str(engine.identity.get("engine", options.engine)),
                model_args=arguments,
                system_instruction=job.task.system,
                chat_template=engine.chat_template(template) if template else None,
                fewshot_as_multiturn=bool(template) and options.fewshot_as_multiturn,
            )
            self._trackers[name] = tracker
            self._results[name] = {key: {} for key in _BY_TASK} | self._about(arguments, engine)
        for key in _BY_TASK:
            self._results[name][key].update(results.get(key) or {})

    def _about(self, arguments: Mapping[str, Any], engine: Any) -> dict[str, Any]:
        """What lm-eval's ``simple_evaluate`` adds to the results of its ``evaluate``."""
        from lm_eval.loggers.utils import add_env_info, add_tokenizer_info

        options = self._options
        config = {
            "model": engine.identity.get("engine", ""),
            "model_args": dict(arguments),
            **(engine.get_model_info() if hasattr(engine, "get_model_info") else {}),
            "batch_size": options.batch_size,
            "batch_sizes": list(getattr(engine, "batch_sizes", {}).values()),
            "device": options.device,
            "use_cache": None,
            "limit": self._limit,
            "bootstrap_iters": 100_000,
            "gen_kwargs": None,
            **{f"{name}_seed": options.seed for name in ("random", "numpy", "torch")},
            "fewshot_seed": self._seed,
        }
        if not self._environment:  # takes seconds
            add_env_info(self._environment)
        about = {"config": config, "git_hash": _git_hash(), "date": self._started} | self._environment
        add_tokenizer_info(about, engine)
        return about

    def write(self, folder: Path) -> None:
        """Write one folder per model. Raises InputError: lm-eval could not write one of the files; its tracker only
        logs what goes wrong."""
        for name, tracker in self._trackers.items():
            tracker.output_path = str(folder)
            results = dict(self._results[name])
            samples = results.pop("samples")
            tracker.save_results_aggregated(results=results, samples=samples)
            for task, rows in samples.items():  # the tracker rewrites the rows it is given
                tracker.save_results_samples(task_name=task, samples=[dict(row) for row in rows])
            where, time_of = folder / str(tracker.general_config_tracker.model_name_sanitized), tracker.date_id
            wanted = {f"samples_{task}_{time_of}.jsonl": len(rows) for task, rows in samples.items()}
            for file_name, count in {f"results_{time_of}.json": None, **wanted}.items():
                if not _is_whole(where / file_name, count):
                    raise InputError(f"--lm-eval-log: lm-eval could not write {file_name}; run without --lm-eval-log")


def _is_whole(path: Path, rows: int | None) -> bool:
    if not path.is_file() or rows is None:
        return path.is_file()
    with path.open("rb") as file:
        return sum(1 for _ in file) == rows


def _git_hash() -> str | None:
    """As lm-eval's own, without what git says of a folder that is no repository."""
    from lm_eval.loggers.utils import get_commit_from_path

    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        made = subprocess.run(["git", "describe", "--always"], capture_output=True, text=True, check=True)
        return made.stdout.strip()
    found: str | None = get_commit_from_path(str(Path.cwd()))
    return found
