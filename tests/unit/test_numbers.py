"""No setting takes a number that means nothing: NaN, infinity, below zero, far too large."""

import importlib
import json
import math
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

import medllm
from medllm.config.base import Strict
from medllm.config.loader import Document, parse_assignments, validate
from medllm.data.split import SplitConfig
from medllm.errors import ConfigError
from medllm.recipe import Recipe

NEGATIVE = {
    ("TrainingSettings", "max_steps"): "-1 stands for none, as in transformers",
    ("GptqFormat", "group_size"): "-1 stands for a whole row, as in gptqmodel",
    ("AwqFormat", "group_size"): "-1 stands for a whole row, as in gptqmodel",
    ("Range", "low"): "the setting that is searched has bounds of its own",
    ("Range", "high"): "the setting that is searched has bounds of its own",
    ("SearchConfig", "parameters"): "as Range",
    ("Threshold", "min"): "a difference may be a small loss",
    ("Threshold", "max"): "as its min",
    **{
        (model, f"{name}_penalty"): "a negative one rewards, as in OpenAI's and transformers'"
        for model in ("Writing", "Sampled", "Stage", "GenerateConfig", "Generation")
        for name in ("presence", "frequency", "length")
    },
}
"""Fields that take -1, and why."""


@cache
def models() -> tuple[type[Strict], ...]:
    """Every model that people write, wherever it is; no module of a config imports torch."""
    for module in pkgutil.walk_packages(medllm.__path__, "medllm."):
        if module.name.rpartition(".")[2] in {
            "config",
            "search_config",
            "recipe",
            "mix",
            "split",
            "registry",
            "columns",
            "clean",
            "tasks",
            "hub",
        }:
            importlib.import_module(module.name)
    return tuple(sorted(below(Strict), key=lambda model: model.__name__))  # fmt: skip


def below(model: type[Strict]) -> Iterator[type[Strict]]:
    for child in model.__subclasses__():
        if child.__module__.startswith("medllm."):
            yield child
            yield from below(child)


def parts_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from parts_of(part)


def takes_numbers(model: type[BaseModel], name: str) -> bool:
    parts = list(parts_of(model.model_fields[name].annotation))
    return any(part in {int, float} or type(part) is int for part in parts)


NUMBERS = [
    (model, name) for model in models() for name in model.model_fields if takes_numbers(model, name)
]


def is_refused(model: type[BaseModel], name: str, value: Any) -> bool:
    try:
        model.model_validate_json(json.dumps({name: value}))
    except ValidationError as problem:
        return any(error["loc"][:1] == (name,) for error in problem.errors())
    return False


def test_the_models_are_found() -> None:
    assert len(NUMBERS) > 50
    assert {model.__name__ for model, _ in NUMBERS} >= {"TrainingSettings", "SplitConfig", "Mix"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e308, 10**30, -1e30])
def test_no_setting_takes_a_number_that_means_nothing(value: float) -> None:
    shapes = (value, [value], {"x": value}, {"x": [value]})
    taken = [
        (model.__name__, name)
        for model, name in NUMBERS
        if not all(is_refused(model, name, shape) for shape in shapes)
    ]
    searched = ("SearchConfig", "parameters")  # the setting that is searched refuses them
    assert [place for place in taken if math.isnan(value) or place != searched] == []


def test_no_setting_is_negative_but_for_a_reason() -> None:
    taken = {
        (model.__name__, name)
        for model, name in NUMBERS
        if not all(is_refused(model, name, shape) for shape in (-1, [-1], {"x": -1}))
    }
    assert taken <= NEGATIVE.keys()


@pytest.mark.parametrize(
    "assignment",
    [
        "finetune.training.extra={max_grad_norm: .nan}",
        "finetune.training.extra={optim_args: [{a: .inf}]}",
        "split={validation: 0.7, test: 0.7}",
        "split={time: charttime}",
        "finetune.training.learning_rate=.nan",
        "seed=-1",
        "generate.temperature=1e-320",
        "generate.temperature=101",
        "seed=4294967296",
        "serve.n_ctx=100000000000",
    ],
)
def test_a_recipe_is_refused_for_it(assignment: str) -> None:
    with pytest.raises(ConfigError, match=assignment.partition("=")[0]):
        validate(Recipe, parse_assignments([assignment]))


def test_a_split_may_hold_out_nothing() -> None:
    assert SplitConfig(validation=0.0, test=0.0).test == 0
    assert validate(Recipe, Document()).split.validation == 0.1


@pytest.mark.parametrize(
    "name", ["../../x", "/tmp", "..", ".", "", " ", "a/b", "a\\b", "a\tb", "é" * 101]
)
def test_a_recipes_name_stays_in_its_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="names a folder"):
        validate(Recipe, Document({"name": name}))
