"""A model that was taken offline stays so, whoever starts its server next."""

from pathlib import Path

import pytest

from medllm.places import config_dir
from medllm.serve.model.switch import Switch


def test_offline_outlives_a_server() -> None:
    first = Switch.of("models/lora q4")
    assert not first.is_offline
    first.turn_off()

    assert Switch.of("models/lora q4").is_offline
    assert not Switch.of("another").is_offline
    (mark,) = (config_dir() / "offline").iterdir()
    assert mark.stat().st_mode & 0o777 == 0o600
    assert mark.parent.stat().st_mode & 0o777 == 0o700

    second = Switch.of("models/lora q4")
    second.turn_on()
    second.turn_on()
    assert not Switch.of("models/lora q4").is_offline


def test_it_is_offline_also_where_nothing_can_be_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    switch = Switch(tmp_path / "file" / "mark")
    switch.turn_off()

    assert switch.is_offline
    assert "offline until this server ends" in capfd.readouterr().err
