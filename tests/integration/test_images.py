"""A vision-language model learns from images, and what it learnt is merged."""

import json
from base64 import b64encode
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from seeing import PATCHES, SIDE, example, write_image_rows, write_seeing
from transformers import AutoModelForImageTextToText, AutoProcessor

from medllm.data.example import Message, read_examples, to_json, write_jsonl
from medllm.engines.open import open_for_chats
from medllm.engines.open import open_seeing as open_seeing_model
from medllm.engines.prompts import ask_chat, ask_messages
from medllm.engines.sampling import Sampling
from medllm.engines.servers.chat import Chat
from medllm.engines.writing.seeing import SeeingEngine
from medllm.errors import ArtifactError, ConfigError, DataError, SetupError
from medllm.evaluate.config import EvaluateConfig
from medllm.evaluate.verb import evaluate
from medllm.finetune.config import FinetuneConfig, LoraSettings, TrainingSettings
from medllm.finetune.profiling import ProfilingRun, _cut
from medllm.finetune.rows.build import IGNORED, Limit, RowCounts
from medllm.finetune.rows.images import VisionRows, open_vision_rows
from medllm.finetune.rows.material import Material
from medllm.finetune.rows.tokenizer import Tokenizer
from medllm.finetune.train.base import load_base
from medllm.finetune.verb import finetune, open_inputs
from medllm.merge.config import MergeConfig
from medllm.merge.verb import merge
from medllm.models.chat.template import TokenizerTemplate, encode_rendered, render_example
from medllm.models.hardware import count_parameters, read_shapes
from medllm.models.images import Vision
from medllm.models.load import load_tokenizer, resolve_model
from medllm.prepare.config import PrepareConfig
from medllm.prepare.verb import prepare


