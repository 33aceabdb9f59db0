"""The calibrate verb."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medllm import console
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Counts, Manifest, write_json
from medllm.calibrate.analysis import Row, analyze_rows
from medllm.calibrate.bos import without_bos
from medllm.calibrate.config import CalibrateConfig
from medllm.calibrate.overlap import find_overlaps
from medllm.calibrate.report import build_page, show_statistics
from medllm.clinical.specialties import specialty_terms, term_finder
from medllm.data.access import may_show
from medllm.data.draw import Drawing
from medllm.data.example import Example, open_private, prompt_turns, write_jsonl
from medllm.data.fit import SEPARATOR, Fit, Sample
from medllm.data.mix import Mix, find_mix
from medllm.data.registry.datasets import (
    Dataset,
    find_files,
    known_specs,
    open_dataset,
    share_test_groups,
    specs_of,
)
from medllm.data.sample import largest_remainder
from medllm.data.split import rank
from medllm.errors import DataError
from medllm.models.adapter import with_tokenizer
from medllm.models.chat.template import TokenizerTemplate, render_example
from medllm.models.chat.tokens import TokenCounter, digest_tokenizer
from medllm.models.load import load_tokenizer, resolve_model
from medllm.places import data_dir, short_ref

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MEDICAL, GENERAL = "medical", "general"


def calibrate(config: CalibrateConfig) -> Manifest:
    """A calibration set: `calibration.jsonl` and `.txt`, its holdouts, statistics and a report.

    `holdout_medical.jsonl` and `holdout_general.jsonl` come from the validation split. All rows are
    {id, text, source, type, tokens}; `parts.jsonl` has for each the ids of the examples in it, and
    the messages of those that are whole: another chat template can be rendered from them.

    Raises:
        ConfigError: an unknown mix, dataset or list of terms.
        DataError: a dataset is not here, or has too few rows for its quota.
    """
    mixes = {MEDICAL: _mix(config.mix, config), GENERAL: _mix(config.general, config)}
    if "general" not in config.model_fields_set:
        mixes[GENERAL] = _what_is_here(mixes[GENERAL], config)
    names = [name for mix in mixes.values() for name in mix.shares]
    opened = [
        open_dataset(name, data_dir=config.data_dir, accepted=config.data_use)
        for name in dict.fromkeys(names)
    ]
    datasets = dict(zip(dict.fromkeys(names), share_test_groups(opened), strict=True))
    model = with_tokenizer(resolve_model(config.tokenizer, role="tokenizer"))
    tokenizer = replace(model, manifest=None)  # the terms of a model do not follow its tokenizer
    job = Job.of(config, "calibration", "calibrate", "jsonl", tokenizer, *datasets.values())
    job = job.deciding(
        mixes={kind: mix.model_dump(mode="json") for kind, mix in mixes.items()},
        boost_terms=sorted(specialty_terms(config.boost_terms)) if config.boost_terms else None,
        datasets=specs_of(datasets.values()),
    )
    manifest = produce(job, partial(_build, config, mixes, datasets, model.location))
    show_statistics(manifest.results)
    return manifest


def _mix(named: str | Mix, config: CalibrateConfig) -> Mix:
    return named if isinstance(named, Mix) else find_mix(named, config.mix_dir)


def _what_is_here(mix: Mix, config: CalibrateConfig) -> Mix:
    """The mix without what would have to be fetched: nobody asked for these datasets by name.

    Where general text is asked for and none is here, the mix as it is: opening it says what to do.
    """
    folder, specs = config.data_dir or data_dir(), known_specs(config.data_dir)
    shares = {
        name: share
        for name, share in mix.shares.items()
        if name in specs and find_files(folder / name, specs[name])
    }
    if config.general_share and shares.keys() != mix.shares.keys():
        if not shares:
            return mix
        console.notice(f"calibrate: general text comes from {', '.join(shares)} alone")
    return mix.model_copy(update={"shares": shares})


def _build(
    config: CalibrateConfig,
    mixes: Mapping[str, Mix],
    datasets: Mapping[str, Dataset],
    tokenizer: str,
    folder: Path,
) -> Outcome:
    prefer = _mentions(config.boost_terms) if config.boost_terms else None
    loaded = load_tokenizer(tokenizer)
    drawing = Drawing(datasets, _fit(config, loaded), config.split, config.seed, prefer)
    wanted = {MEDICAL: config.samples, GENERAL: round(config.samples * config.general_share)}
    rows = [
        row
        for kind, mix in mixes.items()
        for row in _draw_rows(drawing, mix, wanted[kind], kind, config)
    ]
    rejected = drawing.rejected
    # in mixed order, so that whoever takes only the first texts of the file takes the same mix
    rows.sort(key=lambda row: rank(row["id"], config.seed))
    write_jsonl(folder / "calibration.jsonl", rows)
    _write_plain(folder / "calibration.txt", rows)
    holdouts = {kind: _write_holdout(config, drawing, mixes[kind], kind, folder) for kind in mixes}
    write_jsonl(folder / "parts.jsonl", map(_parts, drawing.drawn.values()))
    overlaps = find_overlaps(rows, config.data_dir, config.data_use, config.split)
    parts = {sample.id: len(sample.parts) for sample in drawing.drawn.values()}
    documents = sum(parts[row["id"]] for row in rows)  # several are packed into one window
    found = analyze_rows(rows, holdouts[MEDICAL], overlaps, documents)
    found |= {f"holdout_{kind}_samples": len(holdout) for kind, holdout in holdouts.items()}
    write_json(folder / "statistics.json", found)
    is_open = may_show(dataset.term for dataset in datasets.values())
    lengths = [row["tokens"] for row in rows]
    about = {
        "mix": config.mix,
        "data": ", ".join(datasets),
        "tokenizer": short_ref(config.tokenizer),
        "recipe": config.recipe,
    }
    page = build_page("Calibration set", found, lengths, about, names_rows=is_open)
    page.write(folder / "report.html")
    counted = {name: len(ids) for name, ids in overlaps.items()}  # ids may be text, too
    results = {**found, "overlaps": counted, "tokenizer": digest_tokenizer(loaded)}
    return Outcome(Counts(examples=len(rows), rejected=rejected), results)


def _write_plain(path: Path, rows: Sequence[Row]) -> None:
    """Write the texts with an empty line between them, as `llama-imatrix -f` takes text."""
    with open_private(path) as file:
        file.writelines(row["text"] + SEPARATOR for row in rows)


def _parts(sample: Sample) -> Row:
    """The examples of a text: their ids, and the turns of those that have a prompt."""
    row: Row = {"id": sample.id, "parts": sample.parts}
    if sample.whole and all(example.prompt for example in sample.whole):
        row["messages"] = [
            [*prompt_turns(example), {"role": "assistant", "content": example.completion}]
            for example in sample.whole
        ]
    return row


def _mentions(name: str) -> Callable[[Example], bool]:
    has_term = term_finder(specialty_terms(name))
    return lambda example: has_term(example.text)


def _fit(config: CalibrateConfig, loaded: "PreTrainedTokenizerBase") -> Fit:
    template = TokenizerTemplate(loaded)

    def render(example: Example) -> str:
        return render_example(template, example).text

    return Fit(
        render,
        TokenCounter(loaded),
        config.min_tokens,
        config.max_tokens,
        config.over_length,
        config.window_tokens,
        partial(without_bos, template),
    )


def _draw_rows(
    drawing: Drawing, mix: Mix, total: int, kind: str, config: CalibrateConfig
) -> list[Row]:
    """The texts of the set of one kind.

    Raises:
        DataError: fewer than `total`; names what each dataset lacks.
    """
    taken = drawing.draw(mix, total, "train", rebalance=config.on_shortage == "rebalance")
    lacking = _lacking(taken, largest_remainder(mix.shares, total))
    if sum(map(len, taken.values())) < total:
        bounds = f"{config.min_tokens} to {config.max_tokens} tokens"
        raise DataError(
            f"{lacking}: too few rows of the training split are {bounds} long",
            "lower --samples or --min-tokens, try --on-shortage rebalance, or change the mix",
        )
    if lacking:
        console.notice(f"calibrate: {lacking}; the other datasets make up for it")
    return _as_rows(taken, kind)


def _lacking(taken: Mapping[str, list[Sample]], quotas: Mapping[str, int]) -> str:
    """Which datasets gave less than their quotas."""
    return "; ".join(
        f"{name}: {len(samples)} of {quotas[name]} samples"
        for name, samples in taken.items()
        if len(samples) < quotas[name]
    )


def _as_rows(taken: Mapping[str, list[Sample]], kind: str) -> list[Row]:
    return [
        {
            "id": sample.id,
            "text": sample.text,
            "source": sample.dataset,
            "type": kind,
            "tokens": sample.tokens,
        }
        for samples in taken.values()
        for sample in samples
    ]


def _write_holdout(
    config: CalibrateConfig, drawing: Drawing, mix: Mix, kind: str, folder: Path
) -> list[Row]:
    """Texts of the validation split, as many as there are up to the number asked for."""
    taken = drawing.draw(mix, config.holdout_samples, "validation", rebalance=True)
    rows, wanted = _as_rows(taken, kind), config.holdout_samples
    why = (
        "the validation split has no more rows of this length" if mix.shares else f"no {kind} text"
    )
    if rows:
        write_jsonl(folder / f"holdout_{kind}.jsonl", rows)
    if len(rows) < wanted:
        told = f"has {len(rows)} of {wanted} texts" if rows else "is not written"
        console.notice(f"calibrate: holdout_{kind}.jsonl {told}: {why}")
    return rows


def describe(manifest: Manifest) -> str:
    """The set in a line: texts by source, and their length."""
    found = manifest.results
    texts, sources = console.counted(found["samples"], "sample"), ", ".join(found["sources"])
    return f"{texts} of {sources}, {found['mean_tokens']:.0f} tokens on average"
