"""The `serve:` section of a recipe."""

import re
from dataclasses import fields
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from medllm.artifacts.serving import ServerSettings, ServingEngine
from medllm.clinical.settings import ReviewSettings
from medllm.config.base import NOT_IDENTITY, ContextLength, Place, Ref, Strict
from medllm.models.hardware import Dtype

ParserName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*$")]


def _check_key(key: str) -> str:
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError("use printable ASCII without spaces, which an HTTP header can carry")
    return key


def _check_origin(text: str) -> str:
    if not re.fullmatch(r"https?://[^/*\s]+", text):
        raise ValueError("name a page by scheme, host and port, as http://localhost:3000")
    return text


def _check_network(text: str) -> str:
    network = ip_network(text)  # its ValueError says what is wrong
    if not network.prefixlen:
        raise ValueError("this is the network of everybody")
    return text


def _check_header(name: str) -> str:
    if name.lower() in {"authorization", "cookie", "host", "origin"}:
        raise ValueError("clients send this header themselves")
    return name


ApiKey = Annotated[str, AfterValidator(_check_key)]
"""What fits into an HTTP header."""
Origin = Annotated[str, AfterValidator(_check_origin)]
"""Scheme, host and port of a web page."""
ProxyAddress = Annotated[str, AfterValidator(_check_network)]
"""An address of a machine, or a network as 10.20.0.0/24."""
HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$"), AfterValidator(_check_header)
]


EXCLUDED = {
    "no_auth": ("api_key", "user_header"),
    "no_audit": ("audit", "audit_text", "audit_syslog"),
    "no_feedback": ("feedback",),
    "canary": ("shadow",),
}
"""Settings that contradict each other."""


