"""A transformers tokenizer that reads special tokens as text where a rendered text says so."""

import json
import secrets
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medllm.models.chat.special_tokens import LOOKS_SPECIAL, SpecialTokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


def special_tokens_of(tokenizer: "PreTrainedTokenizerBase") -> SpecialTokens:
    """The tokens that a tokenizer recognises in a text, and that no text means."""
    added = tokenizer.added_tokens_decoder.values()
    said = {str(token) for token in added if token.special}
    looking = {str(token) for token in added if LOOKS_SPECIAL.fullmatch(str(token))}
    return SpecialTokens(said | looking | set(map(str, tokenizer.all_special_tokens)))


class ApartEncoder:
    """Encodes rendered texts with marks in them (`special_tokens`).

    It is a copy of the tokenizer in which special tokens are called otherwise: those that are meant
    get these names, those that are spelled stay as they are, and nothing else is different: no
    text is cut into pieces that are encoded by themselves, which would change the tokens around.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", special: SpecialTokens) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._secret = secrets.token_hex(8)  # so that no text can spell the other names

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The token ids of a rendered text."""
        if getattr(self._tokenizer, "backend_tokenizer", None) is None:
            return self._encode_by_stretches(text, add_special_tokens)
        renamed = "".join(new for _, new in self._pieces(text))
        ids = self._copy.encode(renamed, add_special_tokens=add_special_tokens).ids
        return [self._ids.get(token, token) for token in ids]

    def ends(self, text: str) -> list[int]:
        """Where each token of a rendered text ends, in its characters; in no marked token."""
        pieces = list(self._pieces(text))
        renamed = "".join(new for _, new in pieces)
        ends, at, begin, place = [], 0, 0, 0
        for _, end in self._copy.encode(renamed, add_special_tokens=False).offsets:
            while place < len(pieces) and begin + len(pieces[place][1]) <= end:
                at, begin = at + len(pieces[place][0]), begin + len(pieces[place][1])
                place += 1
            inside = place < len(pieces) and pieces[place][0] == pieces[place][1]
            ends.append(at + (end - begin if inside else 0))
        return ends

    def _pieces(self, text: str) -> Iterator[tuple[str, str]]:
        """The parts of a rendered text, as they stand there and as the copy is given them."""
        at = 0
        for begin, marks, end in self._special.find(text):
            token = text[begin:end]
            yield text[at:begin], text[at:begin]
            yield token, self._special.unmark(token) if marks else self._names.get(token, token)
            at = end
        yield text[at:], text[at:]

    @cached_property
    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._tokenizer.backend_tokenizer.to_str())
        return content | {"truncation": None, "padding": None}

    @cached_property
    def _names(self) -> dict[str, str]:
        """The special tokens, and what they are called in the copy."""
        texts = [token["content"] for token in self._content["added_tokens"]]
        named = [text for text in texts if text in self._special]
        return {text: f"\ufdd1{self._secret}{n}\ufdd2" for n, text in enumerate(named)}

    @cached_property
    def _copy(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        added = [
            {**token, "content": self._names.get(token["content"], token["content"])}
            for token in self._content["added_tokens"]
        ]
        return Tokenizer.from_str(json.dumps({**self._content, "added_tokens": added}))

    @cached_property
    def _ids(self) -> dict[int, int]:
        """The ids of added tokens in the copy, and in the tokenizer."""
        ids = {token["content"]: token["id"] for token in self._content["added_tokens"]}
        renamed = {self._names.get(text, text): token for text, token in ids.items()}
        return {self._copy.get_vocab()[name]: token for name, token in renamed.items()}

    def _encode_by_stretches(self, text: str, add_special_tokens: bool) -> list[int]:
        """With a tokenizer in Python, which cannot be copied so."""
        ids = [
            token
            for part, is_text in self._special.stretches(text)
            for token in self._tokenizer(
                part, add_special_tokens=False, split_special_tokens=is_text
            )["input_ids"]
        ]
        if not add_special_tokens:
            return ids
        return list(self._tokenizer.build_inputs_with_special_tokens(ids))
