"""Reviewing a file of answers against clinical rules: findings as JSONL, and a table."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import write_json
from medllm.artifacts.unfinished import leaving_no_empty
from medllm.clinical.families import count_rules
from medllm.clinical.finding import SEVERITIES, Finding, Severity, worst
from medllm.clinical.policy import Policy
from medllm.clinical.report import Report, Reviewed
from medllm.clinical.review import review_answer
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.wording.languages import UNREAD
from medllm.data.example import Rejected, last_question, open_private, write_row
from medllm.data.left_out import LeftOut
from medllm.data.readers.reviewed import ContextReader, load_knowledge
from medllm.data.readers.rows import check_kind, read_rows
from medllm.data.shapes.columns import Columns
from medllm.data.shapes.local import read_local
from medllm.data.shapes.values import first_of, text_of
from medllm.errors import ArtifactError, DataError, GateError
from medllm.places import short_path

ANSWERS = ("answer", "completion", "output", "response", "generated", "prediction")
QUESTIONS = ("question", "prompt", "instruction", "input", "query")
"""Columns of answers and of their questions; other rows are read as data of one's own are."""
FINDINGS, SUMMARY, OUTCOMES = "findings.jsonl", "summary.json", "outcomes.ndjson"
UNFINISHED = ".unfinished"
SHOWN = 20
"""Findings whose words are shown where that is asked for."""
LEFT_OUT = "no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewTask:
    """What is to be reviewed, and how.

    `context` names the column with what is known of the patient; `output` is the folder of the
    findings; `as_fhir` also writes an OperationOutcome for each answer.
    """

    source: Path
    output: Path
    policy: Policy = field(default_factory=Policy)
    rules: Path | None = None
    context: str | None = None
    fail_on: Severity | None = None
    as_fhir: bool = False
    show_text: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    id: str
    number: int
    text: str
    question: str
    context: Mapping[str, Any] | None
    record: str = ""
    """What was said before the question."""


@dataclass(slots=True)
class Tally:
    """What was found in all answers, without a word of them."""

    answers: int = 0
    questions: int = 0
    patient_contexts: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    risk_levels: Counter[int] = field(default_factory=Counter)
    severities: Counter[str] = field(default_factory=Counter)
    blocked: int = 0
    unread: int = 0
    """Those in another language than English."""
    rules: Counter[tuple[str, str, Severity, bool]] = field(default_factory=Counter)
    not_checked: Counter[str] = field(default_factory=Counter)

    def add(self, answer: _Answer, report: Report) -> None:
        """Count an answer and its report."""
        self.answers += 1
        self.questions += bool(answer.question)
        self.patient_contexts += answer.context is not None
        self.risk_levels[report.risk_level] += 1
        self.blocked += report.is_blocked
        if severity := worst(report.findings):
            self.severities[severity] += 1
        self.rules.update({_key(each) for each in report.findings})
        self.not_checked.update(report.not_checked)
        self.unread += any(each.startswith(UNREAD) for each in report.not_checked)

    def at_least(self, severity: Severity) -> int:
        """How many answers have a finding so severe."""
        wanted = SEVERITIES[SEVERITIES.index(severity) :]
        return sum(self.severities[each] for each in wanted)


def review(task: ReviewTask) -> Tally:
    """Review a file of answers; writes the findings and tells them in a table.

    Raises:
        DataError: the file is missing or damaged, has no answers, or a context is wrong.
        ConfigError: a rule of one's own is wrong.
        ArtifactError: the output holds files of others.
        GateError: an answer has a finding of `fail_on` or worse, or is not in English.
    """
    if not task.source.is_file():
        raise DataError(f"no such data file: {task.source}", "check the path")
    check_kind(task.source)
    knowledge = load_knowledge(task.rules)
    _check_output(task)
    tally = Tally()
    with leaving_no_empty(task.output):
        shown = _write(task, tally, knowledge)
    _tell(task, tally, knowledge, shown)
    if task.fail_on:
        _check_gate(tally, task.fail_on, short_path(task.output / FINDINGS))
    return tally


