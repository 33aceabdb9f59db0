"""The calibration set as the token ids that every format calibrates with."""

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from medllm.artifacts.lineage import Input, open_output
from medllm.data.example import read_jsonl
from medllm.errors import ArtifactError
from medllm.models.chat import TokenizerTemplate, encode_text
from medllm.models.load import ModelRef, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = "calibration.jsonl"
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

        Raises:
            ArtifactError: the texts were made for another tokenizer.
        """
        template = TokenizerTemplate(self.tokenizer)
        _check_tokenizer(template, self.texts)
        return [encode_text(template, row["text"]) for row in read_jsonl(self.texts)]


def _check_tokenizer(template: TokenizerTemplate, texts: Path) -> None:
    """Count the first texts again: with another vocabulary most lengths are not those recorded."""
    rows = [
        row for row in islice(read_jsonl(texts), CHECKED_ROWS) if isinstance(row.get("tokens"), int)
    ]
    lengths = [len(template.encode(row["text"], add_special_tokens=False)) for row in rows]
    differences = (abs(length - row["tokens"]) for row, length in zip(rows, lengths, strict=True))
    if sum(difference > SLACK_TOKENS for difference in differences) > len(rows) / 2:
        message = f"{texts.parent}: the calibration set was made with another tokenizer"
        fix = "make one for this model: `medllm calibrate --tokenizer REF`"
        raise ArtifactError(message, fix)
