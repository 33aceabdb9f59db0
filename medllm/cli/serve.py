"""`medllm serve`."""

from typing import Any

from medllm.cli.options import CONFIG, DRY_RUN, MODEL, SET, option, run_verb, takes
from medllm.cli.voice import refuse_json


@takes(CONFIG, SET, DRY_RUN)
def serve(
    model: str | None = MODEL,
    upstream: str | None = option("A server that has the model already.", "URL"),
    allow_remote: bool | None = option(
        "Upstream may be another machine, to which what is asked then goes.", name="--allow-remote"
    ),
    host: str | None = option("Address to listen on.  [default: 127.0.0.1]"),
    port: int | None = option("Port; 0 takes a free one.  [default: 8080]"),
    engine: str | None = option("[default: auto]", "auto|transformers|llama_cpp|llama_server|vllm"),
    evaluation: str | None = option("Folder of an evaluation of this model.", "DIR"),
    require_gate: bool | None = option(
        "Refuse a model whose evaluation passed no gate.", name="--require-gate"
    ),
    shadow: str | None = option("A second model whose answers are compared, never shown.", "REF"),
    canary: str | None = option("A second model that answers a share of the keys.", "REF"),
    canary_share: float | None = option("That share.  [default: 0.1]"),
    ui: bool | None = option("Show a page to ask from.", name="--ui"),
    no_auth: bool | None = option("Serve without a key; loopback only.", name="--no-auth"),
    audit: str | None = option("Folder of the audit log.  [default: in your settings]", "PATH"),
    no_audit: bool | None = option("Keep no audit log.", name="--no-audit"),
    audit_text: str | None = option(
        "File of age public keys: prompts and answers are logged too, encrypted.", "PATH"
    ),
    n_ctx: int | None = option("Tokens of context."),
    parallel: int | None = option(
        "Answers that a server writes at once.  [default: 4 of llama-server, 64 of vLLM]"
    ),
    tensor_parallel_size: int | None = option("GPUs among which vLLM splits each layer."),
    **flags: Any,
) -> None:
    """Serve a model behind an OpenAI-compatible address; a key is asked for unless --no-auth.

    A request that names no temperature gets the likeliest tokens, whatever the model's files say.

    Example: medllm serve --model runs/lora/quantize/gguf-q4_k_m --port 8080
    """
    given = dict(locals())
    if not flags["dry_run"]:
        refuse_json("serve")
    run_verb("serve", **given)
