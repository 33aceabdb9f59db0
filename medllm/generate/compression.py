"""What is left of a text after each stage: how long it is, which facts stayed, which are new.

Facts are what `medllm.clinical` finds: diagnoses, findings, medications with doses, vital signs,
laboratory values, procedures, follow-up, dates. What it does not know it does not count.
"""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from medllm import console
from medllm.artifacts.manifest import write_atomically
from medllm.clinical.text.reading import Reading, read
from medllm.data.readers.csv_form import harmless
from medllm.errors import ArtifactError
from medllm.generate.prompts import Prompt, named
from medllm.measures.intervals import estimate_part
from medllm.measures.ratings import estimate_correlation
from medllm.measures.text.bertscore import Encoder
from medllm.measures.text.comparing import Unsupported, count_shared, find_unsupported
from medllm.measures.text.facts import Fact, find_facts
from medllm.measures.text.flips import add_flips, find_flips
from medllm.measures.text.numbers import judge_numbers
from medllm.measures.text.shorthand import written_out

Flip = dict[str, Any]
"""What is the other way round, of which class, where in the last answer, and unlike which text."""
FEWEST = 6
"""Texts that a correlation takes."""
COUNTS = ("unsupported", "unsupported_major", "numbers", "numbers_altered", "numbers_invented")
HOW = (
    "ratio: characters of the last answer over those of the first; retention: share of the "
    "distinct facts of a text that the last answer states, pooled, with a 95 % interval over "
    "the texts (Korn and Graubard 1998); numbers: of the last answer, "
    "in the text or not"
)


@dataclass(frozen=True)
class Compressed:
    """A text and what each stage made of it."""

    prompt: Prompt
    answers: Sequence[str]
    whole: Sequence[str]
    """The answers without what a cut left of a number or name."""

    @property
    def source(self) -> str:
        """The text that the first stage got."""
        return self.prompt.messages[-1].content

    @cached_property
    def readings(self) -> list[Reading]:
        """The source, with its numbers in digits, the first answer and the last one."""
        texts = written_out(self.source), self.whole[0], self.whole[-1]
        return [read(text) for text in texts]

    @cached_property
    def facts(self) -> list[tuple[Fact, ...]]:
        """Their facts."""
        return [find_facts(each) for each in self.readings]


