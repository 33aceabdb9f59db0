"""Sigs in a text: `read_sigs`."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medllm.clinical.doses.amounts import Amount
from medllm.clinical.doses.elements import Bare, Count, Element, Mention, find_elements
from medllm.clinical.doses.regimens import read_regimens
from medllm.clinical.doses.sig import Sig
from medllm.clinical.doses.vocabulary import Often, Sign
from medllm.clinical.text.phrases import words_in
from medllm.clinical.text.reading import Reading, Span

_FILLER = frozenset(
    words_in("""
    take taking give given start started continue using inject administer adult adults dose doses
    dosage dosing usual usually normal recommended standard typical typically initial initially
    starting maintenance oral tablet tablets capsule capsules strength each about approximately
    around roughly only just another extra additional this that should would will with from then
    than more less maximum total daily once twice three four half either prescribe prescribed
    increase increased reduce reduced adding please your patient patients they morning evening night
    elderly children child first second next after before later high followed repeat release
    extended modified sustained slow immediate sodium hydrochloride solution suspension injection
    syrup cream drops inhaler infusion bolus stat dissolve drink inhale spray place insert instil
    instill apply applying swallow chew wear stick doctor prescriber recommends suggests advised
    drug medication medicine amount value quantity coated says disp label directions minimum least
    lowest highest smallest largest safe better rather meant mean sorry instead suggest suggested
    recommend advise prefer preferably consider raise raised double doubled change changed switch
    move even perhaps maybe probably
    """)
)
"""Words of four letters and more that stand before a dose and are no name of another drug."""
_PARTED = re.compile(r".*(?:[,;:&+/(*•<>]|\b(?:and|or|plus|with|then)\b|^)", re.DOTALL)
_NAMELIKE = re.compile(r"[a-z][a-z'-]{3,}")
_LINKS = frozenset(words_in("for of at is are was which that to in by on into after before"))
"""Words that tie a dose to what stands before: "for chest infection 500 mg" is of the drug."""
_OF_OTHER = re.compile(
    r" ?of (?!the\b|each\b|an?\b|it\b|this\b|your\b)[a-z]"
    r"| (?:carb|protein|fib(?:re|er)|salt|sodium\b|sugar|alcohol|fat\b)"
)
_ADJACENT = re.compile(r"[ -]?(?:(?:of|the|dose|doses|oral|generic|each|a|single|plain)\b ?)*")
_JOINT = re.compile(r"[,;&+/]|\b(?:and|or|plus|with|then)\b")
_LIST_JOINT = re.compile(r"[ ,;&+/-]*(?:(?:and|or|plus|with|both|all|each) ?)*[ ,]*")
_JOINED = re.compile(r"\b(?:and|or|plus|with)\b|[&+]")
_BEGINS = re.compile(
    r"\W*(?:\d{1,2}[.)] ?)?(?:(?:take|give|start|use|inject|apply|inhale|swallow|chew|adults?|"
    r"usual|usually|typically|dose|dosage|max|maximum|do not|don't|typical|initial|initially|then|"
    r"increase|loading|maintenance|maintain|continue|titrate|it|you|your|this|most|if|never|up to|"
    r"once|twice|one|two)\b|(?:the|a|an) (?:usual|recommended|typical|standard|normal|starting|"
    r"initial|adult|dose|total|daily|loading|maintenance|target|first|next|max|common)|\d)"
)
_IN_OBJECT = re.compile(r"\{\W*$")
"""Before a sentence that is an object of a list: what stands before its name is of no other."""
_OTHER_INTAKE = re.compile(
    r"\b(?:protein|sodium|salt|fluids?|water|fib(?:re|er)|calories|sugar|alcohol|carbohydrates?|"
    r"diet|dietary|intake|caffeine|milk|food)\b"
)
LONGEST_NAME = 60
"""Characters before a dose in which a name of something else is looked for."""
MOST_TO_A_SHARE = 16
"""Characters between a name and a strength in per cent."""
MOST_TO_A_FREQUENCY = 3
MOST_TO_A_DOSE = 30
"""Characters from the beginning of a sentence that goes on about a drug to its dose."""
CONTINUES = 3
"""Sentences without a drug's name that may go on about the drug of the sentence before."""


@dataclass(slots=True)
class _Region:
    """A mention and what is said of it, by sentence."""

    number: int
    sentences: list[list[Element]]