@pytest.fixture(scope="module")
def seeing(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seeing(tiny_model, tmp_path_factory.mktemp("models") / "gemma")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_rows(tmp_path_factory.mktemp("data"))


def config(model: Path, data: Path, output: Path, **own: object) -> FinetuneConfig:
    short = {"num_train_epochs": 6, "per_device_train_batch_size": 8, "logging_steps": 4,
             "max_length": 64, "learning_rate": 1e-2, **own}  # fmt: skip
    return FinetuneConfig(
        model=str(model), data=data, output=output, dtype="float32", lora=LoraSettings(r=8),
        training=TrainingSettings.model_validate(short),
    )  # fmt: skip


def data_url(path: Path) -> dict[str, object]:
    url = f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def open_seeing(model: Path) -> VisionRows:
    tokenizer = load_tokenizer(str(model))
    return VisionRows(Vision.open(resolve_model(str(model)), tokenizer, "finetune"))


def rows_of(images: VisionRows, path: Path, max_length: int = 64) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = images.load_rows(path, Limit(max_length))[0].to_list()
    return rows


def loss_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> float:
    with torch.inference_mode():
        return float(model.eval()(**batch).loss)


def test_what_only_an_image_tells_is_learnt_and_merged(
    seeing: Path, data: Path, tmp_path: Path
) -> None:
    manifest = finetune(config(seeing, data, tmp_path / "a"))

    results = manifest.results
    assert results["rows"]["images"] == 64
    assert results["rows"]["examples"] == 72
    assert results["validation_loss"] < 0.02
    manifest = merge(MergeConfig(adapter=tmp_path / "a", output=tmp_path / "m"))
    assert manifest.results["verified"]
    for folder in (tmp_path / "a", tmp_path / "m"):
        processor = AutoProcessor.from_pretrained(folder)
        assert processor.image_processor.size == {"height": SIDE, "width": SIDE}
    config_ = (seeing / "processor_config.json").read_bytes()
    assert (tmp_path / "a/processor_config.json").read_bytes() == config_
    assert (tmp_path / "m/processor_config.json").read_bytes() == config_

    images = open_seeing(tmp_path / "m")
    batch = images.collate(rows_of(images, data / "validation.jsonl"))
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "m", dtype=torch.float32)
    base = AutoModelForImageTextToText.from_pretrained(seeing, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, tmp_path / "a")
    with torch.inference_mode():
        found, expected = (model.eval()(**batch).logits for model in (merged, tuned))
    assert (found - expected).abs().max() < 1e-4
    engine = open_seeing_model(resolve_model(str(tmp_path / "m")), dtype="float32")
    assert isinstance(engine, SeeingEngine)
    chats = open_for_chats(resolve_model(str(tmp_path / "m")), dtype="float32")
    for row in islice(read_examples(data / "validation.jsonl"), 4):
        shown = [data / name for name in row.images]
        asked = ask_messages(engine, row.prompt, Sampling(max_tokens=8), shown)
        pieces = list(engine.generate(asked))
        assert "".join(piece.text for piece in pieces).strip() == row.completion
        assert pieces[-1].finish_reason == "stop"
        if shown:
            parts = [{"type": "text", "text": row.prompt[0].content}, *map(data_url, shown)]
            chat = Chat(({"role": "user", "content": parts},))
            assert [*chats.generate(ask_chat(chats, chat, Sampling(max_tokens=8)))] == pieces
    # the same texts with other images: what was learnt is wrong now
    assert loss_of(merged, batch) == pytest.approx(results["validation_loss"], rel=0.05)
    batch["pixel_values"] = -batch["pixel_values"]
    assert loss_of(merged, batch) > 1
    # the tower that reads the images is as it was
    before, after = (load_file(f / "model.safetensors") for f in (seeing, tmp_path / "m"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".language_model." in name or name.startswith("language") for name in changed)


def test_a_row_is_what_the_processor_makes_of_the_conversation(seeing: Path, data: Path) -> None:
    images = open_seeing(seeing)
    first = next(read_examples(data / "train.jsonl"))
    row = rows_of(images, data / "train.jsonl")[0]
    processor = AutoProcessor.from_pretrained(seeing)
    words = {"type": "text", "text": first.prompt[0].content}
    parts = [{"type": "image", "url": str(data / "0.png")}, words]
    turns = [{"role": "user", "content": parts}]
    asked = processor.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )

    learnt = [token for token in row["labels"] if token != IGNORED]
    prompt = row["input_ids"][: -len(learnt)]
    assert prompt == asked["input_ids"][0].tolist()
    assert row["token_type_ids"][: len(prompt)] == asked["token_type_ids"][0].tolist()
    assert sum(row["token_type_ids"]) == PATCHES
    assert processor.decode(learnt) == "dark<|end|>"
    batch = images.collate([row])
    assert torch.equal(batch["pixel_values"], asked["pixel_values"])


def test_rows_without_images_are_as_they_are_for_a_model_of_text(seeing: Path, data: Path) -> None:
    images = open_seeing(seeing)
    rows = [row for row in rows_of(images, data / "train.jsonl") if not row["image_paths"]]
    template = TokenizerTemplate(load_tokenizer(str(seeing)))
    texts = [one for one in read_examples(data / "train.jsonl") if not one.images]

    for row, one in zip(rows, texts, strict=True):
        prompt, completion = encode_rendered(template, render_example(template, one))
        assert row["input_ids"] == prompt + completion
    batch = images.collate(rows)
    assert batch.keys() == {"input_ids", "labels", "attention_mask"}


def test_neither_padding_nor_images_are_learnt_and_neighbours_do_not_matter(
    seeing: Path, data: Path
) -> None:
    images = open_seeing(seeing)
    rows = rows_of(images, data / "train.jsonl")
    three = [rows[0], row_of_two_images(images, data), rows[-1]]
    model = load_base(FinetuneConfig(dtype="float32"), resolve_model(str(seeing)), "cpu").eval()

    batch = images.collate(three)

    assert len(batch["pixel_values"]) == 3
    labels = batch["labels"]
    assert ((labels != IGNORED).sum(1) > 1).all()
    assert not (labels == images.vision.processor.tokenizer.image_token_id).any()
    assert not (labels[batch["attention_mask"] == 0] != IGNORED).any()
    with torch.inference_mode():
        together = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
        for number, row in enumerate(three):
            alone = {k: v for k, v in images.collate([row]).items() if k != "labels"}
            found = together[number, : len(row["input_ids"])]
            assert (found - model(**alone).logits[0]).abs().max() < 1e-4


