"""The engine for GGUF files: llama.cpp, in this process."""

import codecs
import ctypes
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from medllm import console
from medllm.data.example import Message
from medllm.engines.base import (
    BLOCK_TOKENS,
    GenerateRequest,
    LogProbs,
    Piece,
    Sampling,
    Score,
    ScoreRequest,
    choose_context,
    encodable,
    until_stop,
)
from medllm.engines.llama_native import (
    build_sampler,
    load_llama_cpp,
    model_parameters,
    read_settings,
)
from medllm.engines.prompts import prompt_ids
from medllm.errors import ArtifactError, SetupError
from medllm.models.chat.answer_end import answer_end
from medllm.models.chat.rendering import bounded_rendering
from medllm.models.chat.special_tokens import SpecialTokens
from medllm.models.hardware import count_cpus

DEFAULT_N_CTX = 4096  # the cache for a modern training context (131,072 tokens) would fill memory
BATCH_TOKENS = 512  # tokens per pass; also bounds the buffer of logits (512 × vocabulary × 4 bytes)
PROMPT_TOKENS = 64  # of a prompt per pass: one of a large model on a CPU is over in a second or two
SEQUENCE = 0  # all rows are evaluated in one sequence of the cache

Floats = npt.NDArray[np.floating[Any]]


class LlamaCppEngine:
    """A GGUF model, loaded.

    Results do not depend on what was asked before: `score` and `generate` start from an empty
    cache. Within one call of `score`, rows are evaluated in sorted order, so that those with a
    common beginning share its evaluation.
    """

    name = "llama_cpp"

    def __init__(self, path: Path, *, n_ctx: int | None = None, window: int | None = None) -> None:
        """Load the model.

        Args:
            path: A .gguf file.
            n_ctx: The most tokens of prompt and answer together; by default what the model was
                trained with, but not more than 4096, nor than `window`.
            window: The tokens of a sliding window that the model was trained with and llama.cpp
                does not know of: beyond it llama.cpp computes another model, which is said.

        Raises:
            ArtifactError: the file is missing, or is no GGUF that llama.cpp can load.
            ConfigError: the model was made for fewer tokens than `n_ctx`.
            SetupError: llama.cpp is not set up, or memory does not suffice.
        """
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file", "give the path of a .gguf file")
        self._path = path
        self._llama, self._log = load_llama_cpp()
        self._model = self._load_model()
        self.context_length = choose_context(
            n_ctx, self._model.n_ctx_train(), min(window or DEFAULT_N_CTX, DEFAULT_N_CTX)
        )
        if window and self.context_length > window:
            console.notice(
                f"llama.cpp has no sliding window for {path.name}: beyond {window:,} tokens it "
                "computes another model"
            )
        self.unused_settings: Mapping[str, Any] = read_settings(self._llama, self._model.model)
        self._context = self._create_context()
        self._batch = self._llama._internals.LlamaBatch(
            n_tokens=BATCH_TOKENS, embd=0, n_seq_max=1, verbose=False
        )
        self._evaluated: list[int] = []  # the tokens whose keys and values are in the cache
        self._n_vocab = self._model.n_vocab()
        template = self._llama.llama_model_chat_template(self._model.model, None)
        self._chat_template = template.decode() if template else None
        self.has_chat_template = bool(template)
        self.eos_token = self._token_text(self._model.token_eos())
        self.special_tokens = self._find_special_tokens()
        self._ends = self.encode(answer_end(self), add_special_tokens=False)[-1:]

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The messages through the GGUF's own chat template.

        Raises:
            ArtifactError: the model has no chat template.
            DataError: its template refuses the messages.
        """
        from jinja2 import TemplateError
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        if self._chat_template is None:
            fix = "use a plain prompt, or a model that was tuned to follow instructions"
            raise ArtifactError(f"{self._path} has no chat template", fix)
        bos = self._token_text(self._model.token_bos())
        mark = self.special_tokens.mark
        turns: list[Any] = [{"role": turn.role, "content": mark(turn.content)} for turn in messages]
        with bounded_rendering():
            formatter = Jinja2ChatFormatter(
                self._chat_template, self.eos_token, bos, add_generation_prompt
            )
            try:
                return str(formatter(messages=turns).prompt)
            except ValueError as problem:  # what `raise_exception` in a template raises here
                raise TemplateError(str(problem)) from problem

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text, special tokens in it recognised unless they are marked.

        With `add_special_tokens`, BOS comes first where the model wants it, and never twice.
        """
        tokens: list[int] = []
        for part, is_text in self.special_tokens.stretches(encodable(text)):
            tokens += self._model.tokenize(part.encode(), add_bos=False, special=not is_text)
        bos = self._model.token_bos()
        wants_bos = add_special_tokens and self._model.add_bos_token()
        return [bos, *tokens] if wants_bos and tokens[:1] != [bos] else tokens

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """The likelihood of each continuation after its context, in the order asked.

        What is too long loses its beginning, as in lm-eval; a token that nothing precedes is not
        scored. So `tokens` may be less than the length of the continuation.
        """
        asked = [self._ask(request) for request in requests]
        if cuts := sum(each.is_cut for each in asked):
            console.notice(f"{cuts} inputs lost their beginning to fit n_ctx {self.context_length}")
        rows: defaultdict[tuple[int, ...], list[_Asked]] = defaultdict(list)
        for each in asked:
            rows[each.row].append(each)
        self._forget()
        for row in sorted(rows):
            for position, logits in self._logits(row, min(each.first for each in rows[row])):
                log_probabilities = log_softmax(logits.astype(np.float64))
                for each in rows[row]:
                    each.read(position, log_probabilities)
        return [Score(each.logprob, len(each.targets), each.greedy) for each in asked]

    def log_probs(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        """What the model expects after each token, in blocks of positions.

        Raises:
            ArtifactError: the ids are not the model's own, or do not fit into the context.
        """
        self._forget()
        logits = (logits for _, logits in self._logits(ids, 0))
        # a pass ends where a block ends, so no row outlives llama.cpp's buffer before it is copied
        while block := list(islice(logits, BLOCK_TOKENS)):
            yield log_softmax(np.stack(block), axis=-1)

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        """The answer, piece by piece; its last piece says why it ended.

        Raises:
            DataError: the prompt is empty, leaves no room for an answer, or comes with images.
        """
        prompt, sampling = prompt_ids(self, request, self.context_length), request.sampling
        return until_stop(self._pieces(prompt, sampling), sampling.stop)

    def close(self) -> None:
        """Free the model's memory."""
        self._batch.close()
        self._model.close()  # and its context

    def _load_model(self) -> Any:
        self._log.clear()
        try:
            with console.quiet():
                return self._llama._internals.LlamaModel(
                    path_model=str(self._path), params=model_parameters(self._llama), verbose=False
                )
        except ValueError as problem:
            what = f"{self._path} cannot be loaded by llama.cpp: {self._log.reason}"
            raise ArtifactError(what, "make it again: medllm quantize --format gguf") from problem

    def _create_context(self) -> Any:
        parameters = self._llama.llama_context_default_params()
        parameters.n_ctx = self.context_length
        parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
        parameters.n_threads = parameters.n_threads_batch = count_cpus()
        self._log.clear()
        try:
            with console.quiet():
                return self._llama._internals.LlamaContext(
                    model=self._model, params=parameters, verbose=False
                )
        except ValueError as problem:
            message = f"llama.cpp cannot hold {self.context_length} tokens: {self._log.reason}"
            raise SetupError(message, "lower n_ctx, or use a smaller model") from problem

    def _find_special_tokens(self) -> SpecialTokens:
        """What llama.cpp recognises in a text where it is told to parse special tokens."""
        read, vocab = self._llama.llama_vocab_get_attr, self._model.vocab
        special = self._llama.LLAMA_TOKEN_ATTR_CONTROL | self._llama.LLAMA_TOKEN_ATTR_UNKNOWN
        found = (token for token in range(self._n_vocab) if read(vocab, token) & special)
        return SpecialTokens(map(self._token_text, found))

    def _token_text(self, token: int) -> str:
        exists = token != self._llama.LLAMA_TOKEN_NULL
        return str(self._model.token_get_text(token)) if exists else ""

    def _token_bytes(self, token: int, size: int = 64) -> bytes:
        """What a token writes, maybe a part of a character; nothing for a control token."""
        buffer = ctypes.create_string_buffer(size)
        vocab = self._model.vocab
        count = self._llama.llama_token_to_piece(vocab, token, buffer, size, 0, False)
        return buffer.raw[:count] if count >= 0 else self._token_bytes(token, -count)

    def _ask(self, request: ScoreRequest) -> "_Asked":
        whole = request.context + request.continuation[:-1]  # the last token predicts nothing asked
        row = whole[-self.context_length :]
        count = min(len(request.continuation), len(row))
        targets = request.continuation[len(request.continuation) - count :]
        return _Asked(row, targets, is_cut=len(row) < len(whole))

    def _pieces(self, tokens: list[int], sampling: Sampling) -> Iterator[Piece]:
        """Whole characters as they come; half a character at the end is dropped.

        An empty piece comes after each part of the prompt, so that it need not be read to its end.
        """
        self._forget()
        for end in range(PROMPT_TOKENS, len(tokens), PROMPT_TOKENS):
            deque(self._logits(tokens[:end], end), maxlen=0)
            yield Piece("", 0)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        sampler = build_sampler(self._llama, sampling)
        for _ in range(min(sampling.max_tokens, self.context_length - len(tokens))):
            deque(self._logits(tokens, len(tokens) - 1), maxlen=0)
            token = sampler.sample(self._context)
            # llama.cpp knows by name what ends answers of known families, and no other token
            if self._llama.llama_vocab_is_eog(self._model.vocab, token) or token in self._ends:
                yield Piece("", 0, "stop")
                return
            tokens.append(token)
            yield Piece(decoder.decode(self._token_bytes(token)))
        yield Piece("", 0, "length")

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
                shape = (len(chunk) - silent, self._n_vocab)
                logits = np.ctypeslib.as_array(self._context.get_logits(), shape)
                yield from enumerate(logits, begin + silent)

    def _decode(self, tokens: Sequence[int], begin: int, silent: int) -> None:
        """Evaluate tokens for the positions from `begin` on; `silent` of them give no logits."""
        self._batch.set_batch(tokens, begin, logits_all=True)
        for position in range(silent):
            self._batch.batch.logits[position] = False
        try:
            self._context.decode(self._batch)
        except RuntimeError as problem:
            self._forget()
            message = f"llama.cpp cannot evaluate {len(tokens)} tokens ({problem})"
            fix = "see that the token ids come from this model's own tokenizer; lower n_ctx"
            raise ArtifactError(message, fix) from problem
        self._evaluated.extend(tokens)

    def _keep_common(self, prefix: Sequence[int]) -> int:
        """Cut the cache down to what begins `prefix` too; returns how many tokens are left."""
        common = len(commonprefix([self._evaluated, list(prefix)]))
        if common < len(self._evaluated):
            if self._context.kv_cache_seq_rm(SEQUENCE, common, -1):
                del self._evaluated[common:]
            else:  # a recurrent state cannot be cut
                self._forget()
        return len(self._evaluated)

    def _forget(self) -> None:
        self._context.kv_cache_clear()
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

    def read(self, position: int, log_probabilities: Floats) -> None:
        if position >= self.first:
            token = self.targets[position - self.first]
            self.logprob += float(log_probabilities[token])
            self.greedy = self.greedy and log_probabilities.argmax() == token
