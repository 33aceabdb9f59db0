"""Many requests are answered whole: together, at once or in turn, as the engine can."""

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from typing import Any

import pytest

from medllm.data.example import Message
from medllm.engines.base import (
    AnswersMany,
    EngineDown,
    GenerateRequest,
    GeneratesBatches,
    Piece,
    Sampling,
)
from medllm.engines.fake import EXPECTED_LOGPROB, FakeEngine
from medllm.engines.many import Written, write_answers
from medllm.errors import DataError

SAID = ("Fieber?", "Husten?", "Schmerz?")


class Together(FakeEngine):
    """Writes a piece of each answer in turn, the last request first."""

    batch_size = 8

    def generate_batch(
        self, requests: Sequence[GenerateRequest]
    ) -> Generator[tuple[int, Piece | DataError]]:
        running = {
            place: self.generate(requests[place]) for place in reversed(range(len(requests)))
        }
        self.asked = len(running)
        try:
            while running:
                for place, pieces in [*running.items()]:
                    piece = next(pieces)
                    if piece.finish_reason:
                        del running[place]
                    yield place, piece
        finally:
            self.left = len(running)


class AtOnce:
    """Answers elsewhere, at most two at once, the shortest question first."""

    name = "elsewhere"
    context_length = 100
    unused_settings: dict[str, Any] = {}
    parallel = 2
    is_ready = True

    def __init__(self) -> None:
        self.running = self.most = 0

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        said = request.messages[-1].content
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(len(said)):
            await asyncio.sleep(0)
        self.running -= 1
        if said == "refused":
            raise DataError("no", "ask less")
        if said == "cut":
            return
        yield Piece(said, 3)
        yield Piece("", 0, "stop")

    def close(self) -> None:
        pass


def asked(*said: str, **sampling: Any) -> list[GenerateRequest]:
    sampling = Sampling(**sampling)  # type: ignore[assignment]
    return [
        GenerateRequest(messages=(Message("user", each),), sampling=sampling)  # type: ignore[arg-type]
        for each in said
    ]


@pytest.mark.parametrize("engine", [FakeEngine(), Together()])
def test_answers_are_the_same_in_turn_and_together(engine: FakeEngine) -> None:
    written = dict(write_answers(engine, asked(*SAID)))

    prompts = [engine.encode(engine.render([Message("user", each)]), add_special_tokens=False)
               for each in SAID]  # fmt: skip
    assert written == {
        place: Written(f"You said: {said}", len(prompts[place]), 10 + len(said), "stop",
                       pytest.approx(EXPECTED_LOGPROB))
        for place, said in enumerate(SAID)
    }  # fmt: skip


def test_an_engine_that_writes_together_is_asked_once_for_all_that_fit() -> None:
    engine = Together(context_length=60)
    requests = asked("x" * 99, "Fieber?", "y" * 99, "Husten?")

    written = list(write_answers(engine, requests))

    assert [place for place, _ in written] == [0, 2, 3, 1]
    assert all(isinstance(written[n][1], DataError) for n in (0, 1))
    assert engine.asked == 2 and engine.left == 0
    assert isinstance(engine, GeneratesBatches) and not isinstance(FakeEngine(), GeneratesBatches)


def test_who_closes_the_answers_ends_the_work() -> None:
    engine = Together()
    answers = write_answers(engine, asked("a", "bb" * 9, "c"))
    next(answers)
    answers.close()
    assert engine.left == 2


def test_texts_and_token_ids_are_taken_as_they_are() -> None:
    requests = [GenerateRequest("Fieber"), GenerateRequest(tuple(b"Husten"))]
    (_, text), (_, ids) = write_answers(FakeEngine(), requests)
    assert (text.text, ids.text) == ("You said: Fieber", "You said: Husten")  # type: ignore[union-attr]
    assert ids.prompt_tokens == 6  # type: ignore[union-attr]


def test_an_answer_that_is_cut_says_so_and_one_without_tokens_has_no_likelihood() -> None:
    ((_, cut),) = write_answers(FakeEngine(), asked("Fieber?", max_tokens=5))
    ((_, stopped),) = write_answers(FakeEngine(), asked("Fieber?", max_tokens=1, stop=("You",)))
    assert isinstance(cut, Written) and isinstance(stopped, Written)
    assert (cut.text, cut.tokens, cut.finish_reason) == ("You s", 5, "length")
    assert (stopped.text, stopped.tokens, stopped.finish_reason) == ("Y", 1, "length")
    ((_, none),) = write_answers(FakeEngine(), asked("Ö", max_tokens=0))
    assert isinstance(none, Written) and (none.text, none.logprob) == ("", None)


def test_a_server_is_asked_as_much_at_once_as_it_writes() -> None:
    engine = AtOnce()
    assert isinstance(engine, AnswersMany)

    written = dict(write_answers(engine, asked("a", "bbbb", "refused", "cc")))

    assert {place: each.text for place, each in written.items() if isinstance(each, Written)} == {
        0: "a", 1: "bbbb", 3: "cc",
    }  # fmt: skip
    assert isinstance(written[2], DataError)
    assert written[0] == Written("a", None, 3, "stop")
    assert (engine.most, engine.running) == (2, 0)


def test_a_server_that_breaks_off_ends_the_run() -> None:
    engine = AtOnce()
    with pytest.raises(EngineDown):
        list(write_answers(engine, asked("cut", "a")))