def read_sigs(reading: Reading, mentions: Sequence[Mention]) -> tuple[Sig, ...]:
    """The sigs of a text, given the drugs that it names, in order of the mentions.

    A frequency is the most often that the words allow ("every 4 to 6 hours" is 6 times a day).
    Amounts that stand with no drug, or with a name that is in no vocabulary, are of no sig.
    """
    if not mentions:
        return ()
    regions = [_Region(number, []) for number in range(len(mentions))]
    for first, last in _stretches(reading, mentions):
        elements = list(find_elements(reading, mentions, first, last))
        _share_out(reading, mentions, regions, elements, (first, last))
    text = reading.folded.text
    sigs = [
        sig
        for region in regions
        for sig in read_regimens(
            text, mentions[region.number].drugs, region.number, region.sentences
        )
    ]
    return tuple(_shared(reading, mentions, sigs))


def _stretches(reading: Reading, mentions: Sequence[Mention]) -> Iterator[Span]:
    """The words of sentences that name a drug or may go on about it, as few parts as can be."""
    sentences = reading.sentences
    begin = end = 0
    for mention in mentions:
        at = bisect_right(sentences, (mention.first, len(reading.words) + 1)) - 1
        if at > end and end > begin:
            yield sentences[begin][0], sentences[end - 1][1]
            begin = at
        elif end == begin:
            begin = at
        end = min(at + 1 + CONTINUES, len(sentences))
    yield sentences[begin][0], sentences[end - 1][1]


def _share_out(
    reading: Reading,
    mentions: Sequence[Mention],
    regions: list[_Region],
    elements: list[Element],
    stretch: Span,
) -> None:
    """Give the elements of a stretch of a text to the drugs that they are said of."""
    firsts = [each.first for each in mentions]
    topic: _Region | None = None
    left = at = 0
    for first, last in _sentences(reading, stretch):
        end = reading.begins[last] if last < len(reading.begins) else len(reading.folded.text) + 1
        since, at = at, _until(elements, at, end)
        within, begin = elements[since:at], reading.begins[first]
        low, high = bisect_left(firsts, first), bisect_left(firsts, last)
        if low == high:
            left -= 1
            if topic and left >= 0 and _goes_on(reading.folded.text, begin, within):
                topic.sentences.append(_own(reading, within, begin, True))
            continue
        left = CONTINUES
        is_other = _IN_OBJECT.search(reading.folded.text, max(0, begin - 4), begin)
        _assign(reading, mentions, regions[low:high], within, None if is_other else topic)
        dosed = [each for each in regions[low:high] if _has_dose(each)]
        alike = {mentions[each.number].drugs for each in regions[low:high]}
        topic = regions[high - 1] if len(alike) == 1 else (dosed[0] if len(dosed) == 1 else None)


def _sentences(reading: Reading, stretch: Span) -> list[Span]:
    begin = bisect_left(reading.sentences, (stretch[0], 0))
    end = bisect_left(reading.sentences, (stretch[1], 0))
    return reading.sentences[begin:end]


def _until(elements: list[Element], at: int, end: int) -> int:
    while at < len(elements) and elements[at].begin < end:
        at += 1
    return at


def _goes_on(text: str, begin: int, elements: list[Element]) -> bool:
    kinds = {type(each.meaning) for each in elements}
    if not kinds & {Amount, Count}:  # "20 mg p.o. q. daily": the full stop is no end
        return Often in kinds and elements[0].begin - begin <= MOST_TO_A_FREQUENCY
    first = next(each for each in elements if isinstance(each.meaning, (Amount, Count)))
    if _OTHER_INTAKE.search(text, begin, first.begin):
        return False
    return bool(_BEGINS.match(text, begin)) or first.begin - begin <= MOST_TO_A_DOSE


def _is_over(element: Element) -> bool:
    return isinstance(element.meaning, Sign) and element.meaning.kind == "over"


def _has_dose(region: _Region) -> bool:
    return any(
        isinstance(each.meaning, (Amount, Count)) for row in region.sentences for each in row
    )


def _assign(
    reading: Reading,
    mentions: Sequence[Mention],
    regions: list[_Region],
    elements: list[Element],
    topic: _Region | None,
) -> None:
    """Give each element of a sentence to the drug that it is said of."""
    text = reading.folded.text
    spans = [
        (reading.begins[mentions[each.number].first], reading.ends[mentions[each.number].last - 1])
        for each in regions
    ]
    rows: list[list[Element]] = [[] for _ in range(len(regions) + 1)]  # the first: before all
    for element in elements:
        rows[bisect_right(spans, (element.begin, len(text)))].append(element)
    # "a 6 year old", "within 4 hours": a time before the name says nothing of how it is given
    rows[0] = [each for each in rows[0] if not (_is_over(each) and text[each.begin].isdigit())]
    prefixes: list[list[Element]] = []
    for number, (begin, _) in enumerate(spans):
        before = spans[number - 1][1] if number else None
        cut = _prefix(text, rows[number], begin, before, bool(number and prefixes[0]))
        prefixes.append(rows[number][cut:])
        rows[number] = rows[number][:cut]
    if rows[0] and topic:
        topic.sentences.append(_own(reading, rows[0], rows[0][0].begin, False))
    elif rows[0] and len(regions) == 1 and not _is_of_other_name(reading, rows, spans[0][0]):
        prefixes[0] = rows[0] + prefixes[0]
    for region, prefix, row, (_, end) in zip(regions, prefixes, rows[1:], spans, strict=True):
        region.sentences.append([*prefix, *_own(reading, row, end, False)])


