"""How a section of a recipe says what is to be done with findings: `review:`."""

from pydantic import Field

from medllm.clinical.finding import Severity
from medllm.clinical.policy import Action, Policy, Region
from medllm.config.base import Place, Strict


class ReviewSettings(Strict):
    """How answers are reviewed against clinical rules."""

    policy: Action = "annotate"
    """`annotate` leaves answers as they are, `append` adds warnings to them and puts what to do in
    an emergency before them, `block` also withholds answers with a finding that may block."""
    block_from: Severity = "contraindicated"
    """The least severity that withholds an answer under `block`."""
    block_unverified: bool = False
    """Whether rules that nobody has verified may withhold an answer, too."""
    region: Region | None = None
    """Whose emergency numbers and names are given; without one no number is given."""
    rules: Place | None = None
    """A folder of rules of your own (YAML, and CSV of interactions) that join those of medllm."""
    context: str | None = Field(default=None, min_length=1)
    """The column with what is known of the patient; default: `patient` or `context`."""

    def build_policy(self) -> Policy:
        """The policy that these settings say."""
        return Policy(
            action=self.policy,
            block_from=self.block_from,
            block_unverified=self.block_unverified,
            region=self.region,
        )
