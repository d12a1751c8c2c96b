from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from compatcheck.errors import InputError
from compatcheck.references import resolve

OUT, IN, RANK = 6, 4, 2


def make_base(folder: Path, *, value: float = 1.0, width: int = OUT) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "_name_or_path": str(folder)}))
    (folder / "tokenizer.json").write_text("{}")
    weight = np.full((width, IN), value, dtype=np.float32)
    save_file({"model.layers.0.mlp.up_proj.weight": weight}, folder / "model.safetensors")
    return folder


def make_adapter(folder: Path, base: str | None, *, module: str = "layers.0.mlp.up_proj", width: int = OUT) -> Path:
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": RANK, "target_modules": ["up_proj"]}
    if base is not None:
        config["base_model_name_or_path"] = base
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name = f"base_model.model.model.{module}"
    save_file(
        {
            f"{name}.lora_A.weight": np.ones((RANK, IN), dtype=np.float32),
            f"{name}.lora_B.weight": np.ones((width, RANK), dtype=np.float32),
        },
        folder / "adapter_model.safetensors",
    )
    return folder


def test_model_folder(tmp_path: Path) -> None:
    reference = resolve(str(make_base(tmp_path / "base")))
    assert reference.kind == "model"
    assert reference.base == tmp_path / "base"
    assert reference.adapter is None


def test_adapter_finds_its_base_relative_to_itself(tmp_path: Path) -> None:
    base = make_base(tmp_path / "models" / "base")
    adapter = make_adapter(tmp_path / "adapters" / "a", "../../models/base")
    reference = resolve(str(adapter))
    assert (reference.kind, reference.base, reference.adapter) == ("adapter", base.resolve(), adapter)


def test_adapter_finds_its_base_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "deep" / "a", "base")
    monkeypatch.chdir(tmp_path)
    assert resolve(str(adapter)).base == base.resolve()


def test_base_plus_adapter_overrides_the_recorded_base(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "a", "gone/elsewhere")
    reference = resolve(f"{base}+{adapter}")
    assert (reference.kind, reference.base, reference.adapter) == ("adapter", base, adapter)


def test_recorded_file_and_lm_eval_folder(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text("{}\n")
    assert resolve(str(tmp_path / "old.jsonl")).kind == "recorded"
    (tmp_path / "results" / "model").mkdir(parents=True)
    (tmp_path / "results" / "model" / "samples_piqa_2026-01-01.jsonl").write_text("{}\n")
    assert resolve(str(tmp_path / "results")).kind == "recorded"


def test_a_name_with_a_plus_that_exists_is_a_folder(tmp_path: Path) -> None:
    assert resolve(str(make_base(tmp_path / "c++base"))).kind == "model"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nothing", "no such file or folder"),
        (lambda p: make_adapter(p / "a", None), "base_model_name_or_path is missing; name the base as BASE+"),
        (lambda p: make_adapter(p / "a", "./gone"), "base model './gone' does not exist"),
        (lambda p: make_adapter(p / "a", str(make_base(p / "b", width=8))), "up_proj is 8×4 there, the adapter was"),
        (
            lambda p: make_adapter_with_two(p, missing="layers.7.mlp.up_proj"),
            "adapts model.layers.7.mlp.up_proj, which the base",
        ),
    ],
)
def test_unusable_references_say_what_is_wrong(tmp_path: Path, make, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("+", r"\+")):
        resolve(str(make(tmp_path)))


def make_adapter_with_two(folder: Path, missing: str) -> Path:
    base = make_base(folder / "b")
    adapter = make_adapter(folder / "a", str(base))
    tensors = {}
    for module in ("layers.0.mlp.up_proj", missing):
        tensors[f"base_model.model.model.{module}.lora_A.weight"] = np.ones((RANK, IN), dtype=np.float32)
        tensors[f"base_model.model.model.{module}.lora_B.weight"] = np.ones((OUT, RANK), dtype=np.float32)
    save_file(tensors, adapter / "adapter_model.safetensors")
    return adapter


