"""Whatever goes wrong, as OpenAI's error form tells it, and without text of a request."""

import json
import logging

from fastapi import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from medllm.engines.base import EngineDown
from medllm.errors import DataError, MedllmError
from medllm.models.chat.prompts import UnfitPrompt
from medllm.models.memory import gpu_failure, is_out_of_memory
from medllm.serve.wire import ApiError

ADDRESSES = (
    "/v1/chat/completions, /v1/completions, /v1/models, /v1/alerts/explain, /generate, /feedback, "
    "/ready and /health"
)
OTHER_INTERFACES = {
    "/api/": "Ollama's",
    "/v1/messages": "Anthropic's",
    "/v1/responses": "OpenAI's newer",
}
"""Whose clients ask at the addresses that begin so."""


LEFT = 499
"""The status of a client that hung up, as nginx has it: it did nothing wrong."""


def error_response(error: ApiError) -> Response:
    """The answer that tells an error."""
    headers = dict(error.headers)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(json.dumps(error.body), error.status, headers, "application/json")


async def explain(request: Request, error: Exception) -> Response:
    """Any error that a route ended with."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=LEFT)  # nobody reads it, but it is counted
    if isinstance(error, HTTPException):
        return _explain_address(request, error)
    return error_response(api_error(error))


def api_error(error: BaseException) -> ApiError:
    """An error of ours or of an engine as a client is told it; what is a bug names no detail."""
    match error:
        case ApiError():
            return error
        case EngineDown():
            return ApiError(503, error.message, "engine_down", headers={"Retry-After": "5"})
        case MedllmError():  # DataError: such as a chat that the template refuses
            return ApiError(400 if isinstance(error, DataError) else 500, error.message)
    if what := _of_machine(error):
        return ApiError(503, f"{what}; the server goes on")
    return ApiError(500, "internal error")


def _of_machine(error: BaseException) -> str | None:
    """What of the machine failed, and not of the code."""
    if is_out_of_memory(error):
        return "too little memory for this request: shorten it, or ask for fewer tokens"
    failure = gpu_failure(error)
    return f"the GPU fails: {failure}" if failure else None


def refuse_prompt(problem: UnfitPrompt, param: str) -> ApiError:
    """A prompt that does not fit, as OpenAI tells it; `param` is the field that holds it."""
    if problem.size is None:
        return ApiError(400, problem.message, param=param)
    limit = problem.context_length
    holds = f"this model's context holds {limit:,} tokens, prompt and answer together"
    excess = f", {problem.excess:,} too many" if problem.excess else ""
    message = f"the prompt has {problem.size}{excess}; {holds}"
    return ApiError(400, message, "context_length_exceeded", param)


def log_bug(error: BaseException) -> None:
    """Log where an error happened that nobody foresaw; the server's log leaves its message out."""
    if what := _of_machine(error):
        logging.getLogger("uvicorn.error").error("an answer failed: %s", what)
    elif not isinstance(error, ApiError | MedllmError):
        told = (type(error), error, error.__traceback__)
        logging.getLogger("uvicorn.error").error("an answer failed", exc_info=told)


def _explain_address(request: Request, error: HTTPException) -> Response:
    """No such address, or no such method there; OPTIONS asks what methods there are."""
    methods = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
    headers = {"Allow": methods} if methods else {}
    if error.status_code == 405 and request.method == "OPTIONS":
        return Response(status_code=204, headers=headers)
    path = request.scope["path"]
    whose = next((OTHER_INTERFACES[each] for each in OTHER_INTERFACES if path.startswith(each)), "")
    what = f"{whose} interface is not spoken here" if whose else "nothing is at this address"
    message = {
        404: f"{what}; this server has {ADDRESSES}",
        405: f"this address takes {methods}, not this method",
    }.get(error.status_code, error.detail)
    return error_response(ApiError(error.status_code, message, headers=headers))
