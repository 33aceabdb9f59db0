"""The verb: load a model, say where it is, answer until Ctrl-C."""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from medllm import console
from medllm.artifacts.job import begin_work
from medllm.data.example import Message
from medllm.engines.base import Answers, AnswersMany
from medllm.engines.prompts import takes_messages
from medllm.engines.servers.openai import check_place
from medllm.engines.settings import announce_unused
from medllm.errors import ConfigError, DataError, SetupError
from medllm.models.chat.template import Template
from medllm.models.memory import within_memory
from medllm.places import is_loopback, short_path
from medllm.serve.audit.record import Keeping, log_folder, open_log
from medllm.serve.callers.callers import Callers
from medllm.serve.callers.keys import own_keys
from medllm.serve.config import ServeConfig
from medllm.serve.model.choice import Chosen, check_settings
from medllm.serve.model.known import Known
from medllm.serve.model.source import Source, find_source
from medllm.serve.server import (
    KEY_VARIABLE,
    ask,
    base_url,
    bound_socket,
    build_server,
    choose_callers,
    fresh_key,
    listen,
    run_server,
    running_server,
)
from medllm.serve.tls import read_tls

if TYPE_CHECKING:
    from fastapi import FastAPI

    from medllm.serve.answering import Around
    from medllm.serve.guard import Guard

QUESTION_TOKENS = 128
"""The most tokens of the one answer under `medllm run`: enough to see that it works."""

OFFLINE = "notice: an admin took this model offline, and it stays so; POST /v1/model/online ends it"
FREE_MEMORY = "lower serve.n_ctx, or serve a quantized model"


@within_memory("serve", FREE_MEMORY)
def serve(config: ServeConfig, engine: Answers | None = None) -> None:
    """Serve the model until Ctrl-C; an `engine` that is loaded already is used, and left open.

    Raises:
        ConfigError: there is no model, or no key on an address that others can reach.
        SetupError: the extra `serve` is missing, or the address cannot be used.
        ArtifactError: the model cannot be loaded.
    """
    callers = check_ahead(config)
    tls = read_tls(config.tls_certificate, config.tls_key)
    from medllm.serve.guard import Guard
    from medllm.serve.model.second import describe_second

    with bound_socket(config.host, config.port) as sock:
        source = Source(config) if engine else find_source(config)
        guard = Guard(config.review) if config.review else None
        begin_work()
        with (
            _around(source, guard) as around,
            _loaded(source, engine, callers, around) as (engine, app),
        ):
            if tls and around.metrics:
                around.metrics.certificate(tls.ends.timestamp())
            listen(sock)  # from here on a client is not refused, so the address may be told
            url = base_url(sock, "https" if tls else "http")
            _announce(source, engine, url, callers, guard)
            if tls and tls.warning:
                console.notice(f"notice: {tls.warning}")
            if around.switch.is_offline:
                console.notice(OFFLINE)
            if told := describe_second(config, source.name(engine), around, callers):
                console.say(told)
            console.notice("Ctrl-C stops the server.")
            run_server(build_server(app, tls), sock)


@within_memory("serve", FREE_MEMORY)
def serve_once(config: ServeConfig, engine: Answers | None = None) -> str:
    """The served model's answer to `config.question`, asked over a free loopback port.

    Raises:
        ConfigError: there is no model, or no key on an address that others can reach.
        SetupError: the extra `serve` is missing, or the server could not answer.
        ArtifactError: the model cannot be loaded.
    """
    callers = check_ahead(config)
    key = None if callers.are_unnamed else callers.api_key or fresh_key()
    source = Source(config) if engine else find_source(config)
    begin_work()
    with _loaded(source, engine, Callers(key)) as (_, app), running_server(app) as url:
        return ask(url, key, config.question, min(config.max_tokens, QUESTION_TOKENS))


def check_ahead(config: ServeConfig) -> Callers:
    """Who may ask, after everything that is cheap to check."""
    try:
        import cryptography  # noqa: F401
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as missing:
        raise SetupError(
            f"serving needs {missing.name}, which is not installed", "pip install 'medllm[serve]'"
        ) from missing
    if config.upstream:
        check_place(config.upstream, allow_remote=config.allow_remote)
        check_settings(Chosen("openai", "upstream has the model"), config.server)
    elif config.model is None:
        raise ConfigError("there is no model to serve", "name one with --model, or in the recipe")
    return choose_callers(config, os.environ, own_keys())


@contextmanager
def _loaded(
    source: Source, engine: Answers | None, callers: Callers, around: "Around | None" = None
) -> Iterator[tuple[Answers, "FastAPI"]]:
    from medllm.serve.app import build_app
    from medllm.serve.model.second import add_second

    config = source.config
    opened: AbstractContextManager[Answers] = (
        nullcontext(engine) if engine else closing(source.open())
    )
    with opened as engine, ExitStack() as stack:
        _check_template(engine)
        name = source.name(engine)
        second = add_second(source, name, around, stack) if around else {}
        if around and around.audit:
            where = {"upstream": config.upstream, "allow_remote": config.allow_remote}
            where = where if config.upstream else {}
            told = {"name": name, "engine": engine.name, "identity": source.identity, **where}
            around.audit.begin(told | second)
        app = build_app(
            engine, model_id=name, callers=callers, max_tokens=config.max_tokens, around=around
        )
        yield engine, app


