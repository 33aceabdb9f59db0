"""A model → the engine that runs it."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from medllm import console
from medllm.engines.base import Engine, Expects, Generates, Scores, require
from medllm.engines.servers.address import AddressEngine
from medllm.errors import ArtifactError, ConfigError
from medllm.models.adapter import load_adapter, with_tokenizer
from medllm.models.address import address_in, name_in
from medllm.models.chat.answer_end import answer_end
from medllm.models.chat.template import TokenizerTemplate
from medllm.models.foreign import loading
from medllm.models.hardware import Dtype
from medllm.models.load import GENERATION, ModelRef, load_causal_lm, load_tokenizer, read_config
from medllm.models.nf4 import load_on_nf4
from medllm.models.offload import is_offloaded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from medllm.engines.transformers import TransformersEngine

EngineName = Literal["auto", "transformers", "llama_cpp"]


class InProcess(Generates, Scores, Expects, Protocol):
    """An engine in this process, which has every ability."""


def open_model(
    model: ModelRef, engine: EngineName = "auto", n_ctx: int | None = None, dtype: Dtype = "auto"
) -> Engine:
    """The loaded model, on the engine that fits it; `require` asks it for an ability.

    `dtype` is what transformers computes in; llama.cpp has formats of its own.

    Raises:
        ConfigError: the engine cannot run this kind of model, or it was made for fewer tokens.
        ArtifactError: the model is altered or cannot be loaded.
        SetupError: it is behind an address that does not answer.
    """
    if model.is_elsewhere:
        return AddressEngine(address_in(model.ref), name_in(model.ref), n_ctx)
    fitting = "llama_cpp" if model.is_gguf else "transformers"
    if engine not in {"auto", fitting}:
        raise ConfigError(
            f"the engine {engine} cannot run {model.location}", f"use --engine {fitting}, or auto"
        )
    return _open_gguf(model, n_ctx) if model.is_gguf else _open_transformers(model, n_ctx, dtype)


def open_seeing(model: ModelRef, n_ctx: int | None = None, dtype: Dtype = "auto") -> Engine:
    """The loaded vision-language model, which answers about images.

    Raises:
        ConfigError: it is a GGUF file, an adapter, or behind an address.
        ArtifactError: it reads no images, or cannot be loaded.
    """
    from medllm.engines.writing.seeing import SeeingEngine
    from medllm.models.images import Vision

    why = (
        "a GGUF file is read without its projector: llama-cpp-python has no image encoder here"
        if model.is_gguf
        else "no image is sent to an address"
        if model.is_elsewhere
        else "an adapter is not asked about images"
        if model.is_adapter
        else ""
    )
    if why:
        fix = "name the folder of the whole model, merged; or ask by the text alone"
        raise ConfigError(f"{model.ref}: rows have images, and {why}", fix)
    vision = Vision.open(model, load_tokenizer(model.location), "evaluate")
    return SeeingEngine(_open_transformers(model, n_ctx, dtype), vision)


def open_for_chats(
    model: ModelRef, n_ctx: int | None = None, dtype: Dtype = "auto"
) -> "TransformersEngine":
    """The loaded model folder, which reads the images of a chat where it was made to.

    Raises:
        ConfigError: it was made for fewer tokens than `n_ctx`.
        ArtifactError: it is altered or cannot be loaded.
    """
    if model.is_adapter or "vision_config" not in read_config(model.path):
        return _open_transformers(model, n_ctx, dtype)
    from medllm.engines.writing.seeing import SeeingChats
    from medllm.models.images import Vision

    try:
        vision = Vision.open(model, load_tokenizer(model.location), "serve")
    except ArtifactError as problem:
        console.notice(f"serve: images are refused: {problem.message}")
        return _open_transformers(model, n_ctx, dtype)
    return _open_transformers(model, n_ctx, dtype, partial(SeeingChats, vision))


def engine_for(engine: Engine, ability: type[Engine], verb: str) -> Engine:
    """The engine as one with an ability: behind an address likelihoods are asked in another way.

    Raises:
        ConfigError: it lacks the ability; says how that showed.
    """
    if ability is Scores and isinstance(engine, AddressEngine):
        return engine.likelihood
    return require(engine, ability, verb)


def _open_gguf(model: ModelRef, n_ctx: int | None) -> InProcess:
    from medllm.engines.llama_cpp import LlamaCppEngine

    return LlamaCppEngine(model.path, n_ctx=n_ctx, window=lost_window(model))


def _open_transformers(
    model: ModelRef,
    n_ctx: int | None,
    dtype: Dtype,
    kind: "Callable[..., TransformersEngine] | None" = None,
) -> "TransformersEngine":
    from medllm.engines.transformers import TransformersEngine

    tokenizer = load_tokenizer(with_tokenizer(model).location)
    load = load_adapter if model.is_adapter else _load
    loaded = load_on_nf4(model) if model.quantization else load(model, dtype=dtype)
    stop_at_end(loaded, tokenizer)
    opened = (kind or TransformersEngine)(loaded, tokenizer, n_ctx)
    try_out(opened, model.location)
    return opened


def try_out(engine: "TransformersEngine", location: str) -> None:
    """See that a model computes: settings may fit its weights and still make nonsense of them.

    Raises:
        ArtifactError: it cannot choose two tokens, or knows nothing of the next one.
    """
    import torch

    model = engine.model
    room = max(engine.context_length - 2, 1)
    known = engine.encode("The patient has a fever.", add_special_tokens=True)[:room]
    rows = model.config.get_text_config().vocab_size
    # not one token alone: that of padding is often a row of zeros
    ids = torch.tensor([[token for token in known if token < rows] or [1, 2]], device=model.device)
    count = 1 if is_offloaded(model) else 2  # the second reads what was kept of the first
    with loading(f"model of {location}"), torch.inference_mode():
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=count,
            max_new_tokens=count,
            output_logits=True,
            return_dict_in_generate=True,
        )
    logits = torch.stack(made.logits).float()
    if logits.isnan().any() or logits.isposinf().any():
        raise _nonsense(location, "what it expects is no number (NaN or infinite)")
    if (logits.amax(-1) == logits.amin(-1)).all():
        raise _nonsense(location, "it expects every token alike")


def _nonsense(location: str, what: str) -> ArtifactError:
    fix = "compare config.json (norms, rope, activation) with that of the model's source"
    return ArtifactError(f"model of {location}: {what}", fix)


def _load(model: ModelRef, *, dtype: Dtype) -> "PreTrainedModel":
    return load_causal_lm(model.location, dtype=dtype)


def lost_window(model: ModelRef) -> int | None:
    """The sliding window that quantizing found llama.cpp to do without, in tokens."""
    found: int | None = model.manifest.results.get("lost_window") if model.manifest else None
    return found


def stop_at_end(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Let generation stop where the chat template ends an answer, whatever the settings name."""
    end = answer_end(TokenizerTemplate(tokenizer))
    if not end:
        console.notice("this model has no token that ends an answer: answers end at max_tokens")
        return
    known, token = model.generation_config.eos_token_id, tokenizer.convert_tokens_to_ids(end)
    ids = known if isinstance(known, list) else [] if known is None else [known]
    if token not in ids:
        console.notice(f"an answer ends with {end}, which {GENERATION} does not name")
        model.generation_config.eos_token_id = sorted({*ids, token})
