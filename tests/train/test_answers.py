"""Both models' answers, and which of them is chosen, against plain generation and plain log-likelihoods."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compatcheck.errors import InputError
from compatcheck.evaluation.grouping import EngineOptions
from compatcheck.references import Reference, resolve
from compatcheck.tasks import LoadedTask, TaskOptions, load_tasks
from compatcheck_train.batches import make_items
from compatcheck_train.examples import Examples, load_examples
from compatcheck_train.fix.answers import JointAnswers
from compatcheck_train.settings import TrainSettings
from compatcheck_train.training.run import train
from tests.engines.adapters import with_own_tokenizer

CPU = EngineOptions("hf", device="cpu")


@pytest.fixture(scope="module")
def update(fixtures: Path) -> tuple[Examples, LoadedTask, Reference, Reference]:
    """A few documents of samsum, one of them unlabelled, and the fixtures' update."""
    data = fixtures / "data"
    found = load_examples("samsum", data=data, limit=8)
    spare = replace(found.train[5], gold=None, pairs=((found.train[5].pairs[0][0], ""),))
    few = replace(found, train=found.train[:5], validation=found.validation[:1], unlabelled=(spare,))
    (loaded,) = load_tasks(["samsum"], TaskOptions(data=data, num_fewshot=0))
    old, new = (resolve(str(fixtures / "adapters" / f"samsum-{version}")) for version in ("v1", "v2"))
    return few, loaded, old, new


def with_joint_answers(
    examples: Examples, loaded: LoadedTask, old: Reference, new: Reference, folder: Path, say: Any = print, **how: Any
) -> Examples:
    return JointAnswers(loaded, old, folder, CPU, say).examples(examples, new, **how)


