"""The proof of a merge: the saved model computes what base + adapter do, and not what the base."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from medllm import console
from medllm.errors import ArtifactError
from medllm.models.adapter import add_adapter, with_tokenizer
from medllm.models.load import ModelRef, check_ids, load_causal_lm, load_tokenizer
from medllm.models.offload import exact_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medllm.merge.fold import Rounding

PROBES = (
    "The chest radiograph shows no focal consolidation, pleural effusion or pneumothorax.",
    "Question: Is metformin used in type 2 diabetes?\nAnswer: yes",
    "Heart rate 115, blood pressure 95/60 mmHg, respiratory rate 26, temperature 38.8 °C.",
    "Impression: 1. Stable 4 mm nodule in the right upper lobe. 2. No acute abnormality.\n"
    "Recommendation: follow-up computed tomography in 12 months if the patient is at high risk.",
)
"""Texts whose logits are compared."""
EXACT = ("float32", "float64")
"""Formats of files that lose nothing that counts where they are computed in float32."""
ROUNDING = 1e-3
"""A mean difference below this share of the adapter's change comes of rounding alone: in float32
that grows with the logits, and one matrix that is missing makes some hundredths."""
SAME = ("eos_token", "bos_token", "pad_token", "chat_template")


@dataclass(frozen=True)
class Limits:
    """How far the logits of merged model and base + adapter may be apart."""

    max_difference: float
    mean_share: float
    """Of the mean difference between merged model and base, which is the adapter's change."""
    agreement: float = 0.99
    """The share of positions at which the likeliest token must be the same, ties left aside."""

    @classmethod
    def of(cls, stored: str, computed: str, max_difference: float) -> Self:
        """Those for a format of weights and one of computing.

        Weights of 16 bits are rounded after the fold. To compute in 16 bits rounds each activation,
        by about a hundredth of the logits: only large mistakes show.
        """
        if computed != "float32":
            return cls(inf, 0.2, 0.95)
        return cls(max_difference, inf) if stored in EXACT else cls(inf, 0.05)

    def are_met(self, results: "Mapping[str, Any]") -> bool:
        """Whether they are; a NaN meets none."""
        change, agreement = results["mean_difference_from_base"], results["top1_agreement"]
        mean = results["mean_difference"]
        scale = max(1.0, results["largest_logit"]) if mean < ROUNDING * change else 1.0
        return (
            results["max_difference"] <= self.max_difference * scale
            and mean <= self.mean_share * change
            and (agreement is None or agreement >= self.agreement)
        )


@dataclass(frozen=True)
class Merged:
    """What was written, and how."""

    location: str
    dtype: str
    rounding: "Mapping[str, Rounding]" = field(default_factory=dict)


def check_merge(
    merged: Merged, base: ModelRef, adapter: ModelRef, max_difference: float
) -> dict[str, Any]:
    """How far the saved model is from base + adapter and from the base; one is loaded at a time.

    Raises:
        ArtifactError: it computes something else, or its tokenizer is another.
    """
    console.notice("merge: checking the saved model against base + adapter, and against the base")
    began = time.monotonic()
    tokenizer = load_tokenizer(merged.location)
    _check_tokenizer(tokenizer, load_tokenizer(with_tokenizer(adapter, base).location))
    for text in PROBES:
        check_ids(merged.location, tokenizer(text)["input_ids"])
    device, dtype = exact_place(Path(merged.location), merged.dtype)
    if dtype != "float32":
        what = f"comparing in {dtype}, which shows large mistakes alone"
        console.notice(f"merge: memory is too small to compare in float32; {what}")
    with _multiplying_exactly():
        model = load_causal_lm(merged.location, dtype=dtype, device=device)
        found = _logits(model, tokenizer)
        del model
        model = load_causal_lm(base.location, dtype=dtype, device=device)
        _round(model, merged)
        plain = _logits(model, tokenizer)
        expected = _logits(add_adapter(model, adapter), tokenizer)
    results = _compare(found, expected, plain) | {"compared_in": dtype}
    _check(results, Limits.of(merged.dtype, dtype, max_difference))
    return {**results, "verification_seconds": round(time.monotonic() - began, 2)}


@contextmanager
def _multiplying_exactly() -> Iterator[None]:
    """Meanwhile float32 is multiplied as such: not in TF32 on a GPU, nor in bfloat16 on a CPU."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _round(model: "PreTrainedModel", merged: Merged) -> None:
    """Do to the base's weights what was done to them before the fold."""
    import torch

    dtype = getattr(torch, merged.dtype)
    for name, weight in model.named_parameters():
        if rounded := merged.rounding.get(name):
            weight.data = rounded(weight.data.to(dtype)).to(weight.dtype)


def _check_tokenizer(found: "PreTrainedTokenizerBase", expected: "PreTrainedTokenizerBase") -> None:
    wrong = [name for name in SAME if getattr(found, name) != getattr(expected, name)]
    if wrong or found.get_vocab() != expected.get_vocab():
        message = f"the merged model has another {wrong[0] if wrong else 'vocabulary'}"
        raise ArtifactError(message, "merge again; if it persists, report the adapter")


def _logits(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> "Tensor":
    """The logits of all probes, in float32, shape (tokens, vocabulary)."""
    import torch

    with torch.inference_mode():
        batches = [tokenizer(text, return_tensors="pt").to(model.device) for text in PROBES]
        rows = [model(input_ids=batch["input_ids"]).logits[0].float().cpu() for batch in batches]
        return torch.cat(rows)


def _compare(found: "Tensor", expected: "Tensor", plain: "Tensor") -> dict[str, Any]:
    width = min(found.shape[-1], plain.shape[-1])  # an adapter may have added tokens
    difference = (found - expected).abs()
    best = expected.topk(2).values
    # rounding may turn a tie round, and says nothing of the merge
    clear = best[:, 0] - best[:, 1] > 2 * difference.mean()
    agreement = (found.argmax(-1) == expected.argmax(-1))[clear].float()
    return {
        "max_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "mean_difference_from_base": float((found[:, :width] - plain[:, :width]).abs().mean()),
        "largest_logit": float(expected.abs().max()),
        "top1_agreement": float(agreement.mean()) if len(agreement) else None,
        "ties": int((~clear).sum()),
    }


def _check(results: dict[str, Any], limits: Limits) -> None:
    """Raise ArtifactError unless the merged model computes as base + adapter, not as the base."""
    if results["mean_difference_from_base"] == 0:
        message = "the merged model equals its base: the adapter changes nothing"
        raise ArtifactError(message, "train it longer, or name another adapter")
    if not limits.are_met(results):
        worst, dtype = results["max_difference"], results["compared_in"]
        message = f"the merged model differs from base + adapter: logits by up to {worst:.2g}"
        raise ArtifactError(
            f"{message}, compared in {dtype}",
            "merge with --set merge.dtype=float32; "
            "if it persists, report the adapter's configuration",
        )