def _check_gate(tally: Tally, severity: Severity, findings: str) -> None:
    """Raise GateError for findings so severe, and for answers that the rules cannot judge."""
    of_all = f"of {console.counted(tally.answers, 'answer')}"
    failed, unread = tally.at_least(severity), tally.unread
    told = f"\n{failed} {of_all} with a finding of severity {severity} or worse" if failed else ""
    if unread:
        told += f"\n{unread} {of_all} in another language than English, which rules hardly read"
    if told:
        fix = f"read {findings}" if failed else "have those judged by a person, and leave them out"
        raise GateError(f"the gate failed{told}", fix)


def _write(task: ReviewTask, tally: Tally, knowledge: Knowledge) -> list[tuple[str, str, str]]:
    """Write the findings, and count them; what is to be shown of them."""
    shown: list[tuple[str, str, str]] = []
    task.output.mkdir(parents=True, exist_ok=True)
    outcomes = task.output / f"{OUTCOMES}{UNFINISHED}"
    unfinished = task.output / f"{FINDINGS}{UNFINISHED}"
    outcomes.unlink(missing_ok=True)
    try:
        with open_private(unfinished) as file, console.progress("review") as advance:
            for answer in _read_answers(task, tally):
                reviewed = _review(answer, task.policy, knowledge)
                tally.add(answer, reviewed.report)
                write_row(file, _row_of(answer, reviewed))
                if task.show_text and len(shown) < SHOWN:
                    shown += [*_quotes(answer, reviewed.report)][: SHOWN - len(shown)]
                if task.as_fhir:
                    _append(outcomes, reviewed.report.to_operation_outcome())
                advance(1)
        if not tally.answers:
            fix = f"name the columns `answer` and `question` (known: {', '.join(ANSWERS)})"
            raise DataError(f"{task.source}: no row has an answer", fix)
        unfinished.replace(task.output / FINDINGS)
        if task.as_fhir:
            outcomes.replace(task.output / OUTCOMES)
    finally:  # nothing half done stays
        unfinished.unlink(missing_ok=True)
        outcomes.unlink(missing_ok=True)
    return shown


def _review(answer: _Answer, policy: Policy, knowledge: Knowledge) -> Reviewed:
    return review_answer(
        answer.text,
        question=answer.question,
        record=answer.record,
        context=answer.context,
        policy=policy,
        knowledge=knowledge,
    )


def _read_answers(task: ReviewTask, tally: Tally) -> Iterator[_Answer]:
    """The rows that have an answer; the others are counted by reason."""
    contexts = ContextReader(task.context)
    for number, row in enumerate(read_rows(task.source), 1):
        row = {str(name).strip().lower(): value for name, value in row.items()}
        row, context = contexts.split(row, f"{task.source}: row {number}")
        try:
            (question, record), text = _asked_and_answered(number, row)
        except LeftOut as problem:
            tally.left_out[str(problem)] += 1
            continue
        if not text:
            tally.left_out[LEFT_OUT] += 1
            continue
        yield _Answer(
            text_of(row.get("id")) or str(number), number, text, question, context, record
        )
    contexts.check_column(task.source)


def _asked_and_answered(number: int, row: Mapping[str, Any]) -> tuple[tuple[str, str], str]:
    """The question of a row with what was said before it, and the answer.

    They are columns, or the last turns of a conversation.
    """
    if any(name in row for name in ANSWERS) and not isinstance(row.get("prompt"), list):
        return (first_of(row, QUESTIONS), ""), first_of(row, ANSWERS)
    example = read_local("review", number, dict(row), Columns())
    if isinstance(example, Rejected):
        return ("", ""), ""
    return last_question(example.prompt), example.completion


