"""The metrics of an archive: what they say, how they are named, and what cannot make them grow."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import migrator
from migrator.archive import Archive, Listed, Outcome, State, TicketRow, open_archive
from migrator.report import metrics

DOCS = Path(migrator.__file__).parent / "docs"
NOW = 1_700_000_000


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Fill an archive with two runs, one stored and one failed attachment, and a verify."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        ledger = archive.ledger
        run = ledger.begin_run("run", source="https://help.example.com", scope={})
        with ledger.atomic():
            rows = [Listed(n, 10, 5, f"{n}.txt", "text/plain", 3, 0) for n in (1, 2)]
            ledger.record_ticket(run.id, TicketRow(10, 1), rows)
            ledger.record_ticket(run.id, TicketRow(11, 1), [])
            ledger.mark_ticket_deleted(11)
            with archive.blobs.writer() as writer:
                writer.write(b"abc")
                blob = writer.commit()
            ledger.settle(Outcome(1, State.STORED, sha256=blob.sha256, size=3, mime_type="a/b"))
            ledger.settle(Outcome(2, State.FAILED, "server_error", "no"))
        ledger.set_mark("success", NOW, run_id=run.id)
        ledger.add_check("verify", started_at=NOW, whole=True, exit_code=6, summary={})
        ledger.finish_run(run.id, exit_code=3, summary={})
        yield archive


def told(archive: Archive, **how: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    """Give every sample by its name and the values of its labels, in the order of these."""
    text = metrics.render(metrics.read(archive, **how))[0].decode()
    samples = [sample for family in parse(text) for sample in family.samples]
    found = {
        (one.name, tuple(v for _, v in sorted(one.labels.items()))): one.value for one in samples
    }
    assert len(found) == len(samples)
    return found


def families(archive: Archive) -> list[Metric]:
    text = metrics.render(metrics.read(archive, snapshot=NOW))[0].decode()
    return list(parse(text))


def test_they_say_what_the_ledger_says(archive: Archive) -> None:
    """Numbers, bytes, times and codes are those of the archive; what is none is 0."""
    found = told(archive, snapshot=NOW - 5)
    assert found["migrator_attachments", ("post", "stored")] == 1
    assert found["migrator_attachments_bytes", ("post", "stored")] == 3
    assert found["migrator_attachments", ("post", "failed")] == 1
    assert found["migrator_attachments", ("article", "gone")] == 0
    assert found["migrator_tickets", ()] == 2  # as in the report, with those deleted since
    assert found["migrator_last_success_timestamp_seconds", ()] == NOW
    assert found["migrator_last_verify_exit_code", ()] == 6
    assert found["migrator_verdict_code", ()] == 6
    assert found["migrator_oldest_failure_timestamp_seconds", ()] > NOW
    assert found["migrator_run_exit_code", ()] == 3
    assert found["migrator_run_at_work", ()] == 0
    assert found["migrator_snapshot_timestamp_seconds", ()] == NOW - 5
    assert found["migrator_build_info", (platform.python_version(), migrator.__version__)] == 1


def test_what_has_not_happened_has_no_time(archive: Archive) -> None:
    """No audit, no full pass, no snapshot, no delivery: no sample that could be taken for 1970."""
    names = {name for name, _ in told(archive)}
    for name in ("last_audit", "last_full_pass", "snapshot"):
        assert f"migrator_{name}_timestamp_seconds" not in names
    assert not [name for name in names if "delivery" in name]


def test_an_empty_archive_has_metrics(tmp_path: Path) -> None:
    """Before the first run there are zeros and a verdict."""
    with open_archive(tmp_path / "new", command="test") as archive:
        found = told(archive)
    assert found["migrator_verdict_code", ()] == 3
    assert sum(value for (name, _), value in found.items() if name == "migrator_attachments") == 0


def test_requests_pauses_and_pace_are_those_of_the_latest_run(archive: Archive) -> None:
    """Counters are read from what the run recorded, by outcome."""
    facts = {
        "requests": {"ok": 7, "throttled": 2},
        "pauses": 3,
        "bytes": 4096,
        "attachments": 5,
        "share": 0.5,
    }
    archive.ledger.put_progress(archive.queries.runs(1)[0].id, facts)
    found = told(archive)
    assert found["migrator_run_requests_total", ("ok",)] == 7
    assert found["migrator_run_requests_total", ("throttled",)] == 2
    assert found["migrator_run_requests_total", ("not_found",)] == 0
    assert found["migrator_run_pauses_total", ()] == 3
    assert found["migrator_run_received_bytes_total", ()] == 4096
    assert found["migrator_run_progress_ratio", ()] == 0.5


@pytest.mark.parametrize(
    "requests",
    [
        {f'x"}}\n{n}': 1 for n in range(5000)},
        {"ok": "many", "throttled": None, "not_found": -1, "refused": [1]},
        ["ok"],
        "ok",
        None,
    ],
    ids=["many", "values", "list", "text", "none"],
)
def test_nothing_recorded_makes_them_grow(archive: Archive, requests: object) -> None:
    """Outcomes of no list are one sample, odd values are none, and the text still parses."""
    before = len(told(archive))
    odd: dict[str, object] = {"requests": requests, "share": "half", "bytes": [], "pauses": 1e300}
    archive.ledger.put_progress(archive.queries.runs(1)[0].id, odd)
    found = told(archive)
    assert len(found) <= before + 1
    outcomes = {labels for name, labels in found if name == "migrator_run_requests_total"}
    assert outcomes <= {(one,) for one in (*metrics.OUTCOMES, "other")}


def test_names_and_helps_follow_the_conventions(archive: Archive) -> None:
    """As promtool would check: prefix, units, _total of counters only, a help, no odd labels."""
    archive.ledger.put_progress(archive.queries.runs(1)[0].id, {"bytes": 1, "pauses": 1})
    for family in families(archive):
        assert re.fullmatch(r"migrator_[a-z][a-z_]*[a-z]", family.name)
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert not sample.name.endswith(("_count", "_sum", "_bucket", "_created"))
            assert set(sample.labels) <= {"state", "kind", "outcome", "version", "python"}
        for odd in ("milli", "minute", "hour", "kilo", "megabyte", "percent"):
            assert odd not in family.name
        for unit in ("seconds", "bytes", "ratio"):
            assert unit not in family.name or family.name.endswith(unit)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version="),
        ("*/*", "text/plain; version="),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics"),
        ("nonsense \x00", "text/plain; version="),
    ],
)
def test_the_format_is_the_one_asked_for(archive: Archive, accept: str, kind: str) -> None:
    """OpenMetrics for those who want it, which its strict parser reads; else plain text."""
    body, found = metrics.render(metrics.read(archive), accept)
    assert found.startswith(kind)
    if "openmetrics" in kind:
        assert body.endswith(b"# EOF\n")
        assert list(openmetrics.text_string_to_metric_families(body.decode()))  # type: ignore[no-untyped-call]


def documented() -> set[str]:
    """Give the metrics in the table of the manual."""
    text = (DOCS / "monitoring.md").read_text("utf-8")
    return set(re.findall(r"^\| `(migrator_\w+)", text, re.MULTILINE))


def named(text: str) -> set[str]:
    return set(re.findall(r"\bmigrator_\w+", text))


def every_name(archive: Archive) -> set[str]:
    """Give each name that can ever be told: a delivery and a run at work included."""
    source = Path(metrics.__file__).read_text("utf-8")
    always = {sample.name for family in families(archive) for sample in family.samples}
    rest = {f"migrator_run_{one}" for one in re.findall(r'", "(\w+)", "', source)}
    timed = {f"migrator_{one}_timestamp_seconds" for one in ("last_full_pass", "last_audit")}
    counters = {f"{one}_total" for one in rest}
    delivery = {"migrator_delivery_files", "migrator_delivery_files_bytes"}
    return always | rest | timed | counters | delivery | {"migrator_last_audit_exit_code"}


def test_the_manual_lists_every_metric(archive: Archive) -> None:
    """No metric without a line in the table, which names none that does not exist."""
    assert {sample.name for family in families(archive) for sample in family.samples} <= (
        documented()
    )
    assert documented() <= every_name(archive)


def test_the_dashboard_and_the_rules_use_metrics_that_exist(archive: Archive) -> None:
    """Each name in the JSON of Grafana and in the examples of the page is in the table."""
    dashboard = (DOCS / "grafana.json").read_text("utf-8")
    board = json.loads(dashboard)
    assert all(panel.get("title") for panel in board["panels"])
    used = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(used) >= len(board["panels"]) - 3
    assert named(" ".join(used)) <= documented()
    page = (DOCS / "monitoring.md").read_text("utf-8")
    examples = "".join(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    assert named(examples)
    assert named(examples) <= documented()
