"""Choices: the likeliest one after the prompt counts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medllm import console
from medllm.data.example import Example
from medllm.engines.base import Engine, Scores, require
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.kinds.base import Asking, Column, Record
from medllm.evaluate.kinds.shuffled import Shuffled, shuffle
from medllm.measures.confidence import confidence_of, measure_confidence
from medllm.measures.intervals import Estimate, estimate_proportion, macro_f1, majority_share
from medllm.measures.likelihood import ChoiceResult, NotAsked, score_choices


class Choices:
    """Multiple choice, by the likelihood of each choice."""

    ability: type[Engine] = Scores
    takes_examples = True
    measure = "accuracy"

    def lacking(self, item: Example) -> str | None:
        """Its choices, where it has none."""
        return None if item.choices else "no choices"

    def is_in_chat(self, config: EvaluateConfig) -> bool:
        """As the configuration says."""
        return config.apply_chat_template

    def score(self, engine: Engine, items: Sequence[Example], asking: Asking) -> Iterable[Record]:
        """The likelihood of each choice, and the answers where the options are in other orders."""
        scoring, config = require(engine, Scores, "evaluate"), asking.config
        others = [shuffle(item, config.option_shuffles, config.seed) for item in items]
        if config.option_shuffles and not any(others):
            console.notice(f"{asking.what}: no prompt lists its options, so none can be shuffled")
        shuffled = [each for of_item in others for each in of_item]
        asked = [*items, *(each.item for each in shuffled)]
        results = score_choices(scoring, asked, chat=asking.in_chat, what=asking.what)
        again = iter(zip(shuffled, results[len(items) :], strict=True))
        for item, result, of_item in zip(items, results, others, strict=False):
            record = asdict(result)
            if subject := item.metadata.get(asking.spec.subject or ""):
                record["subject"] = str(subject)
            answers = [next(again) for _ in of_item]
            if config.option_shuffles:
                record["shuffled"] = list(map(_told, answers))
            yield record

    def summarize(self, records: Sequence[Record]) -> dict[str, Any]:
        """Accuracy and its 95 % interval, macro-F1, and the accuracy of the most frequent label.

        Also how far confidence can be trusted, the accuracy of each subject, and the share of items
        whose answer flips with the order of the options.
        """
        targets = [record["target"] for record in records]
        answers = [record["answer"] for record in records]
        right = [target == answer for target, answer in zip(targets, answers, strict=True)]
        numbers = {
            "items": len(records),
            **_accuracy(right),
            "macro_f1": macro_f1(targets, answers),
            "majority": majority_share(targets),
            "answers": dict(sorted(Counter(answers).items())),
        }
        if all("logprobs" in record for record in records):
            sure = [confidence_of(record["logprobs"]) for record in records]
            numbers |= measure_confidence(sure, right)
        return {**numbers, **_by_subject(records, right), **_flips(records)}

    def pool(self, scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The mean accuracy weighted by items, as lm-evaluation-harness weights its groups.

        The interval is that of all items as one sample, which is at least as wide as one that
        knows of the tasks (Hoeffding 1956). Labels of different tasks have no common F1.
        """
        items = sum(score["items"] for score in scores)
        hits = sum(round(score["accuracy"] * score["items"]) for score in scores)
        majority = sum(score["majority"] * score["items"] for score in scores) / items
        accuracy = _ends("accuracy", estimate_proportion(hits, items))
        return {"items": items, **accuracy, "majority": majority}

    def columns(self, score: Mapping[str, Any]) -> list[Column]:
        """Accuracy beside that of always giving the most frequent label, F1, and flips."""
        shown = [
            Column(
                f"{score['task']} accuracy\nn = {score['items']}",
                _cell(score, "accuracy"),
                {"most frequent label": f"{score['majority']:.1%}"},
            )
        ]
        if "macro_f1" in score:  # not of a group
            shown.append(Column("F1", f"{score['macro_f1']:.2f}"))
        if score.get("shuffled_items"):
            heading = f"flips\nn = {score['shuffled_items']}"
            shown.append(Column(heading, _cell(score, "flips")))
        return shown


def _told(pair: tuple[Shuffled, ChoiceResult | NotAsked]) -> dict[str, Any]:
    """The answer in another order, as the letter that its option has in the first one."""
    shuffled, result = pair
    if isinstance(result, NotAsked):
        return {"order": shuffled.order, "not_asked": result.not_asked}
    return {"order": shuffled.order, "answer": shuffled.letters[result.answer]}


def _accuracy(right: Sequence[bool]) -> dict[str, Any]:
    return _ends("accuracy", estimate_proportion(sum(right), len(right)))


def _ends(name: str, estimate: Estimate) -> dict[str, Any]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _by_subject(records: Sequence[Record], right: Sequence[bool]) -> dict[str, Any]:
    """The accuracy of each subject; nothing where the task has none."""
    subjects: defaultdict[str, list[bool]] = defaultdict(list)
    for record, is_right in zip(records, right, strict=True):
        if "subject" in record:
            subjects[record["subject"]].append(is_right)
    told = {
        subject: {"items": len(found), **_accuracy(found)}
        for subject, found in sorted(subjects.items())
    }
    return {"by_subject": told} if told else {}


def _flips(records: Sequence[Record]) -> dict[str, Any]:
    """How many items have another answer in some other order, and how many answers are right."""
    if not any("shuffled" in record for record in records):
        return {}
    flipped, right = list[bool](), list[bool]()
    for record in records:
        answers = [each["answer"] for each in record["shuffled"] if "answer" in each]
        if answers:
            flipped.append(any(answer != record["answer"] for answer in answers))
            right += [answer == record["target"] for answer in answers]
    told: dict[str, Any] = {"shuffled_items": len(flipped), "shuffled_answers": len(right)}
    if flipped:
        told |= _ends("flips", estimate_proportion(sum(flipped), len(flipped)))
        told["shuffled_accuracy"] = sum(right) / len(right)
    return told


def _cell(score: Mapping[str, Any], name: str) -> str:
    low, high = 100 * score[f"{name}_low"], 100 * score[f"{name}_high"]
    return f"{score[name]:.1%}\n{low:.1f}–{high:.1f}"
