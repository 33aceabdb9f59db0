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
    from medllm.checkup import check_machine, conclude, fits, gpu_rows
    from medllm.models.gpu import ask_driver, read_facts

    if set_up_llama_cpp:
        from medllm.engines.llama_cpp_setup import set_up

        set_up()
        return
    facts = ask_driver(read_facts())
    rows = [*check_machine(), *gpu_rows(facts)]
    lacks = fits(facts, rows)
    columns = ("part", "state", "remedy")
    console.report(parts=[dict(zip(columns, row, strict=True)) for row in rows])
    console.report(recipes=[{"name": name, "lacks": each} for name, each in lacks.items()])
    console.table(columns, rows)
    fitting = [(name, ", ".join(each) or "fits") for name, each in lacks.items()]
    console.table(("recipe", "fits this machine, or lacks"), fitting)
    console.say("other recipes need what your model takes: medllm run --config RECIPE --dry-run\n")
    console.report(conclusion=conclude(rows))
    console.say(conclude(rows))
