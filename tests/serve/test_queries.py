"""responses/query, tickets/query and the queues: filters, pages, and what tokens do not see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from migrator.archive.records import Listed, PostRow, TicketRow
from migrator.serve.tickiti.criteria import MODES

if TYPE_CHECKING:
    from tests.serve.conftest import Desk, OpenDesk

DAY = 86_400
MAY = 1_777_593_600  # 2026-05-01T00:00:00+00:00
RESPONSES, TICKETS = "tickets/responses/query", "tickets/query"


@pytest.fixture(scope="module")
def full(desk: Desk) -> Desk:
    """Fill three tickets in queues 3, 4 and 5, one response a day from May 1 on."""
    for ticket, queue in ((1, 3), (2, 4), (3, 5)):
        desk.attach("a.pdf", b"a", ticket=ticket, department=queue, post=ticket * 10)
        posts = [
            PostRow(
                ticket * 10 + n,
                MAY + n * DAY,
                author_email="Priya@example.com" if n % 2 else "marcus@example.com",
                staff=n % 2 == 1,
                is_private=n == 3,
                text=f"text {n}",
            )
            for n in range(4)
        ]
        row = TicketRow(
            ticket,
            queue,
            f"M-{ticket}",
            f"Plate number {ticket}",
            MAY + ticket * DAY,
            MAY + ticket * 2 * DAY,
            requester_email=f"user{ticket}@example.com",
        )
        desk.write(row, *posts)
    desk.archive.access.apply_config({3: (3, "Sales"), 4: (4, "Support"), 5: (4, "Support")})
    return desk


def ids(
    desk: Desk, body: dict[str, Any], path: str = RESPONSES, *, token: str | None = None
) -> set[int]:
    """Return which responses a query finds, seen to be oldest first."""
    rows = desk.data(path, body, token=token)["responses"]
    keys = [(row["created_at"], int(row["id"])) for row in rows]
    assert keys == sorted(keys)
    return {int(row["response_id"]) for row in rows}


ALL = {10, 11, 12, 13, 20, 21, 22, 23, 30, 31, 32, 33}
FILTERS: list[tuple[dict[str, Any], set[int]]] = [
    ({}, ALL),
    ({"created_from": "2026-05-03"}, {12, 13, 22, 23, 32, 33}),
    ({"created_from": "2026-05-03 00:00:01"}, {13, 23, 33}),
    ({"created_to": "2026-05-01"}, {10, 20, 30}),
    ({"created_to": "2026-05-02 00:00:00"}, {10, 11, 20, 21, 30, 31}),
    ({"created_from": "2026-05-02", "created_to": "2026-05-02"}, {11, 21, 31}),
    ({"is_internal": True}, {13, 23, 33}),
    ({"is_internal": False, "staff_response": True}, {11, 21, 31}),
    ({"staff_response": False}, {10, 12, 20, 22, 30, 32}),
    ({"queue": ["Sales"]}, {10, 11, 12, 13}),
    ({"queue": ["Nowhere"]}, set()),
    ({"queue": ["sales ", "SUPPORT"]}, ALL),
    ({"queue_id": [" 3", "004"]}, ALL),
    ({"queue": ["3"]}, {10, 11, 12, 13}),
    ({"queue": [4, "Sales"]}, ALL),
    ({"queue_id": [-3]}, set()),
    ({"queue": ["Sales"], "queue_id": [4]}, set()),
    ({"queue_id": [4, "3"]}, ALL),
    ({"queue_id": [4], "ticket_number": ["2", 1]}, {20, 21, 22, 23}),
    ({"ticket_number": ["x", "1" * 30]}, set()),
    ({"response_id": [10, "31", 10**17]}, {10, 31}),
    ({"created_by_email": "priya@EXAMPLE.com"}, {11, 13, 21, 23, 31, 33}),
    ({"has_attachments": True}, {10, 20, 30}),
    ({"has_attachments": False, "ticket_number": [1]}, {11, 12, 13}),
    ({"created_by_email": " priya@example.com\n"}, {11, 13, 21, 23, 31, 33}),
    ({"include_deleted": True, "is_internal": None}, ALL),
    ({"queue_id": {"0": 3, "2": "4"}}, ALL),
    ({"ticket_number": 2.0, "limit": "5"}, {20, 21, 22, 23}),
    ({"is_internal": "1", "staff_response": 1}, {13, 23, 33}),
    ({"is_internal": "0", "staff_response": 0, "ticket_number": "1"}, {10, 12}),
    ({"count_only": False, "metadata_only": 0, "group_by": ""}, ALL),
    ({"is_empty": True}, set()),
    ({"is_empty": False}, ALL),
]


@pytest.mark.parametrize(("body", "expected"), FILTERS, ids=range(len(FILTERS)))
def test_each_filter(full: Desk, body: dict[str, Any], expected: set[int]) -> None:
    """Every filter lets through what it says, and filters restrict each other."""
    assert ids(full, body) == expected


@pytest.mark.parametrize(("body", "expected"), FILTERS, ids=range(len(FILTERS)))
def test_each_filter_in_the_address(full: Desk, body: dict[str, Any], expected: set[int]) -> None:
    """No filter is overlooked where PHP would have found it: in the query string."""
    assert ids(full, {}, f"{RESPONSES}?{urlencode(list(as_php(body)))}") == expected


def as_php(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield fields as PHP's http_build_query writes them: it leaves out null."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from as_php(inner, f"{name}[{key}]" if name else key)
    elif value is not None:
        yield name, value if isinstance(value, str) else str(int(value))


def test_row_has_both_ids_and_the_response(full: Desk) -> None:
    """A row is the response that show tells, with what says where it belongs."""
    (row,) = full.data(RESPONSES, {"response_id": [10]})["responses"]
    assert list(row.items())[:5] == [
        ("response_id", "10"),
        ("ticket_number", 1),
        ("ticket_id", "1"),
        ("queue_id", "3"),
        ("id", "10"),
    ]
    shown = full.data("tickets/show", {"ticket_number": "1"})["responses"][0]
    assert shown.items() <= row.items()
    assert row["attachments"][0]["response_id"] == "10"


def test_heavy_fields_of_rows(full: Desk) -> None:
    """Fields chooses heavy ones; all light ones come while none of them is named."""
    light: list[dict[str, Any]] = [{"fields": []}, {"fields": {}}, {"metadata_only": True}]
    light.append({"fields": ["html", "attachments"], "metadata_only": "1"})
    for body in light:
        rows = full.data(RESPONSES, body)["responses"]
        assert len(rows) == 12
        assert not {"html", "plain_text", "attachments"} & rows[0].keys()
        assert rows[0]["created_by_email"]
    rows = full.data(RESPONSES, {"fields": ["html"], "max_body_chars": 2})["responses"]
    assert (rows[0]["html"], rows[0]["html_truncated"]) == ("te", True)


EXACTLY: list[tuple[dict[str, Any], set[str]]] = [
    ({"fields": ["is_internal"]}, {"is_internal"}),
    ({"fields": ["response_id"]}, set()),
    ({"fields": [" created_at "]}, {"created_at"}),
    ({"fields": {"1": "created_by_email", "3": "html"}}, {"created_by_email", "html"}),
    ({"fields": ["id", "html"], "max_body_chars": "2"}, {"id", "html", "html_truncated"}),
    ({"fields": ["id", "html"], "metadata_only": True}, {"id"}),
]


@pytest.mark.parametrize(("body", "names"), EXACTLY, ids=range(len(EXACTLY)))
def test_fields_that_name_metadata_are_the_only_ones(
    full: Desk, body: dict[str, Any], names: set[str]
) -> None:
    """The id of the response and the number of the ticket come with whatever is named."""
    rows = full.data(RESPONSES, body)["responses"]
    assert len(rows) == 12
    assert all(row.keys() == names | {"response_id", "ticket_number"} for row in rows)


TALLIES: list[tuple[str, list[tuple[Any, int]]]] = [
    ("ticket_number", [(1, 4), (2, 4), (3, 4)]),
    ("created_by_email", [("marcus@example.com", 6), ("priya@example.com", 6)]),
    ("queue", [("Support", 8), ("Sales", 4)]),
    ("is_internal", [(False, 9), (True, 3)]),
    ("staff_response", [(False, 6), (True, 6)]),
    ("day", [(f"2026-05-0{n}", 3) for n in range(1, 5)]),
]


@pytest.mark.parametrize(("by", "expected"), TALLIES)
def test_responses_are_counted_by_what_they_can_be_filtered_by(
    full: Desk, by: str, expected: list[tuple[Any, int]]
) -> None:
    """The largest group first; no rows come; a filter by a group's value has as many."""
    data = full.data(RESPONSES, {"group_by": by, "limit": 1})
    assert [(group[by], group["count"]) for group in data["groups"]] == expected
    assert (data["count"], data["groups_left_out"]) == (12, 0)
    assert "responses" not in data
    for value, number in expected:
        day = {"created_from": value, "created_to": value}
        body = day if by == "day" else {by: value}
        assert full.data(RESPONSES, {**body, "count_only": True}) == {"count": number}


