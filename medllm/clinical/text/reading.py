"""A text, read once for all rules: its words, its sentences and its measurements."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar, cast

from medllm.clinical.text.folding import Folded, fold
from medllm.clinical.text.shorthand import find_shorthand

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
"""A word of a folded text: letters and digits; hyphens and slashes part words."""
Span = tuple[int, int]
Built = TypeVar("Built")

_END = re.compile(r"[.!?]['\")\]]* (?=[^a-z]*\w)|[;]")
"""Where a sentence ends in a folded text, unless the word before is an abbreviation."""
_BREAK = re.compile(r"(?i)(?:\n|<br ?/?>)[ \t]*(?:\n|<br|(?:[-*•‣–]|\(?\d{1,2}[.)])[ \t])")
"""Where lines part sentences: an empty line, the next item of a list. A mere line end does not."""
_LINE_BEGIN = re.compile(r"(?:^|\n)[ \t|]*(?:[-*•‣–+]|\(?\d{1,2}[.)])?[ \t]*$")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:dr|mr|mrs|ms|st|vs|e\.g|i\.e|etc|approx|fig|p\.o|i\.v|i\.m|s\.c|"
    r"b\.i\.d|t\.i\.d|q\.i\.d|q\.d|q\.o\.d|p\.r\.n|h\.s|a\.m|p\.m|tab|tabs|cap|caps|inj|max|min|resp|temp|incl)$"
)


@dataclass(frozen=True)
class Reading:
    """A text and what every rule looks at; offsets of findings are those of `text`."""

    text: str
    folded: Folded = field(repr=False)
    _built: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def built(self, build: "Callable[[Reading], Built]") -> Built:
        """What `build` makes of this reading, made once: the drugs in it, its cues."""
        if build not in self._built:
            self._built[build] = build(self)
        return cast(Built, self._built[build])

    @cached_property
    def words(self) -> list[str]:
        """The words in lower case, in order."""
        return WORD.findall(self.folded.text)

    @cached_property
    def begins(self) -> list[int]:
        """Where each word begins in the folded text."""
        # no match objects: thousands of them would wake the garbage collector in each review
        find, at = self.folded.text.find, 0
        begins = []
        for word in self.words:
            at = find(word, at)
            begins.append(at)
            at += len(word)
        return begins

    @cached_property
    def ends(self) -> list[int]:
        """Where each word ends in the folded text."""
        return [at + len(word) for at, word in zip(self.begins, self.words, strict=True)]

    @cached_property
    def sentences(self) -> list[Span]:
        """The sentences, each as its first word and the word after its last."""
        marks = [0]
        for mark in sorted({*self._stops(), *self._line_breaks(), len(self.words)} - {0}):
            is_number = mark - marks[-1] == 1 and self.words[marks[-1]].isdecimal()
            if not is_number or mark == len(self.words):  # the number of an item of a list
                marks.append(mark)
        return list(pairwise(marks))

    def sentence_at(self, word: int) -> Span:
        """The sentence that a word stands in."""
        at = bisect_right(self.sentences, (word, len(self.words) + 1)) - 1
        return self.sentences[at]

    def begins_line(self, word: int) -> bool:
        """Whether a word is the first of a line, as that of the item of a list is."""
        begin, _ = self.place(word, word + 1)
        before = self.text[max(0, begin - 8) : begin]
        return "\n" in before and _LINE_BEGIN.search(before) is not None

    def between(self, word: int) -> str:
        """What stands in the folded text between a word and the next one: `, `, ` / `."""
        after = self.begins[word + 1] if word + 1 < len(self.words) else len(self.folded.text)
        return self.folded.text[self.ends[word] : after]

    def place(self, first: int, last: int) -> Span:
        """Where words (`last` not included) stand in `text`: begin and end of its characters."""
        return self.folded.origin(self.begins[first], self.ends[last - 1])

    def _stops(self) -> list[int]:
        folded = self.folded.text
        return [
            bisect_left(self.begins, end.end())
            for end in _END.finditer(folded)
            if not _ABBREVIATION.search(folded, max(0, end.start() - 8), end.start())
        ]

    def _line_breaks(self) -> list[int]:
        at = [each.start() for each in _BREAK.finditer(self.text)]
        if not at:
            return []
        begins = [
            self.folded.origin(*place)[0] for place in zip(self.begins, self.ends, strict=True)
        ]
        return [bisect_left(begins, place) for place in at]


def read(text: str, words: Container[str] = (), *, is_question: bool = False) -> Reading:
    """The reading of a text; nothing is looked for before it is asked for.

    One of `words` that is parted at the end of a line is read as a whole. In a question what
    clinicians write for short is read in words.
    """
    return Reading(text, fold(text, words, [*find_shorthand(text, words)] if is_question else ()))
