"""Who may read what at the endpoint: tokens, rules by extension, queues, ticket numbers."""

from __future__ import annotations

import hashlib
import json
import secrets
import string
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from migrator.archive.checkpoint import Checkpoint, damaged
from migrator.archive.records import Queue, Rule, Token
from migrator.archive.sql import decoded_list, upsert
from migrator.errors import ConfigError
from migrator.text import extension_of

_ALPHABET = string.ascii_letters + string.digits
_SECRET_LENGTH = 40
_VERDICTS = ("allow", "block")
_TOUCH_EVERY = 60
"""Seconds: a token's last use is written no more often, to spare the disk and a run beside."""

_texts, _numbers = decoded_list(str), decoded_list(int)
_PUT_RULE = upsert("rules", "extension", "verdict", "note")
_PUT_QUEUE = upsert("queues", "department_id", "origin", "queue_id", "name", keys=2)
_TOKENS = """
    SELECT id, name, abilities, queues, is_staff,
        created_at, expires_at, last_used_at, revoked_at, secret_sha256
    FROM tokens """


class Access:
    """Tokens, rules and queues of an archive; errors as of :class:`Ledger`."""

    def __init__(self, checkpoint: Checkpoint, *, clock: Callable[[], float] = time.time) -> None:
        """Read and write ``checkpoint``; ``clock`` returns Unix seconds."""
        self._db = checkpoint
        self._clock = clock

    def create_token(
        self,
        name: str,
        *,
        abilities: Iterable[str],
        queues: Iterable[int] | None,
        is_staff: bool,
        expires_at: int | None,
    ) -> tuple[Token, str]:
        """Create a token and return it with its text "ID|secret", which is not stored.

        ``queues`` None means all queues, ``expires_at`` None never.
        """
        secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
        sql = """
            INSERT INTO tokens
                (name, secret_sha256, abilities, queues, is_staff, created_at, expires_at)
            VALUES (?, ?, ?, ?, ?, ?, ?)"""
        given = (
            name,
            hashlib.sha256(secret.encode()).hexdigest(),
            json.dumps(sorted(set(abilities))),
            None if queues is None else json.dumps(sorted(set(queues))),
            is_staff,
            int(self._clock()),
            expires_at,
        )
        with self._db.atomic():
            self._db.execute(sql, given)
            created = self.tokens()[-1]  # ids only grow, and no other process writes meanwhile
        return created, f"{created.id}|{secret}"

    def tokens(self) -> list[Token]:
        """Return all tokens, revoked ones too, by id."""
        return [_token(*row) for row in self._db.execute(_TOKENS + "ORDER BY id")]

    def revoke(self, token_id: int) -> bool:
        """Revoke a token at once; return False if there is none or it is revoked already."""
        sql = "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL RETURNING id"
        with self._db.atomic():
            return bool(self._db.execute(sql, (int(self._clock()), token_id)))

    def secret_hash(self, token_id: int) -> tuple[Token, str] | None:
        """Return a token, even an expired or revoked one, and the SHA-256 of its secret in hex."""
        row = self._db.one(_TOKENS + "WHERE id = ?", (token_id,))
        return (_token(*row), row[-1]) if row else None

    def id_of(self, secret_sha256: str) -> int | None:
        """Return the id of the token whose secret has this SHA-256 in hex; None for no token."""
        found = self._db.one("SELECT id FROM tokens WHERE secret_sha256 = ?", (secret_sha256,))
        return int(found[0]) if found else None

    def touch(self, token_id: int, at: int) -> None:
        """Record that a token was used at ``at``, to the minute, if the checkpoint is free.

        Raises ArchiveBusy at once, without waiting, while another process is writing.
        """
        sql = "SELECT coalesce(last_used_at, 0) FROM tokens WHERE id = ?"
        row = self._db.one(sql, (token_id,))
        if row and at - row[0] >= _TOUCH_EVERY:
            with self._db.in_passing():
                self._db.execute("UPDATE tokens SET last_used_at = ? WHERE id = ?", (at, token_id))

    def rules(self) -> dict[str, Rule]:
        """Return the rules by extension; an extension without one needs review."""
        rows = self._db.execute("SELECT extension, verdict, note FROM rules ORDER BY extension")
        return {row[0]: _rule(*row) for row in rows}

    def set_rule(self, extension: str, verdict: str, note: str = "") -> Rule:
        """Allow or block an extension, given with or without its dot, in any case.

        Raises ConfigError for no extension and for a verdict other than allow and block.
        """
        rule = Rule(_extension(extension), verdict, note)
        if verdict not in _VERDICTS:
            raise ConfigError(f"A rule says allow or block, not {verdict!r}.")
        with self._db.atomic():
            self._db.execute(_PUT_RULE, (rule.extension, verdict, note))
        return rule

    def unset_rule(self, extension: str) -> bool:
        """Delete the rule of an extension, which needs review then; return False if it had none."""
        with self._db.atomic():
            sql = "DELETE FROM rules WHERE extension = ? RETURNING extension"
            return bool(self._db.execute(sql, (_extension(extension),)))

    def clashes(self, limit: int = 5) -> list[int]:
        """Return tickets without a number whose id is the number of another ticket.

        By id, at most ``limit``. The number means the other ticket, so these can be
        requested by id only.
        """
        sql = """
            SELECT t.id
            FROM ticket_numbers AS n JOIN tickets AS t ON t.id = CAST(n.number AS INTEGER)
            WHERE n.number = CAST(t.id AS TEXT) AND t.merged_into IS NULL
                AND t.id NOT IN (SELECT ticket_id FROM ticket_numbers)
            ORDER BY t.id LIMIT ?"""
        return [row[0] for row in self._db.execute(sql, (limit,))]

    def queues(self, *, deleted: bool = True) -> list[Queue]:
        """Return every department known, by id, with the queue that stands for it.

        With ``deleted`` their tickets are counted with those that the source has deleted.
        That is what the configuration says, else what `queue map` said, else the department's
        own id and title.
        """
        sql = """
            WITH tallied AS (
                SELECT department_id AS id, count(*) AS tickets FROM tickets
                WHERE merged_into IS NULL AND (? OR deleted_at IS NULL) GROUP BY department_id
            ), known AS (
                SELECT id FROM departments WHERE app = 'tickets'
                UNION SELECT id FROM tallied UNION SELECT department_id FROM queues
            ), named AS (
                SELECT known.id, coalesce(
                    departments.title, iif(known.id = 0, 'Trash', 'Department ' || known.id)
                ) AS title
                FROM known LEFT JOIN departments ON departments.id = known.id
            )
            SELECT named.id AS department_id, named.title,
                coalesce(c.queue_id, m.queue_id, named.id) AS queue_id,
                coalesce(c.name, m.name, named.title) AS name,
                coalesce(tallied.tickets, 0) AS tickets,
                coalesce(c.queue_id, m.queue_id) IS NOT NULL AS mapped
            FROM named
            LEFT JOIN tallied ON tallied.id = named.id
            LEFT JOIN queues AS c ON c.department_id = named.id AND c.origin = 'config'
            LEFT JOIN queues AS m ON m.department_id = named.id AND m.origin = 'command'
            ORDER BY named.id"""
        rows = self._db.execute(sql, (deleted,))
        return [replace(Queue(*row[:-1]), mapped=bool(row[-1])) for row in rows]

    def map_queue(self, department_id: int, queue_id: int, name: str) -> None:
        """Map a queue to a department; a queue named by the configuration takes precedence."""
        with self._db.atomic():
            self._put_queue(department_id, "command", queue_id, name)

    def unmap_queue(self, department_id: int) -> bool:
        """Undo :meth:`map_queue`; return False if there was nothing to undo."""
        sql = """
            DELETE FROM queues WHERE department_id = ? AND origin = 'command'
            RETURNING department_id"""
        with self._db.atomic():
            return bool(self._db.execute(sql, (department_id,)))

    def apply_config(
        self,
        queues: Mapping[int, tuple[int, str]],
        ticket_numbers: Mapping[int, str] | None = None,
    ) -> None:
        """Store what the configuration says; write only what has changed.

        ``queues`` is department id → (queue id, name), ``ticket_numbers`` Kayako ticket id →
        number; None leaves the numbers as they are, an empty mapping clears them. Raises
        ConfigError when two tickets would share a number.
        """
        self._apply_queues(queues)
        if ticket_numbers is not None:
            self._apply_numbers(ticket_numbers)

    def _apply_queues(self, queues: Mapping[int, tuple[int, str]]) -> None:
        sql = "SELECT department_id, queue_id, name FROM queues WHERE origin = 'config'"
        if {row[0]: row[1:] for row in self._db.execute(sql)} == dict(queues):
            return
        with self._db.atomic():
            self._db.execute("DELETE FROM queues WHERE origin = 'config'")
            for department_id, (queue_id, name) in queues.items():
                self._put_queue(department_id, "config", queue_id, name)

    def _apply_numbers(self, numbers: Mapping[int, str]) -> None:
        if len(set(numbers.values())) != len(numbers):
            raise ConfigError("The file of ticket numbers gives two tickets the same number.")
        sql = "SELECT ticket_id, number FROM ticket_numbers"
        if dict(self._db.execute(sql)) == dict(numbers):
            return
        with self._db.atomic():
            self._db.execute("DELETE FROM ticket_numbers")
            for pair in numbers.items():
                self._db.execute("INSERT INTO ticket_numbers VALUES (?, ?)", pair)

    def _put_queue(self, department_id: int, origin: str, queue_id: int, name: str) -> None:
        self._db.execute(_PUT_QUEUE, (department_id, origin, queue_id, name))


def _extension(text: str) -> str:
    extension = extension_of(f".{text.strip().rpartition('.')[2]}")
    if not extension:
        raise ConfigError(f"{text!r} is not a file name extension such as pdf.")
    return extension


def _rule(extension: str, verdict: str, note: str) -> Rule:
    if verdict not in _VERDICTS:
        raise damaged(f"the rule of {extension[:64]!r} is neither allow nor block")
    return Rule(extension, verdict, note)


def _token(
    token_id: int, name: str, abilities: str, queues: str | None, is_staff: int, *rest: Any
) -> Token:
    created_at, expires_at, last_used_at, revoked_at, _ = rest
    return Token(
        id=token_id,
        name=name,
        abilities=frozenset(_texts(abilities, "tokens.abilities")),
        queues=None if queues is None else frozenset(_numbers(queues, "tokens.queues")),
        is_staff=bool(is_staff),
        created_at=created_at,
        expires_at=expires_at,
        last_used_at=last_used_at,
        revoked_at=revoked_at,
    )
