"""The likelihood of texts and answers that are longer than what is read at once, or nothing."""

import math

import pytest

from medllm.data.example import Example, Message
from medllm.engines.base import ScoreRequest
from medllm.engines.fake import VOCABULARY, FakeEngine
from medllm.measures.likelihood import (
    WINDOW,
    AnswerResult,
    ChoiceResult,
    NotAsked,
    TextResult,
    score_answers,
    score_choices,
    score_texts,
)

AGAIN = math.log(0.5)
OTHER = math.log(0.5 / (VOCABULARY - 1))
"""The log-likelihoods that the fake engine gives the last token, and every other one."""


@pytest.mark.parametrize(
    ("context_length", "pieces"), [(WINDOW, 3), (4 * WINDOW, 3), (1001, 5), (5001, 1)]
)
def test_each_token_of_a_text_counts_once(context_length: int, pieces: int) -> None:
    tokens = 5000 if context_length != 5001 else 2000
    text = Example(id="a", dataset="d", group="g", prompt=(), completion="a" * tokens)

    (score,) = score_texts(FakeEngine(context_length=context_length), [text], what="test")

    assert isinstance(score, AnswerResult)
    assert score.tokens == tokens
    expected = pieces * OTHER + (tokens - pieces) * AGAIN  # a piece begins after <bos>
    assert score.logprob == pytest.approx(expected, rel=1e-6)


def test_words_and_bytes_of_a_text_are_counted_and_a_model_without_bos_reads_an_end() -> None:
    class Bare(FakeEngine):
        def encode(self, text, *, add_special_tokens):  # type: ignore[no-untyped-def]
            return super().encode(text, add_special_tokens=False)

    text = Example(id="a", dataset="d", group="g", prompt=(), completion="Ödem  und\nSchmerz")

    for engine in (FakeEngine(), Bare()):
        (score,) = score_texts(engine, [text], what="test")
        assert isinstance(score, TextResult)
        assert (score.tokens, score.words, score.bytes) == (18, 3, 18)


class Listening(FakeEngine):
    """Remembers what it was asked."""

    def score(self, requests):  # type: ignore[no-untyped-def]
        self.asked = list(requests)
        return super().score(requests)


def item(prompt: str, choices: tuple[str, ...] = ("yes", "no", "perhaps")) -> Example:
    said = (Message("user", prompt),)
    return Example(id="a", dataset="d", group="g", prompt=said, completion="ok", choices=choices)


def test_contexts_are_cut_alike_for_all_choices_and_counted() -> None:
    engine = Listening(context_length=40)

    short, long = score_choices(engine, [item("short"), item("x" * 60)], chat=False, what="test")

    assert isinstance(short, ChoiceResult) and isinstance(long, ChoiceResult)
    assert (short.cut, long.cut) == (0, 1 + 60 + len(" perhaps") - 1 - 40)
    lengths = {len(request.context) for request in engine.asked}
    assert lengths == {len("<short"), 40 - len(" perhaps") + 1}


def test_an_answer_longer_than_the_context_is_counted_as_cut() -> None:
    engine = Listening(context_length=40)

    (score,) = score_answers(engine, [item("x" * 100)], what="test")

    assert isinstance(score, AnswerResult)
    (request,) = engine.asked
    assert len(request.context) + len(request.continuation) - 1 == 40
    assert score.cut > 60
    assert isinstance(request, ScoreRequest)


def test_what_cannot_be_asked_is_named_and_the_others_go_on() -> None:
    engine = FakeEngine()
    empty = Example(id="b", dataset="d", group="g", prompt=(), completion="")

    choices = score_choices(engine, [item("?", ("yes", "")), item("?")], chat=False, what="test")
    texts = score_texts(engine, [empty, item("?")], what="test")

    assert choices[0] != NotAsked("a", "an answer or a choice is empty")  # " " is a choice
    assert isinstance(choices[1], ChoiceResult)
    assert texts[0] == NotAsked("b", "the text is empty")
    assert isinstance(texts[1], AnswerResult)
    (chat,) = score_choices(engine, [item("?", ("yes", ""))], chat=True, what="test")
    assert chat == NotAsked("a", "an answer or a choice is empty")


def test_what_is_longer_than_the_context_is_not_scored_in_part() -> None:
    engine = Listening(context_length=40)
    long = Example("b", "d", "g", (Message("user", "?"),), "x" * 60, choices=("x" * 60, "no"))

    (choice,) = score_choices(engine, [long], chat=False, what="test")
    (answer,) = score_answers(engine, [long], what="test")

    assert choice == answer == NotAsked("b", "an answer or a choice is longer than the context")
    assert not hasattr(engine, "asked")


def test_items_alike_go_together_and_come_back_in_their_order() -> None:
    engine = Listening(context_length=400)
    items = [item(f"{n % 2} {'x' * (10 * n)}") for n in range(20)]

    together = score_choices(engine, items, chat=False, what="test")

    begins = [(request.context[1], len(request.context)) for request in engine.asked[::3]]
    assert begins == sorted(begins)
    alone = [score_choices(engine, [each], chat=False, what="test")[0] for each in items]
    assert together == alone


def test_white_space_at_the_end_of_a_prompt_belongs_to_the_choice() -> None:
    """As lm-evaluation-harness has it: no tokenizer writes a blank and then a word so."""
    engine = Listening()

    score_choices(engine, [item("So? ")], chat=False, what="test")

    assert {bytes(request.context[1:]) for request in engine.asked} == {b"So?"}
    assert bytes(engine.asked[0].continuation) == b"  yes"
