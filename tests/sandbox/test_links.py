"""Files that texts link to: anybody may get them, and what they lead to may be elsewhere."""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING

import pytest

from migrator.sandbox.kayako import Helpdesk

if TYPE_CHECKING:
    from tests.sandbox.conftest import Client, Serve

LINK = re.compile(r'(?:src|href)="(http[^"]*)"')


def links(client: Client) -> list[str]:
    """Return the addresses in the posts that come over the wire."""
    tickets = (key for key, one in client.desk.tickets.items() if one.department_id)
    texts = (client.get(f"/Tickets/Ticket/{key}").text for key in tickets)
    return [url for text in texts for url in LINK.findall(text)]


def test_links_lead_to_the_server_wherever_it_is(serve: Serve) -> None:
    """Texts name the address at which the helpdesk is served now, on the wire and in the model."""
    with serve() as client:
        for _ in range(2):
            portal, desk = client.server.portal, client.desk
            own = [url for url in links(client) if url.startswith(f"{portal}/__swift/")]
            assert {url.removeprefix(portal) for url in own} == {*desk.links}
            assert len(own) > len(desk.links)
            assert any(portal in post.text for post in desk.posts.values())
            client.server.stop()
            client.server.start()
            client.address = (client.address[0], int(client.server.portal.rpartition(":")[2]))


def test_a_restored_backup_links_to_where_it_is_served_now(serve: Serve) -> None:
    """However old it is: here it was made before the server had an address."""
    with serve() as client:
        desk = client.desk
        made = Helpdesk.build(desk.options).snapshot()
        before = dict(desk.posts)
        desk.restore(made)
        assert desk.posts == before


def test_no_credentials_are_needed(serve: Serve) -> None:
    """A plain GET gets the bytes; the sandbox remembers what came with it."""
    with serve() as client:
        for path, row in client.desk.links.items():
            answer = client.send("GET", path, X_Mark="1")
            assert (answer.status, answer.body) == (200, row.source.read())
        visits = client.server.visits
        assert [visit.target for visit in visits] == [*client.desk.links]
        assert {visit.headers["x-mark"] for visit in visits} == {"1"}
        assert client.server.strayed == []
        assert client.server.requests == []


def test_who_follows_a_link_elsewhere_is_seen(serve: Serve) -> None:
    """Links to another host, one of them in disguise, lead to the sandbox under another name."""
    with serve() as client:
        foreign = [url for url in links(client) if client.desk.foreign.partition("//")[2] in url]
        assert len(foreign) == 2
        assert sum("@" in url for url in foreign) == 1
        host, port = client.address
        connection = http.client.HTTPConnection(host, port, timeout=20)
        connection.request("GET", "/x.png", headers={"Host": f"localhost:{port}"})
        connection.getresponse().read()
        connection.close()
        assert [visit.target for visit in client.server.strayed] == ["/x.png"]


def test_attachments_need_signing_in(client: Client) -> None:
    """A link to an attachment gets a page that asks for a name, though it names a true one."""
    (url,) = {url for url in links(client) if "GetAttachment" in url}
    ticket, attachment = map(int, url.split("/")[-2:])
    assert client.desk.attachments[attachment].ticket_id == ticket
    answer = client.send("GET", url.removeprefix(client.server.portal))
    assert (answer.status, "<form" in answer.text) == (200, True)


@pytest.mark.parametrize(
    ("fault", "status", "place"),
    [
        ("moved", 301, "{own}/files/{name}"),
        ("moved_foreign", 302, "{other}/files/{name}"),
        ("login", 302, "{own}/index.php?/Base/User/Login"),
        ("loop", 302, "{own}/__swift/files/{name}"),
    ],
)
def test_redirects(serve: Serve, fault: str, status: int, place: str) -> None:
    """A link may lead to another path, another host, the log-in page, or to itself."""
    with serve(f"linked_{fault}") as client:
        path, row = next((p, r) for p, r in client.desk.links.items() if r.fault)
        answer = client.send("GET", path)
        own, other, name = client.server.portal, client.desk.foreign, row.name.decode()
        assert answer.status == status
        assert answer.headers["Location"] == place.format(own=own, other=other, name=name)


def test_an_oversized_image(serve: Serve) -> None:
    """Its length is told, and nothing forces a client to read it."""
    with serve("linked_oversize") as client:
        path = next(path for path, row in client.desk.links.items() if row.fault)
        connection = http.client.HTTPConnection(*client.address, timeout=20)
        connection.request("GET", path)
        assert connection.getresponse().headers["Content-Length"] == str(128 << 20)
        connection.close()


def test_a_note_an_article_and_a_step_link_too(client: Client) -> None:
    """Not only posts do; a file may be linked more than once."""
    kinds = {kind for path in client.desk.links for kind, _ in client.desk.texts_with(path)}
    assert kinds == {"post", "ticket note", "article", "step"}
