"""A model that another server has: an OpenAI-compatible address as a REF."""

from pathlib import Path
from urllib.parse import urldefrag, urlsplit

from medllm.artifacts.digest import digest_text
from medllm.artifacts.manifest import BaseModelRef, Parent, without_credentials
from medllm.models.load import ModelRef


def resolve_address(ref: str) -> ModelRef:
    """The model behind an address; nothing of it is known but its name, so neither is its digest.

    The name stands behind a #, as in http://127.0.0.1:8000#org/name; a server with one model needs
    none.
    """
    told = str(without_credentials(ref))
    parent = Parent(kind="address", path=told, identity=digest_text(told))
    base = BaseModelRef(id=name_in(ref) or told)
    return ModelRef(ref, Path(urlsplit(told).netloc), None, parent, base)


def address_in(ref: str) -> str:
    """The address without the name of the model."""
    return urldefrag(ref).url


def name_in(ref: str) -> str | None:
    """The model's name in an address, where it has one."""
    return urldefrag(ref).fragment or None
