"""Text generation: prompts read once, finished sequences leave and others take their place.

Keys and values lie in buffers of a fixed size. A prefix that the prompts share is read once and seen by all rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from compatcheck.engines.hf.attention import Forest, PrefixStore, RowBuffers, Rows
from compatcheck.engines.hf.memory import available_bytes, give_back, is_out_of_memory
from compatcheck.engines.hf.packing import Document, Group, Part, group_documents
from compatcheck.engines.hf.runner import Runner
from compatcheck.engines.hf.sampling import Text, Wish, next_tokens
from compatcheck.errors import InputError

LEAST_SAVING = 256
LEAST_MEMBERS = 4
_MOST_ROWS = 128
_SHARE_OF_MEMORY = 0.4


class StopFinder:
    """Says whether the text written so far ends the sequence; looks at its last tokens only, as lm-eval does."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._windows: dict[tuple[str, ...], int] = {}

    def ended(self, text: Text) -> bool:
        """After the last token: an end token, the most tokens, a stop string, or logits that are no numbers."""
        wish = text.wish
        if text.broken or text.written[-1] in wish.ends or len(text.written) >= wish.most:
            return True
        if not wish.stops:
            return False
        if wish.stops not in self._windows:
            longest = max(len(self._tokenizer.encode(stop, add_special_tokens=False)) for stop in wish.stops)
            # Two tokens more than the stop string takes: the model may spell it with other tokens.
            self._windows[wish.stops] = longest + 2
        tail = self._tokenizer.decode(text.written[-self._windows[wish.stops] :], skip_special_tokens=False)
        return any(stop in tail for stop in wish.stops)


class Decoder:
    """Generates for some prompts with one model.

    Args:
        tokens_at_once: tokens of one prompt-reading forward.
        most_rows: sequences decoded side by side; None takes as many as help and fit into memory.
        done: gets (request, written tokens) as sequences end; None where the model's logits were not finite.
    """

    def __init__(
        self,
        runner: Runner,
        tokenizer: Any,
        tokens_at_once: int,
        most_rows: int | None,
        done: Callable[[int, list[int] | None], None],
    ) -> None:
        self._runner = runner
        self._stops = StopFinder(tokenizer)
        self._tokens_at_once = tokens_at_once
        self._most_rows = most_rows or _MOST_ROWS
        self._done = done

    def run(self, prompts: Sequence[tuple[tuple[int, ...], Wish]]) -> None:
        """Generate for every prompt (at least one token each); halves the rows when memory runs out.

        Raises:
            InputError: one sequence alone does not fit into memory.
        """
        documents = [Document(prompt) for prompt, _ in prompts]
        numbers = {id(document): number for number, document in enumerate(documents)}
        with self._runner.attached():
            for group in group_documents(documents, LEAST_SAVING, LEAST_MEMBERS):
                left = {numbers[id(document)] for document in group.documents}
                while left:
                    texts = [Text(number, *prompts[number]) for number in left]
                    try:
                        self._run_group(group, texts, left)
                        failed = False
                    except (RuntimeError, MemoryError) as error:
                        if not is_out_of_memory(error):
                            raise
                        failed = True
                    if failed:
                        give_back()
                        if self._most_rows == 1:
                            raise InputError(
                                "out of memory while generating a single text; use a smaller model, a narrower "
                                "--dtype, or a device with more memory"
                            )
                        self._most_rows = max(1, min(self._most_rows, len(left)) // 2)
                        self._tokens_at_once = max(64, self._tokens_at_once // 2)

    def _run_group(self, group: Group, texts: list[Text], left: set[int]) -> None:
        """Decode all texts of one group; numbers of finished ones are taken out of ``left``."""
        prefix = group.prefix
        # Longest first: memory runs out at once or never, and rows side by side are about equally long.
        texts.sort(key=lambda text: (-(len(text.prompt) + text.wish.most), text.request))
        room = max(len(text.prompt) - prefix + text.wish.most for text in texts)
        rows = min(len(texts), self._most_rows, self._rows_that_fit(room))
        buffers = RowBuffers(rows, room)
        store = PrefixStore(prefix, max(len(text.prompt) - prefix for text in texts)) if prefix else None
        queue = deque(texts)
        active: list[Text] = []
        while queue or active:
            free = rows - len(active)
            # Reading one prompt at a time wastes the matrix products: wait until a few rows are free.
            if queue and free and (not active or free >= min(len(queue), max(1, rows // 8))):
                self._admit(group, store, buffers, queue, active, free)
            else:
                self._step(prefix, store, buffers, active)
            self._retire(prefix, buffers, active, left)

    def _rows_that_fit(self, room: int) -> int:
        config = getattr(self._runner.core.config, "text_config", None) or self._runner.core.config
        layers, heads = getattr(config, "num_hidden_layers", 1), getattr(config, "num_attention_heads", 1)
        size = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads
        kept = getattr(config, "num_key_value_heads", None) or heads
        parameter = next(self._runner.core.parameters())
        per_row = 2 * layers * kept * size * room * parameter.element_size()
        return max(1, int(_SHARE_OF_MEMORY * available_bytes(str(self._runner.device)) // max(1, per_row)))

    def _admit(
        self,
        group: Group,
        store: PrefixStore | None,
        buffers: RowBuffers,
        queue: deque[Text],
        active: list[Text],
        free: int,
    ) -> None:
        """Read the prompts of the next texts and choose their first tokens."""
        prefix, first = group.prefix, len(active)
        encode = store is not None and not store.layers
        tokens = prefix if encode else 0
        admitted: list[Text] = []
        while queue and len(admitted) < free:
            size = len(queue[0].prompt) - prefix
            if admitted and tokens + size > self._tokens_at_once:
                break
            tokens += size
            admitted.append(queue.popleft())
        documents = tuple(Document(text.prompt) for text in admitted)
        part_group = Group(prefix, documents)
        stores = {id(part_group): store} if store is not None else {}
        forest = Forest(
            [Part(part_group, documents, encode, keep=True)],
            stores,
            self._runner.device,
            sink=lambda layer, row, key, value: buffers.write_context(layer, first + row, key, value),
        )
        logits = torch.cat(list(self._runner.logits(forest, forest.tokens, forest.positions, forest.context_ends)))
        self._choose(admitted, logits)
        active.extend(admitted)

    def _step(self, prefix: int, store: PrefixStore | None, buffers: RowBuffers, active: list[Text]) -> None:
        """One more token for every active text."""
        device = self._runner.device
        seen = [len(text.prompt) + len(text.written) - 1 for text in active]
        layout = Rows([length - prefix for length in seen], buffers, store, device)
        tokens = torch.tensor([[text.written[-1] for text in active]], device=device)
        positions = torch.tensor([seen], device=device)
        logits = torch.cat(list(self._runner.logits(layout, tokens, positions, range(len(active)))))
        self._choose(active, logits)

    def _choose(self, texts: list[Text], logits: torch.Tensor) -> None:
        for text, token in zip(texts, next_tokens(texts, logits), strict=True):
            text.append(token)

    def _retire(self, prefix: int, buffers: RowBuffers, active: list[Text], left: set[int]) -> None:
        """Report the texts that ended and close the gaps they leave: active rows are always the first ones."""
        row = 0
        while row < len(active):
            text = active[row]
            if not self._stops.ended(text):
                row += 1
                continue
            self._done(text.request, None if text.broken else text.written)
            left.discard(text.request)
            last = active.pop()
            if row < len(active):
                active[row] = last
                buffers.move(len(active), row, len(last.prompt) + len(last.written) - 1 - prefix)
