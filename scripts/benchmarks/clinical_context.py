"""How well the context of words is told, by aspect, on a list of sentences written for this.

python scripts/benchmarks/clinical_context.py
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from medllm.clinical.context import Context, context_of
from medllm.clinical.text.reading import read
from medllm.measures.intervals import estimate_proportion

SENTENCES = Path(__file__).parents[2] / "tests" / "unit" / "context_sentences.txt"
PARTS = ("built on", "held out")
ASPECTS = ("negated", "possible", "historical", "hypothetical", "experiencer", "laterality")


def main() -> None:
    """Print a table and write the JSON."""
    import measure

    figures = {part: count(part) for part in PARTS}
    for part, rows in figures.items():
        print(part)
        for aspect, row in rows.items():
            print(f"  {aspect:14}" + "  ".join(f"{name} {value}" for name, value in row.items()))
    measure.write("clinical-context", figures)


def cases(part: str) -> Iterator[tuple[str, list[set[str]]]]:
    """Each sentence of a part of the list, and what is wanted for each of its brackets."""
    text = SENTENCES.read_text(encoding="utf-8").split(f"== {part}\n")[1].split("== ")[0]
    for line in text.splitlines():
        sentence, _, wanted = line.partition("\t")
        yield sentence, [set(each.split()) - {"-"} for each in wanted.split(" | ")]


def contexts(sentence: str) -> list[set[str]]:
    """What is told of the words in each bracket."""
    pieces = re.split(r"\[([^\]]*)\]", sentence)
    reading = read("".join(pieces))
    found, at = [], 0
    for number, piece in enumerate(pieces):
        if number % 2:
            first, last = (bisect_left(reading.begins, end) for end in (at, at + len(piece)))
            found.append(named(context_of(reading, first, last)))
        at += len(piece)
    return found


def named(context: Context) -> set[str]:
    """A context in the words of the list."""
    names = {each for each in ASPECTS[:4] if getattr(context, each)}
    names |= {context.laterality} if context.laterality else set()
    return names | ({context.experiencer} - {"patient"})


def count(part: str) -> dict[str, dict[str, object]]:
    """Right, too much and missed by aspect; precision and recall with their 95 % intervals."""
    counts = {aspect: Counter[str]() for aspect in ASPECTS}
    whole = Counter[bool]()
    for sentence, wanted in cases(part):
        for want, got in zip(wanted, contexts(sentence), strict=True):
            whole[want == got] += 1
            for name in want | got:
                where = "right" if name in want & got else "missed" if name in want else "extra"
                counts[aspect_of(name)][where] += 1
    figures: dict[str, dict[str, object]] = {
        aspect: {
            **{name: each[name] for name in ("right", "extra", "missed")},
            "precision": interval(each["right"], each["extra"]),
            "recall": interval(each["right"], each["missed"]),
        }
        for aspect, each in counts.items()
    }
    figures["all right"] = {"share": interval(whole[True], whole[False])}
    return figures


def aspect_of(name: str) -> str:
    """The aspect that a word of the list belongs to."""
    if name in {"family", "other"}:
        return "experiencer"
    return "laterality" if name in {"left", "right", "bilateral"} else name


def interval(right: int, wrong: int) -> list[float | None]:
    """Share, and the ends of its 95 % interval."""
    estimate = estimate_proportion(right, right + wrong)
    return [
        None if each is None else round(each, 3)
        for each in (estimate.value, estimate.low, estimate.high)
    ]


if __name__ == "__main__":
    main()
