"""The trainers that finetune_gpu.py compares: medllm's with and without each means, and others.

What a setting does not leave out, a process of the benchmark replaces in itself.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHORT = "SMOKE_LENGTH"
"""The variable of the environment that makes rows short."""
LENGTH, BATCH, WARM, SEED = int(os.environ.get(SHORT, "2048")), 4, 3, 1
APART: dict[str, Any] = {"train_sampling_strategy": "sequential"}
AGAIN: dict[str, Any] = {"gradient_checkpointing": True}
KEPT: dict[str, Any] = {"gradient_checkpointing": False}
LIGER: dict[str, Any] = {"use_liger_kernel": True}
FUSED: dict[str, Any] = {"optim": "adamw_torch_fused"}
COMPILED: dict[str, Any] = {"torch_compile": True}


@dataclass(frozen=True)
class Arm:
    """Settings apart from the defaults, and means that are left out: "joined", "shapes"."""

    packing: bool | None = None
    attention: str = "auto"
    quantization: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()


BEFORE = ("joined", "shapes")
NF4 = "nf4"
ARMS: dict[str, Arm | str] = {
    "lora": Arm(),
    "trl": "trl",
    "qlora": Arm(quantization=NF4),
    "lora-again": Arm(extra=AGAIN),
    "trl-packed": "trl",
    "qlora-again": Arm(quantization=NF4, extra=AGAIN),
    "lora-liger": Arm(extra=LIGER),
    "qlora-liger": Arm(quantization=NF4, extra=LIGER),
    # each means alone, beside what was there before
    "before": Arm(packing=False, extra=AGAIN, without=BEFORE),
    "before-varlen": Arm(extra=AGAIN, without=BEFORE),
    "before-flex": Arm(packing=True, attention="flex_attention", extra=AGAIN, without=BEFORE),
    "before-shapes": Arm(packing=False, extra=AGAIN, without=("joined",)),
    "before-joined": Arm(packing=False, extra=AGAIN, without=("shapes",)),
    "before-kept": Arm(packing=False, extra=KEPT, without=BEFORE),
    "before-liger": Arm(packing=False, extra=AGAIN | LIGER, without=BEFORE),
    "qlora-before": Arm(packing=False, quantization=NF4, extra=AGAIN, without=BEFORE),
    "qlora-joined": Arm(packing=False, quantization=NF4, extra=AGAIN, without=("shapes",)),
    "qlora-fused": Arm(quantization=NF4, extra=FUSED),
    # beside all of them
    "lora-half": Arm(extra={**AGAIN, "gradient_checkpointing_kwargs": {"every_n_layers": 2}}),
    "lora-grouped": Arm(packing=False),
    "lora-compiled": Arm(extra=COMPILED),
}
UNSLOTH = ("unsloth", "unsloth-qlora", "unsloth-kept", "unsloth-qlora-kept")


def open_arm(arm: str, ref: str, data: Path, steps: int, room: str) -> Any:
    """Its trainer, for so many steps."""
    if arm in UNSLOTH:
        return _unsloth(arm, ref, data, steps, room)
    settings = ARMS[arm]
    if isinstance(settings, str):
        return _plain_trl(arm, ref, data, steps, room)
    return _of_medllm(settings, ref, data, steps, room)


def _of_medllm(arm: Arm, ref: str, data: Path, steps: int, room: str) -> Any:
    """The trainer of `medllm finetune`."""
    import torch

    from medllm.finetune.train.trainer import open_trainer
    from medllm.models.hardware import pick_device

    if "torch_compile" in arm.extra:  # a layer at a time
        os.environ["ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION"] = "true"
    _leave_out(arm.without)
    config, material = _material(arm, ref, data, steps)
    trainer = open_trainer(config, material, Path(room), pick_device())
    if "shapes" in arm.without:
        torch.backends.cuda.enable_cudnn_sdp(True)
        trainer.data_collator.pad_to_multiple_of = None
    trainer.recomputation = str(material.recomputation or arm.extra)
    return trainer


def _leave_out(means: tuple[str, ...]) -> None:
    from medllm.finetune.rows import material
    from medllm.finetune.train import lora_linear

    if "joined" in means:
        lora_linear._way_of_gpu = lambda *_: None
    if "shapes" in means:
        material._padding = lambda *_: None


def _material(arm: Arm, ref: str, data: Path, steps: int) -> tuple[Any, Any]:
    """The settings and the rows; packed ones in one order, whatever else an arm does."""
    from medllm.finetune.config import FinetuneConfig, TrainingSettings
    from medllm.finetune.rows.material import Material
    from medllm.finetune.verb import open_inputs
    from medllm.models.hardware import pick_device

    in_order = {} if arm.packing is False else APART
    training = TrainingSettings(
        max_steps=steps,
        max_length=LENGTH,
        per_device_train_batch_size=BATCH,
        packing=True if arm.packing is None and pick_device() == "cpu" else arm.packing,
        logging_steps=1,
        report_to=(),
        extra={"save_strategy": "no", **in_order, **arm.extra},
    )
    config = FinetuneConfig(
        model=ref,
        data=data,
        seed=SEED,
        quantization=arm.quantization,
        attn_implementation=arm.attention if pick_device() == "cuda" else "auto",
        training=training,
    )
    return config, Material.read(open_inputs(config), config, pick_device())


def _arguments(steps: int, room: str, **own: Any) -> Any:
    """TRL's defaults, for so many steps."""
    import torch
    from trl import SFTConfig

    return SFTConfig(
        output_dir=room,
        use_cpu=not torch.cuda.is_available(),
        max_length=LENGTH,
        per_device_train_batch_size=BATCH,
        max_steps=steps,
        seed=SEED,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        **own,
    )


