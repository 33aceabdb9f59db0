"""A model of text and images with random weights, and rows whose answer only an image tells."""

from pathlib import Path

from medllm.data.example import Example, Message, to_json, write_jsonl

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "{{ '<start_of_image>' }}{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""As Gemma 3's: content is a text, or parts."""
SPECIAL = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
           "image_token": "<image_soft_token>"}  # fmt: skip
SIDE = 28
PATCHES = 4


def write_seeing(tiny_model: Path, folder: Path) -> Path:
    """A Gemma 3 with random weights and all that belongs to one."""
    import torch
    from transformers import (
        AutoTokenizer,
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    tokenizer = AutoTokenizer.from_pretrained(tiny_model, extra_special_tokens=SPECIAL)
    tokenizer.chat_template = TEMPLATE
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4}  # fmt: skip
    text = Gemma3TextConfig(
        vocab_size=len(tokenizer), num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16,
        max_position_embeddings=512, initializer_range=0.05, **small,
    )  # fmt: skip
    vision = SiglipVisionConfig(
        image_size=SIDE, patch_size=SIDE // 2, vision_use_head=False, **small
    )
    config = Gemma3Config(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        mm_tokens_per_image=PATCHES,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    model.model.multi_modal_projector.mm_input_projection_weight.data.normal_(std=0.1)
    model.get_input_embeddings().weight.data *= 6  # else no token can be made likely
    model.save_pretrained(folder)
    images = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE})
    Gemma3Processor(images, tokenizer, image_seq_length=PATCHES).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_image_rows(folder: Path) -> Path:
    """Rows whose answer stands in the image alone, bright or dark, and some without images."""
    from PIL import Image

    for name, numbers in (("train", range(64)), ("validation", range(64, 80))):
        rows = []
        for n in numbers:
            path = folder / f"{n}.png"
            shade = 200 + n % 40 if n % 2 else 10 + n % 40
            Image.new("RGB", (40 + n, 50), (shade, shade, shade)).save(path)
            rows.append(example(n, "bright" if n % 2 else "dark", (path.name,)))
        rows += [example(n + 100, "none", ()) for n in numbers if n % 8 == 0]
        write_jsonl(folder / f"{name}.jsonl", map(to_json, rows))
    return folder


def example(number: int, answer: str, images: tuple[str, ...]) -> Example:
    question = Message("user", "Is it bright or dark?")
    return Example(f"t/{number}", "t", str(number), (question,), answer, images=images)
