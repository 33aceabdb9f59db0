"""The engine for model folders that answers many at once on GPUs: vLLM in a process of its own.

Written after vLLM's documentation (https://docs.vllm.ai, `vllm serve`, "Tool Calling" and
"Security") and its sources of 0.12 to 0.18; it was tried with a stand-in that takes the same flags,
and never with vLLM itself.
"""

import hashlib
import hmac
import json
import secrets
import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from medllm.artifacts.serving import ServerSettings, needs_half
from medllm.engines.base import EngineDown, GenerateRequest, Piece, choose_context
from medllm.engines.prompts import prompt_ids
from medllm.engines.sampling import Sampling, UnfitSampling, check_sampling
from medllm.engines.servers.chat import Chat, UnfitChat, check_texts
from medllm.engines.servers.http import lines_of
from medllm.engines.servers.private import PrivateServer
from medllm.engines.transformers import CONTEXT_KEYS
from medllm.errors import DataError, SetupError
from medllm.models.adapter import adapter_config, base_of, with_tokenizer
from medllm.models.chat.answer_end import answer_end, end_ids
from medllm.models.chat.prompts import check_room
from medllm.models.chat.template import TokenizerTemplate
from medllm.models.hardware import Dtype
from medllm.models.load import ModelRef, load_tokenizer, read_config, text_config_of
from medllm.serve.model import vllm_chat

UNTESTED = "untested: medllm was never run with vLLM itself"
PARALLEL = 64
KEY_VARIABLE = "VLLM_API_KEY"
NAME, BASE_NAME = "model", "base"
"""What requests call the model; the base of an adapter has another name."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` may be (vllm/config/lora.py)."""
ENVIRON = {
    "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_SERVER_DEV_MODE": "0",
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "0", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
}  # fmt: skip
"""It calls nobody, logs no answer, and has no door for developers."""
HERE = {"VLLM_HOST_IP": "127.0.0.1"}
"""Where its processes meet, unless Ray joins several machines."""
OPTIONS = {
    "tensor_parallel_size": "--tensor-parallel-size",
    "pipeline_parallel_size": "--pipeline-parallel-size",
    "distributed_executor_backend": "--distributed-executor-backend",
    "gpu_memory_utilization": "--gpu-memory-utilization",
    "tool_call_parser": "--tool-call-parser",
}
NOT_IN_VLLM = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "target_parameters",
               "trainable_token_indices")  # fmt: skip
"""Settings of an adapter that vLLM refuses, or does not read and would answer wrongly without
(vllm/lora/peft_helper.py)."""
FIX = "see its last lines above; where memory is short, lower serve.n_ctx or serve.parallel"
NO_PARSER = "tools: vLLM reads no calls here, as no serve.tool_call_parser is set"
SET_PARSER = "whoever runs this server sets it to what vLLM's page on tool calling names"


def require_vllm() -> Path:
    """The command `vllm`; raises SetupError where there is none."""
    if found := find_vllm():
        return found
    fix = "install vLLM, best in an environment of its own, and put `vllm` on the PATH"
    raise SetupError("vLLM is not installed", fix)


def find_vllm() -> Path | None:
    """The command `vllm`: beside this Python, else on the PATH; None where there is none."""
    beside = Path(sys.executable).with_name("vllm")
    found = beside if beside.is_file() else shutil.which("vllm")
    return Path(found) if found else None


def why_not(model: ModelRef) -> str | None:
    """What of a model vLLM cannot serve, in plain words; None where nothing is known.

    Raises:
        ArtifactError: its configuration is broken.
    """
    if model.is_gguf:
        return "it is a .gguf file"
    if model.is_adapter:
        return _why_not_adapter(adapter_config(model))
    config = read_config(model.path)
    if "vision_config" in config:
        return "it reads images, which medllm gives to vLLM as text alone"
    if (config.get("quantization_config") or {}).get("quant_method") == "bitsandbytes":
        return "it is quantized with bitsandbytes, which is not tried"
    return None


