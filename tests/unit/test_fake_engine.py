"""The fake engine follows the protocol, and says the same every time."""

import time

import pytest

from medllm.data.example import Message
from medllm.engines.base import GenerateRequest, Piece, Sampling, ScoreRequest
from medllm.engines.fake import BOS, END, FakeEngine
from medllm.engines.writing.stopping import until_stop
from medllm.errors import DataError

QUESTION = Message("user", "Hat der Patient Ödeme?")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def answer(engine: FakeEngine, prompt: list[int], sampling: Sampling | None = None) -> str:
    return "".join(
        piece.text for piece in engine.generate(GenerateRequest(prompt, sampling or Sampling()))
    )


def chat_ids(engine: FakeEngine, *messages: Message) -> list[int]:
    return engine.encode(engine.render(messages), add_special_tokens=False)


def test_tokens_are_bytes_and_special_tokens_are_one_each(engine: FakeEngine) -> None:
    assert engine.encode("<bos>é<end>", add_special_tokens=False) == [BOS, 0xC3, 0xA9, END]
    assert engine.encode("a", add_special_tokens=True) == [BOS, ord("a")]
    assert engine.encode("", add_special_tokens=False) == []


def test_rendered_chat_ends_where_the_answer_begins(engine: FakeEngine) -> None:
    rendered = engine.render([QUESTION])
    assert rendered == f"<bos>user: {QUESTION.content}<end>\nassistant: "
    assert engine.render([QUESTION], add_generation_prompt=False) + "assistant: " == rendered
    assert engine.eos_token in rendered


def test_answer_repeats_the_last_message(engine: FakeEngine) -> None:
    system = Message("system", "Be brief.")
    assert answer(engine, chat_ids(engine, system, QUESTION)) == f"You said: {QUESTION.content}"


def test_answer_repeats_a_plain_prompt(engine: FakeEngine) -> None:
    assert answer(engine, engine.encode("a: b", add_special_tokens=True)) == "You said: a: b"


def test_last_piece_says_why_and_counts_add_up(engine: FakeEngine) -> None:
    pieces = list(engine.generate(GenerateRequest(chat_ids(engine, QUESTION), Sampling())))
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].finish_reason == "stop"
    text = "".join(piece.text for piece in pieces)
    assert sum(piece.tokens for piece in pieces) == len(text.encode())


@pytest.mark.parametrize(
    ("sampling", "text", "reason"),
    [
        (Sampling(max_tokens=3), "You", "length"),
        (Sampling(max_tokens=10), "You said: ", "length"),
        (Sampling(max_tokens=11), "You said: ", "length"),  # half of the two bytes of Ö
        (Sampling(max_tokens=12), "You said: Ö", "stop"),
        (Sampling(stop=("said", "!")), "You ", "stop"),
        (Sampling(stop=("You",)), "", "stop"),
    ],
)
def test_answer_ends_at_its_limits(
    engine: FakeEngine, sampling: Sampling, text: str, reason: str
) -> None:
    pieces = list(
        engine.generate(GenerateRequest(engine.encode("Ö", add_special_tokens=True), sampling))
    )
    assert "".join(piece.text for piece in pieces) == text
    assert pieces[-1].finish_reason == reason


def test_context_holds_prompt_and_answer() -> None:
    small = FakeEngine(context_length=10)
    prompt = small.encode("seven b", add_special_tokens=True)
    assert answer(small, prompt) == "Yo"
    with pytest.raises(DataError, match="16 tokens, the context holds 10 tokens"):
        answer(small, prompt * 2)


def test_score_prefers_what_it_would_write(engine: FakeEngine) -> None:
    context = tuple(chat_ids(engine, Message("user", "ja")))
    expected = tuple(engine.encode("You said: ja<end>", add_special_tokens=False))
    other = tuple(engine.encode("You said: no<end>", add_special_tokens=False))
    good, bad = engine.score([ScoreRequest(context, expected), ScoreRequest(context, other)])
    assert good.greedy and not bad.greedy
    assert good.tokens == bad.tokens == 13
    assert bad.logprob < good.logprob == pytest.approx(-1.3)
    assert engine.score([ScoreRequest(context, other)]) == [bad]


def test_a_chat_template_can_be_missing() -> None:
    assert not FakeEngine(has_chat_template=False).has_chat_template


def test_stop_strings_never_show_not_even_in_part() -> None:
    pieces = [Piece(text) for text in ("Temp <", "EN", "D no <E", "ND", "> gone")]

    said = list(until_stop(pieces, ("<END>", "EN!", "")))

    assert [(piece.text, piece.tokens) for piece in said] == [
        ("Temp ", 1),
        ("", 1),
        ("<END no ", 1),
        ("", 1),
        ("", 1),
    ]
    assert said[-1].finish_reason == "stop"


def test_what_only_began_like_a_stop_string_shows_at_the_end() -> None:
    pieces = [Piece("a<"), Piece("E"), Piece("", 0, "length")]

    said = list(until_stop(pieces, ("<END>",)))

    assert said == [Piece("a"), Piece(""), Piece("<E", 0, "length")]


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("text", "stop", "said"),
    [
        ("aaaaab end", ("aab",), "aaa"),
        ("abababac!", ("ababac", "never"), "ab"),
        ("one two three", ("three", "two"), "one "),
        ("one two three", ("o three", "three", "hree"), "one tw"),
        ("______.____", ("_.",), "_____"),
        ("ยาลดไข้ พาราเซตามอล", ("พารา",), "ยาลดไข้ "),
        ("nothing stops it", ("it!", "its"), "nothing stops it"),
    ],
)
def test_stop_strings_are_found_however_the_text_is_cut(
    text: str, stop: tuple[str, ...], said: str, size: int
) -> None:
    cut = [Piece(text[at : at + size]) for at in range(0, len(text), size)]

    answer = list(until_stop([*cut, Piece("", 0, "length")], stop))

    assert "".join(piece.text for piece in answer) == said
    assert answer[-1].finish_reason == ("length" if said == text else "stop")
    assert all(piece.finish_reason is None for piece in answer[:-1])


def test_of_stop_strings_that_end_in_one_token_the_first_to_begin_counts() -> None:
    pieces = [Piece("a his"), Piece("tory of"), Piece("", 0, "length")]

    said = list(until_stop(pieces, ("to", "story", "y")))

    assert [piece.text for piece in said] == ["a hi", ""]


def test_a_long_stop_string_costs_no_more_than_the_text() -> None:
    stop, text = "a" * 400_000 + "b", "a" * 200_000
    pieces = [Piece(text[at : at + 20]) for at in range(0, len(text), 20)]
    started = time.process_time()

    said = list(until_stop([*pieces, Piece("", 0, "length")], [stop] * 4))

    assert "".join(piece.text for piece in said) == text
    assert time.process_time() - started < 10  # squared it would be hours
