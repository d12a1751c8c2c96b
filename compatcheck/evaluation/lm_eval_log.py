"""The log that lm-eval writes with ``--log_samples``, of an evaluation that compatcheck ran.

It is written by lm-eval's own tracker, so that lm-eval's tools and everything that reads its logs take it:
``<model>/results_<time>.json`` and ``<model>/samples_<task>_<time>.jsonl``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.evaluation.evaluate import EngineOptions
from compatcheck.evaluation.plan import Job

_BY_TASK = ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "samples")


class LmEvalLog:
    """Collects what lm-eval returned of each task; a :data:`compatcheck.evaluation.evaluate.Log`."""

    def __init__(self, options: EngineOptions, seed: int, limit: int | None = None) -> None:
        self._options = options
        self._seed = seed
        self._limit = limit
        self._started = time.time()
        self._environment: dict[str, Any] = {}
        self._trackers: dict[str, Any] = {}
        self._results: dict[str, dict[str, Any]] = {}

    def __call__(self, job: Job, results: Mapping[str, Any], engine: Any) -> None:
        """Take the results of one job. What is said of the engine is read now: it is closed afterwards."""
        from lm_eval.loggers.evaluation_tracker import EvaluationTracker

        reference = job.reference
        arguments = {"pretrained": reference.base_name or str(reference.base)}
        if reference.endpoint is not None:
            arguments = {"pretrained": reference.endpoint.model, "base_url": reference.endpoint.url}
        if reference.adapter is not None:
            arguments["peft"] = str(reference.adapter)
        if self._options.dtype != "auto":
            arguments["dtype"] = self._options.dtype
        name = arguments.get("peft", arguments["pretrained"])
        if name not in self._results:
            tracker = EvaluationTracker()
            template = self._options.apply_chat_template
            tracker.general_config_tracker.log_experiment_args(
                model_source=str(engine.identity.get("engine", self._options.engine)),
                model_args=arguments,
                system_instruction=None,
                chat_template=engine.chat_template(template) if template else None,
                fewshot_as_multiturn=bool(template) and self._options.fewshot_as_multiturn,
            )
            self._trackers[name] = tracker
            self._results[name] = {key: {} for key in _BY_TASK} | self._about(arguments, engine)
        for key in _BY_TASK:
            self._results[name][key].update(results.get(key) or {})

    def _about(self, arguments: Mapping[str, Any], engine: Any) -> dict[str, Any]:
        """What lm-eval's ``simple_evaluate`` adds to the results of its ``evaluate``."""
        from lm_eval.loggers.utils import add_env_info, add_tokenizer_info, get_git_commit_hash

        config: dict[str, Any] = {"model": engine.identity.get("engine", ""), "model_args": dict(arguments)}
        if hasattr(engine, "get_model_info"):
            config |= engine.get_model_info()
        config |= {
            "batch_size": self._options.batch_size,
            "batch_sizes": list(getattr(engine, "batch_sizes", {}).values()),
            "device": self._options.device,
            "use_cache": None,
            "limit": self._limit,
            "bootstrap_iters": 100_000,
            "gen_kwargs": None,
            "random_seed": self._options.seed,
            "numpy_seed": self._options.seed,
            "torch_seed": self._options.seed,
            "fewshot_seed": self._seed,
        }
        if not self._environment:  # takes seconds
            add_env_info(self._environment)
        about = {"config": config, "git_hash": get_git_commit_hash(), "date": self._started} | self._environment
        add_tokenizer_info(about, engine)
        return about

    def write(self, folder: Path) -> None:
        """Write one folder per model.

        Raises:
            InputError: lm-eval could not write one of the files.
        """
        for name, tracker in self._trackers.items():
            tracker.output_path = str(folder)
            results = dict(self._results[name])
            samples = results.pop("samples")
            tracker.save_results_aggregated(results=results, samples=samples)
            for task, rows in samples.items():
                # the tracker rewrites the rows it is given
                tracker.save_results_samples(task_name=task, samples=[dict(row) for row in rows])
            self._check(folder / str(tracker.general_config_tracker.model_name_sanitized), tracker, samples)

    def _check(self, folder: Path, tracker: Any, samples: Mapping[str, Any]) -> None:
        """lm-eval's tracker only logs what goes wrong."""
        time_of = getattr(tracker, "date_id", "")
        wanted = {f"results_{time_of}.json": None} | {
            f"samples_{t}_{time_of}.jsonl": len(r) for t, r in samples.items()
        }
        for file_name, rows in wanted.items():
            path = folder / file_name
            whole = path.is_file()
            if whole and rows is not None:
                with path.open("rb") as file:
                    whole = sum(1 for _ in file) == rows
            if not whole:
                raise InputError(f"--lm-eval-log: lm-eval could not write {file_name}; run without --lm-eval-log")
