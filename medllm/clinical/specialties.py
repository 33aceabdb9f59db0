"""Lists of terms of a specialty, shipped or the user's own."""

import re
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

from medllm.clinical.terms import MAX_WORDS, words_of
from medllm.config.loader import read_yaml
from medllm.errors import ConfigError, DataError, did_you_mean

SPECIALTIES = Path(__file__).parent / "knowledge" / "specialties.yaml"


def specialty_terms(name: str) -> frozenset[str]:
    """The terms of a shipped specialty, or of a text file with one term a line.

    Raises:
        ConfigError: neither a specialty nor a file.
        DataError: the file is no text, nobody may read it, it holds no terms, or one that is too
            long to be found.
    """
    lists = _lists()
    if name in lists:
        return frozenset(lists[name])
    path = Path(name)
    if not path.is_file():
        fix = f"{did_you_mean(name, lists)}one of {', '.join(sorted(lists))}, or a file of terms"
        raise ConfigError(f"unknown list of terms '{name}'", fix)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text", "save the file as UTF-8") from None
    except PermissionError:
        message = f"{path}: cannot be read: permission denied"
        raise DataError(message, "check its permissions") from None
    terms = [" ".join(words_of(line)) for line in lines]
    too_long = next((term for term in terms if len(term.split()) > MAX_WORDS), None)
    if too_long or not any(terms):
        message = f"'{too_long:.80}' has too many words" if too_long else "holds no terms"
        raise DataError(f"{path}: {message}", f"one term a line, of at most {MAX_WORDS} words")
    return frozenset(filter(None, terms))


def term_finder(terms: Collection[str]) -> Callable[[str], bool]:
    """Whether a text holds one of the terms as whole words, in any case."""
    patterns = {term: re.compile(rf"\b{re.escape(term)}\b") for term in terms}

    def has_term(text: str) -> bool:
        lowered = text.lower()  # plain search is cheaper than a pattern and mostly fails
        return any(term in lowered and patterns[term].search(lowered) for term in patterns)

    return has_term


@cache
def _lists() -> dict[str, list[str]]:
    return {name: list(terms) for name, terms in read_yaml(SPECIALTIES).data.items()}
