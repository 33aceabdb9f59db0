"""A report as a FHIR R4 OperationOutcome (http://hl7.org/fhir/R4/operationoutcome.html)."""

from typing import TYPE_CHECKING, Any

from medllm.clinical.finding import Finding, Severity

if TYPE_CHECKING:
    from medllm.clinical.report import Report

RULES = "urn:medllm:rule"
"""The code system of the ids of rules."""
SEVERITIES: dict[Severity, str] = {
    "info": "information", "minor": "warning", "moderate": "warning", "major": "error",
    "contraindicated": "error",
}  # fmt: skip
"""Codes of http://hl7.org/fhir/issue-severity. Nothing is `fatal`: that is when no further checking
was possible."""
TYPES = {"missing": "required", "measurement": "value", "language": "not-supported"}
"""Codes of http://hl7.org/fhir/issue-type by kind of finding; the others are `business-rule`."""


def build_operation_outcome(report: "Report") -> dict[str, Any]:
    """The report as plain data: an issue for each finding and for each thing not checked.

    The resource must have an issue, so a report without findings has one that says so.
    `expression` is the text that an issue is about, `answer` or `question`, as it would be called
    in Parameters; FHIR has no place for characters, so `diagnostics` tells them.
    """
    issues = [_issue(each) for each in report.findings]
    issues = issues or [_note("informational", report.summary())]
    issues += [_note("not-supported", f"Not checked: {each}") for each in report.not_checked]
    return {"resourceType": "OperationOutcome", "issue": issues}


def _issue(finding: Finding) -> dict[str, Any]:
    kind = TYPES.get(finding.kind, "business-rule")
    return {
        "severity": SEVERITIES[finding.severity],
        "code": "informational" if finding.severity == "info" else kind,
        "details": {"coding": [{"system": RULES, "code": finding.rule}], "text": finding.message},
        "diagnostics": "; ".join(_diagnostics(finding)),
        "expression": [finding.where],
    }


def _diagnostics(finding: Finding) -> list[str]:
    basis = finding.basis
    year = f", {basis.year}" if basis.year else ""
    spans = [f"{begin}-{end}" for begin, end in finding.spans]
    return [
        f"{finding.kind}, {finding.severity}",
        f"source: {basis.source}{year} ({basis.source_kind})",
        "verified" if basis.verified else "not verified",
        *([f"action: {finding.action}"] if finding.action else []),
        *([f"characters {', '.join(spans)}"] if spans else []),
    ]


def _note(code: str, text: str) -> dict[str, Any]:
    return {"severity": "information", "code": code, "diagnostics": text}
