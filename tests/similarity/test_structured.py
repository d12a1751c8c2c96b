"""JSON and tool calls: pairs checked by hand, and what must never flip an answer."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compatcheck import similarity
from compatcheck.errors import InputError
from compatcheck.similarity.structured import calls, differing, parse

BILL = '{"total": 12.5, "currency": "EUR", "items": [{"name": "tea", "n": 2}, {"name": "cake", "n": 1}]}'
PAIRS: list[tuple[str, str, bool]] = [
    (BILL, BILL, True),
    ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', True),
    ('{"a":1}', '{ "a" : 1 }\n', True),
    ('```json\n{"a": 1}\n```', '{"a": 1}', True),
    ('```\n{"a": 1}\n```', '{"a": 1}', True),
    ('Here you are:\n```json\n{"a": 1}\n```\nAnything else?', '{"a": 1}', True),
    ('The answer is {"a": 1}.', '{"a": 1}', True),
    ('As asked [1]: {"a": 1}', '{"a": 1}', False),  # two values that differ: which one is meant is not known
    ('See [note] for more. {"a": 1}', '{"a": 1}', True),
    ('{"a": 1} and again {"a": 1.0}', '{"a": 1}', True),
    ('{"a": 1} or {"a": 2}', '{"a": 1}', False),
    ('{"a": 1', '{"a": 1}', False),
    ('{"x": {"a": 1}', '{"a": 1}', False),
    ("", '{"a": 1}', False),
    ("I cannot help with that.", '{"a": 1}', False),
    ('{"a": 1}', '{"a": 2}', False),
    ('{"a": 1.0}', '{"a": 1}', True),
    ('{"a": "1"}', '{"a": 1}', False),
    ('{"a": true}', '{"a": 1}', False),
    ('{"a": null}', "{}", False),
    ('{"a": null}', '{"a": null}', True),
    ('{"a": false}', '{"a": 0}', False),
    ('{"a": 1, "b": 2}', '{"a": 1}', False),
    ("{}", '{"a": 1}', False),
    ("{}", "{}", True),
    ("[]", "{}", False),
    ("[1, 2]", "[2, 1]", False),
    ("[1, 2]", "[1, 2]", True),
    ("[1, 2, 3]", "[1, 2]", False),
    ('{"a": {"b": {"c": 1}}}', '{"a": {"b": {"c": 1}}}', True),
    ('{"a": {"b": {"c": 1}}}', '{"a": {"b": {"c": 2}}}', False),
    ('{"a": "Ü"}', '{"a": "\\u00dc"}', True),
    ('{"a": "x "}', '{"a": "x"}', False),
    ('{"a": 1e3}', '{"a": 1000}', True),
    ('{"a": 1, "a": 2}', '{"a": 2}', False),
    ('{"a": NaN}', '{"a": 1}', False),
    ('{"a": 0.1}', '{"a": 0.10000001}', False),
    ("5", "5", True),
    ('"yes"', '"yes"', True),
    ("\ufeff{}", "{}", True),
    ('{"n": 9007199254740993}', '{"n": 9007199254740992}', False),
    ('{"n": 9007199254740993}', '{"n": 9007199254740992.0}', False),
    ('{"n": 12345678901234567890123}', '{"n": 12345678901234567890123}', True),
    ('{"a": Infinity}', '{"a": 1}', False),
    ('{"a": 1e999}', '{"a": 1}', False),
    ('{"a": -0.0}', '{"a": 0}', True),
    ('{"a": "\\ud83d\\ude00"}', '{"a": "😀"}', True),
    ('{"a": "\\ud83d"}', '{"a": "😀"}', False),
    ('{"a": [{"b": 1, "c": 2}]}', '{"a": [{"c": 2, "b": 1}]}', True),
    ('{"a": [{"b": 1}, {"b": 1}]}', '{"a": [{"b": 1}]}', False),
    ('{"A": 1}', '{"a": 1}', False),
    ('{"a": ""}', '{"a": null}', False),
    ('{"a": []}', '{"a": {}}', False),
    ('{"a": "1.0"}', '{"a": "1"}', False),
    ('{"a": "cafe\u0301"}', '{"a": "caf\u00e9"}', True),
    ('{"a.b": 1}', '{"a": {"b": 1}}', False),
    ("{'a': 1}", '{"a": 1}', False),  # Python's repr is no JSON
    ('{"a": 1,}', '{"a": 1}', False),
    ('{"a": 1} // a remark', '{"a": 1}', True),
    ('```json\n{"a": 1}\n```\n```json\n{"a": 1}\n```', '{"a": 1}', True),
    ('```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```', '{"a": 1}', False),
    ('```JSON\r\n{"a": 1}\r\n```', '{"a": 1}', True),
    ('~~~\n{"a": 1}\n~~~', '{"a": 1}', True),
    ('```python\nx = 1\n```\n```json\n{"a": 1}\n```', '{"a": 1}', True),
    ('<answer>{"a": 1}</answer>', '{"a": 1}', True),
    ('{"code": "```json\\n{}\\n```"}', '{"code": "```json\\n{}\\n```"}', True),
    ("null", "null", True),
    ("true", "1", False),
]
CALL = '[{"name": "search", "arguments": {"query": "tea", "limit": 3}}]'
CALLS: list[tuple[str, str, bool]] = [
    (CALL, CALL, True),
    ('{"name": "search", "arguments": {"limit": 3, "query": "tea"}}', CALL, True),
    ('[{"name": "search", "arguments": "{\\"query\\": \\"tea\\", \\"limit\\": 3}"}]', CALL, True),
    ('[{"type": "function", "id": "c1", "function": {"name": "search", '
     '"arguments": "{\\"limit\\":3,\\"query\\":\\"tea\\"}"}}]', CALL, True),
    ('{"content": null, "tool_calls": [{"function": {"name": "search", "arguments": {"query": "tea", "limit": 3}}}]}',
     CALL, True),
    ('<tool_call>\n{"name": "search", "arguments": {"query": "tea", "limit": 3}}\n</tool_call>', CALL, True),
    ('```json\n' + CALL + "\n```", CALL, True),
    ('[{"name": "search", "arguments": {"query": "tea", "limit": 4}}]', CALL, False),
    ('[{"name": "search", "arguments": {"query": "tea"}}]', CALL, False),
    ('[{"name": "search", "arguments": {"query": "tea", "limit": 3, "lang": "en"}}]', CALL, False),
    ('[{"name": "find", "arguments": {"query": "tea", "limit": 3}}]', CALL, False),
    ('[{"name": "search", "arguments": {"query": "tea", "limit": "3"}}]', CALL, False),
    ("I would search for tea.", CALL, False),
    ("[]", CALL, False),
    ("[]", "[]", True),
    ('{"tool_calls": []}', "[]", True),
    ('[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]', '[{"name": "b"}, {"name": "a"}]', False),
    ('[{"name": "a"}, {"name": "b"}]', '[{"name": "a"}]', False),
    ('[{"name": "now", "arguments": ""}]', '[{"name": "now", "arguments": {}}]', True),
    ('[{"name": "now", "arguments": "{"}]', '[{"name": "now"}]', False),
    ('<tool_call>{"name": "a"}</tool_call><tool_call>{"name": "b"}</tool_call>',
     '[{"name": "a"}, {"name": "b"}]', True),
    ('[{"arguments": {}}]', '[{"name": "a"}]', False),
    ('[{"name": "a", "arguments": {"x": 1.0}}]', '[{"name": "a", "arguments": {"x": 1}}]', True),
    ('[{"name": "a", "arguments": {"x": [1, 2]}}]', '[{"name": "a", "arguments": {"x": [2, 1]}}]', False),
    ('[{"name": "A", "arguments": {}}]', '[{"name": "a", "arguments": {}}]', False),
    ('[{"name": "a"}, {"name": "a"}]', '[{"name": "a"}]', False),
    ('[{"name": "a", "arguments": null}]', '[{"name": "a", "arguments": {}}]', True),
    ('Let me look.\n' + CALL, CALL, True),
    ('{"function_call": {"name": "search", "arguments": "{\\"query\\": \\"tea\\", \\"limit\\": 3}"}}', CALL, True),
    ('[{"name": ["a"]}]', '[{"name": "a"}]', False),
    ("[1]", '[{"name": "a"}]', False),
    ("null", "[]", False),
    ("It is sunny.", "[]", True),  # talks, and calls nothing
    ("Shall I (or not)?", "[]", True),
    ("", "[]", False),
    ("[search(query=1)]", "[]", False),
    ("search(query=1)", "[]", False),
    ('<tool_call>{"name": "a"', "[]", False),
    ('I call {"name": "a", "arg', "[]", False),
]  # fmt: skip


@pytest.mark.parametrize(("prediction", "target", "right"), PAIRS)
def test_json_by_hand(prediction: str, target: str, right: bool) -> None:
    assert similarity.get("json").score([prediction], [target]).tolist() == [float(right)]


@pytest.mark.parametrize(("prediction", "target", "right"), CALLS)
def test_tool_calls_by_hand(prediction: str, target: str, right: bool) -> None:
    assert similarity.get("tool_call").score([prediction], [target]).tolist() == [float(right)]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10)
    | st.floats(-5, 5, allow_nan=False).map(float)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any, seed: int) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        random.Random(seed).shuffle(keys)
        return {key: shuffled(value[key], seed) for key in keys}
    return [shuffled(each, seed) for each in value] if isinstance(value, list) else value


@given(VALUES, st.integers(0, 9), st.sampled_from([None, 1, 4]), st.booleans(), st.booleans())
def test_layout_never_flips(value: Any, seed: int, indent: int | None, fenced: bool, ascii_only: bool) -> None:
    text = json.dumps(shuffled(value, seed), indent=indent, ensure_ascii=ascii_only)
    text = f"Sure:\n```json\n{text}\n```" if fenced and "```" not in text else f"\n {text} "
    assert similarity.get("json").score([text], [json.dumps(value)]).tolist() == [1.0]


@given(
    st.lists(st.tuples(st.text(min_size=1), st.dictionaries(st.text(max_size=4), VALUES, max_size=3)), max_size=3),
    st.integers(0, 9), st.sampled_from([None, 2]), st.sampled_from(["plain", "wire", "marked", "fenced"]),
)  # fmt: skip
def test_the_form_of_calls_never_flips(made: list[Any], seed: int, indent: int | None, form: str) -> None:
    target = json.dumps([{"name": name, "arguments": arguments} for name, arguments in made])
    plain = [{"arguments": shuffled(arguments, seed), "name": name} for name, arguments in made]
    wire = [{"type": "function", "id": "c", "function": {**each, "arguments": json.dumps(each["arguments"])}}
            for each in plain]  # fmt: skip
    text = json.dumps({"tool_calls": wire} if form == "wire" else plain, indent=indent)
    if form == "marked" and plain and not any("<" in json.dumps(each) for each in plain):
        text = "".join(f"<tool_call>\n{json.dumps(each, indent=indent)}\n</tool_call>" for each in plain)
    if form == "fenced" and "```" not in text:
        text = f"I call:\n```json\n{text}\n```"
    assert similarity.get("tool_call").score([text], [target]).tolist() == [1.0]


@given(VALUES, VALUES)
def test_equal_is_equal_and_symmetric(one: Any, other: Any) -> None:
    assert not differing(one, one)
    assert bool(differing(one, other)) == bool(differing(other, one))


def test_a_target_with_none_of_the_fields_counts_whole() -> None:
    scorer = similarity.get("json", fields="total,currency")
    targets = ['{"total": 5, "x": 1}', '{"x": 1}', '{"x": 1}', '{"currency": "EUR"}']
    assert scorer.score(['{"total": 5}', "[1]", '{"x": 1}', '{"currency": "EUR", "total": 1}'], targets).tolist() == [
        1, 0, 1, 0,
    ]  # fmt: skip


def test_which_fields_count() -> None:
    wrong = '{"total": 12.6, "currency": "EUR", "note": "x"}'
    target = '{"total": 12.5, "currency": "EUR"}'
    assert differing(parse(wrong), parse(target)) == ["total", "note"]
    score = lambda **options: similarity.get("json", **options).score([wrong], [target]).tolist()[0]  # noqa: E731
    assert score() == 0 and score(fields="currency") == 1 and score(fields="currency, total") == 0
    assert score(number_tolerance=0.2) == 0 and score(number_tolerance=0.2, ignore_extra=True) == 1
    assert similarity.get("json", fields="a.b").score(['{"a": {"b": 1, "c": 2}}'], ['{"a": {"b": 1}}']).tolist() == [1]


def test_several_accepted_targets_and_lists_of_texts() -> None:
    assert similarity.get("json").score(['{"a": 1}'], [['{"a": 2}', '{"a": 1}']]).tolist() == [1]
    assert similarity.get("json").score(['["x", "y"]'], [["x", "y"]]).tolist() == [1]


def test_order_of_calls() -> None:
    swapped, target = '[{"name": "a"}, {"name": "b"}]', '[{"name": "b"}, {"name": "a"}]'
    assert similarity.get("tool_call", ignore_order=True).score([swapped], [target]).tolist() == [1]
    assert similarity.get("tool_call", ignore_order=True).score(['[{"name": "a"}]'], [target]).tolist() == [0]
    near, wanted = (json.dumps([{"name": "f", "arguments": {"x": x}} for x in each]) for each in ([1, 1.4], [1.4, 0.6]))
    assert similarity.get("tool_call", ignore_order=True, number_tolerance=0.5).score([near], [wanted]).tolist() == [1]
    for word in ("parameters", "args", "input"):  # schemas, LangChain, Anthropic
        assert calls(json.dumps({"name": "a", word: {"x": 1}})) == [{"name": "a", "arguments": {"x": 1}}]


@pytest.mark.parametrize("fields", ["", " , "])
def test_no_field_at_all_is_no_choice_of_fields(fields: str) -> None:
    with pytest.raises(InputError, match=r"json.fields=.*names no field"):
        similarity.get("json", fields=fields)


def test_arguments_under_another_name_are_not_taken_for_none() -> None:
    with pytest.raises(ValueError, match="a call without `arguments`, but with `kwargs`"):
        calls('{"name": "a", "kwargs": {"x": 1}}')
    one, other = ('[{"name": "a", "args": {"x": 1}}]', '[{"name": "a", "args": {"x": 2}}]')
    assert similarity.get("tool_call").score([one, other], [one, one]).tolist() == [1.0, 0.0]


def test_a_target_that_is_no_json_is_an_error() -> None:
    with pytest.raises(InputError, match="metric json: the target 'EUR 5' cannot be read: no JSON in it"):
        similarity.get("json").score(["{}"], ["EUR 5"])
    with pytest.raises(InputError, match="number_tolerance=-1: must be a number of at least 0"):
        similarity.get("json", number_tolerance=-1)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "{" * 5_000 + "x", "[1," * 20_000, "[" * 900 + "]" * 900]
)
def test_hostile_texts_are_wrong_and_quick(text: str) -> None:
    assert similarity.get("json").score([text], ["{}"]).tolist() == [0.0]
    assert similarity.get("tool_call").score([text], ["[]"]).tolist() == [0.0]
    assert similarity.get("json").between([text], ["{}"]).tolist() == [0.0]


def test_a_field_that_no_target_has_is_refused() -> None:
    """Absent on both sides it would be equal in every row."""
    scorer = similarity.get("json", fields="totl,currency")
    with pytest.raises(InputError, match=r"json.fields: no target has a field 'totl' \(did you mean 'total'\?\)"):
        scorer.score(["{}"], ['{"total": 1, "currency": "EUR"}'])
    assert scorer.between is not None
    with pytest.raises(InputError, match="no target has a field 'a'"):
        similarity.get("json", fields="a").between(["{}"], ['{"b": 1}'])  # type: ignore[misc]
    rare = similarity.get("json", fields="a,b")
    assert rare.score(['{"a": 1}', '{"a": 1}'], ['{"a": 1}', '{"a": 1, "b": 2}']).tolist() == [1, 0]
    assert rare.score(['{"a": 1}'], ['{"a": 1}']).tolist() == [1], "a later part may lack what an earlier one has"


def test_what_is_nested_too_deeply_is_no_answer_and_no_target() -> None:
    deep = "[" * 300 + "]" * 300
    assert similarity.get("json").score([deep, "[" * 150 + "]" * 150], ["[]", "[" * 150 + "]" * 150]).tolist() == [0, 1]
    with pytest.raises(InputError, match="nested more than 200 deep"):
        similarity.get("json").score(["[]"], [deep])
