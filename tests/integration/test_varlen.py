"""Attention of packed rows by PyTorch's kernel, which a plain one stands in for on a CPU."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from test_lean import gradients
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from trainings import small, write_examples
from trl import SFTTrainer

from medllm.errors import ConfigError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.build import IGNORED, lengths_of
from medllm.finetune.rows.material import Material
from medllm.finetune.train import varlen
from medllm.finetune.train.base import VARLEN, pick_attention
from medllm.finetune.train.trainer import keep_shapes_few, open_trainer, run, trainer_arguments
from medllm.finetune.train.varlen import register, why_not
from medllm.finetune.verb import open_inputs
from medllm.models.load import resolve_model

KERNEL = torch.nn.attention.varlen.varlen_attn


def attend_one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    _: torch.Tensor,
    longest: int,
    __: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """What `varlen_attn` computes, text by text, with a mask."""
    assert int(bounds.diff().max()) == longest
    assert window_size[1] == 0
    outputs = []
    for begin, end in pairwise(bounds.tolist()):
        back = torch.arange(end - begin)[:, None] - torch.arange(end - begin)
        sees = (back >= 0) & ((back <= window_size[0]) if window_size[0] >= 0 else back >= 0)
        rows = (each[begin:end].transpose(0, 1) for each in (query, key, value))
        found = functional.scaled_dot_product_attention(
            *rows, attn_mask=sees, scale=scale, enable_gqa=enable_gqa
        )
        outputs.append(found.transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture(autouse=True)
def plain_kernel(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The kernel runs on GPUs alone; gives the shapes of what it was asked."""
    asked: list[tuple[int, ...]] = []

    def attend(query: torch.Tensor, *given: Any, **options: Any) -> torch.Tensor:
        asked.append(tuple(query.shape))
        return attend_one_by_one(query, *given, **options)

    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", attend)
    register(VARLEN)
    return asked


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> FinetuneConfig:
    """12 steps on packed rows of a few examples."""
    data = write_examples(tmp_path / "data")
    own = {"packing": True, "max_length": 128, "per_device_train_batch_size": 2, "eval_steps": 4,
           "save_steps": 4, "max_steps": 8}  # fmt: skip
    return small(tiny_model, data, tmp_path / "out", **own)


def opened(
    config: FinetuneConfig, folder: Path, attention: str = VARLEN, *, drawn: bool = True
) -> SFTTrainer:
    """The trainer as finetune sets it up, with weights that would change where they are `drawn`."""
    material = replace(Material.read(open_inputs(config), config, "cpu"), attention=attention)
    trainer = open_trainer(config, material, folder, "cpu")
    torch.manual_seed(0)
    for name, weights in trainer.model.named_parameters():
        if drawn and "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.02)
    return trainer


def test_packed_examples_compute_what_they_do_alone(
    config: FinetuneConfig, tmp_path: Path, plain_kernel: list[tuple[int, ...]]
) -> None:
    trainer = opened(config, tmp_path)
    model = trainer.model.eval()
    batch = next(iter(trainer.get_train_dataloader()))
    starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), None]

    with torch.no_grad():
        found = model(**batch, use_cache=False).logits[0]
        assert len(plain_kernel) == model.config.num_hidden_layers
        assert plain_kernel[0][0] == batch["input_ids"].numel()  # of all rows of the batch
        model.set_attn_implementation("sdpa")
        ids = batch["input_ids"]
        alone = [model(input_ids=ids[:, a:b]).logits[0] for a, b in pairwise(starts)]

    assert len(alone) > 2 * config.training.per_device_train_batch_size
    assert (found - torch.cat(alone)).abs().max() < 1e-4


