"""The protocol that every engine follows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from medllm.data.example import Message


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Token ids of a context, and of the continuation whose likelihood is asked for."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """The likelihood of a continuation."""

    logprob: float
    """Log-likelihood, in nats."""
    tokens: int
    """Tokens of the continuation."""
    greedy: bool
    """Whether greedy decoding would write it."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate; temperature 0 is greedy decoding."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of generated text; the last one says why generation ended ("stop" or "length")."""

    text: str
    tokens: int = 1
    finish_reason: str | None = None


class Engine(Protocol):
    """A loaded model."""

    @property
    def name(self) -> str:
        """The name of the engine: "transformers", "llama_cpp", "fake"."""

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and answer may have together."""

    @property
    def has_chat_template(self) -> bool:
        """Whether `render` can be used."""

    @property
    def eos_token(self) -> str:
        """The text of the end-of-text token."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages as the model expects them, as text with BOS.

        By default it ends where the model's answer begins.
        """

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text, special tokens in it recognised.

        `add_special_tokens` puts BOS first where the model has one.
        """

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """The likelihood of each continuation after its context, in the order asked."""

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Piece]:
        """The answer, piece by piece, until the model, a stop string or `max_tokens` ends it."""

    def close(self) -> None:
        """Free the model's memory."""