def _is_of_other_name(reading: Reading, rows: list[list[Element]], name: int) -> bool:
    """Whether what stands before a name that has its own dose is of another, unknown drug."""
    text, first = reading.folded.text, rows[0][0].begin
    begin = reading.begins[reading.sentence_at(bisect_right(reading.begins, first) - 1)[0]]
    is_joined = rows[1] and _JOINED.search(text, rows[0][-1].end, name)
    return bool(is_joined) and _names_another(text[begin:first], in_row=False)


def _prefix(text: str, row: list[Element], name: int, before: int | None, style: bool) -> int:
    """From which element on a row stands before a name, and is of it: `500 mg of paracetamol`."""
    cut, end = len(row), name
    while cut and _ADJACENT.fullmatch(text, row[cut - 1].end, end):
        cut, end = cut - 1, row[cut - 1].begin
    if before is None:  # all that is before the first name, where some of it is adjacent
        return 0 if cut < len(row) else cut
    if cut == len(row):
        return cut
    stop = row[cut - 1].end if cut else before
    joined = bool(_JOINT.search(text, stop, end))
    has_dose = any(isinstance(each.meaning, (Amount, Count)) for each in row[cut:])
    return cut if joined or (style and has_dose) else len(row)


def _own(reading: Reading, row: list[Element], begin: int, anew: bool) -> list[Element]:
    """The elements up to a dose that is of something else: `and foobarine 5 mg`, `2 g of salt`."""
    text, kept = reading.folded.text, list[Element]()
    for element in row:
        gap = text[begin : element.begin]
        if isinstance(element.meaning, (Amount, Count, Bare)):
            is_in_list = bool(kept) or anew or bool(_JOINT.search(gap))
            if is_in_list and _names_another(gap, bool(kept) or not anew):
                break
        if not _is_of_other(text, element, gap, is_first=not kept):
            kept.append(element)
        begin = element.end
    return kept


def _is_of_other(text: str, element: Element, gap: str, is_first: bool) -> bool:
    """Whether an amount is of what stands behind it, or no strength: "lowers it by 30%"."""
    meaning = element.meaning
    if not isinstance(meaning, Amount):
        return False
    is_share = meaning.unit == "%" and (not is_first or len(gap) > MOST_TO_A_SHARE)
    return is_share or bool(_OF_OTHER.match(text, element.end))


def _names_another(gap: str, in_row: bool) -> bool:
    """Whether an unknown name stands right before a dose, where a list would have one."""
    gap = gap[-LONGEST_NAME:]
    match = _PARTED.match(gap)
    if not match or (in_row and match.end() == 0 and not _JOINT.match(gap)):
        return False
    words = words_in(gap[match.end() :])
    if not _LINKS.isdisjoint(words):
        return False
    return any(_NAMELIKE.fullmatch(each) and each not in _FILLER for each in words)


def _shared(reading: Reading, mentions: Sequence[Mention], sigs: list[Sig]) -> Iterator[Sig]:
    """The sigs, those of a list with the frequency at its end: `A 5 mg, B 5 mg and C 5 mg daily`.

    What is given more often than daily is shared by what "and" joins alone: in a list of
    medications each has its own frequency, or none.
    """
    text, after = reading.folded.text, None
    shared: list[Sig] = []
    for sig in reversed(sigs):
        if after and sig.mention != after.mention and sig.often is None and not sig.is_once:
            name = mentions[after.mention]
            gap = text[sig.end : reading.begins[name.first]]
            often = after.often
            is_near = bool(_JOINED.search(gap)) or (often is not None and often.a_day <= 1)
            if sig.doses and sig.end > 0 and is_near and _LIST_JOINT.fullmatch(gap):
                sig = replace(sig, often=after.often, is_once=after.is_once)
        shared.append(sig)
        after = sig
    return reversed(shared)
