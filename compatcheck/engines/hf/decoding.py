"""Text generation: prompts read once, finished sequences leave and others take their place.

Keys and values lie in buffers of a fixed size. A prefix that the prompts share is read once and seen by all rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from compatcheck.engines.hf.attention import PrefixStore, PrefixTree, RowBuffers, Rows
from compatcheck.engines.hf.memory import available_bytes, give_back, is_out_of_memory
from compatcheck.engines.hf.packing import Document, Group, Part, group_documents
from compatcheck.engines.hf.runner import Runner
from compatcheck.engines.hf.sampling import GenerationArguments, Text, next_tokens
from compatcheck.errors import InputError

LEAST_SAVING = 256
LEAST_MEMBERS = 4
_MOST_ROWS = 128
_SHARE_OF_MEMORY = 0.4


class Decoder:
    """Generates for some prompts with one model. ``tokens_at_once`` are those of one prompt-reading forward,
    ``most_rows`` the sequences decoded side by side (None: as many as help and fit into memory); ``done`` gets
    (request, written tokens) as sequences end, None for the tokens where the model's logits were not finite."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Any,
        tokens_at_once: int,
        most_rows: int | None,
        done: Callable[[int, list[int] | None], None],
    ) -> None:
        self._runner, self._tokenizer, self._done = runner, tokenizer, done
        self._tokens_at_once = tokens_at_once
        self._most_rows = most_rows or _MOST_ROWS
        self._windows: dict[tuple[str, ...], int] = {}

    def run(self, prompts: Sequence[tuple[tuple[int, ...], GenerationArguments]]) -> None:
        """Generate for every prompt (at least one token each); halves the rows when memory runs out. Raises InputError:
        one sequence alone does not fit into memory."""
        documents = [Document(prompt) for prompt, _ in prompts]
        numbers = {id(document): number for number, document in enumerate(documents)}
        with self._runner.attached():
            for group in group_documents(documents, LEAST_SAVING, LEAST_MEMBERS):
                left = {numbers[id(document)] for document in group.documents}
                while left:
                    texts = [Text(number, *prompts[number]) for number in left]
                    try:
                        _Run(self, group, texts, left).run()
                        continue
                    except (RuntimeError, MemoryError) as error:
                        if not is_out_of_memory(error):
                            raise
                    give_back()
                    if self._most_rows == 1:
                        raise InputError(
                            "out of memory while generating a single text; use a smaller model, a narrower --dtype, or "
                            "a device with more memory"
                        )
                    self._most_rows = max(1, min(self._most_rows, len(left)) // 2)
                    self._tokens_at_once = max(64, self._tokens_at_once // 2)

    def rows_that_fit(self, room: int) -> int:
        """Sequences of ``room`` tokens whose keys and values fit into memory, at most what is asked for."""
        config = self._runner.core.config.get_text_config()
        layers, heads = getattr(config, "num_hidden_layers", 1), getattr(config, "num_attention_heads", 1)
        size = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads
        kept = getattr(config, "num_key_value_heads", None) or heads
        per_row = 2 * layers * kept * size * room * next(self._runner.core.parameters()).element_size()
        fits = int(_SHARE_OF_MEMORY * available_bytes(str(self._runner.device)) // max(1, per_row))
        return min(self._most_rows, max(1, fits))

    def ended(self, text: Text) -> bool:
        """After the last token: an end token, the most tokens, a stop string, or logits that are no numbers.

        Looks for stop strings in the last tokens only, as lm-eval does."""
        asked = text.arguments
        if text.broken or text.written[-1] in asked.ends or len(text.written) >= asked.most:
            return True
        if not asked.stops:
            return False
        if asked.stops not in self._windows:
            longest = max(len(self._tokenizer.encode(stop, add_special_tokens=False)) for stop in asked.stops)
            # Two tokens more than the stop string takes: the model may spell it with other tokens.
            self._windows[asked.stops] = longest + 2
        tail = self._tokenizer.decode(text.written[-self._windows[asked.stops] :], skip_special_tokens=False)
        return any(stop in tail for stop in asked.stops)


class _Run:
    """Decodes all texts of one group; numbers of finished ones are taken out of ``left``."""

    def __init__(self, decoder: Decoder, group: Group, texts: list[Text], left: set[int]) -> None:
        self._decoder, self._runner, self._left = decoder, decoder._runner, left
        self._prefix = group.prefix
        # Longest first: memory runs out at once or never, and rows side by side are about equally long.
        texts.sort(key=lambda text: (-(len(text.prompt) + text.arguments.most), text.request))
        own = max(len(text.prompt) for text in texts) - self._prefix
        room = max(len(text.prompt) - self._prefix + text.arguments.most for text in texts)
        self._rows = min(len(texts), decoder.rows_that_fit(room))
        self._buffers = RowBuffers(self._rows, room)
        self._store = PrefixStore(self._prefix, own) if self._prefix else None
        self._queue = deque(texts)
        self._active: list[Text] = []

    def run(self) -> None:
        while self._queue or self._active:
            free = self._rows - len(self._active)
            # Reading one prompt at a time wastes the matrix products: wait until a few rows are free.
            enough = not self._active or free >= min(len(self._queue), max(1, self._rows // 8))
            if self._queue and free and enough:
                self._admit(free)
            else:
                self._step()
            self._retire()

    def _admit(self, free: int) -> None:
        """Read the prompts of the next texts and choose their first tokens."""
        first, encode = len(self._active), self._store is not None and not self._store.layers
        tokens = self._prefix if encode else 0
        admitted: list[Text] = []
        while self._queue and len(admitted) < free:
            size = len(self._queue[0].prompt) - self._prefix
            if admitted and tokens + size > self._decoder._tokens_at_once:
                break
            tokens += size
            admitted.append(self._queue.popleft())
        documents = tuple(Document(text.prompt) for text in admitted)
        group = Group(self._prefix, documents)
        tree = PrefixTree(
            [Part(group, documents, encode, keep=True)],
            {} if self._store is None else {id(group): self._store},
            self._runner.device,
            sink=lambda layer, row, key, value: self._buffers.write_context(layer, first + row, key, value),
        )
        self._choose(admitted, tree, tree.tokens, tree.positions, tree.context_ends)
        self._active.extend(admitted)

    def _step(self) -> None:
        """One more token for every active text."""
        device = self._runner.device
        seen = [len(text.prompt) + len(text.written) - 1 for text in self._active]
        layout = Rows([length - self._prefix for length in seen], self._buffers, self._store, device)
        tokens = torch.tensor([[text.written[-1] for text in self._active]], device=device)
        self._choose(self._active, layout, tokens, torch.tensor([seen], device=device), range(len(self._active)))

    def _choose(
        self, texts: Sequence[Text], layout: Any, tokens: torch.Tensor, positions: torch.Tensor, rows: Sequence[int]
    ) -> None:
        logits = torch.cat(list(self._runner.logits(layout, tokens, positions, rows)))
        for text, token in zip(texts, next_tokens(texts, logits), strict=True):
            text.append(token)

    def _retire(self) -> None:
        """Report the texts that ended and close the gaps they leave: active rows are always the first ones."""
        row = 0
        while row < len(self._active):
            text = self._active[row]
            if not self._decoder.ended(text):
                row += 1
                continue
            self._decoder._done(text.request, None if text.broken else text.written)
            self._left.discard(text.request)
            last = self._active.pop()
            if row < len(self._active):
                self._active[row] = last
                self._buffers.move(len(self._active), row, len(last.prompt) + len(last.written) - 1 - self._prefix)
