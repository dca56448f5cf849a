"""The pages as one ASGI application: routes, signing in and out, common headers."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import quote

from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migrator.archive import Archive
from migrator.serve.auth import origin_of
from migrator.serve.catalog import Catalog, EndpointSettings
from migrator.serve.content import watch
from migrator.serve.readers import Readers
from migrator.serve.refusals import ErrorBorder, Refusal, not_allowed, not_found
from migrator.serve.web import pages
from migrator.serve.web.sessions import IDLE, LONGEST, Session, Sessions, new_nonce
from migrator.serve.web.site import Problem, Site, Visit, read_form

ABILITY: Final = "tickets:read"

_HEADERS: Final = {
    # No script at all: whatever slips through the sanitiser cannot run.
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, no-store",
}

# Our own paths only: "//host" and "/\host" name another server to a browser.
_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x7e]*")


class _Id(Convertor[int]):
    """An id in a path, with no more digits than SQLite can hold."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", _Id())

Page = Callable[[Site, Visit], Response]


def build_pages(
    archive: Archive, settings: EndpointSettings, sessions: Sessions | None = None
) -> ASGIApp:
    """Return the staff pages over an archive, as an ASGI application.

    A run may fill the archive meanwhile; tokens, rules and queues may change, by this process or
    another. Visitors without a session see only the sign-in form.
    """
    archive = archive.served()
    app = Pages(Site(Catalog(archive, settings), sessions or Sessions()), Readers(archive))

    async def with_headers(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        # With an "app" in the scope the router raises its 404 and 405 instead of sending text.
        await app({**scope, "app": app}, receive, sending)

    return with_headers


class Pages(ErrorBorder):
    """The pages, and the answers at unknown addresses."""

    def __init__(self, site: Site, readers: Readers) -> None:
        self._site = site
        self._readers = readers
        bug = PlainTextResponse("The server could not answer. Its operator's log says why.", 500)
        super().__init__(self._routes(), self._error, bug)

    def _routes(self) -> Router:
        return Router(
            [
                Route("/assets/{name}", self._asset),
                Route("/sign-in", self._sign_in_form, methods=["GET"]),
                Route("/sign-in", self._sign_in, methods=["POST"]),
                self._route("/sign-out", _sign_out, "POST"),
                self._route("/", pages.search),
                self._route("/tickets/{ticket:id}", pages.ticket),
                self._route("/tickets/{ticket:id}/download", pages.download_all),
                self._route("/tickets/{ticket:id}/download", pages.confirm_all, "POST"),
                self._route("/attachments/{attachment:id}", pages.attachment),
                self._route("/attachments/{attachment:id}", pages.confirm, "POST"),
                self._route("/attachments/{attachment:id}/download", pages.download),
                self._route("/attachments/{attachment:id}/view", pages.view),
                self._route("/attachments/{attachment:id}/text", pages.excerpt),
                self._route("/knowledge-base", pages.knowledge_base),
                self._route("/knowledge-base/{kind}/{number:id}", pages.article),
                self._route("/status", pages.status),
            ],
            redirect_slashes=False,
        )

    def _error(self, error: Exception, scope: Scope) -> ASGIApp | None:
        if isinstance(error, Problem):
            return self._site.problem(error)
        if isinstance(error, Refusal):
            return self._site.problem(Problem(error.status, "Please try again", error.message))
        if not isinstance(error, HTTPException):
            return None
        if not any(name == b"accept" and b"text/html" in value for name, value in scope["headers"]):
            # Programs at a wrong address of the API get its envelope.
            allow = (error.headers or {}).get("Allow", "")
            return not_allowed(allow) if error.status_code == 405 else not_found()
        found = _no_page()
        if error.status_code == 405:
            text = "This address does not answer that kind of request."
            found = Problem(405, "Method not allowed", text)
        answer = self._site.problem(found)
        answer.headers.update(error.headers or {})
        return answer

    async def _asset(self, request: Request) -> Response:
        asset = self._site.assets.get(request.url.path)
        if asset is None:
            raise _no_page()
        # The address changes with the content, so a browser never needs to ask again.
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(asset.body, media_type=asset.media_type, headers=headers)

    def _route(self, path: str, page: Page, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            form = await read_form(request) if method == "POST" else {}
            session = self._site.sessions.read(request.cookies.get(_name(request, "session"), ""))
            if session is None:
                return _to_sign_in(request)
            # Hashing a file takes as long as the file is large.
            bounded = page not in (pages.download, pages.view)
            work = partial(self._admit, page, request, form, session)
            async with watch(request.receive) as gone:
                return await self._readers.run(session.token_id, gone, work, bounded=bounded)

        return Route(path, endpoint, methods=[method], name=page.__name__)

    def _admit(
        self, page: Page, request: Request, form: dict[str, str], session: Session
    ) -> Response:
        """Answer a signed-in visitor, and ask those whose token is over to sign in."""
        site = self._site
        try:
            token = site.authenticator.readmit(session.token_id, ABILITY)
        except Refusal:
            return _to_sign_in(request)
        visit = Visit(request, token, session, form)
        seal = form.get("form", "")
        if request.method == "POST" and not site.sessions.sealed(seal, "form", session.nonce):
            text = "This form was not sent by our own page."
            return site.problem(Problem(403, "Please try again", text), visit)
        try:
            answer = page(site, visit)
        except Problem as problem:
            answer = site.problem(problem, visit)
        by_itself = pages.BY_ITSELF in request.query_params
        if page is not _sign_out and not by_itself and (renewed := site.sessions.renewed(session)):
            _set(request, answer, "session", site.sessions.write(renewed), LONGEST)
        return answer

    async def _sign_in_form(self, request: Request) -> Response:
        return self._form(request, request.query_params.get("next", ""))

    async def _sign_in(self, request: Request) -> Response:
        """Open a session for a valid token; show what is wrong with any other."""
        form = await read_form(request)
        back, sessions = form.get("next", ""), self._site.sessions
        nonce = request.cookies.get(_name(request, "form"), "")
        # The seal over a cookie keeps other sites from signing somebody in as somebody else.
        if not nonce or not sessions.sealed(form.get("form", ""), "sign-in", nonce):
            text = "This form was too old, or your browser refuses cookies. Please try again."
            return self._form(request, back, text, status=403)
        try:
            address = origin_of(request.client.host if request.client else "")
            work = partial(self._open, request, form.get("token", "").strip())
            async with watch(request.receive) as gone:
                session = await self._readers.run(address, gone, work)
        except Refusal as refusal:
            text = (
                refusal.message
                if refusal.status != 401
                else "This token is unknown, expired or revoked. Is it whole, with its number?"
            )
            answer = self._form(request, back, text, status=refusal.status)
            for name, value in refusal.headers:
                if name == b"retry-after":
                    answer.headers["retry-after"] = value.decode("latin-1")
            return answer
        answer = RedirectResponse(_own(back), 303)
        _set(request, answer, "session", sessions.write(session), LONGEST)
        _drop(request, answer, "form")
        return answer

    def _open(self, request: Request, token: str) -> Session:
        # The field stands for the header of the API: one way to check tokens, not two.
        others = [pair for pair in request.scope["headers"] if pair[0] != b"authorization"]
        bearer = (b"authorization", b"Bearer " + token.encode("utf-8", "replace"))
        scope = {**request.scope, "headers": [*others, bearer]}
        return self._site.sessions.open(self._site.authenticator.admit(scope, ABILITY).id)

    def _form(self, request: Request, back: str, wrong: str = "", status: int = 200) -> Response:
        nonce = new_nonce()
        seal = self._site.sessions.seal("sign-in", nonce)
        answer = self._site.page(
            "sign_in.html", None, status=status, back=_own(back), wrong=wrong, seal=seal
        )
        _set(request, answer, "form", nonce, IDLE)
        return answer


def _sign_out(site: Site, visit: Visit) -> Response:
    site.sessions.end(visit.session)
    answer = RedirectResponse("/sign-in", 303)
    _drop(visit.request, answer, "session")
    # The browser's back button must not show pages again after signing out.
    answer.headers["clear-site-data"] = '"cache"'
    return answer


def _to_sign_in(request: Request) -> Response:
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    back = back if request.method == "GET" else "/"
    return RedirectResponse(
        "/sign-in" if back == "/" else f"/sign-in?next={quote(back, safe='/')}", 303
    )


def _no_page() -> Problem:
    return Problem(404, "Nothing here", "There is no page at this address.")


def _own(back: str) -> str:
    return back if _PATH.fullmatch(back) else "/"


def _name(request: Request, name: str) -> str:
    # The prefix makes browsers refuse such a cookie from a neighbour's host or without TLS.
    return f"__Host-{name}" if request.url.is_secure else f"migrator_{name}"


def _set(request: Request, answer: Response, name: str, value: str, seconds: int) -> None:
    answer.set_cookie(
        _name(request, name),
        value,
        max_age=seconds,
        httponly=True,
        samesite="lax",
        secure=request.url.is_secure,
    )


def _drop(request: Request, answer: Response, name: str) -> None:
    answer.delete_cookie(
        _name(request, name), httponly=True, samesite="lax", secure=request.url.is_secure
    )
