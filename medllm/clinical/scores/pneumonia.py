"""CURB-65 and CRB-65, the severity of community-acquired pneumonia."""

from decimal import Decimal

from medllm.clinical.scores.result import Grade, Scale, Score, points_if
from medllm.clinical.scores.values import Number, age, flag, possible
from medllm.clinical.scores.vitals import Vitals

CURB_65 = Scale(
    "CURB-65",
    (
        Grade(0, "low", "mortality below 3 %: treatment at home may fit"),
        Grade(2, "intermediate", "mortality 3 to 15 %: consider hospital"),
        Grade(3, "high", "mortality above 15 %: hospital; consider intensive care"),
    ),
    "NICE and British Thoracic Society; Lim et al., Thorax 2003;58:377",
    notes=("some tables print DBP < 60 mmHg; the score says <= 60",),
)
CRB_65 = Scale(
    "CRB-65",
    (
        Grade(0, "low", "mortality below 1 %: treatment at home may fit"),
        Grade(1, "intermediate", "mortality 1 to 10 %: consider hospital"),
        Grade(3, "high", "mortality above 10 %: hospital"),
    ),
    "NICE; the criteria are those of CURB-65, the bands were not read in their source",
    verified=False,
    notes=CURB_65.notes,
)
UREA_OF_BUN = Decimal("0.357")
"""mmol/L of urea for 1 mg/dL of BUN (AJKD, table of unit conversions)."""
BUN_CUTS = (19, 20)
"""mg/dL: 7 mmol/L of urea are 19.6 mg/dL of BUN, which is printed as above 19 and as above 20."""


def curb65(
    vitals: Vitals,
    *,
    confusion: bool | None = None,
    urea_mmol_l: Number | None = None,
    bun_mg_dl: Number | None = None,
    age_years: Number | None = None,
) -> Score:
    """0 to 5; with `bun_mg_dl` the urea that it stands for (0.357 mmol/L for 1 mg/dL).

    Without `confusion` (a mental test of 8 or less, or new disorientation), whoever is not alert
    counts as confused.
    """
    points = _points(vitals, confusion, age_years)
    notes = []
    urea = None if urea_mmol_l is None else possible("urea", urea_mmol_l)
    if urea is None and bun_mg_dl is not None:
        bun = possible("blood urea nitrogen", bun_mg_dl)
        urea = bun * UREA_OF_BUN
        if BUN_CUTS[0] < bun <= BUN_CUTS[1]:
            notes.append("BUN: above the cut where it is printed as > 19 mg/dL, not where as > 20")
    points["urea"] = points_if(None if urea is None else urea > 7)
    return CURB_65.add_up(points, *notes)


def crb65(
    vitals: Vitals, *, confusion: bool | None = None, age_years: Number | None = None
) -> Score:
    """0 to 4: CURB-65 without the urea, for use outside a hospital."""
    return CRB_65.add_up(_points(vitals, confusion, age_years))


def _points(
    vitals: Vitals, confusion: bool | None, age_years: Number | None
) -> dict[str, float | None]:
    breaths, years = vitals.breaths(), age(age_years)
    confused = flag("confusion", confusion)
    confused = vitals.is_altered() if confused is None else confused
    return {
        "confusion": points_if(confused),
        "respiratory rate": points_if(None if breaths is None else breaths >= 30),
        "blood pressure": points_if(_is_low(vitals.systolic(), vitals.diastolic())),
        "age": points_if(None if years is None else years >= 65),
    }


def _is_low(systolic: Decimal | None, diastolic: Decimal | None) -> bool | None:
    """SBP < 90 or DBP <= 60 mmHg; one that is low decides, one that is not needs the other."""
    if (systolic is not None and systolic < 90) or (diastolic is not None and diastolic <= 60):
        return True
    return None if systolic is None or diastolic is None else False