def test_count_is_that_of_the_filter(full: Desk) -> None:
    """Neither limit nor cursor changes it, and a token counts what it sees."""
    body = {"count_only": True, "is_internal": True, "limit": 1}
    assert full.data(RESPONSES, body) == {"count": 3}
    assert full.data(RESPONSES, body, token=full.token(queues=[3])) == {"count": 1}
    assert full.data(RESPONSES, {"group_by": "day", "response_id": [7]}) == {
        "count": 0,
        "groups": [],
        "groups_left_out": 0,
    }


EMPTY = [("", False), (" \n", False), ("<p> <br></p>", True), ("<div>&nbsp;</div>", True)]
NOT_EMPTY = [("x", False), ("<br>", False), ("<p>x</p>", True), ('<img src="cid:a">', True)]


def test_empty_responses_have_neither_text_nor_image(open_desk: OpenDesk) -> None:
    """What a reader sees counts, not the tags; a body that was not kept is neither."""
    with open_desk() as desk:
        for number, (text, is_html) in enumerate(EMPTY + NOT_EMPTY):
            post = PostRow(number + 1, number, text=text, is_html=is_html)
            desk.write(TicketRow(1, 3), post)
        track = PostRow(2 * 10**12 + 9, 9, kind="timetrack", facts={"seconds_worked": 5})
        desk.write(TicketRow(1, 3), PostRow(10, 10, note="not_kept"), track)
        assert ids(desk, {"is_empty": True}) == {1, 2, 3, 4}
        assert ids(desk, {"is_empty": False}) == {5, 6, 7, 8, track.id}


