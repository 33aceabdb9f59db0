"""The mixes that ship with medllm, and the user's own."""

from pathlib import Path

from medllm.config.loader import read_yaml, validate
from medllm.data.mix import Mix
from medllm.errors import ConfigError, did_you_mean

SHIPPED = Path(__file__).parent / "mixes"


def list_mixes(folder: Path | None = None) -> dict[str, Path]:
    """All mixes by name; the user's come over the shipped ones."""
    folders = [SHIPPED, *([folder] if folder else [])]
    return {path.stem: path for place in folders for path in sorted(place.glob("*.yaml"))}


def find_mix(name: str, folder: Path | None = None) -> Mix:
    """The mix of a name.

    Raises:
        ConfigError: there is none; names the closest.
    """
    mixes = list_mixes(folder)
    if name not in mixes:
        fix = f"{did_you_mean(name, mixes)}known: {', '.join(sorted(mixes))}"
        raise ConfigError(f"unknown mix '{name}'", fix)
    return validate(Mix, read_yaml(mixes[name]))
