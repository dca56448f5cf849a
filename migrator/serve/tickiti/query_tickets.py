"""``POST /api/v1/tickets/query``: tickets by the criteria that make sense in an archive.

Tickiti runs saved views here. This server knows one of them, the built-in All, and narrows it by
ticket number, queue, subject, who raised it, and when it was created or updated.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from migrator.archive import Archive
from migrator.archive.records import TicketHeader, Token
from migrator.serve.auth import Doorkeeper
from migrator.serve.settings import EndpointSettings
from migrator.serve.tickiti.endpoint import Body, Lookup
from migrator.serve.tickiti.queues import Queues
from migrator.serve.tickiti.requests import Fields, moment
from migrator.serve.tickiti.serializers import ticket_object

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 5000
MODES: Final = (
    "ticket_number",
    "queue",
    "subject",
    "raised",
    "created_from",
    "created_to",
    "updated_from",
    "updated_to",
)
MAX_SEARCHES: Final = 50
"""Combinations of alternative criteria in one request, each of which is a search of its own."""

_ALL: Final = "all"
_EITHER: Final = ("any", "all")

Criteria = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class _Search:
    criteria: Criteria
    times: Mapping[str, int]
    queues: frozenset[int] | None
    limit: int


class QueryTickets(Lookup):
    """The endpoint; latest activity first. As in Tickiti, its owner need not be of the staff."""

    staff = False

    def __init__(
        self, archive: Archive, settings: EndpointSettings, *, door: Doorkeeper, queues: Queues
    ) -> None:
        super().__init__(door)
        self._settings = settings
        self._threads = archive.threads
        self._queues = queues

    def found(self, token: Token, body: Body, /) -> object:
        """Return the rows, each of them the header that tickets/show sends."""
        fields = Fields(body)
        criteria = _criteria(fields)
        times = _times(fields, criteria)
        limit = fields.integer("row_limit", low=1, high=MAX_LIMIT) or DEFAULT_LIMIT
        fields.check()
        queues = self._queues.allowed(token, names=criteria.get("queue"))
        found = self._find(_Search(criteria, times, queues, limit))
        return {"ok": True, "data": [ticket_object(each) for each in found]}

    def _find(self, search: _Search) -> list[TicketHeader]:
        found: dict[int, TicketHeader] = {}
        # Within a mode the tokens are alternatives, the modes restrict each other.
        for number, subject, requester in _combinations(search.criteria):
            tickets = self._threads.find(
                number=number,
                subject=subject,
                requester=requester,
                queues=search.queues,
                created=(search.times.get("created_from"), search.times.get("created_to")),
                updated=(search.times.get("updated_from"), search.times.get("updated_to")),
                deleted=self._settings.serve_deleted,
                limit=search.limit,
            )
            found |= {each.id: each for each in tickets}
        newest = sorted(found.values(), key=lambda each: (-each.last_activity, -each.id))
        return newest[: search.limit]


def _combinations(criteria: Criteria) -> list[tuple[str, str, str]]:
    numbers, subjects, people = (
        criteria.get(mode) or [""] for mode in ("ticket_number", "subject", "raised")
    )
    return list(itertools.product(numbers, subjects, people))


def _criteria(fields: Fields) -> Criteria:
    """Read the criteria: mode → its tokens, for the modes that were sent."""
    search = fields.mapping("search_object")
    found: defaultdict[str, list[str]] = defaultdict(list)
    _check_view(fields, search)
    for each in (search and search.mappings("criteria")) or ():
        mode = each.text("mode") or ""
        tokens = [token for token in each.identifiers("tokens") or [] if token]
        if mode not in MODES:
            each.wrong("mode", f"The mode of a criterion must be one of {', '.join(MODES)}.")
        elif not tokens:
            each.wrong("tokens", f"The {mode} criterion needs tokens.")
        match = each.text("match") or "any"
        if match not in _EITHER or (match == "all" and len(tokens) > 1):
            each.wrong("match", "A criterion with several tokens can match any of them only.")
        found[mode] += tokens
        fields.adopt("search_object.criteria", each)
    if search is not None:
        fields.adopt("search_object", search)
    if len(_combinations(found)) > MAX_SEARCHES:
        fields.wrong("search_object", f"These criteria are over {MAX_SEARCHES} alternatives.")
    return found


def _check_view(fields: Fields, search: Fields | None) -> None:
    """Refuse saved views: none but the built-in All is here, and no view has an id."""
    refused = "Only the built-in view All is available; name it, or name no view."
    if fields.has("perspective_id"):
        fields.wrong("perspective_id", refused)
    if search is None:
        return
    if search.has("search_perspective_id"):
        search.wrong("search_perspective_id", refused)
    name = search.text("search_perspective")
    if name is not None and name.strip().lower() != _ALL:
        search.wrong("search_perspective", refused)


def _times(fields: Fields, criteria: Criteria) -> dict[str, int]:
    """Return the widest bounds that were given: alternatives of a mode are joined by or."""
    found: dict[str, int] = {}
    for mode in MODES[4:]:
        end = mode.endswith("_to")
        bounds = [moment(text, end=end) for text in criteria.get(mode, ())]
        known = [each for each in bounds if each is not None]
        if len(known) != len(bounds):
            fields.wrong("search_object.criteria", f"The tokens of {mode} must be YYYY-MM-DD.")
        elif known:
            found[mode] = max(known) if end else min(known)
    return found
