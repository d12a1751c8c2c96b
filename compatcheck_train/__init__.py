"""Training of compatibility adapters: the core under ``compatcheck fix``.

The reference implementation of MUSCLE (Echterhoff et al., EMNLP Findings 2024): an adapter on NEW's base that starts
as NEW's own adapter and follows the old model where it still gets a token wrong, the new one where it is right. ::

    examples.load_examples("piqa", data=…)                              -> Examples
    training.train(old, new, examples, settings, out, say=…)            -> Trained
    training.train_task_adapter(base, examples, settings, out)          -> Trained   (NEW that has no adapter yet)
    fix.run.fix(FixRequest(old, new, judge, settings), out)             -> Fixed

Further public names: ``settings.TrainSettings``, ``settings.preset``; ``examples.Example``;
``loss.strategies.names``, ``get`` and the decorators ``token_strategy`` and ``strategy`` that register one;
``loss.divergence.fused_divergence``, ``token_logprobs``; ``teachers.OnlineTeacher``,
``CachedTeacher``, ``build``, ``estimate_bytes``. Importing this package loads no torch.
"""

from __future__ import annotations

from compatcheck_train.settings import TrainSettings, preset

__all__ = ["TrainSettings", "preset"]
