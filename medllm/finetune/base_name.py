"""What other programs find the base of an adapter by; medllm itself finds it by the manifest."""

import json
import re
from pathlib import Path

from medllm.models.load import TINY, ModelRef

SNAPSHOT = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})$")
"""Where the hub's cache keeps a model: its owner, its name, its commit."""


def write_base_name(folder: Path, base: ModelRef) -> None:
    """Put into an adapter's configuration what other programs load its base by; see `base_name`.

    PEFT has put the place there that the base was loaded from, which may be a place of this machine
    alone.
    """
    path = folder / "adapter_config.json"
    name, revision = base_name(base)
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"base_model_name_or_path": name, "revision": revision}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")


def base_name(base: ModelRef) -> tuple[str | None, str | None]:
    """What other programs load a base by, and its revision.

    Of a model of the hub, in its cache too, that is its id; of a folder below the working folder
    the way from there, which begins with `./`, so that the hub is never asked for it; of another
    folder its place. The built-in model, which only medllm can build, has none.
    """
    if base.parent.kind == "hub":
        return base.base.id, base.base.revision
    if base.ref == TINY:
        return None, None
    place = base.path.absolute()
    if cached := SNAPSHOT.search(place.as_posix()):
        return f"{cached[1]}/{cached[2]}", cached[3]
    if place.is_relative_to(Path.cwd()):
        return f"./{place.relative_to(Path.cwd()).as_posix()}", None
    return str(place), None
