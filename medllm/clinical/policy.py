"""What an operator wants done with findings."""

from dataclasses import dataclass
from typing import Literal

from medllm.clinical.finding import SEVERITIES, Finding, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a review acts.

    `action`: `annotate` leaves the answer as it is, `append` adds the warnings below it, `block`
    withholds an answer with a finding of `block_from` or worse that may block. `region` chooses
    emergency numbers and names; without one no number is given. `block_unverified` lets rules
    block that nobody has verified; the report says so.
    """

    action: Literal["annotate", "append", "block"] = "annotate"
    block_from: Severity = "contraindicated"
    block_unverified: bool = False
    region: Literal["us", "uk", "in", "eu"] | None = None

    def blocks(self, finding: Finding) -> bool:
        """Whether this finding withholds the answer."""
        return (
            self.action == "block"
            and SEVERITIES.index(finding.severity) >= SEVERITIES.index(self.block_from)
            and finding.basis.may_block(block_unverified=self.block_unverified)
        )
