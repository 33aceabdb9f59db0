"""Licences and agreements: who may read a dataset, and the terms that follow it."""

from collections.abc import Collection, Container, Iterable

from medllm.artifacts.manifest import Access, DataTerm, strictest
from medllm.errors import DataError


def check_agreement(
    dataset: str, access: Access, agreement: str | None, accepted: Collection[str]
) -> None:
    """Raise DataError unless the agreement that a dataset needs was named by the user.

    Whoever calls credentialed data private needs their agreement all the same.
    """
    needed = agreement or (dataset if access == "credentialed" else None)
    if needed and needed not in accepted:
        raise DataError(
            f"{dataset} may be read only under the data use agreement '{needed}'",
            f"if you have signed it: --accept-terms {needed}, "
            f"or data_use: [{needed}] in the recipe",
        )


def may_show(terms: Iterable[DataTerm]) -> bool:
    """Whether text under these terms may go on a screen: only that of open data."""
    return strictest(terms) == "open"


def stand_ins(names: Iterable[str], what: str, public: Container[str] = ()) -> dict[str, str]:
    """A number, as "label 2", for each name that data give and that may not be shown."""
    order = enumerate(dict.fromkeys(names), 1)
    return {name: name if name in public else f"{what} {number}" for number, name in order}
