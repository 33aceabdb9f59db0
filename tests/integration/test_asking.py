"""Generate and evaluate: what cannot be asked, what is cut and what decides answers is said."""

import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from medllm import console
from medllm.artifacts.manifest import Manifest
from medllm.cli.main import run_command
from medllm.data.example import read_jsonl
from medllm.engines.base import GenerateRequest, Piece
from medllm.errors import ArtifactError, DataError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.verb import evaluate
from medllm.generate.config import GenerateConfig
from medllm.generate.verb import generate, stream_answer
from medllm.models.load import resolve_model, save_tokenizer


@pytest.fixture(scope="module")
def plain(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without a chat template, with settings that it wants to be sampled by."""
    folder = tmp_path_factory.mktemp("models") / "plain"
    shutil.copytree(tiny_model, folder, copy_function=shutil.copyfile)
    for file in folder.glob("chat_template*"):
        file.unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    named = {"eos_token_id": [2], "do_sample": True, "top_k": 20, "repetition_penalty": 1.1}
    (folder / "generation_config.json").write_text(json.dumps(named))
    return folder


def answer_rows(
    model: Path, tmp_path: Path, rows: list[object]
) -> tuple[Manifest, list[dict[str, object]]]:
    tmp_path.mkdir(exist_ok=True)
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out"
    config = GenerateConfig(model=str(model), input=source, output=output, max_tokens=3, n_ctx=128)
    manifest = generate(config)
    assert manifest
    return manifest, list(read_jsonl(output / "generations.jsonl"))


def test_prompts_in_a_file_whose_name_is_not_utf_8_are_a_data_error(tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    source.write_text('{"prompt": "Is it?"}\n')

    with pytest.raises(DataError, match="the name of the file is not UTF-8"):
        generate(GenerateConfig(model="./nowhere", input=source, output=tmp_path / "out"))


def test_a_prompt_that_is_too_long_stops_no_other(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": "a", "question": "What is sepsis?"},
        {"id": "long", "question": "pain " * 500},
        {"id": "empty", "question": " "},
        {"id": "a", "question": "And what is fever?"},
        {"id": "half", "question": "Is this ok? \ud83d"},
    ]

    manifest, made = answer_rows(tiny_model, tmp_path, rows)

    assert [row["id"] for row in made] == ["a", "long", "a", "half"]
    assert [row.get("row") for row in made] == [1, None, 4, None]
    assert made[1]["answer"] is None
    assert made[1]["finish_reason"] == "error"
    assert "tokens, the context holds 128" in str(made[1]["error"])
    assert {row["finish_reason"] for row in made} <= {"stop", "length", "error"}
    assert manifest.counts.examples == 3
    assert manifest.counts.rejected == {"no prompt": 1, "cannot be answered": 1}
    assert manifest.results["rows_that_share_an_id"] == 2
    assert all(0 < row["confidence"] <= 1 and row["words"] for row in made if row["answer"])
    assert manifest.results["batch_size"] == 8
    assert manifest.results["confidence"]["known"] == 3
    assert manifest.results["confidence"]["calibration"] is None  # no row has a reference
    said = capsys.readouterr().err
    assert "row 2 of prompts.jsonl cannot be answered: the prompt has" in said
    assert "no prompt in row 3 of prompts.jsonl" in said
    assert "rows 1, 4 share an id" in said


def test_where_no_prompt_can_be_answered_the_run_fails(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 1 of prompts.jsonl cannot be answered"):
        answer_rows(tiny_model, tmp_path, [{"id": "long", "question": "pain " * 500}])


def test_answers_in_batches_are_those_written_alone_and_resume(
    tiny_model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "prompts.jsonl"
    rows = [
        {"id": n, "question": f"What is sepsis {'now ' * (9 * n % 17)}?", "answer": "An infection."}
        for n in range(12)
    ]
    rows.append({"id": "long", "question": "pain " * 300, "answer": "Pain."})
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made: dict[str, bytes] = {}
    for name, more in (("alone", {"batch_size": 1}), ("together", {}), ("stopped", {})):
        config = GenerateConfig(
            model=str(tiny_model), input=source, output=tmp_path / name, max_tokens=9, n_ctx=128,
            over_length="split", abstain_below=0.5, max_words=4, **more,
        )  # fmt: skip
        if name == "stopped":
            with stopped_after(5), pytest.raises(KeyboardInterrupt):
                generate(config)
            (partial,) = tmp_path.glob("stopped.unfinished/generations.partial")
            partial.write_bytes(partial.read_bytes() + b"[99, {torn")
            assert len(partial.read_text().splitlines()) == 6
        manifest = generate(config)
        made[name] = (tmp_path / name / "generations.jsonl").read_bytes()

    written = [json.loads(line) for line in made["together"].splitlines()]
    for name in ("alone", "stopped"):  # sums of other batches are rounded otherwise
        for row, other in zip(written, map(json.loads, made[name].splitlines()), strict=True):
            assert row == pytest.approx(other, abs=1e-4)
    assert [row["id"] for row in written] == [*map(str, range(12)), "long"]
    assert written[-1]["pieces"] > 1
    assert {row["uncertain"] for row in written} <= {True, False}
    assert all(row["too_long"] == (row["words"] > 4) for row in written)
    assert manifest
    told = manifest.results["confidence"]
    assert told["calibration"]["items"] == told["known"] == 13
    assert 0 <= told["calibration"]["calibration_error"] <= 1
    assert told["uncertain"] == sum(row["uncertain"] for row in written)


@contextmanager
def stopped_after(rows: int) -> Iterator[None]:
    """Meanwhile Ctrl-C comes with a row of a result."""
    batch, told = import_module("medllm.generate.batch"), import_module("medllm.generate.judging")
    count = iter(range(rows))

    def judge(*given: Any) -> Any:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return told.judge(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "judge", judge)
        yield


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"num_beams": "2", "temperature": "0.5"}, "beams are chosen by likelihood, not drawn"),
        ({"length_penalty": "2"}, "length_penalty weighs beams, and num_beams is 1"),
    ],
)
def test_sampling_that_contradicts_itself_is_refused_before_a_model_is_loaded(
    more: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [part for key, value in more.items() for part in ("--set", f"generate.{key}={value}")]
    assert run_command(["generate", "--model", "./nowhere", "--prompt", "Hi", *flags]) == 2
    assert told in capsys.readouterr().err


def test_what_decided_the_answers_is_recorded_and_what_did_not_is_said(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, _ = answer_rows(plain, tmp_path, [{"question": "What is sepsis?"}])

    results = manifest.results
    assert results["chat_template"] is False
    assert results["n_ctx"] == 128
    assert results["sampling"] == {
        "max_tokens": 3, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "num_beams": 1,
        "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
        "length_penalty": 1.0, "seed": 0, "stop": [],
    }  # fmt: skip
    unused = {"do_sample": True, "top_k": 20, "repetition_penalty": 1.1}
    assert results["unused_settings"] == unused
    said = capsys.readouterr().err
    assert "the model has no chat template: prompts are given as they are" in said
    assert "do_sample True, top_k 20, repetition_penalty 1.1" in said


def test_half_a_surrogate_pair_in_a_prompt_is_no_crash(tiny_model: Path) -> None:
    config = GenerateConfig(model=str(tiny_model), prompt="Is this ok? \ud83d", max_tokens=3)

    assert list(stream_answer(config))


def test_a_template_that_was_asked_for_and_is_missing_is_said(
    tiny_model: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = evaluate(
        EvaluateConfig(
            models=(str(tiny_model), str(plain)),
            tasks=("radiology",),
            limit=4,
            n_ctx=64,
            apply_chat_template=True,
            output=tmp_path / "out",
        )  # fmt: skip
    )

    with_template, without = manifest.results["scores"]
    assert (with_template["chat_template"], without["chat_template"]) == (True, False)
    assert without["template_missing"]
    assert with_template["n_ctx"] == without["n_ctx"] == 64
    assert 0 < with_template["cut"] <= 4
    assert with_template["not_asked"] == {}
    records = list(read_jsonl(next((tmp_path / "out").glob("plain/radiology.jsonl"))))
    assert sum(record["cut"] > 0 for record in records) == without["cut"]
    said = capsys.readouterr().err
    assert "plain, radiology: the model has no chat template, so it is asked plainly" in said
    assert f"of 4 items {with_template['cut']} lost their beginning to fit n_ctx 64" in said
    assert "asked through a chat template and plainly; do not compare them" in said


# Stages


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained adapter on the tiny model."""
    from medllm.models.load import load_causal_lm

    folder = tmp_path_factory.mktemp("adapters") / "lora"
    with console.quiet():
        from peft import LoraConfig, get_peft_model

        model = load_causal_lm(str(tiny_model))
        get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    return folder  # without a tokenizer, as PEFT saves it


def test_an_adapter_without_a_tokenizer_has_that_of_its_base(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    named = tmp_path / "named"
    save_tokenizer(resolve_model(str(tiny_model)), named)
    shutil.copytree(adapter, named, dirs_exist_ok=True)
    rows: list[object] = [{"id": "a", "question": "What is sepsis?"}]

    (_, as_it_is), (_, with_its_own) = (
        answer_rows(folder, tmp_path / f"of_{folder.name}", rows) for folder in (adapter, named)
    )

    assert as_it_is == with_its_own
    with pytest.raises(ArtifactError, match="is an adapter, and a whole model is needed") as caught:
        resolve_model(str(adapter), kinds=("model", "quantized"))
    assert f"medllm merge --adapter {adapter}" in caught.value.fix


def test_stages_write_one_after_another_and_give_their_memory_back(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    source = tmp_path / "notes.jsonl"
    note = "Aspirin 75 mg daily was started for pneumonia. Heart rate 92/min, no fever. "
    rows = [{"id": n, "text": note * (1 + 9 * (n == 2))} for n in range(3)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = {"name": "recall", "quantization": "nf4", "instruction": "Summarize.", "max_tokens": 24}
    second = {"name": "half", "model": str(tiny_model), "instruction": "Halve.", "max_tokens": 9}
    config = validated(
        model=str(adapter), input=str(source), output=str(tmp_path / "out"), n_ctx=128,
        stages=[{**each, "n_ctx": 128} for each in (first, second)], encoder="./nowhere",
    )  # fmt: skip
    with stopped_after(4), pytest.raises(KeyboardInterrupt):
        generate(config)
    (begun,) = tmp_path.glob("out.unfinished/stage-1-recall.jsonl")
    kept = begun.read_bytes()

    manifest = generate(config)

    assert manifest
    folder, results = tmp_path / "out", manifest.results
    assert (folder / "stage-1-recall.jsonl").read_bytes() == kept
    files = [folder / "stage-1-recall.jsonl", folder / "stage-2-half.jsonl"]
    recall, half = (list(read_jsonl(path)) for path in files)
    assert recall[2]["pieces"] > 1 and "pieces" not in recall[0]
    final = list(read_jsonl(folder / "generations.jsonl"))
    assert [row["answer"] for row in final] == [row["answer"] for row in half]
    ratios = [len(b["answer"]) / len(a["answer"]) for a, b in zip(recall, half, strict=True)]
    assert [row["ratio"] for row in final] == pytest.approx(ratios)
    assert results["compression"]["ratio"]["mean"] == pytest.approx(sum(ratios) / 3)
    assert final[0]["retention_of_source_of"] > 3  # facts that the note states
    assert "not on this machine" in results["compression"]["bertscore"]["not_computed"]
    assert [stage["quantization"] for stage in results["stages"]] == ["nf4", None]
    assert [stage["batch_size"] for stage in results["stages"]] == [8, 8]
    for stage in results["stages"]:
        memory = stage["memory_gib"]
        assert memory["after"] <= 1.1 * memory["before"]
    table = (folder / "results.csv").read_text("utf-8-sig").splitlines()
    assert table[0].startswith("id,1-recall,2-half,source_characters")
    assert len(json.loads((folder / "results.json").read_text())) == 3
    assert json.loads((folder / "summary.json").read_text())["compression"]["items"] == 3
    assert not any("memory" in file.path or file.path == "stages.json" for file in manifest.files)
    assert "memory_gib" not in (folder / "summary.json").read_text()  # files are the identity
    held = [path for path in folder.iterdir() if path.name.startswith(("stage", "res", "gen"))]
    assert {stat.S_IMODE(path.stat().st_mode) for path in held} == {0o600}


def validated(**section: Any) -> GenerateConfig:
    return GenerateConfig.model_validate_json(json.dumps(section))


def test_stages_of_one_name_are_refused() -> None:
    stage = {"name": "a", "instruction": "Halve."}
    with pytest.raises(ValueError, match="two stages have one name"):
        validated(stages=[stage, stage])


class Remote:
    """What answers elsewhere: it writes, and knows neither token ids nor likelihoods."""

    name = "remote"
    context_length = 100
    unused_settings: Mapping[str, Any] = {}

    def generate(self, request: GenerateRequest) -> Iterator[Piece]:
        yield Piece(f"Said: {request.messages[-1].content}")
        yield Piece("", 0, "stop")

    def close(self) -> None:
        pass


def test_an_engine_that_only_writes_answers_a_file(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = import_module("medllm.generate.opening")
    monkeypatch.setattr(opening, "open_model", lambda *_, **__: Remote())

    manifest, made = answer_rows(
        tiny_model, tmp_path, [{"question": "Hi"}, {"question": "x" * 3201}]
    )

    assert (made[0]["answer"], made[0]["finish_reason"]) == ("Said: Hi", "stop")
    assert made[1]["error"] == "the prompt has 3,205 bytes, the context holds 100 tokens"
    assert (manifest.results["engine"], manifest.results["chat_template"]) == ("remote", True)


def test_an_engine_that_only_writes_cannot_be_evaluated(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    verb = import_module("medllm.evaluate.verb")
    monkeypatch.setattr(verb, "open_model", lambda *_, **__: Remote())
    output = tmp_path / "out"
    asked = ["evaluate", "--model", str(tiny_model), "--tasks", "radiology", "--limit", "2"]

    assert run_command([*asked, "--output", str(output)]) == 2

    assert capsys.readouterr().err.splitlines()[-2:] == [
        "error: evaluate needs the likelihood of given tokens, and the engine remote gives none",
        "  fix: name a model that runs on this machine: a folder, a hub id or a .gguf file",
    ]
    assert not (output / "medllm.json").exists()


def test_the_perplexity_of_any_text_is_told_per_token_word_and_byte(
    tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("The chest is clear.\nNo effusion is seen.\n")
    rows_of = [{"id": 1, "text": "No fracture."}, {"id": 2, "text": "Clear."}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of))
    scores = []
    for name in ("note.txt", "rows.jsonl"):
        config = EvaluateConfig(
            models=(str(tiny_model),), tasks=("perplexity",), data=tmp_path / name,
            output=tmp_path / name.partition(".")[0],
        )  # fmt: skip
        (score,) = evaluate(config).results["scores"]
        scores.append(score)

    note, rows = scores
    assert note["bytes"] == rows["bytes"] == (tiny_model / "model.safetensors").stat().st_size
    assert (note["items"], rows["items"]) == (1, 2)
    assert (note["words"], rows["words"]) == (8, 3)
    assert rows["text_bytes"] == len("No fracture.") + len("Clear.")
    nats = note["loss"] * note["tokens"]
    assert note["bits_per_byte"] == pytest.approx(nats / math.log(2) / note["text_bytes"])
    assert note["byte_perplexity"] == pytest.approx(math.exp(nats / note["text_bytes"]))
    assert note["word_perplexity"] == pytest.approx(math.exp(nats / 8))
    assert note["bits_per_byte_low"] is None and rows["bits_per_byte_low"] is None, "of too few"
