"""What engines are asked and answer, and small protocols by ability: none has to have them all.

A verb asks an engine that it opened for the ability it needs, with `require`.
"""

from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from medllm import console
from medllm.data.example import Message
from medllm.engines.sampling import Sampling as Sampling
from medllm.engines.servers.chat import Chat, ToolCall
from medllm.errors import ConfigError, DataError, SetupError
from medllm.models.chat.template import Template

if TYPE_CHECKING:
    import torch

BLOCK_TOKENS = 256
"""Positions whose distributions are held at once: 128 MiB for a vocabulary of 128k."""

UNKNOWN_CONTEXT = 2048
"""Tokens of context of a model whose configuration names no limit."""


def encodable(text: str) -> str:
    """The text with `?` for each half of a surrogate pair, which UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode()


class OnDevice:
    """Log-probabilities (positions, vocabulary) that stay on the GPU until an array is wanted."""

    def __init__(self, values: "torch.Tensor") -> None:
        self.values = values

    @property
    def shape(self) -> tuple[int, ...]:
        """Positions and vocabulary."""
        return tuple(self.values.shape)

    def __len__(self) -> int:
        """The positions."""
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """They, as numpy asks for them."""
        return np.asarray(self.values.cpu().numpy(), dtype)

    def __getitem__(self, key: Any) -> Any:
        """Some of them, as an array."""
        return np.asarray(self)[key]

    def of(self, targets: Sequence[int]) -> npt.NDArray[Any]:
        """Those of one token at each of the first positions."""
        import torch

        tokens = torch.tensor(targets, dtype=torch.long).to(self.values.device)
        chosen = self.values[: len(targets)].gather(1, tokens[:, None])[:, 0]
        return np.asarray(chosen.cpu().numpy())


Array = npt.NDArray[np.floating[Any]]
LogProbs = Array | OnDevice
"""Log-probabilities of every token of the vocabulary, in nats: (positions, vocabulary)."""


def likelihoods(block: LogProbs, targets: Sequence[int]) -> Array:
    """Those of one token at each of the first positions."""
    if isinstance(block, OnDevice):
        return block.of(targets)
    found: Array = block[range(len(targets)), targets]
    return found


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
class GenerateRequest:
    """What is to be answered: `messages`, or where there are none the `prompt` to go on from.

    Messages and texts are for engines without token ids, and messages for all where images come
    with them; any other prompt is encoded before (`engines/prompts.py` does so).
    """

    prompt: Sequence[int] | str = ()
    """Token ids, or a text."""
    sampling: Sampling = Sampling()
    messages: tuple[Message, ...] = ()
    images: tuple[Path | bytes, ...] = ()
    """Image files or what is in them, in the order in which they stand before the first user's
    words."""
    chat: Chat | None = None
    """The conversation in OpenAI's form, where there is more in it than texts; for engines that
    take it so. The `prompt` are then its token ids, where they are known."""
    owner: str | None = None
    """Who asks: what is kept of a prompt may serve the next one of the same owner, and nobody
    else's. None: nothing is kept, so that the answer depends on nothing that was asked before."""
    whole: bool = False
    """Whether the answer is of use only when it is whole, so that pieces need not come early."""
    likelihood: bool = False
    """Whether pieces tell how likely they are, where the engine knows."""
    logprobs: int | None = None
    """How many of the likeliest tokens are told beside each token; None: not even how likely each
    is. See `measures/logprobs.py`."""
    prompt_logprobs: bool = False
    """Whether they are told of the prompt's tokens, too."""

    @property
    def prompt_tokens(self) -> int | None:
        """The tokens of the prompt; None where the engine alone knows them."""
        if self.chat or self.messages or isinstance(self.prompt, str):
            is_known = self.prompt and not isinstance(self.prompt, str)
            return len(self.prompt) if is_known else None
        return len(self.prompt)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was, before penalties and temperature, in nats."""

    text: str
    """What it writes; that of the token which ended an answer is in no answer."""
    logprob: float | None
    """None of a token that nothing precedes."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens in its place, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of generated text; the last one says why generation ended ("stop" or "length").

    Text and tokens may be empty: such a piece only says that a step of the work is done.
    """

    text: str
    tokens: int = 1
    finish_reason: str | None = None
    logprob: float | None = None
    """The log-likelihood of its tokens under the model, before penalties and temperature, in nats;
    None where it was not asked for, or the engine does not know it."""
    ids: tuple[int, ...] = ()
    """Its tokens, that which ended the answer included, where the engine has token ids."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Those of tokens that no piece before it told, where they were asked for."""
    calls: tuple[ToolCall, ...] = ()
    """The functions that the model calls; in a stream maybe parts of calls."""
    prompt_tokens: int | None = None
    """Those of the prompt, with the last piece of a server that alone knows them."""


@runtime_checkable
class Engine(Protocol):
    """A loaded model, or one that answers elsewhere: what is known of each."""

    name: str
    """The name of the engine: "transformers", "llama_cpp", "fake"."""
    context_length: int
    """The most tokens that prompt and answer may have together."""
    unused_settings: Mapping[str, Any]
    """What the model's files would have sampling be; only `Sampling` decides."""

    def close(self) -> None:
        """Free the model's memory."""


