"""Departments, statuses, tickets: filters, pages, trash and merges as Kayako has them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from migrator.sandbox.kayako.build import SEEN

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client, Serve

DEPARTMENTS = "1,2,4,5"
STATUSES = "1,2,3,4,5"
WALK = f"/Tickets/Ticket/ListAll/{DEPARTMENTS}/{STATUSES}"


def listed(client: Client) -> list[int]:
    """Return the ids of all tickets that are neither merged nor in the trash."""
    return sorted(t.id for t in client.desk.tickets.values() if t.department_id)


def test_departments(client: Client) -> None:
    """Departments come in Kayako's shape, one of them for chats; an unknown id lists none."""
    answer = client.get("/Base/Department")
    assert answer.headers["Content-Type"] == "text/xml;charset=UTF-8"
    assert answer.text.startswith(
        '<?xml version="1.0" encoding="UTF-8"?>\n<departments>\n<department>\n'
        "<id><![CDATA[1]]></id>\n<title><![CDATA[Support]]></title>\n"
        "<type><![CDATA[public]]></type>\n<module><![CDATA[tickets]]></module>\n"
        "<app><![CDATA[tickets]]></app>\n<displayorder><![CDATA[10]]></displayorder>\n"
        "<parentdepartmentid><![CDATA[0]]></parentdepartmentid>\n"
        "<uservisibilitycustom><![CDATA[0]]></uservisibilitycustom>\n"
        "<usergroups>\n</usergroups>\n</department>\n"
    )
    assert answer.values("app").count("livechat") == 1
    assert client.get("/Base/Department/4").values("id") == ["4"]
    none = client.get("/Base/Department/99")
    assert none.text.endswith("\n<departments>\n</departments>")


def test_statuses(client: Client) -> None:
    """Statuses tell whether they resolve and where they are valid."""
    answer = client.get("/Tickets/TicketStatus")
    assert answer.values("id") == STATUSES.split(",")
    assert answer.values("markasresolved") == ["0", "0", "1", "0", "1"]
    assert answer.values("departmentid") == ["0", "0", "0", "4", "4"]
    assert client.get("/Tickets/TicketStatus/3").values("title") == ["Closed"]
    assert client.get("/Tickets/TicketStatus/4").values("staffgroupid") == ["1", "2"]


def test_all_tickets(client: Client) -> None:
    """All departments with all statuses give every ticket, by id; most of them are closed."""
    answer = client.get(WALK)
    assert answer.ids() == listed(client)
    assert answer.values("statusid").count("3") > len(answer.ids()) / 2
    assert answer.text.endswith("</ticket>\n</tickets>")


def test_fields(client: Client) -> None:
    """A ticket has Kayako's fields in Kayako's order; no organization is an empty element."""
    text = client.get(f"{WALK}/-1/-1/1/0").text
    assert re.findall(r"^<(\w+)", text, re.MULTILINE)[2:10] == [
        "displayid",
        "departmentid",
        "statusid",
        "priorityid",
        "typeid",
        "userid",
        "userorganization",
        "userorganizationid",
    ]
    assert "\n<userorganizationid />\n" in text
    assert "<posts>" not in text


NOTE = re.compile(
    r'^<note type="(\w+)"([^>]*?)(?: /|>(?:<!\[CDATA\[)(.*?)\]\]></note)>$', re.MULTILINE
)
TIME_TRACK = "billdate workdate workerstaffid workerstaffname creatorstaffid creatorstaffname"
STAFF_NOTE = "notecolor creatorstaffid forstaffid creatorstaffname creationdate"


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("ticket", f"id ticketid {STAFF_NOTE}"),
        ("user", f"id userid {STAFF_NOTE}"),
        ("userorganization", f"id userorganizationid {STAFF_NOTE}"),
        (
            "timetrack",
            f"id ticketid timeworked timebillable {TIME_TRACK} notecolor",
        ),
    ],
)
def test_notes(client: Client, kind: str, attributes: str) -> None:
    """Each kind of note has Kayako's attributes in Kayako's order; an empty one closes itself."""
    found = [note for note in NOTE.findall(client.get(WALK).text) if note[0] == kind]
    assert found
    for _, said, text in found:
        assert re.findall(r' (\w+)="[^"]*"', said) == attributes.split()
        assert text in {"", "By telephone"} or text.startswith(SEEN)
    assert kind != "ticket" or {bool(text) for *_, text in found} == {True, False}


