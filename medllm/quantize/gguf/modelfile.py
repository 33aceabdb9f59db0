"""What lies beside a GGUF file for those who serve it: Ollama's Modelfile, template, settings."""

import json
import shutil
from pathlib import Path

from medllm.artifacts.serving import MODELFILE
from medllm.models.chat.answer_end import answer_end, end_ids
from medllm.models.chat.template import TokenizerTemplate
from medllm.models.load import GENERATION, ModelRef, load_tokenizer

HEAD = """# ollama create my-model -f Modelfile
# There is no TEMPLATE: Ollama takes the chat template in the GGUF file where it knows it, and else
# sends the prompt as it is; compare with chat_template.jinja, and write one where it differs.
"""
CONTEXT = """# num_ctx is the whole context of the model. Its cache takes memory: lower it if
# need be. Ollama cuts the beginning off a prompt that does not fit, and says nothing; without this
# line it takes a few thousand tokens.
PARAMETER num_ctx {}
"""
KNOWN_TO_LLAMA_CPP = frozenset(
    {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"}
)
"""Tokens whose names alone tell llama.cpp that they end an answer (llama-vocab.cpp)."""


def end_note(model: ModelRef) -> dict[str, str | int]:
    """Metadata that names the token which ends an answer, where llama.cpp would not know it."""
    tokenizer = load_tokenizer(model.location)
    end = answer_end(TokenizerTemplate(tokenizer))
    if not end or end in KNOWN_TO_LLAMA_CPP or end == tokenizer.eos_token:
        return {}
    return {"tokenizer.ggml.eot_token_id": int(tokenizer.convert_tokens_to_ids(end))}


def write_companions(model: ModelRef, weights: Path, context_tokens: int | None) -> None:
    """Write the Modelfile, the chat template and the generation settings beside a GGUF file."""
    tokenizer, folder = load_tokenizer(model.location), weights.parent
    head = f"{HEAD}FROM ./{weights.name}\n"
    head += CONTEXT.format(context_tokens) if context_tokens else ""
    if (model.path / GENERATION).is_file():
        shutil.copyfile(model.path / GENERATION, folder / GENERATION)
    ends = [
        answer_end(TokenizerTemplate(tokenizer)),
        *tokenizer.convert_ids_to_tokens(end_ids(model.path)),
        tokenizer.eos_token,
    ]
    stops = (f"PARAMETER stop {json.dumps(end)}\n" for end in dict.fromkeys(filter(None, ends)))
    (folder / MODELFILE).write_text(head + "".join(stops), encoding="utf-8")
    if isinstance(tokenizer.chat_template, str):
        template = folder / "chat_template.jinja"
        template.write_text(tokenizer.chat_template, encoding="utf-8")
