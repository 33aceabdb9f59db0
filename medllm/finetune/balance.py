"""A mixture's load-balancing loss: TRL adds it to the loss; it says nothing of the answers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medllm.models.load import ModelRef, read_config, text_config_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl import SFTTrainer

LOSSES = {"loss": "aux_loss", "eval_loss": "eval_aux_loss"}
"""The losses of TRL's log, and the balance loss in each, which is weighted before it is added."""


def of_answers(trainer: "SFTTrainer", log: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the trainer's log with the losses of the answers alone, in nats a token."""
    alone = {
        loss: float(log[loss]) - trainer.router_aux_loss_coef * log[balance]
        for loss, balance in LOSSES.items()
        if loss in log and balance in log
    }
    return {**log, **alone}


def restore_router(trained: "PreTrainedModel", base: ModelRef) -> None:
    """Undo what TRL changed in the configuration: else inference, too, collects router logits."""
    text = trained.config.get_text_config()
    if hasattr(text, "output_router_logits"):
        stored = text_config_of(read_config(base.path))
        text.output_router_logits = stored.get("output_router_logits", False)
