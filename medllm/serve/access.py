"""Who may come in: callers with the key, or from this machine; web pages only of named origins."""

import hmac
import re
from collections.abc import Collection

from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from medllm.serve.config import is_loopback
from medllm.serve.refusals import error_response
from medllm.serve.wire import ApiError


class Access:
    """Access to the server: lets through `/health`, and whoever may come in."""

    def __init__(
        self, app: ASGIApp, api_key: str | None, allow_origins: Collection[str] = ()
    ) -> None:
        self._app, self._key, self._origins = app, api_key, allow_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before its body is read.

        A slash at the end of a path makes no difference.
        """
        if scope["type"] == "http":
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        is_open = scope["type"] == "lifespan" or scope["path"] == "/health"
        refusal = None if is_open else self._refusal(Headers(scope=scope))
        await (error_response(refusal) if refusal else self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> ApiError | None:
        if self._key is None:
            return self._refusal_without_key(headers)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        # Bytes, because compare_digest refuses strings that are not ASCII.
        given, wanted = key.strip().encode(), self._key.encode()
        if scheme.lower() == "bearer" and hmac.compare_digest(given, wanted):
            return None
        message = "missing or wrong key; send it as 'Authorization: Bearer <key>'"
        return ApiError(401, message, "invalid_api_key")

    def _refusal_without_key(self, headers: Headers) -> ApiError | None:
        """A page of the web may reach this machine through its reader's browser.

        With a name of its own that is made to mean 127.0.0.1 (DNS rebinding) it shows as host;
        with a plain form, which no browser asks leave for, as origin.
        """
        host = headers.get("host", "").lower()
        if not is_loopback(re.sub(r":\d*$", "", host)):
            message = "without a key this server answers to localhost only"
            return ApiError(403, message, "host_not_allowed")
        if (origin := headers.get("origin")) in (None, f"http://{host}", *self._origins):
            return None
        message = f"pages of {origin} may not ask this server; see allow_origins"
        return ApiError(403, message, "origin_not_allowed")


class Origins(CORSMiddleware):
    """Tells browsers which pages may ask, and read an answer (CORS), before they send the key."""

    def __init__(self, app: ASGIApp, allow_origins: Collection[str]) -> None:
        super().__init__(app, tuple(allow_origins), ("GET", "POST"), ("*",))

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser asks before a page may ask: without the header of CORS it means no."""
        response = super().preflight_response(request_headers)
        return response if response.status_code == 200 else Response(None, 204, {"Vary": "Origin"})