def row_of_two_images(images: VisionRows, data: Path) -> dict[str, object]:
    path = data / "two.jsonl"
    write_jsonl(path, [to_json(example(1, "bright", ("1.png", "0.png")))])
    (row,) = rows_of(images, path)
    assert sum(row["token_type_ids"]) == 2 * PATCHES
    return row


def test_prepare_keeps_images_within_reach(seeing: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "scans").mkdir(parents=True)
    rows = []
    for n in range(20):
        Image.new("L", (30, 30), n * 10).save(raw / f"scans/{n}.png")
        answer = f"the shade of this scan is {n} of twenty"
        rows.append({"id": n, "question": "Which shade?", "answer": answer,
                     "image_file": f"scans/{n}.png"})  # fmt: skip
    lines = "\n".join(map(json.dumps, rows))
    (raw / "rows.jsonl").write_text(lines)

    prepare(PrepareConfig(datasets=(str(raw / "rows.jsonl"),), output=tmp_path / "data"))
    found = rows_of(open_seeing(seeing), tmp_path / "data/train.jsonl", 128)

    assert found
    assert all(Path(row["image_paths"][0]).is_file() for row in found)


def test_another_image_under_the_same_name_is_another_training(
    seeing: Path, tmp_path: Path
) -> None:
    scan, data = tmp_path / "scan.png", tmp_path / "data"
    Image.new("RGB", (40, 40), "black").save(scan)
    rows = [to_json(example(n, "dark", ("../scan.png",))) for n in range(4)]
    data.mkdir()
    write_jsonl(data / "train.jsonl", rows)
    asked = config(seeing, data, tmp_path / "out", num_train_epochs=1)

    first = finetune(asked)
    assert finetune(asked) == first
    Image.new("RGB", (40, 40), "white").save(scan)

    with pytest.raises(ArtifactError, match="holds another adapter"):
        finetune(asked)


