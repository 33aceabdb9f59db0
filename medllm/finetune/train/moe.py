"""The load-balancing loss of a MoE model, which TRL adds to that of the answers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medllm.models.load import ModelRef, read_config, text_config_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl import SFTTrainer


def of_answers(trainer: "SFTTrainer", log: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the trainer's log with the training loss of the answers alone, in nats per token.

    The validation loss is theirs alone already (`validation.TokenMeans`).
    """
    if not {"loss", "aux_loss"} <= log.keys():
        return dict(log)
    weighted = trainer.router_aux_loss_coef * log["aux_loss"]
    return {**log, "loss": float(log["loss"]) - weighted}


def restore_router(trained: "PreTrainedModel", base: ModelRef) -> None:
    """Undo what TRL changed in the configuration: else inference, too, collects router logits."""
    text = trained.config.get_text_config()
    if hasattr(text, "output_router_logits"):
        stored = text_config_of(read_config(base.path))
        text.output_router_logits = stored.get("output_router_logits", False)
