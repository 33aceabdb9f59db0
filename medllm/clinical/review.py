"""The one door of the rules: `review_answer`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medllm.clinical.case import Case
from medllm.clinical.families import FAMILIES
from medllm.clinical.finding import RISK_LEVELS, SEVERITIES, Finding, NotChecked, worst
from medllm.clinical.patient import read_patient
from medllm.clinical.policy import Policy
from medllm.clinical.rules.knowledge import Knowledge, shipped_knowledge
from medllm.clinical.text.reading import read


@dataclass(frozen=True, slots=True)
class Report:
    """What a review found, the worst first, and what no rule covers."""

    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...]
    policy: Policy

    @property
    def risk_level(self) -> int:
        """0 nothing (or notes alone), 1 minor or moderate, 2 major, 3 contraindicated."""
        severity = worst(self.findings)
        return RISK_LEVELS[severity] if severity else 0

    @property
    def warnings(self) -> list[str]:
        """The messages of the findings that are more than notes."""
        return [each.message for each in self.findings if RISK_LEVELS[each.severity]]

    @property
    def is_blocked(self) -> bool:
        """Whether the policy withholds the answer."""
        return any(map(self.policy.blocks, self.findings))


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An answer as it may be shown, and the report on what was said."""

    text: str
    report: Report


def review_answer(
    answer: str,
    *,
    question: str = "",
    context: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    knowledge: Knowledge | None = None,
) -> Reviewed:
    """Review an answer to a question, given what is known of the patient.

    `context` is a patient as plain data (see `Patient`); `knowledge` the rules, by default those
    that ship. A safety net, no medical device: what it does not find may still be wrong.

    Raises:
        DataError: the context has an unknown key, or a value that is not of its kind.
    """
    policy = policy or Policy()
    rules = knowledge or shipped_knowledge()
    case = Case(read(answer), read(question), read_patient(context), rules, policy)
    found = [each for family in FAMILIES for each in family(case)]
    findings = sorted(
        (each for each in found if isinstance(each, Finding)),
        key=lambda each: (-SEVERITIES.index(each.severity), each.spans, each.rule),
    )
    unknown = dict.fromkeys(str(each) for each in found if isinstance(each, NotChecked))
    return Reviewed(answer, Report(tuple(findings), tuple(unknown), policy))
