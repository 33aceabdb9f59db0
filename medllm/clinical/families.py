"""The families of rules: their tables, and what finds them in an answer.

A family joins the review by one line in each of the two lists here.
"""

from medllm.clinical.case import Family
from medllm.clinical.context import CUES
from medllm.clinical.drugs.tables import CLASSES, DRUGS, PRODUCTS, VOCABULARY
from medllm.clinical.rules.tables import Table
from medllm.clinical.wording.abbreviations import ABBREVIATIONS, find_abbreviations

TABLES: tuple[Table, ...] = (CUES, DRUGS, PRODUCTS, CLASSES, VOCABULARY, ABBREVIATIONS)
FAMILIES: tuple[Family, ...] = (find_abbreviations,)
