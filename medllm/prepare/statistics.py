"""What a prepared dataset is, in numbers, and as a page."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medllm.data.access import may_show, stand_ins
from medllm.data.example import Example, from_json
from medllm.data.shapes.answers import LETTERS
from medllm.data.shapes.pubmedqa import DECISIONS
from medllm.data.split import SPLITS
from medllm.models.adapter import has_tokenizer
from medllm.models.chat.template import TokenizerTemplate, render_example
from medllm.models.load import TINY, load_tokenizer, resolve_model
from medllm.models.tiny.base import tiny_place
from medllm.places import short_ref
from medllm.prepare.groups import ALONE
from medllm.prepare.output import metas, read_samples
from medllm.prepare.repeats import count_repeats
from medllm.prepare.shard import ROWS_CUT, Meta, Plan
from medllm.prepare.unused import OTHERS, name_columns
from medllm.prepare.verdicts import Verdicts
from medllm.reports.page import Page

SAMPLES = 5
MOST_LABELS = 50
PUBLIC_LABELS = {*LETTERS, *DECISIONS, OTHERS}
"""Those that say nothing of the data."""
PLOTTED = 20_000
"""So many lengths draw the same picture as millions."""


def collect_statistics(plan: Plan, verdicts: Verdicts, rejected: Counter[str]) -> dict[str, Any]:
    """The statistics, as plain data."""
    total = Meta(
        missing=[Counter() for _ in plan.datasets], unused=[Counter() for _ in plan.datasets]
    )
    labels: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    kept = {split: verdicts.in_split(split) for split in SPLITS}
    for number, meta in enumerate(metas(plan, verdicts)):
        _add(total, meta)
        for split in SPLITS:
            shard = verdicts.shard(number)
            numbers = np.bincount(verdicts.columns["label"][shard][kept[split][shard]])
            named = zip(meta.labels[1:], numbers[1:].tolist(), strict=False)
            labels[split] += Counter(dict(named))
    labels = {split: _most_frequent(counts) for split, counts in labels.items()}
    return {
        "rows_read": total.rows,
        "examples": {split: int(rows.sum()) for split, rows in kept.items()},
        "rejected": dict(rejected.most_common()),
        "datasets": _shares(verdicts, "dataset", [one.name for one in plan.datasets]),
        "tasks": _shares(verdicts, "task", plan.task_names),
        "targets": labels if _may_show(plan) else without_names(labels),
        "words": {
            split: {
                part: summarize(verdicts.columns[f"{part}_words"][rows])
                for part in ("input", "target")
            }
            for split, rows in kept.items()
        },
        "cleaning": dict(sorted(total.counts.items())),
        "placeholders_per_word": round(
            total.counts["placeholders"] / max(total.counts["words"], 1), 5
        ),
        "missing_values": {
            dataset.name: name_columns(counts, total.rows)
            for dataset, counts in zip(plan.datasets, total.missing, strict=True)
        },
        "unused_columns": {
            dataset.name: name_columns(counts, total.rows)
            for dataset, counts in zip(plan.datasets, total.unused, strict=True)
        },
        "prompts_with_another_answer": count_repeats(verdicts),
        "contamination": {
            "rows_removed": rejected["overlaps held-out data"],
            "held_out_rows_found_in_training": len({other for _, other, _ in verdicts.overlaps}),
        },
    }


def _most_frequent(labels: Counter[str]) -> Counter[str]:
    """Those that most rows have, and the rows of all others together."""
    named = Counter(dict(labels.most_common(MOST_LABELS)))
    rest = labels.total() - named.total()
    return named + Counter({OTHERS: rest})


def _add(total: Meta, meta: Meta) -> None:
    total.rows += meta.rows
    total.counts.update(meta.counts)
    for totals, parts in ((total.missing, meta.missing), (total.unused, meta.unused)):
        for counts, more in zip(totals, parts, strict=True):
            counts.update(more)


def without_names(labels: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """The numbers of labels that may not be shown, under the same stand-in in all splits."""
    names = stand_ins(
        (name for counts in labels.values() for name in counts), "label", PUBLIC_LABELS
    )
    return {
        split: {names[label]: count for label, count in counts.items()}
        for split, counts in labels.items()
    }


def _shares(verdicts: Verdicts, column: str, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The rows that stay, by name and split."""
    numbers = {
        split: np.bincount(
            verdicts.columns[column][verdicts.in_split(split)], minlength=len(names)
        ).tolist()
        for split in SPLITS
    }
    rows: dict[str, dict[str, int]] = {
        name: {split: numbers[split][i] for split in SPLITS} for i, name in enumerate(names)
    }
    return {name: counts for name, counts in rows.items() if any(counts.values())}


def summarize(values: NDArray[Any]) -> dict[str, float]:
    """Mean, median, least, most and standard deviation; empty for no values."""
    if not len(values):
        return {}
    return {
        "mean": round(float(values.mean()), 2),
        "median": float(np.median(values)),
        "min": float(values.min()),
        "max": float(values.max()),
        "standard_deviation": round(float(values.std()), 2),
    }


