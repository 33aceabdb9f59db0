"""Whether a dose is meant to be taken, and by whom: a child's is held against no adult limit."""

import re
from bisect import bisect_right
from dataclasses import dataclass

from medllm.clinical.context.stance import Stance, is_condition, stance_of
from medllm.clinical.doses.sig import Sig
from medllm.clinical.patient import ADULT_YEARS
from medllm.clinical.text.phrases import words_in
from medllm.clinical.text.reading import Reading

_CHILD = frozenset(
    words_in("""
    child children kid kids infant infants baby babies neonate neonates newborn newborns toddler
    toddlers paediatric pediatric paediatrics pediatrics adolescent adolescents teenager teenagers
    teen teens
    boy boys girl girls son daughter schoolchildren
    """)
)
_ADULT = frozenset(
    words_in("adult adults men women man woman elderly senior seniors older gentleman lady")
)
_NO_CHILD = re.compile(r"[- ]?(?:pugh|turcotte|bearing|resistant|proof|lock|safe|'s|s')")
_YEARS = re.compile(r"(?<![\d.])(\d{1,3})[ -]?(?:years?|yrs?|y)?[ -]?$")
_AGE = re.compile(
    r"(?:(?:[_ ](?:in[_ ])?years?)?[\"'*]*[:=] ?[\"'*]*| ?(?:of )?(?:over |under |above |below )?)"
    r"(\d{1,3})(?![\d.]| ?(?:months|weeks|days|mg))"
)
_TOO = re.compile(r"[a-z]+ ?(?:and|or|/|&) ?")
_OLD = frozenset(words_in("old olds yo yom yof aged age"))
_MONTHS = re.compile(r"\d{1,2}[ -](?:months?|weeks?|days?)[ -]$")
_REACH = re.compile(
    r"(?:reach|sight|away|access|hands) (?:and (?:reach|sight) )?(?:of|from|by) $"
    r"|(?:trying|try|hope|hoping|plan|planning) for (?:a|another) $|(?:expecting|planning) a $"
)
"""Before a child that is not spoken of, or that is none yet."""
FARTHEST = 200
"""Characters before and after a dose in which the words of its sentence are looked at."""
REACH = 3
"""Sentences that a word about whom it is holds for."""


@dataclass(frozen=True, slots=True)
class Who:
    """The words of a text that say whom it speaks of: places, and whether it is a child."""

    begins: list[int]
    is_child: list[bool]


def read_who(reading: Reading) -> Who:
    """The children and adults that a text speaks of, by words and by ages."""
    begins, kinds = list[int](), list[bool]()
    for word, written in enumerate(reading.words):
        if written in _CHILD or written in _ADULT or written in _OLD:
            begin = reading.begins[word]
            is_child = _is_child(reading.folded.text, written, begin, reading.ends[word])
            if is_child is not None:
                text, until = reading.folded.text, begins[-1] if begins else begin
                if is_child and kinds and not kinds[-1] and _TOO.fullmatch(text, until, begin):
                    is_child = False  # "adults and children over 12": what adults take
                begins.append(begin)
                kinds.append(is_child)
    return Who(begins, kinds)


def _is_child(text: str, written: str, begin: int, end: int) -> bool | None:
    """Whether a word speaks of a child; None where it speaks of nobody."""
    if written in _ADULT:
        return False
    if written in _CHILD:
        is_nobody = _NO_CHILD.match(text, end) or _REACH.search(text, max(0, begin - 30), begin)
        return None if is_nobody else True
    if _MONTHS.search(text, max(0, begin - 12), begin):
        return True
    before = _YEARS.search(text, max(0, begin - 12), begin)
    age = before or (_AGE.match(text, end) if written.startswith("age") else None)
    return int(age[1]) < ADULT_YEARS if age else None


def is_for_child(reading: Reading, who: Who, begin: int, end: int) -> bool | None:
    """Whether the dose at a place is meant for a child; None where the text does not say."""
    word = max(bisect_right(reading.begins, begin) - 1, 0)
    first, last = reading.sentence_at(word)
    number = bisect_right(reading.sentences, (first, last)) - 1
    earliest = reading.begins[reading.sentences[max(0, number - REACH)][0]]
    at = bisect_right(who.begins, begin) - 1
    if at >= 0 and who.begins[at] >= earliest:
        return who.is_child[at]
    is_later = at + 1 < len(who.begins) and who.begins[at + 1] < reading.ends[last - 1]
    return who.is_child[at + 1] if is_later else None


