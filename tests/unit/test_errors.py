"""Errors a user can make."""

import pickle

import pytest

from medllm.errors import ArtifactError, ConfigError, DataError, GateError, MedllmError, SetupError
from medllm.models.chat.prompts import UnfitPrompt

ERRORS: list[MedllmError] = [
    *(kind("what is wrong", "what to do")
      for kind in (ConfigError, DataError, ArtifactError, SetupError, GateError)),
    UnfitPrompt("1,200 tokens", 512),
]  # fmt: skip


@pytest.mark.parametrize("problem", ERRORS, ids=lambda problem: type(problem).__name__)
def test_an_error_comes_out_of_another_process_as_it_is(problem: MedllmError) -> None:
    found = pickle.loads(pickle.dumps(problem))

    assert type(found) is type(problem)
    assert str(found) == str(problem)
    assert vars(found) == vars(problem)
    assert found.fix
