"""Signing in with a token, and out again."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from migrator.serve.refusals import Refusal
from migrator.serve.web.forms import read_form
from migrator.serve.web.session import IDLE, LONGEST, Session, new_nonce
from migrator.serve.web.site import ABILITY, Room, Visit

# Our own paths only: "//host" and "/\host" name another server to a browser.
_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x7e]*")


class SignIn:
    """The form that asks for a token.

    The form carries a seal over a cookie, so that no other site can sign somebody in as
    somebody else.
    """

    def __init__(self, room: Room) -> None:
        self._room = room

    async def form(self, request: Request) -> Response:
        """Show the form."""
        return self._page(request, request.query_params.get("next", ""))

    async def submit(self, request: Request) -> Response:
        """Open a session for a good token; say what is wrong with any other."""
        form = await read_form(request)
        back, room = form.get("next", ""), self._room
        nonce = request.cookies.get(_name(request, "form"), "")
        if not nonce or not room.sessions.sealed(form.get("form", ""), "sign-in", nonce):
            text = "This form was too old, or your browser refuses cookies. Please try again."
            return self._page(request, back, text, status=403)
        try:
            session = await run_in_threadpool(self._open, request, form.get("token", "").strip())
        except Refusal as refusal:
            text = (
                refusal.message
                if refusal.status != 401
                else "This token is unknown, expired or revoked. Is it whole, with its number?"
            )
            answer = self._page(request, back, text, status=refusal.status)
            for name, value in refusal.headers:
                if name == b"retry-after":
                    answer.headers["retry-after"] = value.decode("latin-1")
            return answer
        answer = RedirectResponse(_own(back), 303)
        set_session(room, request, answer, session)
        _drop(request, answer, "form")
        return answer

    def _open(self, request: Request, token: str) -> Session:
        # The field stands for the header of the API: one way to check tokens, not two.
        others = [pair for pair in request.scope["headers"] if pair[0] != b"authorization"]
        bearer = (b"authorization", b"Bearer " + token.encode("utf-8", "replace"))
        admitted = self._room.door.admit({**request.scope, "headers": [*others, bearer]}, ABILITY)
        return self._room.sessions.open(admitted.id)

    def _page(self, request: Request, back: str, wrong: str = "", status: int = 200) -> Response:
        nonce = new_nonce()
        seal = self._room.sessions.seal("sign-in", nonce)
        answer = self._room.page(
            "sign_in.html", None, status=status, back=_own(back), wrong=wrong, seal=seal
        )
        _set(request, answer, "form", nonce, IDLE)
        return answer


def sign_out(room: Room, request: Request, visit: Visit) -> Response:
    """End the session."""
    room.sessions.end(visit.session)
    answer = RedirectResponse("/sign-in", 303)
    _drop(request, answer, "session")
    # Pages that were looked at must not come back with the browser's back button.
    answer.headers["clear-site-data"] = '"cache"'
    return answer


def session_of(room: Room, request: Request) -> Session | None:
    """Return the session that a request belongs to."""
    return room.sessions.read(request.cookies.get(_name(request, "session"), ""))


def set_session(room: Room, request: Request, answer: Response, session: Session) -> None:
    """Let an answer carry the session's cookie."""
    _set(request, answer, "session", room.sessions.write(session), LONGEST)


def address(back: str) -> str:
    """Return the address of the form that leads to ``back`` afterwards."""
    return "/sign-in" if back == "/" else f"/sign-in?next={quote(back, safe='/')}"


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
