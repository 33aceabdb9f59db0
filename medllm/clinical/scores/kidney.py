"""Kidney function: CKD-EPI 2021 and Cockcroft-Gault."""

from decimal import Decimal

from medllm.clinical.measurements.quantities import convert
from medllm.clinical.scores.result import Computed
from medllm.clinical.scores.values import Number, age, exact, is_female, possible, rounded

STAGES = ((90, "G1"), (60, "G2"), (45, "G3a"), (30, "G3b"), (15, "G4"), (0, "G5"))
"""The least eGFR of each stage, in mL/min/1.73 m2 (KDIGO)."""


def egfr(creatinine: Number, unit: str, *, age_years: Number, sex: str) -> Computed:
    """The eGFR of an adult by CKD-EPI 2021, in mL/min/1.73 m2, and its stage.

    `unit` is that of the creatinine: "mg/dL" or "micromol/L". The stage follows the whole number
    that laboratories report. Raises Unscorable below 18 years and for impossible values.

    kidney.org/ckd-epi-creatinine-equation-2021: 142 min(Scr/k, 1)^a max(Scr/k, 1)^-1.200
    0.9938^age, times 1.012 for women; k 0.7, a -0.241 for women, k 0.9, a -0.302 for men. (141,
    0.993, 1.018 and 1.159 are of 2009, 186 and 0.742 of MDRD.)
    """
    years, female = age(age_years, 18), is_female(sex)
    k, a = (0.7, -0.241) if female else (0.9, -0.302)
    ratio = float(_creatinine(creatinine, unit)) / k
    value = 142 * min(ratio, 1) ** a * max(ratio, 1) ** -1.2 * 0.9938 ** float(years or 0)
    result = exact("eGFR", value * 1.012 if female else value)
    stage = next(name for least, name in STAGES if rounded(result) >= least)
    return Computed("eGFR (CKD-EPI 2021)", rounded(result, "0.1"), "mL/min/1.73 m2",
                    "kidney.org, CKD-EPI equation 2021; KDIGO stages from a secondary page",
                    stage)  # fmt: skip


def cockcroft_gault(
    creatinine: Number, unit: str, *, age_years: Number, weight_kg: Number, sex: str
) -> Computed:
    """Creatinine clearance of an adult, mL/min: (140 - age) weight / (72 Scr), 0.85 for women.

    Scr in mg/dL; `unit` is that of the creatinine given. Which weight to use (actual, lean,
    adjusted) is the caller's choice; see `adjusted_weight`. Raises Unscorable as `egfr` does.
    """
    years, weight = age(age_years, 18) or 0, possible("body weight", weight_kg)
    clearance = max(140 - years, 0) * weight / (72 * _creatinine(creatinine, unit))
    if is_female(sex):
        clearance *= Decimal("0.85")
    return Computed("creatinine clearance (Cockcroft-Gault)", rounded(clearance, "0.1"), "mL/min",
                    "Cockcroft and Gault, Nephron 1976;16:31, in tabers.com and rxkinetics.com",
                    notes=("for the weight given; sheets in micromol/L with F 1.23 and 1.04 "
                           "give 0.2 % more for men",))  # fmt: skip


def adjusted_weight(actual_kg: Number, lean_kg: Number) -> Computed:
    """The weight for Cockcroft-Gault above the lean one: lean + 0.4 (actual - lean)."""
    actual, lean = possible("body weight", actual_kg), possible("body weight", lean_kg)
    excess = max(actual - lean, Decimal(0))
    value = rounded(lean + Decimal("0.4") * excess, "0.1")
    return Computed("adjusted weight", value, "kg", "rxkinetics.com")


def _creatinine(value: Number, unit: str) -> Decimal:
    """In mg/dL."""
    return possible("creatinine", convert("creatinine", exact("creatinine", value), unit))
