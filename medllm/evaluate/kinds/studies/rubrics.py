"""Rubrics: criteria of people, each met or not, as a model at an address judges it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

from medllm import console
from medllm.data.example import Example, Message
from medllm.data.shapes.rubrics import RUBRICS
from medllm.engines.base import Engine, GenerateRequest, Sampling
from medllm.engines.many import write_answers
from medllm.engines.servers.address import AddressEngine
from medllm.errors import ConfigError, DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Record
from medllm.evaluate.kinds.generated import Answered, Generated, ends, groups_of, mean_of
from medllm.evaluate.kinds.studies.criteria_sheet import (
    conversation_of,
    read_sheet,
    verdicts_on,
    write_sheet,
)
from medllm.measures.ratings import measure_agreement
from medllm.models.address import address_in, name_in

QUESTION = """\
Below are a conversation and one criterion. Judge whether the last answer of the assistant meets \
the criterion. Judge the criterion alone, not whether the answer is good: a criterion may describe \
something that an answer should not do, and is met where the answer does it. Where it has several \
parts, all of them must be met; examples that it names after "such as" or "including" need not be.

Conversation:
{conversation}

Criterion:
{criterion}

Answer with a JSON object and nothing else: {{"explanation": "one sentence", \
"criteria_met": true}} or the same with false."""
"""Not OpenAI's own words, so scores differ a little from those that its program gives."""
VERDICT = re.compile(r"(?i)criteria_met\W{0,6}[:=]\W{0,6}(true|false)\b")
SAMPLING = Sampling(max_tokens=512)


class Rubrics(Generated):
    """Answers by the points of the criteria that they meet, of those that can be had."""

    settings = frozenset({"judge", "judge_sheet"})
    measure = "rubric_score"
    needs_reference = False
    headings: Mapping[str, str] = {"unjudged": "unjudged", "judge_kappa": "kappa of the judge"}

    def lacking(self, item: Example) -> str | None:
        """Criteria."""
        return super().lacking(item) or (None if item.metadata.get(RUBRICS) else "no criteria")

    def decides(self, config: EvaluateConfig) -> dict[str, Any]:
        """Who judges, how it is asked, and the sheet that it is compared with.

        Raises:
            ConfigError: nobody is named who judges.
        """
        if not config.judge:
            fix = "--set evaluate.judge=http://127.0.0.1:8000#NAME"
            raise ConfigError("criteria need a model that judges, and none is named", fix)
        path = config.judge_sheet
        sheet = [asdict(each) for each in read_sheet(path)] if path else None
        return {"judge": config.judge, "judge_asked": QUESTION, "judge_sheet": sheet}

    def judge_together(
        self, engine: Engine, answered: Sequence[Answered], asking: Asking
    ) -> Iterable[Record]:
        """Which criteria each answer meets, as the judge says, and people where a sheet tells."""
        config = asking.config
        if not config.judge:
            return [{"met": [], "rubric_score": None} for _ in answered]
        requests = [
            GenerateRequest(sampling=SAMPLING, messages=(Message("user", question),))
            for each in answered
            for question in _questions(each)
        ]
        with closing(AddressEngine(address_in(config.judge), name_in(config.judge))) as judge:
            asking.notes["judge"] = judge.asked
            verdicts = iter(_ask(judge, requests, f"{asking.what}, criteria"))
        sheet = config.judge_sheet
        people = verdicts_on(sheet, answered, asking.what) if sheet else {}
        _offer_sheet(answered, asking)
        return [_scored(each, verdicts, people.get(each.item.id, {})) for each in answered]

    def sum_up(self, records: Sequence[Record]) -> dict[str, Any]:
        """The mean score, clipped to 0 to 1 as HealthBench's, by axis too, and the kappa."""
        clipped = {
            key: min(max(value, 0.0), 1.0) if key.startswith(self.measure) and value is not None
            and not key.endswith("_items") else value
            for key, value in mean_of(records, self.measure).items()
        }  # fmt: skip
        met = [each for record in records for each in record["met"]]
        numbers: dict[str, Any] = {**clipped, "criteria": len(met)}
        if met:
            numbers["unjudged"] = sum(each is None for each in met) / len(met)
        return numbers | _by_axis(records) | _agreement(records)


