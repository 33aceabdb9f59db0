"""Prompt templates for models that have no chat template, or are to have another one.

Each is a Jinja chat template, so that whatever is made of the tuned model renders the same prompts:
merged models, GGUF files, evaluations and servers.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medllm import console
from medllm.errors import ArtifactError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = Path(__file__).parent / "templates"
PromptTemplate = Literal["alpaca", "gemma", "plain"]
"""alpaca: github.com/tatsu-lab/stanford_alpaca; gemma: ai.google.dev/gemma/docs/formatting."""
TURN_ENDS = {"gemma": "<end_of_turn>"}
"""What ends an answer, where it is not the end-of-text token."""
PADDING = ("pad", "reserved", "unused")
"""What the names of tokens say that nobody was trained on."""
ADDED = "<|pad|>"
MARKER = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
"""Round what an assistant says, for trainers that mask the rest; transformers' own addition."""


def set_template(tokenizer: "PreTrainedTokenizerBase", name: PromptTemplate) -> None:
    """Make a template the tokenizer's own.

    Raises:
        ArtifactError: the tokenizer has no token for the end of an answer.
    """
    end = TURN_ENDS.get(name, tokenizer.eos_token)
    if end is None or end not in tokenizer.get_vocab():
        what = f"the tokenizer has no token {end or 'for the end of a text'}"
        raise ArtifactError(f"prompt_template {name}: {what}", "choose another prompt_template")
    if tokenizer.chat_template:
        console.notice(f"prompt_template {name} takes the place of the model's own chat template")
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def check_template(tokenizer: "PreTrainedTokenizerBase", location: str) -> None:
    """Raise ArtifactError where a model has several templates, and none is the default."""
    if isinstance(found := tokenizer.chat_template, dict) and "default" not in found:
        message = f"{location} has several chat templates, and none is its default: "
        fix = "put the one that is meant beside its tokenizer, as chat_template.jinja"
        raise ArtifactError(message + ", ".join(sorted(found)), fix)


def reserve_padding(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Give a tokenizer without a padding token one that is never EOS; whether it was changed.

    EOS as padding is masked with it wherever padding is, and then the end is not trained on.
    """
    if tokenizer.pad_token is not None and tokenizer.pad_token != tokenizer.eos_token:
        return False
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    reserved = (token for name in PADDING for token in special if name in token.lower())
    chosen = next(reserved, tokenizer.unk_token)
    if chosen is None or chosen == tokenizer.eos_token:
        chosen = ADDED
    tokenizer.add_special_tokens({"pad_token": chosen})
    console.notice(
        f"finetune: the tokenizer has no padding token of its own; {chosen} serves as one"
    )
    return True


def drop_generation_markers(folder: Path) -> None:
    """Take the marks out of a saved chat template, which other readers of Jinja refuse.

    What stands in their place is a condition that always holds: the rendered text is the same.
    """
    for path in (folder / "chat_template.jinja", folder / "tokenizer_config.json"):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if MARKER.search(text):
            path.write_text(MARKER.sub(_condition, text), encoding="utf-8")


def _condition(marker: re.Match[str]) -> str:
    before, ends, after = marker.groups()
    return f"{{%{before}{' endif ' if ends else ' if true '}{after}%}}"
