"""Choosing the next token from what a model expects, by transformers' own rules."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from medllm.engines.sampling import Sampling

if TYPE_CHECKING:
    import torch


class Chooser:
    """Chooses the tokens of one answer as its `Sampling` says; each answer has its own seed."""

    def __init__(self, sampling: Sampling, prompt_tokens: int) -> None:
        import torch

        changes = sampling.has_penalties or sampling.logit_bias
        self.is_plain = sampling.is_greedy and not changes
        """Whether the likeliest token is taken, whatever stands before it."""
        self._is_greedy = sampling.is_greedy
        self._changes = changes_of(sampling, prompt_tokens)
        self._generator = torch.Generator()
        if sampling.seed_32 is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed_32)

    def choose(self, ids: "torch.Tensor", logits: "torch.Tensor") -> int:
        """A token to follow `ids`, shape (1, tokens); logits have the shape (1, vocabulary)."""
        import torch

        scores = self._changes(ids, logits)
        if self._is_greedy:
            return int(scores.argmax())
        # drawn on the CPU, so that a seed gives the same answer wherever the model is
        chances = scores.softmax(-1).cpu()
        return int(torch.multinomial(chances, 1, generator=self._generator))


def changes_of(sampling: Sampling, prompt_tokens: int) -> Any:
    """What changes the logits before a token is taken, in the order of `Sampling`."""
    from transformers.generation import logits_process as rules

    changes: list[Any] = []
    if sampling.logit_bias:
        changes.append(_Bias(sampling))
    if sampling.repetition_penalty != 1:
        changes.append(rules.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.presence_penalty or sampling.frequency_penalty:
        changes.append(_AnswerPenalty(sampling, prompt_tokens))
    if not sampling.is_greedy:
        changes.append(rules.TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            changes.append(rules.TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            changes.append(rules.TopPLogitsWarper(sampling.top_p))
        if sampling.min_p:
            changes.append(rules.MinPLogitsWarper(sampling.min_p))
    return rules.LogitsProcessorList(changes)


class _Bias:
    """Adds to the logits of some tokens."""

    def __init__(self, sampling: Sampling) -> None:
        self._bias = dict(sampling.logit_bias)

    def __call__(self, ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        scores = scores.clone()
        scores[:, [*self._bias]] += scores.new_tensor([*self._bias.values()])
        return scores


class _AnswerPenalty:
    """OpenAI's presence and frequency penalty: the prompt's tokens count for nothing."""

    def __init__(self, sampling: Sampling, prompt_tokens: int) -> None:
        self._sampling, self._begin = sampling, prompt_tokens

    def __call__(self, ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        scores = scores.clone()
        for row, written in enumerate(ids[:, self._begin :].tolist()):
            for token, count in Counter(written).items():
                frequency = count * self._sampling.frequency_penalty
                scores[row, token] -= frequency + self._sampling.presence_penalty
        return scores
