"""The search for good settings: trials, each a training, drawn and ended early by Optuna.

The study lies in the unfinished folder, so that a killed search resumes: a trial that ran
then is failed, and drawn again. Every trial has a sampler of its own, whose seed is that of the run
and the trial's number, so that it is the same trial whether the search was killed before it or not.
"""

import gc
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.artifacts.job import Outcome
from medllm.artifacts.manifest import Counts
from medllm.data.split import rank
from medllm.errors import ArtifactError, ConfigError, MedllmError, SetupError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.search.result import Tried, summarize, write_search
from medllm.finetune.search_config import Range, SearchConfig, with_values
from medllm.finetune.train.sigterm import answer_sigterm
from medllm.finetune.train.trainer import OutOfMemory, trainer_arguments
from medllm.models.hardware import pick_device
from medllm.ranks import count_processes

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial
    from transformers import TrainerCallback

STUDY = "search.sqlite3"
TRIALS = "trials"
"""The folder in which trials are made, and in which only the best one's folder stays."""

Train = Callable[[FinetuneConfig, Path, "Sequence[TrainerCallback]"], Outcome]


def check_can_search(config: FinetuneConfig, data: Path | None = None) -> None:
    """Raise what can be known before the first trial.

    Raises:
        SetupError: Optuna is not installed.
        ConfigError: the prepared folder `data` has no validation rows to compare trials by.
    """
    if config.search is None:
        return
    if find_spec("optuna") is None:
        raise SetupError("a search needs Optuna", "pip install 'medllm[search]'")
    if count_processes() > 1:
        message = "finetune.search: a search runs in one process"
        raise ConfigError(message, "search without a launcher, then launch with its best.yaml")
    rows = data and data / "validation.jsonl"
    if rows and not (rows.is_file() and rows.stat().st_size):
        raise _nothing_to_compare()


def _nothing_to_compare() -> ConfigError:
    return ConfigError(
        "finetune.search: there are no validation rows to compare trials by",
        "prepare the data with a split that has some, or leave `search` out",
    )


def search(config: FinetuneConfig, train: Train, folder: Path) -> Outcome:
    """The outcome of the best trial, whose files lie in the folder, with what was tried.

    Raises:
        ArtifactError: no trial came to its end.
        ConfigError: the trainer refuses a value that would be tried.
    """
    assert config.search
    if not config.resume:
        (folder / STUDY).unlink(missing_ok=True)
        shutil.rmtree(folder / TRIALS, ignore_errors=True)
    _check_values(config, config.search, folder)
    with open_study(config.search, folder) as study:
        running = Search(config, config.search, train, folder, study)
        running.walk()
        return running.finish()


def _check_values(config: FinetuneConfig, settings: SearchConfig, folder: Path) -> None:
    """Raise ConfigError for an outermost value that trl's configuration refuses."""
    for name in settings.parameters:
        for value in settings.ends(name).values():
            one = with_values(config, {name: value})
            trainer_arguments(one, folder / TRIALS, pick_device(), can_evaluate=True)


@contextmanager
def open_study(settings: SearchConfig, folder: Path) -> Iterator["Study"]:
    """The study in a folder, new or as it was left; what ran when it was left is failed."""
    import optuna
    from optuna.storages import RDBStorage
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    database = RDBStorage(f"sqlite:///{folder / STUDY}")
    study = optuna.create_study(
        storage=database,
        study_name="search",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=settings.startup_trials),
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    try:
        yield study
    finally:
        database.remove_session()
        database.engine.dispose()


