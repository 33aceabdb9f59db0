"""The transformers engine: model directories, adapters on their base, GPTQ directories."""

from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from medllm.engines.base import (
    BLOCK_TOKENS,
    GenerateRequest,
    LogProbs,
    OnDevice,
    Piece,
    Sampling,
    Score,
    ScoreRequest,
    choose_context,
    encodable,
)
from medllm.engines.growing_text import GrowingText
from medllm.engines.prompts import prompt_ids
from medllm.engines.sampling import check_sampling
from medllm.engines.scoring.batches import Batches
from medllm.engines.scoring.cache import is_attention_alone
from medllm.engines.scoring.prefixes import rows_of
from medllm.engines.settings import neutral_settings, unused_settings
from medllm.engines.writing.alone import NO_TOKEN, base_of, write_tokens
from medllm.engines.writing.rows import Row
from medllm.engines.writing.stopping import until_stop
from medllm.engines.writing.together import Together
from medllm.errors import DataError
from medllm.models.chat.template import TokenizerTemplate
from medllm.models.memory import release_gpu

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONTEXT_KEYS = ("max_position_embeddings", "max_seq_len", "seq_length", "context_length")
"""What configurations call it: most models, MPT, BLOOM, RWKV."""


class TransformersEngine(TokenizerTemplate):
    """A causal language model in this process."""

    name = "transformers"

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        n_ctx: int | None = None,
    ) -> None:
        """Take a loaded model.

        Args:
            model: In evaluation mode. Its generation settings become neutral: what `Sampling` says
                is all that decides an answer.
            tokenizer: Its tokenizer.
            n_ctx: The most tokens of prompt and answer together; by default what the model was
                made for.

        Raises:
            ConfigError: it was made for fewer than `n_ctx`.
        """
        super().__init__(tokenizer)
        self.model = model
        self.context_length = choose_context(n_ctx, _made_for(model))
        self.batches = _batches_of(model)
        self._can_go_back = True  # until a first pass shows otherwise
        self._ends = _end_tokens(model, tokenizer)
        self._together = Together.with_model(model, tokenizer, self._ends, self.batches)
        self.unused_settings: Mapping[str, Any] = unused_settings(model.generation_config)
        base_of(model).generation_config = neutral_settings(self._ends, tokenizer.pad_token_id)

    @property
    def batch_tokens(self) -> int:
        """The most tokens of a pass that scores, padding included."""
        return self.batches.tokens

    @property
    def shares_prefixes(self) -> bool:
        """Whether common beginnings are read once; a model may show that it cannot go on."""
        return self.batches.shares

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text; half of a surrogate pair in it is replaced."""
        return super().encode(encodable(text), add_special_tokens=add_special_tokens)

    @property
    def vocabulary(self) -> int:
        """The rows of the model's embedding."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens as they are spelled."""
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """The likelihood of each continuation.

        Requests with the same input share a row, and rows the keys and values of what they begin
        with; a token with nothing before it is not scored.
        """
        rows: defaultdict[tuple[int, ...], list[ScoreRequest]] = defaultdict(list)
        for request in dict.fromkeys(requests):
            rows[self._row(request)].append(request)
        scores = {request: Score(0.0, 0, True) for request in rows.pop((), ())}
        scores |= self.batches.score(self.model, rows_of(rows))
        return [scores[request] for request in requests]

    def _row(self, request: ScoreRequest) -> tuple[int, ...]:
        """What the model is given: all but the last token, cut on the left as lm-eval does."""
        return (*request.context, *request.continuation[:-1])[-self.context_length :]

    def _tensor(self, ids: Sequence[int]) -> "torch.Tensor":
        import torch

        return torch.tensor([list(ids)], device=self.model.device)

    def _logits(self, batch: Sequence[tuple[int, ...]]) -> Iterator["torch.Tensor"]:
        """Logits of the next token at every position of each row, shape (tokens, vocabulary)."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        # No mask: no token sees the padding, which comes after it.
        ids = pad_sequence([torch.tensor(row) for row in batch], batch_first=True)
        with torch.inference_mode():
            logits = self.model(input_ids=ids.to(self.model.device), use_cache=False).logits
        return (logits[number, : len(row)] for number, row in enumerate(batch))

    def log_probs(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        """What the model expects after each token, in blocks of positions.

        A block reads the keys and values of those before it: the logits of a whole document never
        stand in memory. Only a model with a recurrent state (Mamba, Qwen3-Next) reads it at once:
        it would forget what came before a block.
        """
        is_bounded = self.batches.on_gpu
        return self.batches.halving(lambda: self._read(ids)) if is_bounded else self._read(ids)

    def _read(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        at_once = self.batches.positions if self.batches.on_gpu else BLOCK_TOKENS
        if self._can_go_back and len(ids) > at_once:
            yield from self._by_blocks(ids, at_once)
        else:
            yield from self._at_once(ids)

    def _by_blocks(self, ids: Sequence[int], at_once: int) -> Iterator[LogProbs]:
        import torch

        cache = None
        for begin in range(0, len(ids), at_once):
            block = self._tensor(ids[begin : begin + at_once])
            with torch.inference_mode():
                read = self.model(input_ids=block, past_key_values=cache, use_cache=True)
            cache = getattr(read, "past_key_values", None)
            if not is_attention_alone(cache):
                self._can_go_back = False
                yield from self._at_once(ids)
                return
            yield from self._blocks_of(read.logits[0])

    def _at_once(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        for logits in self._logits([tuple(ids)] if ids else []):
            yield from self._blocks_of(logits)

    def _blocks_of(self, logits: "torch.Tensor") -> Iterator[LogProbs]:
        import torch

        for block in logits.split(BLOCK_TOKENS):
            with torch.inference_mode():
                expected = torch.log_softmax(block.float(), dim=-1)
            yield OnDevice(expected) if self.batches.on_gpu else expected.cpu().numpy()

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        """The answer, piece by piece; its last piece says why it ended.

        Raises:
            DataError: the prompt is empty, leaves no room for an answer, or comes with images.
        """
        check_sampling(self.name, request.sampling)
        prompt, sampling = prompt_ids(self, request, self.context_length), request.sampling
        return until_stop(self._pieces(prompt, sampling), sampling.stop)

    def _pieces(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Piece]:
        text = GrowingText(self.tokenizer)
        room = self.context_length - len(prompt)
        with closing(write_tokens(self.model, prompt, sampling, room)) as tokens:
            for token, logprob in tokens:
                if token == NO_TOKEN:
                    yield Piece("", 0)
                    continue
                if token in self._ends:
                    yield Piece("", 0, "stop", ids=(token,))
                    return
                yield Piece(text.add(token), logprob=logprob, ids=(token,))
        yield Piece("", 0, "length")

    def generate_batch(
        self, requests: Sequence[GenerateRequest]
    ) -> Generator[tuple[int, Piece | DataError]]:
        """The pieces of all answers as they come, each with the place of its request.

        Rows of like length are written together, `batch_size` at most. Beams, and models that
        rows cannot be padded for, are written one after another.
        """
        rows: list[Row] = []
        for place, request in enumerate(requests):
            try:
                rows.append(self._row_of(place, request))
            except DataError as problem:
                yield place, problem
        plain = [row for row in rows if row.sampling.num_beams == 1]
        if len(plain) > 1 and self.batch_size > 1 and self._together.is_able(plain[0].prompt):
            yield from self._together.write(plain)
            rows = [row for row in rows if row.sampling.num_beams > 1]
        for row in rows:
            for piece in self.generate(GenerateRequest(row.prompt, row.sampling)):
                yield row.place, piece

    @property
    def batch_size(self) -> int:
        """The most answers that are written together."""
        return self._together.most_rows

    @batch_size.setter
    def batch_size(self, most: int) -> None:
        self._together.most_rows = most

    def _row_of(self, place: int, request: GenerateRequest) -> Row:
        check_sampling(self.name, request.sampling)
        prompt, sampling = prompt_ids(self, request, self.context_length), request.sampling
        room = min(sampling.max_tokens, self.context_length - len(prompt))
        return Row(place, prompt, sampling, room)

    def close(self) -> None:
        """Drop the model."""
        del self.model, self._together
        release_gpu()


def _batches_of(model: "PreTrainedModel") -> Batches:
    """How much is read at once."""
    import torch

    if model.device.type != "cuda":
        return Batches.on_processor(model)
    # cuDNN takes seconds to plan attention for each new length of a batch
    torch.backends.cuda.enable_cudnn_sdp(False)
    return Batches.fitting(model)


def _end_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """What ends an answer: the model's generation settings and its tokenizer say so."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = named if isinstance(named, list) else [named]
    return frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None)


def _made_for(model: "PreTrainedModel") -> int | None:
    """The tokens of context that a model was made for; None where its configuration names none."""
    config = model.config.get_text_config()
    return next((found for name in CONTEXT_KEYS if (found := getattr(config, name, None))), None)
