"""The generate verb."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from medllm import console
from medllm.artifacts.digest import digest_file
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.lineage import Input
from medllm.artifacts.manifest import Counts, DataTerm, Manifest, Parent
from medllm.data.example import Message, write_row
from medllm.data.readers import read_rows
from medllm.data.shapes import read_prompt
from medllm.data.shapes.values import LeftOut, text_of
from medllm.engines.base import Engine, Piece, Sampling
from medllm.engines.open import open_model
from medllm.errors import ConfigError, DataError
from medllm.generate.config import GenerateConfig
from medllm.models.hardware import pick_device
from medllm.models.load import ModelRef, computed_in, resolve_model
from medllm.models.memory import within_memory


@within_memory("generate", "lower generate.n_ctx and max_tokens, or choose a quantized model")
def generate(config: GenerateConfig) -> Manifest | None:
    """Answers to a file of prompts: `generations.jsonl` with rows {id, answer, finish_reason}.

    An interrupted run goes on where it stopped. A `prompt` is answered on the screen instead, and
    leaves no manifest.

    Raises:
        ConfigError: no input is named.
        DataError: the file is missing or damaged, or holds no prompt.
        ArtifactError: the model is missing, altered or unfinished.
    """
    if config.prompt is not None:
        for text in stream_answer(config):
            console.show_text(text, end="")
        console.show_text("")
        return None
    if config.input is None:
        raise ConfigError("nothing to answer", "--prompt TEXT, or --input FILE")
    if not config.input.is_file():
        raise DataError(f"no such data file: {config.input}", "check the path")
    model = resolve_model(config.model)
    parent = Parent(kind="source", path=str(config.input), identity=digest_file(config.input))
    term = DataTerm(dataset=config.input.name, licence="undeclared", access="private")
    source = Input(config.input, None, parent, (term,))
    job = Job.of(config, "generation", "generate", "jsonl", model, source)
    return produce(job, partial(_answer_file, config, config.input, model))


def stream_answer(config: GenerateConfig) -> Iterator[str]:
    """The answer to `config.prompt`, piece by piece.

    Raises:
        ConfigError: there is no prompt.
    """
    if not config.prompt:
        raise ConfigError("nothing to answer", "--prompt TEXT, or --input FILE")
    engine = open_model(resolve_model(config.model), n_ctx=config.n_ctx, dtype=config.dtype)
    try:
        for piece in _answer(engine, (Message("user", config.prompt),), config):
            yield piece.text
    finally:
        engine.close()


def _answer_file(config: GenerateConfig, source: Path, model: ModelRef, folder: Path) -> Outcome:
    rejected: Counter[str] = Counter()
    asked = list(_read_prompts(source, rejected))
    if not asked:
        fix = "name the column `prompt`, `question` or `messages`"
        raise DataError(f"{source}: no row has a prompt", fix)
    path = folder / "generations.jsonl"
    done = _done(path)
    engine = open_model(model, n_ctx=config.n_ctx, dtype=config.dtype)
    progress = console.progress("generate", len(asked))
    with path.open("a", encoding="utf-8") as file, progress as advance:
        path.chmod(0o600)
        advance(done)
        for identity, prompt in asked[done:]:
            pieces = list(_answer(engine, prompt, config))
            answer = "".join(piece.text for piece in pieces)
            ending = pieces[-1].finish_reason
            write_row(file, {"id": identity, "answer": answer, "finish_reason": ending})
            file.flush()
            advance(1)
    engine.close()
    results = {"computed_in": computed_in(model, config.dtype)}
    return Outcome(Counts(examples=len(asked), rejected=dict(rejected)), results, pick_device())


def _read_prompts(
    source: Path, rejected: Counter[str]
) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """The id and the prompt of each row that has one; the others are counted by reason."""
    for number, row in enumerate(read_rows(source), 1):
        try:
            prompt = read_prompt(row)
            if not prompt:
                raise LeftOut("no prompt")
            yield text_of(row.get("id")) or str(number), prompt
        except LeftOut as problem:
            rejected[str(problem)] += 1


def _done(path: Path) -> int:
    """How many whole answers an interrupted run left; a torn last line is cut off."""
    if not path.is_file():
        return 0
    whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    path.write_bytes(b"".join(whole))
    return len(whole)


def _answer(
    engine: Engine, messages: tuple[Message, ...], config: GenerateConfig
) -> Iterator[Piece]:
    if engine.has_chat_template:
        ids = engine.encode(engine.render(messages), add_special_tokens=False)
    else:
        text = "\n".join(message.content for message in messages)
        ids = engine.encode(text, add_special_tokens=True)
    room = engine.context_length - len(ids)
    if room < 1:
        message = f"a prompt has {len(ids)} tokens, the context {engine.context_length}"
        raise DataError(message, "shorten it, or raise n_ctx")
    limit = min(config.max_tokens, room)
    sampling = Sampling(limit, config.temperature, config.top_p, config.seed, config.stop)
    yield from engine.generate(ids, sampling)
