"""Gates: figures held against thresholds, and the outcome, which may fail a command."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medllm.artifacts.manifest import write_json
from medllm.errors import GateError

OUTCOME = "gate.json"


@dataclass(frozen=True)
class Check:
    """A figure and the most that it may be; a NaN passes no gate."""

    figure: str
    value: float
    max: float

    @property
    def passed(self) -> bool:
        """Whether the figure is within the threshold."""
        return self.value <= self.max

    def __str__(self) -> str:
        return f"{self.figure} {self.value:.4g} is more than max_{self.figure} {self.max:g}"


Subject = Mapping[str, str]
"""What is judged: its name under the key that says what it is, as "format", and its identity."""


def settle_gate(
    gate: Mapping[str, Any], checks: Sequence[tuple[Subject, Check]], output: Path, fix: str
) -> None:
    """Write the outcome to `gate.json` in the output; it is no part of what was made.

    Raises:
        GateError: a figure is more than its threshold, or no number.
    """
    failed = [(subject, check) for subject, check in checks if not check.passed]
    told = [{**subject, **asdict(check), "passed": check.passed} for subject, check in checks]
    write_json(output / OUTCOME, {"gate": gate, "passed": not failed, "checks": told})
    if failed:
        raise GateError("\n".join(_lines(failed)), fix)


def _lines(failed: Sequence[tuple[Subject, Check]]) -> Iterator[str]:
    yield "the gate failed"
    for subject, check in failed:
        yield f"{next(iter(subject.values()))}: {check}"