def test_pickles_are_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is a pickle"):
        resolve(str(base))
    base2 = make_base(tmp_path / "base2")
    adapter = make_adapter(tmp_path / "a", str(base2))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(InputError, match=r"adapter_model\.bin is a pickle"):
        resolve(str(adapter))


def test_cut_off_weights_are_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    whole = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(whole[:-8])
    with pytest.raises(InputError, match="cut off"):
        resolve(str(base))
    (base / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(InputError, match="not a safetensors file"):
        resolve(str(base))


def test_a_folder_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a model"):
        resolve(str(tmp_path))


def test_broken_config_names_file_and_line(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    (base / "config.json").write_text('{\n  "model_type": \n}')
    with pytest.raises(InputError, match=r"config\.json:3: not JSON"):
        resolve(str(base))


def test_a_base_is_not_an_adapter_and_the_other_way_round(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    other = make_base(tmp_path / "other")
    adapter = make_adapter(tmp_path / "a", str(base))
    with pytest.raises(InputError, match="it is no adapter"):
        resolve(f"{base}+{other}")
    with pytest.raises(InputError, match="not a full model"):
        resolve(f"{adapter}+{adapter}")
    with pytest.raises(InputError, match="both sides"):
        resolve(f"{tmp_path}/x+")


def test_hub_id_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model hub did not give it") as caught:
        resolve("some-org/some-model")
    assert "\n" not in str(caught.value)


def test_fingerprint_is_by_content_not_by_place(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    adapter = make_adapter(tmp_path / "a", "../base")
    first = resolve(str(adapter)).fingerprint()
    shutil.copytree(base, tmp_path / "elsewhere" / "base")
    moved = shutil.copytree(adapter, tmp_path / "elsewhere" / "renamed")
    config = json.loads((moved / "adapter_config.json").read_text())
    # the order of keys and of target modules, and where the base was, say nothing about the content
    (moved / "adapter_config.json").write_text(json.dumps(dict(reversed(config.items())), indent=4))
    assert resolve(str(moved)).fingerprint() == first
    assert first.startswith("sha256:")


def test_fingerprint_changes_with_weights_config_and_base(tmp_path: Path) -> None:
    seen = {resolve(str(make_base(tmp_path / "one"))).fingerprint()}
    seen.add(resolve(str(make_base(tmp_path / "two", value=2.0))).fingerprint())
    changed = make_base(tmp_path / "three")
    (changed / "tokenizer.json").write_text('{"model": {}}')
    seen.add(resolve(str(changed)).fingerprint())
    seen.add(resolve(str(make_adapter(tmp_path / "a", "../one"))).fingerprint())
    seen.add(resolve(str(make_adapter(tmp_path / "b", "../two"))).fingerprint())
    assert len(seen) == 5


def test_a_home_folder_that_nobody_has_is_one_line() -> None:
    for text in ("~nobody-of-that-name/x", "~nobody-of-that-name/x.gguf", "base+~nobody-of-that-name/a", "a\0b"):
        with pytest.raises(InputError) as caught:
            resolve(text)
        assert "\n" not in str(caught.value)


def test_outputs_are_not_searched_on_the_whole_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (tmp_path / "many" / f"{number:02d}").mkdir(parents=True)
        (tmp_path / "many" / f"{number:02d}" / "file.txt").touch()
    (tmp_path / "many" / "samples_piqa_2026.jsonl").touch()
    assert resolve(str(tmp_path / "many")).kind == "recorded"
    (tmp_path / "many" / "samples_piqa_2026.jsonl").unlink()
    looked = []
    monkeypatch.setattr("compatcheck.references._LOOKED_AT", 10)
    monkeypatch.setattr("compatcheck.references.re.fullmatch", lambda mark, name: looked.append(name))
    with pytest.raises(InputError, match="neither a model"):
        resolve(str(tmp_path / "many"))
    assert len(set(looked)) <= 10