def test_notes_come_in_groups_by_date(client: Client) -> None:
    """Of tickets, users, organizations, time tracks, each by date; between watchers and posts."""
    desk = client.desk
    several = 0
    for ticket in desk.tickets.values():
        text = client.get(f"/Tickets/Ticket/{ticket.id}").text
        rows = [
            (["ticket", "user", "userorganization", "timetrack"].index(kind), date)
            for kind, date in re.findall(
                r'<note type="(\w+)".*? (?:creation|bill)date="(\d+)"', text
            )
        ]
        assert rows == sorted(rows)
        several += len({kind for kind, _ in rows}) > 2
        order = re.findall(r"^<(templategroupname|watcher|note|posts)\b", text, re.MULTILINE)
        wanted = ["templategroupname", "watcher", "note", "posts"]
        assert order == sorted(order, key=wanted.index)
        assert order[0] == "templategroupname"
    assert several


def test_notes_of_users_come_with_each_of_their_tickets(serve: Serve) -> None:
    """They follow the user's present organization; those of a ticket go where it is merged."""
    with serve() as client:
        desk = client.desk
        member = next(t for t in desk.tickets.values() if desk.members.get(t.user_id))
        path = f"/Tickets/Ticket/{member.id}"
        answer = client.get(path)
        assert answer.values("userorganization") == ["Müller & Söhne"]
        assert 'type="userorganization"' in answer.text
        del desk.members[member.user_id]
        assert 'type="userorganization"' not in client.get(path).text
        old, into = (t.id for t in list(desk.tickets.values())[:2])
        before = notes(client, old) | notes(client, into)
        assert before
        desk.merge(old, into)
        assert notes(client, into) == before
        desk.delete_ticket(into)
        assert not {("ticket", into), ("timetrack", into)} & desk.notes.keys()


def notes(client: Client, ticket: int) -> set[tuple[str, str]]:
    """Return the kinds and ids of the notes that follow a ticket."""
    text = client.get(f"/Tickets/Ticket/{ticket}").text
    return set(re.findall(r'<note type="(ticket|timetrack)" id="(\d+)"', text))


@pytest.mark.parametrize("statuses", ["-1", "99", "-1,99", "4"])
def test_unresolved_only(client: Client, statuses: str) -> None:
    """-1, unknown and unusable statuses mean the unresolved tickets alone.

    Status 4 belongs to department 4 and counts for nothing without it.
    """
    answer = client.get(f"/Tickets/Ticket/ListAll/1,2,5/{statuses}")
    assert answer.ids()
    assert set(answer.values("statusid")) <= {"1", "2"}


def test_status_of_a_department(client: Client) -> None:
    """A status bound to a department counts together with it."""
    assert set(client.get("/Tickets/Ticket/ListAll/4/4").values("statusid")) == {"4"}


@pytest.mark.parametrize("department", ["-1", "0", "99", "x"])
def test_no_known_department_is_the_trash(client: Client, department: str) -> None:
    """Without a known department the trash is listed, not everything."""
    answer = client.get(f"/Tickets/Ticket/ListAll/{department}/{STATUSES}")
    trashed = [t.id for t in client.desk.tickets.values() if not t.department_id]
    assert answer.ids() == sorted(trashed) != []
    assert set(answer.values("departmentid")) == {"0"}


def test_unresolved_of_a_department(serve: Serve) -> None:
    """-1 passes over unresolved statuses of a department, unless their id is one of a department.

    Status 4 is, so its tickets are met; status 9, which is none, hides the tickets that have it.
    """
    with serve() as client:
        desk = client.desk
        waiting = {t.id for t in desk.tickets.values() if t.department_id and t.status_id == 4}
        assert waiting
        assert waiting <= set(client.get(f"/Tickets/Ticket/ListAll/{DEPARTMENTS}/-1").ids())
        desk.statuses[9] = replace(desk.statuses[4], id=9)
        desk.tickets |= {one: replace(desk.tickets[one], status_id=9) for one in waiting}
        unresolved = client.get(f"/Tickets/Ticket/ListAll/{DEPARTMENTS}/-1")
        assert set(unresolved.values("statusid")) <= {"1", "2"}
        count = client.get(f"/Tickets/Ticket/GetTicketCount/{DEPARTMENTS}/-1")
        assert count.values("totalcount") == [str(len(unresolved.ids()))]
        assert waiting <= set(client.get(f"{WALK},9").ids())


