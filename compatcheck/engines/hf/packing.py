"""Which tokens must be seen once: documents that share a prefix, and forwards of a bounded number of tokens.

Pure Python, no torch. A *document* is one context with the continuations scored after it. A *group* is a set of
documents whose contexts begin with the same tokens (few-shot examples, as a rule); the model sees those once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple


@dataclass(frozen=True)
class Branch:
    """One continuation: the position of its request, and its tokens (at least one)."""

    request: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Document:
    """A context (at least one token) and the continuations scored after it; none when text is generated."""

    context: tuple[int, ...]
    branches: tuple[Branch, ...] = ()

    def size(self, prefix: int) -> int:
        """Tokens the model must see for this document when its first ``prefix`` tokens were seen before.

        The last token of a continuation is predicted, never read."""
        return len(self.context) - prefix + sum(len(branch.tokens) - 1 for branch in self.branches)


@dataclass(frozen=True)
class Group:
    """Documents that share their first ``prefix`` tokens; every one of them has at least one token of its own."""

    prefix: int
    documents: tuple[Document, ...]

    @property
    def prefix_tokens(self) -> tuple[int, ...]:
        return self.documents[0].context[: self.prefix]


class Part(NamedTuple):
    """What one forward does for one group. ``encode_prefix``: the shared tokens are in this forward.
    ``keep``: the group goes on in the next forward, so the keys and values of the prefix are kept."""

    group: Group
    documents: tuple[Document, ...]
    encode_prefix: bool
    keep: bool


@dataclass
class _Interval:
    """A run ``[low, high)`` of sorted sequences that share ``shared`` tokens, with the best saving found below it."""

    shared: int
    low: int
    high: int = 0
    saving: int = 0
    taken: bool = False
    children: list[_Interval] = field(default_factory=list)


def common_prefix(one: Sequence[int], two: Sequence[int]) -> int:
    """Number of leading tokens that two sequences have in common."""
    limit = min(len(one), len(two))
    if one[:limit] == two[:limit]:
        return limit
    low, high = 0, limit  # one[:low] agrees, one[:high] does not: slices compare in C, so halve
    while high - low > 1:
        middle = (low + high) // 2
        if one[low:middle] == two[low:middle]:
            low = middle
        else:
            high = middle
    return low


def group_documents(documents: Sequence[Document], least_saving: int, least_members: int = 2) -> list[Group]:
    """Split documents into groups with a shared prefix so that the most tokens are saved.

    A group of n documents sharing p tokens saves ``p * (n - 1)``. Among nested candidates (the intervals of the
    longest-common-prefix tree of the sorted contexts) the best are taken from the bottom up, in linear time after
    sorting. Candidates that save ``least_saving`` tokens or fewer, or have fewer than ``least_members`` documents, are
    not worth a group of their own; what is left over is one group without a prefix."""
    order = sorted(range(len(documents)), key=lambda index: documents[index].context)
    contexts = [documents[index].context for index in order]
    # A document keeps at least one token of its own: the row its first continuation token is predicted from.
    shared = [min(common_prefix(one, two), len(one) - 1, len(two) - 1) for one, two in pairwise(contexts)]
    stack = [_Interval(0, 0)]

    def close(high: int) -> _Interval:
        """The innermost interval ends before ``high``."""
        node = stack.pop()
        node.high = high
        below = sum(child.saving for child in node.children)
        own = node.shared * (high - node.low - 1) - least_saving
        node.taken = high - node.low >= least_members and own > 0 and own >= below
        node.saving = own if node.taken else below
        return node

    for index, length in enumerate([*shared, 0], start=1):
        low, finished = index - 1, None
        while stack[-1].shared > length:
            node = close(index)
            low, finished = node.low, node
            if stack[-1].shared >= length:
                stack[-1].children.append(node)
                finished = None
        if stack[-1].shared < length:
            stack.append(_Interval(length, low, children=[finished] if finished else []))
    groups: list[Group] = []
    alone = set(range(len(order)))
    pending = [close(len(order))]
    while pending:
        node = pending.pop()
        if node.taken:
            members = range(node.low, node.high)
            alone.difference_update(members)
            groups.append(Group(node.shared, _in_order(documents, order, members)))
        else:
            pending.extend(reversed(node.children))
    return [*groups, Group(0, _in_order(documents, order, alone))] if alone else groups


def _in_order(
    documents: Sequence[Document], order: list[int], places: Sequence[int] | set[int]
) -> tuple[Document, ...]:
    return tuple(documents[index] for index in sorted(order[place] for place in places))


class Packer:
    """Hands out the documents of some groups, forward by forward, within a budget of tokens.

    ``at`` (group, document) is where it stands; a caller that ran out of memory sets it back to form a smaller forward.
    """

    def __init__(self, groups: Sequence[Group], most_documents: int | None = None) -> None:
        self.groups, self.most_documents = groups, most_documents
        self.at = (0, 0)

    def __bool__(self) -> bool:
        return self.at[0] < len(self.groups)

    def take(self, budget: int, prefix_kept: bool) -> list[Part]:
        """The next parts, about ``budget`` tokens in all and at least one document.

        ``prefix_kept``: the first group's prefix was kept by the forward before. Moves on past what it returns."""
        parts: list[Part] = []
        tokens = taken = 0
        while self:
            number, first = self.at
            group = self.groups[number]
            encode = group.prefix > 0 and not (prefix_kept and not parts)
            tokens += group.prefix if encode else 0
            last = first
            while last < len(group.documents):
                size = group.documents[last].size(group.prefix)
                if taken and (tokens + size > budget or (self.most_documents and taken >= self.most_documents)):
                    break
                tokens, taken, last = tokens + size, taken + 1, last + 1
            more = last < len(group.documents)
            if last > first:
                parts.append(Part(group, group.documents[first:last], encode, keep=more))
            self.at = (number, last) if more else (number + 1, 0)
            if more:
                break
        return parts
