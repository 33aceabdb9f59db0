"""Choices: the likeliest one after the prompt counts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medllm import console
from medllm.data.example import Example
from medllm.engines.base import Engine, Scores, require
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import MOST_FREQUENT, Asking, Column, Record
from medllm.evaluate.kinds.generated import ends, groups_of, percent_of
from medllm.evaluate.kinds.shuffled import Shuffled, shuffle
from medllm.evaluate.kinds.swapped import Swapped, sum_up_swaps, swap_all
from medllm.measures.confidence import confidence_of, measure_confidence
from medllm.measures.intervals import estimate_macro_f1, estimate_share, majority_share
from medllm.measures.likelihood import ChoiceResult, NotAsked, score_choices


class Choices:
    """Multiple choice, by the likelihood of each choice."""

    ability: type[Engine] = Scores
    takes_examples = True
    settings = frozenset({"apply_chat_template", "option_shuffles", "swaps"})
    measure = "accuracy"

    def lacking(self, item: Example) -> str | None:
        """Its choices, where it has none."""
        return None if item.choices else "no choices"

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """As the configuration says."""
        return config.apply_chat_template

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """The likelihood of each choice, and the answers with other orders or other words."""
        scoring, config = require(engine, Scores, "evaluate"), asking.config
        shuffled = [shuffle(item, config.option_shuffles, config.seed) for item in items]
        if config.option_shuffles and not any(shuffled):
            console.notice(f"{asking.what}: no prompt lists its options, so none can be shuffled")
        swapped = [swap_all(item, own, config.swaps)
                   for item, own in zip(items, asking.own or items, strict=True)]  # fmt: skip
        again = [each.item for of_item in shuffled for each in of_item]
        again += [each.item for of_item in swapped for each in of_item.values()
                  if isinstance(each, Swapped)]  # fmt: skip
        results = score_choices(scoring, [*items, *again], chat=asking.in_chat, what=asking.what)
        rest = iter(results[len(items) :])
        orders = [[_told((each, next(rest))) for each in of_item] for of_item in shuffled]
        for item, result, order, words in zip(items, results, orders, swapped, strict=False):
            record = asdict(result)
            if subject := item.metadata.get(asking.spec.subject or ""):
                record["subject"] = str(subject)
            if config.option_shuffles:
                record["shuffled"] = order
            if config.swaps:
                record["swapped"] = {name: _told_again(each, item, rest)
                                     for name, each in words.items()}  # fmt: skip
            yield record

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """Accuracy and its 95 % interval, macro-F1, and the accuracy of the most frequent label.

        Also how far confidence can be trusted, the accuracy of each subject, and the share of items
        whose answer flips with the order of the options, or with words exchanged.
        """
        targets = [record["target"] for record in records]
        answers = [record["answer"] for record in records]
        right = [target == answer for target, answer in zip(targets, answers, strict=True)]
        numbers = {
            "items": len(records),
            **ends("accuracy", estimate_share(right, groups_of(records))),
            **ends("macro_f1", estimate_macro_f1(targets, answers, groups_of(records))),
            "majority": majority_share(targets),
            "answers": dict(sorted(Counter(answers).items())),
        }
        if all("logprobs" in record for record in records):
            sure = [confidence_of(record["logprobs"]) for record in records]
            numbers |= measure_confidence(sure, right)
        again = _flips(records) | sum_up_swaps(records)
        return {**numbers, **_by_subject(records, right), **again}

    def pool(
        self, scores: Sequence[Mapping[str, Any]], records: Sequence[Record]
    ) -> dict[str, Any]:
        """The mean accuracy weighted by items, as lm-evaluation-harness weights its groups.

        The interval is that of all items as one sample, which is at least as wide as one that
        knows of the tasks (Hoeffding 1956). Labels of different tasks have no common F1.
        """
        items = sum(score["items"] for score in scores)
        right = [record["answer"] == record["target"] for record in records]
        accuracy = ends("accuracy", estimate_share(right, groups_of(records)))
        majority = sum(score["majority"] * score["items"] for score in scores) / items
        return {"items": len(records), **accuracy, "majority": majority}

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """Accuracy beside that of always giving the most frequent label, F1, and flips."""
        shown = [
            Column(
                f"{score['task']} accuracy\nn = {score['items']}",
                percent_of(score, "accuracy"),
                {MOST_FREQUENT: f"{score['majority']:.1%}"},
            )
        ]
        if "macro_f1" in score:  # not of a group
            shown.append(Column("macro-F1", percent_of(score, "macro_f1")))
        if score.get("shuffled_items"):
            heading = f"flips\nn = {score['shuffled_items']}"
            shown.append(Column(heading, percent_of(score, "flips")))
        for name, swapped in score.get("swaps", {}).items():
            heading = f"flips of {name}\nn = {swapped['items']}"
            cell = percent_of(swapped, "flips") if swapped["items"] else "none"
            shown.append(Column(heading, cell))
        return shown


def _told(pair: tuple[Shuffled, ChoiceResult | NotAsked]) -> dict[str, Any]:
    """The answer in another order, as the letter that its option has in the first one."""
    shuffled, result = pair
    if isinstance(result, NotAsked):
        return {"order": shuffled.order, "not_asked": result.not_asked}
    return {"order": shuffled.order, "answer": shuffled.letters[result.answer]}


def _told_again(
    swapped: Swapped | str, item: Example, rest: Iterator[ChoiceResult | NotAsked]
) -> dict[str, Any]:
    """The answer with other words, as the choice that it was; or why there is none."""
    if isinstance(swapped, str):
        return {"left_out": swapped}
    result = next(rest)
    if isinstance(result, NotAsked):
        return {"left_out": result.not_asked}
    return {"answer": swapped.answer(result.answer, item), "words": swapped.words}


def _by_subject(records: Sequence[Record], right: Sequence[bool]) -> dict[str, Any]:
    """The accuracy of each subject; nothing where the task has none."""
    subjects: defaultdict[str, list[tuple[bool, str]]] = defaultdict(list)
    for record, is_right, group in zip(records, right, groups_of(records), strict=True):
        if "subject" in record:
            subjects[record["subject"]].append((is_right, group))
    told = {
        subject: {
            "items": len(found),
            **ends("accuracy", estimate_share(*zip(*found, strict=True))),
        }
        for subject, found in sorted(subjects.items())
    }
    return {"by_subject": told} if told else {}


def _flips(records: Sequence[Record]) -> dict[str, Any]:
    """How many items have another answer in some other order, and how many answers are right."""
    if not any("shuffled" in record for record in records):
        return {}
    flipped, right, groups = list[bool](), list[bool](), list[str]()
    for record, group in zip(records, groups_of(records), strict=True):
        answers = [each["answer"] for each in record["shuffled"] if "answer" in each]
        if answers:
            flipped.append(any(answer != record["answer"] for answer in answers))
            groups.append(group)
            right += [answer == record["target"] for answer in answers]
    told: dict[str, Any] = {"shuffled_items": len(flipped), "shuffled_answers": len(right)}
    if flipped:
        told |= ends("flips", estimate_share(flipped, groups))
        told["shuffled_accuracy"] = sum(right) / len(right)
    return told
