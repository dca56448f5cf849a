"""The application: routes, and one place where refusals and bugs become answers.

What needs no token: is the server alive, is it ready, what does it offer.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from migrator.archive import Archive
from migrator.errors import ArchiveError
from migrator.serve.auth import Doorkeeper
from migrator.serve.cache import KeptTokens, Moment
from migrator.serve.refusals import Refusal, server_error
from migrator.serve.settings import EndpointSettings
from migrator.serve.tickets import TicketFinder
from migrator.serve.tickiti.download import DownloadAttachment
from migrator.serve.tickiti.endpoint import ClientGone, Endpoint
from migrator.serve.tickiti.openapi import document
from migrator.serve.tickiti.query_responses import QueryResponses
from migrator.serve.tickiti.query_tickets import QueryTickets
from migrator.serve.tickiti.queues import Queues, TicketQueues, WorkflowQueues
from migrator.serve.tickiti.streaming import send_json
from migrator.serve.tickiti.threads import ListResponses, Responses, ShowTicket

_log = logging.getLogger(__name__)


def build_app(archive: Archive, settings: EndpointSettings) -> Application:
    """Return the Tickiti-compatible endpoint over an archive, as an ASGI application.

    The archive is read in the thread of the event loop; tokens, rules and queues may change
    meanwhile, by this process or another. Every answer on every path is the JSON envelope.
    """
    moment = Moment(archive.queries.moment)
    door = Doorkeeper(KeptTokens(archive.access, moment))
    tickets = TicketFinder(archive, settings)
    queues, responses = Queues(archive, settings), Responses(archive, settings)
    calls: dict[str, Endpoint] = {
        "tickets/attachment": DownloadAttachment(
            archive, settings, door=door, tickets=tickets, moment=moment
        ),
        "tickets/show": ShowTicket(archive, door=door, tickets=tickets, responses=responses),
        "tickets/responses": ListResponses(
            archive, door=door, tickets=tickets, responses=responses
        ),
        "tickets/responses/query": QueryResponses(
            archive, settings, door=door, queues=queues, responses=responses
        ),
        "tickets/query": QueryTickets(archive, settings, door=door, queues=queues),
        "tickets/queues": TicketQueues(queues, door=door),
        "workflow/queues": WorkflowQueues(queues, door=door),
    }
    probes: dict[str, ASGIApp] = {
        "/openapi.json": Fixed(document()),
        "/healthz": Fixed({"ok": True}),
        "/readyz": Readiness(archive),
    }
    routes = Routes(
        {f"/api/v1/{path}": ("POST", app) for path, app in calls.items()}
        | {path: ("GET", app) for path, app in probes.items()}
    )
    return Application(routes)


class Routes:
    """Applications by path, each with the one method that it answers; a GET answers HEAD, too."""

    def __init__(self, routes: Mapping[str, tuple[str, ASGIApp]]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises Refusal where there is nothing to answer it."""
        found = self._routes.get(scope["path"])
        if found is None:
            raise Refusal(404, "not_found", "There is nothing at this address.")
        method, app = found
        if scope["method"] != method and (method, scope["method"]) != ("GET", "HEAD"):
            allow = "GET, HEAD" if method == "GET" else method
            raise Refusal(
                405,
                "method_not_allowed",
                f"This address answers {allow} only.",
                headers=[(b"allow", allow.encode("ascii"))],
            )
        await app(scope, receive, send)


class Application:
    """Wraps the routes so that a client sees the envelope and nothing else."""

    def __init__(self, routes: ASGIApp) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; never raises but when it is cancelled."""
        started = False

        def noting(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        try:
            await self._routes(scope, receive, noting)
        except ClientGone:
            return
        except Refusal as refusal:
            await refusal.send(send)
        except Exception as error:  # noqa: BLE001 - the border of the room: a client gets no traceback
            _log_bug(error)
            if not started:
                await server_error().send(send)


def _log_bug(error: Exception) -> None:
    # The message of an exception may quote a request: it goes to the log escaped.
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("A request failed: %s: %a\n%s", type(error).__name__, str(error), where)


_LACKING = Refusal(503, "not_ready", "The files of the archive cannot be reached.")


class Fixed:
    """``GET /healthz`` and ``GET /openapi.json``: the same document for everybody."""

    def __init__(self, document: object) -> None:
        self._document = document

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer; nothing is looked up, so that this works whatever the archive does."""
        await send_json(send, self._document)


class Readiness:
    """``GET /readyz``: 200 while both halves of the archive can be read, else 503 ``not_ready``."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Look at both halves of the archive and answer."""
        try:
            self._archive.queries.runs(1)
        except ArchiveError as error:
            raise Refusal(503, "not_ready", "The checkpoint cannot be read.") from error
        try:
            self._archive.see_both_halves()
        except ArchiveError as error:
            raise _LACKING from error
        if not (self._archive.path / "blobs").is_dir():  # there may be no file in it yet
            raise _LACKING
        await send_json(send, {"ok": True})