def _row_of(answer: _Answer, reviewed: Reviewed) -> dict[str, Any]:
    """A line of the findings; the answer as it may be shown where the policy may change it."""
    report = reviewed.report.to_json()
    policy, _ = report.pop("policy"), report.pop("checked")
    shown = {} if policy["action"] == "annotate" else {"answer": reviewed.text}
    return {"id": answer.id, "row": answer.number, **shown, **report}


def _append(path: Path, outcome: Mapping[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        if new:
            path.chmod(0o600)
        file.write(json.dumps(outcome, ensure_ascii=False) + "\n")


def _quotes(answer: _Answer, report: Report) -> Iterator[tuple[str, str, str]]:
    """Of each finding that is more than a note: the row, what was found, and the words."""
    for each in report.findings:
        if each.severity != "info":
            text = answer.text if each.where == "answer" else answer.question
            words = " … ".join(text[begin:end] for begin, end in each.spans)
            yield answer.id, each.message, words


def _key(finding: Finding) -> tuple[str, str, Severity, bool]:
    return finding.rule, finding.kind, finding.severity, finding.basis.verified


def _check_output(task: ReviewTask) -> None:
    """Raise ArtifactError where findings that no review wrote would be lost."""
    taken = task.output / FINDINGS
    if task.output.exists() and not task.output.is_dir():
        raise ArtifactError(f"{task.output} is a file", "name a folder: --output DIR")
    if taken.exists() and not (task.output / SUMMARY).is_file() and not task.overwrite:
        raise ArtifactError(f"{taken} is there, and no summary of a review beside it",
                            "--output another folder, or --overwrite")  # fmt: skip


def _tell(
    task: ReviewTask, tally: Tally, knowledge: Knowledge, shown: list[tuple[str, str, str]]
) -> None:
    """The table on the screen, the summary, and the document of `--json`."""
    rows = sorted(
        ((*key, count) for key, count in tally.rules.items()),
        key=lambda row: (-SEVERITIES.index(row[2]), -row[4], row[0]),
    )
    columns = ("rule", "kind", "severity", "verified", "answers")
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    summary = {
        "path": str(task.output),
        "answers": tally.answers,
        "questions": tally.questions,
        "patient_contexts": tally.patient_contexts,
        "left_out": dict(tally.left_out),
        "risk_levels": {str(level): tally.risk_levels[level] for level in range(4)},
        "blocked": tally.blocked,
        "findings": found,
        "not_checked": dict(tally.not_checked.most_common()),
        "rules": count_rules(knowledge),
        "policy": task.policy.to_json(),
    }
    write_json(task.output / SUMMARY, summary)
    console.report(**summary)
    if found:
        cells = [(*row[:3], "yes" if row[3] else "no", row[4]) for row in rows]
        console.table(columns, cells, title="findings")
    for id_, message, words in shown:
        console.show_text(f"  {id_}: {message} [{words}]")
    for line in _sentences(task, tally):
        console.say(line)


def _sentences(task: ReviewTask, tally: Tally) -> Iterator[str]:
    with_findings = sum(tally.severities.values())
    levels = ", ".join(f"{tally.risk_levels[level]} of level {level}" for level in range(4))
    counted = console.counted(tally.answers, "answer")
    yield f"{counted}, {with_findings} with a finding; risk: {levels}"
    yield f"{tally.questions} with a question, {tally.patient_contexts} with a patient context"
    if tally.blocked:
        yield f"{tally.blocked} withheld by the policy"
    if tally.left_out:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.left_out.items()))
        yield console.wrapped(f"left out: {told}")
    if tally.not_checked:
        most = [f"{what} ({count})" for what, count in tally.not_checked.most_common(5)]
        more = f", and {len(tally.not_checked) - 5} others" if len(tally.not_checked) > 5 else ""
        yield console.wrapped(f"not checked, for no rule covers it: {', '.join(most)}{more}")
    yield "what no rule finds may still be wrong: this is no medical device"
    yield f"  {short_path(task.output / FINDINGS)}"
