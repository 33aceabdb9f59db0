"""The generate verb."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.digest import digest_file
from medllm.artifacts.job import Job, Outcome, begin_work, produce
from medllm.artifacts.lineage import Input
from medllm.artifacts.manifest import Counts, DataTerm, Manifest, Parent
from medllm.data.example import Message, read_jsonl, write_row
from medllm.data.left_out import LeftOut
from medllm.data.readers.files import check_readable
from medllm.data.readers.reviewed import ContextReader, digest_knowledge
from medllm.data.readers.rows import read_rows
from medllm.data.shapes import read_prompt
from medllm.data.shapes.values import clean, text_of
from medllm.engines.base import Engine, Generates, Piece, Sampling, require
from medllm.engines.open import open_model
from medllm.engines.prompts import ask_messages, takes_messages
from medllm.engines.settings import announce_unused
from medllm.errors import ConfigError, DataError
from medllm.generate.config import GenerateConfig
from medllm.generate.reviewing import Reviewer, describe_review, record_of, show_report, sum_up
from medllm.measures.room import check_room
from medllm.models.gpu import describe_device
from medllm.models.hardware import pick_device
from medllm.models.load import ModelRef, computed_in, resolve_model
from medllm.models.memory import within_memory

NAMED = 5
"""Rows that a notice names."""


@within_memory("generate", "lower generate.n_ctx and max_tokens, or choose a quantized model")
def generate(config: GenerateConfig) -> Manifest | None:
    """Answers to a file of prompts: `generations.jsonl` with rows {id, answer, finish_reason}.

    A prompt that cannot be answered, as it is too long, has no answer but an `error`, and the
    others go on. Where an id stands twice, each of its rows has its number in the file as `row`.

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
    if config.input is None:
        raise ConfigError("nothing to answer", "--prompt TEXT, or --input FILE")
    if not config.input.is_file():
        raise DataError(f"no such data file: {config.input}", "check the path")
    check_readable(config.input)
    model = resolve_model(config.model)
    parent = Parent(kind="source", path=str(config.input), identity=digest_file(config.input))
    term = DataTerm(dataset=config.input.name, licence="undeclared", access="private")
    source = Input(config.input, None, parent, (term,))
    job = Job.of(config, "generation", "generate", "jsonl", model, source)
    if config.review:
        Reviewer.of(config.review)  # wrong rules are told before a model is loaded
        job = job.deciding(review_rules=digest_knowledge(config.review.rules))
    return produce(job, partial(_answer_file, config, config.input, model))


def _answer_on_screen(config: GenerateConfig, prompt: str) -> None:
    """Show the answer as it is written; under review, where it may change, when it is whole."""
    reviewer = Reviewer.of(config.review) if config.review else None
    is_held_back = reviewer is not None and reviewer.policy.action != "annotate"
    pieces = []
    for text in stream_answer(config):
        pieces.append(text)
        if not is_held_back:
            console.show_text(text, end="")
    shown = "".join(pieces)
    if reviewer:
        reviewed = reviewer.review(shown, [Message("user", prompt)])
        console.show_text(reviewed.text if is_held_back else "")
        show_report(reviewed.report)
        console.report(answer=reviewed.text, review=reviewed.report.to_json())
        return
    console.show_text("")
    console.report(answer=shown)


def stream_answer(config: GenerateConfig) -> Iterator[str]:
    """The answer to `config.prompt`, piece by piece.

    Raises:
        ConfigError: there is no prompt.
    """
    if not config.prompt:
        raise ConfigError("nothing to answer", "--prompt TEXT, or --input FILE")
    model = resolve_model(config.model)
    begin_work()
    engine = open_engine(model, config)
    try:
        for piece in answer(engine, (Message("user", clean(config.prompt)),), config):
            yield piece.text
    finally:
        engine.close()


def _answer_file(config: GenerateConfig, source: Path, model: ModelRef, folder: Path) -> Outcome:
    rejected: Counter[str] = Counter()
    reviewer = Reviewer.of(config.review) if config.review else None
    contexts = ContextReader(config.review.context) if config.review else None
    asked = list(_read_prompts(source, rejected, contexts))
    if not asked:
        fix = "name the column `prompt`, `question` or `messages`"
        raise DataError(f"{source}: no row has a prompt", fix)
    path = folder / "generations.jsonl"
    done = _done(path)
    engine = open_engine(model, config)
    progress = console.progress("generate", len(asked))
    with path.open("a", encoding="utf-8") as file, progress as advance:
        path.chmod(0o600)
        advance(done)
        for prompt in asked[done:]:
            write_row(file, _row_of(engine, prompt, config, reviewer))
            file.flush()
            advance(1)
    results = {**_decided_by(engine, config), **_count_ids(asked)}
    engine.close()
    results["computed_in"] = computed_in(model, config.dtype)
    if reviewer and contexts:
        records = (row["review"] for row in read_jsonl(path) if "review" in row)
        known = sum(prompt.patient is not None for prompt in asked)
        told = {"patient_contexts": known, "passages_in_their_column": contexts.passages}
        results["review"] = {**sum_up(records, reviewer), **told}
    if failed := _count_failed(source, asked, path):
        rejected["cannot be answered"] = failed
    counts = Counts(examples=len(asked) - failed, rejected=dict(rejected))
    return Outcome(counts, results, describe_device(pick_device()))


