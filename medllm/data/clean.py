"""Cleaning in named steps; none takes away a number, a dose, a unit, a negation or a capital.

What looks like noise to a general pipeline is the content of a note, so that a step may only fix
white space and characters that nobody can read, and cut the opening lines that hold nothing.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from functools import cache
from typing import Any, Literal, get_args

from pydantic import Field

from medllm.config.base import Strict
from medllm.data.example import Example, Message

Step = Literal[
    "unicode",
    "control",
    "whitespace",
    "boilerplate",
    "placeholders",
    "timestamps",
    "near_empty",
    "language",
]
FUNCTION_WORDS = """
en the of and to with was is on for no he she his her were not at by from
de der die das und mit von zu den bei ist nicht wurde im des ein eine auf
fr le la les des du et un une est dans pour avec pas sur au il elle par
es el la los las de del y en con por que un una se no al para su
it il lo gli di e con per non che un una del della nel si al da
pt o os as de do da e com por que um uma em no na para ao
"""
LANGUAGES: dict[str, list[str]] = {}
"""The commonest function words; telegraphic notes hold few, so that a guess may be "unknown"."""
NOT_LATIN = re.compile("[^\x00-\u024f]")
"""What lies beyond the letters that European languages in Latin script are written with."""
for line in FUNCTION_WORDS.strip().splitlines():
    for word in line.split()[1:]:
        LANGUAGES.setdefault(word, []).append(line[:2])


class CleanConfig(Strict):
    """How texts are cleaned, and which rows are too poor to keep."""

    steps: tuple[Step, ...] = get_args(Step)
    """The steps, in this order."""
    boilerplate: tuple[str, ...] = ("summarize:",)
    """Lines that are cut where a text opens with them, whatever their case."""
    placeholders: Literal["keep", "mask", "drop"] = "keep"
    """Marks of de-identification: keep them, put a token there, or drop rows full of them."""
    marks: tuple[str, ...] = ("___", "[**…**]")
    """The marks, besides those of the dataset; `…` stands for any text, a row of one letter for as
    many or more."""
    placeholder_token: str = "[REDACTED]"
    """What `mask` puts there."""
    max_placeholder_rate: float = Field(default=0.2, gt=0, le=1)
    """`drop` leaves out rows with more placeholders a word than this."""
    min_words: int = Field(default=2, ge=0)
    """Rows with fewer words, placeholders apart, are near-empty."""
    languages: tuple[Literal["en", "de", "fr", "es", "it", "pt"], ...] = ()
    """Languages to keep; empty: all. An uncertain guess is kept."""


WINDOWS_1252 = {
    code: bytes([code]).decode("cp1252")
    for code in range(0x80, 0xA0)
    if code not in {0x81, 0x85, 0x8D, 0x8F, 0x90, 0x9D}
}
"""Characters of Windows-1252 that were taken for Latin-1's controls, as the HTML standard reads
them: a blank for them would make `5\\x9610 mg` (5–10 mg) 5 10 mg. NEL (0x85) ends a line."""
GARBLED = "garbled rows"
MOJIBAKE = re.compile("Ã[\u00a0-¿„“”–—ŸŒœŠšŽžƒˆ˜‘’‚†‡•…‰‹›€™]|Â[\u00a0°µ§±²³·½¼]|â€[™œ\u009d“”¦˜]")
"""UTF-8 that was read as Windows-1252 before it came here: `Ã¤` was ä, `Â°` a degree."""
UNREADABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]+")
WIDTHLESS = re.compile(
    r"(?<![\d.,\u200b\u2060\ufeff])[\u200b\u2060\ufeff]+"
    r"|[\u200b\u2060\ufeff]+(?![\d.,\u200b\u2060\ufeff])"
)
"""Characters without width. Within a number they stay: whether it is one number or two, nobody can
see."""
YEAR = re.compile(r"\d{4}")
LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
BLANKS = re.compile(r"[^\S\n]")
WIDE_GAP = re.compile(r"(?<=\S)   +")
EMPTY_LINES = re.compile(r"\n{3,}")
HEADER = re.compile(
    r"(?i)(?:\s*(?:name|admission date|discharge date|date of birth|attending|service|dictated by)"
    r"\s*:\s*(?:_{3,}|\[\*\*[^\]\n\d]*\*\*\])?\s*)+"
)
LONGEST_HEADER = 20
"""Lines of a text that may be its header."""
TIME_NAME = re.compile(r"(?:^|_|[a-z])(?:time|date|timestamp)$|^(?:time|date)_")


def _unicode(text: str, _: CleanConfig) -> str:
    """Composed characters; never the compatibility forms, which make 10² into 102."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _control(text: str, _: CleanConfig) -> str:
    """A blank, not nothing: else `1<NUL>2 mg` would become 12 mg."""
    if text.replace("\n", " ").isprintable():
        return text
    text = LINE_ENDS.sub("\n", text).translate(WINDOWS_1252)
    return WIDTHLESS.sub(" ", UNREADABLE.sub(" ", text))


def _whitespace(text: str, _: CleanConfig) -> str:
    """One kind of blank, no blanks at line ends; lines and indentation stay, columns stay apart."""
    if not text.isascii() or "\t" in text:
        text = BLANKS.sub(" ", text)
    if " \n" in text or text.endswith(" "):
        text = "\n".join(line.rstrip(" ") for line in text.split("\n"))
    if "   " in text:
        text = WIDE_GAP.sub("  ", text)
    if "\n\n\n" in text:
        text = EMPTY_LINES.sub("\n\n", text)
    return text.strip("\n")


