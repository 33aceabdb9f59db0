"""What a split must not cut through: the patient, article, stay, study or note of a row.

A group has a kind, told by its column, so that one patient of two datasets is one patient, while
row 7 of two datasets are two rows.
"""

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from medllm.data.left_out import LeftOut, NotText

KINDS: dict[str, tuple[str, ...]] = {
    "group": ("group", "group_id", "split_group"),
    "article": ("pmid", "pubmed_id", "pmc_id", "pmcid", "article_id", "doi"),
    "patient": ("patient_id", "subject_id", "mrn", "medical_record_number", "person_id",
                "patient_no", "patient_nr", "patient_number", "patient_uid", "patient_key",
                "patient_identifier", "pat_id", "pt_id", "participant_id", "empi", "patient"),
    "encounter": ("hadm_id", "encounter_id", "visit_id", "visit_occurrence_id", "admission_id",
                  "stay_id", "icustay_id", "episode_id", "csn", "encounter", "case_id"),
    "study": ("study_id", "study_instance_uid", "accession_number", "accession", "exam_id"),
    "note": ("note_id", "document_id", "doc_id", "report_id"),
}  # fmt: skip
"""The columns that name a group, the coarsest kind first: an article tells of several patients, a
patient has several stays, a stay several notes. The first column that holds something counts."""
NULLS = frozenset({"", "nan", "none", "null", "nat", "<na>", "na", "n/a", "#n/a", "nil", r"\n"})
"""How pandas, R, Excel, SQL and Python write that nothing is there, in lower case."""
LONGEST = 64
"""Characters. A longer one is a text (rows on the same note are one group): its digest is kept."""
WHOLE = re.compile(r"([+-]?\d+)\.0*")
ROUNDED = re.compile(r"\d(?:[.,]\d+)?E\+\d{2}")
"""How Excel shows a number of more than eleven digits, and writes it into CSV: `1,2346E+11`."""
ARTICLE = re.compile(r"(?i)(?:pmid|https?://(?:www\.)?pubmed\.ncbi\.nlm\.nih\.gov/)\W*(\d+)/?")
IDENTIFIER = re.compile(r"(?i)(?:^(?:ids?|u?uid|guid|mrn|no|num|number|key|identifier)|nr|nummer)$")
"""How the last word of an identifier's name ends, German compounds (`Fallnr`) among them."""
OWN = frozenset({"id", "idx", "rowid", "rowno", "rownr", "rownumber", "questionid", "qid"})
"""Columns that number rows, not what rows have in common."""


class Group(NamedTuple):
    """What rows have in common that must be in one split."""

    id: str
    kind: str
    """Empty where the row stands alone."""

    @property
    def key(self) -> str:
        """What it is compared by: case, white space and leading zeros tell nobody apart."""
        return f"{self.kind}:{fold(self.id)}"


@lru_cache(maxsize=4096)
def squeeze(name: str) -> str:
    """The name of a column as it is compared: `Patient ID`, `patient-id`, `PatientID` are one."""
    return re.sub(r"[\W_]+", "", name).lower()


KIND_OF = {squeeze(name): kind for kind, names in KINDS.items() for name in names}


def kind_of_column(name: str) -> str:
    """The kind that a column's values are of: a usual one, or else one of its own."""
    return KIND_OF.get(squeeze(name), squeeze(name))


def read_id(value: Any) -> str:
    """A value as an id: `7003`, `7003.0`, 7003 and `"7003 "` are one; empty where there is none.

    The leading zeros of a text stay: `007` is what the file says.

    Raises:
        NotText: it is a list or a mapping.
    """
    if isinstance(value, list | tuple) and len(value) == 1:
        return read_id(value[0])
    if isinstance(value, list | tuple | dict | set) and value:
        raise NotText
    if not value and value != 0 or isinstance(value, bool):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            return ""
        text = str(int(value)) if value == int(value) else str(value)
    else:
        text = str(value).replace("\x00", " ").strip()
    if text.lower() in NULLS:
        return ""
    whole = WHOLE.fullmatch(text)
    return whole[1] if whole else text.encode("utf-8", "replace").decode()


def fold(identity: str) -> str:
    """An id as it is compared.

    Excel drops leading zeros and people mix cases. That two groups meet by it does no harm: they
    are in one split, and stay two.
    """
    if identity.isascii() and identity.isdigit():
        return identity.lstrip("0") or "0"
    folded = "".join(unicodedata.normalize("NFKC", identity).casefold().split())
    return folded.lstrip("0") or "0" if folded.isdigit() else folded


def build_group(identity: str, kind: str) -> Group:
    """The group of an id; a whole text is kept as its digest.

    Raises:
        LeftOut: a spreadsheet rounded the id, so that others have the same.
    """
    if ROUNDED.fullmatch(identity):
        raise LeftOut("an id that a spreadsheet rounded")
    if kind == "article" and (found := ARTICLE.fullmatch(identity)):
        identity = found[1]
    if len(identity) > LONGEST:
        identity = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    return Group(identity, kind)


def find_group(row: Mapping[str, Any]) -> Group | None:
    """The group that a row names in a usual column; None where it names none."""
    column = group_column(row)
    return build_group(read_id(row[column]), kind_of_column(column)) if column else None


def group_column(row: Mapping[str, Any]) -> str | None:
    """The first of the usual columns that holds something, in the order of KINDS."""
    return next((name for name in _columns_in_order(tuple(row)) if read_id(row[name])), None)


@lru_cache(maxsize=256)
def _columns_in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns among some that name a group, in the order of KINDS."""
    places = {name: place for place, name in enumerate(KIND_OF)}
    known = (name for name in names if isinstance(name, str) and squeeze(name) in places)
    return tuple(sorted(known, key=lambda name: places[squeeze(name)]))


@lru_cache(maxsize=256)
def likely_identifiers(names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns whose names look as if they told patients or cases apart."""
    return tuple(name for name in names if _is_identifier(name))


def _is_identifier(name: str) -> bool:
    if name.startswith("__") or squeeze(name) in OWN:
        return False
    words = re.findall(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+", name)
    return bool(words and IDENTIFIER.search(words[-1]))
