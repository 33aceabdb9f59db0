"""The engine for GGUF files: llama.cpp, in this process."""

import codecs
import ctypes
import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medllm import console
from medllm.data.example import Message
from medllm.engines.base import Piece, Sampling, Score, ScoreRequest
from medllm.engines.llama_native import (
    BATCH_TOKENS,
    SEQUENCE,
    Batch,
    load_llama_cpp,
    model_parameters,
    sampler_chain,
)
from medllm.errors import ArtifactError, DataError, SetupError
from medllm.models.hardware import count_cpus

DEFAULT_N_CTX = 4096  # the cache for a modern training context (131,072 tokens) would fill memory

Floats = npt.NDArray[np.floating[Any]]


class LlamaCppEngine:
    """A GGUF model, loaded.

    Results do not depend on what was asked before: `score` and `generate` start from an empty
    cache. Within one call of `score`, rows are evaluated in sorted order, so that those with a
    common beginning share its evaluation.
    """

    name = "llama_cpp"

    def __init__(self, path: Path, *, n_ctx: int | None = None) -> None:
        """Load the model.

        Args:
            path: A .gguf file.
            n_ctx: The most tokens of prompt and answer together; by default what the model was
                trained with, but not more than 4096.

        Raises:
            ArtifactError: the file is missing, or is no GGUF that llama.cpp can load.
            SetupError: llama.cpp is not set up, or memory does not suffice.
        """
        self._path = path
        self._llama, self._log = load_llama_cpp()
        self._model = self._load_model()
        self._vocab = self._llama.llama_model_get_vocab(self._model)
        self._n_vocab = int(self._llama.llama_vocab_n_tokens(self._vocab))
        trained = int(self._llama.llama_model_n_ctx_train(self._model))
        self._n_ctx = n_ctx or min(trained, DEFAULT_N_CTX)
        self._context = self._create_context()
        self._memory = self._llama.llama_get_memory(self._context)
        self._batch = Batch(self._llama)
        self._evaluated: list[int] = []  # the tokens whose keys and values are in the cache

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and answer may have together."""
        return self._n_ctx

    @property
    def has_chat_template(self) -> bool:
        """Whether the GGUF holds a chat template."""
        return self._chat_template is not None

    @property
    def eos_token(self) -> str:
        """The text of the end-of-text token."""
        return self._token_text(self._llama.llama_vocab_eos(self._vocab))

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages through the GGUF's own chat template.

        Raises:
            ArtifactError: the model has no chat template, or its template refuses the messages.
        """
        from jinja2 import TemplateError
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        template = self._chat_template
        if template is None:
            fix = "use a plain prompt, or a model that was tuned to follow instructions"
            raise ArtifactError(f"{self._path} has no chat template", fix)
        bos = self._token_text(self._llama.llama_vocab_bos(self._vocab))
        turns: list[Any] = [{"role": turn.role, "content": turn.content} for turn in messages]
        try:
            formatter = Jinja2ChatFormatter(
                template, self.eos_token, bos, add_generation_prompt=add_generation_prompt
            )
            return str(formatter(messages=turns).prompt)
        except (TemplateError, ValueError) as problem:  # ValueError: the template raised it
            message = f"the chat template of {self._path} refuses the messages: {problem}"
            fix = "leave out the system message, or let user and assistant take turns"
            raise ArtifactError(message, fix) from problem

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text, special tokens in it recognised.

        With `add_special_tokens`, BOS comes first where the model wants it, and never twice.
        """
        tokens = self._tokenize(text.encode())
        bos = int(self._llama.llama_vocab_bos(self._vocab))
        wants_bos = add_special_tokens and self._llama.llama_vocab_get_add_bos(self._vocab)
        return [bos, *tokens] if wants_bos and tokens[:1] != [bos] else tokens

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """The likelihood of each continuation after its context, in the order asked.

        What is too long loses its beginning, as in lm-eval; a token that nothing precedes is not
        scored. So `tokens` may be less than the length of the continuation.
        """
        asked = [self._ask(request) for request in requests]
        if cuts := sum(each.is_cut for each in asked):
            console.notice(f"{cuts} inputs lost their beginning to fit n_ctx {self._n_ctx}")
        rows: defaultdict[tuple[int, ...], list[_Asked]] = defaultdict(list)
        for each in asked:
            rows[each.row].append(each)
        self._forget()
        for row in sorted(rows):
            self._score_row(row, rows[row])
        return [Score(each.logprob, len(each.targets), each.greedy) for each in asked]

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Piece]:
        """The answer, piece by piece; its last piece says why it ended.

        Raises:
            DataError: the prompt is empty, or leaves no room for an answer.
        """
        if not prompt:
            raise DataError("the prompt is empty", "give a prompt of at least one token")
        if len(prompt) >= self._n_ctx:
            message = f"the prompt has {len(prompt)} tokens, the context holds {self._n_ctx}"
            raise DataError(message, "shorten the prompt or raise n_ctx")
        return self._pieces(list(prompt), sampling)

    def close(self) -> None:
        """Free the model's memory."""
        if self._model is None:
            return
        self._batch.free()
        self._llama.llama_free(self._context)
        self._llama.llama_model_free(self._model)
        self._model = self._context = self._memory = None

    # Loading

    def _load_model(self) -> Any:
        if not self._path.is_file():
            raise ArtifactError(f"{self._path}: no such file", "give the path of a .gguf file")
        self._log.clear()
        with console.quiet():
            parameters = model_parameters(self._llama)
            model = self._llama.llama_model_load_from_file(os.fsencode(self._path), parameters)
        if not model:
            message = f"{self._path} cannot be loaded by llama.cpp: {self._log.reason}"
            raise ArtifactError(message, "make it again: medllm quantize --format gguf")
        return model

    def _create_context(self) -> Any:
        parameters = self._llama.llama_context_default_params()
        parameters.n_ctx = self._n_ctx
        parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
        parameters.n_threads = parameters.n_threads_batch = count_cpus()
        self._log.clear()
        with console.quiet():
            context = self._llama.llama_init_from_model(self._model, parameters)
        if not context:
            self._llama.llama_model_free(self._model)
            message = f"llama.cpp cannot hold {self._n_ctx} tokens: {self._log.reason}"
            raise SetupError(message, "lower n_ctx, or use a smaller model")
        return context

    # Text and tokens

    @property
    def _chat_template(self) -> str | None:
        template = self._llama.llama_model_chat_template(self._model, None)
        return template.decode() if template else None

    def _token_text(self, token: int) -> str:
        if token == self._llama.LLAMA_TOKEN_NULL:
            return ""
        return str(self._llama.llama_vocab_get_text(self._vocab, token).decode())

    def _tokenize(self, text: bytes) -> list[int]:
        room = len(text) + 2  # a token holds at least one byte; SentencePiece puts a space first
        tokens = (self._llama.llama_token * room)()
        text_and_room = (text, len(text), tokens, room)
        count = self._llama.llama_tokenize(self._vocab, *text_and_room, False, True)
        if count < 0:
            message = f"{self._path}: its tokenizer fails on a text of {len(text)} bytes"
            raise ArtifactError(message, "convert the model anew")
        return list(tokens[:count])

    def _token_bytes(self, token: int, size: int = 64) -> bytes:
        """What a token writes, maybe a part of a character; nothing for a control token."""
        buffer = ctypes.create_string_buffer(size)
        count = self._llama.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
        return buffer.raw[:count] if count >= 0 else self._token_bytes(token, -count)

    # Scoring

    def _ask(self, request: ScoreRequest) -> "_Asked":
        whole = request.context + request.continuation[:-1]  # the last token predicts nothing asked
        row = whole[-self._n_ctx :]
        count = min(len(request.continuation), len(row))
        targets = request.continuation[len(request.continuation) - count :]
        return _Asked(row, targets, is_cut=len(row) < len(whole))

    def _score_row(self, row: tuple[int, ...], askers: Sequence["_Asked"]) -> None:
        first = min(each.first for each in askers)
        for position, logits in self._logits(row, first):
            log_probabilities = _log_softmax(logits)
            likeliest = int(logits.argmax())
            for each in askers:
                each.read(position, log_probabilities, likeliest)

    # Generating

    def _pieces(self, tokens: list[int], sampling: Sampling) -> Iterator[Piece]:
        self._forget()
        answer = _Answer(sampling.stop)
        reason, unsaid = "length", 0
        with sampler_chain(self._llama, sampling) as sampler:
            for _ in range(min(sampling.max_tokens, self._n_ctx - len(tokens))):
                token = self._next_token(tokens, sampler)
                if self._llama.llama_vocab_is_eog(self._vocab, token):
                    reason = "stop"
                    break
                tokens.append(token)
                unsaid += 1
                text = answer.add(self._token_bytes(token))
                if answer.has_stopped:
                    yield Piece(text, unsaid, "stop")
                    return
                if text:
                    yield Piece(text, unsaid)
                    unsaid = 0
        yield Piece(answer.rest, unsaid, reason)

    def _next_token(self, tokens: Sequence[int], sampler: Any) -> int:
        deque(self._logits(tokens, len(tokens) - 1), maxlen=0)
        return int(self._llama.llama_sampler_sample(sampler, self._context, -1))

    # Evaluating tokens

    def _logits(self, row: Sequence[int], first: int) -> Iterator[tuple[int, Floats]]:
        """Position and logits for every position of a row from `first` on.

        What the cache holds of the row is not evaluated again. The logits lie in llama.cpp's
        memory and last until the next pass.
        """
        kept = self._keep_common(row[:first])
        for begin in range(kept, len(row), BATCH_TOKENS):
            chunk = row[begin : begin + BATCH_TOKENS]
            silent = min(max(first - begin, 0), len(chunk))
            self._decode(chunk, begin, silent)
            if silent < len(chunk):
                start = self._llama.llama_get_logits(self._context)
                shape = (len(chunk) - silent, self._n_vocab)
                yield from enumerate(np.ctypeslib.as_array(start, shape), begin + silent)

    def _decode(self, tokens: Sequence[int], begin: int, silent: int) -> None:
        batch = self._batch.fill(tokens, begin, silent)
        status = self._llama.llama_decode(self._context, batch)
        if status != 0:
            self._forget()
            message = f"llama.cpp cannot evaluate {len(tokens)} tokens (llama_decode: {status})"
            fix = "see that the token ids come from this model's own tokenizer; lower n_ctx"
            raise ArtifactError(message, fix)
        self._evaluated.extend(tokens)

    def _keep_common(self, prefix: Sequence[int]) -> int:
        """Cut the cache down to what begins `prefix` too; returns how many tokens are left."""
        common = _common_length(self._evaluated, prefix)
        if common < len(self._evaluated):
            if self._llama.llama_memory_seq_rm(self._memory, SEQUENCE, common, -1):
                del self._evaluated[common:]
            else:  # a recurrent state cannot be cut
                self._forget()
        return len(self._evaluated)

    def _forget(self) -> None:
        self._llama.llama_memory_clear(self._memory, True)
        self._evaluated.clear()


