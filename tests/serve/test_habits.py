"""Thousands of bodies as PHP and Laravel write them, against a plain evaluation of their filters.

An answer is either a 422 that names a field, or exactly what the filters let through: never a
server error, never an answer to a question that was not asked.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from migrator.archive.records import LabelRow, PostRow, StatusRow, TicketRow

if TYPE_CHECKING:
    from tests.serve.conftest import Desk

BODIES = 10_000
MAY = 1_777_593_600  # 2026-05-01T00:00:00+00:00
DAY = 86_400
RESPONSES, TICKETS = "tickets/responses/query", "tickets/query"
QUEUES = {3: "Sales", 4: "Support", 5: "Straße"}
PEOPLE = ["priya@example.com", "marcus@example.com", "Zoë@example.com"]
WORDS = ["invoice", "Größe", "broken plate", "ok", "42"]
STATUSES = {1: "open", 2: "on-hold", 3: "closed"}

Row = dict[str, Any]


@pytest.fixture(scope="module")
def full(desk: Desk) -> Desk:
    """Fill 24 tickets with every mix of what can be asked for."""
    threads = desk.archive.threads
    chance = random.Random(1)
    for number in range(1, 25):
        queue = 3 + number % 3
        row = TicketRow(
            number,
            queue,
            f"ABC-{number}",
            f"{chance.choice(WORDS)} {chance.choice(WORDS)}",
            MAY + number * DAY,
            MAY + number * DAY + 7,
            1 + number % 3,
            f"Name {number % 4}",
            PEOPLE[number % 3],
            "Priya" if number % 4 == 0 else "",
            details={"ownerstaffid": "9", "priorityid": "2"} if number % 4 == 0 else {},
        )
        posts = [
            PostRow(
                number * 10 + n,
                MAY + (number + n) * DAY + n,
                author_email=chance.choice(PEOPLE),
                staff=chance.random() < 0.5,
                is_private=chance.random() < 0.3,
                is_html=n == 1,
                text=chance.choice(["", " ".join(chance.sample(WORDS, 2))]),
            )
            for n in range(3)
        ]
        if number % 5 == 0:
            desk.attach("a.pdf", b"%PDF-1.4", ticket=number, department=queue, post=number * 10)
        desk.write(row, *posts)
    threads.put_statuses(
        [StatusRow(1, "Open"), StatusRow(2, "On Hold"), StatusRow(3, "Done", resolved=True)]
    )
    threads.put_labels(
        [LabelRow("priority", 2, "Urgent"), LabelRow("staff", 9, "Priya", "priya@example.com")]
    )
    desk.archive.access.apply_config({key: (key, name) for key, name in QUEUES.items()})
    return desk


def fold(text: object) -> str:
    """Compare as the test's texts need it, on its own."""
    return str(text).strip().casefold()


# Each filter: values as a client means them, and whether a row passes.
Filter = tuple[Callable[[random.Random], Any], Callable[[Row, Any], bool]]


def day(chance: random.Random) -> str:
    """Return a day."""
    return datetime.fromtimestamp(MAY + chance.randint(0, 28) * DAY, UTC).strftime("%Y-%m-%d")


def some(*values: Any) -> Callable[[random.Random], list[Any]]:
    """Return some of the values."""
    return lambda chance: chance.sample(values, chance.randint(1, min(3, len(values))))


def one(*values: Any) -> Callable[[random.Random], Any]:
    """Return one of the values."""
    return lambda chance: chance.choice(values)


