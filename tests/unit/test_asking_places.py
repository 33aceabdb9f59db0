"""Addresses of servers: what is none is refused before anything is sent."""

import pytest

from medllm.engines.servers.openai import check_place
from medllm.errors import ConfigError


@pytest.mark.parametrize("port", ["99999", "x", "0", "-1"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(ConfigError, match="no address of a server"):
        check_place(f"http://127.0.0.1:{port}", allow_remote=False)


def test_a_port_and_none_are_taken() -> None:
    check_place("http://127.0.0.1:65535", allow_remote=False)
    check_place("http://localhost", allow_remote=False)
