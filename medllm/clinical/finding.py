"""What a review finds in an answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from medllm.clinical.rules.basis import Basis
from medllm.clinical.text.reading import Span

Severity = Literal["info", "minor", "moderate", "major", "contraindicated"]
SEVERITIES: tuple[Severity, ...] = ("info", "minor", "moderate", "major", "contraindicated")
"""From the least to the worst."""
KINDS = (
    "dose", "interaction", "same ingredient", "contraindication", "allergy", "red flag", "missing",
    "look-alike", "abbreviation", "unknown word", "measurement", "language", "wording",
)  # fmt: skip
RISK_LEVELS = {"info": 0, "minor": 1, "moderate": 1, "major": 2, "contraindicated": 3}
"""The risk level of a report is that of its worst finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding of a rule.

    `message` is one sentence in plain English of names and numbers that the rules hold or the
    answer states; `spans` are the characters of the answer (or of the question, where `where`
    says so) that it rests on; a finding of kind "missing" may have none.
    """

    rule: str
    kind: str
    severity: Severity
    message: str
    basis: Basis
    action: str = ""
    spans: tuple[Span, ...] = ()
    where: Literal["answer", "question"] = "answer"

    @property
    def is_about_emergency(self) -> bool:
        """Whether its action is what to do at once."""
        return self.kind in {"red flag", "missing"}

    def to_json(self) -> dict[str, Any]:
        """The finding as plain data; its form is that of `medllm review --json`."""
        basis = self.basis
        return {
            "rule": self.rule,
            "kind": self.kind,
            "severity": self.severity,
            "message": self.message,
            "action": self.action,
            "source": basis.source,
            "source_kind": basis.source_kind,
            "year": basis.year,
            "verified": basis.verified,
            "readings": list(basis.readings),
            "reviewed_by": basis.reviewed_by,
            "reviewed_on": basis.reviewed_on,
            "where": self.where,
            "offsets": [list(span) for span in self.spans],
        }


@dataclass(frozen=True, slots=True)
class NotChecked:
    """What the rules cannot say anything about, such as a drug that no table of doses holds."""

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def worst(findings: Iterable[Finding]) -> Severity | None:
    """The worst severity among findings, or none where there are none."""
    return max((each.severity for each in findings), key=SEVERITIES.index, default=None)
