"""The page of a server: a shell that anyone may load, and that asks as any client does."""

from pathlib import Path

from starlette.responses import Response

PAGE = Path(__file__).parent
PLACES = {"/": "index.html", "/ui/page.css": "page.css", "/ui/page.js": "page.js"}
"""Address → file; nothing else is told to whoever has no key."""
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""The page reaches this server alone, and no other page shows it in a frame."""


def read_page(place: str) -> Response:
    """A file of the page; `place` is one of `PLACES`."""
    path = PAGE / PLACES[place]
    content = path.read_text(encoding="utf-8")
    return Response(content, 200, HEADERS, f"{KINDS[path.suffix]}; charset=utf-8")
