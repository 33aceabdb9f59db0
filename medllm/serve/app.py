"""The OpenAI-compatible HTTP face of one engine: which address asks what of it.

Nothing is answered without the key but `/health` and `/ready`; no text of a request or an answer
reaches a log.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from medllm.engines.base import Answers
from medllm.errors import MedllmError
from medllm.models.gpu import KERNEL_MODULE
from medllm.serve.answering import Answering, Around
from medllm.serve.body import read_body
from medllm.serve.callers.access import CALLER, Access, Origins
from medllm.serve.callers.callers import Callers
from medllm.serve.callers.keys import Caller
from medllm.serve.metrics import Counted
from medllm.serve.model.canary import Canary
from medllm.serve.page.shell import PLACES, read_page
from medllm.serve.refusals import explain
from medllm.serve.request_queue import RequestQueue
from medllm.serve.routes.alerts import AlertRequest, explain_alert
from medllm.serve.routes.answers import AnswerRoutes, check_model, until_answered
from medllm.serve.routes.feedback import FeedbackRequest, check_feedback, keep_feedback
from medllm.serve.routes.schema import build_schema
from medllm.serve.routes.split import Split
from medllm.serve.wire import ApiError

SMALL_BODY_BYTES = 2**16
"""Of requests that ask no model and bring no conversation."""
NO_TELEMETRY: Any = dict.fromkeys(
    ("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False
)
"""FastAPI hands exceptions, and so perhaps text, to any OpenTelemetry exporter it finds."""


def build_app(
    engine: Answers,
    *,
    model_id: str,
    callers: Callers,
    max_tokens: int,
    around: Around | None = None,
) -> FastAPI:
    """The application that answers for `engine` under the name `model_id`.

    Where `callers` have keys, everything but `/health` needs `Authorization: Bearer <key>`. Without
    keys, only requests that name a loopback host are answered, and none of web pages but those that
    `callers` names. `max_tokens` is the most one answer may have, `around` what happens beside it.
    The application's `state.end_answers()` ends the answers that are running, and its
    `state.count_error(status)` counts an error that the server tells in its place.
    """
    around = around or Around()
    answering = Answering(RequestQueue(engine), around)
    app = FastAPI(openapi_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY)
    own = AnswerRoutes(answering, model_id, max_tokens)
    answers: AnswerRoutes | Split = own
    asked = [answering]
    if canary := around.canary:
        second = Answering(RequestQueue(canary.engine), around)
        other = AnswerRoutes(second, canary.name, max_tokens, served=model_id)
        answers = Split(own, other, canary)
        asked.append(second)
    ends = [each.queue.end for each in asked]
    if around.shadow:
        ends.append(around.shadow.end)
    app.state.end_answers = lambda: [end() for end in ends]
    app.add_middleware(Access, callers=callers, shown=PLACES if around.has_page else ())
    app.add_middleware(Origins, callers=callers)  # the last one added is asked first
    app.state.count_error = around.metrics.error if around.metrics else lambda status: None
    if around.metrics:
        running = lambda: sum(len(each.requests) for each in asked)  # noqa: E731
        around.metrics.watch(running, lambda: answering.is_ready)
        app.add_middleware(Counted, metrics=around.metrics)
    for kind in (ApiError, HTTPException, MedllmError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, explain)
    app.get("/openapi.json", include_in_schema=False)(partial(build_schema, app))
    _add_routes(app, Endpoints(answering, model_id), answers)
    for place in PLACES if around.has_page else ():
        show = partial(read_page, place)
        app.api_route(place, methods=["GET", "HEAD"], include_in_schema=False)(show)
    return app


def _add_routes(app: FastAPI, endpoints: "Endpoints", answers: AnswerRoutes | Split) -> None:
    read = partial(app.api_route, methods=["GET", "HEAD"])
    read("/health")(endpoints.health)
    read("/ready")(endpoints.ready)
    app.post("/v1/model/offline")(endpoints.take_offline)
    app.post("/v1/model/online")(endpoints.take_online)
    read("/v1/models")(endpoints.list_models)
    read("/v1/models/{model:path}")(endpoints.describe_model)
    asks = partial(app.post, dependencies=[Depends(until_answered)])
    asks("/v1/chat/completions")(answers.chat)
    asks("/v1/completions")(answers.complete)
    asks("/generate")(answers.generate)
    app.post("/v1/embeddings")(endpoints.refuse_embeddings)
    app.post("/v1/alerts/explain")(endpoints.explain_alert)
    app.post("/feedback")(endpoints.take_feedback)
    app.get("/feedback")(endpoints.export_feedback)


@dataclass(frozen=True)
class Endpoints:
    """What the addresses that ask no model do with a request."""

    answering: Answering
    model_id: str

    async def health(self) -> dict[str, Any]:
        """That the server is there, and how it is; no name."""
        is_loaded = self.answering.is_up
        return {"status": "ok", "model_loaded": is_loaded, "gpu_available": _sees_gpu()}

    async def ready(self) -> Response:
        """Whether a request would be answered now: 200 or 503."""
        is_ready = self.answering.is_ready
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    async def take_offline(self, request: Request) -> dict[str, bool]:
        """Refuse requests from now on, and finish what runs."""
        around = self.answering.around
        caller = _admin(request)
        around.switch.turn_off()  # also where it cannot be logged: it is the safe side
        if around.audit:
            await around.audit.noted("offline", caller.name)
        return {"online": False}

    async def take_online(self, request: Request) -> dict[str, bool]:
        """Take requests again."""
        around = self.answering.around
        caller = _admin(request)
        if around.audit:
            await around.audit.noted("online", caller.name)
        around.switch.turn_on()
        return {"online": True}

    async def list_models(self, request: Request) -> dict[str, Any]:
        """The one model, and the canary where it answers the key that asks."""
        names = [self.model_id]
        if canary := self._canary_of(request):
            names.append(canary.name)
        data = [await self.describe_model(name, request) for name in names]
        return {"object": "list", "data": data}

    async def describe_model(self, model: str, request: Request) -> dict[str, Any]:
        """The model, if it has this name."""
        canary = self._canary_of(request)
        if canary and model == canary.name:
            return _described(model, canary.engine, canary.card)
        check_model(model, self.model_id)
        return _described(model, self.answering.queue.engine, self.answering.around.card)

    def _canary_of(self, request: Request) -> Canary | None:
        """The canary, where it answers whoever asks."""
        canary = self.answering.around.canary
        return canary if canary and canary.takes(request.scope[CALLER].name) else None

    async def refuse_embeddings(self) -> Response:
        """Why there are none: what this server has is a model that writes."""
        message = (
            "this server gives no embeddings: its model was made to write text, and what its layers"
            " hold was never trained to compare texts; use a model that was made for it"
        )
        raise ApiError(400, message, "embeddings_not_supported")

    async def explain_alert(self, request: Request) -> dict[str, Any]:
        """What an early warning means: scores computed anew, and stated ones that are wrong."""
        asked = await read_body(request, AlertRequest, SMALL_BODY_BYTES)
        caller: Caller = request.scope[CALLER]
        with self.answering.around.limits.asking(caller):
            told = explain_alert(asked)
            if audit := self.answering.around.audit:
                digest = audit.digest(asked.model_dump_json())
                wrong = len(told["warnings"])
                await audit.noted("alert", caller.name, asked=digest, wrong_scores=wrong)
        return told

    async def take_feedback(self, request: Request) -> dict[str, Any]:
        """Keep what somebody says of an answer that they got."""
        around = self.answering.around
        said = await read_body(request, FeedbackRequest, 2**22)
        caller: Caller = request.scope[CALLER]
        if around.feedback is None:
            raise ApiError(400, "this server keeps no feedback", "no_feedback")
        with around.limits.asking(caller):
            found = check_feedback(said, caller, around.given)
            if around.audit:
                await around.audit.noted("feedback", caller.name, id=said.response_id)
            await keep_feedback(said, caller, found, self.model_id, around.feedback)
        if around.metrics:
            around.metrics.marked(said.helpfulness)
        return {"kept": True, "response_id": said.response_id}

    async def export_feedback(self, request: Request) -> Response:
        """The feedback as a dataset for `medllm prepare`, a row a line."""
        caller, around = _admin(request), self.answering.around
        if around.feedback is None:
            raise ApiError(400, "this server keeps no feedback", "no_feedback")
        if around.audit:
            await around.audit.noted("feedback exported", caller.name)
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(around.feedback.export(), 200, headers, "application/jsonl")


def _sees_gpu() -> bool:
    """Whether there is a GPU to compute on, as far as is known without loading PyTorch."""
    torch = sys.modules.get("torch")
    return bool(torch.cuda.is_available()) if torch else KERNEL_MODULE.exists()


def _described(model: str, engine: Answers, card: Mapping[str, Any]) -> dict[str, Any]:
    """A model as OpenAI lists it; its context under vLLM's name for it."""
    known = {"id": model, "object": "model", "created": 0, "owned_by": "medllm"}
    told = {"card": card} if card else {}
    return known | {"max_model_len": engine.context_length} | told


def _admin(request: Request) -> Caller:
    """Who asks, if an admin; raises ApiError else."""
    caller: Caller = request.scope[CALLER]
    if caller.role != "admin":
        raise ApiError(403, "only an admin's key may do this", "not_an_admin")
    return caller