def test_packed_examples_teach_what_a_mask_would(config: FinetuneConfig, tmp_path: Path) -> None:
    ours, theirs = (opened(config, tmp_path, attention) for attention in (VARLEN, "sdpa"))
    batch = next(iter(ours.get_train_dataloader()))

    losses = [trainer.compute_loss(trainer.model, dict(batch)) for trainer in (ours, theirs)]
    for loss in losses:
        loss.backward()

    assert float(losses[0].detach()) == pytest.approx(float(losses[1].detach()), rel=1e-5)
    found, expected = gradients(ours), gradients(theirs)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_evaluation_is_that_of_rows_apart(config: FinetuneConfig, tmp_path: Path) -> None:
    apart = config.training.model_copy(update={"packing": False})

    found = opened(config, tmp_path).evaluate()
    expected = opened(config.model_copy(update={"training": apart}), tmp_path, "sdpa").evaluate()

    assert found["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-5)
    assert found["eval_mean_token_accuracy"] == expected["eval_mean_token_accuracy"]


def test_a_packed_training_resumes_exactly(config: FinetuneConfig, tmp_path: Path) -> None:
    whole = opened(config, tmp_path)
    run(whole, config, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints/checkpoint-8")

    resumed = opened(config, tmp_path)
    run(resumed, config, tmp_path)

    losses, again = (
        [(log["step"], log.get("loss"), log.get("eval_loss")) for log in trainer.state.log_history
         if {"loss", "eval_loss"} & log.keys()]
        for trainer in (whole, resumed)
    )  # fmt: skip
    assert len(losses) == 8 + 3
    assert again == losses
    for name, weights in whole.model.named_parameters():
        assert torch.equal(weights, resumed.model.get_parameter(name)), name


def test_rows_are_filled_for_a_gpu_and_teach_the_same(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu(monkeypatch, (9, 0))
    in_order = {"extra": {"train_sampling_strategy": "sequential"}}
    training = config.training.model_copy(update=in_order)
    config = config.model_copy(update={"training": training})
    inputs, narrow = open_inputs(config), config.model_copy(update={"dtype": "bfloat16"})
    free = Material.read(inputs, config, "cpu")
    filled = replace(free, splits=Material.read(inputs, narrow, "cuda").splits)
    materials = [replace(each, attention=VARLEN) for each in (free, filled)]
    trainers = [open_trainer(config, each, tmp_path, "cpu") for each in materials]

    pairs = zip(*(trainer.get_train_dataloader() for trainer in trainers), strict=True)
    batches = next(pair for pair in pairs if pair[0]["labels"].numel() < pair[1]["labels"].numel())
    losses = [
        float(trainer.compute_loss(trainer.model, dict(batch)).detach())
        for trainer, batch in zip(trainers, batches, strict=True)
    ]

    assert set(lengths_of(filled.splits.train)) == {128} != set(lengths_of(free.splits.train))
    assert batches[1]["labels"].numel() % 128 == 0
    learnt = [(batch["labels"] != IGNORED).sum() for batch in batches]
    assert learnt[0] == learnt[1] > 0
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_rows_apart_have_few_lengths_on_a_gpu(
    config: FinetuneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned: list[bool] = []
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", turned.append)
    padded = {}
    for packing in (True, False):
        training = config.training.model_copy(update={"packing": packing})
        asked = config.model_copy(update={"training": training})
        splits = Material.read(open_inputs(asked), asked, "cpu").splits
        arguments = trainer_arguments(asked, tmp_path, "cpu", can_evaluate=True)
        keep_shapes_few(arguments, asked, splits)
        padded[packing] = arguments.pad_to_multiple_of
    extra = training.model_copy(update={"extra": {"pad_to_multiple_of": 8}})
    own = config.model_copy(update={"training": extra})
    arguments = trainer_arguments(own, tmp_path, "cpu", can_evaluate=True)
    keep_shapes_few(arguments, own, splits)

    assert padded == {True: None, False: 64}
    assert arguments.pad_to_multiple_of == 8
    assert turned == [False] * 3


MODELS = {
    "Mistral": {"sliding_window": 4},
    "Qwen3": {"head_dim": 16},
    "Gemma3Text": {"sliding_window": 4, "head_dim": 16, "sliding_window_pattern": 2},
    "Gemma2": {"attn_logit_softcapping": 20.0, "head_dim": 16},
    "GptOss": {"head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1},
    "Mamba": {"hidden_size": 64, "num_hidden_layers": 2},
    "GPT2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "attn_pdrop": 0.1},
}
"""Options of small models, beside those that most have."""


def small_config(name: str, **own: Any) -> Any:
    kind = getattr(transformers, f"{name}Config")
    usual = {} if name in {"GPT2", "Mamba"} else {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2}  # fmt: skip
    return kind(**{"vocab_size": 99, "pad_token_id": 0, **usual, **MODELS[name], **own})


def class_of(name: str) -> Any:
    ending = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
    return getattr(transformers, name.removesuffix("Text") + ending)


def run_packed(model: Any, attention: str, lengths: Sequence[int] = (7, 9, 3)) -> torch.Tensor:
    """The logits of texts of these lengths in a row, as TRL's collator describes it."""
    model.set_attn_implementation(attention)
    bounds = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)
    places = torch.cat([torch.arange(length) for length in lengths])[None]
    ids = torch.randint(1, 99, places.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(
            input_ids=ids, position_ids=places, use_cache=False, cu_seq_lens_q=bounds,
            cu_seq_lens_k=bounds, max_length_q=max(lengths), max_length_k=max(lengths)
        ).logits  # fmt: skip


@pytest.mark.parametrize("name", ["Mistral", "Qwen3", "Gemma3Text"])
def test_windows_and_shared_heads_are_those_of_a_mask(name: str) -> None:
    torch.manual_seed(0)
    model = class_of(name)(small_config(name)).eval()

    found, expected = (run_packed(model, attention) for attention in (VARLEN, "sdpa"))

    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["Gemma2", "GptOss"])
def test_what_the_kernel_does_not_compute_is_refused(name: str) -> None:
    model = class_of(name)(small_config(name)).eval()

    with pytest.raises(ConfigError, match="varlen_attn does not know"):
        run_packed(model, VARLEN)


def test_padding_is_refused() -> None:
    model = class_of("Mistral")(small_config("Mistral")).eval()
    model.set_attn_implementation(VARLEN)

    with pytest.raises(ConfigError, match="is for packed rows"):
        model(input_ids=torch.ones(1, 4).long(), attention_mask=torch.tensor([[1, 1, 1, 0]]))


@pytest.mark.parametrize(
    ("name", "own", "where", "reason"),
    [
        ("Mistral", {}, {}, None),
        ("Qwen3", {}, {}, None),
        ("Gemma3Text", {"head_dim": 256}, {}, None),
        ("Gemma3Text", {"head_dim": 256}, {"capability": (8, 6)}, "its heads are 256 wide"),
        ("Mistral", {"head_dim": 20}, {}, "its heads are 20 wide"),
        ("Mistral", {}, {"capability": (7, 5)}, "the GPU is older than NVIDIA's Ampere"),
        ("Mistral", {}, {"dtype": "float32"}, "float32 is computed in"),
        ("Mistral", {"attention_dropout": 0.1}, {}, "the model has attention_dropout"),
        ("Gemma2", {}, {}, "the model has attn_logit_softcapping"),
        ("GptOss", {}, {}, "the model takes none but its own"),
        ("GPT2", {}, {}, "the model has attn_pdrop"),
        ("Mamba", {}, {}, "the model takes none but its own"),
    ],
)
def test_what_cannot_be_computed_so_is_known_before(
    name: str,
    own: dict[str, Any],
    where: dict[str, Any],
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_gpu(monkeypatch, **{"capability": (9, 0), "dtype": "bfloat16", **where})

    dtype = where.get("dtype", "bfloat16")
    assert why_not(class_of(name), small_config(name, **own), dtype) == reason
    assert why_not(None, small_config("Mistral"), "bfloat16")


def on_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: str = "") -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (80 << 30, 80 << 30))


def test_a_gpu_packs_examples_unless_it_is_asked_not_to(
    config: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def read(packing: bool | None, **own: Any) -> Material:
        training = config.training.model_copy(update={"packing": packing})
        asked = config.model_copy(update={"training": training, "dtype": "bfloat16", **own})
        return Material.read(open_inputs(asked), asked, "cuda")

    on_gpu(monkeypatch, (9, 0))
    packed, apart = read(None), read(False)
    assert (packed.attention, packed.splits.is_packed, packed.lacks) == (VARLEN, True, None)
    assert (apart.attention, apart.splits.is_packed) == ("sdpa", False)
    assert read(None, attn_implementation=VARLEN).attention == VARLEN
    assert read(True, attn_implementation="sdpa").attention == "sdpa"
    with pytest.raises(ConfigError, match="varlen_attn cannot be used: rows are not packed"):
        read(False, attn_implementation=VARLEN)

    on_gpu(monkeypatch, (7, 5))
    capfd.readouterr()
    old, forced = read(None), read(True)
    reason = "the GPU is older than NVIDIA's Ampere"
    assert (old.attention, old.splits.is_packed, old.lacks) == ("sdpa", False, reason)
    assert (forced.attention, forced.splits.is_packed) == ("sdpa", True)
    assert f"is left out: {reason}" in capfd.readouterr().err
    with pytest.raises(ConfigError, match=f"varlen_attn cannot be used: {reason}"):
        read(None, attn_implementation=VARLEN)


def test_a_cpu_takes_none_of_it(config: FinetuneConfig) -> None:
    asked = config.model_copy(update={"attn_implementation": VARLEN})

    assert pick_attention(config, resolve_model(str(config.model)), "cpu") == ("sdpa", None)
    with pytest.raises(ConfigError, match="varlen_attn trains on CUDA GPUs alone"):
        Material.read(open_inputs(asked), asked, "cpu")
    assert varlen.OPTIONS.keys() >= {"query", "cu_seq_q", "max_q", "scale", "window_size"}


def test_the_kernel_itself_takes_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """By shapes and number formats alone, which need no GPU."""
    monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", KERNEL)
    with FakeTensorMode():
        query, key, value = (
            torch.empty(1, heads, 64, 32, dtype=torch.bfloat16, requires_grad=True)
            for heads in (8, 2, 2)
        )
        bounds = torch.empty(3, dtype=torch.int32)
        given = {"scaling": 0.2, "dropout": 0.0, "sliding_window": 16, "max_length_q": 54}
        found, _ = varlen.attend(
            SimpleNamespace(is_causal=True), query, key, value, None, cu_seq_lens_q=bounds, **given
        )
        found.sum().backward()

    assert (found.shape, found.dtype) == ((1, 64, 8, 32), torch.bfloat16)
    assert key.grad is not None
    assert key.grad.shape == key.shape


def test_heads_are_repeated_where_the_kernel_shares_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in PyTorch 2.11."""
    monkeypatch.setattr(varlen, "OPTIONS", dict.fromkeys(varlen.OPTIONS.keys() - {"enable_gqa"}))
    torch.manual_seed(0)
    model = class_of("Mistral")(small_config("Mistral")).eval()

    found, expected = (run_packed(model, attention) for attention in (VARLEN, "sdpa"))

    assert (found - expected).abs().max() < 1e-5
    monkeypatch.setattr(varlen, "OPTIONS", {"query": None, "is_causal": None})
    on_gpu(monkeypatch, (9, 0))
    assert why_not(class_of("Mistral"), model.config, "bfloat16") == "PyTorch is older than 2.11"
