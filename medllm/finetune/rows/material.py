"""What a training reads: a model, its tokenizer, and rows of token ids."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from medllm import console
from medllm.artifacts.lineage import Input
from medllm.data.registry.datasets import Dataset
from medllm.errors import ConfigError
from medllm.finetune.activations import Recomputation
from medllm.finetune.config import FinetuneConfig
from medllm.finetune.precision import check_precision
from medllm.finetune.recomputation import choose_recomputation
from medllm.finetune.rows.build import Limit, Splits, load_splits
from medllm.finetune.rows.images import VisionRows, open_vision_rows
from medllm.finetune.rows.replay import Replay
from medllm.finetune.rows.tokenizer import Tokenizer
from medllm.finetune.train.base import VARLEN, check_attention, pick_attention
from medllm.models.chat.template import TokenizerTemplate
from medllm.models.load import ModelRef, read_config, text_config_of


@dataclass(frozen=True)
class Inputs:
    """What a training is made from."""

    model: ModelRef
    data: Input
    replayed: Dataset | None = None
    images: tuple[Path, ...] = ()
    """Files that the rows name."""


@dataclass(frozen=True)
class Material:
    """All that can be known of a training before its model is loaded."""

    inputs: Inputs
    tokenizer: Tokenizer
    images: VisionRows | None
    """What reads images, where examples have some."""
    splits: Splits
    replay: Replay | None
    attention: str = "sdpa"
    """As transformers calls it."""
    lacks: str | None = None
    """Why it is not PyTorch's own for packed rows, where there is no other for them."""
    recomputation: Recomputation | None = None
    """Which activations are computed again; None where the settings or the device say it."""

    @classmethod
    def read(cls, inputs: Inputs, config: FinetuneConfig, device: str) -> Self:
        """The rows, as the trainer will meet them.

        Raises:
            ConfigError: the model cannot be trained so, or a setting asks for rows not there.
            SetupError: the attention that was asked for is not installed.
            DataError: there are too few examples, or an image is broken.
        """
        check_precision(config, inputs.model, device)
        tokenizer = Tokenizer.open(config, inputs.model)
        template = TokenizerTemplate(tokenizer.own)
        images = None
        if inputs.images:
            images = open_vision_rows(config, inputs.model, tokenizer.own)
        check_attention(config.attn_implementation, device)
        attention, lacks = pick_attention(config, inputs.model, device)
        is_packed = packs(config, attention, images)
        attention = _suit_rows(config, attention, lacks, images, is_packed=is_packed)
        splits = load_splits(inputs.data.path, template, Limit.of(config.training), images)
        _check_fits(config, inputs.model.path, splits)
        replay = Replay(inputs.replayed, config, template) if inputs.replayed else None
        if replay:
            splits = replay.mix_into(splits, inputs.data.path)
        if is_packed:
            splits = splits.packed(config, _padding(inputs.model.path, tokenizer, device))
        read = cls(inputs, tokenizer, images, splits, replay, attention, lacks)
        return replace(read, recomputation=choose_recomputation(config, read, device))

    @property
    def template(self) -> TokenizerTemplate:
        """What renders the prompts."""
        return TokenizerTemplate(self.tokenizer.own)

    @property
    def tokens(self) -> int:
        """Of all rows of a pass, replayed ones too."""
        return self.splits.counts.tokens + (self.replay.done.tokens if self.replay else 0)


def packs(config: FinetuneConfig, attention: str, images: VisionRows | None) -> bool:
    """Whether examples share rows: as asked, else where attention is made for that.

    Other kinds of attention keep them apart by a mask over the whole row, which costs more than
    the padding that it saves. Images cannot share rows.
    """
    if images or config.training.packing is not None:
        return bool(config.training.packing)
    return attention == VARLEN or attention.startswith("flash")


def _padding(model: Path, tokenizer: Tokenizer, device: str) -> int | None:
    """What fills packed rows, so that a GPU meets one shape; nothing where experts would get it.

    The balance of their load counts every token of a packed row.
    """
    has_experts = "router_aux_loss_coef" in text_config_of(read_config(model))
    return None if device != "cuda" or has_experts else int(tokenizer.own.pad_token_id)


def _suit_rows(
    config: FinetuneConfig,
    attention: str,
    lacks: str | None,
    images: VisionRows | None,
    *,
    is_packed: bool,
) -> str:
    """The attention for the rows as they are; says where examples could share them and do not.

    Image tokens may attend to later ones, which flash attention cannot do.

    Raises:
        ConfigError: attention for packed rows is asked for, and cannot be.
    """
    wanted = config.attn_implementation
    if wanted == VARLEN and (lacks or not is_packed):
        message = f"{VARLEN} cannot be used: {lacks or 'rows are not packed'}"
        raise ConfigError(f"finetune.attn_implementation: {message}", "leave it out, or take sdpa")
    if wanted != "auto":
        return attention
    if lacks and images is None and config.training.packing is not False:
        console.notice(f"finetune: {VARLEN}, attention for packed rows, is left out: {lacks}")
    if images is not None and images.vision.is_bidirectional:
        return "sdpa"
    return "sdpa" if attention == VARLEN and not is_packed else attention


def _check_fits(config: FinetuneConfig, model: Path, splits: Splits) -> None:
    """Raise ConfigError where rows are longer than the model, or missing though needed."""
    positions = text_config_of(read_config(model)).get("max_position_embeddings")
    if positions and splits.longest > positions:
        message = f"a row has {splits.longest:,} tokens, and the model {positions:,} positions"
        raise ConfigError(message, f"training.max_length: {positions} or less")
    if splits.validation is None and config.training.early_stopping_patience:
        message = "training.early_stopping_patience: there are no validation rows to watch"
        raise ConfigError(message, "hold some out (`split:` of the recipe), or leave it out")
