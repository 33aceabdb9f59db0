"""The generate verb."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from medllm import console
from medllm.artifacts.digest import digest_file
from medllm.artifacts.job import Job, Outcome, produce
from medllm.artifacts.manifest import Counts, DataTerm, Manifest, Parent, join_terms
from medllm.data.example import Message
from medllm.data.readers import read_rows
from medllm.data.shapes import read_prompt
from medllm.engines.base import Engine, Piece, Sampling
from medllm.engines.open import open_model
from medllm.errors import ConfigError, DataError
from medllm.generate.config import GenerateConfig
from medllm.models.load import ModelRef, resolve_model


def generate(config: GenerateConfig) -> Manifest:
    """Answers to a file of prompts: `generations.jsonl` with rows {id, answer, finish_reason}.

    An interrupted run goes on where it stopped.

    Raises:
        ConfigError: no input is named.
        DataError: the file is missing or damaged, or holds no prompt.
        ArtifactError: the model is missing, altered or unfinished.
    """
    if config.input is None:
        raise ConfigError("nothing to answer", "--prompt TEXT, or --input FILE")
    if not config.input.is_file():
        raise DataError(f"no such data file: {config.input}", "check the path")
    model = resolve_model(config.model)
    source = Parent(kind="source", path=str(config.input), identity=digest_file(config.input))
    term = DataTerm(dataset=config.input.name, licence="undeclared", access="private")
    job = Job.of(
        config,
        "generation",
        "generate",
        format="jsonl",
        parents=(model.parent, source),
        data_terms=join_terms(model.data_terms, [term]),
        base_model=model.base,
    )
    return produce(job, partial(_answer_file, config, config.input, model))


def stream_answer(config: GenerateConfig) -> Iterator[str]:
    """The answer to `config.prompt`, piece by piece.

    Raises:
        ConfigError: there is no prompt.
    """
    if not config.prompt:
        raise ConfigError("nothing to answer", "--prompt TEXT, or --input FILE")
    engine = open_model(resolve_model(config.model), n_ctx=config.n_ctx)
    try:
        for piece in _answer(engine, (Message("user", config.prompt),), config):
            yield piece.text
    finally:
        engine.close()


def _answer_file(config: GenerateConfig, source: Path, model: ModelRef, folder: Path) -> Outcome:
    prompts = [
        (str(row.get("id", number)), read_prompt(row))
        for number, row in enumerate(read_rows(source), 1)
    ]
    rejected = {"no prompt": sum(1 for _, prompt in prompts if not prompt)}
    asked = [(identity, prompt) for identity, prompt in prompts if prompt]
    if not asked:
        raise DataError(
            f"{source}: no row has a prompt", "name the column `prompt`, `question` or `messages`"
        )
    path = folder / "generations.jsonl"
    done = _done(path)
    engine = open_model(model, n_ctx=config.n_ctx)
    with (
        path.open("a", encoding="utf-8") as file,
        console.progress("generate", len(asked)) as advance,
    ):
        path.chmod(0o600)
        for number, (identity, prompt) in enumerate(asked):
            if number >= done:
                pieces = list(_answer(engine, prompt, config))
                answer = "".join(piece.text for piece in pieces)
                row = {"id": identity, "answer": answer, "finish_reason": pieces[-1].finish_reason}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
            advance(1)
    engine.close()
    return Outcome(Counts(examples=len(asked), rejected={k: v for k, v in rejected.items() if v}))


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
        ids = engine.encode(
            "\n".join(message.content for message in messages), add_special_tokens=True
        )
    room = engine.context_length - len(ids)
    if room < 1:
        raise DataError(
            f"a prompt has {len(ids)} tokens, the context {engine.context_length}",
            "shorten it, or raise n_ctx",
        )
    sampling = Sampling(
        min(config.max_tokens, room), config.temperature, config.top_p, config.seed, config.stop
    )
    yield from engine.generate(ids, sampling)
