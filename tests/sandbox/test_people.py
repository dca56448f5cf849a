"""Users, staff, organizations, priorities, types and counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.sandbox.test_tickets import DEPARTMENTS, STATUSES, listed

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client, Serve

FIELDS = {
    "/Base/User/3": "id usergroupid userrole userorganizationid salutation userexpiry fullname"
    " email email designation phone dateline lastvisit isenabled timezone enabledst slaplanid"
    " slaplanexpiry",
    "/Base/Staff/1": "id staffgroupid firstname lastname fullname username email designation"
    " greeting mobilenumber isenabled timezone enabledst signature",
    "/Base/UserOrganization/3": "id name organizationtype address city state postalcode country"
    " phone fax website dateline lastupdate slaplanid slaplanexpiry",
    "/Base/StaffGroup/1": "id title isadmin",
    "/Base/UserGroup/2": "id title grouptype ismaster",
    "/Tickets/TicketPriority/2": "id title displayorder frcolorcode bgcolorcode type"
    " uservisibilitycustom usergroupid usergroupid",
    "/Tickets/TicketType/1": "id title displayorder departmentid displayicon type"
    " uservisibilitycustom",
}


@pytest.mark.parametrize("path", FIELDS)
def test_fields(client: Client, path: str) -> None:
    """One row has Kayako's fields in Kayako's order; an unknown id is an empty list."""
    (row,) = ElementTree.fromstring(client.get(path).text)
    assert [child.tag for child in row] == FIELDS[path].split()
    bare = path.rpartition("/")[0]
    assert len(ElementTree.fromstring(client.get(bare).text)) >= 1
    assert len(ElementTree.fromstring(client.get(f"{bare}/99").text)) == 0


def test_users_by_pages(serve: Serve) -> None:
    """At most a thousand come, from the marker on; no limit means all."""
    with serve(users=1003, tickets=1) as client:
        ids = [user for staff, user in client.desk.people if not staff]
        for path, rows in {
            "/Base/User": ids[:1000],
            "/Base/User/0/1000/": ids[:1000],
            "/Base/User/Filter/3/5": ids[2:7],
            "/Base/User/Filter/1001/1000": ids[1000:],
            "/Base/User/Filter/1/5000": ids[:1000],
            "/Base/User/Filter/1/-1": ids,
            "/Base/User/Filter/1/0": ids,
        }.items():
            assert client.get(path).values("id") == [str(key) for key in rows]


def test_tickets_name_people_and_things_that_exist(client: Client) -> None:
    """Owners, users, priorities and types of tickets are among those listed."""
    tickets = client.get(f"/Tickets/Ticket/ListAll/{DEPARTMENTS}/{STATUSES}")
    for tag, path in (
        ("ownerstaffid", "/Base/Staff"),
        ("userid", "/Base/User"),
        ("priorityid", "/Tickets/TicketPriority"),
        ("typeid", "/Tickets/TicketType"),
    ):
        assert {*tickets.values(tag)} - {"0"} <= {*client.get(path).values("id")}
        assert len({*tickets.values(tag)}) > 1
    rows = ElementTree.fromstring(tickets.text)
    owners = {row.findtext("ownerstaffid"): row.findtext("ownerstaffname") for row in rows}
    assert owners == {"0": "", "1": "Jane Staff", "2": "Ben Staff", "3": "Łucja <Staff>"}
    assert {row.findtext("tags") for row in rows} == {"", "vip returns"}
    assert '<workflow id="1" title="Ask &amp; wait" />' in tickets.text
    assert len({*re.findall(r'flagtype="(\d)"', tickets.text)}) > 1


def test_counts(client: Client) -> None:
    """By department first, then with comments between by status, by owner, and of nobody."""
    text = client.get("/Tickets/TicketCount").text
    root = ElementTree.fromstring(text)
    assert [child.tag for child in root] == ["departments", "statuses", "owners", "unassigned"]
    assert re.findall(r"<!-- (.*) -->", text) == [
        "Ticket Count grouped by Status",
        "Ticket Count grouped by Owner Staff",
        "Unassigned Ticket Count grouped by Department",
    ]
    total = len(listed(client))
    assert sum(int(one.findtext("totalitems") or 0) for one in root[0]) == total
    for group in root[1:3]:
        assert sum(int(one.attrib["totalitems"]) for one in group) == total


def test_user_search(client: Client) -> None:
    """Names, addresses and organizations are searched; no query and a GET are refused."""
    path = "/Base/UserSearch"
    every = client.get("/Base/User/Filter").values("id")
    for query, found in {
        "USER3@": ["3"],
        "Söhne": ["2", "5", "8"],
        "nobody": [],
        "registered": every,
    }.items():
        rows = ElementTree.fromstring(client.post(path, query=query).text)
        assert [row.findtext("id") for row in rows] == found
    for answer, words in (
        (client.post(path), "Query should not be empty"),
        (client.post(path, query="0"), "Query should not be empty"),
        (client.get(path), "Not Implemented, Call POST /Base/UserSearch instead."),
        (client.get(f"{path}/1"), "Not Implemented, Call POST /Base/UserSearch instead."),
    ):
        assert (answer.status, answer.text) == (400, words)


@pytest.mark.parametrize(
    "path",
    [
        *("/Base/Department", "/Base/Staff", "/Base/StaffGroup", "/Base/User"),
        *("/Base/UserOrganization", "/Tickets/TicketStatus"),
        *("/Tickets/TicketPriority", "/Tickets/TicketType", "/Knowledgebase/Article"),
        *("/Knowledgebase/Category", "/Troubleshooter/Step", "/News/NewsItem"),
    ],
)
def test_the_id_0(client: Client, path: str) -> None:
    """PHP takes 0 for no id, so that one asks for all of them."""
    assert client.get(f"{path}/0").body == client.get(path).body


def test_a_group_of_users_by_no_number(client: Client) -> None:
    """A text that is no number lists all groups."""
    assert client.get("/Base/UserGroup/abc").values("id") == ["1", "2"]