WRONG: list[tuple[dict[str, Any], str]] = [
    *[({"limit": value}, "limit") for value in (0, 1001, "5x", 1.5, True, [5])],
    *[({"created_from": value}, "created_from") for value in ("May", "2026-02-30", 5, "2026-5-1")],
    ({"is_internal": "yes"}, "is_internal"),
    ({"queue": {"a": 1}}, "queue"),
    ({"queue_id": [[1]]}, "queue_id"),
    ({"queue_id": ["x"]}, "queue_id"),
    ({"queue_id": ["3", "9" * 19]}, "queue_id"),
    ({"queue_id": "Sales"}, "queue_id"),
    ({"queue_id": 3.5}, "queue_id"),
    ({"created_by_email": ["a@b"]}, "created_by_email"),
    ({"created_by_email": False}, "created_by_email"),
    ({"response_id": ["x"]}, "response_id"),
    ({"ticket_number": ["1"] * 1001}, "ticket_number"),
    ({"created_by_email": 5}, "created_by_email"),
    ({"fields": ["nothing"]}, "fields"),
    ({"count_only": "yes"}, "count_only"),
    ({"group_by": "month"}, "group_by"),
    ({"group_by": ["day"]}, "group_by"),
    ({"is_empty": "true"}, "is_empty"),
    ({"is_internal": 2}, "is_internal"),
    ({"fields": ["html", ""]}, "fields"),
    ({"status": ["open"]}, "status"),
    ({"search_object": {"criteria": []}}, "search_object"),
    ({"ticket_id": 1}, "ticket_id"),
    ({"cursor": "x"}, "cursor"),
    ({"cursor": {}}, "cursor"),
    ({"cursor": {"created_at": "2026-05-01T00:00:00+00:00"}}, "cursor"),
    ({"cursor": {"created_at": "soon", "id": 1}}, "cursor"),
    ({"cursor": {"created_at": 5, "id": 1}}, "cursor"),
]