@dataclass(frozen=True)
class Search:
    """A search that is running."""

    config: FinetuneConfig
    settings: SearchConfig
    train: Train
    folder: Path
    study: "Study"

    def walk(self) -> None:
        """Make the trials that are missing."""
        while len(self.tried) < self.settings.trials:
            number = len(self.tried) + 1
            self._keep({self._best_folder, str(number)})
            self._try(number)
            self._say(self.tried[-1])
        self._keep({self._best_folder})

    def finish(self) -> Outcome:
        """Move the best trial's files up, and write what was tried."""
        best = self.best
        if best is None:
            raise ArtifactError(
                "no trial of the search finished",
                "lower finetune.search.parameters.training.learning_rate, or the batch size",
            )
        made = self.folder / TRIALS / str(best.number)
        if made.is_dir():
            for path in made.iterdir():
                path.replace(self.folder / path.name)
        shutil.rmtree(self.folder / TRIALS, ignore_errors=True)
        found = self._trial_config(best.parameters)
        write_search(self.tried, best, found, self.folder)
        results = best.outcome["results"] | {"search": summarize(self.tried, best)}
        counts = Counts.model_validate(best.outcome["counts"])
        return Outcome(counts, results, best.outcome["device"])

    @property
    def tried(self) -> list[Tried]:
        """The trials that are over, in order."""
        from optuna.trial import TrialState

        over = (TrialState.COMPLETE, TrialState.PRUNED)
        return [_tried(trial) for trial in self.study.get_trials(deepcopy=False, states=over)]

    @property
    def best(self) -> Tried | None:
        """The first of those with the lowest validation loss that came to their end."""
        complete = [each for each in self.tried if each.value is not None]
        return min(complete, key=lambda each: each.value or 0.0, default=None)

    @property
    def _best_folder(self) -> str:
        return str(self.best.number) if self.best else ""

    def _keep(self, names: set[str]) -> None:
        """Delete the folders of all other trials."""
        for path in (self.folder / TRIALS).glob("*"):
            if path.name not in names:
                shutil.rmtree(path)

    def _try(self, number: int) -> None:
        import optuna
        from optuna.trial import TrialState

        startup = self.settings.startup_trials
        seed = int(rank(f"trial {number}", self.config.seed) * 2**32)
        self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed)
        trial = self.study.ask(self._distributions())
        trial.set_user_attr("number", number)
        began = time.monotonic()
        try:
            state, value = self._made(trial, number)
        except MedllmError:
            self.study.tell(trial, state=TrialState.FAIL)
            raise
        trial.set_user_attr("seconds", round(time.monotonic() - began, 1))
        trial.set_user_attr("state", state)
        if value is None:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, value)

    def _made(self, trial: "Trial", number: int) -> tuple[str, float | None]:
        """How a trial ended, and its validation loss if it came to its end."""
        from optuna import TrialPruned

        from medllm.finetune.search.pruning import Pruning
        from medllm.finetune.train.callbacks import Diverged

        for other in self.tried:
            if other.parameters == trial.params:
                return f"as trial {other.number}", other.value
        config, folder = self._trial_config(trial.params), self.folder / TRIALS / str(number)
        if not self._goes_on(trial, number):
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with _by_itself():
                outcome = self.train(config, folder, [Pruning(trial)])
        except TrialPruned:
            return "pruned", None
        except Diverged:
            return "diverged", None
        except OutOfMemory:
            return "out of memory", None
        value = outcome.results["validation_loss"]
        if value is None:
            raise _nothing_to_compare()
        if not math.isfinite(value):
            return "diverged", None
        trial.set_user_attr("outcome", {**vars(outcome), "counts": outcome.counts.model_dump()})
        return "complete", value

    def _goes_on(self, trial: "Trial", number: int) -> bool:
        """Whether this trial ran before, so that its checkpoints are its own."""
        from optuna.trial import TrialState

        failed = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        same = [each for each in failed if each.user_attrs.get("number") == number]
        return any(each.params == trial.params for each in same)

    def _trial_config(self, parameters: Mapping[str, Any]) -> FinetuneConfig:
        """The section with a trial's values."""
        return with_values(self.config, parameters)

    def _distributions(self) -> "dict[str, BaseDistribution]":
        return {name: self._distribution(name) for name in self.settings.parameters}

    def _distribution(self, name: str) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        choice = self.settings.parameters[name]
        if not isinstance(choice, Range):
            return CategoricalDistribution(choice)
        if self.settings.is_whole(name, self.config):
            step = int(choice.step or 1)
            return IntDistribution(int(choice.low), int(choice.high), choice.log, step)
        return FloatDistribution(choice.low, choice.high, choice.log, choice.step)

    def _say(self, last: Tried) -> None:
        best = self.best
        known = f" (best {best.value:.3f})" if best else ""
        drawn = ", ".join(f"{name} {value}" for name, value in last.short.items())
        line = f"trial {last.number} of {self.settings.trials}: {drawn}: {last.said}"
        console.notice(f"finetune: {line}{known}")


def _tried(trial: "FrozenTrial") -> Tried:
    known = trial.user_attrs
    return Tried(
        number=known["number"],
        parameters=trial.params,
        value=trial.value if trial.state.name == "COMPLETE" else None,
        state=known["state"],
        seconds=known["seconds"],
        evaluations=[loss for _, loss in sorted(trial.intermediate_values.items())],
        outcome=known.get("outcome", {}),
    )


@contextmanager
def _by_itself() -> Iterator[None]:
    """With the memory of the last training freed, and SIGTERM given back after this one."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        answer_sigterm(before)
