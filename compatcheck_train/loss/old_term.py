"""The socket for another source of the old model's term, where old and new model tokenize differently.

With one tokenizer the old model's term is KL(old ‖ student) at each position, and ``fused_divergence`` makes it. With
two, the positions of the two models do not correspond: then an :class:`OldTerm` takes its place. The new model's term
and the cross-entropy are not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from compatcheck_train.loss.divergence import Head


@dataclass(frozen=True)
class Text:
    """One row of a micro-batch as text: what both models read. ``eos``: an end-of-sequence token follows."""

    context: str
    answer: str
    eos: bool


@dataclass(frozen=True)
class StudentView:
    """What the student computed at the N trained positions of a micro-batch, row after row.

    ``hidden`` is (N, d) after the final norm and carries gradients; ``targets`` (N,) the gold next tokens; ``rows``
    (N,) the row of each position and ``steps`` (N,) the index in its row of the target; ``weights`` (N,) the weight
    that the strategy gives the old model there (detached; 0 where it does not follow it), ``answer`` (N,) whether the
    target belongs to the answer.
    """

    hidden: Tensor
    head: Head
    targets: Tensor
    rows: Tensor
    steps: Tensor
    weights: Tensor
    answer: Tensor
    temperature: float


class OldTerm(Protocol):
    """Another source of the old model's term."""

    identity: str
    """What its content depends on: old model, method and settings; part of what a resumed run is checked by."""

    def prepare(self, batches: Sequence[Sequence[Text]], tokens: Sequence[Sequence[Sequence[int]]]) -> None:
        """Called once before training with the rows of every micro-batch and the student's token ids of each row. Runs
        the old model and keeps what the loss needs; it may free the model afterwards."""

    def loss(self, batch: int, student: StudentView) -> Tensor:
        """The sum over positions of weight × divergence for micro-batch ``batch``: a scalar with gradients."""

    def old_facts(self, batch: int, rows: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """For strategies with ``old-facts``, at each position (N,) of the student: whether the old model ranks the gold
        text there first, and its log-probability of it."""

    def close(self) -> None:
        """Free what is held."""
