"""Which items a model was trained on, as far as its lineage leads to rows that are still here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from medllm import console
from medllm.artifacts.lineage import FOREIGN, open_input
from medllm.artifacts.manifest import NAME, Manifest, Parent
from medllm.config.base import is_there
from medllm.data.dedup import OverlapIndex, digest_words, encode_words, fingerprint, split_words
from medllm.data.example import Example, read_examples
from medllm.data.split import MUCH
from medllm.models.load import ModelRef
from medllm.places import short_ref

ROWS = "train.jsonl"
HELD_OUT = ("validation.jsonl", "test.jsonl")
AT_ONCE = 2000
"""Training rows that are in memory at a time."""


@dataclass(frozen=True)
class Training:
    """The rows that a model was trained on."""

    files: tuple[Path, ...] = ()
    not_known: tuple[str, ...] = ()
    """What else it was trained on, where the rows are not here."""


def training_of(model: ModelRef) -> Training | None:
    """What a model, and whatever it was made from, was trained on; None where nothing tells."""
    if model.manifest is None:
        return None
    found = dict.fromkeys(_trained(model.manifest, frozenset()))
    return Training(
        tuple(where for where in found if isinstance(where, Path)),
        tuple(where for where in found if isinstance(where, str)),
    )


def _trained(manifest: Manifest, line: frozenset[str]) -> Iterator[Path | str]:
    """Files of rows, and the names of what is not here."""
    is_training = manifest.command == "finetune"
    for parent in manifest.parents:
        folder = Path(parent.path)
        folder = folder.parent if is_there(folder) and folder.is_file() else folder
        if parent.kind in ("adapter", "model", "quantized") and parent.identity not in line:
            below = _manifest_at(folder, parent)
            if below:
                yield from _trained(below, line | {parent.identity})
            elif not is_training or parent.kind != "model":
                yield f"{parent.kind} {short_ref(parent.path)}"
        elif is_training and parent.kind in ("dataset", FOREIGN, "source"):
            is_base = parent.kind == FOREIGN and not is_there(folder / ROWS)
            if not is_base:
                yield folder / ROWS if _is_the_same(folder, parent) else f"{short_ref(parent.path)}"


def _manifest_at(folder: Path, parent: Parent) -> Manifest | None:
    if not is_there(folder / NAME):
        return None
    found = Manifest.read(folder)
    return found if found.identity == parent.identity else None


def _is_the_same(folder: Path, parent: Parent) -> bool:
    """Whether the rows that were trained on lie there still."""
    if not is_there(folder / ROWS):
        return False
    if parent.kind == FOREIGN:
        return open_input(folder, ("dataset",), "training data").parent.identity == parent.identity
    return _manifest_at(folder, parent) is not None


def find_seen(training: Training, items: Sequence[Example]) -> dict[int, float]:
    """The items that a training row holds at least half of, by place: how much of their text.

    Texts are compared by runs of 13 words, as `prepare` does to keep held-out text out; shorter
    ones as a whole. What is a phrase of the trade is told by the same rows as there: by all that
    are held out, not by the items alone.
    """
    places = [at for at, item in enumerate(items) if split_words(item.text)]
    if not places:
        return {}
    texts = [items[at].text for at in places] + _other_held_out(training, items)
    index = OverlapIndex(*fingerprint([encode_words(text) for text in texts]))
    whole = {digest_words(items[at].text): at for at in places}
    shares: dict[int, float] = {}
    for file in training.files:
        examples = read_examples(file)
        while rows := list(islice(examples, AT_ONCE)):
            same = (whole.get(digest_words(row.text)) for row in rows)
            shares |= {at: 1.0 for at in same if at is not None}
            prints = fingerprint([encode_words(row.text) for row in rows])
            for _, number, share in index.overlaps(*prints, MUCH):
                if number < len(places):
                    shares[places[number]] = max(share, shares.get(places[number], 0.0))
    return shares


def _other_held_out(training: Training, items: Sequence[Example]) -> list[str]:
    """The texts that were held out of the same data and are not among the items."""
    asked = {item.id for item in items}
    files = [file.with_name(name) for file in training.files for name in HELD_OUT]
    rows = (row for file in files if file.is_file() for row in read_examples(file))
    return [row.text for row in rows if row.id not in asked]


def announce_seen(what: str, training: Training, seen: int, items: int) -> None:
    """Say how many items a model was trained on, and what is not known of it."""
    if seen:
        console.notice(f"{what}: the model was trained on {seen} of {items} items")
    if training.not_known:
        missing = ", ".join(training.not_known)
        console.notice(f"{what}: whether it was trained on others is not known: {missing} not here")
