from __future__ import annotations

import pytest

from compatcheck.errors import InputError
from compatcheck.gate import judge, parse_rules
from tests.gate.test_gate import discrete, gates, smooth


def test_a_rule_without_prefix_covers_every_comparison_that_has_it():
    task, other = discrete(both=1000), smooth([0.5] * 1000, [0.5] * 1000)
    assert [each.verdict for each in gates("nfr:2%", task, other)] == ["pass", "pass"]
    judged, _ = judge([task, other], parse_rules(["net:-5%", "rouge1.nfr:2%"]))
    assert [[each.rule for each in one.gates] for one in judged] == [["net:-5%"], ["rouge1.nfr:2%"]]


def test_prefixes_confine_a_rule():
    comparisons = [
        discrete(both=10, filter="strict-match"),
        discrete(both=10, filter="flexible-extract"),
        discrete(both=10, task="piqa", metric="acc"),
        discrete(both=10, task="piqa", metric="acc_norm"),
        discrete(both=10, task="my/own.task", metric="acc"),
    ]

    def covered(rule):
        judged, _ = judge(comparisons, parse_rules([rule]))
        return [place for place, each in enumerate(judged) if each.gates]

    assert covered("nfr:2%") == [0, 1, 2, 3, 4]
    assert covered("gsm8k/nfr:2%") == [0, 1]
    assert covered("gsm8k/strict-match/nfr:2%") == [0]
    assert covered("strict-match/nfr:2%") == [0]
    assert covered("gsm8k/flexible-extract/exact_match.nfr:2%") == [1]
    assert covered("acc.nfr:2%") == [2, 4]
    assert covered("piqa/acc_norm.net:-1%") == [3]
    assert covered("my/own.task/nfr:2%") == [4]
    assert covered(" piqa / acc.NFR : 2 % ") == [2]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("gsm8/nfr:2%", r"no task or filter is called 'gsm8' \(did you mean 'gsm8k'\?\); there are gsm8k"),
        (
            "exact_mach.nfr:2%",
            r"no metric is called 'exact_mach' \(did you mean 'exact_match'\?\); there are exact_match",
        ),
        (
            "mean_gain:0.1",
            r"'mean_gain' is not known of the discrete metrics compared here; known are accuracy_new, nfr",
        ),
    ],
)
def test_a_rule_that_covers_nothing_is_an_error(rule, message):
    with pytest.raises(InputError, match=message):
        judge([discrete(both=10)], parse_rules([rule]))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("nfr", r"a rule reads \[task/\]\[filter/\]\[field=value/\]\[metric.\]name:budget\[%\]"),
        ("nfr<2%", "a rule reads"),
        ("nfr:", "a rule reads"),
        (":2%", "a rule reads"),
        ("", "a rule reads"),
        ("nfr:two", "a rule reads"),
        ("nfr:nan", "a rule reads"),
        ("nfr:2%%", "a rule reads"),
        ("nfr:1e999", "the budget is a finite number"),
        ("nrf:2%", r"no budget can be set on 'nrf' \(did you mean 'nfr'\?\); known are nfr"),
        ("accuracy_old:50%", r"no budget can be set on 'accuracy_old'"),
        ("nfr:2", r"2 means 200 %; write nfr:2%"),
        ("gsm8k/nfr:1", r"1 means 100 %; write gsm8k/nfr:1%"),
        ("bec:90%", "bec is shown and not judged, as it falls with every mistake of OLD that NEW puts right"),
        ("nfr:150%", r"a proportion of at most 100%"),
        ("nfr:-2%", r"a proportion, so it is not negative"),
        ("net:-1", r"-1 means -100 %; write net:-1%"),
        ("net:-150%", r"from -100% to 100%"),
        ("accuracy:80%", r"80 points above the old one; .* write accuracy_new:80%"),
        ("rouge1.regression:-0.03", r"it is not negative; write rouge1.regression:0.03"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_an_error(rule, message):
    with pytest.raises(InputError, match=message):
        parse_rules([rule])


def test_control_characters_of_a_rule_stay_out_of_the_message():
    with pytest.raises(InputError) as caught:
        parse_rules(["\x1b[31mnfr\n"])
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
