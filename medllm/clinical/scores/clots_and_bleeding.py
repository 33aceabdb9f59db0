"""CHA2DS2-VASc, HAS-BLED and the Wells score for pulmonary embolism."""

from dataclasses import dataclass, fields, replace

from medllm.clinical.scores.result import Grade, Scale, Score, points_if
from medllm.clinical.scores.values import Number, age, flag, is_female

_LIP = "Lip et al., in the table of PMC6652729"
CHA2DS2_VASC = Scale(
    "CHA2DS2-VASc",
    (
        Grade(0, "low", "no antithrombotic treatment by the score alone"),
        Grade(1, "intermediate", "oral anticoagulation may be considered"),
        Grade(2, "high", "oral anticoagulation is indicated"),
    ),
    f"{_LIP}; the threshold from a secondary page",
    notes=("the ESC 2024 leaves the point for sex out (CHA2DS2-VA; not verified here)",),
)
HAS_BLED = Scale(
    "HAS-BLED",
    (
        Grade(0, "not high", "no more than usual caution by the score alone"),
        Grade(3, "high", "high risk of bleeding: correct what can be, review often"),
    ),
    "PMC6652729, table 1; PMC4776061, table 5",
)
WELLS = Scale(
    "Wells score for pulmonary embolism",
    (Grade(0, "PE unlikely", "D-dimer"), Grade(4.5, "PE likely", "imaging")),
    "Wells et al., Ann Intern Med 2001;135:98; BMC Fam Pract 11:64, table 1",
    notes=("the bands are those of two levels: up to 4, and above",
           "immobilised is printed as 3 days or more and as more than 3"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StrokeRisk:
    """What CHA2DS2-VASc asks of a patient with atrial fibrillation; None is not known."""

    age_years: Number | None = None
    sex: str | None = None
    heart_failure: bool | None = None
    hypertension: bool | None = None
    diabetes: bool | None = None
    stroke: bool | None = None
    """Stroke, TIA or thromboembolism."""
    vascular_disease: bool | None = None
    """Myocardial infarction, peripheral artery disease or aortic plaque."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BleedingRisk:
    """What HAS-BLED asks; None is not known."""

    age_years: Number | None = None
    hypertension: bool | None = None
    """Uncontrolled: systolic above 160 mmHg."""
    abnormal_renal_function: bool | None = None
    abnormal_liver_function: bool | None = None
    stroke: bool | None = None
    bleeding: bool | None = None
    """A history of it, or a predisposition."""
    labile_inr: bool | None = None
    """Less than 60 % of the time in range."""
    drugs: bool | None = None
    """Antiplatelet drugs or NSAIDs."""
    alcohol: bool | None = None
    """8 units a week or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbolismSigns:
    """What the Wells score asks; None is not known."""

    signs_of_dvt: bool | None = None
    """Leg swelling and pain on palpation."""
    pe_as_likely_as_any_other: bool | None = None
    heart_rate_above_100: bool | None = None
    immobilised_or_operated: bool | None = None
    """Immobilised for 3 days, or surgery in the 4 weeks before."""
    previous_dvt_or_pe: bool | None = None
    haemoptysis: bool | None = None
    malignancy: bool | None = None
    """Treated within 6 months, or palliative."""


WELLS_POINTS = {
    "signs_of_dvt": 3, "pe_as_likely_as_any_other": 3, "heart_rate_above_100": 1.5,
    "immobilised_or_operated": 1.5, "previous_dvt_or_pe": 1.5, "haemoptysis": 1, "malignancy": 1,
}  # fmt: skip


def cha2ds2_vasc(risk: StrokeRisk) -> Score:
    """0 to 9. It is graded without the point for sex: men from 2, women from 3 on are "high"."""
    years = age(risk.age_years, 18)
    points = _flags(risk, {"stroke": 2})
    points["age"] = None if years is None else 2 if years >= 75 else 1 * (years >= 65)
    points["female sex"] = points_if(None if risk.sex is None else is_female(risk.sex))
    score = CHA2DS2_VASC.add_up(points)
    graded = CHA2DS2_VASC.add_up({**points, "female sex": score.points.get("female sex") and 0})
    return replace(score, band=graded.band, response=graded.response)


def has_bled(risk: BleedingRisk) -> Score:
    """0 to 9; 3 and more is a high risk of bleeding."""
    years = age(risk.age_years, 18)
    points = _flags(risk, {})
    points["age"] = points_if(None if years is None else years > 65)
    return HAS_BLED.add_up(points)


def wells_pe(signs: EmbolismSigns) -> Score:
    """0 to 12.5; above 4 an embolism is likely. By three levels: < 2 low, 2 to 6, > 6 high."""
    return WELLS.add_up(_flags(signs, WELLS_POINTS))


def _flags(
    given: StrokeRisk | BleedingRisk | EmbolismSigns, points: dict[str, float]
) -> dict[str, float | None]:
    """The points of each yes-or-no question, 1 where nothing else is said."""
    names = [each.name for each in fields(given) if each.name not in {"age_years", "sex"}]
    return {
        name.replace("_", " "): points_if(
            flag(name.replace("_", " "), getattr(given, name)), points.get(name, 1)
        )
        for name in names
    }
