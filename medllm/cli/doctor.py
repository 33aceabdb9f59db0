"""`medllm doctor`."""

import typer


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
    from medllm.checkup import check_machine, gpu_rows
    from medllm.models.gpu import ask_driver, read_facts

    if set_up_llama_cpp:
        from medllm.engines.llama_cpp_setup import set_up

        set_up()
        return
    rows = [*check_machine(), *gpu_rows(ask_driver(read_facts()))]
    columns = ("part", "state", "remedy")
    console.report(parts=[dict(zip(columns, row, strict=True)) for row in rows])
    console.table(columns, rows)
