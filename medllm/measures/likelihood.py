"""The likelihood of choices, of whole answers and of whole texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medllm import console
from medllm.data.example import Example
from medllm.engines.base import Engine, Score, ScoreRequest
from medllm.models.chat import encode_rendered, render_example

CHUNK = 32
"""Examples scored between two progress lines."""
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


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """The log-likelihood of an answer, its end included, or of a text; in nats, over its tokens."""

    id: str
    logprob: float
    tokens: int


def score_choices(
    engine: Engine, examples: Sequence[Example], *, chat: bool, what: str
) -> list[ChoiceResult]:
    """The likeliest choice of each example after its prompt.

    A choice is scored as " " + choice, as lm-evaluation-harness does it. `chat` puts the prompt
    through the chat template; then the choice follows without the space.
    """
    results: list[ChoiceResult] = []
    with console.progress(what, len(examples)) as advance:
        for chunk in _chunks(examples):
            requests = [
                request for example in chunk for request in _choice_requests(engine, example, chat)
            ]
            scores = iter(engine.score(requests))
            results += [
                _choose(example, [next(scores) for _ in example.choices]) for example in chunk
            ]
            advance(len(chunk))
    return results


def _choice_requests(engine: Engine, example: Example, chat: bool) -> Iterator[ScoreRequest]:
    if chat and engine.has_chat_template:
        context = tuple(engine.encode(engine.render(example.prompt), add_special_tokens=False))
        for choice in example.choices:
            yield ScoreRequest(context, tuple(engine.encode(choice, add_special_tokens=False)))
        return
    prompt = "\n".join(message.content for message in example.prompt)
    context = tuple(engine.encode(prompt, add_special_tokens=True))
    for choice in example.choices:
        whole = tuple(engine.encode(f"{prompt} {choice}", add_special_tokens=True))
        yield ScoreRequest(whole[: len(context)], whole[len(context) :])


def _choose(example: Example, scores: Sequence[Score]) -> ChoiceResult:
    logprobs = tuple(score.logprob for score in scores)
    answer = example.choices[logprobs.index(max(logprobs))]
    return ChoiceResult(example.id, example.target or "", answer, logprobs)


def score_answers(engine: Engine, examples: Sequence[Example], *, what: str) -> list[AnswerResult]:
    """The likelihood of each example's completion after its prompt, rendered as in training."""
    results: list[AnswerResult] = []
    with console.progress(what, len(examples)) as advance:
        for chunk in _chunks(examples):
            scores = engine.score([_answer_request(engine, example) for example in chunk])
            pairs = zip(chunk, scores, strict=True)
            results += [
                AnswerResult(example.id, score.logprob, score.tokens) for example, score in pairs
            ]
            advance(len(chunk))
    return results


def _answer_request(engine: Engine, example: Example) -> ScoreRequest:
    prompt, completion = encode_rendered(engine, render_example(engine, example))
    room = max(engine.context_length - len(completion), 1)
    return ScoreRequest(tuple(prompt[-room:]), tuple(completion))


def score_texts(engine: Engine, examples: Sequence[Example], *, what: str) -> list[AnswerResult]:
    """The likelihood of whole texts, in pieces of `WINDOW` tokens that do not see each other."""
    results: list[AnswerResult] = []
    with console.progress(what, len(examples)) as advance:
        for example in examples:
            pieces = list(_pieces(engine, example.text))
            logprob = sum(_read(engine, piece) for piece in pieces)
            results.append(AnswerResult(example.id, logprob, sum(len(each) - 1 for each in pieces)))
            advance(1)
    return results


def _pieces(engine: Engine, text: str) -> Iterator[list[int]]:
    """The token ids of a text, each piece after the tokens that a text begins with."""
    begin = engine.encode("", add_special_tokens=True)
    ids = engine.encode(text, add_special_tokens=False)
    room = min(WINDOW, engine.context_length) - len(begin)
    for start in range(0, len(ids), room):
        yield begin + ids[start : start + room]


def _read(engine: Engine, ids: Sequence[int]) -> float:
    """The log-likelihood of all tokens but the first, which nothing precedes."""
    total, following = 0.0, list(ids[1:])
    for block in engine.log_probs(ids):
        targets, following = following[: len(block)], following[len(block) :]
        total += float(block[range(len(targets)), targets].sum(dtype=np.float64))
    return total


def _chunks(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), CHUNK):
        yield examples[start : start + CHUNK]