def _count_failed(source: Path, asked: Sequence["_Prompt"], answers: Path) -> int:
    """How many prompts have no answer; says which. Where none has one, that is an error."""
    rows = zip(asked, read_jsonl(answers), strict=True)
    failed = {prompt.number: row["error"] for prompt, row in rows if "error" in row}
    if failed:
        first = next(iter(failed.values()))
        told = f"{_named([*failed])} of {source.name} cannot be answered: {first}"
        if len(failed) == len(asked):
            raise DataError(told, "shorten the prompts, or raise n_ctx")
        console.notice(f"generate: {told}; the others are")
    return len(failed)


@dataclass(frozen=True, slots=True)
class _Prompt:
    number: int
    """Of the row in the file, from 1."""
    id: str
    messages: tuple[Message, ...]
    is_twice: bool = False
    """Whether another row has this id."""
    patient: Mapping[str, Any] | None = None
    """What is known of the patient, for a review; the model is not told of it."""


def _read_prompts(
    source: Path, rejected: Counter[str], contexts: ContextReader | None
) -> Iterator[_Prompt]:
    """The rows that have a prompt; the others are counted by reason, and named."""
    prompts, left_out = [], []
    for number, row in enumerate(read_rows(source), 1):
        patient = None
        if contexts:
            row, patient = contexts.split(row, f"{source}: row {number}")
        try:
            messages = read_prompt(row)
            if not messages:
                raise LeftOut("no prompt")
            id_ = text_of(row.get("id")) or str(number)
            prompts.append(_Prompt(number, id_, messages, patient=patient))
        except LeftOut as problem:
            rejected[str(problem)] += 1
            left_out.append(number)
    if left_out and prompts:
        console.notice(f"generate: no prompt in {_named(left_out)} of {source.name}")
    ids = Counter(prompt.id for prompt in prompts)
    return (replace(prompt, is_twice=ids[prompt.id] > 1) for prompt in prompts)


def _count_ids(prompts: Sequence[_Prompt]) -> dict[str, int]:
    """How many rows share an id with another; says so."""
    twice = [prompt.number for prompt in prompts if prompt.is_twice]
    if twice:
        console.notice(f"generate: {_named(twice)} share an id: `row` tells them apart")
    return {"rows_that_share_an_id": len(twice)}


def _named(rows: Sequence[int]) -> str:
    """The numbers of some rows, the first of them."""
    more = f" and {len(rows) - NAMED} others" if len(rows) > NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:NAMED]))}{more}"


def _row_of(
    engine: Generates, prompt: _Prompt, config: GenerateConfig, reviewer: Reviewer | None
) -> dict[str, Any]:
    """A row of the result: the answer and its review, or why there is none."""
    row: dict[str, Any] = {"id": prompt.id} | ({"row": prompt.number} if prompt.is_twice else {})
    try:
        pieces = list(answer(engine, prompt.messages, config))
    except DataError as problem:
        return {**row, "answer": None, "finish_reason": "error", "error": problem.message}
    text = "".join(piece.text for piece in pieces)
    row = {**row, "answer": text, "finish_reason": pieces[-1].finish_reason}
    if reviewer is None:
        return row
    reviewed = reviewer.review(text, prompt.messages, prompt.patient)
    return {**row, "answer": reviewed.text, "review": record_of(reviewed.report)}


def open_engine(model: ModelRef, config: GenerateConfig) -> Generates:
    """The loaded model; says what its answers do not depend on, though one might think so."""
    check_room("generate", model, config.dtype)
    opened = open_model(model, n_ctx=config.n_ctx, dtype=config.dtype)
    engine = require(opened, Generates, "generate")
    if not takes_messages(engine):
        console.notice("generate: the model has no chat template: prompts are given as they are")
    announce_unused("generate", engine.unused_settings)
    return engine


def _decided_by(engine: Engine, config: GenerateConfig) -> dict[str, Any]:
    """What decided the answers."""
    sampling = {"temperature": config.temperature, "top_p": config.top_p, "seed": config.seed}
    return {
        "engine": engine.name,
        "n_ctx": engine.context_length,
        "chat_template": takes_messages(engine),
        "sampling": {"max_tokens": config.max_tokens, **sampling, "stop": list(config.stop)},
        "unused_settings": dict(engine.unused_settings),
    }


def _done(path: Path) -> int:
    """How many whole answers an interrupted run left; a torn last line is cut off."""
    if not path.is_file():
        return 0
    whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    path.write_bytes(b"".join(whole))
    return len(whole)


def answer(
    engine: Generates, messages: tuple[Message, ...], config: GenerateConfig
) -> Iterator[Piece]:
    """The answer to a conversation, piece by piece, as a section asks for it.

    Raises:
        DataError: it leaves no room for an answer, or the chat template refuses it.
    """
    if config.system and messages[0].role != "system":
        messages = (Message("system", clean(config.system)), *messages)
    limit, seed = config.max_tokens, config.seed
    sampling = Sampling(limit, config.temperature, config.top_p, seed, config.stop)
    yield from engine.generate(ask_messages(engine, messages, sampling))


def describe(manifest: Manifest) -> str:
    """The answers in a line: how many, and how risky where they were reviewed."""
    items = console.counted(manifest.counts.examples or 0, "item")
    review = manifest.results.get("review")
    return f"{items}: {describe_review(review)}" if review else items


def show_details(manifests: Sequence[Manifest], folders: Sequence[Path]) -> None:
    """Show what a review found by rule."""
    for manifest in manifests:
        if found := manifest.results.get("review", {}).get("findings"):
            console.table(("rule", "kind", "severity", "answers"), found, title="findings")
