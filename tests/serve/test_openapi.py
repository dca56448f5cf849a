"""The OpenAPI document, held against the server by schemathesis; the probes; any JSON anywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import hypothesis
import hypothesis.stateful
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
)

from migrator.archive.records import PostRow, TicketRow
from migrator.errors import ArchiveDamaged
from migrator.serve.tickiti.openapi import document

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.serve.conftest import Desk, OpenDesk

load_all_checks()
SCHEMA = schemathesis.openapi.from_dict(document())
CALLS = [path for path in document()["paths"] if path.startswith("/api")]  # type: ignore[attr-defined]
PROBES = ["/healthz", "/readyz", "/openapi.json"]
RELAXED = hypothesis.settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck)
)

EXCLUDED = [ignored_auth]
"""Wrong tokens, of which it would send too many for one address, are tested elsewhere."""
OF_BODIES = [positive_data_acceptance, negative_data_rejection]
"""Checks that ask whether a body is right, which a test or a link may have changed."""


@pytest.fixture(scope="module")
def full(desk: Desk) -> Desk:
    """Fill a ticket, so that there is something to find."""
    for number in range(3):
        desk.attach("a.pdf", b"%PDF-1.4 x", ticket=1, post=10 + number)
    posts = [PostRow(n, n * 1000, text="<p>x</p>", is_html=n % 2 == 0) for n in range(10, 16)]
    desk.write(TicketRow(1, 3, "M-1", "Plate", 1000, 2000, 0, "Me", "me@example.com"), *posts)
    return desk


@pytest.mark.parametrize("path", CALLS + PROBES)
def test_server_answers_as_its_document_says(full: Desk, path: str) -> None:
    """Every answer has a documented status, type and shape, to right and to wrong requests."""
    operation = SCHEMA[path]["GET" if path in PROBES else "POST"]
    token = full.token("tickets:read", "workflow:read")
    there = st.sampled_from(
        [{}, {"ticket_number": "1"}, {"ticket_id": 1, "response_attachment_id": 1001}]
    )

    @RELAXED
    @hypothesis.given(case=operation.as_strategy(), real=there)
    def run(case: schemathesis.Case[Any], real: dict[str, Any]) -> None:
        excluded = EXCLUDED
        if isinstance(case.body, dict) and real:
            excluded = [*EXCLUDED, *OF_BODIES]
            for name in ("ticket_number", "ticket_id"):
                case.body.pop(name, None)
            case.body |= real
        case.call_and_validate(
            base_url=full.base,
            headers={"Authorization": f"Bearer {token}"},
            excluded_checks=excluded,
        )

    run()


def test_what_answers_lead_to_is_there(full: Desk) -> None:
    """Ids of one answer are right in the next request, in any order of calls."""
    token = full.token("tickets:read", "workflow:read")
    served = full.client.get(full.base + "/openapi.json").json()
    for path in CALLS:
        links = served["paths"][path]["post"]["responses"].get("200", {}).get("links", {})
        for name in ("next page", "responses"):
            links.pop(name, None)  # the fewer, the sooner the others are followed
        for link in links.values():
            link["x-schemathesis"] = {"merge_body": False}
    linked = ("query", "show", "attachment", "response", "links")
    served["paths"] = {
        f"/api/v1/tickets/{call}": served["paths"][f"/api/v1/tickets/{call}"] for call in linked
    }
    schema = schemathesis.openapi.from_dict(served)
    schema.config.update(base_url=full.base)
    seen: set[tuple[str, int]] = set()

    class Workflow(schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": {"Authorization": f"Bearer {token}"}}

        def after_call(self, response: Any, case: Any) -> None:
            seen.add((case.path, response.status_code))

        def validate_response(self, response: Any, case: Any, **how: Any) -> None:
            case.validate_response(response, excluded_checks=[*EXCLUDED, *OF_BODIES], **how)

    settings = hypothesis.settings(
        RELAXED, max_examples=60, stateful_step_count=8, derandomize=True, database=None
    )
    hypothesis.stateful.run_state_machine_as_test(Workflow, settings=settings)
    for call in linked:
        assert (f"/api/v1/tickets/{call}", 200) in seen, call
    assert {status for _, status in seen} <= {200, 401, 403, 404, 422}


def test_document_describes_every_route(full: Desk) -> None:
    """What is served is described, in the version it says, and served to everybody."""
    answer = full.client.get(full.base + "/openapi.json")
    assert answer.status_code == 200
    assert answer.json() == json.loads(json.dumps(document()))
    assert answer.json()["openapi"] == "3.1.0"
    for path in CALLS:
        assert full.client.post(full.base + path).status_code == 401
    SCHEMA.validate()


def test_probes_need_no_token(full: Desk) -> None:
    """Alive and ready, by GET and HEAD; other methods are refused in the envelope."""
    for path in PROBES:
        assert full.client.get(full.base + path).json()
        assert full.client.head(full.base + path).status_code == 200
        assert full.client.post(full.base + path).json()["error"] == "method_not_allowed"
    assert full.client.get(full.base + "/healthz").json() == {"ok": True}
    assert full.client.get(full.base + "/readyz").json() == {"ok": True}


def test_readiness_looks_at_both_halves(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its files or its checkpoint the server is alive but not ready, and says which."""

    def broken(self: object, limit: int) -> None:
        raise ArchiveDamaged("the text of the error is the operator's business")

    with open_desk() as desk:
        blobs = desk.archive.path / "blobs"
        blobs.rename(desk.archive.path / "elsewhere")
        answer = desk.client.get(desk.base + "/readyz")
        assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
        assert "files" in answer.json()["message"]
        monkeypatch.setattr("migrator.archive.queries.Queries.runs", broken)
        answer = desk.client.get(desk.base + "/readyz")
        assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
        assert "checkpoint" in answer.json()["message"]
        assert desk.client.get(desk.base + "/healthz").status_code == 200


FIELD = st.sampled_from(
    sorted(
        {
            field
            for name, schema in document()["components"]["schemas"].items()  # type: ignore[index]
            if name.endswith("Request")
            for field in schema.get("properties") or schema["anyOf"][0]["properties"]
        }
        | {"criteria", "mode", "tokens", "match", "created_at", "id", "search_perspective"}
        | {"count_only", "is_empty", "group_by", "perspective_id"}
    )
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8)
    | st.sampled_from(["1", "2026-05-01", "9" * 400, 10**400, -1, "\x00", "html", "subject"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELD | st.text(), inner),
    max_leaves=6,
)


@pytest.mark.parametrize("path", CALLS)
def test_no_json_on_any_route_is_a_server_error(full: Desk, path: str) -> None:
    """Any JSON body whatsoever is answered, in the envelope, as the client's business."""
    bearer = {
        "Authorization": f"Bearer {full.token('tickets:read', 'workflow:read')}",
        "Content-Type": "application/json",
    }

    @RELAXED
    @hypothesis.given(body=st.dictionaries(FIELD, JSON, max_size=4) | JSON)
    def run(body: object) -> None:
        content = json.dumps(body).encode()
        answer = full.client.post(full.base + path, content=content, headers=bearer)
        assert answer.status_code in {200, 403, 404, 422}, answer.text
        assert answer.json().get("ok", True) is (answer.status_code == 200)

    run()
