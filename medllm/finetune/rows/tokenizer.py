"""The tokenizer that a training uses, and leaves beside the adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medllm import console
from medllm.finetune.config import FinetuneConfig
from medllm.models.chat.answer_end import reserve_end, tail_of, write_end
from medllm.models.chat.prompt_template import reserve_padding, set_template
from medllm.models.chat.template import TokenizerTemplate, end_of
from medllm.models.load import GENERATION, ModelRef, load_tokenizer, save_companions, save_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Tokenizer:
    """The base's tokenizer, with what the training changes in it."""

    model: ModelRef
    own: "PreTrainedTokenizerBase"
    is_changed: bool
    rows: int
    """How many tokens it had; some tokenizers have one more than their model, for images."""

    @classmethod
    def open(cls, config: FinetuneConfig, model: ModelRef) -> "Tokenizer":
        """The tokenizer with a padding token and, where one is named, a prompt template.

        Raises:
            ArtifactError: there is none, or it lacks a token of the template.
        """
        tokenizer = load_tokenizer(model.location)
        rows = len(tokenizer)
        has_end = not reserve_end(tokenizer, model.path)
        is_padded = reserve_padding(tokenizer)
        name = config.prompt_template
        if name:
            set_template(tokenizer, name)
        elif not tokenizer.chat_template:
            console.notice(
                "finetune: the model has no chat template: it is trained on plain text, and the "
                "server takes no chats for it; prompt_template gives it one"
            )
        _announce_end(TokenizerTemplate(tokenizer))
        return cls(model, tokenizer, is_padded or not has_end or name is not None, rows)

    def fit(self, model: "PreTrainedModel") -> None:
        """Give the model rows for a padding token that was added and that it has no room for."""
        rows = model.get_input_embeddings().weight.shape[0]
        if len(self.own) > max(rows, self.rows):
            console.notice("finetune: the vocabulary grows, so the adapter will hold embeddings")
            model.resize_token_embeddings(len(self.own), mean_resizing=False)

    def save(self, folder: Path) -> None:
        """Write it beside what was trained, and which tokens end an answer."""
        if (folder / GENERATION).is_file():  # a whole model has one
            save_companions(self.model, folder)
        else:
            save_tokenizer(self.model, folder)
        if self.is_changed:
            self.own.save_pretrained(folder)
        write_end(self.own, self.model.path, folder)


def _announce_end(template: TokenizerTemplate) -> None:
    """Say where the chat template ends an answer with nothing that engines stop at."""
    tail = tail_of(template)
    if tail.strip() and not end_of(template, tail):
        console.notice(
            "finetune: the chat template ends an answer with text, and no special token; answers "
            f"are trained to end with {template.eos_token} in its place"
        )
