"""The `search:` and `replay:` parts of the `finetune:` section, and which settings are searched."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from medllm.config.base import DatasetRef, Strict
from medllm.errors import did_you_mean

Config = TypeVar("Config", bound=BaseModel)
Value = bool | int | float | str | None
Values = Annotated[tuple[Value, ...], Field(min_length=1)]
SEARCHED = ("lora", "training", "replay")
"""The parts of the section whose settings can be searched."""
EXTRA = "training.extra"
FIXED = frozenset(
    {EXTRA, "replay.dataset", "training.report_to", "training.max_length", "training.eval_steps"}
)
"""Not these: the validation rows and the times of evaluation must be the same in all trials."""


class ReplayConfig(Strict):
    """Other text that is mixed into the training, against forgetting."""

    dataset: DatasetRef
    """A name of the registry, or a path of your own file or folder."""
    share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training tokens that come from it."""


class Range(Strict):
    """Numbers to draw from."""

    low: int | float
    """The lowest."""
    high: int | float
    """The highest."""
    log: bool = False
    """Whether they are drawn evenly by order of magnitude."""
    step: int | float | None = Field(default=None, gt=0)
    """Distance between two of them; none for all numbers between."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low}, which must be below high, {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0, and no step")
        steps = (self.high - self.low) / self.step if self.step else 1
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"high is not low and a whole number of steps of {self.step}")
        return self


class SearchConfig(Strict):
    """Which settings to try, and how often."""

    trials: int = Field(default=20, ge=1)
    """Trainings, those that are ended early too."""
    startup_trials: int = Field(default=5, ge=1)
    """So many are drawn evenly and trained to their end before anything is concluded from them."""
    parameters: dict[str, Range | Values] = Field(min_length=1)
    """For each setting, by its dotted path in this section, a range or a list of values."""

    def ends(self, name: str) -> dict[str | int, Value]:
        """The outermost values of a parameter by where they stand, or all in a list."""
        choice = self.parameters[name]
        if isinstance(choice, Range):
            return {"low": choice.low, "high": choice.high}
        return dict(enumerate(choice))

    def is_whole(self, name: str, config: BaseModel) -> bool:
        """Whether a range holds whole numbers alone.

        It does where the setting takes no others, and where all that is written is whole; a
        setting for any numbers must have a step for that.
        """
        choice = self.parameters[name]
        assert isinstance(choice, Range)
        kinds = _kinds(name, config)
        written = [choice.low, choice.high, *([choice.step] if choice.step else [])]
        is_for_all = float in kinds and choice.step is None
        return int in kinds or (all(isinstance(end, int) for end in written) and not is_for_all)


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A section without its search, and with these values in the places of their names.

    Raises:
        ValidationError: the section refuses one.
    """
    document = config.model_dump(mode="json") | {"search": None}
    for name, value in values.items():
        *path, last = name.split(".", 2)
        place = document
        for part in path:
            place = place[part]
        place[last] = value
    return type(config).model_validate_json(json.dumps(document))


def check_search(config: BaseModel, search: SearchConfig) -> None:
    """Raise ValidationError for a name that is no setting, and for a value that it refuses."""
    known = {name for name, _ in _settings(config)}
    problems = []
    for name in search.parameters:
        if name not in known and not name.startswith(f"{EXTRA}."):
            hint = did_you_mean(name, known).rstrip() or f"known: {', '.join(sorted(known))}"
            unknown = f"no such setting to search; {hint}"
            message = "must be the same in all trials" if name in FIXED else unknown
            problems.append(_problem(message, (name,), None))
            continue
        for place, value in search.ends(name).items():
            try:
                with_values(config, {name: value})
            except ValidationError as problem:
                message = problem.errors()[0]["msg"].removeprefix("Value error, ")
                problems.append(_problem(f"{message}, got {value!r}", (name, place), value))
    if problems:
        raise ValidationError.from_exception_data(type(config).__name__, problems)


def _problem(message: str, where: tuple[str | int, ...], value: Any) -> InitErrorDetails:
    error = PydanticCustomError("value_error", "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=("search", "parameters", *where), input=value)


def _settings(config: BaseModel) -> Iterator[tuple[str, Any]]:
    """The dotted paths of what can be searched, and what they hold, as the section is."""
    for part in SEARCHED:
        if inner := getattr(config, part):
            for name, field in type(inner).model_fields.items():
                if f"{part}.{name}" not in FIXED:
                    yield f"{part}.{name}", field.annotation


def _kinds(name: str, config: BaseModel) -> tuple[Any, ...]:
    kind = dict(_settings(config)).get(name)
    return (kind, *get_args(kind))
