"""Which texts of a calibration set stand in an evaluation set too."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from medllm.calibrate.analysis import Row
from medllm.data.dedup import OverlapIndex, encode_words, fingerprint
from medllm.data.registry.datasets import find_files, known_specs, open_dataset
from medllm.data.split import MUCH, SplitConfig
from medllm.places import data_dir as default_data_dir

OWN = SplitConfig()
"""The split of who names none."""


def find_overlaps(
    rows: Sequence[Row], data_dir: Path | None, accepted: Collection[str], split: SplitConfig = OWN
) -> dict[str, list[str]]:
    """For each evaluation set on this machine, the ids of the rows that hold text of it.

    What `split` holds out of a generated dataset is one, where rows are drawn from that dataset.
    """
    prints = fingerprint([encode_words(row["text"]) for row in rows])
    sources = {str(row["source"]) for row in rows}
    return {
        name: sorted({rows[row]["id"] for row, _, _ in index.overlaps(*prints, MUCH)})
        for name, index in _evaluation_sets(sources, data_dir, accepted, split)
    }


def _evaluation_sets(
    sources: Collection[str], data_dir: Path | None, accepted: Collection[str], split: SplitConfig
) -> Iterator[tuple[str, OverlapIndex]]:
    """The official test sets whose files are here and may be read, and those of generated data."""
    folder = data_dir or default_data_dir()
    for name, spec in sorted(known_specs(folder).items()):
        has_test = spec.test_ids is not None or "test" in spec.splits
        may_read = spec.access != "credentialed" or (spec.agreement or name) in accepted
        is_official = has_test and may_read and find_files(folder / name, spec)
        if is_official or (spec.is_generated and name in sources):
            dataset = open_dataset(name, data_dir=folder, accepted=accepted)
            rows = dataset.in_split("test", OWN if is_official else split)
            if texts := [encode_words(row.text) for row in rows]:
                yield name, OverlapIndex(*fingerprint(texts))
