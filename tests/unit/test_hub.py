"""The hub: when it may be asked."""

import pytest

from medllm.data.registry.hub import is_offline


@pytest.mark.parametrize(
    ("said", "expected"),
    [("", False), ("0", False), ("false", False), ("False", False), ("NO", False), ("off", False),
     ("1", True), ("true", True), ("YES", True), ("on", True), ("2", True), ("offline", True)],
)  # fmt: skip
def test_only_a_no_lets_the_hub_be_asked(
    said: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", said)

    assert is_offline() == expected
