"""The criteria of ``tickets/query``: what each mode matches, and how criteria combine.

Criteria of one mode are alternatives, different modes restrict each other. All tokens of a
criterion about texts must match, unless its ``match`` is ``any``; of those of another mode, one
must. What an archive cannot know has no tickets; what is not understood is refused, because
neither all tickets nor none would be an answer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from migrator.archive import folded
from migrator.serve.bounds import MAX_TOKENS
from migrator.serve.tickiti.requests import Fields, moment
from migrator.serve.tickiti.serializers import priority_of

MODES: Final[Mapping[str, str]] = {
    "subject": "parts of the subject",
    "content": "parts of posts and notes, without the tags of HTML; several tokens may be in "
    "several posts of a ticket",
    "subject_content": "parts of the subject, or of posts and notes",
    "raised": "the address of who raised the ticket, or a part of a name",
    "participant": "the address of who raised the ticket or wrote in it",
    "assigned": "the address or the name of the member of the staff it is assigned to, or "
    "Unassigned; there are no teams in the archive, so team:ID has no tickets",
    "queue": "the name or the id of the queue",
    "status": "open, on-hold or closed",
    "priority": "10, 20, 30, 40, or Low, Normal, High, Urgent, or the priority's old name",
    "ticket_number": "the number of the ticket, or the one that Kayako showed",
    "watchlist": "nothing: there are no watchlists in the archive",
    "hashtag": "nothing: there are no hashtags in the archive",
    "created_from": "created on this day or later: YYYY-MM-DD, in UTC",
    "created_to": "created on this day or before: YYYY-MM-DD, in UTC",
    "updated_from": "last active on this day or later: YYYY-MM-DD, in UTC",
    "updated_to": "last active on this day or before: YYYY-MM-DD, in UTC",
}
"""The modes, each with what its tokens match."""

TEXTS: Final = ("subject", "content", "subject_content")
"""The modes about texts, where all tokens of a criterion must match."""

COMBINED: Final = (
    "Criteria of one mode are alternatives, different modes restrict each other. All tokens of a "
    f"criterion must match in the modes {', '.join(TEXTS)}, unless match is any; in other modes "
    "one must."
)

_UNKNOWN: Final = ("watchlist", "hashtag")
_TIMES: Final = ("created_from", "created_to", "updated_from", "updated_to")
_STATUSES: Final = {"open": "open", "onhold": "on-hold", "closed": "closed"}
_NAMES: Final = {"low": "10", "normal": "20", "high": "30", "urgent": "40"}
_TEAM: Final = re.compile(r"team(?:-and-members)?:.*", re.DOTALL)

ELSEWHERE: Final = ("criteria", "tokens", "search_perspective_id", *MODES)
"""What belongs into ``search_object``: beside it, it would be overlooked."""


@dataclass(slots=True)
class Criterion:
    """One criterion: ``tokens`` of a known mode, of which ``every`` one must match, or one."""

    mode: str
    tokens: list[str]
    every: bool


Asked = tuple[dict[str, Any], list[str] | None]
"""The arguments of ``Threads.find``, and the names of queues, None for all."""


def find_arguments(fields: Fields, titles: Callable[[], Collection[str]]) -> Asked | None:
    """Return what is to be found, None for no tickets.

    ``titles`` returns all titles of priorities. Errors are left in ``fields``.
    """
    asked: defaultdict[str, list[Criterion]] = defaultdict(list)
    for one in _criteria(fields):
        asked[one.mode].append(one)
    tokens = {mode: [each for one in given for each in one.tokens] for mode, given in asked.items()}
    if sum(map(len, tokens.values())) > MAX_TOKENS:
        fields.wrong("search_object", f"These criteria have over {MAX_TOKENS} tokens.")
    found: dict[str, Any] = {
        mode: [
            group
            for one in asked[mode]
            for group in ([one.tokens] if one.every else [[token] for token in one.tokens])
        ]
        for mode in TEXTS
        if mode in asked
    }
    found["number"], found["raised"] = tokens.get("ticket_number", ()), tokens.get("raised", ())
    found["participants"] = _people(fields, tokens.get("participant", []))
    found["statuses"] = _statuses(fields, tokens.get("status", []))
    _times(fields, tokens, found)
    knows = not any(mode in tokens for mode in _UNKNOWN)
    if "assigned" in tokens:
        given = [token for token in tokens["assigned"] if not _TEAM.fullmatch(folded(token))]
        people = [token for token in given if folded(token) != "unassigned"]
        found |= {"assigned": people, "unassigned": len(people) < len(given)}
        knows = knows and bool(given)
    if "priority" in tokens:
        found["priorities"] = _priorities(fields, tokens["priority"], titles())
        knows = knows and bool(found["priorities"])
    return (found, tokens.get("queue")) if knows else None


def names_texts(body: Mapping[str, object]) -> bool:
    """Return whether a body may search the texts of posts, without reading it in full."""
    return "content" in str(body.get("search_object"))


def _criteria(fields: Fields) -> list[Criterion]:
    search = fields.mapping("search_object")
    _check_view(fields, search)
    if search is None:
        return []
    listed = search.mappings("criteria")
    if not listed and (search.has("mode") or search.has("tokens")):
        search.wrong("criteria", "A criterion belongs into the array criteria.")
    found = []
    for each in listed:
        mode = each.text("mode") or ""
        tokens = each.identifiers("tokens") or []
        match = each.text("match") or ("all" if mode in TEXTS else "any")
        if mode not in MODES:
            each.wrong("mode", f"The mode of a criterion must be one of {', '.join(MODES)}.")
        elif not each.has("tokens"):
            each.wrong("tokens", f"The {mode} criterion needs tokens.")
        if match not in ("any", "all"):
            each.wrong("match", "The match field of a criterion must be all or any.")
        elif match == "all" and mode not in TEXTS and len(tokens) > 1:
            each.wrong("match", "This mode has one value: its tokens can match any only.")
        found.append(Criterion(mode, tokens, every=match == "all"))
        fields.adopt("search_object.criteria", each)
    fields.adopt("search_object", search)
    return found


def _check_view(fields: Fields, search: Fields | None) -> None:
    """Refuse saved views: only the built-in All exists here, and no view has an id."""
    refused = "Only the built-in view All is available; name it, or name no view."
    for place, names in (
        (fields, ("perspective_id", "perspective_name", "search_perspective")),
        (search, ("search_perspective_id", "search_perspective")),
    ):
        for name in names if place is not None else ():
            if place is not None and place.has(name):
                is_all = not name.endswith("_id") and folded(place.text(name) or "") == "all"
                if not is_all and name not in place.errors:
                    place.wrong(name, refused)
    for name in ELSEWHERE:
        if fields.has(name):
            fields.wrong(name, f"The {name} field belongs into search_object: see its criteria.")


def _times(fields: Fields, tokens: Mapping[str, list[str]], found: dict[str, Any]) -> None:
    """Add the widest bounds given: alternatives of a mode are joined by or."""
    ends: dict[str, int | None] = {}
    for mode in _TIMES:
        end = mode.endswith("_to")
        bounds = [moment(text, end=end) for text in tokens.get(mode, ())]
        known = [each for each in bounds if each is not None]
        if len(known) != len(bounds):
            fields.wrong("search_object.criteria", f"The tokens of {mode} must be YYYY-MM-DD.")
        ends[mode] = (max(known) if end else min(known)) if known else None
    for name in ("created", "updated"):
        found[name] = (ends[f"{name}_from"], ends[f"{name}_to"])


def _people(fields: Fields, tokens: list[str]) -> list[str]:
    if not all("@" in token for token in tokens):
        fields.wrong("search_object.criteria", "The tokens of participant must be addresses.")
    return tokens


def _statuses(fields: Fields, tokens: list[str]) -> list[str]:
    keys = [re.sub(r"[\s_-]", "", folded(token)) for token in tokens]
    if not all(key in _STATUSES for key in keys):
        known = ", ".join(_STATUSES.values())
        fields.wrong("search_object.criteria", f"The tokens of status must be out of {known}.")
    return [_STATUSES[key] for key in keys if key in _STATUSES]


def _priorities(fields: Fields, tokens: list[str], titles: Collection[str]) -> list[str]:
    """Return the titles of the priorities that tokens mean, "" for tickets without one."""
    keys = [_NAMES.get(folded(token), folded(token)) for token in tokens]
    known = {folded(title) for title in titles}
    if not all(key in _NAMES.values() or key in known for key in keys):
        fields.wrong(
            "search_object.criteria",
            f"The tokens of priority must be out of {', '.join(_NAMES.values())}, or its name.",
        )
    return [one for one in ("", *titles) if priority_of(one) in keys or folded(one) in keys]
