"""What the families of rules look at: an answer, its question, the patient and the rules."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from medllm.clinical.drugs.mentions import Mention, find_drugs
from medllm.clinical.finding import Finding, NotChecked
from medllm.clinical.patient import Patient
from medllm.clinical.policy import Policy
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.text.reading import Reading, read


@dataclass(frozen=True)
class Case:
    """One answer under review; every text is read once."""

    answer: Reading
    question: Reading
    patient: Patient
    knowledge: Knowledge
    policy: Policy
    record: Reading = field(default_factory=lambda: read(""))
    """What else was said of the patient, as in a system prompt: it describes no emergency."""

    @cached_property
    def drugs(self) -> tuple[Mention, ...]:
        """The drugs and classes of drugs that the answer names."""
        return find_drugs(self.answer, self.knowledge)

    @cached_property
    def question_drugs(self) -> tuple[Mention, ...]:
        """The drugs and classes of drugs that the question names."""
        return find_drugs(self.question, self.knowledge)

    @cached_property
    def record_drugs(self) -> tuple[Mention, ...]:
        """The drugs and classes of drugs that the record names."""
        return find_drugs(self.record, self.knowledge)

    @cached_property
    def medications(self) -> tuple[tuple[Reading, tuple[Mention, ...]], ...]:
        """What the patient takes: each medication as it was written, and the drugs it names."""
        readings = [read(each) for each in self.patient.medications]
        return tuple((each, find_drugs(each, self.knowledge, is_list=True)) for each in readings)


Family = Callable[[Case], Iterator[Finding | NotChecked]]
"""Finds what one kind of rule says of a case, and names what its rules do not cover."""
