"""Addresses to ask, and addresses to show."""

from __future__ import annotations

import pytest

from migrator.sources.kayako.signing import UrlForm, build, safe

BASE = "https://help.example.com/api/index.php"


@pytest.mark.parametrize("base", [BASE, BASE + "/", BASE + "?", BASE + "/?e=", f" {BASE}#top "])
def test_base_may_end_as_people_write_it(base: str) -> None:
    """Trailing slash, question mark, query, fragment and spaces of the base do not matter."""
    assert build(base, "/Base/Department", UrlForm.QUERY) == f"{BASE}?e=/Base/Department"


def test_query_form_carries_the_path_in_e() -> None:
    """The query form puts the path into e."""
    url = build(BASE, "Tickets/Ticket/ListAll/1,2/-1", UrlForm.QUERY)
    assert url == f"{BASE}?e=/Tickets/Ticket/ListAll/1,2/-1"


def test_standard_form_begins_with_the_path() -> None:
    """The standard form makes the path the first thing of the query."""
    assert build(BASE, "/Tickets/TicketStatus", UrlForm.STANDARD) == f"{BASE}?/Tickets/TicketStatus"


def test_path_cannot_add_parameters() -> None:
    """Separators inside a path are encoded."""
    assert build(BASE, "/a&b#c?d", UrlForm.QUERY) == f"{BASE}?e=/a%26b%23c%3Fd"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@help.example.com:8443/x?apikey=k#f", "https://help.example.com:8443/x"),
        ("http://[::1]:80/api/index.php?e=/T", "http://[::1]:80/api/index.php"),
        ("/login?apikey=k", "/login"),
        ("https:/user:pw@help/x", "help/x"),
        ("https://help.example.com/a\x1b[31mb?x", "https://help.example.com/a?[31mb"),
        ("https://[broken/x?apikey=k", "(an unreadable address)"),
        ("https://help:port/x?apikey=k", "(an unreadable address)"),
        ("?apikey=k", "(an unreadable address)"),
    ],
)
def test_safe_shows_no_secret(url: str, shown: str) -> None:
    """A shown address has no user, password, query, fragment or control character."""
    assert safe(url) == shown