# What is wrong


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for results that lies in no input."""
    return tmp_path_factory.mktemp("made") / "out"


def written(tmp_path: Path, images: tuple[str, ...], answer: str = "dark") -> Path:
    write_jsonl(tmp_path / "train.jsonl", [to_json(example(7, answer, images))])
    return tmp_path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is missing"),
        (b"<html>", "cannot be read: it is no PNG"),
        ("cut", "cannot be read"),
        ("deep", "has more than 8 bits"),
    ],
)
def test_a_bad_image_is_named_before_the_model_is_loaded(
    content: bytes | str | None, says: str, seeing: Path, tmp_path: Path, made: Path
) -> None:
    path = tmp_path / "scan.png"
    if content == "deep":
        Image.new("I;16", (64, 64), 3000).save(path)
    elif content == "cut":
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes(path.read_bytes()[:1500])
    elif isinstance(content, bytes):
        path.write_bytes(content)

    with pytest.raises(DataError, match=rf"t/7: .*scan.png {says}") as caught:
        finetune(config(seeing, written(tmp_path, ("scan.png",)), made))

    assert "8 bits" in caught.value.fix


def test_all_bad_images_are_named_at_once(seeing: Path, tmp_path: Path, made: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "0.png")
    (tmp_path / "3.png").write_bytes(b"<html>")
    rows = [to_json(example(n, "dark", (f"{n % 10}.png",))) for n in range(21)]
    write_jsonl(tmp_path / "train.jsonl", rows)

    with pytest.raises(DataError, match=r"rows whose images cannot be read: 18 \(t/1: ") as caught:
        finetune(config(seeing, tmp_path, made))

    assert "1.png is missing, t/2: " in caught.value.message
    assert "3.png cannot be read: it is no PNG" in caught.value.message
    assert caught.value.message.count(".png") == 8


def test_images_for_a_model_that_sees_none_are_refused(
    tiny_model: Path, seeing: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="reads no images") as caught:
        finetune(config(tiny_model, data, tmp_path / "out"))
    assert "medgemma" in caught.value.fix

    blind = tmp_path / "blind"
    blind.mkdir()
    for file in seeing.iterdir():
        if file.name != "processor_config.json":
            (blind / file.name).symlink_to(file)
    with pytest.raises(ArtifactError, match="processor of|what prepares images"):
        finetune(config(blind, data, tmp_path / "out"))


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_model_that_needs_torchvision_says_so(
    seeing: Path, data: Path, tmp_path: Path, made: Path
) -> None:
    for file in seeing.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "processor_config.json").unlink()
    both = {"processor_class": "Qwen2VLProcessor", "image_processor_type": "Qwen2VLImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(both))

    with pytest.raises(SetupError, match="Torchvision") as caught:
        finetune(config(tmp_path, data, made))
    assert caught.value.fix == "pip install torchvision"


def test_options_that_do_not_go_with_images_are_refused(
    seeing: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot share a row"):
        finetune(config(seeing, data, tmp_path / "out", packing=True))
    flash = config(seeing, data, tmp_path / "out")
    flash = flash.model_copy(update={"attn_implementation": "flash_attention_2"})
    with pytest.raises(ConfigError, match="no bidirectional"):
        finetune(flash)


def test_an_example_too_long_with_its_images_is_left_out_and_counted(
    seeing: Path, data: Path, tmp_path: Path, made: Path
) -> None:
    long = replace(example(1, "bright", ("1.png",)), prompt=(Message("user", "bright " * 80),))
    rows = [*read_examples(data / "train.jsonl"), long]
    for one in data.glob("*.png"):
        (tmp_path / one.name).symlink_to(one)
    write_jsonl(tmp_path / "train.jsonl", map(to_json, rows))

    manifest = finetune(config(seeing, tmp_path, made, max_steps=1))

    assert manifest.counts.rejected == {"longer than max_length with its images": 1}
    assert manifest.counts.examples == 72


def test_the_token_of_an_image_in_a_text_is_text(seeing: Path, data: Path, tmp_path: Path) -> None:
    images = open_seeing(seeing)
    (row,) = rows_of(images, written(tmp_path, (), "<image_soft_token>") / "train.jsonl")

    assert images.vision.tokenizer.image_token_id not in row["input_ids"]
    assert "<image_soft_token>" in images.vision.processor.decode(row["input_ids"])


def test_a_special_token_spelled_beside_an_image_leaves_its_row_out(
    seeing: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "1.png").symlink_to(data / "1.png")
    spelled = replace(example(1, "bright", ("1.png",)), prompt=(Message("user", "a</s>b"),))
    write_jsonl(tmp_path / "train.jsonl", [to_json(spelled)])
    counts = RowCounts()

    assert list(open_seeing(seeing).build_rows(tmp_path / "train.jsonl", Limit(64), counts)) == []
    assert counts.rejected == {"a special token is spelled beside images": 1}


def test_a_template_that_knows_no_images_gets_them_before_the_text(
    seeing: Path, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = config(seeing, data, tmp_path / "out").model_copy(update={"prompt_template": "alpaca"})
    model = resolve_model(str(seeing))
    images = open_vision_rows(other, model, Tokenizer.open(other, model).own)

    assert "the chat template knows no images" in capfd.readouterr().err
    row = rows_of(images, data / "train.jsonl", 128)[0]
    text = images.vision.processor.decode(row["input_ids"])
    assert text.index("Instruction") < text.index("<start_of_image>") < text.index("Is it bright")


def test_rows_without_images_train_a_model_that_sees(
    seeing: Path, data: Path, tmp_path: Path, made: Path
) -> None:
    texts = [to_json(one) for one in read_examples(data / "train.jsonl") if not one.images]
    write_jsonl(tmp_path / "train.jsonl", texts)

    manifest = finetune(config(seeing, tmp_path, made))

    assert manifest.results["rows"]["images"] == 0
    stored = load_file(made / "adapter_model.safetensors")
    assert stored
    assert not any("vision" in name for name in stored)


def test_targets_outside_the_language_model_are_told(
    seeing: Path, data: Path, tmp_path: Path
) -> None:
    tower = config(seeing, data, tmp_path / "out")
    with pytest.raises(ConfigError, match="out_proj.* match no layer"):
        finetune(tower.model_copy(update={"lora": LoraSettings(target_modules=("out_proj",))}))


def test_what_reads_images_is_trained_where_asked(seeing: Path, data: Path, tmp_path: Path) -> None:
    own = LoraSettings(r=2, target_modules=("q_proj",), exclude_modules=())
    tower = config(seeing, data, tmp_path / "out", max_steps=2)
    finetune(tower.model_copy(update={"lora": own}))

    names = load_file(tmp_path / "out/adapter_model.safetensors")
    assert any("vision" in name for name in names)
    assert any("language_model" in name for name in names)
    manifest = merge(MergeConfig(adapter=tmp_path / "out", output=tmp_path / "m"))
    assert manifest.results["verified"]
    before, after = (load_file(f / "model.safetensors") for f in (seeing, tmp_path / "m"))
    name = next(n for n in before if "vision" in n and "q_proj.weight" in n)
    assert not torch.equal(before[name], after[name])


def test_a_few_layers_of_a_model_that_sees_can_be_profiled(
    seeing: Path, data: Path, tmp_path: Path
) -> None:
    asked = config(seeing, data, tmp_path / "out")
    material = Material.read(open_inputs(asked), asked, "cpu")
    cut = _cut(material.inputs.model, 1, tmp_path)

    costs = ProfilingRun(asked, material, "cpu").costs(cut, tmp_path)

    assert any("vision" in name for name in read_shapes(cut.path))
    assert 0 < costs.trainable < costs.parameters < count_parameters(seeing)
    assert costs.seconds_a_token > 0


def test_errors_in_reports_are_looked_for_with_their_images(seeing: Path, tmp_path: Path) -> None:
    rows = [
        {"id": f"r{n}", "split": "test", "instruction": "Findings: clear.", "modality": "xray",
         "output": "ERROR - x" if n % 2 else "CORRECT - x", "image": f"{n}.png"}
        for n in range(4)
    ]  # fmt: skip
    other = "A long scar runs along the spine, and two screws hold the third lumbar vertebra."
    rows.append({**rows[0], "id": "t", "split": "train", "instruction": other})
    for n in range(4):
        Image.new("RGB", (40, 50), (60 * n, 60 * n, 60 * n)).save(tmp_path / f"{n}.png")
    (tmp_path / "ward.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = PrepareConfig(datasets=(str(tmp_path / "ward.jsonl"),), task="error_detection",
                         output=tmp_path / "out")  # fmt: skip
    prepare(made)
    asked = EvaluateConfig(
        models=(str(seeing),), tasks=("error_detection", "error_detection_text"),
        data=tmp_path / "out", output=tmp_path / "e", dtype="float32", show_text=True,
    )  # fmt: skip

    with_images, alone = evaluate(asked).results["scores"]

    assert (with_images["with_images"], with_images["images_left_out"]) == (4, 0)
    assert (alone["with_images"], alone["images_left_out"]) == (0, 4)
    assert with_images["items"] == alone["items"] == 4
    assert with_images["not_asked"] == {}
    assert (tmp_path / "e/plots").is_dir()
    (tmp_path / "g").mkdir()
    (tmp_path / "g/model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match="without its projector"):
        open_seeing_model(resolve_model(str(tmp_path / "g/model.gguf")))
