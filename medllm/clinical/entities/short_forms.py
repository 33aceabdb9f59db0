"""Short forms that a text defines itself: "chronic kidney disease (CKD)".

The algorithm is that of Schwartz and Hearst (2003): each letter of the short form is looked for
backwards in the words before it, and its first letter must begin a word.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator

from medllm.clinical.text.reading import Reading, Span

_IN_BRACKETS = re.compile(r"\(([^\s()]{2,10})[,;)]")


def find_definitions(reading: Reading) -> Iterator[tuple[Span, Span]]:
    """The words of each short form, and those of its long form before it."""
    folded = reading.folded.text
    for found in _IN_BRACKETS.finditer(folded):
        short = found[1]
        end = bisect_left(reading.begins, found.start())
        last = bisect_left(reading.begins, found.end(1))
        if not end or last == end or not any(map(str.isalpha, short)):
            continue
        most = min(len(short) + 5, 2 * len(short))
        first = max(end - most, reading.sentence_at(end - 1)[0])
        text_end = reading.ends[end - 1]
        begin = _long_form(short, folded[reading.begins[first] : text_end])
        if begin is not None:
            yield (end, last), (bisect_left(reading.begins, reading.begins[first] + begin), end)


def _long_form(short: str, text: str) -> int | None:
    """Where the long form of a short one begins in the text before it."""
    at = len(text)
    for number in range(len(short) - 1, -1, -1):
        letter = short[number]
        if not letter.isalnum():
            continue
        at -= 1
        while at >= 0 and (
            text[at] != letter or (number == 0 and at > 0 and text[at - 1].isalnum())
        ):
            at -= 1
        if at < 0:
            return None
    is_longer = len(text) - at > len(short)
    return at if is_longer else None
