"""BERTScore (Zhang et al. 2020) from the hidden states of an encoder on this machine.

Without weights by rarity (idf off) and without rescaling, so that scores of unlike texts, too, are
far above 0. A text longer than the encoder reads is read in pieces, none of it cut.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from medllm.artifacts.digest import digest_files
from medllm.config.base import is_there
from medllm.errors import ArtifactError, MedllmError
from medllm.models.foreign import loading
from medllm.models.load import read_config

if TYPE_CHECKING:
    import torch

DEPTH = 0.75
"""Of the layers of an encoder: the ninth of twelve, as bert-score takes of BERT-base."""
NO_ENCODER = "none"
FIX = "name its folder as evaluate.encoder"


@dataclass(frozen=True, slots=True)
class Match:
    """How well two texts match: mean cosines of tokens with their best partners, -1 to 1."""

    precision: float
    """Over the tokens of the answer."""
    recall: float
    """Over the tokens of the reference."""

    @property
    def f1(self) -> float:
        """Their harmonic mean; 0 where an answer or a reference is empty."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def find_encoder(ref: str) -> Path:
    """The folder of an encoder: one that is named, or that of a hub id in the hub's cache.

    Raises:
        ArtifactError: it is not on this machine, or holds no weights as safetensors.
    """
    folder = Path(ref) if is_there(Path(ref)) else _cached(ref)
    if folder is None:
        raise ArtifactError(f"the encoder {ref} is not on this machine", FIX)
    if "num_hidden_layers" not in read_config(folder) or not any(folder.glob("*.safetensors")):
        message = f"{ref} holds no encoder with weights as safetensors"
        raise ArtifactError(message, "save it with transformers' save_pretrained")
    return folder


def digest_encoder(ref: str) -> str:
    """The digest of an encoder's files; `NO_ENCODER` where it cannot be had."""
    try:
        folder = find_encoder(ref)
        return digest_files(folder, filter(Path.is_file, folder.iterdir()))
    except MedllmError:
        return NO_ENCODER


def _cached(ref: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, revision = ref.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):  # ValueError: no name of a repository
        return None


class Encoder:
    """A loaded encoder; `layer` is that whose hidden states are compared, from 1."""

    def __init__(self, name: str, folder: Path, layer: int | None) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        layers = int(read_config(folder)["num_hidden_layers"])
        self.layer = min(layer or max(round(DEPTH * layers), 1), layers)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        with loading(f"encoder {name}"):
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            model = AutoModel.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, **options
            )
        self._model = model.eval()
        self._room = min(self._tokenizer.model_max_length, model.config.max_position_embeddings)
        self.how = (
            f"{name}, hidden states of layer {self.layer} of {layers}, idf off, not rescaled; "
            f"longer texts in pieces of {self._room} tokens"
        )

    @classmethod
    def open(cls, ref: str, layer: int | None = None) -> Self:
        """The encoder of a folder or of a hub id.

        Raises:
            ArtifactError: it is not on this machine, or cannot be loaded.
        """
        return cls(Path(ref).name, find_encoder(ref), layer)

    def match(self, answer: str, reference: str) -> Match:
        """How an answer matches its reference; nothing matches an empty text."""
        given, of_given = self._read(answer)
        wanted, of_wanted = self._read(reference)
        if not bool(of_given.any()) or not bool(of_wanted.any()):
            return Match(0.0, 0.0)
        cosines = given @ wanted.T
        return Match(
            float(cosines.max(dim=1).values[of_given].mean()),
            float(cosines.max(dim=0).values[of_wanted].mean()),
        )

    def _read(self, text: str) -> "tuple[torch.Tensor, torch.Tensor]":
        """The directions of all tokens of a text, and which of them are its own.

        Each piece stands between the encoder's special tokens: as in bert-score these may be a
        partner, and have no weight themselves.
        """
        import torch

        pieces = self._tokenizer(
            text.strip(), truncation=True, max_length=self._room, return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )  # fmt: skip
        states = []
        with torch.inference_mode():
            for ids in pieces["input_ids"]:
                found = self._model(torch.tensor([ids]), output_hidden_states=True).hidden_states
                states.append(torch.nn.functional.normalize(found[self.layer][0], dim=-1))
        special = torch.tensor([each for mask in pieces["special_tokens_mask"] for each in mask])
        return torch.cat(states), special == 0
