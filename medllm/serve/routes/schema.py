"""What the server takes, as an OpenAPI document: made from the forms that check the bodies."""

from collections import defaultdict
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from medllm import __version__
from medllm.serve.callers.access import OPEN
from medllm.serve.routes.alerts import AlertRequest
from medllm.serve.routes.feedback import FeedbackRequest
from medllm.serve.routes.plain import PlainRequest
from medllm.serve.wire import ChatRequest, CompletionRequest

FORMS: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/generate": PlainRequest,
    "/v1/alerts/explain": AlertRequest,
    "/feedback": FeedbackRequest,
}
"""The form of the body of `POST`."""
FOR_ADMINS = frozenset(
    {("post", "/v1/model/offline"), ("post", "/v1/model/online"), ("get", "/feedback")}
)
STREAMS = frozenset({"/v1/chat/completions", "/v1/completions"})
REFERENCE = "#/components/schemas/{model}"
ERROR: dict[str, Any] = {
    "type": "object",
    "description": "Why a request is refused, in OpenAI's form.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": ["invalid_request_error", "server_error"]},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def build_schema(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application; its words are those of the code."""
    _, made = models_json_schema(
        [(form, "validation") for form in FORMS.values()], ref_template=REFERENCE
    )
    paths: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in sorted({*(route.methods or ())} - {"HEAD"}):
                paths[route.path_format][method.lower()] = _operation(route, method.lower())
    key = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "medllm", "version": __version__},
        "paths": dict(paths),
        "components": {
            "schemas": {**made["$defs"], "Error": ERROR}, "securitySchemes": {"key": key},
        },
        "security": [{"key": []}],
    }  # fmt: skip


def _operation(route: APIRoute, method: str) -> dict[str, Any]:
    path = route.path_format
    told: dict[str, Any] = {"summary": (route.endpoint.__doc__ or "").strip().rstrip(".")}
    told["x-for"] = "admins" if (method, path) in FOR_ADMINS else "callers"
    if path in OPEN:
        told |= {"x-for": "anyone", "security": []}
    if parameters := [each.name for each in route.dependant.path_params]:
        told["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in parameters
        ]
    if method == "post" and path in FORMS:
        form = {"$ref": REFERENCE.format(model=FORMS[path].__name__)}
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": form}}}
    return told | {"responses": _responses(method, path)}


def _responses(method: str, path: str) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if path in STREAMS:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    if (method, path) == ("get", "/feedback"):
        content = {"application/jsonl": {"schema": {"type": "string"}}}
    error = {"application/json": {"schema": {"$ref": REFERENCE.format(model="Error")}}}
    return {
        "200": {"description": "The answer", "content": content},
        "default": {"description": "Why there is none", "content": error},
    }
