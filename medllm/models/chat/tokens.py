"""Lengths of texts in tokens, and what tells two tokenizers apart."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medllm.artifacts.digest import digest_text
from medllm.models.chat.apart import ApartEncoder, special_tokens_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenCounter:
    """Counts with a transformers tokenizer, many rendered texts at once, without special tokens."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        self._special = special_tokens_of(tokenizer)
        self._apart = ApartEncoder(tokenizer, self._special)

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text."""
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)
        return [
            self._count_apart(text) if self._special.is_marked(text) else len(ids)
            for text, ids in zip(texts, encoded["input_ids"], strict=True)
        ]

    def _count_apart(self, text: str) -> int:
        return len(self._apart.encode(text, add_special_tokens=False))

    def ends(self, text: str) -> list[int]:
        """Where each token of a text ends, in characters."""
        if self._special.is_marked(text):
            return self._apart.ends(text)
        encoded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        return [end for _, end in encoded["offset_mapping"]]


def digest_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> dict[str, str]:
    """Digests of what cuts text into tokens, and of the chat template ("" where there is none).

    Tokens that were added later, which leave the ids of all others alone, make no other vocabulary.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = json.loads(backend.to_str())["model"] if backend else {"vocab": tokenizer.get_vocab()}
    vocabulary = {name: model[name] for name in ("vocab", "merges") if name in model}
    return {
        "vocabulary_sha256": digest_text(json.dumps(vocabulary, sort_keys=True)),
        "chat_template_sha256": digest_text(str(tokenizer.chat_template or "")),
    }
