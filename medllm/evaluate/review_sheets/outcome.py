"""Ratings, unblinded: means, differences and preferences of the outputs, and agreement."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import combinations
from statistics import fmean
from typing import Any

from medllm.evaluate.review_sheets.reading import Rated
from medllm.evaluate.review_sheets.scales import SCALES, Scale
from medllm.evaluate.review_sheets.sheet import Key
from medllm.measures.intervals import estimate_ratio, estimate_share, without_certainty
from medllm.measures.paired import ALPHA, compare_means, holm
from medllm.measures.ratings import measure_agreement, measure_preference

Row = dict[str, Any]
MAY_HARM = "harm of any degree"


class Ratings:
    """What several people say of the items of a sheet, by output instead of by letter."""

    def __init__(self, key: Key, rated: Sequence[Rated]) -> None:
        self._key = key
        self._rated = rated
        self.items = [code for code in key.items if any(code in each.ratings for each in rated)]

    def of(self, code: str, output: int, scale: Scale) -> list[int | None]:
        """What each person says of an output of an item."""
        column = scale.column(self._letter(code, output))
        return [each.ratings.get(code, {}).get(column) for each in self._rated]

    def mean(self, code: str, output: int, scale: Scale) -> float:
        """The mean of all people."""
        return fmean(each for each in self.of(code, output, scale) if each is not None)

    def places(self, code: str) -> list[str | None]:
        """The letters that were preferred."""
        return [each.preferred[code] for each in self._rated if code in each.preferred]

    def said(self, code: str) -> list[int | None]:
        """The preference of each person as a category: an output, after them a tie; or None."""
        outputs = len(self._key.outputs)
        found: list[int | None] = []
        for each in self._rated:
            letter = each.preferred.get(code)
            at = None if letter is None else self._key.letters.index(letter)
            place = outputs if at is None else self._key.items[code]["order"][at]
            found.append(place if code in each.preferred else None)
        return found

    def _letter(self, code: str, output: int) -> str:
        return self._key.letters[self._key.items[code]["order"].index(output)]


def sum_up_ratings(key: Key, rated: Sequence[Rated]) -> Row:
    """All numbers, as plain data; without text, and without comments."""
    found, names = Ratings(key, rated), key.outputs
    return {
        "items": len(found.items),
        "of": len(key.items),
        "outputs": list(names),
        "raters": [{"rater": each.rater, "items": len(each.ratings)} for each in rated],
        "ratings": list(_means(found, names)),
        "differences": _differences(found, names),
        "preferences": _preferences(found, names),
        "agreement": list(_agreements(found, len(names))) if len(rated) > 1 else [],
        "places": _places(found, key.letters),
    }


def _means(found: Ratings, names: Sequence[str]) -> Iterator[Row]:
    """The mean of each scale, by output; and the share of items that anybody sees harm in."""
    for at, name in enumerate(names):
        for scale in SCALES:
            values = [found.mean(code, at, scale) for code in found.items]
            mean = without_certainty(estimate_ratio(values, [1] * len(values)))
            yield {"output": name, "of": scale.name, **asdict(mean)}
        harmed = [found.mean(code, at, SCALES[-1]) > 0 for code in found.items]
        yield {"output": name, "of": MAY_HARM, **asdict(estimate_share(harmed))}


def _differences(found: Ratings, names: Sequence[str]) -> list[Row]:
    """Each pair of outputs on each scale, the later less the earlier, on the same items."""
    rows = []
    for (first, beside), (second, name) in combinations(enumerate(names), 2):
        for scale in SCALES:
            before, after = (
                [found.mean(code, at, scale) for code in found.items] for at in (first, second)
            )
            compared = compare_means(before, after, [1] * len(found.items))
            rows.append({"output": name, "beside": beside, "of": scale.name, **asdict(compared)})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
        scale = next(each for each in SCALES if each.name == row["of"])
        is_better = (row["difference"]["value"] > 0) == scale.higher_is_better
        row["conclusion"] = _conclusion(p, is_better=is_better)
    return rows


def _conclusion(p: float, *, is_better: bool) -> str:
    if p >= ALPHA:
        return "no difference shown"
    return "better" if is_better else "worse"


def _preferences(found: Ratings, names: Sequence[str]) -> list[Row]:
    """Of each pair of outputs on how many items each is preferred by more people than the other."""
    rows = []
    for (first, beside), (second, name) in combinations(enumerate(names), 2):
        leads = [_lead(found.said(code), second, first) for code in found.items]
        wins, losses = sum(lead > 0 for lead in leads), sum(lead < 0 for lead in leads)
        counted = asdict(measure_preference(wins, losses, len(leads) - wins - losses))
        rows.append({"output": name, "beside": beside, **counted})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
        row["preferred"] = None
        if p < ALPHA:
            row["preferred"] = row["output"] if row["first"] > row["second"] else row["beside"]
    return rows


def _lead(said: Sequence[int | None], one: int, other: int) -> int:
    return sum(each == one for each in said) - sum(each == other for each in said)


def _agreements(found: Ratings, outputs: int) -> Iterator[Row]:
    """How far people agree: of each scale over all answers, grouped by item; and on preference."""
    for scale in SCALES:
        answers = [(code, at) for code in found.items for at in range(outputs)]
        rows = [
            [None if each is None else each - scale.least for each in found.of(*answer, scale)]
            for answer in answers
        ]
        groups = [code for code, _ in answers]
        agreed = measure_agreement(rows, len(scale.meanings), ordered=True, groups=groups)
        if agreed:
            yield {"of": scale.name, **asdict(agreed)}
    said = [found.said(code) for code in found.items]
    if agreed := measure_agreement(said, outputs + 1, ordered=False):
        yield {"of": "preference", **asdict(agreed)}


def _places(found: Ratings, letters: str) -> Row:
    """How often the first answer on the sheet is preferred to the others, whichever it is.

    Each output stands there equally often, so of two any leaning is one of the people.
    """
    first = [[letter for letter in found.places(code) if letter] for code in found.items]
    leads = [sum(1 if each == letters[0] else -1 for each in row) for row in first]
    if len(letters) != 2:
        return {}
    ahead, behind = sum(lead > 0 for lead in leads), sum(lead < 0 for lead in leads)
    return asdict(measure_preference(ahead, behind, len(leads) - ahead - behind))
