"""The page on a quantized model says first what was lost, and whether that is good enough."""

import re
from typing import Any

import pytest

from medllm.quantize.config import GgufFormat, GptqFormat, QuantizeConfig
from medllm.quantize.quality.advice import advise
from medllm.quantize.quality.report import Subject, build_page

COSTS = {"load_seconds": 0.2, "tokens_per_second": 1000.0, "peak_memory_gib": 0.1}


def estimate(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def quality(low: float | None, *kinds: str) -> dict[str, Any]:
    """What a format lost: 0.004 nats a token on every kind of text."""
    found = {
        "documents": 40,
        "tokens": 9_000,
        "kl_mean": estimate(0.003, 0.002, 0.004),
        "kl_median": 0.001,
        "kl_p99": 0.03,
        "top1_agreement": estimate(0.9712, 0.96, 0.98),
        "perplexity": estimate(8.4, 8.0, 9.0),
        "perplexity_parent": estimate(8.0, 7.0, 9.0),
        "nats_lost": estimate(0.004, low, 0.006),
    }
    guess = {"right": estimate(0.5, 0.4, 0.6), "sentences": 64}
    return {
        "texts": dict.fromkeys(kinds, found),
        "documents": {kind: {"tokens": [10], "kl": [0.1], "nats_lost": [0.1]} for kind in kinds},
        "terms": {},
        "look_alikes": {"parent": guess, "quantized": guess, "change": estimate(0.1)},
        "bytes": 10,
        "parent_bytes": 40,
        "bits_per_weight": 4.2,
        "layers": [{"name": "model.layers.10.mlp.down_proj", "error": 0.1}],
        "advice": [],
    }


def page(found: dict[str, Any], **settings: Any) -> str:
    written = {"formats": [{"format": "gptq"}], "model": "/home/anna/runs/mine/merge", **settings}
    config = QuantizeConfig.model_validate(written, strict=False)
    return build_page(found, COSTS, Subject.of(config, config.formats[0])).render()


def test_it_begins_with_the_loss_its_interval_and_the_agreement() -> None:
    html = page(quality(0.002, "medical", "general", "all"), recipe="mine")

    assert (
        "4-bit GPTQ of mine/merge loses 0.004 nats a token on medical text (95 % interval 0.002 – "
        "0.006); 97.1% of its likeliest next tokens are the parent&#39;s (KL 0.003). No thresholds "
    ) in html
    assert re.search("<td[^>]*>recipe</td><td[^>]*>mine</td>", html)
    assert "/home" not in html


def test_a_loss_that_cannot_be_shown_is_none() -> None:
    assert "loses nothing that can be told from 0 on medical" in page(
        quality(-0.001, "medical", "all")
    )


def test_without_medical_text_that_is_not_claimed() -> None:
    html = page(quality(0.002, "general", "all"))

    assert "nats a token on the held-out text (95" in html


def test_without_texts_nothing_is_claimed() -> None:
    assert "is not known: there is no held-out text" in page(quality(0.002))


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"max_kl": 0.005}, "It passes the gate."),
        ({"max_kl": 0.001}, "It fails the gate: kl 0.003 is more than max_kl 0.001."),
        ({"max_perplexity_increase": 0.04}, "It fails the gate: perplexity_increase 0.05 is more"),
    ],
)
def test_it_says_whether_the_gate_is_passed(gate: dict[str, float], said: str) -> None:
    assert said in page(quality(0.002, "medical", "all"), gate=gate)


def test_the_worst_layers_are_named_by_what_differs_and_then_what_to_try() -> None:
    found = quality(0.002, "medical", "all") | {"advice": ["more <bits>"]}
    found["layers"] += [{"name": "model.layers.0.self_attn.q_proj", "error": None}]

    html = page(found)

    assert ">10.mlp.down_proj</text>" in html
    assert "fell back to rounding: model.layers.0.self_attn.q_proj" in html
    assert "<li>more &lt;bits&gt;</li>" in html
    assert "Layers" not in page(found | {"layers": []})


def test_a_model_that_is_not_its_parent_is_not_called_lossless() -> None:
    found = quality(-0.1, "medical", "all")
    choice = GptqFormat()

    assert advise(found, choice, 128)[0].startswith("nothing: the loss")

    strange = found["texts"]["all"] | {"top1_agreement": estimate(0.73), "kl_mean": estimate(0.81)}
    first, *more = advise(found | {"texts": found["texts"] | {"all": strange}}, choice, 128)

    assert "in 73% of places only (KL 0.81)" in first
    assert more


@pytest.mark.parametrize("lost", [-0.1, 0.5])
def test_a_file_of_8_bits_that_is_not_its_parent_was_converted_wrongly(lost: float) -> None:
    found = quality(lost, "medical", "all")
    found["texts"]["all"] |= {"top1_agreement": estimate(0.33)}

    (only,) = advise(found, GgufFormat(type="Q8_0"), 0)

    assert only.startswith("do not use gguf-q8_0: ")
    assert len(advise(found, GgufFormat(type="Q4_K_M"), 0)) > 1


def test_texts_of_one_kind_are_not_told_twice() -> None:
    found = quality(0.002, "medical", "all")
    found["texts"] = dict.fromkeys(("medical", "all"), {**found["texts"]["all"], "documents": 12})

    assert page(found).count("12 documents are few") == 1