@pytest.mark.parametrize(("body", "field"), WRONG, ids=range(len(WRONG)))
def test_wrong_filters_are_refused(full: Desk, body: dict[str, Any], field: str) -> None:
    """A filter that is not understood is never ignored: that would widen the answer."""
    answer = full.call(RESPONSES, body)
    assert (answer.status_code, answer.json()["error"]) == (422, "validation_failed")
    assert list(answer.json()["errors"]) == [field]


FILTERED = (
    "created_from",
    "created_to",
    "is_internal",
    "staff_response",
    "queue",
    "queue_id",
    "ticket_number",
    "response_id",
    "created_by_email",
    "has_attachments",
    "is_empty",
)


@pytest.mark.parametrize(
    "value", ["", " ", "\t\n", None, [], [""], [" ", "3"], [None], {}], ids=repr
)
@pytest.mark.parametrize("field", FILTERED)
def test_filter_that_says_nothing_finds_all_or_is_refused(
    full: Desk, field: str, value: Any
) -> None:
    """A blank text or null is no filter, for every field alike; any other nothing is refused.

    Never does a question that was not understood look like one to which nothing matches.
    """
    answer = full.call(RESPONSES, {field: value})
    if value is None or isinstance(value, str):
        assert len(answer.json()["data"]["responses"]) == len(ALL)
    else:
        assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])


@pytest.mark.parametrize("value", ["", None, [], [""], ["2", " "], [None], {}, True, 1.5], ids=repr)
@pytest.mark.parametrize("mode", MODES)
def test_criterion_that_says_nothing_is_refused(full: Desk, mode: str, value: Any) -> None:
    """Who sends a criterion wants less than everything, and not nothing."""
    search = {"criteria": [{"mode": mode, "tokens": value}]}
    answer = full.call(TICKETS, {"search_object": search})
    assert answer.status_code == 422
    assert "search_object.criteria.tokens" in answer.json()["errors"]


NOTHING: list[dict[str, Any]] = [
    {},
    {"search_object": None},
    {"search_object": ""},
    {"search_object": {"criteria": []}},
    {"search_object": {"search_perspective": " ", "criteria": None}},
    {"search_object": []},
    {"search_object": {"search_perspective": "ALL ", "criteria": {}}},
    {"perspective_id": "", "row_limit": "", "perspective_name": "all"},
]


@pytest.mark.parametrize("body", NOTHING, ids=repr)
def test_query_without_criteria_lists_all(full: Desk, body: dict[str, Any]) -> None:
    """What Laravel reads as nothing is nothing here as well."""
    assert [row["id"] for row in full.data(TICKETS, body)] == ["3", "2", "1"]


