"""Units of measurement: how they are written, and how one becomes another of the same kind.

A unit is atoms joined by `/`. The scales are those of the SI and of its definitions (NIST SP 811):
1 lb = 0.45359237 kg, 1 in = 2.54 cm, 1 mmHg = 133.322 Pa, 1 oz = 28.349523125 g, 1 stone = 14 lb.
"""

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from functools import cache

_ATOMS = {
    "mass": "kg 1000 | g 1 | mg 1e-3 | microg 1e-6 | ng 1e-9 | pg 1e-12 | lb 453.59237 "
    "| oz 28.349523125 | stone 6350.29318",
    "volume": "L 1 | dL 1e-1 | mL 1e-3 | microL 1e-6 | fL 1e-15",
    "amount": "mol 1 | mmol 1e-3 | micromol 1e-6 | nmol 1e-9 | pmol 1e-12",
    "charge": "mEq 1e-3",
    "activity": "U 1 | mU 1e-3 | microU 1e-6",
    "pressure": "mmHg 133.322 | kPa 1000 | cmH2O 98.0665",
    "length": "m 1 | cm 1e-2 | mm 1e-3 | in 0.0254 | ft 0.3048",
    "area": "m2 1",
    "body area": "1.73 m2 1",
    "time": "s 1 | ms 1e-3 | min 60 | h 3600 | day 86400 | week 604800",
    "count": "10^12 1e12 | 10^9 1e9 | 10^6 1e6 | 10^3 1e3 | cells 1",
    "beats": "beats 1",
    "breaths": "breaths 1",
    "share": "fraction 1 | % 1e-2",
    "osmoles": "mOsm 1e-3",
    "points": "points 1",
    "ratio": "ratio 1",
    "pH": "pH units 1",
    "celsius": "°C 1",
    "fahrenheit": "°F 1",
}  # fmt: skip
ATOMS = {
    name: (kind, Decimal(scale))
    for kind, row in _ATOMS.items()
    for name, scale in (each.strip().rsplit(" ", 1) for each in row.split("|"))
}
"""A unit → (what it measures, how many of the first of its kind it is)."""

_WRITTEN = {
    "microg": "mcg ug µg microgram micrograms microgm mcgs microgramme microgrammes",
    "mg": "mgs milligram milligrams mgm milligramme milligrammes",
    "g": "gm gms gram grams gramme grammes",
    "kg": "kgs kilo kilos kilogram kilograms kilogramme kilogrammes",
    "lb": "lbs pound pounds",
    "oz": "ounce ounces", "stone": "stones",
    "ng": "nanogram nanograms",
    "pg": "picogram picograms",
    "L": "l liter liters litre litres ltr",
    "dL": "dl deciliter decilitre",
    "mL": "ml mls cc ccs milliliter milliliters millilitre millilitres",
    "microL": "ul µl mcl microl microliter microlitre mm3 mm^3 cmm cumm cu.mm",
    "fL": "fl femtoliters",
    "mmol": "mmols millimol millimole millimoles",
    "micromol": "umol µmol mcmol micromole micromoles",
    "mEq": "meq meqs milliequivalents milliequivalent",
    "U": "u iu i.u. unit units",
    "mU": "mu miu",
    "microU": "uu µu uiu µiu mciu",
    "mmHg": "mmhg torr",
    "kPa": "kpa",
    "cmH2O": "cmh2o",
    "cm": "cms centimeter centimeters centimetre centimetres",
    "m": "meter meters metre metres",
    "mm": "millimeter millimeters millimetre millimetres",
    "in": "inch inches \"",
    "ft": "feet foot '",
    "m2": "m^2 sqm",
    "1.73 m2": "1.73m2 1.73 m^2 1.73m^2",
    "s": "sec secs second seconds",
    "ms": "msec msecs millisecond milliseconds",
    "min": "minute minutes mins",
    "h": "hr hrs hour hours",
    "day": "d days 24h",
    "week": "wk weeks",
    "beats": "beat",
    "breaths": "breath respirations",
    "%": "percent pct",
    "mOsm": "mosm mosmol",
    "°C": "c °c ºc celsius centigrade",
    "°F": "f °f ºf fahrenheit",
    "points": "point",
}  # fmt: skip
WRITTEN = {name.lower(): name for name in ATOMS}
WRITTEN |= {form: name for name, forms in _WRITTEN.items() for form in forms.split()}
"""Each way of writing an atom, in lower case → the atom."""
_WHOLE = {
    "bpm": "beats/min", "lpm": "L/min", "mg%": "mg/dL", "mg percent": "mg/dL",
    "gm%": "g/dL", "g%": "g/dL", "mm hg": "mmHg",
}  # fmt: skip
_PER = r" ?(?:/|\bper\b|\ba\b(?= min)) ?"
_DAY = r"24 ?(?:h|hr|hrs|hour|hours)\b"


def _one_of(forms: Iterable[str]) -> str:
    """A pattern for these forms, the longest first, none of them the start of a longer word."""
    longest = sorted(forms, key=len, reverse=True)
    return "|".join(re.escape(form) + r"(?![a-z0-9])" * form[-1].isalnum() for form in longest)


UNIT = re.compile(
    rf"(?:{_one_of([*_WHOLE, *WRITTEN])})?(?:{_PER}(?:{_DAY}|{_one_of(WRITTEN)})){{0,3}}"
)
"""A unit at a place in folded text (lower case, one space for white space); it may be empty."""


@cache
def read_unit(written: str) -> str:
    """The unit in the table's spelling: `mcg/dl` → `microg/dL`; empty for what is none."""
    squeezed = re.sub(_PER, "/", re.sub(_DAY, "day", written.strip().lower()))
    if squeezed in _WHOLE:
        return _WHOLE[squeezed]
    first, *below = (WRITTEN.get(atom, "") for atom in squeezed.split("/"))
    if not all(below) or not (first or (below and squeezed.startswith("/"))):
        return ""
    return "/".join((first, *below))


@cache
def kind_of(unit: str) -> tuple[str, ...]:
    """What a unit measures: (`mass`, `volume`) for mg/dL; empty for an unknown one."""
    return tuple(ATOMS[atom][0] for atom in atoms_of(unit))


@cache
def scale_of(unit: str) -> Decimal:
    """How many of the first unit of its kind it is, as mg/dL is 0.01 g/L."""
    first, *below = (ATOMS[atom][1] for atom in atoms_of(unit))
    return first / math.prod(below, start=Decimal(1))


def atoms_of(unit: str) -> list[str]:
    """Its atoms, numerator first; none where one of them is unknown."""
    atoms = unit.split("/")
    return atoms if all(atom in ATOMS for atom in atoms) else []
