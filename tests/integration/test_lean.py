"""What a forward pass of a training leaves out, and that nothing changes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from trainings import small, write_examples
from trl import SFTTrainer
from trl.trainer import utils as trl_utils

from medllm.finetune.config import FinetuneConfig
from medllm.finetune.rows.build import IGNORED
from medllm.finetune.rows.material import Material
from medllm.finetune.train import trainer as trainer_module
from medllm.finetune.train.trainer import open_trainer
from medllm.finetune.verb import open_inputs


@pytest.mark.parametrize(
    ("attention", "checkpointing"), [("sdpa", False), ("eager", False), ("sdpa", True)]
)
def test_losses_and_gradients_are_those_of_trl(
    attention: str,
    checkpointing: bool,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = write_examples(tmp_path / "data")
    extra = {"gradient_checkpointing": checkpointing}
    config = small(tiny_model, data, tmp_path / "out", extra=extra)
    config = config.model_copy(update={"attn_implementation": attention})
    ours = opened(config, tmp_path)
    monkeypatch.setattr(trainer_module, "make_lean", lambda *_, **__: None)
    theirs = opened(config, tmp_path)
    batch = next(b for b in theirs.get_train_dataloader() if not b["attention_mask"].all())

    for trainer in (ours, theirs):
        trainer.compute_loss(trainer.model, dict(batch)).backward()

    found, expected = (gradients(trainer) for trainer in (ours, theirs))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    logged, wanted = (dict(trainer._metrics["train"]) for trainer in (ours, theirs))
    assert {n: pytest.approx(v) for n, v in wanted.items()} == logged


def test_only_what_is_learnt_is_scored(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []
    apply = trl_utils._ChunkedLogProbFunction.apply
    spy = SimpleNamespace(apply=lambda h, *rest: scored.append(len(h)) or apply(h, *rest))
    monkeypatch.setattr(trl_utils, "_ChunkedLogProbFunction", spy)
    config = small(tiny_model, write_examples(tmp_path / "data"), tmp_path / "out")
    trainer = opened(config, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    is_learnt = batch["labels"][:, 1:] != IGNORED
    *others, last = trainer.model.get_decoder().layers
    computed: list[int] = []
    for layer in (others[-1], last):
        layer.mlp.down_proj.register_forward_pre_hook(
            lambda _, given: computed.append(given[0].shape[:-1].numel())
        )

    found = trainer.model(**batch, fused_lm_head=True)

    assert scored == [is_learnt.sum()] < [is_learnt.numel()]
    assert computed == [batch["labels"].numel(), is_learnt.sum()]
    assert torch.equal(found.label_mask, is_learnt)
    assert torch.equal(found.log_probs != 0, is_learnt)


def test_a_batch_in_which_nothing_is_learnt_has_no_loss(tiny_model: Path, tmp_path: Path) -> None:
    config = small(tiny_model, write_examples(tmp_path / "data"), tmp_path / "out")
    trainer = opened(config, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    batch["labels"] = torch.full_like(batch["labels"], IGNORED)

    loss = trainer.compute_loss(trainer.model, batch)

    loss.backward()
    assert float(loss.detach()) == 0


def opened(config: FinetuneConfig, folder: Path) -> SFTTrainer:
    """The trainer as finetune sets it up, with weights that would change."""
    trainer = open_trainer(config, Material.read(open_inputs(config), config, "cpu"), folder, "cpu")
    torch.manual_seed(0)
    for name, weights in trainer.model.named_parameters():
        if "lora_B" in name:  # 0 at the beginning, and so the gradients of lora_A
            torch.nn.init.normal_(weights, std=0.02)
    return trainer


def gradients(trainer: SFTTrainer) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("tokens", "parts"), [(100, 1), (1e-3, 8)])
def test_a_step_of_long_rows_is_computed_in_parts(
    tokens: float, parts: int, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tiny_model, write_examples(tmp_path / "data"), tmp_path / "out")
    monkeypatch.setattr(trainer_module, "AT_A_TIME", tokens * 8)

    arguments = opened(config, tmp_path).args

    assert arguments.gradient_accumulation_steps == parts
    assert arguments.per_device_train_batch_size * parts == 8
