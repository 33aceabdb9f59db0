"""Rendering and encoding: the same text in training and at inference, its end included."""

import pytest

from medllm.data.example import Example, Message
from medllm.engines.fake import FakeEngine
from medllm.errors import ArtifactError
from medllm.models.chat.template import encode_rendered, encode_text, render_example

EXAMPLE = Example("d/1", "d", "1", (Message("user", "Is it sepsis?"),), "yes.")


class ThinkingEngine(FakeEngine):
    """Its template opens a thought that a finished conversation does not have."""

    def render(self, messages, *, add_generation_prompt: bool = True) -> str:
        text = super().render(messages, add_generation_prompt=add_generation_prompt)
        return f"{text}<think>" if add_generation_prompt else text


def test_the_prompt_ends_where_the_answer_begins() -> None:
    rendered = render_example(FakeEngine(), EXAMPLE)

    assert rendered.prompt == "<bos>user: Is it sepsis?<end>\nassistant: "
    assert rendered.completion == "yes.<end>\n"
    assert not rendered.add_special_tokens


def test_without_a_template_the_answer_ends_with_the_end_of_text_token() -> None:
    rendered = render_example(FakeEngine(has_chat_template=False), EXAMPLE)

    assert (rendered.prompt, rendered.completion) == ("Is it sepsis?", " yes.<end>")
    assert rendered.add_special_tokens


def test_training_and_inference_see_the_same_tokens() -> None:
    engine = FakeEngine()
    prompt, completion = encode_rendered(engine, render_example(engine, EXAMPLE))

    asked = engine.encode(engine.render(EXAMPLE.prompt), add_special_tokens=False)
    assert prompt == asked
    assert completion[-2] == engine.encode("<end>", add_special_tokens=False)[0]


def test_a_template_that_hides_where_the_answer_begins_is_refused() -> None:
    with pytest.raises(ArtifactError, match="cannot be told apart"):
        render_example(ThinkingEngine(), EXAMPLE)


def test_text_that_begins_with_bos_gets_no_second_one() -> None:
    engine = FakeEngine()
    once = engine.encode("a", add_special_tokens=True)

    assert encode_text(engine, "<bos>a") == once
    assert encode_text(engine, "a") == once
