"""Files damaged behind our back, and what the source says when they are asked for again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrator.cli._selftest import flip_bit
from migrator.cli._selftest_rig import Rig
from tests.faults.conftest import Inline, MakeRig


def truncate(path: Path) -> None:
    """Cut a byte off a file."""
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def lose(path: Path) -> None:
    path.unlink()


def blob(rig: Rig, attachment: int) -> Path:
    """Give the file of an attachment's bytes."""
    sha256 = rig.rows()[attachment].sha256
    assert sha256 is not None
    return rig.archive / "blobs" / sha256[:2] / sha256[2:4] / sha256


Verify = Callable[..., dict[str, Any]]


@pytest.fixture
def verify(inline: Inline) -> Verify:
    """Verify; gives what is told to machines."""

    def call(code: int, *argv: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(inline(code, "verify", *argv, "--json").out)
        return found

    return call


@pytest.fixture
def pulled(rig: MakeRig, inline: Inline) -> tuple[Rig, int, int]:
    """Give an archive, and an attachment of its own with its ticket."""
    one = rig(tickets=4)
    ticket = min(key for key, row in one.helpdesk.tickets.items() if row.department_id)
    attachment = one.helpdesk.add_attachment(ticket, "invoice.txt", b"nobody else has this")
    inline(0, "run")
    return one, attachment, ticket


@pytest.mark.parametrize("harm", [flip_bit, truncate, lose])
def test_the_same_bytes_heal_a_damaged_file(
    pulled: tuple[Rig, int, int],
    inline: Inline,
    verify: Verify,
    harm: Callable[[Path], None],
) -> None:
    """Dedupe never trusts a file that is not whole: the new arrival replaces it."""
    one, attachment, ticket = pulled
    path = blob(one, attachment)
    whole = path.read_bytes()
    harm(path)
    found = verify(6)
    assert found["damaged"] + found["lost"] == 1
    one.helpdesk.add_attachment(ticket, "again.txt", whole)
    inline(6, "run")  # in doubt, until somebody has looked again
    assert path.read_bytes() == whole
    assert verify(0)["checked"]
    inline(0, "run")


@pytest.mark.parametrize("harm", [flip_bit, truncate, lose])
def test_other_bytes_are_no_repair(
    pulled: tuple[Rig, int, int], verify: Verify, harm: Callable[[Path], None]
) -> None:
    """What the source sends now is not what was stored: told, and neither row nor file changes."""
    one, attachment, ticket = pulled
    path, before = blob(one, attachment), one.rows()
    harm(path)
    left = path.read_bytes() if path.exists() else None
    desk = one.helpdesk
    desk.delete_attachment(attachment)
    desk.next_attachment_id = attachment
    assert desk.add_attachment(ticket, "invoice.txt", b"nobody else has THIS") == attachment
    found = verify(6, "--repair")
    assert found["repaired"] == 0
    reason = f"the source now sends other bytes for attachment {attachment}"
    assert found["files"]["unrepaired"] == {path.name: reason}
    assert one.rows() == before, "an expected hash was edited"
    assert (path.read_bytes() if path.exists() else None) == left
    assert verify(6)["damaged"] + verify(6)["lost"] == 1


def test_a_source_that_lost_the_file_is_told(rig: MakeRig, inline: Inline, verify: Verify) -> None:
    """An empty reply does not repair a damaged file, and is named for what it is."""
    one = rig(tickets=40, faults=frozenset({"missing_file"}))
    one.helpdesk.set_fault("missing_file", on=False)
    inline(0, "run")
    one.helpdesk.set_fault("missing_file", on=True)
    (attachment,) = (key for key, true in one.helpdesk.truth.items() if true.faults)
    path = blob(one, attachment)
    flip_bit(path)
    found = verify(6, "--repair")
    reason = f"the source now sends no bytes for attachment {attachment}"
    assert found["files"]["unrepaired"] == {path.name: reason}


def test_a_deleted_attachment_cannot_be_repaired(
    pulled: tuple[Rig, int, int], inline: Inline, verify: Verify
) -> None:
    """We hold what the source has deleted; if our copy breaks, that is told, not hidden."""
    one, attachment, _ = pulled
    path = blob(one, attachment)
    one.helpdesk.delete_attachment(attachment)
    inline(0, "run")
    assert one.rows()[attachment].state.value == "deleted"
    verify(0)
    flip_bit(path)
    ended = inline(6, "verify", "--repair", "--json")
    reason = json.loads(ended.out)["files"]["unrepaired"][path.name]
    assert "404" in reason or "not" in reason.lower()
    assert "cannot be repaired" in ended.err
    assert one.rows()[attachment].sha256 == path.name


def test_a_repair_follows_a_merge(pulled: tuple[Rig, int, int], verify: Verify) -> None:
    """The ticket was merged after the run: the bytes come from where they are now."""
    one, attachment, ticket = pulled
    path = blob(one, attachment)
    whole = path.read_bytes()
    others = [key for key, row in one.helpdesk.tickets.items() if row.department_id]
    one.helpdesk.merge(ticket, next(key for key in others if key != ticket))
    lose(path)
    assert verify(0, "--repair")["repaired"] == 1
    assert path.read_bytes() == whole
