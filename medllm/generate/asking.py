"""Conversations → whole answers, together where an engine can; what is too long in pieces."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from medllm.data.example import Message
from medllm.engines.base import Engine, GenerateRequest, Generates
from medllm.engines.many import Written, write_answers
from medllm.engines.prompts import ask_messages, leaves_room
from medllm.engines.sampling import Sampling
from medllm.errors import DataError
from medllm.generate.config import OverLength
from medllm.models.chat.pieces import JOINT, split_text
from medllm.models.chat.prompts import UnfitPrompt

MOST_PIECES = 64
"""A text that needs more is not read at all."""

Conversation = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; that of a conversation in pieces has those of the pieces below each other."""

    text: str
    tokens: int
    finish_reason: str
    logprob: float | None
    """The mean log-likelihood of its tokens, in nats; None where it is unknown."""
    pieces: int = 1


@dataclass(frozen=True, slots=True)
class Asking:
    """How conversations are put to a model."""

    sampling: Sampling
    over_length: OverLength = "refuse"
    instruction: str = ""
    """Stands before each piece of a message that begins with it."""


def ask_all(
    engine: Generates, conversations: Sequence[Conversation], asking: Asking
) -> Generator[tuple[int, Answer | DataError]]:
    """The answers as each is whole, with the place of its conversation, in any order."""
    flat: list[GenerateRequest] = []
    owners: list[int] = []
    parts: dict[int, dict[int, Written]] = {}
    wanted: dict[int, int] = {}
    for place, messages in enumerate(conversations):
        try:
            requests = _requests_of(engine, messages, asking)
        except DataError as problem:
            yield place, problem
            continue
        parts[place], wanted[place] = {}, len(requests)
        flat += requests
        owners += [place] * len(requests)
    with closing(write_answers(engine, flat)) as outcomes:
        for number, outcome in outcomes:
            place = owners[number]
            if place not in parts:
                continue  # another piece of it failed
            if isinstance(outcome, DataError):
                del parts[place]
                yield place, outcome
                continue
            parts[place][number] = outcome
            if len(parts[place]) == wanted[place]:
                yield place, _join([each for _, each in sorted(parts.pop(place).items())])


def _requests_of(engine: Engine, messages: Conversation, asking: Asking) -> list[GenerateRequest]:
    """The request of a conversation, or those of its pieces, as few as leave room for answers.

    Raises:
        DataError: it leaves no room for an answer, or the chat template refuses it.
    """
    sampling = asking.sampling
    if asking.over_length == "refuse":
        return [ask_messages(engine, messages, sampling)]
    for count in range(1, MOST_PIECES + 1):
        try:
            parts = split_messages(messages, count, asking.instruction)
            requests = [ask_messages(engine, part, sampling) for part in parts]
        except UnfitPrompt:
            if count == MOST_PIECES:
                raise
            continue
        if all(leaves_room(engine, each) for each in requests) or count == MOST_PIECES:
            return requests
    raise AssertionError


def split_messages(messages: Conversation, count: int, instruction: str = "") -> list[Conversation]:
    """The conversation so many times, each with another piece of its longest message.

    An instruction that this begins with stands before each piece.
    """
    if count == 1:
        return [messages]
    at = max(range(len(messages)), key=lambda place: len(messages[place].content))
    text = messages[at].content
    first = instruction if text.startswith(instruction) else ""
    pieces = split_text(text.removeprefix(first), count)
    return [
        (*messages[:at], replace(messages[at], content=first + piece), *messages[at + 1 :])
        for piece in pieces
    ]


def _join(written: Sequence[Written]) -> Answer:
    tokens = sum(each.tokens for each in written)
    known = [each.logprob * each.tokens for each in written if each.logprob is not None]
    logprob = sum(known) / tokens if tokens and len(known) == len(written) else None
    reason = "length" if any(each.finish_reason == "length" for each in written) else "stop"
    text = JOINT.join(each.text for each in written)
    return Answer(text, tokens, reason, logprob, len(written))
