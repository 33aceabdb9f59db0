"""Arguments of calls are read as what they are: drugs, doses, how often, who."""

import json
from typing import Any

import pytest

from medllm.clinical.review import review_answer
from medllm.clinical.text.arguments import told_call


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"drug": "methotrexate", "dose_mg": 0.5, "often": "daily"},
         "drug: methotrexate, dose: 0.5 mg, often: daily"),
        ({"dose": 1000, "unit": "mg", "doseInterval_hours": 2}, "dose: 1000 mg, every 2 hours"),
        ({"doseUnit": "mcg", "age": 7, "dose": 10}, "age: 7, dose: 10 mcg"),
        ({"timesPerDay": 3, "oxygen_percent": 28}, "3 times per day, oxygen: 28 %"),
        ({"pregnant": True, "smokes": False, "note": None, "more": []}, "pregnant"),
        ({"frequency": 1, "period": 8, "periodUnit": "h"}, "every 8 hours"),
        ({"timing": {"repeat": {"frequency": 3, "period": 1, "periodUnit": "d"}}},
         "3 times per day"),
        ({"frequency": 2, "period": 3, "periodUnit": "wk"}, "2 times every 3 weeks"),
        ({"dose": [{"quantity": {"value": 25, "unit": "mg"}}]}, "value: 25 mg"),
        ({"drugs": ["warfarin", "ibuprofen 400 mg"]}, "drugs: warfarin, ibuprofen 400 mg"),
        ({"unit": "mg"}, "unit: mg"),
        ("ibuprofen", "ibuprofen"),
    ],
)  # fmt: skip
def test_units_are_joined_to_numbers(arguments: Any, told: str) -> None:
    assert told_call("order_now", json.dumps(arguments)) == f"- order now: {told}."


def test_each_object_of_a_list_has_a_line() -> None:
    orders = {"ward": "3b", "orders": [{"drug": "warfarin"}, {"drug": "ibuprofen"}]}
    told = told_call("order", json.dumps(orders))
    assert told.split("\n") == ["- order: ward: 3b.", "- order: drug: warfarin.",
                                "- order: drug: ibuprofen."]  # fmt: skip


@pytest.mark.parametrize("arguments", ['{"drug": "warf', "", "[" * 100_000])
def test_what_is_no_json_is_read_as_it_is(arguments: str) -> None:
    assert arguments in told_call("order", arguments)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"drug": "methotrexate", "dose_mg": 25, "frequency": "daily"}, "dose.methotrexate"),
        ({"name": "paracetamol", "amount": 1000, "unit": "mg", "times_per_day": 12},
         "dose.paracetamol"),
        ({"medicationCodeableConcept": {"text": "methotrexate"}, "dosageInstruction": [
            {"doseAndRate": [{"doseQuantity": {"value": 25, "unit": "mg"}}],
             "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}}]},
         "dose.methotrexate"),
        ({"medications": [{"name": "warfarin"}, {"name": "ibuprofen", "dose": "400 mg"}]},
         "interaction.warfarin.nsaid"),
        ({"drug": "vincristine", "route": "intrathecal", "dose_mg": 2}, "dose.vincristine"),
    ],
)  # fmt: skip
def test_the_rules_find_in_them_what_they_find_in_sentences(arguments: Any, rule: str) -> None:
    report = review_answer(told_call("prescribe", json.dumps(arguments))).report
    assert [each.rule for each in report.findings if each.rule.startswith(rule)]
    assert report.risk_level >= 2