def read_verdict(answer: str) -> bool | None:
    """Whether a judge says that a criterion is met; None where it says neither, or both."""
    found = {each.lower() for each in VERDICT.findall(answer)}
    return found == {"true"} if len(found) == 1 else None


def score_rubric(criteria: Sequence[Sequence[Any]], met: Sequence[bool | None]) -> float | None:
    """The points of what is met over the positive points; None where a criterion is not judged."""
    possible = sum(points for _, points, _ in criteria if points > 0)
    if not possible or None in met:
        return None
    won = sum(each[1] for each, is_met in zip(criteria, met, strict=True) if is_met)
    return float(won / possible)


def _offer_sheet(answered: Sequence[Answered], asking: Asking) -> None:
    """Write the empty sheet that people may fill in, beside the records."""
    if asking.written is None or asking.config.judge_sheet or not answered:
        return
    if not asking.shows_text:
        console.notice(f"{asking.what}: no sheet for people to judge by, as it would hold texts of "
                       "data that are not open: --set evaluate.show_text=true")  # fmt: skip
        return
    name = asking.written.name.removesuffix(".answers.jsonl")
    write_sheet(asking.written.with_name(f"{name}.criteria.csv"), answered, asking.config.seed)


def _questions(answered: Answered) -> Iterator[str]:
    conversation = f"{conversation_of(answered)}\n\nassistant: {answered.text}"
    for criterion, points, _ in answered.item.metadata.get(RUBRICS, ()):
        told = f"{criterion} ({points:g} points)"
        yield QUESTION.format(conversation=conversation, criterion=told)


def _ask(judge: AddressEngine, requests: Sequence[GenerateRequest], what: str) -> list[bool | None]:
    verdicts: list[bool | None] = [None] * len(requests)
    with console.progress(what, len(requests)) as advance:
        for place, written in write_answers(judge, requests):
            if not isinstance(written, DataError):
                verdicts[place] = read_verdict(written.text)
            advance(1)
    if lost := verdicts.count(None):
        console.notice(f"{what}: the judge does not settle {lost} of {len(verdicts)}: it refuses, "
                       "or its answer has no criteria_met, true or false")  # fmt: skip
    return verdicts


def _scored(
    answered: Answered, verdicts: Iterator[bool | None], people: Mapping[int, bool]
) -> Record:
    criteria = answered.item.metadata.get(RUBRICS, [])
    met = [next(verdicts) for _ in criteria]
    record: Record = {"met": met, "rubric_score": score_rubric(criteria, met)}
    axes: defaultdict[str, list[int]] = defaultdict(list)
    for at, (_, _, tags) in enumerate(criteria):
        for tag in tags:
            if str(tag).startswith("axis:"):
                axes[str(tag).removeprefix("axis:")].append(at)
    scored = {
        axis: score_rubric([criteria[at] for at in places], [met[at] for at in places])
        for axis, places in axes.items()
    }
    record["by_axis"] = {axis: score for axis, score in scored.items() if score is not None}
    if people:
        record["by_people"] = [people.get(number + 1) for number in range(len(criteria))]
    return record


def _by_axis(records: Sequence[Record]) -> dict[str, Any]:
    axes = sorted({axis for record in records for axis in record.get("by_axis", {})})
    told = {}
    for axis in axes:
        rows = [{**record, axis: record.get("by_axis", {}).get(axis)} for record in records]
        told[axis] = mean_of(rows, axis)
    return {"by_axis": told} if told else {}


def _agreement(records: Sequence[Record]) -> dict[str, Any]:
    """Cohen's kappa of the judge and people, over the criteria that both judged."""
    pairs, groups = [], []
    for record, group in zip(records, groups_of(records), strict=True):
        for ours, theirs in zip(record["met"], record.get("by_people", ()), strict=False):
            if ours is not None and theirs is not None:
                pairs.append([int(ours), int(theirs)])
                groups.append(group)
    found = measure_agreement(pairs, 2, ordered=False, groups=groups) if pairs else None
    if not found:
        return {}
    kappa = ends("judge_kappa", found.kappa) if found.kappa else {"judge_kappa": None}
    return {"judge_compared": found.items, **ends("judge_alike", found.alike), **kappa}
