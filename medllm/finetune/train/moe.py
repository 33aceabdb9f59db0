"""The load-balancing loss of a MoE model, which TRL adds to that of the answers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.models.load import ModelRef, read_config, text_config_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl import SFTConfig, SFTTrainer


def of_answers(trainer: "SFTTrainer", log: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the trainer's log with the training loss of the answers alone, in nats per token.

    The validation loss is theirs alone already (`validation.TokenMeans`).
    """
    if not {"loss", "aux_loss"} <= log.keys():
        return dict(log)
    weighted = trainer.router_aux_loss_coef * log["aux_loss"]
    return {**log, "loss": float(log["loss"]) - weighted}


def leave_out_unknown(arguments: "SFTConfig", base: "PreTrainedModel") -> None:
    """Train without the load-balancing loss where TRL does not find the experts: Granite, PhiMoE.

    It asks for `num_experts`, which they call otherwise.
    """
    text = base.config.get_text_config()
    if hasattr(text, "output_router_logits") and not hasattr(text, "num_experts"):
        arguments.router_aux_loss_coef = 0.0
        console.notice("finetune: without the router's load-balancing loss: TRL has none for it")


def restore_router(trained: "PreTrainedModel", base: ModelRef) -> None:
    """Undo what TRL changed in the configuration: else inference, too, collects router logits."""
    text = trained.config.get_text_config()
    if hasattr(text, "output_router_logits"):
        stored = text_config_of(read_config(base.path))
        text.output_router_logits = stored.get("output_router_logits", False)
