"""The parent on the holdouts, which every quantized model of a command is held against."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from medllm import console
from medllm.artifacts.manifest import write_atomically
from medllm.clinical.look_alikes import look_alikes
from medllm.engines.base import BLOCK_TOKENS, Expects, LogProbs, Scores, require
from medllm.engines.gguf_template import DEFAULT_N_CTX
from medllm.engines.open import open_model
from medllm.measures.divergence import Expecting
from medllm.measures.intervals import Estimate
from medllm.measures.probes import LookAlikeScores, score_look_alikes
from medllm.models.chat.template import Template, TokenizerTemplate, encode_text
from medllm.models.hardware import Dtype
from medllm.models.load import ModelRef, check_ids, load_tokenizer
from medllm.quantize.holdouts import Holdouts

NUMBERS, NOTE = "parent.f32", "parent.json"
FREE_SHARE = 0.5
"""The most of the free disk that is taken; the rest is for what the command makes."""


@dataclass(frozen=True)
class Document:
    """A text of the holdouts as the parent's token ids, cut where no context reaches."""

    kind: str
    name: str
    text: str
    ids: list[int]


@dataclass(frozen=True)
class Parent:
    """What there is to compare with: the parent's expectations on all documents."""

    expecting: Expecting
    template: Template
    context_length: int
    """The most tokens that are read of a text."""
    documents: list[Document]
    names: LookAlikeScores


class Reference:
    """The parent's answers, from one pass for all formats of a command, once the first asks.

    A single format is compared block by block while the parent is open. For several, the parent's
    log-probabilities are kept on disk, in float32 as it gives them, and it is closed before a
    quantized model is loaded. The figures are the same to the bit.
    """

    def __init__(
        self,
        model: ModelRef,
        holdouts: Holdouts,
        scratch: Path,
        *,
        formats: int = 1,
        dtype: Dtype = "auto",
    ) -> None:
        """Remember what to read; `formats` is how many will ask, `scratch` where to keep it."""
        self.model = model
        self.holdouts = holdouts
        self.dtype = dtype
        self._scratch = scratch
        self._formats = formats
        self._kept: Parent | None = None

    @contextmanager
    def opened(self) -> Iterator[Parent]:
        """The parent, from disk where it was kept whole, by this command or one that stopped."""
        self._kept = self._kept or self._find()
        if self._kept:
            yield self._kept
            return
        with closing(open_model(self.model, dtype=self.dtype)) as engine:
            expecting = require(engine, Expects, "quantize")
            scoring = require(engine, Scores, "quantize")
            parent = self._read(expecting, scoring, min(engine.context_length, DEFAULT_N_CTX))
            is_kept = self._formats > 1 and bool(parent.documents) and self._keep(parent)
            if not is_kept:
                yield parent
        if is_kept:
            self._kept = self._find()
            assert self._kept
            yield self._kept

    def _read(
        self,
        expecting: Expecting,
        engine: Scores | None,
        context_length: int,
        names: LookAlikeScores | None = None,
    ) -> Parent:
        template = TokenizerTemplate(load_tokenizer(self.model.location))
        rows = [
            Document(kind, f"{kind}/{n}", row["text"], ids[:context_length])
            for kind, rows in self.holdouts.texts.items()
            for n, row in enumerate(rows)
            if len(ids := encode_text(template, row["text"])) > 1
        ]
        check_ids(self.model.location, chain.from_iterable(row.ids for row in rows))
        if names is None:
            assert engine
            names = score_look_alikes(template, engine, look_alikes())
        return Parent(expecting, template, context_length, rows, names)

    def _find(self) -> Parent | None:
        """What was kept of these texts, if its pass was finished."""
        note = self._scratch / NOTE
        if not note.is_file():
            return None
        found = json.loads(note.read_text(encoding="utf-8"))
        if found["holdouts"] != self.holdouts.identity:
            return None
        kept = _Kept(self._scratch / NUMBERS, found["width"])
        parent = self._read(kept, None, found["context_length"], _names_of(found["names"]))
        kept.place(parent.documents)
        return parent

    def _keep(self, parent: Parent) -> bool:
        """Whether the parent's pass is on disk now; says what it takes, or that room lacks."""
        first = next(iter(parent.expecting.log_probs(parent.documents[0].ids[:1])))
        width = first.shape[1]
        tokens = sum(len(document.ids) - 1 for document in parent.documents)
        needed, free = 4 * tokens * width, shutil.disk_usage(self._scratch).free
        size = f"{needed / 1e9:.2f} GB of disk"
        if needed > free * FREE_SHARE:
            why = f"keeping its pass takes {size}, and {free / 1e9:.2f} are free"
            console.notice(f"quantize: the parent is opened for each format: {why}")
            return False
        console.notice(f"quantize: one pass of the parent for {self._formats} formats, {size}")
        (self._scratch / NOTE).unlink(missing_ok=True)
        self._write(parent)
        note = {
            "holdouts": self.holdouts.identity,
            "context_length": parent.context_length,
            "width": width,
            "names": asdict(parent.names),
        }
        write_atomically(self._scratch / NOTE, json.dumps(note))
        return True

    def _write(self, parent: Parent) -> None:
        # what the parent expects of a text says what the text is
        descriptor = os.open(self._scratch / NUMBERS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        what, total = "quantize: the parent on held-out text", len(parent.documents)
        with os.fdopen(descriptor, "wb") as file, console.progress(what, total) as advance:
            for document in parent.documents:
                for block in parent.expecting.log_probs(document.ids[:-1]):
                    file.write(np.ascontiguousarray(block, dtype=np.float32).data)
                advance(1)


class _Kept:
    """The parent's log-probabilities on disk, read a block at a time."""

    def __init__(self, path: Path, width: int) -> None:
        self._numbers = np.memmap(path, np.float32, "r").reshape(-1, width)
        self._begins: dict[tuple[int, ...], int] = {}

    def place(self, documents: Sequence[Document]) -> None:
        """Say which documents there are, in the order in which they were written."""
        begin = 0
        for document in documents:
            self._begins[tuple(document.ids[:-1])] = begin
            begin += len(document.ids) - 1
        assert begin == len(self._numbers)

    def log_probs(self, ids: Sequence[int]) -> Iterator[LogProbs]:
        """As the parent answered."""
        begin = self._begins[tuple(ids)]
        for at in range(begin, begin + len(ids), BLOCK_TOKENS):
            yield self._numbers[at : min(at + BLOCK_TOKENS, begin + len(ids))]


def _names_of(found: dict[str, Any]) -> LookAlikeScores:
    """The scores as they were before they were written."""
    right, margin = Estimate(**found["right"]), Estimate(**found["margin"])
    return LookAlikeScores(found["sentences"], right, margin, tuple(found["margins"]))
