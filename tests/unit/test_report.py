import json

import pytest

from medllm.clinical import review_answer
from medllm.clinical.finding import Finding
from medllm.clinical.policy import Policy
from medllm.clinical.report import Report
from medllm.clinical.rules.basis import Basis
from medllm.errors import ConfigError

LABEL = Basis(source="A label", source_kind="label", year=2020, verified=True)
UNREAD = Basis(source="Common knowledge", source_kind="secondary", verified=False)
PAIR = Finding(
    rule="interaction.a.b",
    kind="interaction",
    severity="contraindicated",
    message="a must not be taken with b.",
    action="use c",
    basis=LABEL,
    spans=((4, 9),),
)
CALL = Finding(
    rule="red_flag.stroke",
    kind="missing",
    severity="major",
    message="The question describes signs of a stroke; the answer does not say to call for help.",
    action="These may be signs of a stroke. Call 999 now.",
    basis=LABEL,
)
NOTE = Finding(rule="n", kind="unknown word", severity="info", message="x", basis=UNREAD)


def report(*findings: Finding, checked: dict[str, int] | None = None, **policy: object) -> Report:
    return Report(findings, ("dose: d",), Policy(**policy), checked or {"doses": 300})  # type: ignore[arg-type]


def test_annotate_leaves_the_answer_as_it_is() -> None:
    assert report(PAIR, CALL).render("Take a.") == "Take a."


def test_append_puts_the_emergency_first_and_warnings_last() -> None:
    assert report(PAIR, CALL, NOTE, action="append").render("Take a and b.") == (
        "These may be signs of a stroke. Call 999 now.\n\n"
        "Take a and b.\n\n"
        "Warnings of an automatic check, which may be wrong and may have missed others:\n"
        "- a must not be taken with b. Use c. (Source: A label, 2020.)"
    )


def test_block_withholds_what_may_block_and_says_why() -> None:
    shown = report(PAIR, CALL, action="block").render("Take a and b, Mrs Smith.")

    assert shown.startswith("These may be signs of a stroke. Call 999 now.\n\n")
    assert "a must not be taken with b. Use c." in shown
    assert "Smith" not in shown


@pytest.mark.parametrize(
    ("basis", "policy", "blocked"),
    [
        (LABEL, {"action": "block"}, True),
        (LABEL, {"action": "append"}, False),
        (UNREAD, {"action": "block"}, False),
        (UNREAD, {"action": "block", "block_unverified": True}, True),
    ],
)
def test_only_verified_rules_block_unless_an_operator_says_so(
    basis: Basis, policy: dict[str, object], blocked: bool
) -> None:
    finding = Finding(
        rule="r", kind="dose", severity="contraindicated", message="Too much.", basis=basis
    )
    found = report(finding, **policy)

    assert found.is_blocked is blocked
    assert found.to_json()["blocked"] is blocked
    assert found.to_json()["policy"]["block_unverified"] is bool(policy.get("block_unverified"))
    assert ("Swallow 20" in found.render("Swallow 20.")) is not blocked


def test_what_may_not_block_is_appended_under_block() -> None:
    finding = Finding(
        rule="r", kind="dose", severity="contraindicated", message="Too much.", basis=UNREAD
    )

    shown = report(finding, action="block").render("Swallow 20.")
    assert shown.startswith("Swallow 20.\n\n")
    assert shown.endswith("- Too much. (Source: Common knowledge; not verified.)")


@pytest.mark.parametrize(
    ("severity", "level"),
    [("info", 0), ("minor", 1), ("moderate", 1), ("major", 2), ("contraindicated", 3)],
)
def test_the_risk_level_is_that_of_the_worst(severity: str, level: int) -> None:
    one = Finding(rule="r", kind="dose", severity=severity, message="m", basis=LABEL)  # type: ignore[arg-type]

    found = report(NOTE, one)
    assert found.risk_level == level
    assert found.warnings == (["m"] if level else [])


def test_the_data_have_no_word_of_the_answer_and_say_what_was_checked() -> None:
    found = report(PAIR).to_json()

    assert json.loads(json.dumps(found)) == found
    assert (found["risk_level"], found["warnings"]) == (3, ["a must not be taken with b."])
    assert found["findings"][0]["rule"] == "interaction.a.b"
    assert found["findings"][0]["offsets"] == [[4, 9]]
    assert found["not_checked"] == ["dose: d"] and found["checked"] == {"doses": 300}


def test_nothing_found_is_never_called_safe() -> None:
    reviewed = review_answer("Drink enough water.", policy=Policy(action="append"))

    assert reviewed.text == "Drink enough water."
    assert reviewed.report.risk_level == 0
    assert report().summary() == (
        "nothing found by 300 rules; what they do not cover is not checked"
    )


def test_a_report_is_an_operation_outcome_of_fhir_r4() -> None:
    """Codes and cardinalities of http://hl7.org/fhir/R4/operationoutcome.html."""
    outcome = report(PAIR, CALL, NOTE).to_operation_outcome()

    assert outcome["resourceType"] == "OperationOutcome"
    issues = [(each["severity"], each["code"]) for each in outcome["issue"]]
    assert issues == [
        ("error", "business-rule"),
        ("error", "required"),
        ("information", "informational"),
        ("information", "not-supported"),
    ]
    first = outcome["issue"][0]
    assert first["details"]["coding"][0]["code"] == "interaction.a.b"
    assert first["expression"] == ["answer"]
    assert "characters 4-9" in first["diagnostics"] and "A label, 2020" in first["diagnostics"]
    allowed = {"severity", "code", "details", "diagnostics", "expression"}
    assert all(each.keys() <= allowed and all(each.values()) for each in outcome["issue"])
    nothing = Report((), (), Policy(), {}).to_operation_outcome()
    assert [each["code"] for each in nothing["issue"]] == ["informational"]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"action": "blok"}, "action cannot be 'blok'"),
        ({"block_from": "severe"}, "block_from cannot be 'severe'"),
        ({"region": "de"}, "region cannot be 'de'"),
    ],
)
def test_a_policy_of_unknown_words_is_refused(policy: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Policy(**policy)  # type: ignore[arg-type]

    assert message in raised.value.message and "known are" in raised.value.fix
