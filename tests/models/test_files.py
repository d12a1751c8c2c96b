"""Model folders that are not whole: each is one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from compatcheck.errors import InputError
from compatcheck.models.files import INDEX, WHOLE, check_model, check_weight_files


@pytest.fixture
def sharded(fixtures: Path, tmp_path: Path) -> Path:
    """A fixture model in two files with an index."""
    folder = tmp_path / "model"
    shutil.copytree(fixtures / "models" / "base-v1", folder)
    weights = load_file(folder / WHOLE)
    (folder / WHOLE).unlink()
    names = sorted(weights)
    places = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def edit_index(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


def first(folder: Path) -> str:
    return str(sorted(json.loads((folder / INDEX).read_text())["weight_map"])[0])


def test_a_whole_folder_passes(sharded: Path, fixtures: Path) -> None:
    check_model("model", sharded)
    assert check_weight_files("model", sharded) == check_weight_files("other", fixtures / "models" / "base-v1")


def rename(folder: Path) -> None:
    edit_index(folder, lambda index: index["weight_map"].update({first(folder): "model-00009-of-00009.safetensors"}))  # type: ignore[attr-defined]


def outside(folder: Path) -> None:
    edit_index(folder, lambda index: index["weight_map"].update({first(folder): "../other.safetensors"}))  # type: ignore[attr-defined]


def other_file(folder: Path) -> None:
    edit_index(folder, lambda index: index["weight_map"].update({first(folder): "model-00002-of-00002.safetensors"}))  # type: ignore[attr-defined]


def test_an_index_that_names_the_wrong_one_of_its_files_is_read_as_transformers_reads_it(sharded: Path) -> None:
    before = check_weight_files("model", sharded)
    other_file(sharded)
    assert check_weight_files("model", sharded) == before


def ghost(folder: Path) -> None:
    edit_index(folder, lambda index: index["weight_map"].update({"ghost": "model-00002-of-00002.safetensors"}))  # type: ignore[attr-defined]


def twice(folder: Path) -> None:
    one, two = (folder / f"model-{n:05}-of-00002.safetensors" for n in (1, 2))
    save_file(load_file(two) | {first(folder): load_file(one)[first(folder)]}, two)


def cut_off(folder: Path) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def link(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").symlink_to("nowhere")


CASES: list[tuple[Callable[[Path], None], str]] = [
    (rename, f"{INDEX}: names model-00009-of-00009.safetensors, 1 of 3 files, which are not in the folder"),
    (outside, f"{INDEX}: .* is said to be in '../other.safetensors', which is no"),
    (ghost, f"{INDEX}: ghost is said to be in model-00002-of-00002.safetensors, but is in none of the files"),
    (twice, "model-00002-of-00002.safetensors: .* is in model-00001-of-00002.safetensors too"),
    (cut_off, "model-00001-of-00002.safetensors: not a safetensors file, damaged or cut off"),
    (lambda f: (f / INDEX).unlink(), f"neither {WHOLE} nor {INDEX}"),
    (lambda f: (f / INDEX).write_text('{"metadata": {}, "weight_map": []}') and None, "weight_map is missing or empty"),
    (lambda f: (f / INDEX).write_text('{"weight_map": {"a": "b"}}') and None, "metadata is no JSON object"),
    (lambda f: (f / "config.json").write_text("[" * 100_000) and None, "config.json: not JSON that can be read"),
    (lambda f: (f / "config.json").write_text('{"model_type": ' + "9" * 5000 + "}") and None, "config.json: not JSON"),
    (lambda f: (f / "tokenizer_config.json").write_bytes(b"\xff\xfe") and None, "tokenizer_config.json: cannot"),
    (lambda f: (f / "chat_template.jinja").write_bytes(b"\xff\xfe") and None, "chat_template.jinja: cannot be read"),
    (link, "generation_config.json: cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), CASES, ids=[said[:30] for _, said in CASES])
def test_damage_is_one_line_with_the_file(sharded: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(sharded)
    with pytest.raises(InputError, match=said) as refused:
        check_model("model", sharded)
    assert "\n" not in str(refused.value)


def test_pickles_alone_are_refused_as_that(sharded: Path) -> None:
    for path in [*sharded.glob("*.safetensors"), sharded / INDEX]:
        path.unlink()
    (sharded / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"pytorch_model.bin is a pickle"):
        check_model("model", sharded)
