"""The likelihood of choices, of whole answers and of whole texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from medllm import console
from medllm.data.example import Example
from medllm.engines.base import Expects, Score, ScoreRequest, Scores, likelihoods
from medllm.errors import DataError
from medllm.models.chat.prompts import Pair, cut_alike
from medllm.models.chat.template import encode_rendered, join_plain, render_example

T = TypeVar("T")

CHUNK_TOKENS = 2**15
"""Tokens of examples that an engine is given at once: it reads what they have in common once, and
puts those of one length together; between two of them comes a progress line."""
BEGINNING = 16
"""Tokens by which examples with the same worked examples before them find each other."""
WINDOW = 2048
"""Tokens of a text that are read at once where the context holds them, as perplexity is usually
given (Frantar et al. 2022, GPTQ); a model with more context would gain by it."""


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """Which choice is the likeliest, and the log-likelihood of each in nats."""

    id: str
    target: str
    answer: str
    logprobs: tuple[float, ...]
    cut: int = 0
    """Tokens that the prompt lost at its beginning to fit into the context."""


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """The log-likelihood of an answer, its end included, or of a text; in nats, over its tokens."""

    id: str
    logprob: float
    tokens: int
    cut: int = 0
    """Tokens of prompt and answer that were lost at the beginning to fit into the context."""


@dataclass(frozen=True, slots=True)
class TextResult(AnswerResult):
    """The log-likelihood of a text, which all its words and bytes share."""

    words: int = 0
    """Parted by white space, as lm-evaluation-harness counts them."""
    bytes: int = 0
    """In UTF-8."""


@dataclass(frozen=True, slots=True)
class NotAsked:
    """An item that could not be put to the model."""

    id: str
    not_asked: str
    """Why; without text of the item."""


@dataclass(frozen=True, slots=True)
class _Asked:
    example: Example
    requests: list[ScoreRequest]
    cut: int


def score_choices(
    engine: Scores, examples: Sequence[Example], *, chat: bool, what: str
) -> list[ChoiceResult | NotAsked]:
    """The likeliest choice of each example after its prompt.

    A choice is scored as " " + choice, as lm-evaluation-harness does it, and white space at the end
    of a prompt with it. `chat` puts the prompt
    through the chat template, which the engine must have; then the choice follows without the
    space.
    """
    return _score(engine, examples, partial(_choice_requests, engine, chat), _choose, what)


def score_answers(
    engine: Scores, examples: Sequence[Example], *, what: str
) -> list[AnswerResult | NotAsked]:
    """The likelihood of each example's completion after its prompt, rendered as in training."""
    return _score(engine, examples, partial(_answer_request, engine), _weigh, what)


def _score(
    engine: Scores,
    examples: Sequence[Example],
    build: Callable[[Example], _Asked],
    read: Callable[[_Asked, list[Score]], T],
    what: str,
) -> list[T | NotAsked]:
    """A result of each example, in their order; those alike in beginning and length go together."""
    tried = [_try(build, example, engine.context_length) for example in examples]
    results: dict[int, T | NotAsked] = {}
    places = [place for place, each in enumerate(tried) if isinstance(each, _Asked)]
    with console.progress(what, len(examples)) as advance:
        for chunk in _chunks(places, lambda place: _sort_key(tried[place])):
            asked = [each for place in chunk if isinstance(each := tried[place], _Asked)]
            for place, each, scores in zip(chunk, asked, _scores_of(engine, asked), strict=True):
                results[place] = scores if isinstance(scores, NotAsked) else read(each, scores)
            advance(len(chunk))
        advance(len(examples) - len(places))
    return [
        results[place] if isinstance(each, _Asked) else each for place, each in enumerate(tried)
    ]


def _scores_of(engine: Scores, asked: Sequence[_Asked]) -> Iterator[list[Score] | NotAsked]:
    """The scores of each item; of one that a server refuses, why."""
    try:
        scores = iter(engine.score([each for one in asked for each in one.requests]))
    except DataError as problem:
        if len(asked) > 1:
            for one in asked:
                yield from _scores_of(engine, [one])
        else:
            yield from (NotAsked(one.example.id, problem.message) for one in asked)
        return
    for one in asked:
        yield [next(scores) for _ in one.requests]


def _try(build: Callable[[Example], _Asked], example: Example, room: int) -> _Asked | NotAsked:
    try:
        asked = build(example)
    except DataError as problem:  # the chat template refuses the messages
        return NotAsked(example.id, problem.message)
    if not all(request.continuation for request in asked.requests):
        return NotAsked(example.id, "an answer or a choice is empty")
    if all(len(each.context) + len(each.continuation) < 2 for each in asked.requests):
        return NotAsked(example.id, "nothing precedes the answer")
    if any(len(each.continuation) > room for each in asked.requests):
        return NotAsked(example.id, "an answer or a choice is longer than the context")
    return asked


