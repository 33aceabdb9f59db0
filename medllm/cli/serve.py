"""`medllm serve`."""

import typer

from medllm.cli import options
from medllm.cli.options import option


def serve(
    model: str | None = options.MODEL,
    host: str | None = option("--host", "Address to listen on.  [default: 127.0.0.1]"),
    port: int | None = option("--port", "Port; 0 takes a free one.  [default: 8080]"),
    engine: str | None = option("--engine", "[default: auto]", "auto|transformers|llama_cpp"),
    no_auth: bool = typer.Option(False, "--no-auth", help="Serve without a key; loopback only."),
    n_ctx: int | None = option("--n-ctx", "Tokens of context."),
    config: str | None = options.CONFIG,
    set_: list[str] | None = options.SET,
    dry_run: bool = options.DRY_RUN,
) -> None:
    """Serve a model behind an OpenAI-compatible address; a key is asked for unless --no-auth.

    Example: medllm serve --model runs/lora/quantize/gguf-q4_k_m --port 8080
    """
    options.run_verb("serve", locals())
