"""What ends an answer: the token that the chat template writes after it goes with the model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.data.example import Message
from medllm.errors import MedllmError
from medllm.models.chat.template import Template, TokenizerTemplate, end_of
from medllm.models.load import GENERATION, load_tokenizer, read_config, text_config_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = "Paracetamol"
QUESTION = Message("user", "What lowers fever?")
KNOWN_ENDS = (
    "</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<|im_end|>", "<|eot_id|>",
    "<end_of_turn>", "<|end|>", "[EOS]",
)  # fmt: skip
"""End-of-text tokens of known families, for tokenizers that do not say theirs."""
ADDED = "<|endoftext|>"


def answer_end(template: Template) -> str:
    """The special token that ends an answer: the chat template's, else the end-of-text token.

    It is "" where there is neither.
    """
    return end_of(template, tail_of(template)) or template.eos_token


def tail_of(template: Template) -> str:
    """What the chat template writes after an answer; "" where there is none that can be used."""
    if not template.has_chat_template:
        return ""
    try:
        turns = (QUESTION, Message("assistant", ANSWER))
        return template.render(turns, add_generation_prompt=False).rpartition(ANSWER)[2]
    except MedllmError:  # it refuses this conversation, or it is broken: whoever needs it is told
        return ""


def reserve_end(tokenizer: "PreTrainedTokenizerBase", model: Path) -> bool:
    """Give a tokenizer without an end-of-text token one; whether it was changed.

    Without one an answer has no end that can be trained on.
    """
    if tokenizer.eos_token is not None:
        return False
    vocabulary = tokenizer.get_vocab()
    said = [tokenizer.convert_ids_to_tokens(token) for token in end_ids(model)]
    known = (token for token in (*said, *KNOWN_ENDS) if token in vocabulary)
    chosen = next(known, ADDED)
    tokenizer.add_special_tokens({"eos_token": chosen})
    console.notice(f"the tokenizer has no end-of-text token; {chosen} serves as one")
    return True


def end_ids(folder: Path) -> list[int]:
    """The tokens at which generation ends, as a model folder says."""
    found = _settings(folder).get("eos_token_id")
    if found is None:
        config = read_config(folder)
        found = text_config_of(config).get("eos_token_id", config.get("eos_token_id"))
    ids = found if isinstance(found, list) else [found]
    return [token for token in ids if isinstance(token, int)]


def write_end(tokenizer: "PreTrainedTokenizerBase", source: Path, folder: Path) -> str | None:
    """Make sure that what is in `folder` ends its answers where its chat template does.

    `source` is the base of an adapter, else the folder itself. Where its settings do not name that
    token, `generation_config.json` is written with it. The result is the token, if there is one.
    """
    end = answer_end(TokenizerTemplate(tokenizer))
    if not end:
        return None
    token = int(tokenizer.convert_tokens_to_ids(end))
    place = folder if (folder / GENERATION).is_file() else source
    known = end_ids(place)
    if token not in known:
        settings = {**_settings(place), "eos_token_id": sorted({*known, token})}
        (folder / GENERATION).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        console.notice(
            f"an answer ends with {end}, which {GENERATION} did not name: it is added there"
        )
    return end


def ensure_end(folder: Path) -> str | None:
    """As `write_end`, of a whole model in a folder with its tokenizer."""
    return write_end(load_tokenizer(str(folder)), folder, folder)


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / GENERATION
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
