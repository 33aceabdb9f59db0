"""The README as a package index shows it: there its links to files of the source lead nowhere."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
WHERE = "The files that this page names are in the source distribution."


class ReadmeForIndex(MetadataHookInterface):
    """What hatchling calls when it builds: `readme` is dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the description."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": name_files(text)}


def name_files(text: str) -> str:
    """The page with the name of a file where a link to it was, and a line that says where it is."""
    title, _, rest = LINK.sub(_as_name, text).partition("\n")
    return f"{title}\n\n{WHERE}\n{rest}"


def _as_name(link: re.Match[str]) -> str:
    words, file = link[1], link[2]
    return f"`{file}`" if words.strip("`").strip("/") == file.strip("/") else f"{words} (`{file}`)"
