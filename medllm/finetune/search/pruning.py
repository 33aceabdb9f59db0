"""Ending a trial where others were better by then. Imports transformers."""

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from optuna.trial import Trial


class Pruning(TrainerCallback):  # type: ignore[misc]
    """Tells a trial each validation loss, and ends it where others were better by then."""

    def __init__(self, trial: "Trial") -> None:
        self._trial = trial
        self._is_training = self._is_hopeless = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to watch: what is evaluated before is not trained."""
        self._is_training = True

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
    ) -> None:
        """Compare with the other trials after as many evaluations, between the first step and end.

        A checkpoint's log holds those before it, so that a resumed trial counts them too.
        """
        if self._is_training and 0 < state.global_step < state.max_steps:
            number = sum("eval_loss" in log and log["step"] > 0 for log in state.log_history)
            self._trial.report(metrics["eval_loss"], number)
            self._is_hopeless = self._trial.should_prune()
            control.should_training_stop |= self._is_hopeless

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Raise TrialPruned where the trial was ended."""
        from optuna import TrialPruned

        self._is_training = False
        if self._is_hopeless:
            raise TrialPruned
