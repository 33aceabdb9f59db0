"""The calibration set as the token ids that every format calibrates with."""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.artifacts.lineage import Input, open_output
from medllm.data.example import Example, Message, read_jsonl
from medllm.data.fit import SEPARATOR
from medllm.errors import ArtifactError
from medllm.models.chat.template import TokenizerTemplate, encode_text, render_example
from medllm.models.chat.tokens import digest_tokenizer
from medllm.models.load import ModelRef, check_ids, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS, PARTS = "calibration.jsonl", "parts.jsonl"
CHECKED_ROWS = 16
SLACK_TOKENS = 2  # a piece of a longer text may be cut into tokens otherwise than within it


@dataclass(frozen=True)
class Calibration:
    """A calibration set, read for one model."""

    model: ModelRef
    source: Input

    @classmethod
    def open(cls, model: ModelRef, folder: Path) -> "Calibration":
        """What `medllm calibrate` wrote, or a foreign folder with such a file.

        Raises:
            ArtifactError: it is missing, altered, or something else.
        """
        return cls(model, open_output(folder, "calibrate", TEXTS, "calibration"))

    @property
    def texts(self) -> Path:
        """Its file."""
        return self.source.path / TEXTS

    @property
    def mix(self) -> str:
        """How many texts came from where: "307 pubmedqa, 154 pmc_patients"."""
        made = self.source.manifest
        sources = made.results.get("sources", {}) if made else {}
        return ", ".join(f"{count} {name}" for name, count in sources.items()) or TEXTS

    @property
    def origin(self) -> dict[str, str]:
        """What a card says of it."""
        return {"texts": self.mix, "identity": self.source.parent.identity[:16]}

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The model's tokenizer."""
        return load_tokenizer(self.model.location)

    @cached_property
    def token_ids(self) -> list[list[int]]:
        """The token ids of each text, BOS first where the model has one; the same for all formats.

        Where the chat template is another one, what is a conversation is rendered again.

        Raises:
            ArtifactError: the texts were made for another tokenizer.
            DataError: the chat template refuses a conversation.
        """
        encoded = self._encode()
        check_ids(self.model.location, chain.from_iterable(encoded))
        return encoded

    def _encode(self) -> list[list[int]]:
        template = TokenizerTemplate(self.tokenizer)
        made = self.source.manifest
        recorded = made.results.get("tokenizer") if made else None
        if not recorded:
            _check_lengths(template, self.texts)
            return [encode_text(template, row["text"]) for row in read_jsonl(self.texts)]
        ours = digest_tokenizer(self.tokenizer)
        if ours["vocabulary_sha256"] != recorded["vocabulary_sha256"]:
            raise _other_tokenizer(self.texts)
        is_same = ours["chat_template_sha256"] == recorded["chat_template_sha256"]
        again = {} if is_same else self._render_again(template)
        return [
            encode_text(template, again.get(row["id"], row["text"]))
            for row in read_jsonl(self.texts)
        ]

    def _render_again(self, template: TokenizerTemplate) -> dict[str, str]:
        """The texts that are conversations through the model's own chat template, by id."""
        rows = (row for row in read_jsonl(self.source.path / PARTS) if row.get("messages"))
        again = {row["id"]: _render(template, row["messages"]) for row in rows}
        console.notice(
            "quantize: the model's chat template is not the one of the calibration set: its "
            "conversations are rendered again; other texts, pieces of cut ones and the holdouts "
            "stay as they are"
        )
        return again


def _render(template: TokenizerTemplate, conversations: list[list[dict[str, Any]]]) -> str:
    """The conversations of one text, as `medllm calibrate` renders them."""
    texts = []
    for turns in conversations:
        *prompt, answer = (Message(**turn) for turn in turns)
        example = Example("", "", "", tuple(prompt), answer.content)
        texts.append(render_example(template, example).text)
    return SEPARATOR.join(texts)


def _check_lengths(template: TokenizerTemplate, texts: Path) -> None:
    """Count the first texts again: with another vocabulary most lengths are not those recorded.

    It is for sets that do not say which tokenizer they were made with.
    """
    rows = [
        row for row in islice(read_jsonl(texts), CHECKED_ROWS) if isinstance(row.get("tokens"), int)
    ]
    lengths = [len(template.encode(row["text"], add_special_tokens=False)) for row in rows]
    differences = (abs(length - row["tokens"]) for row, length in zip(rows, lengths, strict=True))
    if sum(difference > SLACK_TOKENS for difference in differences) > len(rows) / 2:
        raise _other_tokenizer(texts)


def _other_tokenizer(texts: Path) -> ArtifactError:
    message = f"{texts.parent}: the calibration set was made with another tokenizer"
    return ArtifactError(message, "make one for this model: `medllm calibrate --tokenizer REF`")
