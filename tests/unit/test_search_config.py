"""What may be searched, and how a wrong search is refused."""

import json
from pathlib import Path

import pytest

from medllm.errors import ConfigError
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.search_config import with_values
from medllm.recipe import load_recipe


def read(parameters: str, **section: str) -> FinetuneConfig:
    lines = [f"  {name}: {value}" for name, value in section.items()]
    lines += ["  search:", "    parameters:", *(f"      {each}" for each in parameters.split("\n"))]
    Path("mine.yaml").write_text("\n".join(["finetune:", *lines]), encoding="utf-8")
    config = load_recipe("mine.yaml").finetune
    assert config
    return config


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (
            "training.learning_rte: {low: 1, high: 2}",
            "mine.yaml:4: finetune.search.parameters.training.learning_rte: no such setting to "
            "search; did you mean 'training.learning_rate'?",
        ),
        ("training.max_length: [128, 256]", "training.max_length: must be the same in all trials"),
        (
            "training.learning_rate: {low: 0, high: 1e-3}",
            "training.learning_rate.low: input should be greater than 0, got 0",
        ),
        ("lora.r: [8, 16.5]", "lora.r.1: input should be a valid integer, got 16.5"),
        ("lora.r: {low: 8.5, high: 16}", "lora.r.low: input should be a valid integer, got 8.5"),
        ("lora.lora_dropout: {low: 0.0, high: 1.0}", "lora_dropout.high: input should be less"),
        ("lora.r: {low: 16, high: 8}", "low is 16, which must be below high, 8"),
        ("lora.r: {low: 8, high: 30, step: 8}", "high is not low and a whole number of steps of 8"),
        ("training.learning_rate: {low: 1, high: 2, lag: true}", "unknown key"),
        ("replay.share: {low: 0.1, high: 0.3}", "no such setting to search"),
        ("lora.r: []", "at least 1 item"),
    ],
)
def test_a_wrong_search_is_refused_when_the_recipe_is_read(parameters: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(parameters)

    assert says in caught.value.message
    assert "mine.yaml:4" in caught.value.message


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read("lora.r: [0]\ntraining.learning_rate: {low: -1, high: 0}\nlora.rank: [8]")

    assert len(caught.value.message.splitlines()) == 4


def test_there_is_no_rank_to_search_without_an_adapter() -> None:
    with pytest.raises(ConfigError, match="lora.r: no such setting to search"):
        read("lora.r: [8]", lora="null")


def test_what_is_drawn_is_whole_where_the_setting_or_the_step_is() -> None:
    config = read(
        "lora.r: {low: 8, high: 32}\ntraining.weight_decay: {low: 0, high: 1}\n"
        "training.num_train_epochs: {low: 1, high: 4, step: 1}\n"
        "training.extra.eval_delay: {low: 1, high: 4}\nreplay.share: {low: 0.1, high: 0.3}",
        replay="{dataset: wikitext}",
    )
    assert config.search

    whole = {name for name in config.search.parameters if config.search.is_whole(name, config)}

    assert whole == {"lora.r", "training.num_train_epochs", "training.extra.eval_delay"}


def test_values_are_put_in_their_places() -> None:
    config = read("lora.r: [8]")

    found = with_values(config, {"lora.r": 64, "training.extra.optim": "sgd"})

    assert found.lora
    assert (found.lora.r, found.training.extra, found.search) == (64, {"optim": "sgd"}, None)
    unchanged = config.model_copy(update={"search": None})
    assert with_values(config, {}) == unchanged


def test_a_share_of_replay_is_between_none_and_all() -> None:
    for share in (0, 1):
        document = json.dumps({"replay": {"dataset": "wikitext", "share": share}})
        with pytest.raises(ValueError, match="replay.share"):
            FinetuneConfig.model_validate_json(document)
