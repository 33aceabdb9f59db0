"""Stages: what a model writes of each text is the text that the next model gets.

Each stage streams to a file of its own and resumes there. A model is loaded when the one before it
is gone, and the memory of the process is measured around each.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medllm import console
from medllm.artifacts.job import Outcome
from medllm.artifacts.manifest import Counts, write_atomically
from medllm.data.example import Message, read_jsonl, write_row
from medllm.engines.base import Generates
from medllm.engines.row_file import RowFile
from medllm.generate.batch import TOO_LONG, Writer
from medllm.generate.compression import Compressed, announce_flips, measure_all, write_tables
from medllm.generate.config import GenerateConfig, Stage
from medllm.generate.judging import count_cut, sum_up_answers
from medllm.generate.opening import decided_by, open_engine
from medllm.generate.prompts import Prompt, count_failed, count_ids, read_prompts
from medllm.measures.text.answers import written_whole
from medllm.models.adapter import adapter_config, base_of
from medllm.models.adapter_tensors import build_on_paper, describe_on_paper
from medllm.models.chat.pieces import JOINT
from medllm.models.gpu import describe_device
from medllm.models.hardware import pick_device
from medllm.models.load import ModelRef, computed_in
from medllm.models.memory import release_memory, share_heap, used_gib

STAGES = "stages.json"
"""What decided each stage and the memory that it took: no part of an identity (`VOLATILE`)."""
RETURNED = 0.1
"""Memory counts as given back where so much more than before is held at most, as a share."""

Memory = dict[str, float | None]
"""In GiB, by when it was measured; None where it cannot be."""
Rows = Mapping[int, Mapping[str, Any]]
"""By the number of their prompt."""


def section_of(config: GenerateConfig, stage: Stage) -> GenerateConfig:
    """The section by which a stage writes; what the stage does not name is as in its section.

    `quantization` belongs to the model: it comes from where that is named. Marks of answers, as
    `abstain_below`, are of the last stage alone.
    """
    own = {name: getattr(stage, name) for name in _names_of(stage)}
    if stage.model:
        own["quantization"] = stage.quantization
    if "over_length" not in config.model_fields_set:
        own["over_length"] = stage.over_length
    if stage != config.stages[-1]:
        own |= {"abstain_below": None, "max_words": None}
    return config.model_copy(update=own)


def announce_other(config: GenerateConfig, stage: Stage) -> None:
    """Say which settings of the section a stage has otherwise, as they are not used there."""
    named = _names_of(stage) & config.model_fields_set - {"model", "quantization"}
    if other := [n for n in sorted(named) if getattr(stage, n) != getattr(config, n)]:
        console.notice(f"generate: stage {stage.name} has its own {', '.join(other)}")


def _names_of(stage: Stage) -> set[str]:
    """The keys of a section that a stage names."""
    keys = stage.model_fields_set & GenerateConfig.model_fields.keys()
    return {key for key in keys if getattr(stage, key) is not None}


def answer_in_stages(
    config: GenerateConfig, source: Path, models: Sequence[ModelRef], folder: Path
) -> Outcome:
    """Write the files of all stages, the final answers and the tables; tell what came of it."""
    rejected: Counter[str] = Counter()
    asked = read_prompts(source, rejected, None, of_texts=True)
    _try_addresses(config, models[1:])
    texts = {prompt.number: prompt.messages[-1].content for prompt in asked}
    written: list[Rows] = []
    notes = []
    for number, stage in enumerate(config.stages, 1):
        before = texts if not written else {n: row["answer"] for n, row in written[-1].items()}
        prompts = [
            replace(prompt, messages=(Message("user", f"{stage.instruction}{JOINT}{text}"),))
            for prompt in asked
            if (text := before.get(prompt.number))
        ]
        path = folder / f"stage-{number}-{stage.name}.jsonl"
        notes.append(_run(section_of(config, stage), stage, models[number - 1], prompts, path))
        rows = zip(prompts, read_jsonl(path), strict=True)
        written.append({prompt.number: row for prompt, row in rows})
    walked = _Walked(asked, written)
    if count_failed(source, walked.failed, len(asked), TOO_LONG):
        rejected["cannot be answered"] = len(walked.failed)
    results = {"stages": notes, **count_ids(asked), **_finish(config, walked, notes, folder)}
    counts = Counts(examples=len(walked.done), rejected=dict(rejected))
    return Outcome(counts, results, describe_device(pick_device()))


def _try_addresses(config: GenerateConfig, models: Sequence[ModelRef]) -> None:
    """See that the addresses of later stages answer, before the first one writes for hours."""
    for stage, model in zip(config.stages[1:], models, strict=True):
        if model.is_elsewhere:
            open_engine(model, section_of(config, stage)).close()


def _run(
    config: GenerateConfig, stage: Stage, model: ModelRef, prompts: Sequence[Prompt], path: Path
) -> dict[str, Any]:
    """Write the answers of a stage; what decided them and the memory that it took."""
    notes, file = path.parent / STAGES, RowFile(path)
    known: dict[str, Any] = json.loads(notes.read_text("utf-8")) if notes.is_file() else {}
    if file.is_whole and stage.name in known:
        return dict(known[stage.name])
    told: dict[str, Any] = {"stage": stage.name, "model": model.ref}
    told["quantization"] = model.quantization
    what = f"stage {stage.name}"

    def write(engine: Generates) -> None:
        Writer(engine, config, instruction=stage.instruction + JOINT, what=what).write(
            prompts, file
        )

    if prompts and not file.is_whole:
        with _measured(model, told) as memory:
            told |= _with_engine(model, config, memory, write)
        told["computed_in"] = computed_in(model, config.dtype)
        told["answers_cut"] = count_cut(read_jsonl(path), what)
        _announce_memory(stage.name, told["memory_gib"])
    elif not prompts:
        path.touch(mode=0o600)
    write_atomically(notes, json.dumps({**known, stage.name: told}))
    return told


def _with_engine(
    model: ModelRef, config: GenerateConfig, memory: Memory, write: Callable[[Generates], None]
) -> dict[str, Any]:
    """Load the model, let it write, and leave nothing of it; what decided its answers."""
    with closing(open_engine(model, config)) as engine:
        write(engine)
        memory["loaded"] = used_gib(pick_device())
        return decided_by(engine, config)


@contextmanager
def _measured(model: ModelRef, told: dict[str, Any]) -> Iterator[Memory]:
    """What takes the memory with the model; before it and once it is gone are measured here."""
    share_heap()
    _import_libraries(model)
    device = pick_device()
    release_memory()
    memory: Memory = {"before": used_gib(device)}
    try:
        yield memory
    finally:
        release_memory()
        memory["after"] = used_gib(device)
        told["memory_gib"] = memory


def _import_libraries(model: ModelRef) -> None:
    """Import what loading a model imports, its architecture, too: that stays when it is gone."""
    needed = {"transformers": True, "peft": model.is_adapter, "bitsandbytes": model.quantization}
    with console.quiet():
        for name in (name for name, is_needed in needed.items() if is_needed and find_spec(name)):
            import_module(name)
    if model.is_adapter:
        describe_on_paper(base_of(model).location, model.path, adapter_config(model))
    elif not (model.is_gguf or model.is_elsewhere):
        build_on_paper(model.location)


def _announce_memory(stage: str, memory: Mapping[str, float | None]) -> None:
    """Say where memory was not given back, and how much of the model's was."""
    before, loaded, after = (memory.get(name) for name in ("before", "loaded", "after"))
    if before and loaded and after and after > (1 + RETURNED) * before:
        share = min((loaded - after) / max(loaded - before, 1e-9), 1)
        held = f"{after:.2f} GiB are held after it, {before:.2f} before"
        of_model = f"{100 * max(share, 0):.0f} % of what the model took was given back"
        console.notice(f"generate: stage {stage}: {held}; {of_model}")


