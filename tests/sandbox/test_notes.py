"""Notes, time tracks and replies by their own calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client, Serve

NAMES = {"TicketNote": "Ticket note", "TicketTimeTrack": "Ticket time tracking note"}
TRACK = {
    "staffid": "2",
    "contents": "x",
    "worktimeline": "1",
    "billtimeline": "1546300900",
    "timespent": "60",
    "timebillable": "0",
}


def noted(client: Client) -> int:
    """Return a ticket that has notes and a time track."""
    notes = client.desk.notes
    return next(of for kind, of in notes if kind == "timetrack" and of in client.desk.tickets)


@pytest.mark.parametrize("call", NAMES)
def test_lists(client: Client, call: str) -> None:
    """They hold what the ticket's own reply holds of that kind; other names of a ticket none."""
    ticket = noted(client)
    kind = "ticket" if call == "TicketNote" else "timetrack"
    said = client.get(f"/Tickets/Ticket/{ticket}").text
    listed = client.get(f"/Tickets/{call}/ListAll/{ticket}").text
    tag = "note" if kind == "ticket" else "timetrack"
    told = re.findall(rf'<note type="{kind}"( id=.*?)(?: />|</note>)', said)
    own = re.findall(rf"<{tag}(?: type=\"ticket\")?( id=.*?)(?: />|</{tag}>)", listed)
    assert told
    assert sorted(told) == sorted(own)
    assert f"<{tag}s>" in listed
    mask = client.desk.tickets[ticket].mask
    by_mask = client.get(f"/Tickets/{call}/ListAll/{mask}")
    assert (by_mask.status, " id=" in by_mask.text) == (200, False)


@pytest.mark.parametrize("call", NAMES)
def test_one(serve: Serve, call: str) -> None:
    """One is sent or deleted, after Kayako's three checks in its order."""
    with serve() as client:
        ticket, path, name = noted(client), f"/Tickets/{call}", NAMES[call]
        other = next(key for key in client.desk.tickets if key != ticket)
        kind = "ticket" if call == "TicketNote" else "timetrack"
        note = client.desk.notes[kind, ticket][0]
        activity = client.desk.tickets[ticket].last_activity
        for verb, target, status, words in (
            ("GET", path, 400, f"Not Implemented, Call {path}/ListAll instead."),
            ("GET", f"{path}/ListAll/99999", 404, "Ticket not Found"),
            ("GET", f"{path}/99999/{note.id}", 404, "Ticket not Found"),
            ("GET", f"{path}/{ticket}/99999", 404, f"{name} not Found"),
            (
                *("DELETE", f"{path}/{other}/{note.id}", 400),
                f"{name} does not belong to the specified ticket",
            ),
        ):
            answer = client.send(verb, client.target(target))
            assert (answer.status, answer.text) == (status, words)
        assert f'id="{note.id}"' in client.get(f"{path}/{ticket}/{note.id}").text
        gone = client.delete(f"{path}/{ticket}/{note.id}")
        assert (gone.status, gone.body) == (200, b"")
        assert note not in client.desk.notes[kind, ticket]
        assert client.desk.tickets[ticket].last_activity == activity


def test_post_a_note(serve: Serve) -> None:
    """Known staff win over a name; a new note moves the ticket; odd values fall back."""
    with serve() as client:
        desk, path = client.desk, "/Tickets/TicketNote"
        ticket = desk.tickets[noted(client)]
        ok = {"ticketid": str(ticket.id), "staffid": "2", "contents": ""}
        for form, status, words in (
            ({"ticketid": "0"}, 400, "No Ticket ID Specified"),
            ({"ticketid": "99999"}, 404, "Ticket not Found"),
            ({**ok, "staffid": "77"}, 400, "No fullname or staff id specified"),
            ({**ok, "staffid": "", "fullname": " "}, 400, "No fullname or staff id specified"),
            ({"ticketid": str(ticket.id), "fullname": "Me"}, 400, "No contents specified"),
        ):
            answer = client.post(path, **form)
            assert (answer.status, answer.text) == (status, words)
        made = client.post(path, **ok, fullname="Me", forstaffid="77", notecolor="9").text
        assert (
            'notecolor="1" creatorstaffid="2" forstaffid="0" creatorstaffname="Ben Staff"' in made
        )
        named = client.post(path, ticketid=str(ticket.id), fullname="Me", contents="a]]>b").text
        assert 'creatorstaffid="0" forstaffid="0" creatorstaffname="Me"' in named
        assert desk.tickets[ticket.id].last_activity > ticket.last_activity
        count = len(desk.notes["ticket", ticket.id])
        assert "<note " not in client.post(path, **{**ok, "ticketid": ticket.mask}).text
        assert len(desk.notes["ticket", ticket.id]) == count + 1


