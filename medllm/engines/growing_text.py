"""Token ids → text, a token at a time: what was shown is never taken back."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What tokenizers write for bytes that are no whole character, or none yet."""
CHARACTER_TOKENS = 4
"""The most tokens of one character: UTF-8 has four bytes, and no token is less than one."""


class GrowingText:
    """The text of an answer as its tokens come, special tokens left out.

    Tokens are decoded together with those just before them, which decide about white space and
    hold the beginning of a character, but not with all: so a token costs the same anywhere.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # what is decoded together
        self._earlier = 0  # how many of them were there when whole characters last ended
        self._shown = ""  # what they wrote so far
        self._waiting = 0

    def add(self, token: int) -> str:
        """What one more token adds to the text; nothing while a character is unfinished."""
        self._ids.append(token)
        text = self._decode()
        is_unfinished = text.endswith(UNFINISHED) and self._waiting < CHARACTER_TOKENS - 1
        whole = text.rstrip(UNFINISHED) if is_unfinished else text
        added = whole[len(self._shown) :]
        self._waiting = 0 if added or not is_unfinished else self._waiting + 1
        self._shown += added
        if added and not is_unfinished:
            self._ids = self._ids[self._earlier :]
            self._earlier, self._shown = len(self._ids), self._decode()
        return added

    def _decode(self) -> str:
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return str(self._tokenizer.decode(self._ids, **options))
