"""FastChat (MT-Bench): ``model_answer/MODEL.jsonl`` (what a model said) and ``model_judgment/JUDGE_single.jsonl``.

An answer is ``{"question_id", "answer_id", "model_id", "choices": [{"index", "turns": [text, …]}], "tstamp"}``, a
judgement ``{"question_id", "model", "judge", "user_prompt", "judgment", "score", "turn"}``, where a score of -1 says
that the judge gave none. Questions and reference answers stand in ``question.jsonl`` two folders up, or beside the
file. See https://github.com/lm-sys/FastChat/tree/main/fastchat/llm_judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from compatcheck.readers.recording import Item, Record, Recording, average_repeats, labels, only_model, records
from compatcheck.table.reading import Row, read_rows
from compatcheck.text import text_hash

_FAILED = "ERROR"
"""What FastChat writes as the answer to a request that failed (``$ERROR$`` for APIs)."""


def read(path: Path, part: str | None, task: str | None, tasks: Sequence[str]) -> list[Recording]:
    """One row per turn of each question. ``part`` is a model, where the file holds several."""
    source = read_rows(path)
    recording = Recording(source, (), task or "mt_bench")
    questions = _questions(path)
    items = (item for number, record in records(source) for item in _turns(number, record, questions))
    recording.items = average_repeats(only_model(items, part, path), "choice", "choices", recording)
    return [recording]


def _questions(path: Path) -> Mapping[str, Record]:
    """The questions by id, where their file lies near the answers."""
    places = (path.parent / "question.jsonl", path.parent.parent / "question.jsonl")
    file = next((place for place in places if place.is_file() and place != path), None)
    return {} if file is None else {record.name("question_id"): record for _, record in records(read_rows(file))}


def _turns(number: int, record: Record, questions: Mapping[str, Record]) -> Iterator[tuple[str, Item]]:
    """Each turn of each choice with the name of its model: a judgement has one."""
    name = record.name("question_id")
    question = questions.get(name, Record({}, record.place))
    if "choices" not in record.value and "score" in record.value:
        turn = record.whole("turn", 1)
        row = _asked(name, turn, question) | {"prediction": record.get("judgment", "a text")}
        score = record.need("score", "a number")
        row |= {"error": "the judge gave no score"} if score == -1 else {"score:score": score}
        yield record.name("model"), (number, row, record.value | {"choice": 0})
        return
    choices = record.need("choices", "a list")
    for place, choice in enumerate(choices):
        inner = Record(choice, f"{record.place}, `choices`[{place}]")
        if not inner.need("turns", "a list"):
            raise inner.fail("`turns` is empty")
        for turn, text in enumerate(inner.need("turns", "a list"), 1):
            row = _asked(name, turn, question)
            row |= {"error": text} if text in (_FAILED, f"${_FAILED}$") else {"prediction": text}
            yield record.name("model_id"), (number, row, record.value | {"choice": inner.whole("index", place)})
    if not choices:
        raise record.fail("`choices` is empty")


def _asked(name: str, turn: int, question: Record) -> Row:
    """What is known of a turn before any model answered; the first turn has the question's own id."""
    row: Row = {"id": name if turn == 1 else f"{name}/{turn}", "turn": turn}
    turns, right = question.get("turns", "a list", []), question.get("reference", "a list", [])
    if len(turns) >= turn:
        said = [str(text) for text in turns[:turn]]
        row |= {"input": said[0] if turn == 1 else "\n\n".join(said), "doc_hash": "turns:" + text_hash("\0".join(said))}
    if right:
        row["target"] = right[turn - 1] if len(right) >= turn else None
    return row | labels({"category": question.value.get("category")})
