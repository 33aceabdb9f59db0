"""`medllm doctor`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from medllm.models.gpu import Facts

Row = tuple[str, str, str]
"""A part of the machine, its state and the remedy."""


def doctor(
    set_up_llama_cpp: bool = typer.Option(
        False,
        "--set-up-llama-cpp",
        help="Build llama.cpp for this machine and keep its converter (about ten minutes, once).",
    ),
) -> None:
    """Say what this machine can do and what is missing, with the remedy.

    Example: medllm doctor
    """
    from medllm import console
    from medllm.checkup import check_machine
    from medllm.models.gpu import ask_driver, read_facts

    if set_up_llama_cpp:
        from medllm.engines.llama_cpp_setup import set_up

        set_up()
        return
    rows = [*check_machine(), *gpu_rows(ask_driver(read_facts()))]
    columns = ("part", "state", "remedy")
    console.report(parts=[dict(zip(columns, row, strict=True)) for row in rows])
    console.table(columns, rows)


def gpu_rows(facts: "Facts") -> "Iterator[Row]":
    """PyTorch's CUDA and the driver, and each GPU, or why none of them computes."""
    from medllm.models.gpu import what_is_wrong

    cuda = f"PyTorch is built for {facts.cuda}" if facts.cuda else "PyTorch has none"
    yield "CUDA", f"{cuda}; driver {facts.driver or 'not found'}", ""
    for number, card in enumerate(facts.cards):
        free = "" if card.free_gib is None else f", {card.free_gib:.1f} of it free"
        capability = ".".join(map(str, card.capability))
        bfloat16 = "bfloat16" if card.has_bfloat16 else "float16, no bfloat16"
        state = f"{card.name}, {card.memory_gib:.1f} GiB{free}, capability {capability}, {bfloat16}"
        yield f"GPU {facts.number_of(number)}", state, ": ".join(what_is_wrong(facts, number))
    if not facts.cards:
        reason, fix = what_is_wrong(facts) or ("the processor computes", "")
        found = ", ".join(facts.installed) or "none"
        yield "GPU", f"{found}: {reason}", fix
