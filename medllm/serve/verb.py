"""The verb: load a model, say where it is, answer until Ctrl-C."""

import json
import os
import shlex
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from medllm import console
from medllm.engines.base import Engine
from medllm.errors import ConfigError, SetupError
from medllm.serve.config import ServeConfig, is_loopback
from medllm.serve.server import (
    KEY_VARIABLE,
    ask,
    base_url,
    bound_socket,
    choose_key,
    run_on,
    running_server,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

QUESTION_TOKENS = 128
"""The most tokens of the one answer under `medllm run`: enough to see that it works."""


def serve(config: ServeConfig, engine: Engine | None = None) -> None:
    """Serve the model until Ctrl-C; an `engine` that is loaded already is used, and left open.

    Raises:
        ConfigError: there is no model, or no key on an address that others can reach.
        SetupError: the extra `serve` is missing, or the address cannot be used.
        ArtifactError: the model cannot be loaded.
    """
    model = check_ahead(config)
    key = choose_key(config, os.environ)
    with bound_socket(config.host, config.port) as sock, _opened(config, engine) as engine:
        app = _build_app(config, engine, model, key)
        sock.listen()  # from here on a client is not refused, so the address may be told
        url = base_url(sock)
        _announce(config, engine, _model_id(model), url)
        curl = render_curl(engine, _model_id(model), url, config.question, has_key=key is not None)
        console.show_text(f"try it    {curl}")  # the question may be a patient's
        _show_fresh_key(config, key)
        console.notice("Ctrl-C stops the server.")
        run_on(app, sock)


def serve_once(config: ServeConfig, engine: Engine | None = None) -> str:
    """The served model's answer to `config.question`, asked over a free loopback port.

    Raises:
        ConfigError: there is no model, or no key on an address that others can reach.
        SetupError: the extra `serve` is missing, or the server could not answer.
        ArtifactError: the model cannot be loaded.
    """
    model = check_ahead(config)
    key = choose_key(config, os.environ)
    with _opened(config, engine) as engine:
        app = _build_app(config, engine, model, key)
        with running_server(app) as url:
            return ask(url, key, config.question, min(config.max_tokens, QUESTION_TOKENS))


def check_ahead(config: ServeConfig) -> str:
    """The model's REF, after everything that is cheap to check."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as missing:
        raise SetupError(
            f"serving needs {missing.name}, which is not installed", "pip install 'medllm[serve]'"
        ) from missing
    if config.model is None:
        raise ConfigError("there is no model to serve", "name one with --model, or in the recipe")
    return config.model


def _opened(config: ServeConfig, engine: Engine | None) -> AbstractContextManager[Engine]:
    if engine:
        return nullcontext(engine)
    from medllm.engines.open import open_engine

    assert config.model  # check_ahead was here
    return closing(open_engine(config.model, engine=config.engine, n_ctx=config.n_ctx))


def _build_app(config: ServeConfig, engine: Engine, model: str, key: str | None) -> "FastAPI":
    from medllm.serve.app import build_app

    return build_app(engine, model_id=_model_id(model), api_key=key, max_tokens=config.max_tokens)


def _model_id(ref: str) -> str:
    """The name callers use: a hub id as it is, of a local path the last part (anyone sees it)."""
    path = Path(ref)
    return path.resolve().name if path.exists() else ref


def _announce(config: ServeConfig, engine: Engine, model_id: str, url: str) -> None:
    console.say(
        f"serving   {model_id} ({engine.name}, {engine.context_length:,} tokens of context)"
    )
    console.say(f"address   {url}/v1")
    if not is_loopback(config.host):
        console.notice(
            "notice: other machines can reach this address, and it speaks plain HTTP;"
            " put a reverse proxy with TLS before it"
        )


def render_curl(engine: Engine, model_id: str, url: str, question: str, *, has_key: bool) -> str:
    """A command line that asks the served model something; the key stays in the environment."""
    body: dict[str, object] = {"model": model_id, "max_tokens": QUESTION_TOKENS}
    if engine.has_chat_template:
        path, body["messages"] = "chat/completions", [{"role": "user", "content": question}]
    else:
        path, body["prompt"] = "completions", question
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if has_key else ""
    content = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d {content}"


def _show_fresh_key(config: ServeConfig, key: str | None) -> None:
    """Show a key that nobody knows yet: once, and on the screen only."""
    if key and key not in (config.api_key, os.environ.get(KEY_VARIABLE)):
        console.show_text(f"key       export {KEY_VARIABLE}={key}  (shown this once)")
