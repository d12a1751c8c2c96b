"""The memory that a training takes, told before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from compatcheck.references import Reference, resolve
from compatcheck_train.examples import Examples, load_examples
from compatcheck_train.fix import room
from compatcheck_train.fix.phases import ANSWER, TRAIN, Phase
from compatcheck_train.fix.room import bytes_of, check_memory
from compatcheck_train.settings import preset


@pytest.fixture(scope="module")
def sides(fixtures: Path) -> tuple[Reference, Reference]:
    old, new = (resolve(str(fixtures / "adapters" / f"piqa-{version}")) for version in ("v1", "v2"))
    return old, new


@pytest.fixture(scope="module")
def examples(fixtures: Path) -> Examples:
    return load_examples("piqa", data=fixtures / "data", limit=50)


def test_what_is_held_grows_with_what_is_asked_for(sides: tuple[Reference, Reference], examples: Examples) -> None:
    def needed(**given: object) -> int:
        return bytes_of(*sides, preset("quick", device="cpu", **({"strategy": "muscle"} | given)), examples)

    plain = needed()
    kept = sum(path.stat().st_size for path in (sides[0].base or Path()).glob("*.safetensors"))
    of_old = 2 * kept  # in float32; the file has bfloat16
    head = 2048 * 128 * 4
    assert plain - needed(strategy="continue-ce") == head, "OLD's output layer is kept, the rest of it is freed"
    assert needed(teacher="online") - plain == pytest.approx(of_old - head, rel=0.01)
    assert needed(strategy="choice-ensemble") > plain, "every choice is a row"
    assert needed(batch_size=16) > 1.3 * plain
    assert needed(gradient_checkpointing=True) < plain
    assert needed(batch_size=16, bf16=True) < needed(batch_size=16)


def test_a_fresh_adapter_has_its_rank(sides: tuple[Reference, Reference], examples: Examples) -> None:
    old, new = sides
    base = resolve(str(new.base))
    few, many = (bytes_of(old, base, preset("quick", lora_rank=rank, device="cpu"), examples) for rank in (16, 32))
    assert many - few == 16 * 291_840, "16 bytes a parameter, of which rank 16 has so many"


def test_too_little_memory_is_said(
    sides: tuple[Reference, Reference], examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [Phase("start", ANSWER, 9), Phase("training", TRAIN, 9, settings=preset("quick", device="cpu"))]
    said: list[str] = []
    check_memory(*sides, examples, ahead, said.append)
    assert said == []
    monkeypatch.setattr(room, "available_bytes", lambda device: 10**7)
    check_memory(*sides, examples, ahead, said.append)
    assert said == ["about 0.1 GB of memory are needed to train and 0.0 GB are free"]
