"""What a request to the page must fulfil before it is answered, and the headers of every answer."""

from __future__ import annotations

import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF = "x-jclip-token"
COOKIE = "jclip_access"
_TYPES = ("application/json", "application/octet-stream")
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'; require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "192.168.1.2", "localhost.evil.com")]
    [True, True, False, False]
    """
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


class Guard:
    """An ASGI application around another one, which refuses requests that do not come from the page itself.

    - The Host header must name this machine by an address, or as localhost: a web site whose name is made to lead here
      (DNS rebinding) has its own name there.
    - A request that another site's page sends is refused, by Sec-Fetch-Site, and for POST by Origin, by the token that
      only the page has, and by a content type that no HTML form can send.
    - With an access token every request needs it, as a cookie that the first address sets.

    Args:
        app: The application.
        host: The address that is listened on.
        csrf: The token of the page.
        access: The access token; empty where only this machine can connect.
    """

    def __init__(self, app: ASGIApp, host: str, csrf: str, access: str = "") -> None:
        self._app, self._host, self._csrf, self._access = app, host, csrf, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        reason = self._objection(scope)
        answer = _refuse(reason) if reason else self._admission(scope)
        await (answer or self._app)(scope, receive, with_headers)

    def _objection(self, scope: Scope) -> str:
        """Why a request is not one of the page; empty if it is."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if not self._is_ours(host):
            return "the page is not known by this name; use the address that the program printed."
        site = headers.get("sec-fetch-site", "none")
        reads = scope["method"] in ("GET", "HEAD")
        own = site in ("none", "same-origin") or (reads and scope["path"] == "/")
        if not own or (not reads and headers.get("origin", f"http://{host}").lower() != f"http://{host}"):
            return "requests of other sites are not answered."
        if reads:
            return ""
        if headers.get("content-type", "").split(";")[0].strip() not in _TYPES:
            return "expected JSON, or the bytes of a photo."
        if not secrets.compare_digest(headers.get(CSRF, "").encode(), self._csrf.encode()):
            return "this page is of an earlier start of the program; load it again."
        return ""

    def _is_ours(self, header: str) -> bool:
        """Whether a Host header names this machine."""
        host = (
            header[: header.index("]") + 1]
            if header.startswith("[") and "]" in header
            else header.split(":", maxsplit=1)[0]
        )
        if self._access:
            return host in (self._host, "localhost") or _address(host) is not None
        return is_loopback(host)

    def _admission(self, scope: Scope) -> Response | None:
        """With an access token: the answer to a request that lacks it, or that brings it in the address."""
        if not self._access:
            return None
        try:
            cookies = SimpleCookie(Headers(scope=scope).get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        if COOKIE in cookies and _same(cookies[COOKIE].value, self._access):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["path"] == "/" and _same(query.get("token", [""])[0], self._access):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self._access, httponly=True, samesite="strict")
            return answer
        return _refuse("open the page by the address with the token, which the program printed.")


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode())


def _refuse(reason: str) -> Response:
    return PlainTextResponse(reason, 403)
