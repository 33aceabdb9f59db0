"""Who may come in: callers with the key, or from this machine; web pages only of named origins."""

import re
from collections.abc import Collection

from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from medllm import console
from medllm.errors import MedllmError
from medllm.places import is_loopback
from medllm.serve.callers.callers import ANYONE, Callers
from medllm.serve.callers.keys import Caller
from medllm.serve.refusals import error_response
from medllm.serve.wire import ApiError

OPEN = ("/health", "/ready")
"""What anyone may ask."""
CALLER = "medllm.caller"
"""Where the scope of a request holds its `Caller`."""


class Access:
    """Access to the server: lets through `/health` and `/ready`, and whoever may come in."""

    def __init__(self, app: ASGIApp, callers: Callers, shown: Collection[str] = ()) -> None:
        """`shown` are addresses of a page, which anyone may load."""
        self._app, self._callers, self._open = app, callers, {*OPEN, *shown}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before its body is read.

        A slash at the end of a path makes no difference.
        """
        if scope["type"] == "http":
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        answer = self._app
        if scope["type"] != "lifespan" and scope["path"] not in self._open:
            try:
                scope[CALLER] = self._find_caller(Headers(scope=scope), scope.get("client"))
            except MedllmError as problem:  # the file of keys is broken: nobody comes in
                console.notice(f"server: {problem.message}")  # a stranger is told no path
                answer = error_response(ApiError(500, "the server's keys cannot be read"))
            except ApiError as refusal:
                answer = error_response(refusal)
        await answer(scope, receive, send)

    def _find_caller(self, headers: Headers, client: tuple[str, int] | None) -> Caller:
        """Raises ApiError for whoever is none; the address is that of the connection itself."""
        if proxies := self._callers.proxies:
            address, pages = client[0] if client else None, self._callers.allow_origins
            if caller := proxies.find(address, headers, pages):
                return caller
        if self._callers.are_unnamed:
            if refusal := self._refusal_without_key(headers):
                raise refusal
            return ANYONE
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and (caller := self._callers.find(given.strip())):
            return caller
        message = "missing or wrong key; send it as 'Authorization: Bearer <key>'"
        raise ApiError(401, message, "invalid_api_key")

    def _refusal_without_key(self, headers: Headers) -> ApiError | None:
        """A page of the web may reach this machine through its reader's browser.

        With a name of its own that is made to mean 127.0.0.1 (DNS rebinding) it shows as host;
        with a plain form, which no browser asks leave for, as origin.
        """
        host = headers.get("host", "").lower()
        if not is_loopback(re.sub(r":\d*$", "", host)):
            message = "without a key this server answers to localhost only"
            return ApiError(403, message, "host_not_allowed")
        if (origin := headers.get("origin")) in (
            None,
            f"http://{host}",
            *self._callers.allow_origins,
        ):
            return None
        message = f"pages of {origin} may not ask this server; see allow_origins"
        return ApiError(403, message, "origin_not_allowed")


class Origins(CORSMiddleware):
    """Tells browsers which pages may ask, and read an answer (CORS), before they send the key."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        super().__init__(app, callers.allow_origins, ("GET", "POST"), ("*",))

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser asks before a page may ask: without the header of CORS it means no."""
        response = super().preflight_response(request_headers)
        return response if response.status_code == 200 else Response(None, 204, {"Vary": "Origin"})