def plain(reference: Reference, contexts: list[str]) -> tuple[list[str], Any]:
    """Greedy answers of transformers and PEFT, and a function for the log-likelihood of a continuation."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reference.tokenizer or reference.base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(reference.base), str(reference.adapter))
    model.eval()

    def answer(context: str) -> str:
        ids = tokenizer(context, return_tensors="pt")
        out = model.generate(
            **ids, max_new_tokens=64, do_sample=False, no_repeat_ngram_size=2, pad_token_id=tokenizer.eos_token_id
        )
        text = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        for stop in ("\n\n", "Dialogue:", "Summary:", "</s>"):
            text = text.split(stop)[0]
        return text.strip()

    def loglikelihood(context: str, continuation: str) -> float:
        before = tokenizer(context)["input_ids"]
        whole = tokenizer(context + continuation, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logprobs = model(whole).logits[0].log_softmax(-1)
        ids = whole[0, len(before) :]
        return float(logprobs[len(before) - 1 : -1].gather(-1, ids[:, None]).sum())

    return [answer(context) for context in contexts], loglikelihood


@pytest.mark.parametrize("own_tokenizer", [False, True])
def test_the_answer_that_both_find_likelier_is_chosen(
    update: tuple[Examples, LoadedTask, Reference, Reference], tmp_path: Path, own_tokenizer: bool
) -> None:
    few, loaded, old, new = update
    if own_tokenizer:  # beside NEW's adapter
        assert new.base is not None and new.adapter is not None
        with_own_tokenizer(new.base, shutil.copytree(new.adapter, tmp_path / "own"))
        new = resolve(f"{new.base}+{tmp_path / 'own'}")
    documents = [*few.train, *few.validation, *few.unlabelled]
    contexts = [example.pairs[0][0] for example in documents]
    (of_old, by_old), (of_new, by_new) = plain(old, contexts), plain(new, contexts)
    picked = set()
    for share in (0.5, 1.0):
        made = with_joint_answers(few, loaded, old, new, tmp_path, old_share=share)
        chosen = [example.chosen for example in (*made.train, *made.validation, *made.unlabelled)]
        for context, mine, a, b in zip(contexts, chosen, of_old, of_new, strict=True):
            joint = {
                text: (share * by_old(context, f" {text}") + (1 - share) * by_new(context, f" {text}")) / len(text)
                for text in (a, b)
            }
            assert mine == f" {max(joint, key=lambda text: joint[text])}"
            picked.add("old" if mine == f" {a}" else "new")
        assert [e.pairs for e in made.train] == [e.pairs for e in few.train], "the documents stay what they were"
    assert picked == {"old", "new"}


def test_answers_are_kept_and_not_asked_for_again(
    update: tuple[Examples, LoadedTask, Reference, Reference], tmp_path: Path
) -> None:
    few, loaded, old, new = update
    said: list[str] = []
    first = with_joint_answers(few, loaded, old, new, tmp_path, say=said.append)
    again = with_joint_answers(few, loaded, old, new, tmp_path, say=said.append)
    assert first == again
    assert said == ["both models answer 7 documents, and each reads the other's answers"]


def test_what_old_says_is_kept_for_another_candidate(
    update: tuple[Examples, LoadedTask, Reference, Reference], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, loaded, old, new = update
    opened: list[Reference] = []
    engine = JointAnswers._engine

    def counted(self: JointAnswers, reference: Reference) -> Any:
        opened.append(reference)
        return engine(self, reference)

    monkeypatch.setattr(JointAnswers, "_engine", counted)
    with_joint_answers(few, loaded, old, new, tmp_path / "one")
    assert opened == [old, new, old]
    with_joint_answers(few, loaded, old, old, tmp_path / "one")
    assert opened[3:] == [old, old], "what stands in for NEW is asked, and OLD reads its answers"
    shared = with_joint_answers(few, loaded, old, new, tmp_path / "one", old_share=0.9)
    assert shared == with_joint_answers(few, loaded, old, new, tmp_path / "two", old_share=0.9)


def test_labels_are_kept_where_unlabelled_documents_carry_the_answers(
    update: tuple[Examples, LoadedTask, Reference, Reference], tmp_path: Path
) -> None:
    few, loaded, old, new = update
    said: list[str] = []
    every = with_joint_answers(few, loaded, old, new, tmp_path)
    made = with_joint_answers(few, loaded, old, new, tmp_path, keep_labels=True, say=said.append)
    assert (made.train, made.validation) == (few.train, few.validation)
    assert made.unlabelled == every.unlabelled
    assert said == ["both models answer 1 documents, and each reads the other's answers"]
    own = TrainSettings(strategy="sequence-ensemble", tokens="answer", epochs=1, device="cpu", max_steps=1)
    assert train(old, new, made, own, tmp_path / "out").steps == 1
    alone = replace(few, unlabelled=())
    kept = with_joint_answers(alone, loaded, old, new, tmp_path, keep_labels=True)
    assert kept == with_joint_answers(alone, loaded, old, new, tmp_path), "else OLD would say nothing"


def test_training_follows_the_chosen_answers_and_needs_them(
    update: tuple[Examples, LoadedTask, Reference, Reference], tmp_path: Path
) -> None:
    few, loaded, old, new = update
    own = TrainSettings(strategy="sequence-ensemble", tokens="answer", epochs=1, device="cpu", max_steps=1)
    with pytest.raises(InputError, match="sequence-ensemble needs both models' answers in the examples"):
        train(old, new, few, own, tmp_path / "without")
    made = with_joint_answers(few, loaded, old, new, tmp_path)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(new.base)
    items = make_items(tokenizer, [*made.train, *made.unlabelled], "chosen", 512)
    assert [item.rows[0].text for item in items] == [e.chosen for e in (*made.train, *made.unlabelled)]
    done = train(old, new, made, own, tmp_path / "out")
    assert done.steps == 1
    assert done.tokens == sum(len(item.rows[0].ids) - item.rows[0].answer for item in items)


def test_a_task_without_answers_is_refused(fixtures: Path, tmp_path: Path) -> None:
    (loaded,) = load_tasks(["piqa"], TaskOptions(data=fixtures / "data", num_fewshot=0))
    found = load_examples("piqa", data=fixtures / "data", limit=8)
    one, other = (resolve(str(fixtures / "adapters" / f"piqa-{version}")) for version in ("v1", "v2"))
    with pytest.raises(InputError, match="piqa: multiple_choice tasks have no answers to choose from"):
        with_joint_answers(found, loaded, one, other, tmp_path)
