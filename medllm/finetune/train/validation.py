"""The validation loss and accuracy: means over trained tokens, however the rows are batched."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.trainer_utils import EvalLoopOutput
    from trl import SFTTrainer


class TokenMeans:
    """Puts means over all trained tokens in the place of the trainer's means of batches.

    The trainer's mean of means lets a short answer count as much as a long one, and depends on the
    size of batches and the number of processes. The numbers are put there before the trainer logs
    them, so that early stopping, the best checkpoint and a search go by them.
    """

    def __init__(self, trainer: "SFTTrainer") -> None:
        self._trainer = trainer
        self._rows: list[Tensor] = []
        self._loop = trainer.evaluation_loop
        trainer.model.register_forward_hook(self._look, with_kwargs=True)
        trainer.evaluation_loop = self._evaluate

    def _look(self, model: Any, _: Any, given: dict[str, Any], output: Any) -> None:
        """Keep each row's log-likelihood, likeliest tokens that were right, and trained tokens.

        Rows side by side, as in packed batches, are told apart: the last batch repeats some.
        """
        import torch

        if model.training or getattr(output, "log_probs", None) is None:
            return
        columns = (output.log_probs, output.is_top1, output.label_mask)
        if (bounds := given.get("cu_seq_lens_q")) is None:
            rows = torch.stack([column.float().sum(-1) for column in columns], dim=-1)
        else:
            table = torch.stack([column[0].float() for column in columns], dim=-1)
            texts = torch.nn.functional.pad(table, (0, 0, 1, 0)).split(bounds.diff().tolist())
            # padding is texts of one token
            rows = torch.stack([text.sum(0) for text in texts if len(text) > 1])
        # without the rows that the last batch of another process repeats
        self._rows.append(self._trainer.accelerator.gather_for_metrics(rows).cpu().double())

    def _evaluate(self, *inputs: Any, **named: Any) -> "EvalLoopOutput":
        import torch

        self._rows.clear()
        output = self._loop(*inputs, **named)
        log_likelihood, right, tokens = torch.cat(self._rows).sum(0).tolist()
        output.metrics[f"{named.get('metric_key_prefix', 'eval')}_loss"] = -log_likelihood / tokens
        self._trainer._metrics["eval"]["mean_token_accuracy"] = [right / tokens]
        return output