@runtime_checkable
class Generates(Engine, Protocol):
    """An engine that writes answers."""

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        """The answer, piece by piece, until the model, a stop string or `max_tokens` ends it.

        A piece comes after each token, and where the engine can after each part of the prompt that
        it has read, so that whoever closes the iterator stops the work soon.

        Raises:
            DataError: the prompt is empty, leaves no room for an answer, or comes with images that
                the engine does not read.
        """


@runtime_checkable
class GeneratesBatches(Generates, Protocol):
    """An engine that writes many answers together, sooner than one after another."""

    batch_size: int
    """The most that are written together; may be set."""

    def generate_batch(
        self, requests: Sequence[GenerateRequest]
    ) -> Generator[tuple[int, Piece | DataError]]:
        """The pieces of all answers as they come, each with the place of its request, from 0.

        The last piece of an answer says why it ended. A request that cannot be answered has a
        DataError in its place, and the others go on.
        """


@runtime_checkable
class Elsewhere(Engine, Protocol):
    """A model that another server has."""

    @property
    def asked(self) -> Mapping[str, Any]:
        """What a result must say of where and how it was asked."""


class EngineDown(SetupError):
    """An engine in another process does not answer now."""

    def __init__(self, message: str = "the engine is being started again") -> None:
        super().__init__(message, "try again in some seconds")


@runtime_checkable
class AnswersMany(Engine, Protocol):
    """An engine that writes several answers at once."""

    parallel: int
    """How many; more wait for their turn."""

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests now, as far as it knows."""

    def stream(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """The answer, piece by piece; whoever cancels the reading task ends the work.

        Raises:
            DataError: as `Generates.generate`.
            EngineDown: the engine is not there now.
        """


@runtime_checkable
class TakesChats(Engine, Protocol):
    """An engine that takes conversations with tools or images."""

    reads_images: bool
    """Whether it takes images, as far as it knows."""

    def read_chat(self, chat: Chat, sampling: Sampling) -> Sequence[int]:
        """Its token ids as a prompt; none where a server behind the engine alone knows them.

        Raises:
            UnfitSampling: tokens cannot be chosen so where images are.
            UnfitPrompt: it leaves no room for an answer.
            DataError: there is something in it that this engine does not take; says why.
            EngineDown: the engine, which knows its template, is not there now.
        """


Answers = Generates | AnswersMany
"""What can be served."""


@runtime_checkable
class Scores(Engine, Template, Protocol):
    """An engine that knows how likely given tokens are."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """The likelihood of each continuation after its context, in the order asked."""


@runtime_checkable
class ScoresBatches(Scores, Protocol):
    """An engine that scores many rows in one pass."""

    batch_tokens: int
    """The most tokens of a pass, padding included."""
    shares_prefixes: bool
    """Whether a beginning that several prompts have in common is read once, as far as is known."""


@runtime_checkable
class Expects(Engine, Template, Protocol):
    """An engine that knows how likely each token of its vocabulary is to come next."""

    def log_probs(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        """What the model expects after each token of `ids`, which must fit into the context.

        It comes as blocks of `BLOCK_TOKENS` positions, float32, the last one shorter; an engine
        answers nothing else before the last block is read.
        """


@runtime_checkable
class Decodes(Protocol):
    """An engine whose token ids can be told and taken."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; ids are below."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens as they are spelled."""


Ability = TypeVar("Ability")

GIVEN: Mapping[type, str] = {
    Template: "token ids of texts",
    Generates: "answers",
    GeneratesBatches: "many answers at once",
    Scores: "the likelihood of given tokens",
    Expects: "the likelihood of every token",
}
"""What engines with an ability give, in the words of an error."""


def require(engine: Engine, ability: type[Ability], verb: str) -> Ability:
    """The engine, as one with an ability; a verb asks before it begins with slow work.

    Raises:
        ConfigError: the engine lacks it.
    """
    if isinstance(engine, ability):
        return engine
    message = f"{verb} needs {GIVEN[ability]}, and the engine {engine.name} gives none"
    fix = "name a model that runs on this machine: a folder, a hub id or a .gguf file"
    raise ConfigError(message, fix)


def choose_context(n_ctx: int | None, made_for: int | None, most: int | None = None) -> int:
    """The tokens of context: as asked, else what a model was made for, but not more than `most`.

    Raises:
        ConfigError: more is asked than it was made for.
    """
    if n_ctx and made_for and n_ctx > made_for:
        message = (
            f"n_ctx {n_ctx:,} is more than the {made_for:,} tokens that the model was made for"
        )
        raise ConfigError(message, "lower n_ctx, or leave it out")
    if n_ctx:
        return n_ctx
    if made_for is None:
        console.notice(f"the model names no context length: {UNKNOWN_CONTEXT:,} tokens are assumed")
    context = made_for or UNKNOWN_CONTEXT
    return min(context, most or context)
