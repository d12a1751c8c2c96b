"""Rows of embeddings and head: a base gets as many as an adapter's own were saved with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from compatcheck.errors import InputError
from compatcheck.models import WEIGHTS
from compatcheck.models.files import tensor_shapes

_WRAPPED = re.compile(r"(\.token_adapter)?\.(base_layer|original_module|modules_to_save)$")
"""What PEFT puts after the name of an embedding or a head that it works on."""


def fit_rows(base: Any, folder: Path) -> None:
    """Give a base the number of embedding rows that an adapter's own embeddings or head were saved with.

    New rows are overwritten by the adapter's.

    Raises:
        InputError: the adapter holds the new rows of one of the two matrices alone.
    """
    saved = _saved_rows(folder, base)
    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    if not saved or embedding is None:
        return
    old, rows = embedding.weight.shape[0], next(iter(saved.values()))
    if rows == old:
        return
    if rows > old and head is not None and head.weight is not embedding.weight and len(saved) == 1:
        raise InputError(
            f"{folder}: {WEIGHTS} holds {rows} rows of {next(iter(saved))} where its base has {old}, but not those of "
            "the other one of embeddings and head, which would be filled with random numbers; name both in "
            "target_modules or modules_to_save when it is trained"
        )
    base.resize_token_embeddings(rows, mean_resizing=False)


def _saved_rows(folder: Path, base: Any) -> dict[str, int]:
    """Rows of the embeddings and of the head in an adapter's file, by the module's name; whole matrices alone count."""
    path = folder / WEIGHTS
    shapes = tensor_shapes(path) if path.is_file() else {}
    wanted = {base.get_input_embeddings(), base.get_output_embeddings()} - {None}
    names = {name for name, module in base.named_modules() if module in wanted}
    found = {}
    for key, shape in shapes.items():
        module, _, what = key.removeprefix("base_model.model.").rpartition(".")
        module = _WRAPPED.sub("", module)
        if module in names and what == "weight" and len(shape) == 2:
            found[module] = shape[0]
    return found
