"""Conversations with a rubric, as HealthBench's file has them (Arora et al. 2025)."""

from collections.abc import Mapping, Sequence
from typing import Any

from medllm.data.example import Example, Message, Rejected
from medllm.data.left_out import LeftOut
from medllm.data.readers.rows import Row
from medllm.data.shapes.columns import Columns
from medllm.data.shapes.values import clean, text_of

RUBRICS = "rubrics"
"""The metadata that holds the criteria, as [criterion, points, tags]."""
READ = frozenset({"prompt", "prompt_id", RUBRICS, "example_tags", "ideal_completions_data"})
ROLES = ("system", "user", "assistant")


def read_rubrics(dataset: str, number: int, row: Row, columns: Columns) -> Example | Rejected:
    """A conversation that ends with the user, its criteria, and the ideal answer where one is."""
    identity = f"{dataset}/{row.get('prompt_id') or number}"
    try:
        return Example(
            id=identity,
            dataset=dataset,
            group=identity.partition("/")[2],
            prompt=_read_turns(row.get("prompt")),
            completion=_read_ideal(row.get("ideal_completions_data")),
            metadata={RUBRICS: _read_criteria(row.get(RUBRICS)), **_read_theme(row)},
        )
    except LeftOut as problem:
        return Rejected(identity, str(problem))


def _read_turns(turns: Any) -> tuple[Message, ...]:
    if turns is not None and not isinstance(turns, Sequence):
        raise LeftOut("the prompt is no list of turns")
    return tuple(map(_read_turn, turns or ()))


def _read_turn(turn: Any) -> Message:
    role = turn.get("role") if isinstance(turn, Mapping) else None
    if role not in ROLES:
        raise LeftOut("a turn of the prompt has no known role")
    return Message(role, clean(turn.get("content")))


def _read_criteria(rubrics: Any) -> list[list[Any]]:
    criteria = list[list[Any]]()
    for each in rubrics if isinstance(rubrics, list) else ():
        points = each.get("points") if isinstance(each, Mapping) else None
        if not isinstance(points, int | float) or not text_of(each.get("criterion")):
            raise LeftOut("a criterion has no points or no text")
        criteria.append([text_of(each["criterion"]), points, _listed(each.get("tags"))])
    if not any(each[1] > 0 for each in criteria):
        raise LeftOut("no criterion has positive points")
    return criteria


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _read_ideal(found: Any) -> str:
    return text_of(found.get("ideal_completion")) if isinstance(found, Mapping) else ""


def _read_theme(row: Row) -> dict[str, str]:
    tags = [str(tag) for tag in _listed(row.get("example_tags"))]
    themes = [tag.removeprefix("theme:") for tag in tags if tag.startswith("theme:")]
    return {"theme": themes[0]} if themes else {}
