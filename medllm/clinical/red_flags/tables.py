"""The tables of red flags, and what is wrong in their rows."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from medllm.clinical.red_flags.escalation import PLACES
from medllm.clinical.red_flags.flags import URGENCIES, build_flags
from medllm.clinical.red_flags.said import HIDES
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Row, Table


def _flag_faults(row: Row, tables: Mapping[str, Any]) -> Iterable[str]:
    try:
        row["escalation"].format_map(dict.fromkeys(PLACES, ""))
    except (KeyError, ValueError, IndexError):
        yield f"escalation: known in braces are {', '.join(PLACES)}"
    alone = {"concepts": tables.get("concepts", {}), "red_flags": {row["id"]: row}}
    try:
        build_flags(Knowledge(alone, {}))
    except (ValueError, AttributeError) as problem:
        yield f"pattern: {problem}"


def _aside_faults(row: Row, tables: Mapping[str, Any]) -> Iterable[str]:
    try:
        re.compile(row["pattern"])
    except (re.error, TypeError) as problem:
        yield f"pattern: {problem}"


CONCEPTS = Table(
    name="concepts",
    columns=frozenset({"words"}),
    needed=frozenset({"words"}),
    lists=frozenset({"words"}),
)
ASIDES = Table(
    name="asides",
    columns=frozenset({"hides", "pattern"}),
    needed=frozenset({"hides", "pattern"}),
    choices={"hides": HIDES},
    faults=_aside_faults,
)
REGIONS = Table(name="regions", columns=frozenset(PLACES), needed=frozenset(PLACES))
RED_FLAGS = Table(
    name="red_flags",
    columns=frozenset(
        {
            "name",
            "urgency",
            "signs",
            "signs_unverified",
            "must_say",
            "must_not_say",
            "must_not_say_verified",
            "on_condition",
            "escalation",
        }
    ),  # fmt: skip
    needed=frozenset({"name", "urgency", "signs", "escalation"}),
    choices={"urgency": URGENCIES},
    faults=_flag_faults,
)
