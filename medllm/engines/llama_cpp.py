"""The engine for GGUF files: llama.cpp, in this process."""

import codecs
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp

from medllm import console
from medllm.engines.base import (
    BLOCK_TOKENS,
    GenerateRequest,
    LogProbs,
    Piece,
    Sampling,
    Score,
    ScoreRequest,
)
from medllm.engines.gguf_template import GgufTemplate
from medllm.engines.llama_native import build_sampler
from medllm.engines.prompts import prompt_ids
from medllm.engines.sampling import check_sampling
from medllm.engines.writing.stopping import until_stop
from medllm.errors import ArtifactError, SetupError
from medllm.models.hardware import count_cpus

BATCH_TOKENS = 512  # tokens per pass; also bounds the buffer of logits (512 × vocabulary × 4 bytes)
PROMPT_TOKENS = 64  # of a prompt per pass: one of a large model on a CPU is over in a second or two
SEQUENCE = 0  # all rows are evaluated in one sequence of the cache

Floats = npt.NDArray[np.floating[Any]]


class LlamaCppEngine(GgufTemplate):
    """A GGUF model, loaded.

    Results do not depend on what was asked before: `score` and `generate` start from an empty
    cache, but for a request that names its owner and goes on from that owner's last one. Within
    one call of `score`, rows are evaluated in sorted order, so that those with a
    common beginning share its evaluation.
    """

    name = "llama_cpp"

    def __init__(self, path: Path, *, n_ctx: int | None = None, window: int | None = None) -> None:
        """Load the model.

        Args:
            path: A .gguf file.
            n_ctx: The most tokens of prompt and answer together; see `GgufTemplate`.
            window: See there.

        Raises:
            ArtifactError: the file is missing, or is no GGUF that llama.cpp can load.
            ConfigError: the model was made for fewer tokens than `n_ctx`.
            SetupError: llama.cpp is not set up, or memory does not suffice.
        """
        super().__init__(path, n_ctx=n_ctx, window=window)
        self._context = self._create_context()
        self._batch = self._llama._internals.LlamaBatch(
            n_tokens=BATCH_TOKENS, embd=0, n_seq_max=1, verbose=False
        )
        self._evaluated: list[int] = []  # the tokens whose keys and values are in the cache
        self._owner: str | None = None

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
            DataError: the prompt is empty, leaves no room for an answer, or comes with images; or
                llama.cpp cannot choose tokens so.
        """
        check_sampling(self.name, request.sampling)
        prompt, sampling = prompt_ids(self, request, self.context_length), request.sampling
        if request.owner is None or request.owner != self._owner:
            self._forget()
        self._owner = request.owner
        return until_stop(self._pieces(prompt, sampling, request.likelihood), sampling.stop)

    def close(self) -> None:
        """Free the model's memory."""
        self._batch.close()
        self._model.close()  # and its context

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

    def _ask(self, request: ScoreRequest) -> "_Asked":
        whole = request.context + request.continuation[:-1]  # the last token predicts nothing asked
        row = whole[-self.context_length :]
        count = min(len(request.continuation), len(row))
        targets = request.continuation[len(request.continuation) - count :]
        return _Asked(row, targets, is_cut=len(row) < len(whole))

    def _pieces(self, tokens: list[int], sampling: Sampling, likelihood: bool) -> Iterator[Piece]:
        """Whole characters as they come; half a character at the end is dropped.

        An empty piece comes after each part of the prompt, so that it need not be read to its end.
        """
        for end in range(PROMPT_TOKENS, len(tokens), PROMPT_TOKENS):
            deque(self._logits(tokens[:end], end), maxlen=0)
            yield Piece("", 0)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        room = self.context_length
        sampler = build_sampler(self._llama, sampling, tokens, self.vocabulary, room)
        for _ in range(min(sampling.max_tokens, room - len(tokens))):
            ((_, logits),) = self._logits(tokens, len(tokens) - 1)
            token = sampler.sample(self._context)
            # llama.cpp knows by name what ends answers of known families, and no other token
            if self._llama.llama_vocab_is_eog(self._model.vocab, token) or token in self._ends:
                yield Piece("", 0, "stop", ids=(token,))
                return
            tokens.append(token)
            logprob = float(logits[token] - logsumexp(logits)) if likelihood else None
            text = decoder.decode(self._token_bytes(token))
            yield Piece(text, logprob=logprob, ids=(token,))
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
                shape = (len(chunk) - silent, self.vocabulary)
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
        self._owner = None


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
