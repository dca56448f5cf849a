"""Tokens, rules, queues and ticket numbers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.archive import Access, Archive, Department, Queue, Rule, TicketRow, open_beside
from migrator.archive.checkpoint import Checkpoint
from migrator.errors import ConfigError

ListThem = Callable[..., int]


def test_a_token_is_shown_once(archive: Archive, root: Path) -> None:
    """The secret is in the text of the token and nowhere in the archive but as a hash."""
    token, text = archive.access.create_token(
        "app", abilities=["tickets:read"], queues=[4, 2, 4], is_staff=True, expires_at=99
    )
    number, _, secret = text.partition("|")
    assert int(number) == token.id
    assert re.fullmatch(r"[A-Za-z0-9]{40}", secret)
    assert secret not in repr(token)
    assert token.queues == frozenset({2, 4})
    assert token.abilities == {"tickets:read"}
    assert (token.is_staff, token.expires_at, token.last_used_at, token.revoked_at) == (
        True, 99, None, None,
    )  # fmt: skip
    found = archive.access.secret_hash(token.id)
    assert found == (token, hashlib.sha256(secret.encode()).hexdigest())
    for file in root.glob("checkpoint.db*"):
        assert secret.encode() not in file.read_bytes()


def test_tokens_differ_and_are_listed(archive: Archive) -> None:
    """No two tokens share an id or a secret; None means all queues."""
    made = [
        archive.access.create_token("x", abilities=[], queues=None, is_staff=False, expires_at=None)
        for _ in range(3)
    ]
    assert len({text for _, text in made}) == 3
    assert archive.access.tokens() == [token for token, _ in made]
    assert made[0][0].queues is None
    assert archive.access.secret_hash(10**40) is None
    assert archive.access.secret_hash(4) is None


def test_a_revoked_token_says_so(archive: Archive) -> None:
    """A token is revoked once, stays listed and keeps its id for ever."""
    token, _ = archive.access.create_token(
        "x", abilities=[], queues=[], is_staff=True, expires_at=None
    )
    assert archive.access.revoke(token.id)
    assert not archive.access.revoke(token.id)
    assert not archive.access.revoke(99)
    found = archive.access.secret_hash(token.id)
    assert found is not None
    assert found[0].revoked_at is not None
    assert found[0].queues == frozenset()


def test_the_last_use_is_written_once_a_minute(archive: Archive) -> None:
    """Uses within a minute cost the disk nothing; later ones are noted."""
    token, _ = archive.access.create_token(
        "x", abilities=[], queues=None, is_staff=True, expires_at=None
    )

    def last_used() -> int | None:
        return archive.access.tokens()[0].last_used_at

    archive.access.touch(token.id, 1000)
    archive.access.touch(token.id, 1059)
    assert last_used() == 1000
    archive.access.touch(token.id, 1060)
    assert last_used() == 1060
    archive.access.touch(99, 5000)


def test_the_default_rules_are_tickitis(archive: Archive) -> None:
    """The nineteen allowed extensions, programs, scripts and macro formats blocked, no more."""
    rules = archive.access.rules()
    allowed = {name for name, rule in rules.items() if rule.verdict == "allow"}
    documented = "pdf doc docx xls xlsx ppt pptx txt rtf csv jpg jpeg png gif webp bmp svg zip 7z"
    assert allowed == set(documented.split())
    blocked = set(rules) - allowed
    documented = "exe msi bat cmd com scr ps1 app"
    implied = "vbs vbe js jse jar sh wsf wsh hta pif cpl lnk reg docm dotm xlsm xltm xlam pptm"
    assert blocked >= set(f"{documented} {implied} potm ppam ppsm sldm".split())
    assert not blocked & {"log", "xml", "json", "html", "eml", "msg", "tar", "gz", "rar", "mp4"}
    assert "log" not in archive.access.rules()


def test_rules_are_set_and_unset(archive: Archive) -> None:
    """An extension is taken with or without dot, in any case; unset means review."""
    access = archive.access
    rule = Rule("log", "allow", "server logs")
    assert access.set_rule(".LOG", "allow", "server logs") == rule
    assert access.rules()["log"] == rule
    access.set_rule("log", "block")
    assert access.rules()["log"] == Rule("log", "block", "")
    assert access.unset_rule("*.Log")
    assert not access.unset_rule("log")
    assert "log" not in access.rules()
    for extension in ("", ".", " "):
        with pytest.raises(ConfigError, match="extension"):
            access.set_rule(extension, "allow", "")
    with pytest.raises(ConfigError, match="allow or block"):
        access.set_rule("log", "review", "")


def test_queues_stand_for_departments(archive: Archive, list_them: ListThem) -> None:
    """A department is its own queue until mapped; what the configuration says wins."""
    access, ledger = archive.access, archive.ledger
    ledger.put_departments([Department(3, "Sales"), Department(4, "Chat", "livechat")])
    list_them(1, ticket=1)
    ledger.put_ticket(TicketRow(2, 0))
    ledger.put_ticket(TicketRow(3, 8))
    ledger.mark_merged(2, 1)
    assert access.queues() == [
        Queue(3, "Sales", 3, "Sales", 1),
        Queue(8, "Department 8", 8, "Department 8", 1),
    ]
    access.map_queue(3, 12, "Verkauf")
    access.map_queue(0, 13, "Bin")
    assert access.queues()[0] == Queue(0, "Trash", 13, "Bin", 0)
    assert access.queues()[1] == Queue(3, "Sales", 12, "Verkauf", 1)
    access.map_queue(3, 14, "Vertrieb")
    access.apply_config({3: (15, "Config")})
    assert access.queues()[1] == Queue(3, "Sales", 15, "Config", 1)
    row = archive.queries.attachment(1)
    assert row is not None
    assert (row.queue_id, row.department_id) == (15, 3)
    access.apply_config({})
    assert access.queues()[1].queue_id == 14
    assert access.unmap_queue(3)
    assert not access.unmap_queue(3)
    assert access.queues()[1].queue_id == 3


def test_a_configuration_is_written_only_when_it_changed(
    archive: Archive, db: Checkpoint, root: Path
) -> None:
    """Starting serve again and again writes nothing; numbers may be left alone or cleared."""
    access = Access(db)
    config = ({3: (12, "Sales")}, {5: "220009"})
    access.apply_config(*config)
    with open_beside(root) as beside:
        before = db.conn.total_changes
        access.apply_config(*config)
        access.apply_config(config[0], None)
        assert db.conn.total_changes == before
        beside.access.apply_config({}, {6: "220009", 7: "1"})
    count = "SELECT count(*) FROM ticket_numbers"
    assert db.one(count) == (2,)
    access.apply_config({}, {})
    assert db.one(count) == (0,)
    with pytest.raises(ConfigError, match="same number"):
        access.apply_config({}, {1: "7", 2: "7"})
