"""Which of several processes this one is, as `accelerate launch` and torchrun say it.

They start the same command many times and put RANK, LOCAL_RANK and WORLD_SIZE into the environment.
WORLD_SIZE alone is no sign of it: cluster schedulers set it too, for what a user starts once.
"""

import os

MAIN = 0
VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
"""What launchers set; the command line refuses to start where one of them is no number."""


def count_processes() -> int:
    """How many processes run this command together; 1 if it was started alone."""
    return _number("WORLD_SIZE", 1) if "LOCAL_RANK" in os.environ else 1


def own_rank() -> int:
    """The number of this process among them, from 0."""
    return _number("RANK", MAIN) if count_processes() > 1 else MAIN


def local_rank() -> int:
    """The number of this process on its machine, from 0."""
    return _number("LOCAL_RANK", MAIN) if count_processes() > 1 else MAIN


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return own_rank() == MAIN