@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        ("0", {"0"}),
        ("abc", {"0"}),
        ("-1", {"0", "1", "2", "3"}),
        ("1,2", {"1", "2"}),
        ("x,2", {"2"}),
        ("x,y", {"0", "1", "2", "3"}),
        ("77", set()),
    ],
)
def test_lists_of_owners(client: Client, owners: str, expected: set[str]) -> None:
    """A text that is no number is owner 0; in a list only numbers count, and none is no filter."""
    assert set(client.get(f"{WALK}/{owners}").values("ownerstaffid")) == expected


def test_owner_user_and_email(client: Client) -> None:
    """Owner, user and the form field ``email`` narrow the list; owner 0 means unassigned."""
    unassigned = client.get(f"{WALK}/0")
    assert set(unassigned.values("ownerstaffid")) == {"0"}
    assert set(client.get(f"{WALK}/-1/3").values("userid")) == {"3"}
    assert set(client.post(WALK, email="user3@example.com").values("userid")) == {"3"}


def test_pages(client: Client) -> None:
    """Count limits and start is a row offset; without a count start means nothing."""
    every = listed(client)
    assert client.get(f"{WALK}/-1/-1/10/0").ids() == every[:10]
    assert client.get(f"{WALK}/-1/-1/10/5").ids() == every[5:15]
    assert client.get(f"{WALK}/-1/-1/10/1000").ids() == []
    assert client.get(f"{WALK}/-1/-1/-1/5").ids() == every
    assert client.get(f"{WALK}/-1/-1/0/5").ids() == every
    assert client.get(f"{WALK}/-1/-1/x/5").ids() == every


def test_negative_start(client: Client) -> None:
    """A negative start with a count is an SQL error: text at status 200."""
    answer = client.get(f"{WALK}/-1/-1/10/-1")
    assert answer.status == 200
    assert "PDO Prepare Failed" in answer.text
    assert "<?xml" not in answer.text


def test_sorting(client: Client) -> None:
    """Known fields sort, up or down; unknown ones sort by id."""
    tickets = client.desk.tickets
    newest = client.get(f"{WALK}/-1/-1/-1/0/lastactivity/desc").ids()
    assert newest == sorted(newest, key=lambda t: -tickets[t].last_activity)
    assert newest != listed(client)
    assert client.get(f"{WALK}/-1/-1/-1/0/ticketid/DESC").ids() == listed(client)[::-1]
    assert client.get(f"{WALK}/-1/-1/-1/0/nonsense/sideways").ids() == listed(client)


def test_sorting_by_the_mark_of_attachments(client: Client) -> None:
    """Tickets with attachments come last, or first; no field of a ticket shows the mark."""
    desk = client.desk
    rows = client.get(f"{WALK}/-1/-1/-1/0/hasattachments/DESC")
    marks = [bool(desk.attachments_of(one)) for one in rows.ids()]
    assert marks == sorted(marks, reverse=True)
    assert True in marks
    assert False in marks
    back = client.get(f"{WALK}/-1/-1/-1/0/hasattachments/ASC").ids()
    assert [bool(desk.attachments_of(one)) for one in back] == sorted(marks)
    assert "hasattachments" not in rows.text
    desk.set_fault("lying_marks", on=True)
    lying = client.get(f"{WALK}/-1/-1/-1/0/hasattachments/DESC").ids()
    wrong = [one for one in lying if desk.marked(one) is not bool(desk.attachments_of(one))]
    assert wrong == [one for one in lying if one % 20 == 0] != []
    desk.set_fault("no_sort", on=True)
    for sort in ("hasattachments", "lastactivity"):
        assert client.get(f"{WALK}/-1/-1/-1/0/{sort}/ASC").ids() == listed(client)


