"""What a gate said of a model, judged anew from what it wrote down."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from medllm.errors import ArtifactError
from medllm.measures.gates import OUTCOME, Check


@dataclass(frozen=True)
class Settled:
    """What a gate said of one artifact."""

    name: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all that it was held against holds."""
        return all(check.passed for check in self.checks)


def read_outcome(folder: Path, identity: str) -> Settled | None:
    """What the gate of a folder said of an artifact; None where none judged it.

    It is judged anew by the figures and thresholds that are written there.

    Raises:
        ArtifactError: `gate.json` is broken.
    """
    path = folder / OUTCOME
    if not path.is_file():
        return None
    names = {each.name for each in fields(Check)}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        found = tuple(
            Check(**{key: value for key, value in row.items() if key in names})
            for row in told["checks"]
            if row.get("identity", identity) == identity  # without one it is of all that was judged
        )
        name = Path(str(told["gate"].get("name", ""))).name  # nobody else learns where it lies
        settled = Settled(name, found)
        _ = settled.passed  # thresholds that are no numbers show now
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        fix = "run the command that made it again"
        raise ArtifactError(f"{path} cannot be read as the outcome of a gate", fix) from problem
    return settled if found else None