def _boilerplate(text: str, config: CleanConfig) -> str:
    """The text without opening lines that are named, or are headers with placeholders alone."""
    known = {line.strip().casefold() for line in config.boilerplate}
    rest = text
    for _ in range(LONGEST_HEADER):
        line, _, following = rest.lstrip().partition("\n")
        line = line.strip()
        is_header = ":" in line and len(line) < 200 and HEADER.fullmatch(line)
        if not is_header and line.casefold() not in known:
            break
        rest = following
    return rest.lstrip("\n") if rest.strip() else text


def _placeholders(text: str, config: CleanConfig) -> str:
    if config.placeholders != "mask":
        return text
    return without_marks(text, config.marks, config.placeholder_token)[0]


def without_marks(text: str, marks: tuple[str, ...], token: str) -> tuple[str, int]:
    """The text with a token for each placeholder, and how many there were."""
    if not any(mark.partition("…")[0] in text for mark in marks):  # cheaper than a pattern
        return text, 0
    return _pattern_of(marks).subn(lambda _: token, text)


@cache
def _pattern_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    alternatives = [
        re.escape(mark).replace("…", r"[^\]\n]*?") if "…" in mark else f"{re.escape(mark)}+"
        for mark in marks
    ]
    return re.compile("|".join(alternatives))


TEXT_STEPS: dict[str, Callable[[str, CleanConfig], str]] = {
    "unicode": _unicode,
    "control": _control,
    "whitespace": _whitespace,
    "boilerplate": _boilerplate,
    "placeholders": _placeholders,
}


Texts = tuple[str, ...]
"""The messages of a prompt, then the completion."""


def clean(
    example: Example, config: CleanConfig, counts: Counter[str]
) -> tuple[Example, list[tuple[str, Texts]]]:
    """The cleaned example, and its texts as they came and after each step."""
    texts = (*(turn.content for turn in example.prompt), example.completion)
    trail = [("raw", texts)]
    for step in config.steps:
        if change := TEXT_STEPS.get(step):
            texts = tuple(change(text, config) for text in texts)
            counts[f"{step}: rows changed"] += texts != trail[-1][1]
            trail.append((step, texts))
    metadata = example.metadata
    if "timestamps" in config.steps:
        metadata = type_timestamps(metadata, counts)
    if texts != trail[0][1] or metadata != example.metadata:
        prompt = tuple(map(Message, (turn.role for turn in example.prompt), texts))
        example = replace(example, prompt=prompt, completion=texts[-1], metadata=metadata)
    return example, trail


def why_poor(
    text: str, words: int, completion: str, config: CleanConfig, counts: Counter[str]
) -> str | None:
    """Why an example of this cleaned text, of so many words, is left out, or None."""
    marks = without_marks(text, config.marks, "")[1]
    counts["words"] += words
    counts["placeholders"] += marks
    counts[GARBLED] += any(map(text.__contains__, "ÂÃâ")) and MOJIBAKE.search(text) is not None
    if config.placeholders == "drop" and marks > config.max_placeholder_rate * words:
        return "too many placeholders"
    if "near_empty" in config.steps:
        answer, _ = without_marks(completion, config.marks, "")
        if not answer.strip() or words < config.min_words:
            return "near-empty"
    if "language" in config.steps:
        language = guess_language(text[:400].split())
        counts[f"language: {language}"] += 1
        if config.languages and language not in {*config.languages, "unknown"}:
            return f"in another language ({language})"
    return None


def guess_language(words: list[str]) -> str:
    """The language whose function words are commonest, "another script", or "unknown"."""
    said = "".join(words)
    others = sum(map(str.isalpha, NOT_LATIN.findall(said)))
    if others and 2 * others > sum(map(str.isalpha, said)):
        return "another script"
    known = Counter(
        language for word in words for language in LANGUAGES.get(word.lower(), ())
    ).most_common(2)
    if not known or known[0][1] < max(3, len(words) // 20):
        return "unknown"
    return "unknown" if len(known) > 1 and known[0][1] == known[1][1] else known[0][0]


def type_timestamps(metadata: dict[str, Any], counts: Counter[str]) -> dict[str, Any]:
    """The metadata with times in ISO 8601; what cannot be read as a time stays, and is counted.

    Four digits stay, too: they are a year already, or 14:30 o'clock, or seconds.
    """
    typed = dict(metadata)
    for name, value in metadata.items():
        if _is_time(name):
            time = parse_time(value)
            counts["timestamps" if time else "unreadable timestamps"] += 1
            if time and not YEAR.fullmatch(str(value).strip()):
                typed[name] = time.isoformat()
    return typed


@cache
def _is_time(column: str) -> bool:
    return bool(TIME_NAME.search(column.lower()))


def parse_time(value: Any) -> datetime | date | None:
    """A time of ISO 8601, or a year; None for all else, for 03/04/2020 is two days."""
    if isinstance(value, datetime | date):
        return value
    text = str(value).strip().replace("/", "-")
    try:
        if YEAR.fullmatch(text):
            return date(int(text), 1, 1)
        return date.fromisoformat(text) if len(text) <= 10 else datetime.fromisoformat(text)
    except ValueError:
        return None


def count_missing(row: dict[str, Any], missing: Counter[str]) -> None:
    """Count the columns of a raw row that hold nothing."""
    for name, value in row.items():
        blank = isinstance(value, str) and (not value or value.isspace())
        if (blank or value is None or value != value) and not name.startswith("__"):
            missing[name] += 1