class ServeConfig(Strict):
    """A model behind an OpenAI-compatible address."""

    model: Ref | None = None
    """The model to serve: a hub id, a model or adapter directory, or a .gguf file."""

    upstream: str | None = None
    """The address of a server that has the model already, as http://127.0.0.1:11434; `model` is
    then the model's name there."""

    allow_remote: bool = False
    """Whether `upstream` may be another machine: what is asked then leaves this one."""

    engine: ServingEngine = "auto"
    """What runs the model; `auto`: llama-server for a .gguf file, or where that is not set up
    llama.cpp in this process; vLLM for a folder where it is installed and a GPU is there, else
    transformers."""

    parallel: int | None = Field(default=None, ge=1, le=64, json_schema_extra=NOT_IDENTITY)
    """How many answers llama-server or vLLM writes at once; unset: 4 of llama-server, each with a
    context of its own, and 64 of vLLM."""

    n_ctx: ContextLength | None = None
    """Tokens of context, prompt and answer together; unset: what the model was made for, of .gguf
    files at most 4096."""

    dtype: Dtype = "auto"
    """Number format that transformers or vLLM computes in; `auto`: of transformers bfloat16 on a
    GPU that has it, float16 on another one, float32 on a CPU, and for a quantized model that of its
    files, which is also what vLLM takes."""

    n_threads: int | None = Field(default=None, ge=1, le=1024, json_schema_extra=NOT_IDENTITY)
    """Threads that llama-server computes with; unset: one for each processor."""

    n_gpu_layers: int | None = Field(default=None, ge=0, json_schema_extra=NOT_IDENTITY)
    """Layers that llama-server puts on the GPU; unset: as many as it finds room for."""

    tensor_parallel_size: int | None = Field(default=None, ge=1, json_schema_extra=NOT_IDENTITY)
    """GPUs among which vLLM splits each layer; unset: 1."""

    pipeline_parallel_size: int | None = Field(default=None, ge=1, json_schema_extra=NOT_IDENTITY)
    """Parts into which vLLM splits the layers, each on GPUs of its own; unset: 1."""

    distributed_executor_backend: Literal["mp", "ray"] | None = Field(
        default=None, json_schema_extra=NOT_IDENTITY
    )
    """What joins the GPUs of vLLM: `mp` those of this machine, `ray` also those of the Ray cluster
    that this machine is part of; their traffic is not encrypted."""

    gpu_memory_utilization: float | None = Field(
        default=None, gt=0, le=1, json_schema_extra=NOT_IDENTITY
    )
    """The share of the memory of each GPU that vLLM takes; unset: its own choice, 0.9."""

    tool_call_parser: ParserName | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """The parser with which vLLM reads calls of tools in what the model writes, as `hermes` or
    `llama3_json`: its page on tool calling says which one a model needs. Unset: no tools there."""

    evaluation: Place | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """The folder of an evaluation of this model, which is shown with it; unset: that of the recipe
    where it is of this model."""

    require_gate: bool = Field(default=False, json_schema_extra=NOT_IDENTITY)
    """Refuse to serve a model whose evaluation did not pass a gate."""

    shadow: Ref | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """A second model of this machine that is asked the same after each answer; nobody sees its
    answers, they are compared."""

    shadow_log: Place | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """The file of these comparisons, without texts; unset: one in the user's settings folder."""

    canary: Ref | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """A second model of this machine that answers a share of the keys, always the same ones."""

    canary_share: float = Field(default=0.1, gt=0, lt=1, json_schema_extra=NOT_IDENTITY)
    """That share."""

    max_tokens: int = Field(default=1024, ge=1)
    """The most tokens of one answer, and what a chat gets that names no limit of its own."""

    host: str = Field(default="127.0.0.1", min_length=1, json_schema_extra=NOT_IDENTITY)
    """The address to listen on; the default is reachable from this machine only."""

    port: int = Field(default=8080, ge=0, le=65535, json_schema_extra=NOT_IDENTITY)
    """The port to listen on; 0 takes any free one."""

    api_key: ApiKey | None = Field(default=None, repr=False, json_schema_extra=NOT_IDENTITY)
    """The key that callers must send; unset: MEDLLM_API_KEY, else a fresh one, shown once."""

    allow_origins: tuple[Origin, ...] = Field(default=(), json_schema_extra=NOT_IDENTITY)
    """Web pages that may ask from a browser, as http://localhost:3000; none by default."""

    user_header: HeaderName | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """A header in which a reverse proxy names the user whom it has let in, as X-Forwarded-User:
    that user needs no key. It must be the proxy that sets it, and never a client."""

    trusted_proxies: tuple[ProxyAddress, ...] = Field(default=(), json_schema_extra=NOT_IDENTITY)
    """The addresses or networks of the proxies whose `user_header` is believed."""

    tls_certificate: Place | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """A certificate in PEM form, with those that vouch for it: the server then speaks HTTPS."""

    tls_key: Place | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """Its key in PEM form, without a password."""

    no_auth: bool = Field(default=False, json_schema_extra=NOT_IDENTITY)
    """Serve without a key; only on a loopback address."""

    audit: Place | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """The folder of the audit log; unset: one for each model in the user's settings folder."""

    no_audit: bool = Field(default=False, json_schema_extra=NOT_IDENTITY)
    """Keep no audit log."""

    audit_text: Place | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """A file of public keys of age, one a line: the audit log then holds prompts and answers,
    encrypted to them. Unset: no text is kept."""

    audit_days: int = Field(default=184, ge=1, json_schema_extra=NOT_IDENTITY)
    """Days that files of the audit log are kept; 184 are six months."""

    audit_syslog: str | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """A syslog server that gets a copy of the audit log without texts: unix:/dev/log,
    udp://HOST:514 or tcp://HOST:601."""

    feedback: Place | None = Field(default=None, json_schema_extra=NOT_IDENTITY)
    """The folder of what people say of answers; unset: one for each model in the user's
    settings."""

    no_feedback: bool = Field(default=False, json_schema_extra=NOT_IDENTITY)
    """Keep no feedback."""

    review: ReviewSettings | None = ReviewSettings()
    """How answers are reviewed before they go out; null for no review."""

    may_skip_review: bool = False
    """Whether a request may turn the review off for itself (`review: false`)."""

    ui: bool = Field(default=False, json_schema_extra=NOT_IDENTITY)
    """Show a page at the server's address: a conversation, with what the review found."""

    max_waiting: int = Field(default=64, ge=0, json_schema_extra=NOT_IDENTITY)
    """Requests that may wait for their turn; one more is refused with a 429."""

    metrics_port: int | None = Field(default=None, ge=1, le=65535, json_schema_extra=NOT_IDENTITY)
    """A port of 127.0.0.1 that tells metrics for Prometheus at `/metrics`; none by default."""

    question: str = Field(
        default="What are the symptoms of iron deficiency anaemia?",
        min_length=1,
        json_schema_extra=NOT_IDENTITY,
    )
    """What `medllm run` asks the served model, once."""

    ask_base: bool = Field(default=False, json_schema_extra=NOT_IDENTITY)
    """Under `medllm run`: ask the recipe's base model, too, to show what changed."""

    stay: bool = Field(default=False, json_schema_extra=NOT_IDENTITY)
    """Under `medllm run`: keep serving instead of asking the one question."""

    @property
    def server(self) -> ServerSettings:
        """How an engine in a process of its own runs."""
        names = [each.name for each in fields(ServerSettings)]
        return ServerSettings(**{name: getattr(self, name) for name in names})

    @model_validator(mode="after")
    def _check_key(self) -> "ServeConfig":
        for one, others in EXCLUDED.items():
            for other in others:
                if getattr(self, one) and getattr(self, other):
                    raise ValueError(f"{other} and {one} exclude each other")
        if bool(self.user_header) != bool(self.trusted_proxies):
            raise ValueError("user_header and trusted_proxies need each other")
        if self.shadow_log and not self.shadow:
            raise ValueError("shadow_log is of a second model, and none is named as shadow")
        return self