@contextmanager
def _around(source: Source, guard: "Guard | None") -> "Iterator[Around]":
    """What this server has around its answers, while it runs."""
    from medllm.serve.answering import Around
    from medllm.serve.feedback.store import FeedbackStore, feedback_folder
    from medllm.serve.metrics import Metrics, told_on
    from medllm.serve.model.switch import Switch

    config = source.config
    with ExitStack() as stack:
        around = Around(
            guard=guard,
            may_skip_review=config.may_skip_review,
            has_page=config.ui,
            most_waiting=config.max_waiting,
            card=source.known.card() if source.known else {},
            switch=Switch.of(_log_name(source)),
        )
        if not config.no_audit:
            keeping = Keeping(
                days=config.audit_days, text_for=config.audit_text, syslog=config.audit_syslog
            )
            log = open_log(config.audit, _log_name(source), keeping)
            around.audit = stack.enter_context(closing(log))
        if not config.no_feedback:
            folder = feedback_folder(config.feedback, _log_name(source))
            around.feedback = stack.enter_context(closing(FeedbackStore(folder)))
        if config.metrics_port is not None:
            around.metrics = Metrics()
            stack.enter_context(told_on(around.metrics, config.metrics_port))
        yield around


def _check_template(engine: Answers) -> None:
    """Raise ArtifactError where the chat template is broken; its refusal of a greeting is none."""
    with suppress(DataError):
        if isinstance(engine, Template) and engine.has_chat_template:
            engine.render((Message("user", "Hello"),))


def _log_name(source: Source) -> str:
    config = source.config
    return source.name() if config.model else urlsplit(config.upstream or "").netloc


def _announce(
    source: Source, engine: Answers, url: str, callers: Callers, guard: "Guard | None"
) -> None:
    config, name = source.config, source.name(engine)
    several = f", {engine.parallel} at once" if isinstance(engine, AnswersMany) else ""
    context = f"{engine.context_length:,} tokens of context{several}"
    console.say(f"serving   {name} ({engine.name}, {context})")
    if source.chosen:
        console.say(f"engine    {source.chosen.name}: {source.chosen.why}")
    if source.known:
        _announce_known(source.known)
    console.say(f"address   {url}/v1")
    if config.ui:
        console.say(f"page      {url}/")
    if not is_loopback(config.host) and not config.tls_certificate:
        console.notice(
            "notice: other machines can reach this address, and it speaks plain HTTP;"
            " name serve.tls_certificate, or put a reverse proxy with TLS before it"
        )
    host = urlsplit(config.upstream or "").hostname
    if host and not is_loopback(host):
        console.notice(f"notice: all that is asked goes to {host}, as allow_remote says")
    # The question may be a patient's.
    console.show_text(
        f"try it    {_render_curl(config, name, engine, url, has_key=not callers.are_unnamed)}"
    )
    _announce_key(config, callers)
    _announce_review(guard)
    if config.metrics_port is not None:
        console.say(f"metrics   http://127.0.0.1:{config.metrics_port}/metrics")
    if not config.no_audit:
        console.say(f"audit     {short_path(log_folder(config.audit, _log_name(source)))}")
        if config.audit_text:
            console.say("          with prompts and answers, encrypted")
        if config.audit_syslog:
            console.say(f"          copied to {config.audit_syslog}")
    announce_unused("serve", engine.unused_settings)


def _announce_key(config: ServeConfig, callers: Callers) -> None:
    key = callers.api_key
    if key and key not in (config.api_key, os.environ.get(KEY_VARIABLE)):  # nobody knows it yet
        console.show_text(f"key       export {KEY_VARIABLE}={key}  (shown this once)")
    elif not key and callers.ring and callers.ring.all_keys():
        console.say("key       one of those that `medllm keys list` names")
    if callers.proxies:
        where = ", ".join(config.trusted_proxies)
        console.say(f"users     those whom {config.user_header} names, from {where} alone")


def _announce_review(guard: "Guard | None") -> None:
    how = f"policy {guard.policy.action}" if guard else "none"
    console.say(f"review    {how}; a safety net, no medical device")
    if guard and guard.limit:
        console.notice(f"          {guard.limit}")


def _announce_known(known: Known) -> None:
    """What data made the model, and whether it was found good enough; a lack of it stands out."""
    if known.access:
        console.say(f"data      {known.access}: {', '.join(known.datasets)}")
    first, *more = known.lines
    tell = console.say if known.verdict == "passed" else console.notice
    tell(
        "\n".join([f"gate      {known.verdict}: {first}", *(f"          {line}" for line in more)])
    )


def _render_curl(
    config: ServeConfig, name: str, engine: Answers, url: str, *, has_key: bool
) -> str:
    """A command line that asks the served model something; the key stays in the environment."""
    body: dict[str, object] = {"model": name, "max_tokens": QUESTION_TOKENS}
    if takes_messages(engine):
        path, body["messages"] = "chat/completions", [{"role": "user", "content": config.question}]
    else:
        path, body["prompt"] = "completions", config.question
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if has_key else ""
    content = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d {content}"
