"""What the families of rules look at: an answer, its question, the patient and the rules."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from medllm.clinical.finding import Finding, NotChecked
from medllm.clinical.patient import Patient
from medllm.clinical.policy import Policy
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.text.reading import Reading


@dataclass(frozen=True, slots=True)
class Case:
    """One answer under review; every text is read once."""

    answer: Reading
    question: Reading
    patient: Patient
    knowledge: Knowledge
    policy: Policy


Family = Callable[[Case], Iterator[Finding | NotChecked]]
"""Finds what one kind of rule says of a case, and names what its rules do not cover."""
