"""How answers are written: settings that several sections and the tasks share."""

from typing import Annotated

from pydantic import Field

from medllm.config.base import Strict, Temperature


class Writing(Strict):
    """How answers are written, under transformers' names; each means the same on every engine."""

    max_tokens: int = Field(default=256, ge=1)
    """Longest answer."""
    temperature: Temperature = 0.0
    """0 is greedy decoding; 2 is the most, as in OpenAI's interface."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling."""
    top_k: int = Field(default=0, ge=0)
    """How many of the likeliest tokens may be drawn; 0: all."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """The share of the likeliest token's probability that a token needs to be drawn."""
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    """Divides the logits of tokens that stand in prompt or answer; above 1 repeats less."""
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken off the logits of tokens that stand in the answer."""
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Taken off them as often as they stand there."""
    num_beams: int = Field(default=1, ge=1, le=64)
    """Answers that are followed at once, the likeliest of which is given; on transformers alone."""
    length_penalty: float = Field(default=1.0, ge=-10, le=10)
    """Of beams: above 1 longer answers win, below 1 shorter ones."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer."""