OF_RESPONSES: dict[str, Filter] = {
    "is_internal": (one(True, False), lambda row, value: row["is_internal"] is value),
    "staff_response": (one(True, False), lambda row, value: row["staff_response"] is value),
    "has_attachments": (one(True, False), lambda row, value: bool(row["attachments"]) is value),
    "is_empty": (one(True, False), lambda row, value: (not row["plain_text"]) is value),
    "queue": (
        some("sales", "Support", "STRASSE", "Nowhere"),
        lambda row, value: fold(QUEUES[int(row["queue_id"])]) in map(fold, value),
    ),
    "queue_id": (some(3, 4, 5, 77), lambda row, value: int(row["queue_id"]) in value),
    "ticket_number": (some(1, 5, 10, 99), lambda row, value: row["ticket_number"] in value),
    "response_id": (some(10, 51, 102, 7), lambda row, value: int(row["response_id"]) in value),
    "created_by_email": (
        one("PRIYA@example.com", "zoë@example.com", "nobody@example.com"),
        lambda row, value: fold(row["created_by_email"]) == fold(value),
    ),
    "created_from": (day, lambda row, value: row["created_at"][:10] >= value),
    "created_to": (day, lambda row, value: row["created_at"][:10] <= value),
}


def holds(texts: list[str], tokens: list[Any]) -> bool:
    """Return whether each token is somewhere in the texts."""
    return all(any(fold(token) in fold(text) for text in texts) for token in tokens)


OF_TICKETS: dict[str, Filter] = {
    "ticket_number": (some(1, 5, 10, 99), lambda row, value: row["number"] in value),
    "queue": (
        some("sales", "Support", "STRASSE", "Nowhere"),
        lambda row, value: fold(row["queue_name"]) in map(fold, value),
    ),
    "subject": (some(*WORDS), lambda row, value: holds([row["subject"]], value)),
    "content": (some(*WORDS, "grös"), lambda row, value: holds(row["texts"], value)),
    "subject_content": (
        some(*WORDS),
        lambda row, value: holds([row["subject"], *row["texts"]], value),
    ),
    "raised": (
        some("priya@example.com", "Name 2", "x@y"),
        lambda row, value: any(
            fold(each) == fold(row["originator_email"])
            if "@" in each
            else fold(each) in fold(row["originator_name"])
            for each in value
        ),
    ),
    "participant": (
        some("priya@example.com", "ZOË@example.com", "x@y"),
        lambda row, value: not {fold(each) for each in value}.isdisjoint(row["people"]),
    ),
    "assigned": (
        some("priya@example.com", "Unassigned", "x@y", "team:4"),
        lambda row, value: (
            ("Unassigned" if row["assigned_to_email"] is None else "priya@example.com") in value
        ),
    ),
    "status": (some("open", "on-hold", "closed"), lambda row, value: row["status"] in value),
    "priority": (
        some("10", "20", "40"),
        lambda row, value: row["priority"] in [str(each) for each in value],
    ),
    "watchlist": (some(1, 2), lambda _row, _value: False),
    "created_from": (
        lambda chance: [day(chance)],
        lambda row, value: row["created_at"][:10] >= value[0],
    ),
    "updated_to": (
        lambda chance: [day(chance)],
        lambda row, value: row["updated_at"][:10] <= value[0],
    ),
}

NOTHING: list[Any] = ["", None, "  ", "\t\n"]
EMPTY: list[Any] = [[], {}, [""], [None], {"0": ""}, [[]], [{}]]
WRONG: list[Any] = [1.5, {"a": 1}, [["x"]], [True], "\x00?", 10**30, -(10**30)]


def written(chance: random.Random, value: Any) -> Any:
    """Write a value as PHP might: it means the same."""
    if isinstance(value, list):
        entries = [written(chance, each) for each in value]
        return (
            {str(n * 2): each for n, each in enumerate(entries)}
            if chance.random() < 0.3
            else entries
        )
    if isinstance(value, bool):
        return chance.choice([value, int(value), str(int(value)), f" {int(value)}\n"])
    if isinstance(value, int):
        return chance.choice([value, str(value), float(value), f"{value} "])
    return chance.choice([value, f" {value}", f"{value}\n"])