def test_post_a_time_track(serve: Serve) -> None:
    """Each missing field has its sentence, in Kayako's order."""
    with serve() as client:
        ticket, path = str(noted(client)), "/Tickets/TicketTimeTrack"
        sentences = (
            *("No staff id", "No contents", "No work timeline", "No bill timeline"),
            *("No time spent", "No time billable"),
        )
        for n, words in enumerate(sentences):
            form = dict([*TRACK.items()][:n])
            assert client.post(path, ticketid=ticket, **form).text == f"{words} specified"
        for words, zeros in (
            ("No bill timeline", {"billtimeline": "0"}),
            ("No work timeline", {"worktimeline": "0", "billtimeline": "0"}),
        ):
            said = client.post(path, ticketid=ticket, **TRACK | zeros)
            assert said.text == f"{words} specified"
        wrong = client.post(path, ticketid=ticket, **TRACK, workerstaffid="77")
        assert wrong.text == "Invalid worker staff id specified"
        made = client.post(path, ticketid=ticket, **TRACK).text
        assert 'timeworked="60"' in made
        assert 'billdate="1546300900"' in made
        empty = {"contents": "", "timespent": "", "timebillable": "0"}
        made = client.post(path, ticketid=ticket, **TRACK | empty, workerstaffid="3").text
        for one in (
            *('timeworked="0"', 'timebillable="0"', 'workerstaffid="3"', 'creatorstaffid="2"'),
            f'workdate="{TRACK["worktimeline"]}"',
        ):
            assert one in made


def test_post_a_reply(serve: Serve) -> None:
    """Replies move their ticket; files come with them, if Kayako knows their extension."""
    with serve() as client:
        desk, path = client.desk, "/Tickets/TicketPost"
        ticket = next(iter(desk.tickets.values()))
        ok = {"ticketid": str(ticket.id), "contents": "Hello", "staffid": "3"}
        for form, words in (
            ({}, "No Ticket ID Specified"),
            ({**ok, "contents": ""}, "No Contents Specified"),
            ({**ok, "staffid": "0"}, "Staff ID and User ID is empty"),
            ({**ok, "userid": "77"}, "User ID is Invalid"),
            ({**ok, "staffid": "77"}, "Staff ID is Invalid"),
        ):
            answer = client.post(path, **form)
            assert (answer.status, answer.text) == (400, words)
        made = client.post(
            path, **ok, isprivate="1", filename0="a.txt", filecontent0="QUI=", filename="b.PDF"
        )
        assert made.values("fullname") == ["Łucja <Staff>"]
        assert (made.values("isprivate"), made.values("staffid")) == (["1"], ["3"])
        assert made.values("filename") == ["b.PDF", "a.txt"]
        assert desk.tickets[ticket.id].last_activity > ticket.last_activity
        for who in ({}, {"userid": "77"}):
            odd = client.post(path, **ok | who, filename="a.csv", filecontent="QUI=")
            assert (odd.status, "<?xml" in odd.text) == (200, False)
        of_user = client.post(path, **ok | {"staffid": "77"}, userid="1", isprivate="1")
        assert (of_user.values("creator"), of_user.values("isprivate")) == (["2"], ["0"])
