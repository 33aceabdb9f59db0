"""Answers of a model under review: what clinical rules find stands beside each of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from medllm import console
from medllm.clinical.families import count_rules
from medllm.clinical.finding import RISK_LEVELS, SEVERITIES, worst
from medllm.clinical.report import Report, Reviewed
from medllm.clinical.review import review_answer
from medllm.clinical.rules.knowledge import Knowledge
from medllm.clinical.settings import ReviewSettings
from medllm.data.example import Message, said_by
from medllm.data.readers.reviewed import load_knowledge

RISKS = tuple(range(max(RISK_LEVELS.values()) + 1))


@dataclass(frozen=True)
class Reviewer:
    """Reviews answers as a section asks for it."""

    settings: ReviewSettings
    knowledge: Knowledge

    @classmethod
    def of(cls, settings: ReviewSettings) -> Self:
        """The reviewer with the rules that ship and those of the section.

        Raises:
            ConfigError: a rule of one's own is wrong.
        """
        return cls(settings, load_knowledge(settings.rules))

    @cached_property
    def policy(self) -> Any:
        """What becomes of answers."""
        return self.settings.build_policy()

    def review_turn(self, answer: str, asked: Sequence[Message]) -> Reviewed:
        """The answer within a conversation, in which an emergency of an earlier turn goes on."""
        return self.review(answer, said_by("user", asked), said_by("system", asked))

    def review(
        self, answer: str, question: str, record: str = "", context: Mapping[str, Any] | None = None
    ) -> Reviewed:
        """The answer to a question as it may be shown, and the report."""
        return review_answer(
            answer,
            question=question,
            record=record,
            context=context,
            policy=self.policy,
            knowledge=self.knowledge,
        )


def record_of(report: Report) -> dict[str, Any]:
    """The report as it stands in a row; the policy and the tables stand in the manifest."""
    return {k: v for k, v in report.to_json().items() if k not in {"policy", "checked"}}


def sum_up(records: Iterable[Mapping[str, Any]], reviewer: Reviewer) -> dict[str, Any]:
    """The counts of all reports of a file, without a word of its answers."""
    levels, rules = Counter[int](), Counter[tuple[str, str, str]]()
    blocked = 0
    for record in records:
        levels[record["risk_level"]] += 1
        blocked += record["blocked"]
        found = {(each["rule"], each["kind"], each["severity"]) for each in record["findings"]}
        rules.update(found)
    order = sorted(rules, key=lambda each: (-_rank(each[2]), -rules[each], each))
    return {
        "risk_levels": {str(level): levels[level] for level in RISKS},
        "blocked": blocked,
        "findings": [[*each, rules[each]] for each in order],
        "rules": count_rules(reviewer.knowledge),
        "policy": reviewer.policy.to_json(),
    }


def _rank(severity: str) -> int:
    return [*SEVERITIES].index(severity)  # type: ignore[arg-type]


def describe_review(results: Mapping[str, Any]) -> str:
    """How risky the answers are, in a few words."""
    levels = results["risk_levels"]
    told = ", ".join(f"{levels[str(level)]} of risk level {level}" for level in RISKS)
    return f"{told}; {results['blocked']} withheld" if results["blocked"] else told


def show_report(report: Report) -> None:
    """What was found in an answer on the screen, in the words of the rules alone."""
    for each in report.findings:
        basis = each.basis
        verified = "" if basis.verified else ", not verified"
        console.notice(f"{each.severity}: {each.message} ({basis.source}{verified})")
    for what in report.not_checked:
        console.notice(f"not checked: {what}")
    severity = worst(report.findings)
    console.notice(f"review: {report.summary()}" if severity is None else
                   f"review: {report.summary()}; this is no medical device")  # fmt: skip
