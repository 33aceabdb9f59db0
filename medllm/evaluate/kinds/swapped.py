"""Questions with words exchanged that should change no answer: names of drugs, and of whom it is.

Brand for generic name and back, as in RABBITS (Gallifant et al. 2024, arXiv 2406.12066); the sex,
age and ethnicity of the patient, as in Zack et al. 2024 (Lancet Digit Health 6:e12).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from os.path import commonprefix
from typing import Any

from medllm.clinical.drugs.mentions import Mention, find_drugs
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.phrases import words_in
from medllm.clinical.text.reading import Reading, read
from medllm.data.example import Example, Message
from medllm.measures.intervals import estimate_share
from medllm.measures.paired import compare_right

NO_WORD = "no such word"
SAME_CHOICES = "two choices become one"
BOUND = {
    "sex": re.compile(
        r"(?i)\b(?:pregnan|gestation|trimester|prenatal|antenatal|postpartum|partum|labou?r\b|deliver|"
        r"lactat|breast|mammo|uter(?:us|ine)|ovar|ovulat|menstru|menses|menopaus|amenorrh|vagin|"
        r"vulv|cervi(?:x|cal (?:smear|cancer|cytolog|intra))|endometri|hysterect|fallop|ectopic|"
        r"eclamp|gravid|\bpara\b|contracepti|prostat|testic|testis|testes|penis|penile|scrot|"
        r"epididym|semen|sperm|erect|ejaculat|circumcis|vasectom|gyn(?:a?ecolog|ecomast)|obstetric|"
        r"x-linked|turner|klinefelter|h(?:a)?emophilia|duchenne)"),
    "ethnicity": re.compile(
        r"(?i)\b(?:sickle|thalass|tay-sachs|cystic fibrosis|g6pd|glucose-6|lactose|sarcoid|gaucher|"
        r"kawasaki|takayasu|beh[cç]et|moya|hla-|ancestr|ethnic|race|racial|immigra|born in|"
        r"native)"),
}  # fmt: skip
"""Words by which the right answer may hang on what is exchanged: such questions are left out."""
PAIRS = (
    "man woman|men women|male female|males females|boy girl|boys girls|he she|himself herself|"
    "gentleman lady|gentlemen ladies|father mother|husband wife|son daughter|brother sister|"
    "grandfather grandmother|uncle aunt|nephew niece|mr mrs|fathers mothers|sons daughters|"
    "brothers sisters|husbands wives"
)
OF_SEX = {
    word: other
    for pair in PAIRS.split("|")
    for one, two in [pair.split()]
    for word, other in ((one, two), (two, one))
} | {"ms": "mr", "him": "her"}
BEFORE_NO_NOUN = frozenset(
    words_in("""
    to for and with in on at from that is was because about as by but if when or who until into of
    this the a an after before during not has had were are than then while which home back again up
    down out off daily twice every how what why where
""")
)
"""Words before which "her" is him, not his."""
SEX = re.compile(r"(?i)\b(?:" + "|".join([*OF_SEX, "his", "her", "hers"]) + r")\b")
AGE = re.compile(r"(?i)\b(\d{2})(?=(?:-|\s)?(?:year|yr|y/?o\b))")
BANDS = ((18, 39), (40, 64), (65, 89))
"""Ages of adults within which a question stays the same one."""
YEARS = 5
PEOPLE = ("White", "Black", "Hispanic", "Asian")
ETHNICITY = re.compile(
    r"(?i)(?:\b(an?)\s+)?\b(White|Black|Caucasian|African[- ]American|Hispanic|Latin[oa]|Asian)"
    r"(?=\s+(?:[\w-]+\s+)?(?:man|woman|men|women|male|female|boy|girl|patient|person|adult|infant|"
    r"child|gentleman|lady)\b)")  # fmt: skip
SAME_PEOPLE = {"caucasian": "White", "african american": "Black", "african-american": "Black",
               "latino": "Hispanic", "latina": "Hispanic"}  # fmt: skip
NOT_ONE_DRUG = frozenset(
    ("insulin", "interferon", "epinephrine", "norepinephrine", "testosterone", "estradiol",
     "progesterone", "oxytocin", "vasopressin", "glucagon", "melatonin", "liothyronine",
     "levothyroxine", "calcium", "calcium carbonate", "iron", "magnesium", "potassium chloride",
     "zinc", "folic acid", "cyanocobalamin", "colecalciferol", "vitamin A", "vitamin E",
     "vitamin K", "caffeine", "nicotine", "alcohol", "heparin", "sodium oxybate", "adenosine")
)  # fmt: skip
"""What is also made by the body or eaten, or is several drugs under one name in our table."""


@dataclass(frozen=True, slots=True)
class Swapped:
    """A question with words exchanged."""

    item: Example
    words: int
    """How many were."""

    def answer(self, choice: str, item: Example) -> str:
        """What a choice of this question is in the one of before."""
        return item.choices[self.item.choices.index(choice)]


def swap(asked: Example, own: Example, name: str) -> Swapped | str:
    """A question with the words of SWAPS exchanged; or why it is left out.

    `own` is the question without worked examples, which stay as they are.
    """
    exchange = SWAPS[name]
    last = asked.prompt[-1]
    tail = _common_end(last.content, own.prompt[-1].content)
    bound = BOUND.get(name)
    if bound and bound.search(tail):
        return f"the answer may hang on {name}"
    text, words = _count(exchange, tail)
    choices = [_count(exchange, choice)[0] for choice in asked.choices]
    if not words:
        return NO_WORD
    if len({*choices}) < len(choices):
        return SAME_CHOICES
    before = last.content.removesuffix(tail)
    target = choices[asked.choices.index(asked.target)] if asked.target else None
    prompt = (*asked.prompt[:-1], Message(last.role, before + text))
    return Swapped(replace(asked, prompt=prompt, choices=tuple(choices), target=target), words)


def swap_all(asked: Example, own: Example, names: Sequence[str]) -> dict[str, Swapped | str]:
    """A question with each of some SWAPS, by name."""
    return {name: swap(asked, own, name) for name in names}


def sum_up_swaps(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each swap how many answers flip, and how many are right before and after it."""
    names = dict.fromkeys(name for record in records for name in record.get("swapped", ()))
    told = {name: _sum_up(name, records) for name in names}
    return {"swaps": told} if told else {}


