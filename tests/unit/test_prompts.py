"""Prompts leave room for an answer, and what cannot is refused in time that grows with it."""

import pytest

from medllm.data.example import Message
from medllm.engines.fake import FakeEngine
from medllm.errors import DataError
from medllm.models.chat import prompts
from medllm.models.chat.prompts import UnfitPrompt, cut_alike, encode_messages, encode_raw


class SquaredEngine(FakeEngine):
    """Its tokenizer takes squared time for long texts, which is counted instead of spent."""

    has_time = 100_000_000

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        self.has_time -= len(text) ** 2
        assert self.has_time > 0, "a minute has gone"
        return super().encode(text, add_special_tokens=add_special_tokens)


@pytest.mark.parametrize("has_chat_template", [True, False])
def test_a_long_conversation_is_counted_by_parts(has_chat_template: bool) -> None:
    engine = SquaredEngine(has_chat_template=has_chat_template)
    long = Message("user", "é" * 20_000)

    with pytest.raises(UnfitPrompt, match="more than 4,000 tokens, the context holds 4,000 tokens"):
        encode_messages(engine, [long], 4000)
    with pytest.raises(UnfitPrompt, match="more than 4,000 tokens"):
        encode_raw(engine, long.content, 4000)


def test_half_a_character_is_counted_too() -> None:
    with pytest.raises(UnfitPrompt, match="the prompt has 64 bytes, the context holds 1 tokens"):
        encode_raw(FakeEngine(), "\ud83d" * 64, 1)


def test_a_prompt_that_fits_is_encoded_whole() -> None:
    engine, turns = FakeEngine(), [Message("user", "Fever?")]
    ids = engine.encode(engine.render(turns), add_special_tokens=False)
    assert encode_messages(engine, turns, len(ids) + 1) == ids
    with pytest.raises(UnfitPrompt) as caught:
        encode_messages(engine, turns, len(ids))
    assert caught.value.size == f"{len(ids)} tokens"
    assert caught.value.context_length == len(ids)
    assert isinstance(caught.value, DataError)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(UnfitPrompt, match="the prompt is empty"):
        prompts.check_room([], 10)


def test_contexts_are_cut_alike_so_that_the_longest_fits() -> None:
    pairs = [((1, 2, 3, 4), (5, 6)), ((1, 2, 3, 4), (7,))]
    assert cut_alike(pairs, 5) == (pairs, 0)
    assert cut_alike(pairs, 3) == ([((3, 4), (5, 6)), ((3, 4), (7,))], 2)
