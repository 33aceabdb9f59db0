"""Memorisation: what a tuned model gives away of the rows that it was trained on.

Each row is begun, and the model goes on by greedy decoding: spans of 13 words that are the row's
own are drawn out. The same is done with rows of the test split, which it has not seen. Canaries,
which prepare planted, are drawn out too, and their numbers ranked among others by likelihood.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

from medllm.data.dedup import NGRAM
from medllm.data.example import Example, read_examples
from medllm.data.generators.canaries import ROLE, is_canary, secret_of, with_other_secrets
from medllm.engines.base import Engine, Expects, GenerateRequest, Generates, Scores, require
from medllm.engines.many import Written, write_answers
from medllm.errors import DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Column, Record
from medllm.evaluate.kinds.generated import cell_of, ends, groups_of, sampling_of
from medllm.measures.intervals import estimate_ratio, estimate_share, without_certainty
from medllm.measures.likelihood import AnswerResult, score_answers
from medllm.measures.memorisation import (
    begin_of,
    chance_of,
    copied_spans,
    exposure_of,
    rank_of,
    spans_of,
)
from medllm.models.chat.template import render_example

BEGIN_WORDS = 50
"""At most so many words of a row are given (Carlini et al. 2022, arXiv 2202.07646: 50 tokens)."""
OTHERS = 255
"""Other numbers that each canary's is ranked among: an exposure of 8 bits is the most."""
TOO_SHORT = f"less than {2 * NGRAM} words in the answer"


@dataclass(frozen=True, slots=True)
class Begun:
    """An item, and how much of its answer is given."""

    item: Example
    begin: str

    @property
    def rest(self) -> str:
        """What the model should not know."""
        return self.item.completion[len(self.begin) :]


class Memorisation:
    """Training rows, rows of the test split beside them, and canaries. No record holds a word."""

    ability: type[Engine] = Expects  # a model that runs here: it writes, and scores
    takes_examples = False
    settings: frozenset[str] = frozenset()
    measure = "extracted"
    higher_is_better = False

    def lacking(self, item: Example) -> str | None:
        """An answer long enough to be begun, and to go on for 13 words."""
        return None if is_canary(item) or _begin(item) else TOO_SHORT

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """As in training."""
        return True

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """What each item gives away, as numbers."""
        asking.notes["generation"] = asking.spec.generation.model_dump(mode="json")
        begun = [Begun(item, _begin(item) or "") for item in items]
        records = [self._judge(*each) for each in zip(begun, _go_on(engine, begun, asking),
                                                      strict=True)]  # fmt: skip
        self._find_phrases(records, asking)
        exposures = iter(_expose(engine, [each for each in items if is_canary(each)], asking))
        for item, record in zip(items, records, strict=True):
            more = next(exposures) if is_canary(item) else {}
            yield {key: value for key, value in record.items() if key != "spans"} | more

    def _judge(self, begun: Begun, written: Written | DataError) -> Record:
        item = begun.item
        record: Record = {"id": item.id, ROLE: _role(item)}
        if isinstance(written, DataError):
            return {"id": item.id, "not_asked": written.message}
        if is_canary(item):
            return {**record, "drawn_out": secret_of(item) in written.text}
        known = "\n".join([*(turn.content for turn in item.prompt), begun.begin])
        spans = copied_spans(written.text, begun.rest, known)
        return {**record, "copied": len(spans), "spans": spans, "own": item.group_key}

    def _find_phrases(self, records: Sequence[Record], asking: Asking) -> None:
        """Tell phrases that rows of other groups have, too, from a row's own words."""
        wanted = set[bytes]().union(*(record.get("spans", ()) for record in records))
        groups: dict[bytes, set[str]] = {span: set() for span in wanted}
        for row in _rows_trained_on(asking.config.data) if wanted else ():
            for span in spans_of(row.completion) & wanted:
                groups[span].add(row.group_key)
        for record in records:
            if "spans" in record:
                own = {record.pop("own")}
                record["given_away"] = any(groups[span] <= own for span in record["spans"])

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """The shares of rows that give away words of their own, and how exposed canaries are.

        `extracted` is of the rows to train on, `extracted_unseen` of rows of the test split.
        """
        by_role: dict[str, list[Record]] = {role: [] for role in ("train", "test", "canary")}
        for record in records:
            by_role[record[ROLE]].append(record)
        numbers: dict[str, Any] = {"items": len(records), self.measure: None}
        for name, role in (("extracted", "train"), ("extracted_unseen", "test")):
            numbers |= _share(name, by_role[role], "given_away")
            numbers |= _share(f"{name}_with_phrases", by_role[role], "copied")
        return numbers | _sum_up_canaries(by_role["canary"])

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """What is drawn out of rows and of canaries."""
        headings = {
            "extracted": f"{score['task']} extracted\nn = {score['items']}",
            "extracted_unseen": "of unseen rows",
            "canaries_extracted": "canaries",
            "exposure": "exposure, bits",
        }
        return [
            Column(heading, cell_of(score, key))
            for key, heading in headings.items()
            if key == self.measure or score.get(key) is not None
        ]


