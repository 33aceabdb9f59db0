"""Clinical scores and formulas as plain functions; each result says what is missing and its source.

They are for adults, take numbers in the units that their names or docstrings say, and refuse
impossible values by name (`Unscorable`). None of this is a medical device.
"""

from medllm.clinical.scores.body_and_blood import (
    albumin_corrected_gap,
    alveolar_gradient,
    anion_gap,
    bmi,
    corrected_calcium,
    hba1c_percent,
    neutrophil_count,
)
from medllm.clinical.scores.circulation import (
    corrected_qt,
    mean_arterial_pressure,
    pulse_pressure,
    shock_index,
)
from medllm.clinical.scores.clots_and_bleeding import (
    BleedingRisk,
    EmbolismSigns,
    StrokeRisk,
    cha2ds2_vasc,
    has_bled,
    wells_pe,
)
from medllm.clinical.scores.coma import gcs
from medllm.clinical.scores.kidney import adjusted_weight, cockcroft_gault, egfr
from medllm.clinical.scores.news2 import news2
from medllm.clinical.scores.pneumonia import crb65, curb65
from medllm.clinical.scores.result import Computed, Score
from medllm.clinical.scores.sepsis import qsofa, sirs
from medllm.clinical.scores.values import Unscorable
from medllm.clinical.scores.vitals import Vitals

__all__ = [
    "BleedingRisk", "Computed", "EmbolismSigns", "Score", "StrokeRisk", "Unscorable", "Vitals",
    "adjusted_weight", "albumin_corrected_gap", "alveolar_gradient", "anion_gap", "bmi",
    "cha2ds2_vasc", "cockcroft_gault", "corrected_calcium", "corrected_qt", "crb65", "curb65",
    "egfr", "gcs", "has_bled", "hba1c_percent", "mean_arterial_pressure", "neutrophil_count",
    "news2", "pulse_pressure", "qsofa", "shock_index", "sirs", "wells_pe",
]  # fmt: skip
