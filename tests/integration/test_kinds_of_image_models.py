"""Kinds of models that read images: batches lose as transformers' own processor's do, or refused.

Those whose processors need torchvision are walked by hand; see docs/limits.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hub
from PIL import Image
from seeing import TEMPLATE

from medllm.data.example import Example, Message, read_examples, to_json, write_jsonl
from medllm.errors import ArtifactError
from medllm.finetune.rows.build import IGNORED, Limit
from medllm.finetune.rows.images import VisionRows
from medllm.models.images import Vision
from medllm.models.load import load_tokenizer, resolve_model

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4}  # fmt: skip
TEXT = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.1}  # fmt: skip
SIDE, PATCH = 28, 14
SQUARE = {"height": SIDE, "width": SIDE}
GRID = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]


def tokenizer_of(tiny_model: Path, token: str) -> Any:
    tokenizer = hub.AutoTokenizer.from_pretrained(
        tiny_model, extra_special_tokens={"image_token": token}
    )
    tokenizer.chat_template = TEMPLATE.replace("<start_of_image>", token)
    return tokenizer


def llava(tokenizer: Any) -> tuple[Any, Any]:
    config = hub.LlavaConfig(**parts(tokenizer))
    images = hub.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE)
    return hub.LlavaForConditionalGeneration(config), hub.LlavaProcessor(
        images, tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def llava_next(tokenizer: Any) -> tuple[Any, Any]:
    config = hub.LlavaNextConfig(**parts(tokenizer), image_grid_pinpoints=GRID)
    images = hub.LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=SQUARE, image_grid_pinpoints=GRID
    )
    return hub.LlavaNextForConditionalGeneration(config), hub.LlavaNextProcessor(
        images, tokenizer, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip


def mllama(tokenizer: Any) -> tuple[Any, Any]:
    images = hub.MllamaImageProcessorPil(size=SQUARE, max_image_tiles=4)
    config = hub.LlavaConfig(**parts(tokenizer))  # only its processor is asked
    return hub.LlavaForConditionalGeneration(config), hub.MllamaProcessor(images, tokenizer)


def paligemma(tokenizer: Any) -> tuple[Any, Any]:
    text = hub.Gemma2Config(vocab_size=len(tokenizer), head_dim=16, **TEXT)
    vision = hub.SiglipVisionConfig(
        image_size=SIDE, patch_size=PATCH, vision_use_head=False, **SMALL
    )
    config = hub.PaliGemmaConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64,
        image_token_index=tokenizer.image_token_id,
    )  # fmt: skip
    images = hub.SiglipImageProcessorPil(size=SQUARE, image_seq_length=4)
    return hub.PaliGemmaForConditionalGeneration(config), hub.PaliGemmaProcessor(images, tokenizer)


def parts(tokenizer: Any) -> dict[str, Any]:
    return {
        "text_config": hub.LlamaConfig(vocab_size=len(tokenizer), **TEXT).to_dict(),
        "vision_config": hub.CLIPVisionConfig(image_size=SIDE, patch_size=PATCH, **SMALL).to_dict(),
        "image_token_index": tokenizer.image_token_id,
        "vision_feature_layer": -1,
    }


def built(make: Callable[[Any], tuple[Any, Any]], tokenizer: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    model, processor = make(tokenizer)
    for part in (model, processor, tokenizer):
        part.save_pretrained(folder)
    return folder


def open_rows(model: Path) -> VisionRows:
    tokenizer = load_tokenizer(str(model))
    return VisionRows(Vision.open(resolve_model(str(model)), tokenizer, "finetune"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with an image, with two of other shapes, and without any."""
    folder = tmp_path_factory.mktemp("data")
    for n, size in enumerate([(40, 50), (90, 60), (60, 90)]):
        Image.effect_noise(size, 80).convert("RGB").save(folder / f"{n}.png")
    shown = {"bright": ("0.png",), "dark and dim": ("1.png", "2.png"), "none": ()}
    rows = [
        Example(f"t/{n}", "t", str(n), (Message("user", "Bright?"),), answer, images=images)
        for n, (answer, images) in enumerate(shown.items())
    ]
    write_jsonl(folder / "train.jsonl", map(to_json, rows))
    return folder


@pytest.mark.parametrize("make", [llava, llava_next])
def test_a_batch_loses_what_transformers_does_row_by_row(
    make: Callable[[Any], tuple[Any, Any]], tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    folder = built(make, tokenizer_of(tiny_model, "<image>"), tmp_path / "model")
    images = open_rows(folder)
    rows = images.load_rows(data / "train.jsonl", Limit(512))[0].to_list()
    model = hub.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = hub.AutoProcessor.from_pretrained(folder)

    losses, learnt = [], []
    for one, row in zip(read_examples(data / "train.jsonl"), rows, strict=True):
        words = {"type": "text", "text": one.prompt[0].content}
        asked = {"role": "user", "content": [{"type": "image"}] * len(one.images) + [words]}
        told = {"role": "assistant", "content": one.completion}
        text = processor.tokenizer.apply_chat_template([asked, told], tokenize=False)
        shown = [Image.open(data / name) for name in one.images] or None
        batch = processor(text=[text], images=shown, return_tensors="pt", add_special_tokens=False)
        assert batch["input_ids"][0].tolist() == row["input_ids"]
        labels = torch.tensor([row["labels"]])
        assert not (labels == processor.tokenizer.image_token_id).any()
        losses.append(loss_of(model, {**batch, "labels": labels}))
        learnt.append(int((labels[:, 1:] != IGNORED).sum()))

    mean = sum(a * b for a, b in zip(losses, learnt, strict=True)) / sum(learnt)
    assert loss_of(model, images.collate(rows)) == pytest.approx(mean, rel=1e-5)
    other = {**rows[1], "image_paths": rows[1]["image_paths"][::-1]}
    if make is llava:  # whose images take as many tokens each
        assert abs(loss_of(model, images.collate([other])) - losses[1]) > 1e-3


def loss_of(model: Any, batch: dict[str, Any]) -> float:
    with torch.inference_mode():
        return float(model(**batch).loss)


@pytest.mark.parametrize(
    ("make", "token", "says"),
    [
        (mllama, "<|image|>", "looks at images by cross attention"),
        (paligemma, "<image>", "would see the end of an answer"),
    ],
)
def test_what_would_be_trained_wrongly_is_refused(
    make: Callable[[Any], tuple[Any, Any]], token: str, says: str, tiny_model: Path, tmp_path: Path
) -> None:
    folder = built(make, tokenizer_of(tiny_model, token), tmp_path / "model")

    with pytest.raises(ArtifactError, match=says):
        open_rows(folder)
