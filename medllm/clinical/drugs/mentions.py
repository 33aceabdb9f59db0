"""Drugs that a text names, by any of their names."""

import re
from dataclasses import dataclass

from medllm.clinical.drugs.names import Name, build_drug_names
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.text.phrases import Phrases, words_in
from medllm.clinical.text.reading import Reading


@dataclass(frozen=True, slots=True)
class Mention:
    """The words `first` to `last` (not included) of a text that name a drug or a class of drugs.

    `drugs` are ids of ingredients, several for a product of several, none for a class; a salt and
    a form ("metoprolol succinate", "diclofenac gel") belong to the mention.
    """

    drugs: tuple[str, ...]
    first: int
    last: int
    is_brand: bool = False
    drug_class: str | None = None


_FORMS = frozenset(
    words_in("""
    sodium potassium calcium magnesium hydrochloride hcl hydrobromide hbr sulfate sulphate
    succinate tartrate maleate mesylate mesilate besylate besilate fumarate citrate acetate
    phosphate nitrate bromide chloride tromethamine trometamol monohydrate dihydrate
    disoproxil alafenamide medoxomil cilexetil axetil proxetil mofetil etexilate dipropionate
    propionate furoate valerate decanoate pamoate bitartrate gluconate lactate erbumine
    arginine xr er sr cr xl la ir ec dr mr odt xt cd hfa retard depot gel cream ointment
    lotion spray patch patches tablet tablets tab tabs capsule capsules cap caps syrup
    suspension solution injection infusion drops inhaler nebuliser nebulizer suppository
    suppositories pill pills lozenge lozenges topical ophthalmic otic nasal
""")
)
_TAKING = frozenset(
    words_in("""
    take takes taking took taken start starts starting started give gives giving given gave
    use uses using used prescribe prescribes prescribed prescribing continue continues
    continued continuing add adds adding added administer administered receive receives
    receiving received oral intravenous iv supplemental drink drinks drinking drank begin
    begins beginning try on supplement supplements dose doses tablet tablets avoid limit stop
    stopping hold resume swallow consume consuming consumed restart prn plus combine combining
    mix mixing allergic allergy
""")
)
_DOSED = re.compile(
    r"[\s(:,*-]{0,4}(?:\d[\d.,]{0,8}(?: ?- ?\d[\d.,]{0,8})? ?"
    r"(?:mg|mcg|ug|g|iu|units?|meq|ml|mmol|(?:micro|milli)?grams?|tablets?|tabs?|caps?|capsules?|%)"
    r"(?![/\w])"
    r"|\d[\d.,]{0,8} ?(?:od|om|on|bd|bid|tds|tid|qds|qid|nocte|mane|prn)\b"
    r"|(?:supplements?|tablets?|pills?|capsules?|infusion|injection|drip|therapy)\b)"
)
_OF_DOSE = re.compile(r"\d ?(?:mg|mcg|ug|g|iu|units?|(?:micro|milli)?grams?) of $")
_UNIT = re.compile(r"(?:[.,]\d+)?(?: ?(?:-|to) ?\d+)? ?(?:mg|mcg|ug|g|grams?)\b")
_VALUED = frozenset(
    words_in("""
    level levels deficiency deficient overload rich studies channel channels resistance
    resistant sensitivity metabolism absorption stores panel
""")
)
_JOINING = frozenset(words_in("and or plus with"))


def find_drugs(
    reading: Reading, knowledge: Knowledge, *, is_list: bool = False
) -> tuple[Mention, ...]:
    """The drugs and classes that a text names, in order, in one pass over its words.

    An ambiguous name counts beside a dose, a form, a verb of taking or another drug; always where
    the text `is_list`, a list of drugs and nothing else.
    """
    found: list[tuple[Mention, bool]] = []
    done = 0
    phrases = knowledge.built(build_drug_names).phrases
    for first, longest, longest_name in phrases.find(reading.words):
        if first >= done:
            end, name = _without_a_dose(reading, phrases, first, longest, longest_name)
            done = end if name.drug_class else _with_form(reading, end)
            mention = Mention(name.drugs, first, done, name.is_brand, name.drug_class)
            is_lack = reading.words[done : done + 1] in (["deficiency"], ["deficient"])
            found.append((mention, is_list or not (name.is_ambiguous or is_lack)))
    return tuple(
        mention
        for at, (mention, is_sure) in enumerate(found)
        if is_sure
        or not _is_measured(reading, mention)
        and (_is_taken(reading, mention) or _is_beside_a_drug(reading, found, at))
    )


def _without_a_dose(
    reading: Reading, phrases: Phrases[Name], first: int, end: int, name: Name
) -> tuple[int, Name]:
    """A name without a number that is a dose: "Tylenol 3 g" is not the product Tylenol 3."""
    is_number = reading.words[end - 1].isdecimal()
    if is_number and _UNIT.match(reading.folded.text, reading.ends[end - 1]):
        for begin, shorter, other in phrases.find(reading.words[first : end - 1]):
            if begin == 0:
                return first + shorter, other
    return end, name


def _with_form(reading: Reading, end: int) -> int:
    """The word after a name, and after the salt and the form behind it."""
    limit = min(end + 3, len(reading.words))
    while end < limit and reading.words[end] in _FORMS and reading.between(end - 1) in (" ", "-"):
        end += 1
    return end


def _is_measured(reading: Reading, mention: Mention) -> bool:
    """Whether a name is of what the body holds: an iron deficiency, a potassium level."""
    return not _VALUED.isdisjoint(reading.words[mention.last : mention.last + 1])


def _is_taken(reading: Reading, mention: Mention) -> bool:
    """Whether the words around an ambiguous name show that it is taken as a drug."""
    words, first, last = reading.words, mention.first, mention.last
    if _DOSED.match(reading.folded.text, reading.ends[last - 1]):
        return True
    if _OF_DOSE.search(
        reading.folded.text, max(0, reading.begins[first] - 20), reading.begins[first]
    ):
        return True
    begin = max(reading.sentence_at(first)[0], first - 3)
    return not _TAKING.isdisjoint(words[begin:first])


def _is_beside_a_drug(reading: Reading, found: list[tuple[Mention, bool]], at: int) -> bool:
    """Whether a sure name stands right before or after it: `warfarin and ASA`, `ASA + warfarin`."""
    near = [each for each in (at - 1, at) if 0 <= each < len(found) - 1]
    return any(
        (found[each][1] or found[each + 1][1])
        and _JOINING.issuperset(reading.words[found[each][0].last : found[each + 1][0].first])
        for each in near
    )