def _why_not_adapter(config: Mapping[str, Any]) -> str | None:
    used = [name for name in NOT_IN_VLLM if config.get(name)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        used.append("another kind than plain LoRA")
    if config.get("r", 0) > RANKS[-1]:
        used.append(f"rank {config['r']}")
    return f"its adapter has {', '.join(used)}: merge it first" if used else None


class VllmEngine(TokenizerTemplate):
    """A model folder, or an adapter on its base, behind a vLLM that only this process can reach.

    It listens on a socket in a folder of this user's, with a random key; the key alone would not
    do, because vLLM asks for it below `/v1` only. What one owner asked is never used for another's
    answer (CVE-2025-46570): its prompts are kept under a salt of that owner.
    """

    name = "vllm"
    reads_images = False

    def __init__(
        self,
        model: ModelRef,
        command: Path,
        *,
        n_ctx: int | None = None,
        dtype: Dtype = "auto",
        settings: ServerSettings | None = None,
    ) -> None:
        """Start vLLM with the model, and return when it takes requests.

        Args:
            model: A folder that `why_not` finds nothing wrong with.
            command: The executable `vllm`.
            n_ctx: The tokens of prompt and answer together; by default what it was made for.
            dtype: What it computes in.
            settings: How vLLM runs.

        Raises:
            ArtifactError: the model is broken.
            ConfigError: the model was made for fewer tokens than `n_ctx`.
            SetupError: vLLM does not start.
        """
        tokenizer = load_tokenizer(with_tokenizer(model).location)
        super().__init__(tokenizer)
        self._model, self._settings = model, settings or ServerSettings()
        self._base = base_of(model) if model.is_adapter else model
        config = text_config_of(read_config(self._base.path))
        made_for = next((config[key] for key in CONTEXT_KEYS if config.get(key)), None)
        self.context_length = choose_context(n_ctx, made_for)
        self.parallel = self._settings.parallel or PARALLEL
        self.unused_settings: Mapping[str, Any] = {}
        self._dtype = _dtype_of(self._base, dtype)
        end = tokenizer.convert_tokens_to_ids(answer_end(self))
        named = {tokenizer.eos_token_id, end, *end_ids(self._base.path)}
        self.reused_tokens = 0
        """Tokens of the last answered prompt that were not read anew."""
        self._ends = sorted(token for token in named if token is not None)
        is_here = self._settings.distributed_executor_backend != "ray"
        self.server = PrivateServer("vLLM", KEY_VARIABLE, ENVIRON | (HERE if is_here else {}))
        try:
            self.server.start(self._command(command))
        except SetupError as problem:
            raise SetupError(problem.message, FIX) from problem

    @property
    def is_ready(self) -> bool:
        """Whether vLLM runs and takes requests."""
        return self.server.process.ready

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """The answer as it comes, or in one piece where `request.whole` asks for no more.

        Raises:
            DataError: the prompt is empty, leaves no room for an answer, or comes with images; or
                the sampling is none that vLLM has.
            EngineDown: vLLM has died, or died meanwhile; it is being started again.
        """
        check_sampling(self.name, request.sampling)
        body = self._body(request)
        if not self.is_ready:
            raise EngineDown
        try:
            async with aclosing(self._pieces(body)) as pieces:
                calling = vllm_chat.Calling(request.chat) if request.chat else None
                async for piece in pieces:
                    yield (told := calling.read(piece) if calling else piece)
                    if told.finish_reason:
                        return
        except (ValueError, LookupError, TypeError) as problem:
            raise EngineDown from problem

    def read_chat(self, chat: Chat, sampling: Sampling) -> list[int]:
        """The token ids of a conversation with tools, as vLLM renders it.

        Raises:
            UnfitPrompt: it leaves no room for an answer.
            UnfitChat: no parser reads calls, the chat template leaves tools out, there are images
                in it, or a text spells a special token.
            DataError: the chat template refuses it.
            EngineDown: vLLM is not there now.
        """
        if chat.has_images:
            fix = "serve the folder of a model that reads them, with transformers"
            raise UnfitChat("messages", "images: vLLM is given texts alone", fix)
        param = "tools" if chat.tools else "messages"
        if not self._settings.tool_call_parser:
            raise UnfitChat(param, NO_PARSER, SET_PARSER)
        check_texts(chat, self.special_tokens, self.context_length)
        if not self._knows_tools:
            message = "tools: this model's chat template leaves them out"
            raise UnfitChat(param, message, "serve a model that was tuned to call them")
        ids = vllm_chat.read_ids(self.server, NAME, vllm_chat.body_of(chat))
        check_room(ids, self.context_length)
        return ids

    def close(self) -> None:
        """End vLLM and free what it held."""
        self.server.close()

    def _command(self, vllm: Path) -> list[str]:
        command = [
            str(vllm), "serve", self._base.location, "--uds", str(self.server.socket),
            "--tokenizer", self._model.location,
            "--served-model-name", BASE_NAME if self._model.is_adapter else NAME,
            "--max-model-len", str(self.context_length), "--max-num-seqs", str(self.parallel),
            "--dtype", self._dtype, "--load-format", "safetensors", "--generation-config", "vllm",
            "--enable-prefix-caching", "--no-enable-log-requests", "--disable-uvicorn-access-log",
            "--disable-fastapi-docs", "--enable-prompt-tokens-details",
        ]  # fmt: skip
        for name, flag in OPTIONS.items():
            if (value := getattr(self._settings, name)) is not None:
                command += [flag, str(value)]
        if self._settings.tool_call_parser:
            command.append("--enable-auto-tool-choice")
        if self._model.is_adapter:
            rank = next(each for each in RANKS if each >= adapter_config(self._model)["r"])
            module = json.dumps({"name": NAME, "path": self._model.location})
            command += ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", module]
        return command

    @cached_property
    def _knows_tools(self) -> bool:
        return vllm_chat.tells_tools(self.server, NAME)

    def _body(self, request: GenerateRequest) -> dict[str, Any]:
        ids = prompt_ids(self, request, self.context_length)
        given = vllm_chat.body_of(request.chat) if request.chat else {"prompt": ids}
        told = {} if request.whole else {
            "stream_options": {"include_usage": True, "continuous_usage_stats": True}
        }  # fmt: skip
        return {
            "model": NAME, **given, "stream": not request.whole, **told,
            "stop_token_ids": self._ends, "cache_salt": self._salt(request.owner),
            **({"logprobs": 0} if request.likelihood else {}),
            **_sampled(request.sampling, self.context_length - len(ids)),
        }  # fmt: skip

    def _salt(self, owner: str | None) -> str:
        """What nobody can guess, the same for the same owner; without one it is never used again.

        It is of 256 bits, as vLLM advises.
        """
        if owner is None:
            return secrets.token_hex(32)
        return hmac.new(self.server.key.encode(), owner.encode(), hashlib.sha256).hexdigest()

    async def _pieces(self, body: Mapping[str, Any]) -> AsyncGenerator[Piece, None]:
        written = 0
        path = vllm_chat.PATH if "messages" in body else "/v1/completions"
        async with self.server.requests.post(path, body) as told:
            if told.status != 200 or not body["stream"]:
                yield self._last(_checked(told.status, await told.read()), body["max_tokens"])
                return
            async for line in lines_of(told):
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    raise EngineDown
                if not event["choices"]:
                    continue
                piece = self._last(event, body["max_tokens"])
                yield replace(piece, tokens=piece.tokens - written)
                written = piece.tokens
                if piece.finish_reason:
                    return
        raise EngineDown  # what came may not be whole

    def _last(self, answer: Mapping[str, Any], max_tokens: int) -> Piece:
        """An answer, or the newest part of one, with the tokens of all of it.

        vLLM counts the token that ends an answer; of a stop string it tells which it was.
        """
        choice, usage = answer["choices"][0], answer["usage"]
        is_full = usage["completion_tokens"] >= max_tokens
        reason = vllm_chat.reason_of(choice, is_full=is_full)
        if reason not in {None, "stop", "length", "tool_calls"}:  # "abort" or "error"
            raise EngineDown
        self.reused_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        is_end = reason in {"stop", "tool_calls"} and not isinstance(choice.get("stop_reason"), str)
        tokens = max(usage["completion_tokens"] - is_end, 0)
        text, calls = vllm_chat.said_in(choice)
        return Piece(text, tokens, reason, _likelihood(choice, is_end), calls=calls)


def _sampled(sampling: Sampling, room: int) -> dict[str, Any]:
    """The sampling in vLLM's words, and nothing that a model's own files say.

    Raises:
        UnfitSampling: vLLM would draw from other tokens: it takes min_p before top_p.
    """
    if sampling.min_p and sampling.top_p < 1:
        message = "min_p with top_p: the engine vllm cannot heed both in this order"
        raise UnfitSampling(message, "leave one of them out")
    seed = {} if sampling.seed is None else {"seed": sampling.seed_32}
    return {
        "max_tokens": min(sampling.max_tokens, room),
        "temperature": 0.0 if sampling.is_greedy else sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias},
        "stop": list(sampling.stop),
        **seed,
    }


def _likelihood(choice: Mapping[str, Any], is_end: bool) -> float | None:
    """The log-likelihood of the tokens of a piece, without the one at which an answer ends."""
    told = choice.get("logprobs")
    each = told["token_logprobs"] if told else []
    return sum(each[: len(each) - is_end]) if told else None


def _dtype_of(model: ModelRef, wanted: Dtype) -> str:
    """As asked; else what the kernel for its weights needs, or what vLLM finds in the files."""
    is_half = wanted == "auto" and model.manifest is not None and needs_half(model.manifest)
    return "float16" if is_half else wanted


def _checked(status: int, content: bytes) -> Any:
    """The answer; what vLLM says of an error may quote the prompt, and is not told."""
    if status == 200:
        return json.loads(content)
    if status == 400:
        message = "vLLM refused the prompt"
        raise DataError(message, "see that its token ids are this model's own")
    raise EngineDown
