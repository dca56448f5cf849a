"""``run``, ``plan`` and ``verify`` against the sandbox, as a user calls them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.archive import Row, open_archive, open_beside
from migrator.cli.run_cmd import print_gaps
from migrator.pull.options import RunResult
from migrator.sandbox.kayako import Helpdesk, SandboxOptions, SandboxServer
from tests.cli.conftest import NO_ARTICLES, Cli


class Sandbox(SandboxServer):
    """A server that gives its helpdesk to whoever wants to know the truth."""

    def __init__(self, helpdesk: Helpdesk) -> None:
        super().__init__(helpdesk)
        self.helpdesk = helpdesk


Serve = Callable[..., Sandbox]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a sandbox and write a configuration that fits it."""
    servers: list[Sandbox] = []

    def start(more: str = "", **options: object) -> Sandbox:
        options = {**NO_ARTICLES, "field_files": 0, **options}
        helpdesk = Helpdesk.build(SandboxOptions(**options))  # type: ignore[arg-type]
        server = Sandbox(helpdesk)
        server.start()
        servers.append(server)
        config = tmp_path / "config.toml"
        config.write_text(f"{server.config}{more}")
        config.chmod(0o600)
        return server

    yield start
    for server in servers:
        server.stop()


def contents(server: Sandbox) -> int:
    """Count the requests for contents that a server has answered."""
    return sum(
        verb == "GET" and "/TicketAttachment/" in path and "ListAll" not in path
        for verb, path in server.requests
    )


def test_run_ends_with_a_ledger_that_balances(cli: Cli, serve: Serve) -> None:
    """A run over a healthy helpdesk exits with 0 and prints the closing sum on stdout."""
    server = serve(tickets=12, links=0)
    ran = cli("run")
    assert ran.code == 0, ran.err
    listed = len(server.helpdesk.truth)
    assert re.search(rf"listed +{listed} ", ran.out)
    assert re.search(rf"= stored +{listed} ", ran.out)
    assert "Complete: every attachment" in ran.out
    assert server.secret_key not in ran.out + ran.err