def _choice_requests(engine: Scores, chat: bool, example: Example) -> _Asked:
    choices = map(engine.special_tokens.mark, example.choices)
    if chat:
        context = tuple(engine.encode(engine.render(example.prompt), add_special_tokens=False))
        endings = (engine.encode(choice, add_special_tokens=False) for choice in choices)
        return _fit(engine, example, [(context, tuple(ending)) for ending in endings])
    prompt = join_plain(engine, example.prompt)
    size = len(engine.encode(prompt.rstrip(), add_special_tokens=True))
    wholes = [
        tuple(engine.encode(f"{prompt} {choice}", add_special_tokens=True)) for choice in choices
    ]
    contexts = {whole[:size]: whole[:size] for whole in wholes}  # one object for all choices
    pairs = [(contexts[whole[:size]], whole[size:]) for whole in wholes]
    return _fit(engine, example, pairs)


def _answer_request(engine: Scores, example: Example) -> _Asked:
    prompt, completion = encode_rendered(engine, render_example(engine, example))
    return _fit(engine, example, [(tuple(prompt), tuple(completion))])


def _fit(engine: Scores, example: Example, pairs: Sequence[Pair]) -> _Asked:
    """The requests, all contexts cut alike so that the longest fits."""
    fitting, cut = cut_alike(pairs, engine.context_length)
    return _Asked(example, [ScoreRequest(*pair) for pair in fitting], cut)


def _choose(asked: _Asked, scores: Sequence[Score]) -> ChoiceResult:
    example, logprobs = asked.example, tuple(score.logprob for score in scores)
    answer = example.choices[logprobs.index(max(logprobs))]
    return ChoiceResult(example.id, example.target or "", answer, logprobs, asked.cut)


def _weigh(asked: _Asked, scores: Sequence[Score]) -> AnswerResult:
    (score,) = scores
    return AnswerResult(asked.example.id, score.logprob, score.tokens, asked.cut)


def score_texts(
    engine: Expects, examples: Sequence[Example], *, what: str
) -> list[TextResult | NotAsked]:
    """The likelihood of whole texts, in pieces of `WINDOW` tokens that do not see each other."""
    results: list[TextResult | NotAsked] = []
    with console.progress(what, len(examples)) as advance:
        for example in examples:
            pieces = list(_pieces(engine, example.text))
            tokens = sum(len(each) - 1 for each in pieces)
            if tokens > 0:
                logprob = sum(_read(engine, piece) for piece in pieces)
                words, size = len(example.text.split()), len(example.text.encode(errors="replace"))
                results.append(TextResult(example.id, logprob, tokens, words=words, bytes=size))
            else:
                results.append(NotAsked(example.id, "the text is empty"))
            advance(1)
    return results


def _pieces(engine: Expects, text: str) -> Iterator[list[int]]:
    """The token ids of a text, each piece after the tokens that a text begins with.

    A model without BOS reads the end-of-text token there, as lm-evaluation-harness has it: else the
    first token of a piece would not count.
    """
    begin = engine.encode("", add_special_tokens=True)
    begin = begin or engine.encode(engine.eos_token, add_special_tokens=False)
    ids = engine.encode(engine.special_tokens.mark(text), add_special_tokens=False)
    room = min(WINDOW, engine.context_length) - len(begin)
    for start in range(0, len(ids), room):
        yield begin + ids[start : start + room]


def _read(engine: Expects, ids: Sequence[int]) -> float:
    """The log-likelihood of all tokens but the first, which nothing precedes."""
    total, following = 0.0, list(ids[1:])
    for block in engine.log_probs(ids):
        targets, following = following[: len(block)], following[len(block) :]
        total += float(likelihoods(block, targets).sum(dtype=np.float64))
    return total


def _sort_key(asked: _Asked | NotAsked) -> tuple[tuple[int, ...], int]:
    """How an example begins, and how long it is."""
    request = asked.requests[0] if isinstance(asked, _Asked) else ScoreRequest((), ())
    return request.context[:BEGINNING], len(request.context) + len(request.continuation)


def _chunks(
    places: Sequence[int], key: Callable[[int], tuple[tuple[int, ...], int]]
) -> Iterator[list[int]]:
    """The places in the order of their keys, so many tokens together."""
    chunk, size = list[int](), 0
    for place in sorted(places, key=key):
        chunk.append(place)
        size += key(place)[1]
        if size >= CHUNK_TOKENS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
