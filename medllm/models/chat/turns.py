"""The answers within a conversation: where each stands in the rendered prompt, and its tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os.path import commonprefix

from medllm.data.example import Example, Message
from medllm.errors import MedllmError
from medllm.models.chat.template import Rendered, Template, end_of, join_plain

Span = tuple[int, int]
"""Where something begins and ends."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers that a prompt holds."""

    spans: tuple[Span, ...] = ()
    """In characters of the rendered prompt, each with its end."""
    hidden: int = 0
    """How many are not found: the chat template renders them in another way than new answers."""


def find_answers(template: Template, example: Example, rendered: Rendered) -> Answers:
    """Where the earlier answers of a conversation stand in its rendered prompt."""
    if rendered.is_plain:
        return Answers(tuple(_find_plain(template, example.prompt, rendered)))
    turns, spans, at = example.prompt, [], 0
    places = [n for n, turn in enumerate(turns) if turn.role == "assistant"]
    for place in places:
        if span := _find(template, turns[: place + 1], rendered, at):
            spans.append(span)
            at = span[1]
    return Answers(tuple(spans), len(places) - len(spans))


def _find_plain(template: Template, turns: Sequence[Message], rendered: Rendered) -> Iterator[Span]:
    """Where answers stand among lines without a template, behind whatever comes before these."""
    at = len(rendered.prompt) - len(join_plain(template, turns))
    for turn in turns:
        end = at + len(template.special_tokens.mark(turn.content))
        if turn.role == "assistant" and end > at:
            yield at, end
        at = end + 1


def _find(
    template: Template, turns: Sequence[Message], rendered: Rendered, after: int
) -> Span | None:
    """Where the last of some turns stands, which is an answer; not before `after`."""
    answer, prompt = template.special_tokens.mark(turns[-1].content).strip(), rendered.prompt
    try:
        before = template.render(turns[:-1])
    except MedllmError:  # it begins with an answer, and some templates look at a first message
        return None
    begin = len(before)
    text = begin + len(prompt[begin:]) - len(prompt[begin:].lstrip())
    if begin < after or not answer or not prompt.startswith(before):
        return None
    if not prompt.startswith(answer, text):
        return None
    end = text + len(answer)
    return begin, end + _end(template, prompt[end:], rendered)


def _end(template: Template, following: str, rendered: Rendered) -> int:
    """How many of the characters after an answer are its end: none of an end in plain text."""
    if not end_of(template, rendered.tail):
        return 0
    tails = (rendered.tail, rendered.tail.rstrip())
    return next((len(tail) for tail in tails if following.startswith(tail)), 0)


def encode_parts(
    template: Template, rendered: Rendered, answers: Answers
) -> Iterator[tuple[list[int], int]]:
    """The token ids of a prompt, cut where its answers begin; how many of each part are answer.

    They are cut as they are where a model answers; the first part holds no answer.
    """
    prompt = rendered.prompt
    begins = [begin for begin, _ in answers.spans]
    first = prompt[: begins[0]] if begins else prompt
    yield template.encode(first, add_special_tokens=rendered.add_special_tokens), 0
    ends = [end for _, end in answers.spans]
    for (begin, stop), end in zip(pairwise([*begins, len(prompt)]), ends, strict=True):
        ids = template.encode(prompt[begin:stop], add_special_tokens=False)
        answer = template.encode(prompt[begin:end], add_special_tokens=False)
        yield ids, len(commonprefix([ids, answer]))
