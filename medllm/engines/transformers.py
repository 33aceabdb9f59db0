"""The transformers engine: model directories, adapters on their base, GPTQ directories."""

from collections.abc import Iterator, Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any

from medllm.engines.base import Piece, Sampling, Score, ScoreRequest
from medllm.models.chat import TokenizerTemplate

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 4096
"""Tokens of one scoring batch, padding included: logits stay in cache, and memory stays flat."""


class TransformersEngine(TokenizerTemplate):
    """A causal language model in this process."""

    name = "transformers"

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        n_ctx: int | None = None,
    ) -> None:
        super().__init__(tokenizer)
        self.model = model
        positions = getattr(model.config, "max_position_embeddings", None) or 2048
        self._context_length = min(n_ctx or positions, positions)

    @property
    def context_length(self) -> int:
        """The model's positions, or fewer if asked."""
        return self._context_length

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """The likelihood of each continuation.

        Requests with the same input share a forward pass, those with the same context share its
        keys and values; a token with nothing before it is not scored.
        """
        by_row: dict[tuple[int, ...], list[int]] = {}
        by_context: dict[tuple[int, ...], list[int]] = {}
        for index, request in enumerate(requests):
            by_row.setdefault(self._row(request), []).append(index)
            by_context.setdefault(request.context, []).append(index)
        scores: dict[int, Score] = {}
        for context, indices in by_context.items():
            if len({self._row(requests[index]) for index in indices}) > 1 and context:
                found = self._score_shared(context, [requests[i].continuation for i in indices])
                scores.update(zip(indices, found, strict=True))
        rest = [row for row, indices in by_row.items() if row and indices[0] not in scores]
        for batch in _batches(sorted(rest, key=len)):
            for row, logits in zip(batch, self._logits(batch), strict=True):
                for index in by_row[row]:
                    scores[index] = _score(requests[index].continuation, logits)
        return [scores.get(index, Score(0.0, 0, True)) for index in range(len(requests))]

    def _row(self, request: ScoreRequest) -> tuple[int, ...]:
        """What the model is given: all but the last token, cut on the left as lm-eval does."""
        return (*request.context, *request.continuation[:-1])[-self.context_length :]

    def _score_shared(
        self, context: tuple[int, ...], continuations: Sequence[tuple[int, ...]]
    ) -> list[Score]:
        """The scores of several continuations of one context, which is read once."""
        import torch

        room = self.context_length - max(map(len, continuations))
        kept = context[-max(room, 1) :]
        scores = []
        with torch.inference_mode():
            read = self.model(input_ids=self._tensor(kept), use_cache=True, logits_to_keep=1)
            cache = read.past_key_values
            for continuation in continuations:
                logits = read.logits[0]
                if len(continuation) > 1:
                    more = self.model(
                        input_ids=self._tensor(continuation[:-1]), past_key_values=cache
                    )
                    cache.crop(1 - len(continuation))
                    logits = torch.cat([logits, more.logits[0]])
                scores.append(_score(continuation, logits))
        return scores

    def _tensor(self, ids: Sequence[int]) -> "torch.Tensor":
        import torch

        return torch.tensor([list(ids)], device=self.model.device)

    def _logits(self, batch: Sequence[tuple[int, ...]]) -> Iterator["torch.Tensor"]:
        """Logits of the next token at every position of each row, shape (tokens, vocabulary)."""
        import torch

        longest = max(map(len, batch))
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(batch):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        device = self.model.device
        with torch.inference_mode():
            logits = self.model(
                input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False
            ).logits
        for number, row in enumerate(batch):
            yield logits[number, : len(row)]

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Piece]:
        """The answer, piece by piece."""
        import torch
        from transformers import TextIteratorStreamer

        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        ids = self._tensor(prompt)
        counter = _Counter()
        arguments: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "max_new_tokens": sampling.max_tokens,
            "do_sample": sampling.temperature > 0,
            "streamer": streamer,
            "stopping_criteria": [counter],
            "pad_token_id": self.tokenizer.pad_token_id or 0,
        }
        if sampling.temperature > 0:
            arguments |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        failures: list[Exception] = []
        worker = Thread(target=self._generate, args=(arguments, failures), daemon=True)
        worker.start()
        try:
            yield from _until_stop(streamer, sampling, counter)
        finally:
            counter.stopped = True
            worker.join()
            if failures:
                raise failures[0]

    def _generate(self, arguments: dict[str, Any], failures: list[Exception]) -> None:
        try:
            self.model.generate(**arguments)
        except (RuntimeError, ValueError) as problem:  # raised again where the answer is read
            failures.append(problem)
        finally:
            arguments["streamer"].end()  # else the reader waits for ever

    def close(self) -> None:
        """Drop the model."""
        del self.model


class _Counter:
    """Counts generated tokens, and ends generation when its reader went away."""

    def __init__(self) -> None:
        self.tokens = 0
        self.stopped = False

    def __call__(self, ids: "torch.Tensor", scores: Any, **_: Any) -> "torch.Tensor":
        import torch

        self.tokens += 1
        return torch.full((ids.shape[0],), self.stopped, dtype=torch.bool, device=ids.device)


def _until_stop(texts: Any, sampling: Sampling, counter: _Counter) -> Iterator[Piece]:
    """The streamed texts up to the first stop string, which is never shown, not even in part."""
    held, counted = "", 0
    for text in texts:
        held += text
        cut = min((at for stop in sampling.stop if (at := held.find(stop)) >= 0), default=None)
        if cut is not None:
            yield Piece(held[:cut], counter.tokens - counted, "stop")
            return
        keep = _possible_stop(held, sampling.stop)
        ready, held = held[: len(held) - keep], held[len(held) - keep :]
        if ready:
            tokens = counter.tokens
            yield Piece(ready, tokens - counted)
            counted = tokens
    yield Piece(
        held,
        counter.tokens - counted,
        "length" if counter.tokens >= sampling.max_tokens else "stop",
    )


def _possible_stop(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop string."""
    return max(
        (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
    )


def _batches(rows: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    batch: list[tuple[int, ...]] = []
    for row in rows:  # sorted by length: the last is the longest
        if batch and (len(batch) + 1) * len(row) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _score(continuation: tuple[int, ...], logits: "torch.Tensor") -> Score:
    """The score of a continuation from its row's logits: float32, only the positions needed."""
    import torch

    kept = logits[-len(continuation) :].float()
    targets = torch.tensor(continuation[-len(kept) :], device=kept.device)
    chosen = torch.log_softmax(kept, dim=-1).gather(1, targets[:, None])
    greedy = bool((kept.argmax(dim=-1) == targets).all())
    return Score(float(chosen.double().sum()), len(targets), greedy)