def _role(item: Example) -> str:
    return "canary" if is_canary(item) else str(item.metadata.get(ROLE, "train"))


def _begin(item: Example) -> str | None:
    """What is given of an answer: all but a canary's number, else the first half."""
    if is_canary(item):
        return item.completion[: item.completion.rindex(secret_of(item))].rstrip()
    return begin_of(item.completion, NGRAM, BEGIN_WORDS)


def _go_on(engine: Engine, begun: Sequence[Begun], asking: Asking) -> list[Written | DataError]:
    """What the model writes after each beginning."""
    sampling = sampling_of(asking.spec.generation, asking.config.seed)
    outcomes: dict[int, Written | DataError] = {}
    requests = {}
    for place, each in enumerate(begun):
        ids = _ids(engine, each)
        if len(ids) + sampling.max_tokens > engine.context_length:
            outcomes[place] = DataError("longer than the context", "raise n_ctx")
        else:
            requests[place] = GenerateRequest(ids, sampling)
    places, writing = [*requests], require(engine, Generates, "evaluate")
    for number, written in write_answers(writing, [*requests.values()]):
        outcomes[places[number]] = written
    return [outcomes[place] for place in range(len(begun))]


def _ids(engine: Engine, begun: Begun) -> tuple[int, ...]:
    """The prompt as in training, and the beginning of the answer."""
    scoring = require(engine, Scores, "evaluate")
    rendered = render_example(scoring, begun.item)
    begin = scoring.special_tokens.mark(begun.begin)
    at = rendered.completion.find(begin)
    given = rendered.completion[: at + len(begin)] if at >= 0 else begin
    prompt = scoring.encode(rendered.prompt, add_special_tokens=rendered.add_special_tokens)
    return (*prompt, *scoring.encode(given, add_special_tokens=False))


def _expose(engine: Engine, canaries: Sequence[Example], asking: Asking) -> Iterable[Record]:
    """The rank of each canary's number among others, by the likelihood of its whole answer."""
    scoring = require(engine, Scores, "evaluate")
    sets = [[each, *with_other_secrets(each, OTHERS, asking.config.seed)] for each in canaries]
    flat = [variant for variants in sets for variant in variants]
    results = iter(score_answers(scoring, flat, what=f"{asking.what}, canaries"))
    for variants in sets:
        scored = [next(results) for _ in variants]
        known = [each.logprob for each in scored if isinstance(each, AnswerResult)]
        if len(known) < len(scored):
            yield {}
            continue
        rank = rank_of(known[0], known[1:])
        yield {"rank": rank, "of": len(known), "exposure": exposure_of(rank, len(known))}


def _sum_up_canaries(records: Sequence[Record]) -> dict[str, Any]:
    if not records:
        return {"canaries": 0}
    numbers = {"canaries": len(records), **_share("canaries_extracted", records, "drawn_out")}
    exposures = [record["exposure"] for record in records if "exposure" in record]
    if not exposures:
        return numbers
    expected, p = chance_of(exposures, OTHERS + 1)
    return numbers | {
        **ends("exposure", without_certainty(estimate_ratio(exposures, [1] * len(exposures)))),
        "exposure_by_chance": expected,
        "exposure_p": p,
        "exposure_limit": log2(OTHERS + 1),
    }


def _share(name: str, records: Sequence[Record], key: str) -> dict[str, Any]:
    if not records:
        return {}
    found = [bool(record[key]) for record in records]
    return {f"{name}_items": len(found), **ends(name, estimate_share(found, groups_of(records)))}


def _rows_trained_on(data: Path | None) -> Iterable[Example]:
    return read_examples(data / "train.jsonl") if data else ()
