"""A quantized model's quality, on screen and as a page; neither holds text of the data."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from medllm import console
from medllm.places import short_ref
from medllm.quantize.config import Format, QuantizeConfig, QuantizeGate
from medllm.quantize.gate import judge
from medllm.quantize.holdouts import MEDICAL
from medllm.quantize.quality.advice import worst_layers
from medllm.reports.page import Page

Quality = Mapping[str, Any]
NAMES = {
    "gptq": "{bits}-bit GPTQ",
    "awq": "4-bit AWQ",
    "bnb": "bitsandbytes {type}",
    "fp8": "FP8 ({scheme})",
    "w8a8": "INT8 (W8A8)",
    "gguf": "GGUF {type}",
}
"""What people call a format, with its settings put in."""


@dataclass(frozen=True)
class Subject:
    """What a page is about."""

    model: str
    format: str
    about: Mapping[str, str | None]
    gate: QuantizeGate | None

    @classmethod
    def of(cls, config: QuantizeConfig, choice: Format) -> Self:
        """One format of a command."""
        model = short_ref(config.model) or ""
        name = NAMES[choice.format].format(**choice.model_dump())
        calibration = short_ref(config.calibration) if choice.uses_calibration else None
        about = {
            "parent": model,
            "format": choice.folder,
            "calibrated on": calibration,
            "judged on": short_ref(config.holdouts or config.calibration),
            "recipe": config.recipe,
        }
        return cls(model, name, about, config.gate)


FEW = 30
"""From how many documents on a bootstrap over them is trusted here; below, the page warns."""

WORST = 20
"""Layers that the page shows."""

MEASURES = {
    "kl_mean": "KL mean, nats",
    "kl_median": "KL median",
    "kl_p99": "KL 99th percentile",
    "top1_agreement": "same likeliest token",
    "perplexity": "perplexity",
    "perplexity_parent": "perplexity, parent",
    "nats_lost": "nats per token lost",
}


def main_figures(quality: Quality) -> dict[str, float]:
    """The main figures as flat numbers, for the manifest; KL and agreement are over all texts."""
    texts, figures = quality["texts"], {}
    if every := texts.get("all"):
        figures = {name: _value(every[name]) for name in list(MEASURES)[:4]}
    for kind in texts.keys() - {"all"}:
        for name in ("perplexity", "perplexity_parent"):
            figures[name.replace("perplexity", f"perplexity_{kind}")] = _value(texts[kind][name])
    if quality["bits_per_weight"]:
        figures["bits_per_weight"] = quality["bits_per_weight"]
    return dict(sorted(figures.items()))


def show_quality(quality: Quality) -> None:
    """Print the main measures, and what to try next; the page has all."""
    for kind, found in quality["texts"].items():
        if kind != "all":
            same = _value(found["top1_agreement"])
            texts = console.counted(found["documents"], f"{kind} text")
            console.say(
                f"  on {texts} held out: {same:.1%} of next tokens as its parent's,\n"
                f"    KL {_value(found['kl_mean']):.2g} nats a token"
            )
    for step in quality["advice"][:1]:
        console.say(console.wrapped(f"  to try next: {step}"))


def build_page(quality: Quality, costs: Mapping[str, float], subject: "Subject") -> Page:
    """The same and the distribution of the documents' mean KL as an HTML page."""
    page = Page(f"Quality: {subject.format}", _lead(quality, subject), subject.about)
    page.text(
        "What this model lost against its parent, the model that it was made from, on the holdouts "
        "of the calibration set, which no quantizer has seen. KL is the divergence of what it "
        "expects after each token from what the parent expects. The intervals are of 95 %, "
        "bootstrapped over the documents. A loss whose interval holds 0 is none that these texts "
        "can show."
    )
    page.table(*_measures(quality))
    for name, few in _few(quality):
        page.check(False, f"{name}: {few} documents are few; the true interval may be wider")
    divergences = {
        kind: [nats / tokens for nats, tokens in zip(found["kl"], found["tokens"], strict=True)]
        for kind, found in quality["documents"].items()
    }
    page.histogram("Mean KL divergence of a document", divergences, "nats per token")
    _add_layers(page, quality["layers"])
    if quality["advice"]:
        page.heading("What to try next")
    for step in quality["advice"]:
        page.item(step)
    page.heading("Medical terms and look-alike names")
    page.text(
        "Terms are rare in one, occasional in up to four texts of the medical holdout, frequent in "
        "more. A sentence with look-alike names fits only one of the two; whoever guesses prefers "
        "the fitting name in half of them."
    )
    page.table(("probe", "value", "95 % interval", "on"), list(_probes(quality)))
    page.heading("Cost")
    page.table(("cost", "value"), list(_costs(quality, costs)))
    return page