def load_template(plan: Plan) -> TokenizerTemplate | None:
    """The chat template of the report's samples, if it shows any and the model is on this machine.

    None is fetched or trained for a report.

    Raises:
        ArtifactError: the folder that is named holds no model, or a broken one.
    """
    ref = plan.config.tokenizer
    if ref is None or plan.config.format == "csv" or not _may_show(plan):
        return None
    if not (tiny_place() if ref == TINY else Path(ref)).is_dir():
        return None
    model = resolve_model(ref)
    return TokenizerTemplate(load_tokenizer(model.location)) if has_tokenizer(model) else None


def _may_show(plan: Plan) -> bool:
    return may_show(dataset.term for dataset in plan.datasets)


def build_page(
    plan: Plan, verdicts: Verdicts, numbers: dict[str, Any], template: TokenizerTemplate | None
) -> Page:
    """The page: counts, plots, and rendered rows where all data are open."""
    config = plan.config
    about = {
        "datasets": ", ".join(dataset.name for dataset in plan.datasets),
        "tasks": config.task or ", ".join(config.tasks),
        "format": config.format,
        "chat template of": short_ref(config.tokenizer) if template else None,
        "recipe": config.recipe,
    }
    page = Page("Prepared data", f"{_count_rows(numbers)} {_name_doubts(plan, numbers)}", about)
    page.table(("left out because", "rows"), list(numbers["rejected"].items()))
    for part in ("datasets", "tasks"):
        page.table((part, *SPLITS), [(n, *row.values()) for n, row in numbers[part].items()])
        if len(numbers[part]) > 1:  # one bar says no more than the table
            page.bars(f"Rows by {part}", {n: sum(c.values()) for n, c in numbers[part].items()})
    page.table(
        ("dataset", "rows are kept together by", "rows", "groups"),
        [
            (name, kind, *counts.values())
            for name, found in numbers["groups"].items()
            for kind, counts in found.items()
        ],
    )
    for part in ("input", "target"):
        words = verdicts.columns[f"{part}_words"][verdicts.reason == 0]
        step = len(words) // PLOTTED + 1
        unit = "words" if step == 1 else f"words, of one row in {step:,}"
        page.histogram(f"Length of the {part}", words[::step].tolist(), unit)
    page.bars("Targets to train on", numbers["targets"]["train"])
    page.table(("cleaning", "count"), list(numbers["cleaning"].items()))
    for name, unused in numbers["unused_columns"].items():
        if unused:
            page.table((f"column of {name} that no model will see", "rows"), list(unused.items()))
    for name, missing in numbers["missing_values"].items():
        page.table((f"column of {name}", "rows without a value"), list(missing.items()))
    _show_samples(page, plan, verdicts, template)
    return page


def _count_rows(numbers: Mapping[str, Any]) -> str:
    """What became of the rows."""
    kept, rejected = numbers["examples"], numbers["rejected"]
    stay = f"{kept['train']:,} are to train on, {kept['validation']:,} to validate, "
    told = f"Of {numbers['rows_read']:,} rows {stay}{kept['test']:,} to test"
    if not rejected:
        return f"{told}, and none was left out."
    reason = next(iter(rejected))
    return f"{told}, and {sum(rejected.values()):,} were left out, most as '{reason}'."


def _name_doubts(plan: Plan, numbers: Mapping[str, Any]) -> str:
    """What a person should look at before a training."""
    unused = sum(map(len, numbers["unused_columns"].values()))
    cut = numbers["cleaning"].get(ROWS_CUT, 0)
    alone = sum(
        numbers["groups"][dataset.name].get(ALONE, {"rows": 0})["rows"]
        for dataset in plan.datasets
        if not dataset.spec.is_generated
    )
    repeats = numbers["prompts_with_another_answer"]
    doubts = {
        "columns that no model will see": unused,
        "training rows with the prompt of another one, and another answer": repeats["in_training"],
        "training rows with the prompt of a held-out row, and another answer": repeats[
            "of_held_out_rows"
        ],
        "training rows with the image of a held-out row": repeats["show_held_out_images"],
        "conversations cut after their last answer": cut,
        "rows that name no patient, article or note, so that each is a group of its own": alone,
    }
    named = [f"{count:,} {what}" for what, count in doubts.items() if count]
    if not named:
        return "Nothing in them asks for a look before you train."
    return f"Before you train, look at {'; '.join(named)}."


def _show_samples(
    page: Page, plan: Plan, verdicts: Verdicts, template: TokenizerTemplate | None
) -> None:
    if not _may_show(plan):
        page.text("No samples are shown: not all of the data are open.")
        return
    lines = list(read_samples(plan, verdicts, SAMPLES))
    if plan.config.format == "csv":
        page.pre("".join(lines))
        return
    page.heading("As the model will see them" if template else "Samples")
    for example in (from_json(json.loads(line)) for line in lines):
        page.text(example.id)
        page.pre(_as_met(template, example) if template else _as_turns(example))


def _as_met(template: TokenizerTemplate, example: Example) -> str:
    return template.special_tokens.unmark(render_example(template, example).text)


def _as_turns(example: Example) -> str:
    turns = [(turn.role, turn.content) for turn in example.prompt]
    return "\n\n".join(
        f"{role}:\n{text}" for role, text in (*turns, ("answer", example.completion))
    )