@dataclass(slots=True)
class _Asked:
    """A request in work: the last positions of its row predict its targets."""

    row: tuple[int, ...]
    targets: tuple[int, ...]
    is_cut: bool
    logprob: float = 0.0
    greedy: bool = True

    @property
    def first(self) -> int:
        """The position in the row that predicts the first target."""
        return len(self.row) - len(self.targets)

    def read(self, position: int, log_probabilities: Floats, likeliest: int) -> None:
        if position >= self.first:
            token = self.targets[position - self.first]
            self.logprob += float(log_probabilities[token])
            self.greedy = self.greedy and likeliest == token


class _Answer:
    """Turns bytes into text: whole characters only, and never a part of a stop string."""

    def __init__(self, stop: Iterable[str]) -> None:
        self._stop = [each for each in stop if each]
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.has_stopped = False

    def add(self, piece: bytes) -> str:
        """The text that can be said; what may begin a stop string is held back."""
        self._held += self._decoder.decode(piece)
        found = [at for at in map(self._held.find, self._stop) if at >= 0]
        self.has_stopped = bool(found)
        length = min(found) if found else len(self._held) - self._doubtful()
        said, self._held = self._held[:length], self._held[length:]
        return said

    @property
    def rest(self) -> str:
        """What is still held back; half a character at the end is dropped."""
        return self._held

    def _doubtful(self) -> int:
        """How many characters at the end may begin a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        lengths = range(min(longest, len(self._held)), 0, -1)
        ends = (self._held[-length:] for length in lengths)
        return next((len(end) for end in ends if any(s.startswith(end) for s in self._stop)), 0)


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max()
    shifted -= np.log(np.exp(shifted).sum())
    return shifted


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
