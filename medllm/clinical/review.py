"""The one door of the rules: `review_answer`."""

from collections.abc import Mapping
from typing import Any

from medllm.clinical.case import Case
from medllm.clinical.drugs.names import build_drug_names
from medllm.clinical.families import FAMILIES, count_rules
from medllm.clinical.finding import SEVERITIES, Finding, NotChecked
from medllm.clinical.patient import read_patient
from medllm.clinical.policy import Policy
from medllm.clinical.report import Report, Reviewed
from medllm.clinical.rules.knowledge import Knowledge, shipped_knowledge
from medllm.clinical.text.reading import Reading, read


def review_answer(  # noqa: PLR0913
    answer: str,
    *,
    question: str | Reading = "",
    record: str | Reading = "",
    context: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    knowledge: Knowledge | None = None,
) -> Reviewed:
    """Review an answer to a question, given what is known of the patient.

    `record` is what else the answer's author was told, as by a system prompt: what it says of the
    patient counts as if it were in the question, but no emergency is looked for in it. What many
    answers have in common may be given as it was read.
    `context` is a patient as plain data (see `Patient`); `knowledge` the rules, by default those
    that ship. A safety net, no medical device: what it does not find may still be wrong.

    Raises:
        DataError: the context has an unknown key, or a value that is not of its kind.
    """
    policy = policy or Policy()
    rules = knowledge or shipped_knowledge()
    patient = read_patient(context)
    asked, told = (
        each if isinstance(each, Reading) else read_for_review(each, rules, is_question=True)
        for each in (question, record)
    )
    given = read_for_review(answer, rules)
    case = Case(given, asked, patient, rules, policy, told)
    found = [each for family in FAMILIES for each in family(case)]
    findings = sorted(
        (each for each in found if isinstance(each, Finding)),
        key=lambda each: (-SEVERITIES.index(each.severity), each.spans, each.rule),
    )
    unknown = dict.fromkeys(str(each) for each in found if isinstance(each, NotChecked))
    report = Report(tuple(findings), tuple(unknown), policy, count_rules(rules))
    return Reviewed(report.render(answer), report)


def read_for_review(text: str, knowledge: Knowledge, *, is_question: bool = False) -> Reading:
    """A text as a review reads it: names of drugs that a line's end parts are whole.

    In a question, and in a record, what clinicians write for short is read in words.
    """
    return read(text, knowledge.built(build_drug_names).words, is_question=is_question)