def asked(
    chance: random.Random, known: dict[str, Filter]
) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Return fields as written, what they mean, and whether all of them mean something."""
    sent, meant, clear = dict[str, Any](), dict[str, Any](), True
    for name in chance.sample(sorted(known), chance.randint(0, 3)):
        kind = chance.random()
        value = known[name][0](chance)
        if kind < 0.8:
            sent[name], meant[name] = written(chance, value), value
        elif kind < 0.9:
            sent[name] = chance.choice(NOTHING)
        else:
            sent[name], clear = chance.choice(EMPTY + WRONG), False
    return sent, meant, clear


def passing(rows: list[Row], known: dict[str, Filter], meant: dict[str, Any]) -> list[Row]:
    """Evaluate the filters plainly."""
    return [row for row in rows if all(known[name][1](row, meant[name]) for name in meant)]


@pytest.mark.slow
def test_filters_of_responses_are_answered_or_refused(full: Desk) -> None:
    """Half of the bodies: rows, counts and groups of responses."""
    chance = random.Random(2)
    rows = full.data(RESPONSES, {"limit": 1000})["responses"]
    assert len(rows) > 70
    refused = 0
    for _ in range(BODIES // 2):
        sent, meant, clear = asked(chance, OF_RESPONSES)
        counts = chance.random() < 0.3
        body = {**sent, "limit": written(chance, 1000), "fields": ["id"]}
        body |= {"count_only": written(chance, value=True)} if counts else {}
        answer = full.call(RESPONSES, body)
        assert answer.status_code in {200, 422}, (body, answer.text)
        if answer.status_code == 422:
            assert not clear, (body, answer.text)
            assert set(answer.json()["errors"]) <= set(sent) - set(meant)
            refused += 1
            continue
        data, expected = answer.json()["data"], passing(rows, OF_RESPONSES, meant)
        if not clear:  # a wrong value that a field takes: it may only let less through
            found = data["count"] if counts else len(data["responses"])
            assert found <= len(expected), (body, meant)
        elif counts:
            assert data == {"count": len(expected)}, (body, meant)
        else:
            found_ids = [row["response_id"] for row in data["responses"]]
            assert found_ids == [row["response_id"] for row in expected], (body, meant)
    assert refused > BODIES // 20


@pytest.mark.slow
def test_criteria_of_tickets_are_answered_or_refused(full: Desk) -> None:
    """The other half: tickets by criteria."""
    chance = random.Random(3)
    rows = full.data(TICKETS, {"row_limit": 5000})
    for row in rows:
        posts = full.data("tickets/responses", {"ticket_id": row["id"]})["responses"]
        row["texts"] = [post["plain_text"] for post in posts]
        row["people"] = {fold(post["created_by_email"]) for post in posts}
        row["people"].add(fold(row["originator_email"]))
    refused = 0
    for number in itertools.count():
        if number == BODIES // 2:
            break
        sent, meant, clear = asked(chance, OF_TICKETS)
        clear = clear and sent.keys() == meant.keys()  # a criterion without tokens is refused
        criteria: Any = [{"mode": written(chance, mode), "tokens": sent[mode]} for mode in sent]
        if criteria and chance.random() < 0.3:
            criteria = {str(n): each for n, each in enumerate(criteria)}
        search = {
            "search_perspective": chance.choice(["All", "all ", "", None]),
            "criteria": criteria,
        }
        body = {"search_object": search, "row_limit": written(chance, 5000)}
        answer = full.call(TICKETS, body)
        assert answer.status_code in {200, 422}, (json.dumps(body), answer.text)
        if answer.status_code == 422:
            assert not clear, (body, answer.text)
            refused += 1
            continue
        expected = [row["id"] for row in passing(rows, OF_TICKETS, meant)]
        found = [row["id"] for row in answer.json()["data"]]
        if clear:
            assert found == expected, (body, meant)
        else:
            assert set(found) <= set(expected), (body, meant)
    assert refused > BODIES // 20
