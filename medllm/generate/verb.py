"""The generate verb."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from medllm import console
from medllm.artifacts.digest import digest_file
from medllm.artifacts.job import Job, begin_work, produce
from medllm.artifacts.lineage import Input
from medllm.artifacts.manifest import DataTerm, Manifest, Parent
from medllm.data.example import Message
from medllm.data.readers.files import check_readable
from medllm.data.readers.reviewed import digest_knowledge
from medllm.data.shapes.values import clean
from medllm.engines.base import Piece
from medllm.errors import ConfigError, DataError, MedllmError
from medllm.generate.batch import answer_file, show_numbers
from medllm.generate.compression import show_compression
from medllm.generate.config import GenerateConfig
from medllm.generate.judging import describe_answers
from medllm.generate.opening import announce_cut, announce_of_files, answer, open_engine, resolve
from medllm.generate.reviewing import Reviewer, describe_review, show_report
from medllm.generate.stages import announce_other, answer_in_stages, section_of
from medllm.measures.text.bertscore import NO_ENCODER, digest_encoder
from medllm.models.memory import within_memory


@within_memory("generate", "lower generate.n_ctx and max_tokens, or choose a quantized model")
def generate(config: GenerateConfig) -> Manifest | None:
    """Answers to a file of prompts: `generations.jsonl` with rows {id, answer, finish_reason}.

    A prompt that cannot be answered, as it is too long, has no answer but an `error`, and the
    others go on. Where an id stands twice, each of its rows has its number in the file as `row`.

    With `stages` several models write one after another, each of what the one before it wrote.
    An interrupted run resumes where it stopped. A `prompt` is answered on the screen instead, and
    leaves no manifest.

    Raises:
        ConfigError: no input is named.
        DataError: the file is missing or damaged, or holds no prompt that can be answered.
        ArtifactError: the model is missing, altered or unfinished.
    """
    if config.prompt is not None:
        _answer_on_screen(config, config.prompt)
        return None
    source = _source_of(config)
    for stage in config.stages:
        announce_other(config, stage)
    sections = [section_of(config, stage) for stage in config.stages] or [config]
    models = [resolve(section) for section in sections]
    parent = Parent(kind="source", path=str(source), identity=digest_file(source))
    term = DataTerm(dataset=source.name, licence="undeclared", access="private")
    given = Input(source, None, parent, (term,))
    job = Job.of(config, "generation", "generate", "jsonl", *models, given)
    if config.encoder:
        job = job.deciding(encoder=_digest_encoder(config.encoder))
    if config.review:
        Reviewer.of(config.review)  # wrong rules are told before a model is loaded
        job = job.deciding(review_rules=digest_knowledge(config.review.rules))
    if config.stages:
        return produce(job, partial(answer_in_stages, config, source, models))
    return produce(job, partial(answer_file, config, source, models[0]))


def _digest_encoder(ref: str) -> str:
    """The digest of its files; where it is not here, that is said before anything is written."""
    digest = digest_encoder(ref)
    if digest == NO_ENCODER:
        console.notice(f"generate: there is no encoder {ref} here: no BERTScore is computed")
    return digest


def check_ahead(config: GenerateConfig) -> None:
    """What can be known before the model is made.

    Raises:
        ConfigError, DataError: there is nothing to answer, or it cannot be read.
    """
    if config.prompt is None:
        _source_of(config)


def _source_of(config: GenerateConfig) -> Path:
    if config.input is None:
        fix = "--input FILE, in a recipe `generate: {input: FILE}`"
        fix += "" if config.stages else "; or --prompt TEXT"
        raise ConfigError("nothing to answer", fix)
    if not config.input.is_file():
        is_folder = config.input.is_dir()
        what = "a folder, no data file" if is_folder else "no such data file"
        raise DataError(f"{what}: {config.input}", "name a file of prompts")
    check_readable(config.input)
    return config.input


def _answer_on_screen(config: GenerateConfig, prompt: str) -> None:
    """Show the answer as it is written; under review, where it may change, when it is whole."""
    reviewer = Reviewer.of(config.review) if config.review else None
    is_held_back = reviewer is not None and reviewer.policy.action != "annotate"
    texts, reason = [], None
    try:
        for piece in _stream(config):
            texts.append(piece.text)
            reason = piece.finish_reason
            if not is_held_back:
                console.show_text(piece.text, end="")
    except MedllmError:
        console.show_text("", end="\n" if texts else "")
        raise
    shown = "".join(texts)
    if reviewer:
        reviewed = reviewer.review(shown, prompt, config.system or "")
        console.show_text(reviewed.text if is_held_back else "")
        show_report(reviewed.report)
        console.report(answer=reviewed.text, review=reviewed.report.to_json())
    else:
        console.show_text("")
        console.report(answer=shown)
    if reason == "length":
        announce_cut(config)


def stream_answer(config: GenerateConfig) -> Iterator[str]:
    """The answer to `config.prompt`, piece by piece.

    Raises:
        ConfigError: there is no prompt.
    """
    return (piece.text for piece in _stream(config))


def _stream(config: GenerateConfig) -> Iterator[Piece]:
    """The pieces of the answer, the last of which says why it ended."""
    if not config.prompt:
        raise ConfigError("nothing to answer", "--prompt TEXT")
    model = resolve(config)
    announce_of_files("generate", config)
    begin_work()
    engine = open_engine(model, config)
    try:
        yield from answer(engine, (Message("user", clean(config.prompt)),), config)
    finally:
        engine.close()


def describe(manifest: Manifest) -> str:
    """The answers in a line: how many, how sure, and how risky where they were reviewed."""
    items = console.counted(manifest.counts.examples or 0, "item")
    review = manifest.results.get("review")
    told = [describe_answers(manifest.results), describe_review(review) if review else ""]
    return ": ".join(filter(None, [items, "; ".join(filter(None, told))]))


def show_details(manifests: Sequence[Manifest], folders: Sequence[Path]) -> None:
    """Show how far confidence goes, and what a review found by rule."""
    for manifest in manifests:
        show_numbers(manifest.results)
        show_compression(manifest.results.get("compression", {}))
        if found := manifest.results.get("review", {}).get("findings"):
            console.table(("rule", "kind", "severity", "answers"), found, title="findings")
