"""Generated: the base of every kind whose items a model answers in its own words.

A kind that builds on it says in `judge` how one answer is scored, and in `sum_up` what follows of
all; what needs all answers at once, or the model again, comes from `judge_together`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from medllm import console
from medllm.data.example import Example
from medllm.engines.base import Engine, GenerateRequest, Generates, require
from medllm.engines.many import Outcome, Written, write_answers
from medllm.engines.prompts import ask_messages, leaves_room
from medllm.engines.row_file import Row, RowFile
from medllm.engines.sampling import Sampling
from medllm.errors import DataError
from medllm.evaluate.clinical.languages import announce_languages
from medllm.evaluate.clinical.replies import is_only_refusal
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import MOST_FREQUENT, Asking, Column, Record
from medllm.evaluate.kinds.pieces import JOINT, split_item
from medllm.measures.intervals import (
    Estimate,
    estimate_part,
    estimate_ratio,
    estimate_share,
    without_certainty,
)
from medllm.measures.likelihood import NotAsked
from medllm.measures.text.answers import repeated_share, written_whole
from medllm.models.chat.prompts import UnfitPrompt
from medllm.tasks.spec import Generation

TOO_LONG = "the prompt leaves no room for an answer"
MOST_PIECES = 64
"""A text that needs more is not read at all."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An item, and what the model wrote for it."""

    item: Example
    text: str
    tokens: int
    finish_reason: str
    """"length" where `max_tokens` or the end of the context cut it."""
    logprob: float | None = None
    """The mean log-likelihood of its tokens, in nats; None where the engine gives none."""
    pieces: int = 1
    """In how many pieces the prompt was read."""

    @property
    def whole(self) -> str:
        """The text up to where it was cut, if it was, without half a number or name."""
        return written_whole(self.text, self.finish_reason)