def _sum_up(name: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    asked = [each for each in records if "answer" in each["swapped"][name]]
    reasons = Counter(each["swapped"][name]["left_out"] for each in records
                      if "left_out" in each["swapped"][name])  # fmt: skip
    told: dict[str, Any] = {"items": len(asked), "left_out": dict(reasons)}
    if not asked:
        return told
    groups = [str(each.get("group", each["id"])) for each in asked]
    after = [each["swapped"][name]["answer"] for each in asked]
    flips = estimate_share([new != each["answer"] for each, new in zip(asked, after, strict=True)],
                           groups)  # fmt: skip
    compared = compare_right(
        [each["answer"] == each["target"] for each in asked],
        [new == each["target"] for each, new in zip(asked, after, strict=True)],
        groups,
    )
    told |= {"flips": flips.value, "flips_low": flips.low, "flips_high": flips.high}
    numbers = ("before", "after", "gained", "lost", "p")
    return told | {number: getattr(compared, number) for number in numbers}


Edit = tuple[int, int, str]
"""Begin and end of what is exchanged, and what comes in its place."""


def _count(exchange: Callable[[str], Iterator[Edit]], text: str) -> tuple[str, int]:
    """The text with its words exchanged, and how many."""
    parts, done, words = [], 0, 0
    for begin, end, new in exchange(text):
        parts += [text[done:begin], new]
        done, words = end, words + 1
    return "".join([*parts, text[done:]]), words


def _common_end(text: str, other: str) -> str:
    return commonprefix([text[::-1], other[::-1]])[::-1]


def _sex(text: str) -> Iterator[Edit]:
    for found in SEX.finditer(text):
        word = found[0].lower()
        after = re.match(r"\s+([a-z]+)", text[found.end() :], re.IGNORECASE)
        is_own = after is not None and after[1].lower() not in BEFORE_NO_NOUN
        special = {"her": "his" if is_own else "him", "hers": "his",
                   "his": "her" if is_own else "hers"}  # fmt: skip
        yield (*found.span(), _cased(found[0], special[word] if word in special else OF_SEX[word]))


def _age(text: str) -> Iterator[Edit]:
    for found in AGE.finditer(text):
        age = int(found[1])
        for least, most in BANDS:
            if least <= age <= most:
                yield (*found.span(), str(age + YEARS if age + YEARS <= most else age - YEARS))


def _ethnicity(text: str) -> Iterator[Edit]:
    for found in ETHNICITY.finditer(text):
        word = found[2].lower()
        people = SAME_PEOPLE.get(word, word.capitalize())
        new = PEOPLE[(PEOPLE.index(people) + 1) % len(PEOPLE)]
        if found[1]:
            article = "an" if new[0] in "AEIO" else "a"
            new = f"{_cased(found[1], article)} {new}"
        yield (*found.span(), new)


def _brands(text: str) -> Iterator[Edit]:
    reading = read(text)
    for mention in find_drugs(reading, shipped_knowledge()):
        if len(mention.drugs) == 1 and (edit := _of_drug(reading, mention)):
            yield edit


def _of_drug(reading: Reading, mention: Mention) -> Edit | None:
    """The brand of a generic name, or the generic name of a brand; None where there is none.

    A generic name with its salt stays, as no brand has one.
    """
    drug = mention.drugs[0]
    first_brand = _brand_names().get(drug)
    if drug in NOT_ONE_DRUG or first_brand is None:
        return None
    for last in range(mention.last, mention.first, -1):
        words = tuple(reading.words[mention.first : last])
        if words not in _own_names().get(drug, ()):
            continue
        begin, end = reading.place(mention.first, last)
        if mention.is_brand:
            return begin, end, _begun(reading.text, begin, drug)
        return (begin, end, first_brand) if last == mention.last else None
    return None


@cache
def _brand_names() -> Mapping[str, str]:
    """The first brand of each drug that is no other word."""
    found = {}
    for row in shipped_knowledge().rows("drugs"):
        brands = [each for each in row.get("brands", ()) if each not in row.get("ambiguous", ())]
        if brands:
            found[row["id"]] = brands[0]
    return found


@cache
def _own_names() -> Mapping[str, frozenset[tuple[str, ...]]]:
    """All names of each drug, as words."""
    return {
        row["id"]: frozenset(
            map(words_in, [row["id"], *row.get("names", ()), *row.get("brands", ())])
        )
        for row in shipped_knowledge().rows("drugs")
    }


def _begun(text: str, begin: int, word: str) -> str:
    """A word with a capital where a sentence or an option begins."""
    before = text[:begin].rstrip(" ")
    is_first = not before or before[-1] in ".?!:\n"
    return word[0].upper() + word[1:] if is_first else word


def _cased(old: str, new: str) -> str:
    """A word in the case of the one whose place it takes."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    return new.capitalize() if old[0].isupper() else new


SWAPS: Mapping[str, Callable[[str], Iterator[Edit]]] = {
    "brands": _brands,
    "sex": _sex,
    "age": _age,
    "ethnicity": _ethnicity,
}
"""What may be exchanged, by the names of `evaluate.swaps`."""