def test_count(client: Client) -> None:
    """The count follows the filter of the list, also as POST; -1 counts the unresolved."""
    path = "/Tickets/Ticket/GetTicketCount"
    number = str(len(listed(client)))
    assert client.get(f"{path}/{DEPARTMENTS}/{STATUSES}").values("totalcount") == [number]
    assert client.post(f"{path}/{DEPARTMENTS}/{STATUSES}").values("totalcount") == [number]
    unresolved = client.get(f"/Tickets/Ticket/ListAll/{DEPARTMENTS}").ids()
    assert client.get(f"{path}/{DEPARTMENTS}").values("totalcount") == [str(len(unresolved))]


def test_one_ticket(client: Client) -> None:
    """A ticket comes with its posts, by id or mask, and without contents of attachments."""
    ticket = client.desk.tickets[listed(client)[0]]
    by_id = client.get(f"/Tickets/Ticket/{ticket.id}")
    assert by_id.ids() == [ticket.id]
    assert by_id.values("id") == [str(post.id) for post in client.desk.posts_of(ticket.id)]
    assert "filename" not in by_id.text
    assert client.get(f"/Tickets/Ticket/{ticket.mask}").body == by_id.body


def test_merged_ticket(serve: Serve) -> None:
    """The id of a merged ticket gets the survivor, its mask nothing."""
    with serve() as client:
        old, into = listed(client)[:2]
        mask = client.desk.tickets[old].mask
        client.desk.merge(old, into)
        assert client.get(f"/Tickets/Ticket/{old}").ids() == [into]
        answer = client.get(f"/Tickets/Ticket/{mask}")
        assert (answer.status, answer.text) == (404, "Ticket not Found")
        assert old not in client.get(WALK).ids()


def test_trashed_ticket(client: Client) -> None:
    """A trashed ticket is in no list of a department and still answers by id."""
    trashed = next(t for t in client.desk.tickets.values() if not t.department_id)
    answer = client.get(f"/Tickets/Ticket/{trashed.id}")
    assert (answer.status, answer.values("departmentid")) == (200, ["0"])
    assert trashed.id not in client.get(WALK).ids()


@pytest.mark.parametrize("ticket", ["99999", "abc", "ABC-123-45678", "9" * 30, "-1"])
def test_unknown_ticket(client: Client, ticket: str) -> None:
    """An unknown ticket is 404 as text that calls itself XML."""
    answer = client.get(f"/Tickets/Ticket/{ticket}")
    assert (answer.status, answer.text) == (404, "Ticket not Found")
    assert answer.headers["Content-Type"].startswith("text/xml")


@pytest.mark.parametrize("name", ["Ticket", "TicketPost", "TicketAttachment"])
def test_not_implemented(client: Client, name: str) -> None:
    """A bare controller says which call to use."""
    answer = client.get(f"/Tickets/{name}")
    assert answer.status == 400
    assert answer.text == f"Not Implemented, Call /Tickets/{name}/ListAll instead."


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/Tickets/Ticket/ListAll"),
        ("GET", "/Tickets/TicketAttachment/1"),
        ("PUT", "/Tickets/TicketAttachment"),
        ("DELETE", "/Base/Department/1"),
    ],
)
def test_uncaught_exception(client: Client, verb: str, path: str) -> None:
    """Too few arguments or a missing method give text without XML at status 200."""
    answer = client.send(verb, client.target(path))
    assert answer.status == 200
    assert answer.text.startswith(f"Uncaught Exception\nRouter: {path}\n")
    assert "=" * 60 in answer.text


def test_a_named_action_wins_over_the_verb(client: Client) -> None:
    """An action that names a method is called whatever the verb."""
    assert client.delete(WALK).ids() == listed(client)


def test_connection_test(client: Client) -> None:
    """The connection test answers in text and echoes the query."""
    answer = client.get("/Core/TestAPI")
    assert answer.text.startswith("GET List\nARGS:")
    assert client.server.api_key in answer.text
    assert client.get("/Core/TestAPI/1").text.startswith("GET: 1\n")


def test_old_versions(serve: Serve) -> None:
    """Without GetTicketCount its name is taken for an id; without paging all comes at once."""
    with serve("no_count", "no_paging", "stray_warning") as client:
        answer = client.get(f"/Tickets/Ticket/GetTicketCount/{DEPARTMENTS}")
        assert (answer.status, answer.text) == (404, "Ticket not Found")
        page = client.get(f"{WALK}/-1/-1/10/5")
        assert page.ids() == listed(client)
        assert page.text.startswith('<div style="BACKGROUND: #f8ebeb;')