def export(desk: Desk, body: dict[str, Any], *, token: str | None = None) -> Iterator[list[str]]:
    """Page through the responses as Tickiti's exporter does."""
    cursor = None
    while True:
        sent = {**body, "cursor": cursor} if cursor else body
        data = desk.data(RESPONSES, sent, token=token)
        yield [row["response_id"] for row in data["responses"]]
        cursor = data["next_cursor"]
        if cursor is None:
            return
        assert list(cursor) == ["created_at", "id"]
        assert isinstance(cursor["id"], int)


@pytest.mark.parametrize("limit", [1, 5, 6, 11, 12, 13, 1000])
def test_pages_join_to_the_whole(full: Desk, limit: int) -> None:
    """Whatever the page size: each response once, no empty last page, null at the end."""
    pages = list(export(full, {"limit": limit}))
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert pages[-1]
    found = [one for page in pages for one in page]
    assert len(found) == len(set(found)) == 12


def test_exporter_gets_each_response_once_while_more_are_added(open_desk: OpenDesk) -> None:
    """Rows added before, at and after the cursor never repeat or hide those that were there."""
    with open_desk() as desk:
        desk.write(TicketRow(1, 3), *[PostRow(n * 10, MAY + n // 7) for n in range(1, 60)])
        there = {str(n * 10) for n in range(1, 60)}
        found: list[str] = []
        for number, page in enumerate(export(desk, {"limit": 4, "fields": []})):
            found += page
            if number < 20:
                desk.write(
                    TicketRow(number + 2, 3),
                    PostRow(number * 10 + 5, MAY - number),
                    PostRow(number * 10 + 6, MAY + number // 2),
                    PostRow(number * 10 + 7, MAY + 100 + number),
                )
        assert len(found) == len(set(found))
        assert there <= set(found)
        assert {str(n * 10 + 7) for n in range(15)} <= set(found)


@pytest.mark.parametrize("real", [5, 500])
def test_post_that_is_still_to_be_read_is_in_no_query(open_desk: OpenDesk, real: int) -> None:
    """A post moves when it is read, earlier or later: before that an exporter does not meet it."""
    with open_desk(posts_follow=True) as desk:
        desk.write(TicketRow(1, 3, last_activity=7), PostRow(41, 100, text="first"))
        ledger = desk.archive.ledger
        with ledger.atomic():  # a sync finds a new file; its post is not read yet
            run = ledger.begin_run("sync", source="test", scope={})
            news = [Listed(9, 1, 42, "a.txt", "", 1, 200), Listed(8, 1, 0, "note.txt", "", 1, 300)]
            ledger.record_ticket(run.id, TicketRow(1, 3, last_activity=8), news)
        rows = desk.data("tickets/responses/query")["responses"]
        assert [row["response_id"] for row in rows] == ["41", "-1"]
        shown = desk.data("tickets/show", {"ticket_id": "1"})["responses"]
        assert [row["id"] for row in shown] == ["41", "42", "-1"], "show leads to every file"
        desk.write(TicketRow(1, 3, last_activity=8), PostRow(42, real, text="second"))
        rows = desk.data("tickets/responses/query")["responses"]
        expected = ["42", "41", "-1"] if real == 5 else ["41", "-1", "42"]
        assert [row["response_id"] for row in rows] == expected


def test_cursor_survives_times_that_no_calendar_has(open_desk: OpenDesk) -> None:
    """An absurd time neither ends nor repeats an export."""
    with open_desk() as desk:
        times = (-(10**14), -5, 0, MAY, 10**13, 10**17)
        desk.write(TicketRow(1, 3), *[PostRow(n, at) for n, at in enumerate(times, 1)])
        assert list(export(desk, {"limit": 1})) == [[str(n)] for n in range(1, 7)]


def test_a_token_sees_its_queues_only(full: Desk) -> None:
    """No filter, cursor or name reaches a queue that the token does not see."""
    token = full.token(queues=[3])
    assert ids(full, {}, token=token) == {10, 11, 12, 13}
    for body in (
        {"queue_id": [4]},
        {"queue": ["Support"]},
        {"ticket_number": ["2"]},
        {"response_id": [20]},
        {"cursor": {"created_at": "2026-05-04T00:00:00+00:00", "id": 13}},
    ):
        data = full.data(RESPONSES, body, token=token)
        assert data == {"responses": [], "next_cursor": None}
    pages = list(export(full, {"limit": 2}, token=token))
    assert [len(page) for page in pages] == [2, 2]
    assert ids(full, {}, token=full.token(queues=[99])) == set()


def tickets(
    desk: Desk, criteria: Any = None, *, token: str | None = None, **more: Any
) -> list[str]:
    """Return the numbers of the tickets that a query finds, in order."""
    search = {} if criteria is None else {"search_object": {"criteria": criteria}}
    return [row["id"] for row in desk.data(TICKETS, {**search, **more}, token=token)]


CRITERIA: list[tuple[list[tuple[str, list[Any]]], list[str]]] = [
    ([], ["3", "2", "1"]),
    ([("ticket_number", ["2"])], ["2"]),
    ([("ticket_number", ["2", 1, "77"])], ["2", "1"]),
    ([("ticket_number", ["2"]), ("ticket_number", ["1"])], ["2", "1"]),
    ([("queue", ["Sales"])], ["1"]),
    ([("queue", ["Support", "Sales"])], ["3", "2", "1"]),
    ([("queue", ["Nowhere"])], []),
    ([("subject", ["number 3"])], ["3"]),
    ([("subject", ["number 3", "NUMBER 1"])], []),
    ([("subject", ["number 3", "PLATE"])], ["3"]),
    ([("subject", ["number 3"]), ("subject", ["NUMBER 1", "plate"])], ["3", "1"]),
    ([("subject", ["plate"]), ("queue", ["Support"])], ["3", "2"]),
    ([("content", ["text 2"])], ["3", "2", "1"]),
    ([("content", ["TEXT 2", "text 3"]), ("queue", ["Sales"])], ["1"]),
    ([("content", ["text 9"])], []),
    ([("content", ["text 9"]), ("content", ["x", "text"]), ("content", ["t"])], ["3", "2", "1"]),
    ([("content", ["Plate"])], []),
    ([("subject_content", ["number 2", "text 1"])], ["2"]),
    ([("subject_content", ["number 2"]), ("subject", ["plate"])], ["2"]),
    ([("subject_content", ["number 2"]), ("content", ["number"])], []),
    ([("raised", ["user1@example.com"])], ["1"]),
    ([("raised", ["ser1@example.com", "USER2@EXAMPLE.COM"])], ["2"]),
    ([("raised", ["@example.com"])], ["3", "2", "1"]),
    ([("participant", ["user1@example.com"])], ["1"]),
    ([("participant", ["nobody@x", "PRIYA@example.com"])], ["3", "2", "1"]),
    ([("participant", ["riya@example.com"])], []),
    ([("assigned", ["Unassigned"])], ["3", "2", "1"]),
    ([("assigned", ["priya@example.com"])], []),
    ([("assigned", ["team:4", "team-and-members:4"])], []),
    ([("assigned", ["team:4", "unassigned"])], ["3", "2", "1"]),
    ([("watchlist", [1]), ("queue", ["Sales"])], []),
    ([("hashtag", ["#vip"])], []),
    ([("status", ["Open"])], ["3", "2", "1"]),
    ([("status", ["closed", "on hold"])], []),
    ([("priority", ["Normal"])], ["3", "2", "1"]),
    ([("priority", [40, "Low"])], []),
    ([("created_from", ["2026-05-03"])], ["3", "2"]),
    ([("created_to", ["2026-05-03"]), ("created_from", ["2026-05-03"])], ["2"]),
    ([("created_to", ["2026-05-02", "2026-05-03"])], ["2", "1"]),
    ([("updated_from", ["2026-05-05"])], ["3", "2"]),
    ([("updated_to", ["2026-05-03"])], ["1"]),
]


@pytest.mark.parametrize(("given", "expected"), CRITERIA, ids=range(len(CRITERIA)))
def test_each_criterion(
    full: Desk, given: list[tuple[str, list[Any]]], expected: list[str]
) -> None:
    """Tokens of a mode are alternatives, modes restrict each other; latest activity first."""
    criteria = [{"mode": mode, "tokens": tokens} for mode, tokens in given]
    assert tickets(full, criteria) == expected


def test_match_says_whether_one_token_is_enough(full: Desk) -> None:
    """All of a text, unless any is said; one of what has a single value, and never all."""
    one: dict[str, Any] = {"tokens": ["number 1", "number 2"]}
    for mode in ("subject", "subject_content"):
        assert tickets(full, [{"mode": mode, **one}]) == []
        assert tickets(full, [{"mode": mode, **one, "match": "all"}]) == []
        assert tickets(full, [{"mode": mode, **one, "match": "any"}]) == ["2", "1"]
    assert tickets(full, [{"mode": "ticket_number", "tokens": [1, 2]}]) == ["2", "1"]
    assert tickets(full, [{"mode": "ticket_number", "tokens": {"1": 2}, "match": "all"}]) == ["2"]


def test_files_without_a_post_do_not_lend_a_subject_to_the_texts(open_desk: OpenDesk) -> None:
    """The place for such files has the id that stands for the subject."""
    with open_desk() as desk:
        desk.attach("a.txt", b"x", ticket=1, post=0)
        desk.write(TicketRow(1, 3, "", "a plate"), PostRow(5, 1, text="a text"))
        for _ in range(2):
            assert tickets(desk, [{"mode": "content", "tokens": ["plate"]}]) == []
            assert tickets(desk, [{"mode": "subject_content", "tokens": ["plate"]}]) == ["1"]
            desk.archive.threads.index_texts()


def test_a_search_has_the_rest_of_an_older_archive_indexed(open_desk: OpenDesk) -> None:
    """It finds what is not indexed yet, and lets that be done beside it."""
    with open_desk() as desk:
        ledger, threads = desk.archive.ledger, desk.archive.threads
        with ledger.atomic():
            for number in range(1, 400):
                ledger.put_ticket(TicketRow(number, 3, "", f"plate {number}"))
        assert threads.unindexed() == 399
        assert tickets(desk, [{"mode": "subject_content", "tokens": ["plate 399"]}]) == ["399"]
        until = time.monotonic() + 20
        while threads.unindexed() and time.monotonic() < until:
            time.sleep(0.01)
        assert threads.unindexed() == 0
        assert tickets(desk, [{"mode": "subject_content", "tokens": ["plate 399"]}]) == ["399"]


def test_ticket_rows_are_headers(full: Desk) -> None:
    """The answer is an array in the envelope; each row is the header that show tells."""
    rows = full.data(TICKETS, {"search_object": {"search_perspective": "All"}})
    shown = full.data("tickets/show", {"ticket_number": "3"})["ticket"]
    assert rows[0].items() <= shown.items()
    assert shown.keys() - rows[0].keys() == {"participants", "linked_tickets"}
    assert tickets(full, row_limit=2) == ["3", "2"]


def test_tickets_of_other_queues_are_not_listed(full: Desk) -> None:
    """What the token does not see is in no list; the owner need not be of the staff."""
    token = full.token(queues=[3], is_staff=False)
    assert tickets(full, token=token) == ["1"]
    for mode, text in (("queue", "Support"), ("ticket_number", "2"), ("subject", "number 2")):
        assert tickets(full, [{"mode": mode, "tokens": [text]}], token=token) == []


WRONG_TICKETS: list[tuple[dict[str, Any], str]] = [
    ({"perspective_id": 3}, "perspective_id"),
    ({"row_limit": 5001}, "row_limit"),
    ({"search_object": [1]}, "search_object"),
    ({"search_object": {"mode": "subject", "tokens": ["x"]}}, "search_object.criteria"),
    ({"criteria": [{"mode": "subject", "tokens": ["x"]}]}, "criteria"),
    ({"subject": "x"}, "subject"),
    ({"perspective_name": "Mine"}, "perspective_name"),
    ({"search_object": {"search_perspective": "Mine"}}, "search_object.search_perspective"),
    ({"search_object": {"search_perspective_id": 1}}, "search_object.search_perspective_id"),
    ({"search_object": {"criteria": {"mode": "subject"}}}, "search_object.criteria"),
    ({"search_object": {"criteria": [1]}}, "search_object.criteria"),
    (
        {"search_object": {"criteria": [{"mode": "body", "tokens": ["x"]}]}},
        "search_object.criteria.mode",
    ),
    (
        {"search_object": {"criteria": [{"mode": "subject", "tokens": []}]}},
        "search_object.criteria.tokens",
    ),
    (
        {"search_object": {"criteria": [{"mode": "raised", "tokens": ["a", "b"], "match": "all"}]}},
        "search_object.criteria.match",
    ),
    (
        {"search_object": {"criteria": [{"mode": "created_to", "tokens": ["May"]}]}},
        "search_object.criteria",
    ),
    *[
        (
            {"search_object": {"criteria": [{"mode": mode, "tokens": ["nothing"]}]}},
            "search_object.criteria",
        )
        for mode in ("status", "priority", "participant")
    ],
    (
        {"search_object": {"criteria": [{"mode": "subject", "tokens": ["x"] * 51}]}},
        "search_object",
    ),
]


@pytest.mark.parametrize(("body", "field"), WRONG_TICKETS, ids=range(len(WRONG_TICKETS)))
def test_criteria_that_cannot_be_had_are_refused(
    full: Desk, body: dict[str, Any], field: str
) -> None:
    """Saved views and other modes are refused by name, not ignored."""
    answer = full.call(TICKETS, body)
    assert (answer.status_code, answer.json()["error"]) == (422, "validation_failed")
    assert field in answer.json()["errors"]


def test_queues_are_those_of_the_token(full: Desk) -> None:
    """Both lists: by id, departments of one queue together, counts and names seen ones only."""
    sales = {"id": "3", "name": "Sales", "tickets": 1}
    support = {"id": "4", "name": "Support", "tickets": 2}
    assert full.data("tickets/queues") == {"queues": [sales, support]}
    assert full.data("tickets/queues", token=full.token(queues=[4])) == {"queues": [support]}
    both = full.token("workflow:read", "tickets:read", queues=[3])
    bare = full.call("workflow/queues", token=both)
    assert (bare.status_code, bare.json()) == (200, {"queues": [sales]})
    for token in (full.staff, full.token("workflow:write", is_staff=False)):
        refused = full.call("workflow/queues", token=token)
        assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")


@pytest.mark.parametrize("path", [RESPONSES, TICKETS, "tickets/queues", "workflow/queues"])
def test_lists_need_a_token(full: Desk, path: str) -> None:
    """No list without a token, nor with one for something else."""
    assert full.call(path, token="1|x").json()["error"] == "unauthenticated"
    answer = full.call(path, token=full.token("mail:read"))
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")


def test_queries_for_half_characters_are_refused(full: Desk) -> None:
    """JSON can spell what PHP cannot read, and no text has."""
    headers = {"Authorization": f"Bearer {full.staff}", "Content-Type": "application/json"}
    for content in (b'{"created_by_email": "\\ud800"}', b'{"queue": ["a\\uDFFFb"]}', b'{"x": NaN}'):
        for path in (RESPONSES, TICKETS):
            url = f"{full.base}/api/v1/{path}"
            answer = full.client.post(url, content=content, headers=headers)
            assert (answer.status_code, list(answer.json()["errors"])) == (422, ["body"])