class Generated:
    """Answers of a model in its own words; a kind builds on it with `judge` and `sum_up`.

    A record has `id`, `finish_reason`, `answer_tokens`, `answer_empty`, `repeated` (the share of
    runs of four words that stood there before), `refused`, `mean_logprob` where it is known,
    `pieces` where there are several, and what `judge` gives. It has the texts, `answer` and
    `reference`, only where `Asking.shows_text`. No score may be called `target`, `tokens` or
    `logprob`: by these names records of other kinds are compared.
    """

    ability: type[Engine] = Generates
    takes_examples = False
    settings: frozenset[str] = frozenset()
    measure = "items"
    higher_is_better = True
    needs_reference = True
    """Whether an item without a `completion` cannot be scored."""
    reads_english = False
    """Whether rules that read English alone judge the answers."""
    headings: Mapping[str, str] = {}
    """The scores that the table shows, with their headings."""

    def lacking(self, item: Example) -> str | None:
        """A question, or the answer that it is scored by."""
        if not item.prompt:
            return "no prompt"
        return "no completion" if self.needs_reference and not item.completion.strip() else None

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """Always, as in training and in use."""
        return True

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """What the model writes for each item, and how that is judged."""
        asking.notes["generation"] = asking.spec.generation.model_dump(mode="json")
        outcomes = self.write(engine, items, asking)
        records: list[Record] = []
        with console.progress(f"{asking.what}, scored", len(outcomes)) as advance:
            for each in outcomes:
                if isinstance(each, NotAsked):
                    records.append(asdict(each))
                else:
                    records.append(self._record(each, asking))
                advance(1)
        answered = [each for each in outcomes if isinstance(each, Answered)]
        if self.reads_english:
            texts = [[turn.content for turn in each.item.prompt] for each in answered]
            written = [
                [*asked, each.item.completion, each.text]
                for asked, each in zip(texts, answered, strict=True)
            ]
            asking.notes["not_english"] = announce_languages(asking.what, written)
        together = iter(self.judge_together(engine, answered, asking))
        return [
            record if isinstance(each, NotAsked) else {**record, **next(together)}
            for record, each in zip(records, outcomes, strict=True)
        ]

    def write(
        self, engine: Engine, items: Sequence[Example], asking: Asking
    ) -> list[Answered | NotAsked]:
        """What the model writes for each item, or why it was not asked, in their order."""
        requests = [self._try(engine, item, asking) for item in items]
        flat = [one for each in requests if isinstance(each, list) for one in each]
        written = _write(require(engine, Generates, "evaluate"), flat, asking)
        replies = iter(written)
        outcomes: list[Answered | NotAsked] = []
        for item, asked in zip(items, requests, strict=True):
            if isinstance(asked, NotAsked):
                outcomes.append(asked)
            else:
                outcomes.append(_join(item, [next(replies) for _ in asked]))
        _announce_cut(asking.what, outcomes)
        return outcomes

    def request(self, engine: Engine, item: Example, sampling: Sampling) -> GenerateRequest:
        """What the engine is asked for an item.

        Raises:
            DataError: it cannot be put to the model.
        """
        return ask_messages(engine, item.prompt, sampling)

    def judge(self, answered: Answered, asking: Asking) -> Record:
        """The scores of one answer, as plain data; without text unless `asking.shows_text`."""
        return {}

    def judge_together(
        self, engine: Engine, answered: Sequence[Answered], asking: Asking
    ) -> Iterable[Record]:
        """Further scores of each answer, from what is better done for all at once."""
        return [{} for _ in answered]

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """How many answers were cut or are empty, their length, and what the kind makes of them."""
        lengths = [record["answer_tokens"] for record in records]
        return {
            "items": len(records),
            "answers_cut": sum(record["finish_reason"] == "length" for record in records),
            "answers_empty": sum(record["answer_empty"] for record in records),
            "answer_tokens": sum(lengths) / len(lengths),
            "in_pieces": sum(record.get("pieces", 1) > 1 for record in records),
            self.measure: None,
            **self.sum_up(records),
        }

    def sum_up(self, records: Sequence[Record]) -> dict[str, Any]:
        """The numbers of all answers, with their intervals."""
        return {}

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """The scores of `headings` that there are, with their intervals; first the trivial one."""
        shown = {self.measure: self.measure, **self.headings}
        found = [
            Column(heading, cell_of(score, key))
            for key, heading in shown.items()
            if key == self.measure or score.get(key) is not None
        ]
        heading = f"{score['task']} {found[0].heading}\nn = {score['items']}"
        trivial = score.get("majority")
        beside = {} if trivial is None else {MOST_FREQUENT: f"{trivial:.3f}"}
        return [Column(heading, found[0].cell, beside), *found[1:]]

    def _try(
        self, engine: Engine, item: Example, asking: Asking
    ) -> list[GenerateRequest] | NotAsked:
        """The requests of an item: one, or one for each piece of what is too long."""
        wanted = asking.spec.generation
        sampling = sampling_of(wanted, asking.config.seed)
        may_split = wanted.over_length == "split"
        for count in range(1, MOST_PIECES + 1 if may_split else 2):
            parts = split_item(item, count, asking.spec.instruction)
            try:
                requests = [self.request(engine, part, sampling) for part in parts]
            except UnfitPrompt:
                continue
            except DataError as problem:  # the chat template refuses the messages
                return NotAsked(item.id, problem.message)
            if all(leaves_room(engine, each, may_split=may_split) for each in requests):
                return requests
        return NotAsked(item.id, TOO_LONG)

    def _record(self, answered: Answered, asking: Asking) -> Record:
        record: Record = {
            "id": answered.item.id,
            "finish_reason": answered.finish_reason,
            "answer_tokens": answered.tokens,
            "answer_empty": not answered.text.strip(),
            "repeated": repeated_share(answered.text),
            "refused": is_only_refusal(answered.text),
        }
        if answered.logprob is not None:
            record["mean_logprob"] = answered.logprob
        if answered.pieces > 1:
            record["pieces"] = answered.pieces
        if asking.shows_text:
            record |= {"answer": answered.text, "reference": answered.item.completion}
        return record | self.judge(answered, asking)


def sampling_of(wanted: Generation, seed: int) -> Sampling:
    """How a task has answers written, as an engine takes it."""
    return Sampling(**wanted.model_dump(exclude={"over_length"}), seed=seed)


def mean_of(records: Sequence[Record], key: str) -> dict[str, Any]:
    """The mean of a score with its 95 % interval, bootstrapped by groups where they repeat.

    It is over the records that have the score; where these are not all, `<key>_items` says how
    many. Where none has it there is nothing.
    """
    return _of(
        records, key,
        lambda found: without_certainty(estimate_ratio(*_ones(found, key), groups_of(found))),
    )  # fmt: skip


def share_of(records: Sequence[Record], key: str) -> dict[str, Any]:
    """The share of records in which something holds, with its 95 % interval, also by groups."""
    return _of(
        records, key, lambda found: estimate_share([bool(each[key]) for each in found],
                                                   groups_of(found))
    )  # fmt: skip


