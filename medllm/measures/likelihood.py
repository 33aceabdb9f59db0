"""The likelihood of choices and of whole answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medllm import console
from medllm.data.example import Example
from medllm.engines.base import Engine, Score, ScoreRequest
from medllm.models.chat import encode_rendered, render_example

CHUNK = 32
"""Examples scored between two progress lines."""


@dataclass(frozen=True, slots=True)
class ChoiceResult:
    """Which choice is the likeliest, and the log-likelihood of each in nats."""

    id: str
    target: str
    answer: str
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """The log-likelihood of a whole answer in nats, its end included, over its tokens."""

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


def _chunks(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), CHUNK):
        yield examples[start : start + CHUNK]
