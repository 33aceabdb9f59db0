"""The answers within a conversation: found in the prompt, trained on, and cut with care."""

import pytest

from medllm.data.example import Example, Message
from medllm.engines.fake import FakeEngine
from medllm.finetune.rows.build import IGNORED, Limit, Prompt, RowCounts, build_row
from medllm.models.chat.template import render_example
from medllm.models.chat.turns import find_answers

TURNS = (
    Message("system", "You are a nurse."), Message("user", "May I give it?"),
    Message("assistant", "First the potassium."), Message("user", "5.9."),
    Message("assistant", "Then hold it."), Message("user", "Thanks."),
)  # fmt: skip
EXAMPLE = Example("d/1", "d", "1", TURNS, "You are welcome.")


class ThinkingEngine(FakeEngine):
    """Its template shows the thoughts of the last answer alone, as Qwen 3's does."""

    def render(self, messages, *, add_generation_prompt: bool = True) -> str:
        turns = list(messages)
        if turns[-1].role == "assistant":
            turns[-1] = Message("assistant", f"(thought) {turns[-1].content}")
        return super().render(turns, add_generation_prompt=add_generation_prompt)


class EndlessEngine(FakeEngine):
    """Its template ends a turn with plain text."""

    def render(self, messages, *, add_generation_prompt: bool = True) -> str:
        text = super().render(messages, add_generation_prompt=add_generation_prompt)
        return text.replace("<end>", " ###")


def trained(engine: FakeEngine, example: Example, limit: Limit) -> str:
    row = build_row(example, engine, limit, RowCounts())
    assert row is not None
    names = {256: "<bos>", 257: "<end>", IGNORED: "·"}
    text = "".join(names.get(token) or chr(token) for token in row["labels"])
    return "·".join(filter(None, text.split("·")))


@pytest.mark.parametrize(
    ("engine", "turns", "expected"),
    [
        (FakeEngine(), "all",
         "First the potassium.<end>\n·Then hold it.<end>\n·You are welcome.<end>\n"),
        (FakeEngine(), "last", "You are welcome.<end>\n"),
        (ThinkingEngine(), "all", "First the potassium.<end>\n·Then hold it.<end>\n·"
                                  "(thought) You are welcome.<end>\n"),
        (EndlessEngine(), "all", "First the potassium.·Then hold it.·You are welcome.<end>"),
        (FakeEngine(has_chat_template=False), "all",
         "First the potassium.·Then hold it.· You are welcome.<end>"),
    ],
)  # fmt: skip
def test_every_answer_of_a_conversation_is_trained_on(
    engine: FakeEngine, turns: str, expected: str
) -> None:
    assert trained(engine, EXAMPLE, Limit(1000, turns=turns)) == expected


def test_answers_are_counted() -> None:
    counts = RowCounts()
    row = build_row(EXAMPLE, FakeEngine(), Limit(1000), counts)

    assert (counts.examples, counts.answers, counts.answers_not_trained) == (1, 3, 0)
    assert counts.trained_tokens == sum(label != IGNORED for label in row["labels"])
    assert counts.tokens == len(row["input_ids"]) == len(row["labels"])


def test_a_prompt_is_encoded_the_same_whatever_is_trained_on() -> None:
    rows = [build_row(EXAMPLE, FakeEngine(), Limit(1000, turns=t), RowCounts())
            for t in ("all", "last")]  # fmt: skip

    assert rows[0]["input_ids"] == rows[1]["input_ids"]


@pytest.mark.parametrize("room", range(20, 200, 7))
def test_a_prompt_that_is_cut_keeps_its_labels_with_their_tokens(room: int) -> None:
    counts = RowCounts()
    last = len("You are welcome.") + 2
    row = build_row(EXAMPLE, FakeEngine(), Limit(room + last), counts)

    assert len(row["input_ids"]) == len(row["labels"]) <= room + last
    assert all(
        label in {IGNORED, token}
        for token, label in zip(row["input_ids"], row["labels"], strict=True)
    )
    whole = trained(FakeEngine(), EXAMPLE, Limit(1000)).split("·")
    kept = trained(FakeEngine(), EXAMPLE, Limit(room + last)).split("·")
    assert set(kept) <= set(whole)  # no answer is trained on in part
    assert len(kept) == counts.answers
    assert counts.answers + counts.answers_not_trained == 3


def test_of_an_answer_through_the_cut_nothing_is_trained_on() -> None:
    prompt = Prompt(list(range(10)), answers=((1, 3), (4, 6), (7, 9)))

    assert prompt.within(10) == prompt
    assert prompt.within(8) == Prompt([0, 1, 2, 3, 6, 7, 8, 9], ((1, 3), (5, 7)))
    assert prompt.within(0) == Prompt([])


def test_an_answer_that_spells_an_end_is_found() -> None:
    turns = (Message("user", "a"), Message("assistant", "It was <bos>5 mg<end>."),
             Message("user", "b"))  # fmt: skip
    example = Example("d/1", "d", "1", turns, "c")
    engine = FakeEngine()
    rendered = render_example(engine, example)
    ((begin, end),) = find_answers(engine, example, rendered).spans

    shown = engine.special_tokens.unmark(rendered.prompt[begin:end])
    assert shown == "It was <bos>5 mg<end>.<end>\n"