def test_old_posts(serve: Serve) -> None:
    """An old version numbers the posts of each ticket, and is silent on privacy and time tracks."""
    with serve("old_posts") as client:
        ticket = next(of for kind, of in client.desk.notes if kind == "timetrack")
        posts = client.desk.posts_of(ticket)
        answer = client.get(f"/Tickets/Ticket/{ticket}")
        assert answer.values("id") == [str(n) for n, _ in enumerate(posts, 1)]
        assert answer.values("ticketpostid") == [str(post.id) for post in posts]
        assert "<isprivate" not in answer.text
        assert '<note type="ticket"' in answer.text
        assert re.search(r'<note id="\d+" ticketid="\d+" timeworked="300"', answer.text)


def test_drift(serve: Serve) -> None:
    """While pages are walked one ticket leaves, and one behind it is skipped; the count tells."""
    with serve("drift") as client:
        every = listed(client)
        first = client.get(f"{WALK}/-1/-1/10/0").ids()
        assert first == every[:10]
        before = client.desk.truth
        second = client.get(f"{WALK}/-1/-1/10/10").ids()
        assert second == every[10:20]
        third = client.get(f"{WALK}/-1/-1/10/20").ids()
        assert third == every[21:31]
        assert len(listed(client)) == len(every) - 1
        assert client.desk.truth == before


NEW = {
    "subject": "S",
    "fullname": "Jane",
    "email": "a@b.example",
    "contents": "x",
    "departmentid": "1",
    "ticketstatusid": "1",
    "ticketpriorityid": "1",
    "tickettypeid": "1",
}
EMPTY = {
    "subject": "Subject",
    "fullname": "Fullname",
    "email": "Email",
    "contents": "Contents",
    "departmentid": "Department ID",
    "ticketstatusid": "Ticket Status ID",
    "ticketpriorityid": "Ticket Priority ID",
    "tickettypeid": "Ticket Type ID",
}
REFUSED = [
    *(({key: " 0\n"}, f"{name} is empty") for key, name in EMPTY.items()),
    ({"staffid": "0"}, "Staff ID, User ID and Auto User ID values are empty or not provided"),
    ({"departmentid": "99"}, "Department ID is Invalid"),
    ({"departmentid": "3"}, "Department App is not Tickets"),
    ({"ticketstatusid": "99"}, "Ticket Status ID is Invalid"),
    ({"ticketpriorityid": "x"}, "Ticket Priority ID is Invalid"),
    ({"tickettypeid": "99"}, "Ticket Type ID is Invalid"),
    ({"staffid": "99"}, "Staff ID is Invalid"),
]


@pytest.mark.parametrize(("wrong", "words"), REFUSED)
def test_a_new_ticket_is_checked(client: Client, wrong: dict[str, str], words: str) -> None:
    """Each check comes before those behind it."""
    wrongs = [change for change, _ in REFUSED]
    behind = {
        k: v for change in reversed(wrongs[wrongs.index(wrong) + 1 :]) for k, v in change.items()
    }
    for form in (NEW | {"staffid": "1"} | wrong, NEW | {"staffid": "1"} | behind | wrong):
        answer = client.post("/Tickets/Ticket", **form)
        assert (answer.status, answer.text) == (400, words)


def test_a_ticket_of_staff(serve: Serve) -> None:
    """A new ticket comes back with its post, by the API, under the next number."""
    with serve(tickets=2) as client:
        known = max([*client.desk.tickets, *client.desk.merges])
        answer = client.post("/Tickets/Ticket", **NEW, staffid="2", ownerstaffid="3")
        assert answer.ids() == [known + 1]
        for tag, value in {
            "creator": ["1", "1"],
            "creationmode": ["4"],
            "creationtype": ["1"],
            "ownerstaffid": ["3"],
            "staffid": ["2"],
            "contents": ["x"],
            "email": ["staff2@help.example.com", "staff@help.example.com"],
        }.items():
            assert answer.values(tag) == value
        assert client.get(f"/Tickets/Ticket/{known + 1}").body == answer.body
        body = urlencode({**client.credentials(), "ownerstaffid": "0"}).encode()
        path = client.target(f"/Tickets/Ticket/{known + 1}")
        form = "application/x-www-form-urlencoded"
        freed = client.send("PUT", path, body, Content_Type=form)
        assert freed.values("ownerstaffid") == ["0"]