def test_posts_that_were_not_wanted_are_not_missed(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """With posts switched off no closing report counts them as unread."""
    serve("posts = false\n", tickets=3)
    assert "posts have not been read" not in cli("run").out
    cli("handover", "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["threads_missing"] is None


def test_a_second_run_fetches_nothing_that_is_stored(cli: Cli, serve: Serve) -> None:
    """The second run lists again, fetches no contents, and says on start what it resumes."""
    server = serve(tickets=12)
    cli("run")
    before = contents(server)
    again = cli("run")
    assert again.code == 0
    assert contents(server) == before > 0
    assert "attachments are settled" in again.err


def test_the_csv_report_tells_every_true_outcome(cli: Cli, serve: Serve) -> None:
    """With all faults on, every attachment ends in its true state, and the exit code is 3."""
    server = serve(tickets=60, faults=frozenset({"all"}))
    ran = cli("run")
    assert ran.code == 3
    assert "Failed, missing and gone" in ran.out
    rows = csv.DictReader(io.StringIO(cli("report", "--format", "csv").out))
    found = {int(row["attachment_id"]): row for row in rows if row["kind"] == "post"}
    truth = server.helpdesk.truth
    assert found.keys() == truth.keys()
    for attachment_id, true in truth.items():
        row = found[attachment_id]
        told = (row["state"], row["problem"] or None, row["sha256"] or None)
        assert told == (true.state, true.problem, true.sha256), true


def test_a_narrowed_run_fetches_its_part_only(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """--department, --since and --limit-tickets narrow a run; nothing else is listed.

    It ends with 3 and says of what it is a part: it has not seen the rest.
    """
    serve(tickets=30)
    narrowed = cli("run", "--department", "Support", "--since", "2001-01-01")
    assert narrowed.code == 3
    said = r"Part of the helpdesk: \d+ of \d+ tickets \(department Support; only tickets active sin"
    assert re.search(said, narrowed.out)
    assert "Complete" not in narrowed.out
    with open_beside(tmp_path / "archive") as archive:
        assert {group.title for group in archive.figures.by_department()} == {"Support"}
        some = archive.queries.ticket_count()
    unknown = cli("run", "--department", "Nowhere")
    assert unknown.code == 2
    assert "Support" in unknown.err
    first = cli("run", "--limit-tickets", "1")
    assert "1 of 1 ticket listed" in first.err
    assert "left" not in first.err
    with open_beside(tmp_path / "archive") as archive:
        assert archive.queries.ticket_count() in (some, some + 1)


@pytest.mark.parametrize("since", ["2026-02-31", "soon", "-3d"])
def test_since_must_be_a_day_or_an_age(cli: Cli, serve: Serve, since: str) -> None:
    """A --since that is neither is a usage error that names the forms."""
    serve(tickets=1)
    refused = cli("run", f"--since={since}")
    assert refused.code == 2
    assert "since" in refused.err


def test_trash_only_when_asked(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """Tickets in the trash are pulled with --include-trash, and only then."""
    server = serve(tickets=40)
    trashed = server.helpdesk.trash_truth
    cli("run")
    with open_beside(tmp_path / "archive") as archive:
        assert not any(archive.queries.attachment(one) for one in trashed)
    assert cli("run", "--include-trash").code == 0
    with open_beside(tmp_path / "archive") as archive:
        assert trashed
        assert all(archive.queries.attachment(one) for one in trashed)


def test_recheck_asks_again_for_what_was_missing(cli: Cli, serve: Serve) -> None:
    """Missing attachments are left alone by a run and asked for again with --recheck."""
    server = serve(tickets=40, faults=frozenset({"missing_file"}))
    assert cli("run").code == 3
    before = contents(server)
    assert cli("run").code == 3
    assert contents(server) == before
    assert cli("run", "--recheck").code == 3
    assert contents(server) > before


def test_a_plan_writes_nothing(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """The dry run reports counts, rules and an estimate, and leaves no file behind."""
    server = serve(tickets=20)
    before = sorted(tmp_path.rglob("*"))
    plan = cli("plan", "--json")
    assert plan.code == 0, plan.err
    told = json.loads(plan.out)
    assert told["listed"]["attachments"] == len(server.helpdesk.truth)
    assert told["to_fetch"] == told["listed"]
    gates = told["tickiti"]
    assert sum(gates[name]["attachments"] for name in ("allow", "review", "block")) == len(
        server.helpdesk.truth
    )
    assert gates["block"]["attachments"] > 0
    assert told["pace"]["sampled"] == 20
    assert told["pace"]["estimated_seconds"] > 0
    assert sorted(tmp_path.rglob("*")) == before
    text = cli("run", "--dry-run")
    assert text.code == 0
    assert "What Tickiti will say" in text.out
    assert "Estimate" in text.out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_counts_what_is_too_large(cli: Cli, serve: Serve) -> None:
    """The dry run counts attachments over the download limit without fetching them."""
    server = serve(tickets=3, big=(40 << 20,), more="")
    told = json.loads(cli("plan", "--json").out)
    assert told["tickiti"]["too_large"] == {"attachments": 1, "bytes": 40 << 20}
    assert contents(server) < len(server.helpdesk.truth)


def test_a_plan_after_a_run_has_nothing_left_to_fetch(cli: Cli, serve: Serve) -> None:
    """The dry run knows what the archive holds, and does not change it."""
    serve(tickets=10)
    cli("run")
    told = json.loads(cli("plan", "--json").out)
    assert told["to_fetch"]["attachments"] == 0
    assert told["stored"] == told["listed"]


def blobs(root: Path) -> list[Path]:
    """Give the blob files of an archive, by name."""
    return sorted(path for path in (root / "archive/blobs").rglob("*") if len(path.name) == 64)


def damage(path: Path) -> None:
    """Flip one bit of a blob."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def test_verify_tells_damaged_lost_and_orphaned(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """Verify exits with 6 and counts each kind of damage; a clean archive exits with 0."""
    serve(tickets=12)
    cli("run")
    assert cli("verify").code == 0
    files = [path for path in blobs(tmp_path) if path.stat().st_size]
    damage(files[0])
    files[1].unlink()
    (tmp_path / "archive/blobs/stray").write_text("nobody's")
    found = cli("verify", "--json")
    told = json.loads(found.out)
    assert found.code == 6
    assert (told["damaged"], told["lost"], told["orphaned"], told["repaired"]) == (1, 1, 1, 0)
    assert told["checked"] == len(blobs(tmp_path)) + 1
    text = cli("verify")
    assert text.code == 6
    assert files[0].name in text.out
    assert "--repair" in text.err


@pytest.mark.slow
def test_kept_replies_are_told_apart_everywhere(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """Plan, status, report, verify and handover count them, and no figure of attachments does."""
    serve(tickets=12)
    plan = json.loads(cli("plan", "--json").out)
    number, weighed = plan["tickets"], plan["disk"]["replies"]
    assert (weighed["n"], weighed["weighed"]) == (number, number)
    assert f"Replies kept as they come: about {number} files" in cli("plan").out
    cli("run")
    told = json.loads(cli("report", "--format", "json").out)
    replies = told["replies"]
    assert replies == json.loads(cli("status", "--json").out)["replies"]
    assert (replies["newest"]["n"], replies["tickets_without"]) == (2 * number, 0)
    assert f"Replies of the source, kept as they came: {2 * number} (" in cli("status").out
    assert f"kept as they came: {2 * number}" in cli("report", "--format", "html").out
    contents = {row.sha256 for row in _rows(tmp_path) if row.sha256}
    assert told["files"]["n"] == len(contents)
    checked = json.loads(cli("verify", "--json").out)
    assert checked["checked"] - checked["replies"]["checked"] == len(contents)
    assert checked["bytes"] - checked["replies"]["bytes"] == told["files"]["bytes"]
    made = json.loads(cli("handover", "out", "--json").out)
    assert made["files"] - made["replies"] == len(contents)
    assert cli("handover", "--check", "out").code == 0
    lines = list(map(json.loads, (tmp_path / "out/replies.jsonl").read_text().splitlines()))
    assert len({(one["ticket_id"], one["kind"]) for one in lines}) == 2 * number
    for one in lines:
        body = gzip.decompress((tmp_path / "out" / one["path"]).read_bytes())
        assert len(body) == one["unpacked"]
        assert body.startswith(b"<?xml")


def _rows(tmp_path: Path) -> list[Row]:
    with open_beside(tmp_path / "archive") as archive:
        return list(archive.queries.rows())


def test_repair_brings_the_same_bytes_back(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """Repair fetches damaged and lost blobs again; afterwards the archive is whole."""
    serve(tickets=12)
    cli("run")
    files = [path for path in blobs(tmp_path) if path.stat().st_size]
    damage(files[0])
    files[1].unlink()
    assert cli("verify").code == 6
    repaired = cli("verify", "--repair", "--json")
    assert repaired.code == 0, repaired.err
    assert json.loads(repaired.out)["repaired"] == 2
    assert cli("verify").code == 0
    with open_beside(tmp_path / "archive") as archive:
        found = [check.summary["first"] for check in archive.queries.checks("verify")]
    assert found == [[], [], [files[0].name, files[1].name]], "what is not repaired"


def test_prune_tells_first_and_removes_when_sure(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """--prune removes nothing and exits with 0; --prune --yes removes orphans only."""
    serve(tickets=12)
    cli("run")
    left = tmp_path / "archive/blobs/tmp" / ("0f" * 16)
    left.write_bytes(bytes(3000))
    stray = tmp_path / "archive/blobs/stray"
    stray.write_text("nobody's")
    told = cli("verify", "--prune")
    assert told.code == 0
    assert "Nothing was removed. 1 orphaned files, 2.9 KiB, can go" in told.out
    assert "kept blobs/stray: it is not a file of this tool" in told.out
    facts = json.loads(cli("verify", "--prune", "--json").out)
    assert (facts["prunable"], facts["pruned"], facts["orphaned"]) == (1, 0, 2)
    assert left.exists()
    done = cli("verify", "--prune", "--yes")
    assert done.code == 0
    assert "Removed 1 orphaned files, 2.9 KiB." in done.out
    assert not left.exists()
    assert stray.exists()
    facts = json.loads(cli("verify", "--prune", "--yes", "--json").out)
    assert (facts["damaged"], facts["lost"], facts["pruned"], facts["orphaned"]) == (0, 0, 0, 1)


def test_prune_takes_no_half_orders(cli: Cli, serve: Serve) -> None:
    """--yes alone means nothing, and a sample cannot tell what is orphaned."""
    serve(tickets=1)
    assert cli("verify", "--yes").refused("--yes goes with --prune")
    assert cli("verify", "--prune", "--sample", "5%").refused("needs all files read")


def test_verify_reads_a_sample(cli: Cli, serve: Serve) -> None:
    """--sample reads a part only; a share that is none is a usage error."""
    serve(tickets=30)
    cli("run")
    everything = json.loads(cli("verify", "--json").out)["checked"]
    some = json.loads(cli("verify", "--json", "--sample", "30%").out)["checked"]
    assert 0 < some < everything
    assert cli("verify", "--sample", "lots").refused("must be a percentage")


def test_verify_needs_an_archive(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """Verify does not make an archive where there is none."""
    serve(tickets=1)
    assert cli("verify").refused("or make one with `migrator run`")
    assert not (tmp_path / "archive").exists()


def test_wrong_keys_exit_with_4(cli: Cli, serve: Serve) -> None:
    """A source that refuses our keys ends the run with 4 and says which keys to check."""
    serve(tickets=2, faults=frozenset({"auth_fail"}))
    refused = cli("run")
    assert refused.code == 4
    assert "secret_key" in refused.err
    assert refused.out == "", "nothing was done, so there is no ledger to print"
    assert "Traceback" not in refused.err


def test_no_server_exits_with_4(cli: Cli, serve: Serve) -> None:
    """A source that cannot be reached ends the run with 4."""
    serve(more="attempts = 1\n", tickets=1).stop()
    gone = cli("run")
    assert gone.code == 4
    assert "127.0.0.1" in gone.err
    assert "apikey" not in gone.err


def test_a_second_run_at_the_same_time_exits_with_5(cli: Cli, serve: Serve, tmp_path: Path) -> None:
    """While one run holds the archive another exits with 5 and names the holder."""
    serve(tickets=1)
    with open_archive(tmp_path / "archive", command="run"):
        busy = cli("run")
    assert busy.code == 5
    assert str(os.getpid()) in busy.err


def test_an_archive_that_cannot_be_written_exits_with_7(
    cli: Cli, serve: Serve, tmp_path: Path
) -> None:
    """An archive path that is a file ends the run with 7."""
    serve(tickets=1)
    (tmp_path / "archive").write_text("not a directory")
    assert cli("run").code == 7


def test_mass_deletion_exits_with_8(cli: Cli, serve: Serve) -> None:
    """A source that suddenly lists far fewer attachments changes nothing until accepted."""
    server = serve(tickets=40)
    cli("run")
    helpdesk = server.helpdesk
    for attachment_id in list(helpdesk.truth)[:40]:
        helpdesk.delete_attachment(attachment_id)
    stopped = cli("run")
    assert stopped.code == 8
    assert "--accept-deletions" in stopped.err
    assert re.search(r"\+ deleted +0 ", stopped.out)
    accepted = cli("run", "--accept-deletions")
    assert accepted.code == 0
    assert re.search(r"\+ deleted +40 ", accepted.out)


def test_a_ticket_that_cannot_be_listed_keeps_the_run_from_being_green(
    cli: Cli, serve: Serve
) -> None:
    """A list that fails for good ends in exit 3 and is named at the end."""
    serve(more="attempts = 1\n", tickets=10, faults=frozenset({"list_500"}))
    ran = cli("run")
    assert ran.code == 3
    assert "Tickets that could not be listed: 1" in ran.out


def test_json_lines_on_demand(cli: Cli, serve: Serve) -> None:
    """With --log-format json each line of stderr is an object with run id and event."""
    serve(tickets=5)
    ran = cli("--log-format", "json", "run")
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert {"run_started", "ticket_listed", "attachment_settled", "run_finished"} <= {
        line["event"] for line in lines
    }
    assert {line["run"] for line in lines} == {1}


def test_texts_that_could_not_be_read_may_link_to_files(capsys: pytest.CaptureFixture[str]) -> None:
    """Only attachments of posts are in a list of their own."""
    print_gaps(RunResult(threads_missing={7: "ticket 7: the server failed (HTTP 500)."}))
    told = capsys.readouterr().out
    assert "Threads missing: 1; the next run tries again." in told
    assert "files that these texts link to are not known" in told
    assert "ticket 7: the server failed (HTTP 500)." in told
