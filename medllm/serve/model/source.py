"""What is served: a model on the engine that is chosen for it, or a server that has it already."""

from dataclasses import dataclass
from pathlib import Path

from medllm.artifacts.lineage import open_input
from medllm.engines.base import Answers, AnswersMany, Generates, require
from medllm.engines.servers.openai import OpenAIEngine
from medllm.errors import ConfigError
from medllm.measures.room import check_room, say_context
from medllm.models.load import ModelRef, resolve_model
from medllm.serve.config import ServeConfig
from medllm.serve.model.choice import Chosen, choose_engine, open_for_serving
from medllm.serve.model.known import Known, know

NO_DIGEST = "--evaluation and --require-gate: the model of an upstream has no digest here"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the answers come from: all that is known before anything is loaded or asked."""

    config: ServeConfig
    model: ModelRef | None = None
    """None of an upstream, and where an engine was given."""
    chosen: Chosen | None = None
    known: Known | None = None
    second: "Source | None" = None
    """The shadow or canary."""

    @property
    def identity(self) -> str | None:
        """Of the model's manifest, or the digest of its files."""
        return self.model.parent.identity if self.model else None

    def open(self) -> Answers:
        """The engine, with the model loaded, or the upstream asked which models it has.

        Raises:
            ArtifactError: the model cannot be loaded.
            ConfigError: it was made for fewer tokens than `n_ctx`; or the upstream has no such.
            SetupError: the engine does not start, or the upstream is not there.
        """
        config = self.config
        if not (self.model and self.chosen):
            return OpenAIEngine(config.upstream or "", config.model, config.n_ctx)
        loaded = open_for_serving(
            self.model, self.chosen.name, config.n_ctx, config.dtype, config.server
        )
        if self.chosen.name != "vllm":  # which fits its cache into the memory by itself
            say_context("serve", self.model, loaded.context_length, config.dtype)
        return loaded if isinstance(loaded, AnswersMany) else require(loaded, Generates, "serve")

    def name(self, engine: Answers | None = None) -> str:
        """What callers call it: a hub id, or the last part of a local path (anyone sees it)."""
        if isinstance(engine, OpenAIEngine):
            return engine.model
        path = Path(self.config.model or "")
        return path.resolve().name if path.exists() else str(self.config.model)


def find_source(config: ServeConfig) -> Source:
    """What is served, after all that can be checked without loading it or asking an upstream.

    Raises:
        ArtifactError: the model is missing, altered or unfinished.
        ConfigError: the engine that is named cannot run it; or an upstream's model is to be judged.
        GateError: a gate is required, and it failed or is missing.
        SetupError: that engine is not there, or there is too little memory.
    """
    if config.upstream:
        if config.require_gate or config.evaluation:
            raise ConfigError(NO_DIGEST, "leave both out, or serve the model itself")
        return Source(config, second=_find_second(config))
    if config.evaluation:  # at once: a model from elsewhere is hashed before it is compared
        open_input(config.evaluation, ("evaluation",), "evaluation")
    model = resolve_model(config.model)
    chosen = choose_engine(model, config.engine, config.server)
    if chosen.name != "vllm":  # its GPUs may be several
        check_room("serve", model, config.dtype)
    known = know(model, config.evaluation, is_judged=config.require_gate)
    return Source(config, model, chosen, known, _find_second(config))


def _find_second(config: ServeConfig) -> Source | None:
    """The shadow, or the canary, of which as much is required as of the model itself."""
    ref = config.shadow or config.canary
    if not ref:
        return None
    is_judged = config.require_gate and bool(config.canary)
    changes = {"model": ref, "engine": "auto", "upstream": None, "shadow": None, "canary": None,
               "require_gate": is_judged}  # fmt: skip
    if not is_judged:
        changes["evaluation"] = None
    return find_source(config.model_copy(update=changes))
