"""The pages as one ASGI application: routes, who may pass, and what every answer carries."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migrator.archive import Archive
from migrator.serve.refusals import Refusal
from migrator.serve.tickiti import EndpointSettings
from migrator.serve.web import attachment, search, sign_in, status, ticket
from migrator.serve.web.forms import Problem, read_form
from migrator.serve.web.session import Sessions
from migrator.serve.web.site import ABILITY, Room, Visit

_log = logging.getLogger(__name__)

_API: Final = ("/openapi.json", "/healthz", "/readyz")

_HEADERS: Final = {
    # No script at all: whatever slips through the sanitiser has nothing to run with.
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


class _Id(Convertor[int]):
    """An id in a path: more digits than SQLite can hold are no address of ours."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", _Id())

Handler = Callable[[Room, Request, Visit], Response]


def build_pages(
    archive: Archive, settings: EndpointSettings, sessions: Sessions | None = None
) -> Pages:
    """Return the staff pages over an archive, as an ASGI application.

    A run may fill the archive meanwhile; tokens, rules and queues may change, by this process or
    another. Who has no session sees the form to sign in, and nothing else.
    """
    return Pages(Room(archive, settings, sessions or Sessions()))


def join(api: ASGIApp, pages: ASGIApp) -> ASGIApp:
    """Return one application: the API at its documented addresses, the pages at all others."""

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        is_api = path == "/api" or path.startswith("/api/") or path in _API
        await (api if is_api else pages)(scope, receive, send)

    return both


class Pages:
    """The application."""

    def __init__(self, room: Room) -> None:
        self._room = room
        sign = sign_in.SignIn(room)
        self._router = Router(
            [
                Route("/assets/{name}", self._asset),
                Route("/sign-in", sign.form, methods=["GET"]),
                Route("/sign-in", sign.submit, methods=["POST"]),
                self._route("/sign-out", sign_in.sign_out, "POST"),
                self._route("/", search.search),
                self._route("/tickets/{ticket:id}", ticket.show),
                self._route("/attachments/{attachment:id}", attachment.show),
                self._route("/attachments/{attachment:id}", attachment.confirm, "POST"),
                self._route("/attachments/{attachment:id}/download", attachment.download),
                self._route("/attachments/{attachment:id}/view", attachment.view),
                self._route("/status", status.show),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; never raises but when it is cancelled."""
        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        # With an "app" in the scope the router raises its 404 and 405 instead of sending text.
        scope["app"] = self
        try:
            await self._router(scope, receive, with_headers)
        except ClientDisconnect:
            return
        except HTTPException as error:
            if not _for_people(scope):
                await _refusal(error).send(with_headers)
                return
            found = _not_allowed() if error.status_code == 405 else _not_found()
            answer = self._room.problem(found)
            answer.headers.update(error.headers or {})
            await answer(scope, receive, with_headers)
        except Problem as problem:
            await self._room.problem(problem)(scope, receive, with_headers)
        except Exception as error:  # noqa: BLE001 - the border of the room: nobody gets a traceback
            _log_bug(error)
            if not started:
                await PlainTextResponse(
                    "The server could not answer. Its operator's log says why.", 500
                )(scope, receive, with_headers)

    async def _asset(self, request: Request) -> Response:
        asset = self._room.assets.get(request.url.path)
        if asset is None:
            raise _not_found()
        # The address changes with the content, so a browser never needs to ask again.
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(asset.body, media_type=asset.media_type, headers=headers)

    def _route(self, path: str, handler: Handler, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            form = await read_form(request) if method == "POST" else {}
            return await run_in_threadpool(self._admit, handler, request, form)

        return Route(path, endpoint, methods=[method], name=handler.__name__)

    def _admit(self, handler: Handler, request: Request, form: dict[str, str]) -> Response:
        """Answer for somebody who has signed in, and ask all others to."""
        room = self._room
        session = sign_in.session_of(room, request)
        if session is None:
            return _to_sign_in(request)
        try:
            token = room.door.readmit(session.token_id, ABILITY)
        except Refusal:
            return _to_sign_in(request)
        visit = Visit(token, session, form)
        seal = form.get("form", "")
        if request.method == "POST" and not room.sessions.sealed(seal, "form", session.nonce):
            return room.problem(_foreign_form(), visit)
        try:
            answer = handler(room, request, visit)
        except Problem as problem:
            answer = room.problem(problem, visit)
        if handler is not sign_in.sign_out and (renewed := room.sessions.renewed(session)):
            sign_in.set_session(room, request, answer, renewed)
        return answer


def _to_sign_in(request: Request) -> Response:
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    back = back if request.method == "GET" else "/"
    return RedirectResponse(sign_in.address(back), 303)


def _for_people(scope: Scope) -> bool:
    """Tell whether a page is asked for: programs that miss the API's address get its envelope."""
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


def _refusal(error: HTTPException) -> Refusal:
    if error.status_code != 405:
        return Refusal(404, "not_found", "There is nothing at this address.")
    allow = (error.headers or {}).get("Allow", "")
    text = f"This address answers {allow} only."
    headers = [(b"allow", allow.encode("ascii"))]
    return Refusal(405, "method_not_allowed", text, headers=headers)


def _not_found() -> Problem:
    return Problem(404, "Nothing here", "There is no page at this address.")


def _not_allowed() -> Problem:
    return Problem(405, "Not this way", "This address does not answer that kind of request.")


def _foreign_form() -> Problem:
    return Problem(403, "Please try again", "This form was not sent by our own page.")


def _log_bug(error: Exception) -> None:
    # The message of an exception may quote a request: it goes to the log escaped.
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("A page failed: %s: %a\n%s", type(error).__name__, str(error), where)
