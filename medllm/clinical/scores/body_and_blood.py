"""BMI, and what is computed of laboratory values."""

from decimal import Decimal

from medllm.clinical.measurements.quantities import convert, short
from medllm.clinical.scores.result import Computed
from medllm.clinical.scores.values import (
    Number,
    Unscorable,
    age,
    exact,
    positive,
    possible,
    rounded,
)

BMI_BANDS = ((Decimal("30"), "obese"), (Decimal("25"), "overweight"),
             (Decimal("18.5"), "healthy weight"), (Decimal(0), "underweight"))  # fmt: skip
"""The least BMI of each band in adults (CDC)."""
LEAST_BMI_AGE = 20
"""CDC: below 20 years a BMI is read against percentiles."""


def bmi(weight_kg: Number, height_cm: Number, *, age_years: Number | None = None) -> Computed:
    """kg/m2, to 0.1, with the band of adults; without a band where the age is below 20."""
    height = possible("body height", height_cm) / 100
    value = rounded(possible("body weight", weight_kg) / height**2, "0.1")
    years = age(age_years)
    if years is not None and years < LEAST_BMI_AGE:
        return Computed("BMI", value, "kg/m2", "CDC", notes=("no band: read it on a growth chart",))
    band = next(name for least, name in BMI_BANDS if value >= least)
    note = "" if years is not None else "age not given: the band is that of adults"
    return Computed("BMI", value, "kg/m2", "CDC, adult BMI", band, notes=(note,) * bool(note))


def anion_gap(sodium: Number, chloride: Number, bicarbonate: Number) -> Computed:
    """Na - (Cl + HCO3), all in mmol/L."""
    names = ("sodium", "chloride", "bicarbonate")
    given = (possible(*each) for each in zip(names, (sodium, chloride, bicarbonate), strict=True))
    value = next(given) - sum(given)
    notes = ("reference 8 to 12 mmol/L; other sources print 8 to 16, and 10 to 16 with potassium",)
    return Computed("anion gap", value, "mmol/L", "AccessPediatrics 3111", notes=notes)


def albumin_corrected_gap(gap_mmol_l: Number, albumin_g_dl: Number) -> Computed:
    """AG + 2.5 (4.0 - albumin in g/dL), in mmol/L."""
    low = Decimal("4.0") - possible("albumin", albumin_g_dl)
    value = possible("anion gap", gap_mmol_l) + Decimal("2.5") * low
    notes = ("Figge takes 4.2 g/dL in place of 4.0, which gives 0.5 mmol/L more",)
    return Computed("albumin-corrected anion gap", short(value), "mmol/L", "public calculators",
                    notes=notes)  # fmt: skip


def corrected_calcium(calcium: Number, unit: str, albumin_g_dl: Number) -> Computed:
    """The calcium, in its `unit`: + 0.8 mg/dL, or 0.2 mmol/L, for each g/dL of albumin below 4."""
    per_gram = {"mg/dL": Decimal("0.8"), "mmol/L": Decimal("0.2")}
    if unit not in per_gram:
        raise Unscorable("calcium: unknown unit", "give it in mg/dL or mmol/L")
    number = exact("calcium", calcium)
    possible("calcium", convert("calcium", number, unit))
    low = Decimal("4.0") - possible("albumin", albumin_g_dl)
    return Computed("corrected calcium", short(number + per_gram[unit] * low), unit,
                    "Payne's formula, in public calculators")  # fmt: skip


def alveolar_gradient(
    fio2: Number, paco2_mmhg: Number, pao2_mmhg: Number, *, pressure_mmhg: Number = 760
) -> Computed:
    """The A-a gradient in mmHg: FiO2 (Patm - 47) - PaCO2 / 0.8 - PaO2; FiO2 is a fraction."""
    inspired = possible("fraction of inspired oxygen", fio2)
    alveolar = inspired * (positive("pressure", pressure_mmhg, 3000) - 47)
    alveolar -= possible("arterial pCO2", paco2_mmhg) / Decimal("0.8")
    value = rounded(alveolar - possible("arterial pO2", pao2_mmhg), "0.1")
    notes = ("expected on room air: age / 4 + 4; others print (age + 10) / 4 and 2.5 + 0.21 age",)
    return Computed("A-a gradient", value, "mmHg", "AccessPediatrics 3111", notes=notes)


def neutrophil_count(white_cells: Number, segs_percent: Number, bands_percent: Number) -> Computed:
    """The absolute neutrophil count in 10^9/L, of `white_cells` in 10^9/L."""
    share = sum(possible("neutrophil share", each) for each in (segs_percent, bands_percent))
    value = possible("white cell count", white_cells) * share / 100
    band = (
        "severe neutropenia" if value < Decimal("0.5") else "neutropenia" * (value < Decimal("1.5"))
    )
    return Computed("absolute neutrophil count", short(value), "10^9/L", "AccessPediatrics 3111",
                    band)  # fmt: skip


def hba1c_percent(ifcc_mmol_mol: Number) -> Computed:
    """HbA1c in NGSP %, of IFCC mmol/mol: 0.0915 IFCC + 2.15."""
    value = Decimal("0.0915") * positive("HbA1c", ifcc_mmol_mol, 250) + Decimal("2.15")
    return Computed("HbA1c", rounded(value, "0.1"), "%", "kbn.nfkk.org 2008 (NGSP and IFCC)")
