"""The fold: each tensor of the base is read, changed and written, a piece at a time."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from operator import ne
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medllm import console
from medllm.errors import ArtifactError
from medllm.merge.adapter import Changes, Delta
from medllm.models.load import GENERATION, ModelRef
from medllm.models.weights import (
    FLOATS,
    PIECE_BYTES,
    Planned,
    Stored,
    as_bytes,
    read_weights,
    stored_dtype,
    torch_dtype,
    write_weights,
)

if TYPE_CHECKING:
    from torch import Tensor

Rounding = Callable[["Tensor"], "Tensor"]
HEAD = "lm_head.weight"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
CONFIGURATIONS = (GENERATION, "*processor_config.json")
"""What stands beside the weights of a base and holds for the merged model as well."""


@dataclass(frozen=True)
class Base:
    """The base: its tensors by the names that transformers gives its parameters."""

    model: ModelRef
    config: dict[str, Any]
    tensors: Mapping[str, Stored]
    keys: Mapping[str, str]
    """Name of a parameter → name of its tensor on disk."""

    @property
    def dtype(self) -> str:
        """The number format of most of its weights."""
        return stored_dtype(self.tensors.values())

    @property
    def embedding(self) -> str:
        """The parameter that tokens are looked up in; "" where its name is unusual."""
        return next((name for name in self.keys if name.endswith(EMBEDDINGS)), "")

    @property
    def is_tied(self) -> bool:
        """Whether embedding and head are one tensor."""
        text = self.config.get("text_config") or {}
        return bool(self.config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))


def open_base(model: ModelRef, changes: Changes) -> Base:
    """The base, its parameters named so that the changes find theirs.

    Raises:
        ArtifactError: its weights are missing or broken.
    """
    tensors = read_weights(model.path)
    config = json.loads((model.path / "config.json").read_text(encoding="utf-8"))
    wanted = changes.deltas.keys() | changes.replaced.keys()
    keys = {name: name for name in tensors}
    if not wanted - {HEAD} <= keys.keys():
        keys = _names_in_transformers(model.path, tensors)
    return Base(model, config, tensors, keys)


def _names_in_transformers(folder: Path, names: Mapping[str, Stored]) -> dict[str, str]:
    """Parameter → tensor, as transformers renames when it loads; nothing that it rebuilds."""
    import torch
    import transformers
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"), console.quiet():
        model = getattr(transformers, config.architectures[0])(config)
    transforms = get_model_conversion_mapping(model)
    renamings = [each for each in transforms if isinstance(each, WeightRenaming)]
    converters = [each for each in transforms if isinstance(each, WeightConverter)]
    parameters, found = model.state_dict(), {}
    for name in names:
        parameter, converted = rename_source_key(
            name, renamings, converters, model.base_model_prefix, parameters
        )
        if converted is None:
            found[parameter] = name
    return found


def misfit(base: Base, changes: Changes) -> str | None:
    """The parameter that no tensor on disk stands for; None where each has one.

    Raises:
        ArtifactError: a matrix does not fit its weight.
    """
    for name, delta in changes.deltas.items():
        if name not in base.keys and name != HEAD:
            return name
        found = base.tensors[base.keys[name]] if name in base.keys else None
        if found and found.shape != delta.shape and name not in changes.replaced:
            size, wanted = (" × ".join(map(str, shape)) for shape in (found.shape, delta.shape))
            message = f"{name} is {size} in {base.model.location}, and {wanted} for the adapter"
            raise ArtifactError(message, "name the base that it was trained on with --model")
    return None


@dataclass(frozen=True)
class Fold:
    """What is to be written."""

    base: Base
    changes: Changes
    dtype: str = "auto"
    """Number format of the result; "auto" is that of each tensor."""
    rounding: Mapping[str, Rounding] = field(default_factory=dict)
    """By parameters, what is done to a weight of the base before it is changed."""

    def write(self, folder: Path) -> None:
        """Write the weights, `config.json` and what else stands beside them."""
        console.notice("merge: folding the adapter into its base")
        parameters = {key: name for name, key in self.base.keys.items()}
        shards: dict[str, list[Planned]] = {}
        for key, stored in self.base.tensors.items():
            plan = self._plan(key, stored, parameters.get(key, key))
            shards.setdefault(stored.path.name, []).append(plan)
        if untied := self._is_to_be_untied():
            console.notice(
                "merge: embedding and head share one tensor in the base; the merged model holds two"
            )
            source = self.base.tensors[self.base.keys[self.base.embedding]]
            head = self._plan(HEAD, replace(source, name=HEAD), HEAD)
            shards[source.path.name].append(head)
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder, shards)
        self._write_config(shards, folder, is_tied=self.base.is_tied and not untied)

    def _is_to_be_untied(self) -> bool:
        """Whether embedding and head were one tensor, and cannot stay so."""
        base, changes = self.base, self.changes
        if not base.is_tied or HEAD in base.keys or not base.embedding:
            return False
        if HEAD in changes.deltas or base.embedding in changes.deltas:
            return True
        new, head = changes.replaced.get(base.embedding), changes.replaced.get(HEAD)
        if new is None or head is None:
            # a vocabulary of another size fits no old tensor
            grown = new and new.rows != base.tensors[base.keys[base.embedding]].rows
            return bool(new or head) and not grown
        return new.shape != head.shape or any(map(ne, new.pieces(), head.pieces()))

    def _plan(self, key: str, stored: Stored, name: str) -> Planned:
        """How one tensor of the result is made."""
        delta, rounded = self.changes.deltas.get(name), self.rounding.get(name)
        source = self.changes.replaced.get(name, stored)
        format = stored.format
        if stored.is_float and self.dtype != "auto":
            format = next(known for known, dtype in FLOATS.items() if dtype == self.dtype)
        if delta is None and rounded is None and source.format == format:
            return Planned(key, format, source.shape, source.pieces)
        pieces = partial(_changed, source, format, delta, rounded)
        return Planned(key, format, source.shape, pieces)

    def _write_config(
        self, shards: Mapping[str, list[Planned]], folder: Path, *, is_tied: bool
    ) -> None:
        config = dict(self.base.config)
        text = dict(config["text_config"]) if "text_config" in config else config
        if is_tied != self.base.is_tied:
            text["tie_word_embeddings"] = config["tie_word_embeddings"] = is_tied
        ends = (plan for plans in shards.values() for plan in plans)
        key = self.base.keys.get(self.base.embedding)
        if embedding := next((plan for plan in ends if plan.name == key), None):
            text["vocab_size"] = embedding.shape[0]
        if text is not config:
            config["text_config"] = text
        if self.dtype != "auto":
            config.pop("torch_dtype", None)
            config["dtype"] = self.dtype
        written = json.dumps(config, indent=2) + "\n"
        (folder / "config.json").write_text(written, encoding="utf-8")
        for pattern in CONFIGURATIONS:
            for file in self.base.model.path.glob(pattern):
                shutil.copyfile(file, folder / file.name)


def _changed(
    source: Stored, format: str, delta: Delta | None, rounded: Rounding | None
) -> Iterator[bytes | memoryview]:
    """The bytes of a tensor with the adapter's change, summed in float32."""
    row = source.size // max(source.rows, 1)
    step = source.rows if rounded else max(1, PIECE_BYTES // max(row, 1))
    for first in range(0, source.rows, step):
        rows = source.read(first, min(first + step, source.rows))
        if rounded:
            rows = rounded(rows)
        if delta:
            rows = delta.add_to(rows.float(), first)
        yield as_bytes(rows.to(torch_dtype(format)))
