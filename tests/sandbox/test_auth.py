"""Who may enter, with Kayako's words for those who may not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from migrator.sandbox.kayako.messages import Keys

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client, Serve

FORM = "application/x-www-form-urlencoded"
PROBE = "/Base/Department"


def test_signature() -> None:
    """The secret is used as its literal text, the digest raw."""
    keys = Keys("key", "secretkey")
    assert keys.signature("1234567890") == "VKjt8M54liY6xq1UuhUYH5BFp1RUqHekqytgLPrVEA0="
    assert "secretkey" not in repr(keys)


def test_keys_repeat() -> None:
    """Keys depend on the seed alone and look like Kayako's."""
    assert Keys.from_seed(1) == Keys.from_seed(1) != Keys.from_seed(2)
    assert len(Keys.from_seed(1).api_key) == 36


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"salt": ""}, "NO SALT PROVIDED!"),
        ({"salt": "0"}, "NO SALT PROVIDED!"),
        ({"apikey": "wrong"}, "FAILED TO AUTHENTICATE"),
        ({"apikey": ""}, "FAILED TO AUTHENTICATE"),
        ({"signature": "wrong"}, "FAILED TO AUTHENTICATE"),
        ({"salt": "other"}, "FAILED TO AUTHENTICATE"),
        ({"salt": "\udcff"}, "FAILED TO AUTHENTICATE"),
    ],
)
def test_refused(client: Client, changed: dict[str, str], words: str) -> None:
    """No salt and a wrong key or signature get Kayako's texts, not as XML."""
    query = urlencode({"e": PROBE, **client.credentials(), **changed}, errors="surrogateescape")
    answer = client.send("GET", f"{client.script}?{query}")
    assert (answer.status, answer.text) == (401, words)
    assert answer.headers["Content-Type"].startswith("text/html")


def test_salt_may_come_again(client: Client) -> None:
    """Nobody remembers salts."""
    assert [client.get(PROBE).status for _ in range(2)] == [200, 200]


def status(client: Client, **query: str) -> int:
    """Ask with this query, in which a plus stays as it is."""
    return client.send(
        "GET", f"{client.script}?{urlencode({'e': PROBE, **query}, safe='+')}"
    ).status


@pytest.mark.parametrize("place", ["at its beginning", "within"])
def test_a_plus_that_became_a_space_is_put_back(client: Client, place: str) -> None:
    """An unescaped plus of a signature survives wherever it stands, that of a salt does not."""
    signed = {salt: client.server.keys.signature(salt) for salt in map(str, range(1, 2000))}
    begins = place == "at its beginning"
    salt = next(s for s, made in signed.items() if "+" in made and (made[0] == "+") is begins)
    assert status(client, **client.credentials(salt)) == 200
    assert status(client, **client.credentials("a+b")) == 401


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [("\t", "\n", 200), ("", "\r\n\0\x0b", 200), (" ", "", 401), ("", " ", 401), ("", "\xa0", 401)],
)
def test_what_stands_around_a_signature(
    client: Client, before: str, after: str, expected: int
) -> None:
    """It is trimmed, but a space has become a plus by then; the key is trimmed of spaces, too."""
    given = client.credentials()
    given |= {"apikey": f" {given['apikey']}\n", "signature": before + given["signature"] + after}
    assert status(client, **given) == expected


def test_post_reads_the_form(client: Client) -> None:
    """A POST with a form is not looked up in the query; one without is."""
    target = client.target(PROBE)
    assert client.send("POST", target, b"a=1", Content_Type=FORM).text == "NO SALT PROVIDED!"
    assert client.send("POST", target, b"", Content_Type=FORM).status == 200
    body = urlencode(client.credentials()).encode()
    assert client.send("PUT", f"{client.script}?e={PROBE}", body, Content_Type=FORM).status == 200


def test_json_reads_the_body(client: Client) -> None:
    """A request that calls itself JSON is looked up in its body alone."""
    kind, target = "application/json", client.target(PROBE)
    assert client.send("GET", target, Content_Type=kind).text == "NO SALT PROVIDED!"
    body = json.dumps(client.credentials()).encode()
    answer = client.send("GET", f"{client.script}?e={PROBE}", body, Content_Type=kind)
    assert answer.status == 200


def test_body_over_the_limit_arrives_empty(client: Client) -> None:
    """A form over PHP's limit loses its credentials with all the rest."""
    body = urlencode({**client.credentials(), "contents": "A" * (65 << 20)}).encode()
    target = f"{client.script}?e=/Tickets/TicketAttachment"
    assert client.send("POST", target, body, Content_Type=FORM).text == "NO SALT PROVIDED!"


def test_switches(serve: Serve) -> None:
    """The API can be off (403, empty), all keys refused, or the whole server down."""
    with serve() as client:
        client.desk.set_fault("auth_fail", on=True)
        assert client.get(PROBE).text == "FAILED TO AUTHENTICATE"
        client.desk.set_fault("api_off", on=True)
        answer = client.get(PROBE)
        assert (answer.status, answer.body) == (403, b"")
        client.desk.set_fault("down", on=True)
        assert client.get(PROBE).status == 503
        assert client.send("GET", "/nowhere").status == 503
