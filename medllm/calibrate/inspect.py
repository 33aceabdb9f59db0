"""The report of a calibration set that somebody else made, or of any file of texts."""

from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.manifest import write_json
from medllm.calibrate.analysis import Row, analyze_rows
from medllm.calibrate.config import CalibrateConfig
from medllm.calibrate.overlap import find_overlaps
from medllm.calibrate.report import build_page, show_statistics
from medllm.data.access import may_show, stand_ins
from medllm.data.example import Example
from medllm.data.registry.datasets import Dataset, keep_examples, open_dataset
from medllm.errors import ConfigError, DataError
from medllm.models.adapter import with_tokenizer
from medllm.models.chat.tokens import TokenCounter
from medllm.models.load import load_tokenizer, resolve_model
from medllm.places import short_ref


def analyze(path: Path, config: CalibrateConfig, output: Path | None = None) -> dict[str, Any]:
    """The statistics of a file's texts; shown, and written to `output` where that is named.

    Of the configuration it takes the tokenizer, where the data lie, and the agreements.

    Raises:
        ConfigError: the output holds a report already.
        DataError: there is no such file, or it holds no texts.
    """
    if output and any((output / name).exists() for name in ("report.html", "statistics.json")):
        raise ConfigError(f"{output} holds a report already", "name another --output")
    dataset = open_dataset(str(path), data_dir=config.data_dir, accepted=config.data_use)
    is_open = may_show([dataset.term])
    rows = _read(dataset, names_sources=is_open)
    if not rows:
        raise DataError(f"{path}: holds no texts", "a text file, or rows with a `text` column")
    model = with_tokenizer(resolve_model(config.tokenizer, role="tokenizer"))
    counter = TokenCounter(load_tokenizer(model.location))
    for row, tokens in zip(rows, counter.count([row["text"] for row in rows]), strict=True):
        row["tokens"] = tokens
    found = analyze_rows(rows, overlaps=find_overlaps(rows, config.data_dir, config.data_use))
    show_statistics(found)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        lengths = [row["tokens"] for row in rows]
        about = {"file": path.name, "tokenizer": short_ref(config.tokenizer)}
        page = build_page(f"Texts of {path.name}", found, lengths, about, names_rows=is_open)
        page.write(output / "report.html")
        write_json(output / "statistics.json", found)
    return found


def _read(dataset: Dataset, *, names_sources: bool) -> list[Row]:
    rejected: dict[str, int] = {}
    rows = [
        {"id": row.id, "text": row.text, "source": _source_of(row)}
        for row in keep_examples(dataset.examples(), rejected)
    ]
    if rejected:
        counted = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
        console.notice(f"{dataset.name}: left out: {counted}")
    if not names_sources:
        names = stand_ins((row["source"] for row in rows), "source", {dataset.name})
        return [{**row, "source": names[row["source"]]} for row in rows]
    return rows


def _source_of(row: Example) -> str:
    said = row.metadata.get("source")
    return said if isinstance(said, str) else row.dataset
