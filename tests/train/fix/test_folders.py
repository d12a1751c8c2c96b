"""What a kill between any two steps leaves behind is taken up, not refused; and what is somebody else's is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from compatcheck.errors import InputError
from compatcheck_train import TrainSettings
from compatcheck_train.folders import partial_of, put, write_json
from compatcheck_train.training.checkpoint import Output
from compatcheck_train.training.processes import _alone, first, open_accelerator
from compatcheck_train.weights import read_lora, write_lora


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "content").write_text(text)
    return path


def test_a_folder_is_replaced_whole_whatever_a_kill_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = folder(tmp_path / "adapter", "before")
    put(folder(tmp_path / "made", "after"), target)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    assert (target / "content").read_text() == "after"

    class Killed(BaseException):
        pass

    real = Path.replace
    for survive in (0, 1):  # killed before the first move, and between the two
        moves = iter(range(9))

        def replace(self: Path, to: Path, survive: int = survive, moves: Any = moves) -> Path:
            if next(moves) == survive:
                raise Killed
            return real(self, to)

        made = folder(tmp_path / "again", "last")
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, "replace", replace)
            put(made, target)
        assert not target.exists() or (target / "content").read_text() in ("after", "last"), "never a part"
        put(made, target)
        assert (target / "content").read_text() == "last"
        assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_files_are_written_beside_their_place(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    partial_of(path).write_text('{"cut o')
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


def test_a_training_folder_that_a_kill_left_half_claimed(tmp_path: Path) -> None:
    accelerator = open_accelerator(TrainSettings(device="cpu"), tmp_path)
    output = Output(tmp_path / "out", accelerator)
    (tmp_path / "out").mkdir()
    partial_of(tmp_path / "out" / "run.json").write_text('{"schema": "compat')
    output.claim({"settings": {}})
    output.claim({"settings": {}})
    assert output.finished() is None
    other = Output(tmp_path / "other", accelerator)
    folder(tmp_path / "other", "mine")
    with pytest.raises(InputError, match="holds something that is no training"):
        other.claim({"settings": {}})


def test_what_a_kill_after_the_result_left_is_removed(tmp_path: Path) -> None:
    """The result is written before the checkpoints go."""
    output = Output(tmp_path / "out", open_accelerator(TrainSettings(device="cpu"), tmp_path))
    output.claim({"settings": {}})
    output.adapter.mkdir()
    (output.adapter / "adapter_model.safetensors").write_bytes(b"")
    output.finish({"steps": 3, "history": [], "notes": []})
    (output.checkpoints / "step-0000003").mkdir(parents=True)
    output.best.write_bytes(b"")
    assert output.finished() == {"steps": 3, "history": (), "notes": ()}
    assert not output.checkpoints.exists() and not output.best.exists()


def test_a_blend_over_a_blend_whose_removal_was_cut_off(fixtures: Path, tmp_path: Path) -> None:
    lora = read_lora(fixtures / "adapters" / "piqa-v2")
    pairs = {module: (a, lora.scales[module] * b) for module, (a, b) in lora.pairs.items()}
    write_lora(tmp_path / "blend", lora.config, pairs, "base")
    (tmp_path / ".blend.gone").mkdir()
    (tmp_path / ".blend.gone" / "adapter_model.safetensors").write_bytes(b"half")
    write_lora(tmp_path / "blend", lora.config, pairs, "base")
    assert [path.name for path in tmp_path.iterdir()] == ["blend"]


def test_alone_the_first_process_is_like_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from accelerate import PartialState

    assert first(lambda: 3) == 3
    open_accelerator(TrainSettings(device="cpu"), tmp_path)
    before = dict(PartialState._shared_state)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("ACCELERATE_USE_CPU", "true")):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="no"), _alone():
        assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "ACCELERATE_USE_CPU"} & os.environ.keys()
        assert PartialState().num_processes == 1
        raise InputError("no")
    assert os.environ["WORLD_SIZE"] == "2"
    assert dict(PartialState._shared_state) == before