def ratio_of(records: Sequence[Record], key: str, parts: str, wholes: str) -> dict[str, Any]:
    """The share of some counts in others, as of right spans in all spans, with its interval.

    What one record, or one group, holds is alike, and counts as no more than it tells.
    """
    found = [record for record in records if record.get(wholes)]
    if not found:
        return {}
    right, of = [float(each[parts]) for each in found], [each[wholes] for each in found]
    share = estimate_part(right, of, groups_of(found))
    return {**ends(key, share), f"{key}_of": sum(of)}


def groups_of(records: Sequence[Record]) -> list[str]:
    """Of each record its patient, or whatever else records share; else its own id."""
    return [str(record.get("group", record["id"])) for record in records]


def _of(records: Sequence[Record], key: str, estimate: Any) -> dict[str, Any]:
    found = [record for record in records if record.get(key) is not None]
    if not found:
        return {}
    told = ends(key, estimate(found))
    return told if len(found) == len(records) else {**told, f"{key}_items": len(found)}


def _ones(records: Sequence[Record], key: str) -> tuple[list[float], list[int]]:
    return [float(record[key]) for record in records], [1] * len(records)


def ends(key: str, estimate: Estimate) -> dict[str, Any]:
    """A value and its interval, under the names that they have in a score."""
    return {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}


def cell_of(score: Mapping[str, Any], key: str, digits: int = 3) -> str:
    """A value over its interval, for the table."""
    if score[key] is None:
        return "not measured"
    low, high = score.get(f"{key}_low"), score.get(f"{key}_high")
    is_known = low is not None and high is not None
    interval = f"{low:.{digits}f}–{high:.{digits}f}" if is_known else "no interval"
    return f"{score[key]:.{digits}f}\n{interval}"


def percent_of(score: Mapping[str, Any], key: str) -> str:
    """The same of a share, in percent."""
    ends = {f"{key}{end}": score.get(f"{key}{end}") for end in ("", "_low", "_high")}
    cell = cell_of({name: each and 100 * each for name, each in ends.items()}, key, 1)
    return cell.replace("\n", "%\n")


def _write(engine: Generates, requests: Sequence[GenerateRequest], asking: Asking) -> list[Outcome]:
    """The answers in the order of the requests, written in batches.

    Each is on the disk as soon as it is whole, and is not written again by a run that goes on.
    """
    with _kept(asking) as (known, add), console.progress(asking.what, len(requests)) as advance:
        replies = {number: _reply_of(row) for number, row in known.items()}
        left = [number for number in range(len(requests)) if number not in replies]
        advance(len(replies))
        for place, reply in write_answers(engine, [requests[number] for number in left]):
            replies[left[place]] = reply
            add(left[place], _row_of(reply))
            advance(1)
    return [replies[place] for place in range(len(requests))]


@contextmanager
def _kept(asking: Asking) -> Iterator[tuple[dict[int, Row], Callable[[int, Row], None]]]:
    """What an interrupted run wrote, and what takes each further answer, where they are kept."""
    if asking.written is None:
        yield {}, _forget
        return
    file = RowFile(asking.written)
    with file.adding() as add:
        yield file.rows(), add


def _forget(number: int, row: Row) -> None:
    """Nothing is kept."""


def _row_of(reply: Outcome) -> Row:
    """An answer, or why there is none, as a row of a file."""
    if isinstance(reply, DataError):
        return {"error": reply.message, "fix": reply.fix}
    return asdict(reply)


def _reply_of(row: Row) -> Outcome:
    return DataError(row["error"], row["fix"]) if "error" in row else Written(**row)


def _join(item: Example, replies: Sequence[Written | DataError]) -> Answered | NotAsked:
    """The answer of an item; those of its pieces stand below each other."""
    written = []
    for reply in replies:
        if isinstance(reply, DataError):
            return NotAsked(item.id, reply.message)
        written.append(reply)
    is_cut = any(each.finish_reason == "length" for each in written)
    known = [each for each in written if each.logprob is not None]
    tokens = sum(each.tokens for each in written)
    logprob = None
    if len(known) == len(written) and tokens:
        logprob = sum((each.logprob or 0.0) * each.tokens for each in known) / tokens
    text = JOINT.join(each.text for each in written)
    return Answered(item, text, tokens, "length" if is_cut else "stop", logprob, len(written))


def _announce_cut(what: str, outcomes: Sequence[Answered | NotAsked]) -> None:
    answered = [each for each in outcomes if isinstance(each, Answered)]
    cut = sum(each.finish_reason == "length" for each in answered)
    if cut:
        console.notice(
            f"{what}: {cut} of {len(answered)} answers were cut at max_tokens or at the end of "
            "the context"
        )
