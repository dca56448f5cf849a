"""Which call answers a request, and what the web server sends without any."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from migrator.sandbox.kayako import calls, faults, fields, guides, news, notes, people, tickets
from migrator.sandbox.kayako.calls import Ask
from migrator.sandbox.kayako.files import filetype
from migrator.sandbox.kayako.messages import (
    HTML,
    XML,
    Body,
    Keys,
    Reply,
    Request,
    Stream,
    page,
    php_error,
    refusal,
    text,
)
from migrator.sandbox.kayako.model import Helpdesk


@dataclass(frozen=True, slots=True)
class Call:
    """A method of a controller; it takes at least ``least`` and looks at ``most`` arguments."""

    run: Callable[..., Reply]
    least: int = 0
    most: int = 0


def _not_implemented(call: str = "") -> Call:
    sentence = f"Not Implemented, Call {call} instead." if call else "Not Implemented."
    return Call(lambda _ask: text(400, sentence))


def _listed(name: str) -> Call:
    return _not_implemented(f"/Tickets/{name}/ListAll")


def _choosing(call: Callable[..., Reply]) -> dict[str, Call]:
    """Return the methods that list all rows, or one."""
    return {"Get": Call(call, 1, 1), "GetList": Call(call)}


def _of_notes(sort: notes.Sort, name: str, post: Callable[..., Reply]) -> dict[str, Call]:
    return {
        "ListAll": Call(partial(notes.list_notes, sort), 1, 2),
        "Get": Call(partial(notes.get_note, sort), 2, 2),
        "GetList": _listed(name),
        "Post": Call(post),
        "Delete": Call(partial(notes.delete_note, sort), 2, 2),
    }


def _of_attachments(book: guides.Book) -> dict[str, Call]:
    return {
        "ListAll": Call(partial(guides.list_attachments, book), 1, 2),
        "Get": Call(partial(guides.get_attachment, book), 2, 2),
        "GetList": _not_implemented(),
        "Post": Call(partial(guides.post_attachment, book)),
        "Delete": Call(partial(guides.delete_attachment, book), 2, 2),
    }


def _of_comments(tag: str, owner: str) -> dict[str, Call]:
    list_all, get = guides.comment_calls(tag, owner)
    return {"ListAll": Call(list_all, 0, 1), "Get": Call(get, 1, 1), "GetList": Call(get)}


def _of_search(path: str, run: Callable[..., Reply]) -> dict[str, Call]:
    """Return the methods of a search, of which all but one are refused."""
    refused = dict.fromkeys(("Get", "GetList", "Put", "Delete"), _not_implemented(f"POST {path}"))
    return {**refused, "Post": Call(run)}


def _test_api(ask: Ask, argument: str = "") -> Reply:
    """Answer the connection test, which echoes the query with all that is in it."""
    what = f"GET: {argument}" if argument else "GET List"
    return text(200, f"{what}\nARGS: {argument}\nVARS: {ask.request.query_string}\n", HTML)


CONTROLLERS: Final[dict[tuple[str, str], dict[str, Call]]] = {
    ("Tickets", "TicketAttachment"): {
        "ListAll": Call(calls.list_attachments, 1, 2),
        "Get": Call(calls.get_attachment, 2, 2),
        "GetList": _listed("TicketAttachment"),
        "Post": Call(calls.post_attachment),
        "Delete": Call(calls.delete_attachment, 2, 2),
    },
    ("Tickets", "TicketPost"): {
        "ListAll": Call(calls.list_posts, 1, 2),
        "Get": Call(calls.list_posts, 2, 2),
        "GetList": _listed("TicketPost"),
        "Post": Call(calls.post_post),
        "Delete": Call(calls.delete_post, 2, 2),
    },
    ("Tickets", "Ticket"): {
        "ListAll": Call(calls.list_tickets, 1, 8),
        "GetTicketCount": Call(calls.count_tickets, 1, 4),
        "Get": Call(calls.get_ticket, 1, 1),
        "GetList": _listed("Ticket"),
        "Post": Call(tickets.post_ticket),
        "Put": Call(tickets.put_ticket, 1, 1),
        "Delete": Call(tickets.delete_ticket, 1, 1),
    },
    ("Tickets", "TicketSearch"): _of_search("/Tickets/TicketSearch", tickets.search),
    ("Tickets", "TicketNote"): _of_notes(notes.NOTES, "TicketNote", notes.post_note),
    ("Tickets", "TicketTimeTrack"): _of_notes(
        notes.TIME_TRACKS, "TicketTimeTrack", notes.post_time_track
    ),
    ("Tickets", "TicketCustomField"): {
        "Get": Call(fields.get_values, 1, 1),
        "GetList": _not_implemented("GET /Tickets/TicketCustomField/$ticketid$"),
        "Post": Call(fields.post_values, 1, 1),
    },
    ("Tickets", "TicketStatus"): _choosing(calls.statuses),
    ("Tickets", "TicketPriority"): _choosing(people.get_priority),
    ("Tickets", "TicketType"): _choosing(people.get_type),
    ("Tickets", "TicketCount"): {"GetList": Call(people.count_by)},
    ("Base", "Department"): _choosing(calls.departments),
    ("Base", "User"): {
        "Get": Call(people.get_user, 1, 1),
        "GetList": Call(people.filter_users),
        "Filter": Call(people.filter_users, 0, 2),
    },
    ("Base", "UserSearch"): _of_search("/Base/UserSearch", people.search_users),
    ("Base", "UserOrganization"): _choosing(people.get_organization),
    ("Base", "UserGroup"): _choosing(people.get_user_group),
    ("Base", "Staff"): _choosing(people.get_staff),
    ("Base", "StaffGroup"): _choosing(people.get_staff_group),
    ("Base", "CustomField"): {
        "GetList": Call(fields.list_fields),
        "ListOptions": Call(fields.list_options, 0, 1),
    },
    ("Base", "CustomFieldGroup"): _choosing(fields.list_groups),
    ("Knowledgebase", "Article"): {
        **_choosing(guides.get_article),
        "ListAll": Call(guides.list_articles, 1, 3),
        "GetArticleCount": Call(guides.count_articles, 0, 1),
    },
    ("Knowledgebase", "Attachment"): _of_attachments(guides.ARTICLES),
    ("Knowledgebase", "Category"): {
        **_choosing(guides.get_article_category),
        "GetList": Call(guides.list_article_categories, 0, 2),
    },
    ("Knowledgebase", "Comment"): _of_comments("kbarticlecomment", "kbarticleid"),
    ("Troubleshooter", "Step"): _choosing(guides.get_step),
    ("Troubleshooter", "Attachment"): _of_attachments(guides.STEPS),
    ("Troubleshooter", "Category"): _choosing(guides.get_step_category),
    ("Troubleshooter", "Comment"): _of_comments(
        "troubleshooterstepcomment", "troubleshooterstepid"
    ),
    ("News", "NewsItem"): {
        **_choosing(news.get_item),
        "ListAll": Call(news.list_items, 1, 1),
    },
    ("News", "Category"): _choosing(news.get_category),
    ("News", "Subscriber"): _choosing(news.get_subscriber),
    ("News", "Comment"): _of_comments("newsitemcomment", "newsitemid"),
    ("Core", "TestAPI"): {"Get": Call(_test_api, 1, 1), "GetList": Call(_test_api)},
}
"""All calls, by app and controller."""


def answer(desk: Helpdesk, keys: Keys, request: Request) -> Reply:
    """Answer one request; the body may still have to be made while it is sent."""
    app, controller = (*request.segments, "", "")[:2]
    methods = CONTROLLERS.get((app, controller))
    if methods is None or _absent(desk, app, controller):
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
    if reply.status == 200:
        reads = {"Post"} if controller.endswith("Search") else set()
        if action in {"Get", "GetList", "Filter"}:
            reply = faults.halved(controller, lambda name: desk.once(name, request.path), reply)
        elif action in _WRITES - reads and desk.once("lost_answer", request.path):
            reply = faults.TIMEOUT
    own = reply.content_type == XML  # not a page of some firewall before it
    return faults.around_error(reply) if own and "noisy_errors" in desk.switches else reply


def _action(verb: str, args: tuple[str, ...], public: set[str]) -> tuple[str, tuple[str, ...]]:
    """Choose the method: a named public one whatever the verb, else the one of the verb."""
    if args and args[0] in public:
        return args[0], args[1:]
    return ("GetList" if verb == "GET" and not args else verb.title()), args


_WRITES: Final = {"Post", "Put", "Delete"}


def _absent(desk: Helpdesk, app: str, controller: str) -> bool:
    """Return whether the version that the helpdesk pretends to be lacks a controller."""
    if app in {"Knowledgebase", "Troubleshooter", "News"}:
        return "no_guides" in desk.switches
    return "CustomField" in controller and "no_fields" in desk.switches


# Without the API

_REDIRECTS: Final = {
    "moved": (301, "{desk.portal}/files/{name}"),
    "moved_foreign": (302, "{desk.foreign}/files/{name}"),
    "login": (302, "{desk.portal}/index.php?/Base/User/Login"),
    "loop": (302, "{desk.portal}/__swift/files/{name}"),
}
"""Status and Location of a link that leads elsewhere; the whole file is at ``/files/``."""


def public_file(desk: Helpdesk, target: str) -> Reply | None:
    """Send what anybody may get: the files that texts link to, and the page for signing in."""
    path = urlsplit(target).path
    if path == "/index.php":
        return faults.SIGN_IN
    plain = path.startswith("/files/")
    row = desk.links.get(f"/__swift{path}" if plain else path)
    if row is None:
        return None
    name = row.name.decode()
    whole = Reply(Body(Stream(row.size, row.source.blocks)), 200, filetype(row.name))
    effect = None if plain else desk.effect_on(row)
    if effect == "oversize":
        return replace(whole, body=Body(Stream(row.source.size, row.source.blocks)))
    if effect in _REDIRECTS:
        status, place = _REDIRECTS[effect]
        location = ("Location", place.format(desk=desk, name=name))
        return replace(page(status, "Moved", "Moved"), headers=(location,))
    return faults.afflict(whole, effect, desk.hit(row))
