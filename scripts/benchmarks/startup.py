"""How fast the command line answers: help beside `import typer`, and a wrong key.

python scripts/benchmarks/startup.py
"""

import sys
import tempfile
from pathlib import Path

import measure

PAIRS = 15


def main() -> None:
    """Measure in turn, print a table, write the JSON."""
    recipe = Path(tempfile.mkdtemp()) / "wrong.yaml"
    recipe.write_text("finetune:\n  training: {learning_rte: 1e-4}\n", encoding="utf-8")
    commands = {
        "import typer": [sys.executable, "-c", "import typer"],
        "medllm --help": [sys.executable, "-m", "medllm", "--help"],
        "a misspelt key": [sys.executable, "-m", "medllm", "finetune", "--config", str(recipe)],
    }
    runs: dict[str, list[measure.Measured]] = {name: [] for name in commands}
    for _ in range(PAIRS):
        for name, command in commands.items():
            runs[name].append(measure.run(command))
    seconds = {name: round(measure.median_seconds(found), 4) for name, found in runs.items()}
    for name, value in seconds.items():
        print(f"{name:<16} {value:.3f} s  (exit {runs[name][0].exit_code})")
    ratio = round(seconds["medllm --help"] / seconds["import typer"], 3)
    print(f"help / import typer: {ratio:.2f}")
    measure.write("startup", {"pairs": PAIRS, "median_seconds": seconds, "help_over_typer": ratio})


if __name__ == "__main__":
    main()
