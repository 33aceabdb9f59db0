"""Secrets and pushes in the trainer's further options."""

import pytest
from pydantic import ValidationError

from medllm.finetune.config import TrainingSettings
from medllm.finetune.secrets import find_secret

TOKEN = "hf_" + "a" * 34


@pytest.mark.parametrize(
    ("extra", "place"),
    [
        ({"hub_token": "x"}, "hub_token"),
        ({"model_init_kwargs": {"token": "x"}}, "model_init_kwargs.token"),
        ({"dataset_kwargs": {"storage": [{"api-key": "x"}]}}, "dataset_kwargs.storage.api-key"),
        ({"wandb_password": "x"}, "wandb_password"),
        ({"run_name": TOKEN}, "run_name"),
        ({"trackio_space_id": "https://me:secret@example.org/x"}, "trackio_space_id"),
        ({"report_to": ["tensorboard", "Bearer abcdefghij"]}, "report_to"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(extra: dict[str, object], place: str) -> None:
    assert find_secret(extra) == place
    with pytest.raises(ValidationError) as caught:
        TrainingSettings(extra=extra)
    message = caught.value.errors()[0]["msg"]
    assert f"extra.{place} holds a secret" in message
    assert TOKEN not in message


@pytest.mark.parametrize(
    "extra",
    [
        {"eos_token": "<|im_end|>", "pad_token": "<pad>"},
        {"include_num_input_tokens_seen": True, "average_tokens_across_devices": True},
        {"optim_args": "keys=1", "run_name": "key figures", "hub_token": None},
        {"push_to_hub": False},
    ],
)
def test_what_is_no_secret_is_taken(extra: dict[str, object]) -> None:
    assert TrainingSettings(extra=extra).extra == extra


@pytest.mark.parametrize("name", ["push_to_hub", "hub_always_push"])
def test_nothing_is_pushed(name: str) -> None:
    with pytest.raises(ValidationError, match="not sent to the hub"):
        TrainingSettings(extra={name: True})