@dataclass(frozen=True)
class _Walked:
    """Prompts, and the rows of each stage."""

    asked: Sequence[Prompt]
    written: Sequence[Rows]

    @cached_property
    def failed(self) -> dict[int, str]:
        """Why prompts have no final answer, by their number."""
        failed: dict[int, str] = {}
        for prompt in self.asked:
            rows = [rows[prompt.number] for rows in self.written if prompt.number in rows]
            if "error" in rows[-1]:
                failed[prompt.number] = rows[-1]["error"]
            elif len(rows) < len(self.written):
                failed[prompt.number] = f"stage {len(rows)} wrote nothing"
        return failed

    @property
    def done(self) -> list[Prompt]:
        """The others."""
        return [prompt for prompt in self.asked if prompt.number not in self.failed]

    def row_of(self, prompt: Prompt, measured: Mapping[str, Any]) -> dict[str, Any]:
        """Its row of the result."""
        if prompt.number not in self.failed:
            return {**self.written[-1][prompt.number], **measured}
        told = {"answer": None, "finish_reason": "error", "error": self.failed[prompt.number]}
        return prompt.names | told


def _chain(prompt: Prompt, walked: _Walked) -> Compressed:
    rows = [rows[prompt.number] for rows in walked.written]
    whole = [written_whole(row["answer"], row["finish_reason"]) for row in rows]
    return Compressed(prompt, [row["answer"] for row in rows], whole)


def _finish(
    config: GenerateConfig, walked: _Walked, notes: Sequence[Mapping[str, Any]], folder: Path
) -> dict[str, Any]:
    """Write the final answers and the tables; the numbers of all."""
    chains = [_chain(prompt, walked) for prompt in walked.done]
    measured, summary = measure_all(chains, config.encoder)
    by_number = {chain.prompt.number: told for chain, told in zip(chains, measured, strict=True)}
    announce_flips(by_number)
    rows = [walked.row_of(each, by_number.get(each.number, {})) for each in walked.asked]
    path = folder / "generations.jsonl"
    with path.open("w", encoding="utf-8") as file:
        path.chmod(0o600)
        for row in rows:
            write_row(file, row)
    results = {
        **sum_up_answers(rows, [prompt.reference for prompt in walked.asked]),
        "compression": summary,
    }
    names = [f"{number}-{stage.name}" for number, stage in enumerate(config.stages, 1)]
    decided = [{key: note[key] for key in note if key != "memory_gib"} for note in notes]
    write_tables(folder, names, chains, measured, {"stages": decided, **results})
    return results
