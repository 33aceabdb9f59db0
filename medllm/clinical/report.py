"""What a review found, as data, as warnings, and as an answer that may be shown."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medllm.clinical.finding import RISK_LEVELS, Finding, worst
from medllm.clinical.policy import Policy

TITLE = "Warnings of an automatic check, which may be wrong and may have missed others:"
WITHHELD = "This answer was withheld, because an automatic check found in it:"
ASK = "Please ask a doctor or a pharmacist."


@dataclass(frozen=True, slots=True)
class Report:
    """What a review found, the worst first, what no rule covers, and what it was checked against.

    `checked` is how many rules of each table there were. A report without findings means that none
    of these rules found anything: never that an answer is safe.
    """

    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...]
    policy: Policy
    checked: Mapping[str, int]

    @property
    def risk_level(self) -> int:
        """0 nothing (or notes alone), 1 minor or moderate, 2 major, 3 contraindicated."""
        severity = worst(self.findings)
        return RISK_LEVELS[severity] if severity else 0

    @property
    def warnings(self) -> list[str]:
        """The messages of the findings that are more than notes."""
        return [each.message for each in self._grave]

    @property
    def escalations(self) -> list[str]:
        """What to do at once, where the question describes an emergency and the answer errs."""
        texts = [each.action for each in self._grave if each.is_about_emergency]
        return [*dict.fromkeys(filter(None, texts))]

    @property
    def is_blocked(self) -> bool:
        """Whether the policy withholds the answer."""
        return any(map(self.policy.blocks, self.findings))

    @property
    def _grave(self) -> list[Finding]:
        return [each for each in self.findings if RISK_LEVELS[each.severity]]

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, without a word of the answer, the question or the context."""
        return {
            "risk_level": self.risk_level,
            "warnings": self.warnings,
            "blocked": self.is_blocked,
            "findings": [each.to_json() for each in self.findings],
            "not_checked": list(self.not_checked),
            "checked": dict(self.checked),
            "policy": self.policy.to_json(),
        }

    def to_operation_outcome(self) -> dict[str, Any]:
        """The report as a FHIR R4 OperationOutcome, plain data."""
        from medllm.clinical.fhir import build_operation_outcome

        return build_operation_outcome(self)

    @property
    def above(self) -> list[str]:
        """What the policy puts before an answer that it lets through."""
        return [] if self.policy.action == "annotate" else self.escalations

    @property
    def below(self) -> list[str]:
        """What the policy puts after an answer that it lets through."""
        told = [each for each in self._grave if not each.is_about_emergency]
        if self.policy.action == "annotate" or not told:
            return []
        return ["\n".join([TITLE, *map(_line, told)])]

    def render(self, answer: str) -> str:
        """The answer as the policy lets it be shown: as it is, with warnings, or withheld."""
        if self.is_blocked:
            blocking = [each for each in self._grave if self.policy.blocks(each)]
            withheld = "\n".join([WITHHELD, *map(_line, blocking)])
            return "\n\n".join([*self.escalations, withheld, ASK])
        return "\n\n".join([*self.above, answer, *self.below])

    def summary(self) -> str:
        """The report in a sentence."""
        if not self.findings:
            rules = sum(self.checked.values())
            return f"nothing found by {rules:,} rules; what they do not cover is not checked"
        counted = len(self.findings)
        findings = f"{counted} finding{'s' if counted > 1 else ''}"
        return f"{findings}, the worst {worst(self.findings)}: risk level {self.risk_level}"


def _line(finding: Finding) -> str:
    return "- " + " ".join(_sentences(finding))


def _sentences(finding: Finding) -> Iterator[str]:
    basis = finding.basis
    yield finding.message
    if finding.action and not finding.is_about_emergency:
        yield _as_sentence(finding.action)
    year = f", {basis.year}" if basis.year else ""
    yield f"(Source: {basis.source}{year}{'' if basis.verified else '; not verified'}.)"


def _as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An answer as it may be shown, and the report on what was said."""

    text: str
    report: Report
