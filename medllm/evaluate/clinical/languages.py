"""How many items are in a language that the rules which judge them do not read."""

from collections import Counter
from collections.abc import Sequence

from medllm import console
from medllm.clinical.rules.knowledge import shipped_knowledge
from medllm.clinical.text.reading import read
from medllm.clinical.wording.languages import foreign_share


def announce_languages(what: str, items: Sequence[Sequence[str]]) -> int:
    """How many items have a text that is not all in English; says so, for rules do not read it."""
    languages = Counter[str]()
    found = 0
    for texts in items:
        shares = [foreign_share(read(text), shipped_knowledge()) for text in texts]
        foreign = {name for names, share in shares if share for name in names}
        languages.update(foreign)
        found += bool(foreign)
    if found:
        named = ", ".join(name for name, _ in languages.most_common(3))
        console.notice(
            f"{what}: {found} of {len(items)} items are in another language than English ({named}),"
            " or in part: the rules that judge answers do not read it, so their scores say little"
        )
    return found
