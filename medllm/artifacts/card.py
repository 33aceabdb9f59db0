"""The model card (`README.md`) beside each model artifact, rendered from its manifest alone."""

from pathlib import PurePath
from typing import Any

import yaml

from medllm import console
from medllm.artifacts.manifest import BUILT_IN, Manifest
from medllm.artifacts.serving import serving_lines

MAY_SHARE = {
    "open": "as far as the data go, yes, under the licences above; check the attribution and "
    "share-alike duties of each",
    "non-commercial": "only for non-commercial purposes, under the licences above",
    "credentialed": "no: only with people who have signed the same data use agreement, "
    "through the data's own repository",
    "private": "no: this contains data of your own whose licence was not declared",
}

LICENCES = {None: "unknown", "open": "of-base-model-and-data",
            "non-commercial": "non-commercial-data", "credentialed": "data-use-agreement",
            "private": "private-data"}  # fmt: skip
"""By the strictest terms of the data, what the hub shows beside the licence "other"."""


TERMS = ("| dataset | licence | access | agreement | language |", "|---|---|---|---|---|")
OF_VLLM = "A GPU without bfloat16 (T4, V100) needs `--dtype half` for vLLM."
OF_LLAMA_CPP = (
    "`-c`, and `num_ctx` in the Modelfile, are the whole context that this file can be served "
    "with; its cache takes memory. **A prompt longer than `num_ctx` loses its beginning in "
    "Ollama, without a word.**"
)


def render_card(manifest: Manifest) -> str:
    """The card as Markdown: use, data terms with a may-I-share line, origin, results, limits."""
    titles = {"finetune": "Fine-tuned model", "merge": "Merged model"}
    titles = {"adapter": "LoRA adapter", "model": titles.get(manifest.command, "Model")}
    title = titles.get(manifest.kind, f"{manifest.format.upper()} model")
    parents = "\n".join(f"- {p.kind}: `{p.identity[:16]}`" for p in manifest.parents)
    calibration = _bullets(manifest.results.get("calibration") or {})
    sections = [
        _front_matter(manifest),
        f"# {title}, made by medllm",
        "> **Research only.** This is not a medical device. Nothing it writes may reach a patient "
        "without a qualified person who has checked it.",
        "## Intended use\n\nResearch on medical language models inside the team that made it.",
        "## Excluded use\n\nDiagnosis, treatment, triage, dosing, or any decision about a person, "
        "without qualified review.",
        _data_terms(manifest),
        f"## Origin\n\n- Base model: {_base(manifest)}\n{parents}",
        calibration and f"## Calibration\n\n{calibration}",
        "## Results\n\n" + (_bullets(manifest.results) or "None recorded."),
        _serving(manifest),
        "## Limits\n\nErrors of the base model and of the data remain. "
        "What was not measured above is not known.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _base(manifest: Manifest) -> str:
    """The base in words; of a folder its name alone, for its place says something of a machine."""
    base = manifest.base_model
    if base is None:
        return "`unknown`"
    if base.revision:
        return f"[`{base.id}`](https://huggingface.co/{base.id}), commit `{base.revision[:12]}`"
    if base.id == BUILT_IN:
        return f"`{BUILT_IN}`, which medllm builds itself; the hub has none of that name"
    return f"`{PurePath(base.id).name}`, a folder"


def _front_matter(manifest: Manifest) -> str:
    """What the hub reads, by the fields of its model cards; what is not known is left out.

    A licence of the whole is never named: that of the base model was not checked.
    """
    is_adapter, is_gguf = manifest.kind == "adapter", manifest.format == "gguf"
    sees = any(file.path.endswith("processor_config.json") for file in manifest.files)  # images
    base = manifest.base_model
    is_on_hub = base is not None and base.revision is not None  # a folder has none
    kind = "lora" if is_adapter else manifest.format if manifest.kind == "quantized" else ""
    fields = {
        "language": _languages(manifest),
        "library_name": "peft" if is_adapter else "llama-cpp-python" if is_gguf else "transformers",
        "pipeline_tag": "image-text-to-text" if sees else "text-generation",
        "license": "other",
        "license_name": LICENCES[manifest.access],
        "base_model": base.id if base and is_on_hub else None,
        "base_model_relation": _relation(manifest) if is_on_hub else None,
        "datasets": sorted({term.hub for term in manifest.data_terms if term.hub}),
        "tags": ["medical", "research-only", "medllm", *filter(None, [kind])],
    }
    known = {name: value for name, value in fields.items() if value}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, default_flow_style=None)}---"


def _languages(manifest: Manifest) -> list[str]:
    """The languages of all its data; none where those of any are not known."""
    codes = [term.language for term in manifest.data_terms]
    return sorted({code for each in codes for code in each}) if all(codes) else []


def _relation(manifest: Manifest) -> str:
    """What the hub calls a descendant; to it a merge has several models, and no adapter in it."""
    if manifest.kind == "adapter":
        return "adapter"
    is_of_base = any(parent.kind == "hub" for parent in manifest.parents)
    return "quantized" if manifest.kind == "quantized" and is_of_base else "finetune"


def _data_terms(manifest: Manifest) -> str:
    terms = manifest.data_terms
    if not terms:
        unknown = "None recorded. **May I share it?** Not known: ask who made the base model."
        return f"## Data terms\n\n{unknown}"
    rows = [
        f"| {t.dataset} | {t.licence} | {t.access} | {t.agreement or ''} "
        f"| {', '.join(t.language) or 'not declared'} |"
        for t in terms
    ]
    table = "\n".join([*TERMS, *rows])
    share = MAY_SHARE[manifest.access or "private"].capitalize()
    return (
        f"## Data terms\n\n{table}\n\n"
        f"**May I share it?** {share}. The base model has a licence of its own, "
        "which medllm did not check."
    )


def _serving(manifest: Manifest) -> str:
    lines = "\n".join(serving_lines(manifest))
    if not lines:
        return ""
    note = OF_VLLM if "vllm" in lines else OF_LLAMA_CPP
    return f"## Serving\n\nIn this folder:\n\n```sh\n{lines}\n```\n\n{note}"


def _bullets(values: dict[str, Any]) -> str:
    plain = {name: value for name, value in values.items() if not isinstance(value, list | dict)}
    texts = {n: console.rounded(v) if isinstance(v, float) else v for n, v in plain.items()}
    return "\n".join(f"- {name}: {text}" for name, text in texts.items())
