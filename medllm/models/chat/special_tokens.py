"""Special tokens that a text only spells stay text, wherever texts are encoded.

Struck-out HTML (`<s>5 mg</s>`) or a pasted chat would end an answer or open another turn. Where a
message is rendered, a mark is put into every special token that it spells; whatever encodes the
rendered text takes the marks out again, and reads what was marked as text. A text that spells none
is not changed, and is encoded as upstream does.
"""

import re
from collections.abc import Callable, Iterable, Iterator

MARK = "\ufdd0"
"""A noncharacter of Unicode; of those that a text holds itself none is lost: see `unmark`."""
LOOKS_SPECIAL = re.compile(
    r"<\|.*\|>|<｜.*｜>|<unused\d*>|<pad>|<mask>|<2mass>|\[@BOS@\]|<start_of_turn>|<end_of_turn>"
)
"""Added tokens that models use as special ones without saying so; llama.cpp's converter
(`does_token_look_special` in convert_hf_to_gguf.py) takes them for special, too."""

Found = tuple[int, int, int]
"""Where a special token begins, how many marks follow its first character, and where it ends."""


class SpecialTokens:
    """The special tokens of one tokenizer, found in texts."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens = frozenset(filter(None, tokens))
        self._lengths = {
            first: sorted({len(each) for each in self._tokens if each[0] == first}, reverse=True)
            for first in {each[0] for each in self._tokens}
        }
        starts = "".join(map(re.escape, sorted(self._lengths)))
        self._start = re.compile(f"[{starts}]" if starts else r"(?!)")

    def __contains__(self, token: str) -> bool:
        """Whether it is one of them."""
        return token in self._tokens

    def mark(self, text: str) -> str:
        """The text with a mark more in every special token that it spells."""
        return self._rewrite(text, lambda token, marks: token[0] + MARK * (marks + 1) + token[1:])

    def unmark(self, text: str) -> str:
        """The text with a mark less in every special token: what `mark` was given."""
        if MARK not in text:
            return text
        return self._rewrite(
            text, lambda token, marks: token[0] + MARK * max(marks - 1, 0) + token[1:]
        )

    def first(self, text: str) -> str | None:
        """The first special token of a text, those that are marked left aside."""
        return next((text[begin:end] for begin, marks, end in self.find(text) if not marks), None)

    def is_marked(self, text: str) -> bool:
        """Whether a special token is spelled in a rendered text."""
        return MARK in text and any(marks for _, marks, _ in self.find(text))

    def stretches(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of a rendered text, and whether each is to be read as text alone.

        Such a part lies between special tokens that are meant; its marks are taken out.
        """
        kept = ""
        for part, is_token in self._parts(text):
            if is_token or not self.is_marked(part):
                kept += part
                continue
            if kept:
                yield kept, False
            yield self.unmark(part), True
            kept = ""
        if kept:
            yield kept, False

    def _parts(self, text: str) -> Iterator[tuple[str, bool]]:
        """The special tokens that are meant, and the texts between them."""
        at = 0
        for begin, marks, end in self.find(text):
            if not marks:
                yield text[at:begin], False
                yield text[begin:end], True
                at = end
        yield text[at:], False

    def find(self, text: str) -> Iterator[Found]:
        """The special tokens of a text, marked or not; the longest where several begin."""
        at = 0
        while match := self._start.search(text, at):
            begin = match.start()
            rest = begin + 1
            while text.startswith(MARK, rest):
                rest += 1
            ends = (rest + length - 1 for length in self._lengths[text[begin]])
            end = next((e for e in ends if text[begin] + text[rest:e] in self._tokens), None)
            if end is not None:
                yield begin, rest - begin - 1, end
            at = end or begin + 1

    def _rewrite(self, text: str, change: Callable[[str, int], str]) -> str:
        parts, at = [], 0
        for begin, marks, end in self.find(text):
            token = text[begin] + text[begin + 1 + marks : end]
            parts += [text[at:begin], change(token, marks)]
            at = end
        return "".join([*parts, text[at:]])
