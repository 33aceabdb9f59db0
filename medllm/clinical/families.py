"""The families of rules: their tables, and what finds them in an answer.

A family joins the review by one line in each of the two lists here.
"""

from medllm.clinical.case import Family
from medllm.clinical.context import CUES
from medllm.clinical.context.stance import STANCE_CUES
from medllm.clinical.contraindications.checks import find_contraindications
from medllm.clinical.contraindications.tables import CONDITIONS, CONTRAINDICATIONS
from medllm.clinical.doses.checks import find_doses
from medllm.clinical.doses.limits import DOSES
from medllm.clinical.drugs.tables import CLASSES, DRUGS, PRODUCTS, RXCUIS, VOCABULARY
from medllm.clinical.entities.short_forms import SHORT_FORMS
from medllm.clinical.entities.words import ENTITY_WORDS
from medllm.clinical.interactions.checks import find_interactions
from medllm.clinical.interactions.tables import DUPLICATES, INTERACTIONS
from medllm.clinical.measurements.changed import find_changed_vitals, find_impossible_values
from medllm.clinical.red_flags.flags import find_red_flags
from medllm.clinical.red_flags.tables import ASIDES, CONCEPTS, RED_FLAGS, REGIONS
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.rules.tables import Table
from medllm.clinical.wording.abbreviations import ABBREVIATIONS, find_abbreviations
from medllm.clinical.wording.authority import find_authority
from medllm.clinical.wording.confusions import CONFUSIONS, find_confusions
from medllm.clinical.wording.languages import LANGUAGES, find_languages
from medllm.clinical.wording.unknown_words import WORD_FORMS, find_unknown_words

TABLES: tuple[Table, ...] = (
    *(CUES, STANCE_CUES, DRUGS, PRODUCTS, CLASSES, VOCABULARY, RXCUIS),
    *(ASIDES, CONCEPTS, REGIONS, RED_FLAGS),
    *(ENTITY_WORDS, SHORT_FORMS),
    *(CONDITIONS, CONTRAINDICATIONS, DOSES),
    *(INTERACTIONS, DUPLICATES),
    *(ABBREVIATIONS, CONFUSIONS, LANGUAGES, WORD_FORMS),
)
RULES = tuple(
    table.name
    for table in (RED_FLAGS, CONTRAINDICATIONS, DOSES, INTERACTIONS, DUPLICATES)
    + (ABBREVIATIONS, CONFUSIONS)
)
"""The tables whose rows are rules; those of the others are names and words."""
FAMILIES: tuple[Family, ...] = (
    *(find_red_flags, find_doses, find_contraindications, find_interactions),
    *(find_abbreviations, find_confusions, find_languages, find_unknown_words),
    *(find_changed_vitals, find_impossible_values, find_authority),
)


def count_rules(knowledge: Knowledge) -> dict[str, int]:
    """How many rules of each table there are."""
    return {name: len(knowledge.tables.get(name, {})) for name in RULES}