def measure_all(
    chains: Sequence[Compressed], encoder: str | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The numbers of each text, and those of all; BERTScore where there is an encoder."""
    measured = [_measure(each) for each in chains]
    summary = _sum_up(measured)
    if encoder is None:
        summary["bertscore"] = {"not_computed": "no encoder is named (generate.encoder)"}
    else:
        summary["bertscore"] = _add_bertscore(chains, measured, encoder)
    return measured, summary


def _measure(chain: Compressed) -> dict[str, Any]:
    source, first, last = chain.facts
    of_source, of_first = _unlike(chain, 0), _unlike(chain, 1)
    severities = Counter(each.severity for each in of_source)
    return {
        "source_characters": len(chain.source),
        "characters": [len(text) for text in chain.answers],
        "ratio": len(chain.answers[-1]) / max(len(chain.answers[0]), 1),
        "ratio_to_source": len(chain.answers[-1]) / max(len(chain.source), 1),
        **_kept("retention", first, last),
        **_kept("retention_of_source", source, last),
        **_kept("first_stage_retention_of_source", source, first),
        "unsupported": len(of_source),
        "unsupported_major": severities["major"],
        "flips": _flips(of_source, of_first),
        **_judge_numbers(chain),
    }


def _judge_numbers(chain: Compressed) -> dict[str, int]:
    """The numbers of the last answer; altered: the text has others of what they are of."""
    outcomes = Counter(
        each.outcome for each in judge_numbers(chain.readings[-1], chain.readings[0])
    )
    wrong = {f"numbers_{name}": outcomes[name] for name in ("altered", "invented")}
    return {"numbers": outcomes.total(), **wrong}


def _unlike(chain: Compressed, number: int) -> list[Unsupported]:
    """What the last answer states and one of the texts before it does not, or otherwise."""
    found = find_unsupported(chain.facts[-1], chain.facts[number])
    return add_flips(found, find_flips(chain.readings[-1], chain.readings[number]))


def _flips(of_source: Sequence[Unsupported], of_first: Sequence[Unsupported]) -> list[Flip]:
    """What is the other way round than in the text, and then than in the first answer."""
    found = [each for each in of_source if each.flip]
    every = add_flips(found, [each for each in of_first if each.flip])
    return [
        {"flip": each.flip, "class": each.kind, "span": list(each.place),
         "unlike": "text" if each in found else "first stage"}
        for each in every
    ]  # fmt: skip


def _kept(name: str, facts: Sequence[Fact], others: Sequence[Fact]) -> dict[str, Any]:
    """How many of the facts of one text another states, and of how many; None where it has none."""
    shared = count_shared(facts, others)
    wanted, found = (sum(pair[n] for pair in shared.values()) for n in (0, 1))
    return {name: found / wanted if wanted else None, f"{name}_of": wanted, f"{name}_found": found}


def _sum_up(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {"items": len(measured), "how": HOW}
    if not measured:
        return summary
    for name in ("ratio", "ratio_to_source"):
        values = [each[name] for each in measured]
        spread = stdev(values) if len(values) > 1 else None
        summary[name] = {"mean": fmean(values), "median": median(values), "sd": spread}
    for name in ("retention", "retention_of_source", "first_stage_retention_of_source"):
        with_facts = [each for each in measured if each[f"{name}_of"]]
        if with_facts:
            found = [each[f"{name}_found"] for each in with_facts]
            wanted = [each[f"{name}_of"] for each in with_facts]
            told = estimate_part(found, wanted)
            summary[name] = {"value": told.value, "low": told.low, "high": told.high,
                             "facts": sum(wanted), "items": len(with_facts)}  # fmt: skip
    for name in COUNTS:
        summary[name] = sum(each[name] for each in measured)
    kinds = Counter(flip["flip"] for each in measured for flip in each["flips"])
    summary["flips"] = {"texts": sum(bool(each["flips"]) for each in measured), "by": dict(kinds)}
    summary["ratio_against_retention"] = _correlate(measured)
    return summary


def announce_flips(measured: Mapping[int, dict[str, Any]]) -> None:
    """Say which rows, by their number, state something the other way round."""
    if rows := [number for number, told in measured.items() if told["flips"]]:
        kinds = {flip["flip"] for number in rows for flip in measured[number]["flips"]}
        console.notice(
            f"generate: {named(rows)}: the last answer states something the other way round than "
            f"what it was made from ({', '.join(sorted(kinds))}); `flips` says where"
        )


def _correlate(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Spearman's rank correlation of ratio and retention, where there are texts enough."""
    found = [each for each in measured if each["retention_of"]]
    ratios, kept = ([each[name] for each in found] for name in ("ratio", "retention"))
    told = estimate_correlation(ratios, kept) if len(found) >= FEWEST else None
    return {"items": len(found), "spearman": told.value if told else None}


def _add_bertscore(
    chains: Sequence[Compressed], measured: Sequence[dict[str, Any]], ref: str
) -> dict[str, Any]:
    """BERTScore of each last answer against its source; why there is none where it cannot be."""
    try:
        encoder = Encoder.open(ref)
    except ArtifactError as problem:
        console.notice(f"generate: BERTScore is not computed: {problem.message}")
        return {"not_computed": problem.message}
    with console.progress("bertscore", len(chains)) as advance:
        for chain, told in zip(chains, measured, strict=True):
            match = encoder.match(chain.answers[-1], chain.source)
            told |= {"bertscore_precision": match.precision, "bertscore_recall": match.recall,
                     "bertscore_f1": match.f1}  # fmt: skip
            advance(1)
    names = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
    means = {name: fmean(each[name] for each in measured) for name in names if measured}
    return {"how": encoder.how, **means}


def write_tables(
    folder: Path,
    names: Sequence[str],
    chains: Sequence[Compressed],
    measured: Sequence[dict[str, Any]],
    results: dict[str, Any],
) -> None:
    """`results.csv` and `results.json` with a row for each text, and `summary.json`.

    The rows hold what each stage, by its name, wrote: they are for the owner's eyes alone.
    """
    rows = [
        {**chain.prompt.names, **dict(zip(names, chain.answers, strict=True)), **told}
        for chain, told in zip(chains, measured, strict=True)
    ]
    write_atomically(folder / "results.json", json.dumps(rows, indent=2, ensure_ascii=False))
    write_atomically(folder / "summary.json", json.dumps(results, indent=2, ensure_ascii=False))
    path = folder / "results.csv"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8-sig", newline="") as file:  # by its mark Excel knows UTF-8
        path.chmod(0o600)
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """What a table can hold: lists as JSON, and texts that no spreadsheet runs as formulas."""
    value = json.dumps(value) if isinstance(value, list) else value
    return harmless(value) if isinstance(value, str) else value


def show_compression(summary: dict[str, Any]) -> None:
    """Show the numbers of all texts."""
    if not summary.get("items"):
        return
    ratio = summary["ratio"]
    spread = "" if ratio["sd"] is None else f", sd {ratio['sd']:.2f}"
    rows = [("ratio", f"{ratio['mean']:.2f}, median {ratio['median']:.2f}{spread}")]
    for name, told in (("retention", "of the first stage"), ("retention_of_source", "of the text")):
        if found := summary.get(name):
            low, high = found["low"], found["high"]
            interval = "no interval" if low is None else f"{low:.3f}–{high:.3f}"
            of = f"{found['facts']:,} facts, {found['items']:,} texts"
            rows.append((f"facts {told} kept", f"{found['value']:.3f} ({interval}; {of})"))
    rows.append(("facts that the text does not state", f"{summary['unsupported']:,}"))
    rows.append(("of them major", f"{summary['unsupported_major']:,}"))
    wrong = f"{summary['numbers_altered']:,} altered, {summary['numbers_invented']:,} invented"
    rows.append((f"of {summary['numbers']:,} numbers", wrong))
    flips = summary["flips"]
    kinds = ", ".join(f"{kind} {count}" for kind, count in flips["by"].items())
    rows.append(
        ("texts with something turned round", f"{flips['texts']:,}{kinds and f': {kinds}'}")
    )
    score = summary["bertscore"]
    shown = score.get("bertscore_f1")
    why = score.get("not_computed", "no text")
    rows.append(("BERTScore F1", f"not computed: {why}" if shown is None else f"{shown:.3f}"))
    console.table(("compression", ""), rows, title="compression")
