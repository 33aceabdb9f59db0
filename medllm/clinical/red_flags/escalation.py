"""What to do in an emergency, in the numbers and names of a region."""

from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row

NOWHERE = "anywhere"
"""The row of `regions` without a number, for where none is set."""
PLACES = ("emergency", "department", "crisis", "poison", "urgent")
"""What an escalation may name in braces: columns of `regions`."""


def render_escalation(text: str, region: str | None, knowledge: Knowledge) -> str:
    """The text with the region's numbers and names; without a region it has no number."""
    rows = knowledge.tables.get("regions", {})
    row: Row = rows[region or NOWHERE]
    return text.format_map({place: row[place] for place in PLACES})