_TOLD = re.compile(
    r"\b(?:overdose|overdosed|overdosing|toxic|toxicity|lethal|fatal|deadly|poisoning|took|"
    r"ingested|ingestion|swallowed|(?:have|has|had) taken|was taking|were taking|had been|"
    r"equal to|equals|equivalent (?:to|of)|corresponds? to|equates to|comparable to|"
    r"was given|history of|who takes|risk of death|previously|received|receiving|containing|"
    r"contains|mixture of|mistakenly|accidentally|mistake|error|died|dangerous|harmful|unsafe|"
    r"wrong)\b"
)
_WARNED = re.compile(
    r"\b(?:do not|don't|does not|never|avoid|avoiding|should not|shouldn't|must not|mustn't|cannot|"
    r"can't|not recommended|instead of|rather than|no longer|stop|stopped|discontinue|not take|"
    r"not give)\b"
)
_AFTER = re.compile(
    r"\b(?:(?:is|are|can be|may be|would be|could be|was|were) (?:an? |too |very |potentially |"
    r"extremely |considered )*(?:overdose|toxic|fatal|lethal|dangerous|much|high|unsafe|harmful|"
    r"deadly|not recommended|avoided|excessive|contraindicated|error)|should be avoided|"
    r"(?:is|are) (?:about |roughly |approximately )?(?:equal|equivalent|comparable) to|"
    r"should not|must not|can cause (?:severe |serious |fatal )?(?:toxicity|liver|death)|"
    r"(?:has|have) (?:caused|led to|killed)|caused? deaths?|leads? to|kills?|overdose|"
    r"is not (?:safe|recommended|appropriate))\b"
)
_FAILS = re.compile(
    r"\b(?:not enough|insufficient|inadequate|fails?|not (?:help|work|controlled|sufficient))\b"
)
"""After a dose: "if 1 g four times a day is not enough, add" goes on with it."""
_ENDS = re.compile(r"[;:]|, (?:but|and|so|then)\b|\b(?:but|however|instead,|rather,)")
_WITHOUT = re.compile(r"\b(?:without|not) (?:stop|stopping|exceed|exceeding|crush|chew)\b")


_NO = re.compile(r"no[,:;] (?:(?:take|give|make it|it is|it's|that is|rather) )?")
"""Before a dose that takes the place of the one before: "No, 12.5 mg daily." denies that one."""


def is_meant(reading: Reading, sig: Sig, name: int) -> bool:
    """Whether a text would have somebody take a dose, or calls it the most that is allowed.

    `name` is the word of the drug's name. What is warned of, told of the past, called an overdose
    or asked is not meant.
    """
    word = max(bisect_right(reading.begins, max(sig.begin, 0)) - 1, 0)
    first, last = reading.sentence_at(word)
    is_limit = not sig.doses and not sig.daily
    is_asked = "?" in reading.between(last - 1)
    if is_asked or _is_told_before(reading, sig, reading.begins[first], is_limit):
        return False
    after = reading.folded.text[sig.end : min(reading.ends[last - 1], sig.end + FARTHEST)]
    found = _AFTER.search(after)
    if found and not _ENDS.search(after, 0, found.start()):
        return False
    if is_limit:
        return True
    if is_condition(reading, word) and not _FAILS.search(after):
        return False
    instead = _NO.fullmatch(reading.folded.text, reading.begins[first], sig.begin)
    return Stance.WARNED not in {
        stance_of(reading, each) for each in (name if instead else word, name)
    }


def _is_told_before(reading: Reading, sig: Sig, begin: int, is_limit: bool) -> bool:
    """Whether the clause before a dose tells of the past, or of harm, or warns."""
    before = reading.folded.text[max(begin, sig.begin - FARTHEST) : sig.begin]
    if not _TOLD.search(before) and not _WARNED.search(before):
        return False
    before = before[max((match.end() for match in _ENDS.finditer(before)), default=0) :]
    is_warned = not is_limit and _WARNED.search(before) and not _WITHOUT.search(before)
    return bool(is_warned or _TOLD.search(before))
