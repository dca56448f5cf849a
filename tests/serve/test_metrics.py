"""/metrics of a real server: who may read it, in which format, and what it costs."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as parse

from migrator.archive import Archive, open_archive, open_beside
from migrator.report import metrics
from migrator.serve import join_faces, load_faces
from migrator.serve.catalog import EndpointSettings
from migrator.serve.metrics import Face
from migrator.serve.server import BackgroundServer

SECRET = "0123456789abcdef-_~"
Serve = Callable[..., contextlib.AbstractContextManager[httpx.Client]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serve a new archive with all faces and these."""
    path = tmp_path / "archive"
    open_archive(path, command="test").close()

    @contextlib.contextmanager
    def serving(
        *faces: Face, snapshot: Callable[[], Mapping[str, object]] | None = None
    ) -> Iterator[httpx.Client]:
        with contextlib.ExitStack() as stack:

            def opened() -> Archive:
                return stack.enter_context(open_beside(path))

            application = join_faces(
                load_faces(*faces), opened, EndpointSettings(snapshot=snapshot)
            )
            server = stack.enter_context(BackgroundServer(application))
            yield stack.enter_context(httpx.Client(base_url=server.url))

    return serving


def test_it_is_off_unless_switched_on(serve: Serve) -> None:
    """Nobody gets figures whom the operator did not mean to give them."""
    with serve() as client:
        assert client.get("/metrics").status_code == 404


def test_a_scrape_as_prometheus_makes_it(serve: Serve) -> None:
    """Plain text by default, OpenMetrics where wanted; the parsers read both."""
    with serve(Face()) as client:
        plain = client.get("/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "migrator_attachments" in {one.name for one in parse(plain.text)}
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"
        wanted = client.get("/metrics", headers={"Accept": accept})
        assert wanted.headers["content-type"].startswith("application/openmetrics-text; version=1")
        assert "migrator_attachments" in {one.name for one in strict(wanted.text)}  # type: ignore[no-untyped-call]


def test_other_methods_and_paths(serve: Serve) -> None:
    """HEAD has no body, POST is refused in the envelope, paths below are no metrics."""
    with serve(Face()) as client:
        head = client.head("/metrics")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 1000
        refused = client.post("/metrics")
        assert refused.status_code == 405
        assert refused.json()["error"] == "method_not_allowed"
        assert refused.headers["allow"] == "GET, HEAD"
        assert client.get("/metrics/x").status_code == 404
        assert client.get("/metrics?a=b").status_code == 200


def test_with_a_token_only_its_bearers_read(serve: Serve) -> None:
    """None and a wrong one are 401, and too many wrong ones 429; the right one works."""
    with serve(Face(token=SECRET)) as client:
        missing = client.get("/metrics")
        assert missing.status_code == 401
        assert missing.headers["www-authenticate"] == "Bearer"
        wrong = {"Authorization": f"Bearer {SECRET[:-1]}"}
        codes = {client.get("/metrics", headers=wrong).status_code for _ in range(25)}
        assert codes == {401, 429}
        for value in (f"Bearer {SECRET}", f"bearer {SECRET}"):
            assert client.get("/metrics", headers={"Authorization": value}).status_code == 200


def test_a_token_of_the_api_is_none_of_metrics(serve: Serve, tmp_path: Path) -> None:
    """Who may read tickets may not read figures."""
    with open_beside(tmp_path / "archive") as archive:
        _, token = archive.access.create_token(
            "x", abilities=("tickets:read",), queues=None, is_staff=True, expires_at=None
        )
    with serve(Face(token=SECRET)) as client:
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


def test_the_archive_is_read_once_for_many_scrapes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several Prometheus servers cost no more than one."""
    reads: list[str] = []
    read = metrics.read

    def counting(archive: Archive, *, target: str, snapshot: float | None) -> metrics.Facts:
        reads.append(target)
        return read(archive, target=target, snapshot=snapshot)

    monkeypatch.setattr(metrics, "read", counting)
    with serve(Face(target="https://support.example.com")) as client:
        for _ in range(5):
            client.get("/metrics")
    assert reads == ["https://support.example.com"]


def test_a_served_snapshot_tells_its_age(serve: Serve) -> None:
    """With --from there is the time of the snapshot that /readyz tells."""
    with serve(Face(), snapshot=lambda: {"name": "x", "time": 1234.5, "age": 3}) as client:
        assert "migrator_snapshot_timestamp_seconds 1234.5\n" in client.get("/metrics").text


def test_a_damaged_archive_is_an_error_without_details(serve: Serve, tmp_path: Path) -> None:
    """What cannot be read is 5xx in the envelope, so that Prometheus marks the target as down."""
    with serve(Face()) as client:
        with sqlite3.connect(tmp_path / "archive" / "checkpoint.db") as harmed:
            harmed.execute("DELETE FROM tallies")
        harmed.close()
        answer = client.get("/metrics")
        assert answer.status_code >= 500
        assert answer.json()["ok"] is False
        assert "Traceback" not in answer.text


def test_the_archive_that_took_the_place_of_another_is_read(serve: Serve, tmp_path: Path) -> None:
    """As with a newer snapshot under `serve --from`; without any, the answer is 503."""
    path, newer = tmp_path / "archive", tmp_path / "newer"
    for each, code in ((path, 0), (newer, 4)):
        with open_archive(each, command="test") as archive:
            run = archive.ledger.begin_run("run", source="https://help.example.com", scope={})
            archive.ledger.set_helpdesk("https://help.example.com", run_id=run.id)
            archive.ledger.finish_run(run.id, exit_code=code, summary={})
    with serve(Face()) as client:
        (newer / "checkpoint.db").replace(path / "checkpoint.db")
        assert "migrator_run_exit_code 4.0\n" in client.get("/metrics").text
    with serve(Face()) as client:
        (path / "checkpoint.db").unlink()
        assert client.get("/metrics").status_code == 503