@pytest.mark.parametrize(
    ("form", "name", "of_user"),
    [
        ({"staffid": "2", "type": "phone"}, "Jane", True),
        ({"userid": "1", "email": "user1@example.com"}, "Jane Doe", True),
        ({"userid": "99999"}, "Jane", False),
        ({"autouserid": "1"}, "Jane", True),
        ({"autouserid": "1", "userid": "1"}, "Jane", True),
    ],
)
def test_a_ticket_of_a_user(client: Client, form: dict[str, str], name: str, of_user: bool) -> None:
    """A ticket that staff took by phone names the user; unknown users leave it without one."""
    answer = client.post("/Tickets/Ticket", **NEW | form)
    assert answer.values("fullname")[0] == name
    ticket = client.desk.tickets[answer.ids()[0]]
    assert (ticket.user_id > 0) is of_user
    assert ticket.creator == (1 if "staffid" in form else 2)


def test_a_user_with_another_address(client: Client) -> None:
    """Users have to write from an address of theirs, unless Kayako looks for the user."""
    answer = client.post("/Tickets/Ticket", **NEW, staffid="1", userid="1")
    assert (answer.status, answer.text) == (400, "User Email is Invalid")


def test_deleting_by_another_name(serve: Serve) -> None:
    """A mask or a merged id deletes nothing, and says 200 all the same."""
    with serve() as client:
        old, into = next(iter(client.desk.merges.items()))
        mask = client.desk.tickets[into].mask
        for name, status in ((mask, 200), (str(old), 200), ("99999", 404)):
            assert client.delete(f"/Tickets/Ticket/{name}").status == status
            assert into in client.desk.tickets
        for name in (mask, str(old)):
            assert client.send("PUT", client.target(f"/Tickets/Ticket/{name}")).ids() == [into]


def test_deleting_a_post(serve: Serve) -> None:
    """A post is deleted with its files, after the checks of a single one."""
    with serve() as client:
        row = next(iter(client.desk.attachments.values()))
        other = next(key for key in client.desk.tickets if key != row.ticket_id)
        path = "/Tickets/TicketPost"
        for target, status, words in (
            (f"{path}/99999/{row.post_id}", 404, "Ticket not Found"),
            (f"{path}/{row.ticket_id}/99999", 404, "Ticket Post not Found"),
            (f"{path}/{other}/{row.post_id}", 400, "Post does not belong to the specified ticket"),
            (f"{path}/{row.ticket_id}/{row.post_id}", 200, ""),
        ):
            answer = client.delete(target)
            assert (answer.status, answer.text) == (status, words)
        assert row.id not in client.desk.attachments
        assert row.post_id not in client.desk.posts


def test_search(client: Client) -> None:
    """Only the chosen areas are searched, and the tickets come with their posts."""
    path, desk = "/Tickets/TicketSearch", client.desk
    shown = {key: desk.tickets[key] for key in listed(client)}
    tagged = [key for key, one in shown.items() if "vip" in one.tags]
    noted = [of for kind, of in desk.notes if kind == "ticket" and of in shown]
    mask = next(iter(shown.values())).mask
    for query, area, found in (
        ("VIP", "tags", tagged),
        ("vip", "contents", []),
        (SEEN, "notes", sorted(noted)),
        (mask, "ticketid", [next(iter(shown))]),
        (
            "broken",
            "contents",
            [k for k in shown if any("broken" in p.text for p in desk.posts_of(k))],
        ),
        ("Söhne", "userorganization", [k for k, t in shown.items() if t.user_id in desk.members]),
        ("", "contents", []),
    ):
        answer = client.post(path, query=query, **{area: "1"})
        assert (answer.status, sorted(answer.ids())) == (200, found)
        assert answer.text.count("<posts>") == len(found)
    assert client.post(path, query="VIP", tags="yes").ids() == []
    refused = (400, "Not Implemented, Call POST /Tickets/TicketSearch instead.")
    for verb, argument in (("GET", ""), ("GET", "/1"), ("PUT", "/1"), ("DELETE", "/1")):
        answer = client.send(verb, client.target(path + argument))
        assert (answer.status, answer.text) == refused
