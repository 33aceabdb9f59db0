"""What is in a calibration set: lengths, sources, medical terms, duplicates, and quality checks."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from medllm import console
from medllm.clinical.terms import MEDICAL_DENSITY, count_texts, find_terms, term_density, vocabulary
from medllm.data.dedup import digest_words

MIN_SAMPLES = 512
MIN_MEAN_TOKENS = 500
MIN_MEDICAL_SHARE = 0.7

Row = dict[str, Any]
"""{id, text, source, type, tokens}"""


def analyze_rows(
    rows: Sequence[Row],
    holdout: Sequence[Row] = (),
    overlaps: Mapping[str, Sequence[str]] = {},
    documents: int | None = None,
) -> dict[str, Any]:
    """Statistics of the rows as plain data.

    `documents` is how many examples they hold, where windows hold several; else each is one.

    `overlaps` names, for each evaluation set, the rows that share text with it. Coverage is the
    share of the holdout's medical terms that the rows hold too; a rare term is one that a single
    text of the holdout has.
    """
    terms = [list(find_terms(row["text"], vocabulary())) for row in rows]
    density = [term_density(row["text"], found) for row, found in zip(rows, terms, strict=True)]
    found = {
        **_lengths([row["tokens"] for row in rows]),
        "documents": len(rows) if documents is None else documents,
        "sources": dict(Counter(row["source"] for row in rows).most_common()),
        "medical_share": sum(value >= MEDICAL_DENSITY for value in density) / len(rows),
        "term_density": statistics.fmean(density),
        "distinct_terms": len(set().union(*terms)),
        **_coverage(set().union(*terms), holdout),
        "duplicates": len(rows) - len({digest_words(row["text"]) for row in rows}),
        "overlaps": {name: sorted(ids) for name, ids in overlaps.items()},
    }
    return {**found, "checks": _checks(found)}


def _lengths(lengths: Sequence[int]) -> dict[str, Any]:
    return {
        "samples": len(lengths),
        "tokens": sum(lengths),
        "mean_tokens": statistics.fmean(lengths),
        "median_tokens": statistics.median(lengths),
        "min_tokens": min(lengths),
        "max_tokens": max(lengths),
        "std_tokens": statistics.pstdev(lengths),
    }


def _coverage(covered: set[str], holdout: Sequence[Row]) -> dict[str, Any]:
    """How many of the holdout's terms are among `covered`: all, and those in one text only."""
    documents = count_texts(find_terms(row["text"], vocabulary()) for row in holdout)
    rare = [term for term, count in documents.items() if count == 1]
    return {
        "term_coverage": _share(covered, list(documents)),
        "rare_term_coverage": _share(covered, rare),
    }


def _share(covered: set[str], terms: Sequence[str]) -> float | None:
    return sum(term in covered for term in terms) / len(terms) if terms else None


def _checks(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each check with its outcome, what was found, and why one would want it."""
    overlapping = {name: len(ids) for name, ids in found["overlaps"].items() if ids}
    windows = f" in {found['samples']:,} windows" if found["documents"] > found["samples"] else ""
    count = len(found["overlaps"])
    checks = [
        (
            found["documents"] >= MIN_SAMPLES,
            f"{found['documents']:,} texts{windows}, at least {MIN_SAMPLES} wanted",
            "few texts make the result depend on the draw (Williams and Aletras, ACL 2024)",
        ),
        (
            found["mean_tokens"] > MIN_MEAN_TOKENS,
            f"{console.rounded(found['mean_tokens'])} tokens on average, more than "
            f"{MIN_MEAN_TOKENS} wanted",
            "GPTQ gains up to about 200 sequences of 2,048 tokens (AWQ, Lin et al. 2023, fig. 8)",
        ),
        (
            found["medical_share"] > MIN_MEDICAL_SHARE,
            f"{console.rounded(100 * found['medical_share'])}% of texts are medical, more than "
            f"{MIN_MEDICAL_SHARE:.0%} wanted",
            f"by words in medical terms, at least {MEDICAL_DENSITY:.0%} of a text; "
            "text of another domain costs quality at 3 bits (AWQ, fig. 8)",
        ),
        (
            not found["duplicates"],
            f"{found['duplicates']:,} duplicate texts",
            "a text that comes twice is counted twice and adds nothing",
        ),
        (
            found["overlaps"] and not overlapping,
            f"overlap with {count} evaluation set{'s' * (count > 1)}: {overlapping or 'none'}"
            if found["overlaps"]
            else "overlap is not known: no evaluation set is on this machine",
            "a model scores too well on text that it was calibrated with",
        ),
    ]
    return [
        {"passed": bool(passed), "found": text, "reason": reason} for passed, text, reason in checks
    ]
