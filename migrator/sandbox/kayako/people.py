"""The calls for what a helpdesk consists of: users, staff, priorities, types, counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from migrator.sandbox.kayako.build import EPOCH
from migrator.sandbox.kayako.calls import EMPTY, Ask, listing
from migrator.sandbox.kayako.messages import Fields, Reply, XmlWriter, columns, table, text, xml
from migrator.sandbox.kayako.model import TRASH, Ticket, User, number


def chooser(root: str, tag: str, rows: Callable[[Ask], Iterable[Fields]]) -> Callable[..., Reply]:
    """Return the call that lists rows by their first field, or one; an unknown id lists none.

    PHP takes 0 for no id.
    """

    def call(ask: Ask, wanted: str = "") -> Reply:
        chosen = (
            row
            for row in rows(ask)
            if wanted in EMPTY or next(iter(row.values())) == number(wanted)
        )
        return listing(ask.desk, table(root, tag, chosen))

    return call


def paged(root: str, tag: str, rows: Callable[[Ask], Iterable[Fields]]) -> Callable[..., Reply]:
    """Return the call that lists rows by pages, all of them without a size."""

    def call(ask: Ask, size: str = "", start: str = "") -> Reply:
        first, most = number(start) or 0, number(size)
        chosen = islice(rows(ask), first, first + most if most else None)
        return listing(ask.desk, table(root, tag, chosen))

    return call


# Users and staff

MOST_USERS: Final = 1000


def _user(ask: Ask, user: User) -> Fields:
    return columns(
        "id usergroupid userrole userorganizationid salutation- userexpiry fullname email "
        "designation- phone- dateline lastvisit isenabled timezone- enabledst slaplanid "
        "slaplanexpiry",
        id=user.id,
        usergroupid=2,
        userrole="user" if user.id % 4 else "manager",
        userorganizationid=ask.desk.members.get(user.id, 0) or "",  # a true 0, as in tickets
        fullname=user.name,
        email=user.emails,
        dateline=EPOCH,
        isenabled=1,
    )


def _users(ask: Ask) -> list[User]:
    return [user for (staff, _), user in ask.desk.people.items() if not staff]


def get_user(ask: Ask, user_id: str) -> Reply:
    """Send one user, or the first thousand."""
    one = chooser("users", "user", lambda ask: (_user(ask, user) for user in _users(ask)))
    return one(ask, user_id) if user_id not in EMPTY else filter_users(ask)


def filter_users(ask: Ask, marker: str = "0", most: str = "1000") -> Reply:
    """List users by id from the marker on, a thousand at most; no number of them means all."""
    limit = number(most) or 0
    users = [user for user in _users(ask) if user.id >= (number(marker) or 0)]
    rows = users[: min(limit, MOST_USERS)] if limit else users
    return listing(ask.desk, table("users", "user", [_user(ask, user) for user in rows]))


def search_users(ask: Ask) -> Reply:
    """Send the users with a text in their names, addresses, organizations or groups."""
    desk, query = ask.desk, ask.request.form.get("query", "").casefold()
    if query in EMPTY:
        return text(400, "Query should not be empty")
    found = [
        _user(ask, user)
        for user in _users(ask)
        for organization in (desk.organizations.get(desk.members.get(user.id, 0), ""),)
        if any(
            query in one.casefold() for one in (user.name, *user.emails, organization, "Registered")
        )
    ]
    return listing(desk, table("users", "user", found))


def _staff(ask: Ask) -> Iterable[Fields]:
    for (staff, key), user in ask.desk.people.items():
        if staff:
            first, _, last = user.name.partition(" ")
            yield columns(
                "id staffgroupid firstname lastname fullname username email designation- greeting- "
                "mobilenumber- isenabled timezone- enabledst signature",
                id=key,
                staffgroupid=1 if key == 1 else 2,
                firstname=first,
                lastname=last,
                fullname=user.name,
                username=f"staff{key}",
                email=user.emails[0],
                isenabled=1,
                signature="-- \nKind regards",
            )


_STAFF_GROUPS: Final[list[Fields]] = [
    {"id": 1, "title": "Administrator", "isadmin": 1},
    {"id": 2, "title": "Staff", "isadmin": 0},
]
_USER_GROUPS: Final[list[Fields]] = [
    {"id": 1, "title": "Guest", "grouptype": "guest", "ismaster": 1},
    {"id": 2, "title": "Registered", "grouptype": "registered", "ismaster": 1},
]
get_staff = chooser("staffusers", "staff", _staff)
get_staff_group = chooser("staffgroups", "staffgroup", lambda _: _STAFF_GROUPS)
_one_user_group = chooser("usergroups", "usergroup", lambda _: _USER_GROUPS)


def get_user_group(ask: Ask, group_id: str = "") -> Reply:
    """List the groups of users, or one; what is no number lists them."""
    return _one_user_group(ask, group_id if number(group_id) else "")


def get_organization(ask: Ask, organization_id: str = "") -> Reply:
    """List the organizations, or one; there are comments between the fields."""
    writer = XmlWriter()
    with writer.inside("userorganizations"):
        for key, name in ask.desk.organizations.items():
            if organization_id in EMPTY or key == number(organization_id):
                with writer.inside("userorganization"):
                    writer.values({"id": key, "name": name, "organizationtype": "restricted"})
                    places = "address- city- state- postalcode- country- phone- fax- website-"
                    writer.values(columns(places))
                    writer.comment("Timeline Properties")
                    writer.values({"dateline": EPOCH, "lastupdate": 0})
                    writer.comment("Custom SLA Properties")
                    writer.values({"slaplanid": 0, "slaplanexpiry": 0})
    return listing(ask.desk, xml(writer))


# Priorities, types and counts

PRIORITIES: Final = {1: "Normal", 2: "High & urgent", 3: "Low"}
TYPES: Final = {1: "Issue", 2: "Task"}


def _priorities(_: Ask) -> Iterable[Fields]:
    order = "id title displayorder frcolorcode- bgcolorcode type uservisibilitycustom"
    for key, title in PRIORITIES.items():
        groups = {"uservisibilitycustom": 1, "usergroupid": (1, 2)} if key == 2 else {}
        named = {"id": key, "title": title, "displayorder": key, "type": "public", **groups}
        yield columns(order, bgcolorcode="#d34a0d", **named)


def _types(_: Ask) -> Iterable[Fields]:
    order = "id title displayorder departmentid displayicon type uservisibilitycustom"
    for key, title in TYPES.items():
        named = {"id": key, "title": title, "displayorder": key, "type": "public"}
        yield columns(order, displayicon="{$themepath}icon_typeissue.gif", **named)


get_priority = chooser("ticketpriorities", "ticketpriority", _priorities)
get_type = chooser("tickettypes", "tickettype", _types)

_BY: Final[dict[str, Callable[[Ticket], int]]] = {
    "ticketstatus": lambda t: t.status_id,
    "tickettype": lambda t: t.type_id,
    "ownerstaff": lambda t: t.owner_id,
}


def count_by(ask: Ask) -> Reply:
    """Count the tickets by department, status and owner."""
    desk, writer = ask.desk, XmlWriter()
    listed = [t for t in desk.tickets.values() if t.department_id != TRASH]

    def totals(tickets: list[Ticket], *, unresolved: bool) -> dict[str, str | int]:
        opened = sum(not desk.statuses[t.status_id].resolved for t in tickets)
        latest = max(t.last_activity for t in tickets)
        more: dict[str, str | int] = {"totalunresolveditems": opened} if unresolved else {}
        return {"lastactivity": latest, "totalitems": len(tickets), **more}

    def groups(tag: str, tickets: list[Ticket]) -> None:
        by = _BY[tag]
        for key in sorted({by(t) for t in tickets}):
            own = [t for t in tickets if by(t) == key]
            writer.value(tag, id=key, **totals(own, unresolved=tag != "ticketstatus"))

    with writer.inside("ticketcount"):
        unowned: dict[int, list[Ticket]] = {}
        with writer.inside("departments"):
            for department in sorted({t.department_id for t in listed}):
                own = [t for t in listed if t.department_id == department]
                unowned[department] = [t for t in own if not t.owner_id]
                with writer.inside("department", id=department):
                    count = totals(own, unresolved=True)
                    for tag in ("totalitems", "lastactivity", "totalunresolveditems"):
                        writer.value(tag, count[tag])
                    for tag in _BY:
                        groups(tag, own)
        writer.comment("Ticket Count grouped by Status")
        with writer.inside("statuses"):
            groups("ticketstatus", listed)
        writer.comment("Ticket Count grouped by Owner Staff")
        with writer.inside("owners"):
            groups("ownerstaff", listed)
        writer.comment("Unassigned Ticket Count grouped by Department")
        with writer.inside("unassigned"):
            for department, tickets in unowned.items():
                if tickets:
                    writer.value("department", id=department, **totals(tickets, unresolved=True))
    return listing(desk, xml(writer))
