"""Training of compatibility adapters: the core under ``compatcheck fix``.

The reference implementation of MUSCLE (Echterhoff et al., EMNLP Findings 2024): an adapter on NEW's base that starts
as NEW's own adapter and follows the old model where it still gets a token wrong, the new one where it is right.

The way of the data::

    examples.load_examples("piqa", data=…)      -> Examples           texts, from the task's training split
    training.train(old, new, examples, settings, out, say=…, progress=…)  -> Trained
    training.train_task_adapter(base, examples, settings, out)            -> Trained   (NEW that has no adapter yet)

Public names, and where they live:

``settings``
    ``TrainSettings`` (frozen), ``preset("paper" | "quick", **changes)``.
``examples``
    ``Example(doc_id, pairs, gold, chosen, rejected)``, ``Examples(task, kind, train, validation,
    unlabelled, notes)``, ``load_examples(task, *, data, split, limit, unlabelled, validation_share, seed, …)``,
    ``with_preferences(examples, old_run, new_run)`` for regression-preference.
``strategies``
    ``names()``, ``get(name) -> Strategy`` (``needs``, ``rows``, ``idea``, ``formula``, ``source``, ``cost``) and the
    decorators ``token_strategy`` and ``strategy`` that register one.
``divergence``
    ``fused_divergence``, ``token_logprobs`` and ``plain_divergence`` (whole logits and autograd); ``head.Head``.
``teachers``
    ``OnlineTeacher``, ``CachedTeacher``, ``build``, ``estimate_bytes``; the old model's part of the loss can come from
    elsewhere: see ``OldTerm`` below.
``training``
    ``train``, ``train_task_adapter``, ``Trained(folder, strategy, steps, best_epoch, history, notes, seconds,
    parameters, tokens)``.

``OldTerm`` (``compatcheck_train.loss.old_term``) is the socket for another source of the old model's term, for
models whose tokenizers differ: ``train(…, old_term=…)``. It is asked once per micro-batch, gets the student's hidden
states at the trained positions, the head, the gold tokens and the strategy's weights of the old model, and returns the
sum of its loss over positions. The new model's term and the cross-entropy stay with ``fused_divergence``.

Importing this package loads no torch.
"""

from __future__ import annotations

from compatcheck_train.settings import TrainSettings, preset

__all__ = ["TrainSettings", "preset"]
