"""The training itself: ``train``, ``train_task_adapter``, and what they give. Importing this loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compatcheck_train.training.run import Trained, train, train_task_adapter

__all__ = ["Trained", "train", "train_task_adapter"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from compatcheck_train.training import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
