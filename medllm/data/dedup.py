"""What makes two texts the same, or overlap: digests of words that fit in memory for millions."""

import hashlib
import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
NGRAM = 13
"""Words in a row that count as copied, as in GPT-3 (arXiv 2005.14165, appendix C)."""
WINDOW = 8
"""Of so many n-grams in a row the least is kept, so that a copy of 20 words is never missed
(winnowing: Schleimer, Wilkerson, Aiken 2003)."""
COMMON = 10
"""An n-gram of more held-out rows than this is a phrase of the trade (GPT-3, appendix C)."""
NONE = np.empty((0, 2), np.int64)
PLAIN = bytes(
    ord(chr(byte).lower()) if byte < 128 and chr(byte).isalnum() else byte if byte > 127 else 32
    for byte in range(256)
)
"""Lower case, and blanks for punctuation."""
LOWER = bytes(range(256)).lower()
UNSPACED = re.compile(
    "[\u0e01-\u0e4f\u0e81-\u0ecf\u1000-\u103f\u104a-\u109f\u1780-\u17df\u3001-\u30ff\u31f0-\u9fff"
    "\uf900-\ufaff\uff01-\uff0f\uff1a-\uff20\uff5b-\uff9f\U00020000-\U0003ffff]"
)
"""Letters and marks of scripts without blanks between words, but no digits, which stay numbers:
Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
CACHED = 1 << 15
"""So many numbers stay in the processor's cache, where the passes over them do not wait."""


def digest(text: str) -> int:
    """64 bits of a text; ten million texts share none with a chance of 999,997 in a million."""
    return _digest(text.encode("utf-8", "replace"))


def digest_words(text: str) -> int:
    """The same for two texts that differ in white space and in ASCII case alone."""
    return _digest(text.encode("utf-8", "replace").translate(LOWER, b" \t\n\r\v\f"))


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def part_words(text: str) -> str:
    """The text with blanks between its words: where a script has none, each letter is a word."""
    return text if text.isascii() else UNSPACED.sub(r" \g<0> ", text)


def split_words(text: str) -> list[bytes]:
    """The runs of letters and digits of a text, in lower case."""
    return part_words(text).encode("utf-8", "replace").translate(PLAIN).split()


def encode_words(text: str) -> U64:
    """The words of a text as numbers, for `fingerprint`; at least an n-gram's worth."""
    return encode(split_words(text))


def encode(words: Sequence[bytes]) -> U64:
    """The same, of words that are split already."""
    codes: U64 = np.zeros(max(len(words), NGRAM), np.uint64)
    codes[: len(words)] = np.fromiter(map(zlib.crc32, words), np.uint64, len(words))
    return codes


def fingerprint(texts: Sequence[U64]) -> tuple[U64, NDArray[np.int64]]:
    """Digests of some n-grams of each text, the same ones wherever the same words stand.

    `texts` are what `encode_words` made. Returns the digests of all texts in order, each once a
    text, and how many belong to each.
    """
    if len(texts) > 1 and sum(map(len, texts)) > CACHED:
        halves = [fingerprint(texts[: len(texts) // 2]), fingerprint(texts[len(texts) // 2 :])]
        prints, counts = zip(*halves, strict=True)
        return np.concatenate(prints), np.concatenate(counts)
    ends = np.cumsum([0, *map(len, texts)])
    grams = _hash_grams(np.concatenate([np.zeros(0, np.uint64), *texts]))
    at = np.arange(len(grams))
    text = np.repeat(np.arange(len(texts)), np.diff(ends))[: len(grams)]
    last = ends[text + 1] - NGRAM  # where the text's last n-gram begins
    grams[at > last] = np.iinfo(np.uint64).max
    least, span = grams, 1
    while span < WINDOW:  # the least of 2, of 4, of 8 in a row
        least = np.minimum(least, np.append(least[span:], np.repeat(least[-1:], span))[: len(at)])
        span *= 2
    chosen = (at <= last) & ((at + WINDOW - 1 <= last) | (at == ends[text]))
    prints, text = least[chosen], text[chosen]
    order = np.lexsort((prints, text))
    prints, text = prints[order], text[order]
    once = np.ones(len(prints), bool)
    once[1:] = (prints[1:] != prints[:-1]) | (text[1:] != text[:-1])
    return prints[once], np.bincount(text[once], minlength=len(texts))


def _hash_grams(codes: U64) -> U64:
    """A polynomial in a large odd number, modulo 2**64, of the words from each place on."""
    count = max(len(codes) - NGRAM + 1, 0)
    grams: U64 = np.zeros(count, np.uint64)
    for offset in range(NGRAM):
        grams *= np.uint64(0x9E3779B97F4A7C15)
        grams += codes[offset : offset + count]
    grams ^= grams >> np.uint64(31)
    grams *= np.uint64(0xBF58476D1CE4E5B9)
    return grams


class OverlapIndex:
    """The fingerprints of held-out rows, eight bytes each: digest above, row number below."""

    def __init__(self, prints: U64, counts: NDArray[np.integer[Any]]) -> None:
        """`counts` says how many of the `prints`, in order, belong to each held-out row."""
        self._bits = np.uint64(len(counts).bit_length())
        keys = self._top(prints) | np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
        keys.sort()
        grams = self._top(keys)
        starts = np.flatnonzero(np.diff(grams, prepend=grams[:1] + np.uint64(1)))
        times = np.diff(starts, append=len(keys))
        self._keys = keys[np.repeat(times <= COMMON, times)]
        self._sizes = np.bincount((self._keys - self._top(self._keys)).astype(np.int64))

    def overlaps(
        self, prints: U64, counts: NDArray[np.integer[Any]], least: float
    ) -> list[tuple[int, int, float]]:
        """(row, held-out row, share of that one's text) for each of some rows that holds it."""
        wanted = self._top(prints)
        order = np.argsort(wanted)  # neighbours are found fast, for they lie in the same place
        wanted, rows = wanted[order], np.repeat(np.arange(len(counts)), counts)[order]
        at = np.searchsorted(self._keys, wanted)
        pairs = []
        while len(at):  # an n-gram's held-out rows stand side by side
            inside = at < len(self._keys)
            at, wanted, rows = at[inside], wanted[inside], rows[inside]
            same = self._top(self._keys[at]) == wanted
            at, wanted, rows = at[same], wanted[same], rows[same]
            held_out = (self._keys[at] - wanted).astype(np.int64)
            pairs.append(np.stack([rows, held_out], axis=1))
            at = at + 1
        both, shared = np.unique(np.concatenate(pairs or [NONE]), axis=0, return_counts=True)
        share = shared / self._sizes[both[:, 1]]
        return [
            (int(row), int(other), float(part))
            for (row, other), part in zip(both, share, strict=True)
            if part >= least
        ]

    def _top(self, keys: U64) -> U64:
        top: U64 = (keys >> self._bits) << self._bits
        return top
