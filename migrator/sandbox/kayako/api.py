"""Kayako's dispatch: from a parsed request to the method of a controller."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from migrator.sandbox.kayako import attachment_calls, ticket_calls
from migrator.sandbox.kayako.auth import Keys, refusal
from migrator.sandbox.kayako.faults import around_error
from migrator.sandbox.kayako.model import Helpdesk
from migrator.sandbox.kayako.reply import HTML, XML, Ask, Reply, Request, page, php_error, text


@dataclass(frozen=True, slots=True)
class Call:
    """A method of a controller; it takes at least ``least`` and looks at ``most`` arguments."""

    run: Callable[..., Reply]
    least: int = 0
    most: int = 0


def _not_implemented(name: str) -> Call:
    sentence = f"Not Implemented, Call /Tickets/{name}/ListAll instead."
    return Call(lambda _ask: text(400, sentence))


def _test_api(ask: Ask, argument: str = "") -> Reply:
    """Answer the connection test, which echoes the query with all that is in it."""
    what = f"GET: {argument}" if argument else "GET List"
    return text(200, f"{what}\nARGS: {argument}\nVARS: {ask.request.query_string}\n", HTML)


CONTROLLERS: Final[dict[tuple[str, str], dict[str, Call]]] = {
    ("Tickets", "TicketAttachment"): {
        "ListAll": Call(attachment_calls.list_all, 1, 2),
        "Get": Call(attachment_calls.get, 2, 2),
        "GetList": _not_implemented("TicketAttachment"),
        "Post": Call(attachment_calls.post),
        "Delete": Call(attachment_calls.delete, 2, 2),
    },
    ("Tickets", "TicketPost"): {
        "ListAll": Call(attachment_calls.list_posts, 1, 2),
        "Get": Call(attachment_calls.list_posts, 2, 2),
        "GetList": _not_implemented("TicketPost"),
    },
    ("Tickets", "Ticket"): {
        "ListAll": Call(ticket_calls.list_all, 1, 8),
        "GetTicketCount": Call(ticket_calls.count, 1, 4),
        "Get": Call(ticket_calls.get, 1, 1),
        "GetList": _not_implemented("Ticket"),
    },
    ("Tickets", "TicketStatus"): {
        "Get": Call(ticket_calls.statuses, 1, 1),
        "GetList": Call(ticket_calls.statuses),
    },
    ("Base", "Department"): {
        "Get": Call(ticket_calls.departments, 1, 1),
        "GetList": Call(ticket_calls.departments),
    },
    ("Core", "TestAPI"): {"Get": Call(_test_api, 1, 1), "GetList": Call(_test_api)},
}
"""All that the sandbox can do, by app and controller."""


def answer(desk: Helpdesk, keys: Keys, request: Request) -> Reply:
    """Answer one request; the body may still have to be made while it is sent."""
    app, controller = (*request.segments, "", "")[:2]
    methods = CONTROLLERS.get((app, controller))
    if methods is None:
        return page(404, "404", f'"{html.escape(app)}" SWIFT App does not exist')
    refused = refusal(request, keys, desk.switches)
    if refused:
        return refused
    absent = {"GetTicketCount"} if "no_count" in desk.switches else set()
    action, args = _action(request.verb, request.segments[2:], methods.keys() - absent)
    call = methods.get(action)
    if call is None or len(args) < call.least:
        return php_error(request.path, "Uncaught Exception", f"Too few arguments to {action}()")
    with desk.lock:
        reply = call.run(Ask(desk, request), *args[: call.most])
    own = reply.content_type == XML  # not a page of some firewall before it
    return around_error(reply) if own and "noisy_errors" in desk.switches else reply


def _action(verb: str, args: tuple[str, ...], public: set[str]) -> tuple[str, tuple[str, ...]]:
    """Choose the method: a named public one whatever the verb, else the one of the verb."""
    if args and args[0] in public:
        return args[0], args[1:]
    return ("GetList" if verb == "GET" and not args else verb.title()), args