def _plain_trl(arm: str, ref: str, data: Path, steps: int, room: str) -> Any:
    """TRL on the same examples, with the same adapter and batch; packed, on the rows of `lora`."""
    import torch
    from datasets import Dataset
    from finetune import conversations
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTTrainer

    from medllm.data.example import read_examples

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(ref, dtype="bfloat16").to(device)
    rows, own = Dataset.from_list(conversations(read_examples(data / "train.jsonl"))), {}
    tokenizer = AutoTokenizer.from_pretrained(ref)
    if arm == "trl-packed":
        config, material = _material(Arm(), ref, data, steps)
        rows, tokenizer = material.splits.train, material.tokenizer.own
        training = config.training
        own = {
            **APART,
            "packing": True,
            "dataset_kwargs": {"skip_prepare_dataset": True},
            "remove_unused_columns": False,
            "learning_rate": training.learning_rate,
            "lr_scheduler_type": training.lr_scheduler_type,
            "warmup_steps": training.warmup_steps,
            "bf16": device == "cuda",
        }
    set_seed(SEED)
    return SFTTrainer(
        model,
        _arguments(steps, room, **own),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )


def _unsloth(arm: str, ref: str, data: Path, steps: int, room: str) -> Any:
    """Unsloth as its notebooks have it, on the same examples as texts, which it packs itself.

    It is trained on all tokens of them, as it does, where the others are on the answers'.
    """
    from datasets import Dataset
    from finetune import conversations
    from trl import SFTTrainer
    from unsloth import FastLanguageModel

    from medllm.data.example import read_examples

    model, tokenizer = FastLanguageModel.from_pretrained(
        ref, max_seq_length=LENGTH, load_in_4bit="qlora" in arm
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=16,
        lora_alpha=32,
        lora_dropout=0,
        bias="none",
        random_state=SEED,
        use_gradient_checkpointing=False if "kept" in arm else "unsloth",
        target_modules=[f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")],
    )
    rows = conversations(read_examples(data / "train.jsonl"))
    texts = [
        tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
        for row in rows
    ]
    return SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"text": texts}),
        args=_arguments(steps, room, packing=True, dataset_text_field="text", bf16=True),
    )
