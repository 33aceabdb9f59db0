"""Whether an admin took a model offline: that holds for later servers of it, too."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medllm import console
from medllm.places import config_dir


@dataclass(slots=True)
class Switch:
    """On or off; where there is a file, off outlives a server that ends or is killed."""

    mark: Path | None = None
    """The file that is there while the model is offline."""
    is_offline: bool = False

    @classmethod
    def of(cls, model: str) -> "Switch":
        """The switch of a model, as it was left."""
        mark = config_dir() / "offline" / re.sub(r"[^\w.-]+", "-", model)
        return cls(mark, mark.exists())

    def turn_off(self) -> None:
        """Take the model offline, also where no file can be written, which is said."""
        self.is_offline = True
        try:
            if self.mark:
                self.mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self.mark.touch(0o600)
        except OSError as problem:
            console.notice(f"server: offline until this server ends: {problem.strerror}")

    def turn_on(self) -> None:
        """Let the model answer again; raises OSError where the file stays."""
        if self.mark:
            with suppress(FileNotFoundError):
                self.mark.unlink()
        self.is_offline = False
