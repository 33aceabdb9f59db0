"""Words compared letter by letter."""

from os.path import commonprefix

MOST_DIFFERENT = 0.4
"""Share of letters that differ, up to which two names of drugs are alike: of 102 pairs on lists of
look-alikes 33 are, and of pairs of any two drugs that share no class 1 in 2,000."""
_LEAST_STEM = 3


def are_alike(one: str, other: str) -> bool:
    """Whether two names that begin alike are easily taken for each other."""
    longest = max(len(one), len(other))
    return one != other and distance(one, other, int(MOST_DIFFERENT * longest)) is not None


def distance(one: str, other: str, most: int) -> int | None:
    """How many letters to add, drop, change or exchange with the next; None for more than `most`.

    This is the restricted Damerau-Levenshtein distance.
    """
    if abs(len(one) - len(other)) > most:
        return None
    one, other = _without_common_ends(one, other)
    far, width = most + 1, len(other)
    before: list[int] = []
    row = [min(place, far) for place in range(width + 1)]
    for at, letter in enumerate(one, 1):
        earlier, before, row = before, row, [min(at, far)] + [far] * width
        for place in range(max(1, at - most), min(width, at + most) + 1):  # others are further
            wanted = other[place - 1]
            cost = min(
                before[place] + 1, row[place - 1] + 1, before[place - 1] + (letter != wanted)
            )
            is_exchange = place > 1 < at and letter == other[place - 2] and wanted == one[at - 2]
            row[place] = min(cost, earlier[place - 2] + 1) if is_exchange else cost
        if min(row) > most:
            return None
    return row[-1] if row[-1] <= most else None


def _without_common_ends(one: str, other: str) -> tuple[str, str]:
    """Two words without the letters that both begin and end with."""
    begin = len(commonprefix((one, other)))
    one, other = one[begin:], other[begin:]
    end = len(commonprefix((one[::-1], other[::-1])))
    return one[: len(one) - end], other[: len(other) - end]


def swapped(word: str, affix: str, other: str) -> str | None:
    """The word with `other` for `affix` (`hypo-`, `-ectomy`); None where it has not got it."""
    part, new = affix.strip("-"), other.strip("-")
    if len(word) < len(part) + _LEAST_STEM:
        return None
    if affix.endswith("-"):
        return new + word[len(part) :] if word.startswith(part) else None
    return word[: -len(part)] + new if word.endswith(part) else None