def _lead(quality: Quality, subject: "Subject") -> str:
    """What the quantized model lost, and whether that is good enough."""
    told = f"{subject.format} of {subject.model}"
    if not quality["texts"]:
        return f"What {told} lost is not known: there is no held-out text."
    kind = MEDICAL if MEDICAL in quality["texts"] else "all"
    lost, every = quality["texts"][kind]["nats_lost"], quality["texts"]["all"]
    said = "loses nothing that can be told from 0"
    if lost["low"] is None or lost["low"] > 0:
        said = f"loses {lost['value']:.2g} nats a token"
    text = "medical text" if kind == MEDICAL else "the held-out text"
    sure = f"95 % interval {_interval(lost)}"
    same = f"{_value(every['top1_agreement']):.1%} of its likeliest next tokens are the parent's"
    same += f" (KL {_value(every['kl_mean']):.2g})"
    return f"{told} {said} on {text} ({sure}); {same}. {_judged(quality, subject)}"


def _judged(quality: Quality, subject: "Subject") -> str:
    if subject.gate is None:
        return "No thresholds were set (quantize.gate), so whether that is enough is yours to say."
    checks = list(judge(subject.gate, main_figures(quality)))
    failed = "; ".join(str(check) for check in checks if not check.passed)
    return f"It fails the gate: {failed}." if failed else "It passes the gate."


def _add_layers(page: Page, layers: Sequence[Mapping[str, Any]]) -> None:
    """The quantizer's own error of the worst layers, and which it has none of."""
    errors = {row["name"]: row["error"] for row in layers if row["error"] is not None}
    if not layers:
        return
    page.heading("Layers")
    page.text(
        f"The error that the quantizer itself gives for each of {len(layers)} modules, on its "
        f"calibration text. {len(worst_layers(layers))} of them hold half of it."
    )
    worst = dict(list(errors.items())[:WORST])
    page.bars("The worst layers", {_layer(name): error for name, error in worst.items()}, "error")
    if unknown := [row["name"] for row in layers if row["error"] is None]:
        page.text(f"No error is known of those that fell back to rounding: {', '.join(unknown)}")


def _layer(name: str) -> str:
    """A module by its number and what follows, as all begin alike."""
    return re.sub(r"^\D*\.(?=\d+\.)", "", name)


def _measures(quality: Quality) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """A column for each kind of text, and one for all."""
    texts = _texts(quality)
    rows = [
        ("texts", *(str(found["documents"]) for found in texts.values())),
        ("tokens", *(f"{found['tokens']:,}" for found in texts.values())),
    ]
    for name, label in MEASURES.items():
        rows.append((label, *(_cell(found[name]) for found in texts.values())))
    return ("on held-out text", *texts), rows


def _probes(quality: Quality) -> Iterator[tuple[str, float, str, str]]:
    """What was probed, its value, its interval, and on how much."""
    for bucket, found in quality["terms"].items():
        lost = found["nats_lost"]
        size = f"{found['terms']} terms, {found['occurrences']} times, {found['documents']} texts"
        yield (f"{bucket} terms, nats per token lost", lost["value"], _interval(lost), size)
    names = quality["look_alikes"]
    size = f"{names['parent']['sentences']} sentences"
    for which in ("parent", "quantized"):
        right = names[which]["right"]
        yield (f"fitting name preferred, {which}", right["value"], _interval(right), size)
    change = names["change"]
    yield "change of its margin, nats", change["value"], _interval(change), size


def _costs(quality: Quality, costs: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    size, parent_size = (quality[name] / 1e6 for name in ("bytes", "parent_bytes"))
    yield "size", f"{size:,.1f} MB of {parent_size:,.1f}"
    if quality["bits_per_weight"]:
        yield "bits per weight of the parent", f"{quality['bits_per_weight']:.2f}"
    yield "loaded in, libraries included", f"{costs['load_seconds']:.2f} s"
    yield "scored tokens/s", f"{costs['tokens_per_second']:,.0f}"
    memory = f"{costs['peak_memory_gib']:.2f} GiB"
    yield "peak memory of a process that loads and scores it, libraries included", memory
    if "peak_gpu_memory_gib" in costs:
        yield "and on the GPU", f"{costs['peak_gpu_memory_gib']:.2f} GiB"


def _texts(quality: Quality) -> Quality:
    """What was measured by kind of text; of all together where they are of several kinds."""
    texts: Quality = quality["texts"]
    return texts if len(texts) != 2 else {k: v for k, v in texts.items() if k != "all"}


def _few(quality: Quality) -> list[tuple[str, int]]:
    terms = {f"{bucket} terms": found for bucket, found in quality["terms"].items()}
    counts = {name: found["documents"] for name, found in {**_texts(quality), **terms}.items()}
    return [(name, documents) for name, documents in counts.items() if documents < FEW]


def _value(measure: float | Mapping[str, float]) -> float:
    return measure["value"] if isinstance(measure, Mapping) else measure


def _cell(measure: float | Mapping[str, float]) -> str:
    spread = f" ({_interval(measure)})" if isinstance(measure, Mapping) else ""
    return f"{console.rounded(_value(measure))}{spread}"


def _interval(estimate: Mapping[str, float]) -> str:
    if estimate["low"] is None:
        return "none from so few texts"
    return f"{console.rounded(estimate['low'], 3)} – {console.rounded(estimate['high'], 3)}"
