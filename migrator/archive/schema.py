"""The tables of the checkpoint, and the migrations from older versions.

``PRAGMA user_version`` is the number of migrations applied. FORMAT.md explains every table and
column to people; a test keeps it complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from migrator.archive.checkpoint import Border, Checkpoint
from migrator.errors import ArchiveDamaged, ArchiveTooNew

if TYPE_CHECKING:  # costs start-up time and is needed only when a checkpoint is migrated
    from sqlite_utils.db import Database
    from sqlite_utils.migrations import Migrations

VERSION = 11
APPLICATION_ID = 0x4D69_4B54
"""``MiKT``: marks the file as a checkpoint of this tool."""

# The list that Tickiti documents, whole:
ALLOWED = "pdf doc docx xls xlsx ppt pptx txt rtf csv jpg jpeg png gif webp bmp svg zip 7z"
# Tickiti documents the first eight and "executables, scripts and macro-enabled office formats":
BLOCKED = {
    "program": "exe msi bat cmd com scr ps1 app apk bin cpl deb dll dmg gadget jar lnk msp mst "
    "pif pkg reg rpm run",
    "script": "hta js jse mjs ps1xml ps2 psc1 psd1 psm1 sct sh bash csh ksh zsh url vb vbe vbs ws "
    "wsc wsf wsh",
    "office format with macros": "docm dotm xlsm xltm xlsb xlam xll pptm potm ppam ppsm sldm",
}

SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    scope TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    exit_code INTEGER,
    summary TEXT
) STRICT;

CREATE TABLE departments (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    app TEXT NOT NULL
) STRICT;

CREATE TABLE tickets (
    id INTEGER PRIMARY KEY,
    department_id INTEGER NOT NULL,
    display_id TEXT NOT NULL DEFAULT '',
    subject TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL DEFAULT 0,
    last_activity INTEGER NOT NULL DEFAULT 0,
    merged_into INTEGER REFERENCES tickets (id),
    listed_run INTEGER REFERENCES runs (id)
) STRICT;
CREATE INDEX tickets_by_department ON tickets (department_id);

CREATE TABLE blobs (
    sha256 TEXT NOT NULL PRIMARY KEY CHECK (length(sha256) = 64),
    size INTEGER NOT NULL CHECK (size >= 0),
    mime_type TEXT NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE attachments (
    id INTEGER PRIMARY KEY,
    ticket_id INTEGER NOT NULL REFERENCES tickets (id),
    post_id INTEGER NOT NULL,
    filename TEXT NOT NULL,
    declared_type TEXT NOT NULL,
    declared_size INTEGER NOT NULL CHECK (declared_size >= 0),
    created_at INTEGER NOT NULL,
    note TEXT,
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'stored', 'failed', 'missing', 'gone', 'deleted')),
    problem TEXT,
    detail TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT REFERENCES blobs (sha256),
    size INTEGER,
    stored_at INTEGER,
    first_run INTEGER NOT NULL REFERENCES runs (id),
    last_run INTEGER NOT NULL REFERENCES runs (id),
    CHECK ((state IN ('stored', 'deleted')) = (sha256 IS NOT NULL)),
    CHECK ((sha256 IS NULL) = (size IS NULL) AND (sha256 IS NULL) = (stored_at IS NULL))
) STRICT;
CREATE INDEX attachments_by_ticket ON attachments (ticket_id);
CREATE INDEX attachments_by_blob ON attachments (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX attachments_unfinished ON attachments (id) WHERE state IN ('pending', 'failed');

-- Kept by triggers, because counting a million rows by state takes far too long.
CREATE TABLE tallies (
    state TEXT NOT NULL PRIMARY KEY,
    n INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO tallies VALUES
    ('pending', 0, 0), ('stored', 0, 0), ('failed', 0, 0),
    ('missing', 0, 0), ('gone', 0, 0), ('deleted', 0, 0);
CREATE TRIGGER attachments_added AFTER INSERT ON attachments BEGIN
    UPDATE tallies SET n = n + 1, bytes = bytes + coalesce(new.size, new.declared_size)
        WHERE state = new.state;
END;
CREATE TRIGGER attachments_changed AFTER UPDATE OF state, size, declared_size ON attachments
WHEN old.state <> new.state
    OR coalesce(old.size, old.declared_size) <> coalesce(new.size, new.declared_size)
BEGIN
    UPDATE tallies SET n = n - 1, bytes = bytes - coalesce(old.size, old.declared_size)
        WHERE state = old.state;
    UPDATE tallies SET n = n + 1, bytes = bytes + coalesce(new.size, new.declared_size)
        WHERE state = new.state;
END;
CREATE TRIGGER attachments_removed AFTER DELETE ON attachments BEGIN
    UPDATE tallies SET n = n - 1, bytes = bytes - coalesce(old.size, old.declared_size)
        WHERE state = old.state;
END;

CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL CHECK (length(secret_sha256) = 64),
    abilities TEXT NOT NULL,
    queues TEXT,
    is_staff INTEGER NOT NULL CHECK (is_staff IN (0, 1)),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER
) STRICT;

CREATE TABLE rules (
    extension TEXT NOT NULL PRIMARY KEY,
    verdict TEXT NOT NULL CHECK (verdict IN ('allow', 'block')),
    note TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE queues (
    department_id INTEGER NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('config', 'command')),
    queue_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (department_id, origin)
) STRICT, WITHOUT ROWID;

CREATE TABLE ticket_numbers (
    ticket_id INTEGER PRIMARY KEY,
    number TEXT NOT NULL UNIQUE
) STRICT;

CREATE VIEW ledger AS
SELECT
    a.id AS attachment_id,
    a.ticket_id,
    a.post_id,
    coalesce(n.number, CAST(a.ticket_id AS TEXT)) AS ticket_number,
    t.department_id,
    coalesce(c.queue_id, m.queue_id, t.department_id) AS queue_id,
    a.filename,
    a.declared_type,
    a.declared_size,
    a.size,
    a.sha256,
    b.mime_type,
    a.state,
    a.problem,
    a.detail,
    a.attempts,
    a.created_at,
    a.stored_at
FROM attachments AS a
JOIN tickets AS t ON t.id = a.ticket_id
LEFT JOIN ticket_numbers AS n ON n.ticket_id = a.ticket_id
LEFT JOIN queues AS c ON c.department_id = t.department_id AND c.origin = 'config'
LEFT JOIN queues AS m ON m.department_id = t.department_id AND m.origin = 'command'
LEFT JOIN blobs AS b ON b.sha256 = a.sha256;
"""

# SCHEMA never changes: existing archives hold it.
SYNC = """
CREATE TABLE marks (
    name TEXT NOT NULL PRIMARY KEY CHECK (name IN ('watermark', 'full_pass', 'success')),
    value INTEGER NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE tickets ADD COLUMN deleted_at INTEGER;
"""

THREADS = """
CREATE TABLE statuses (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    department_id INTEGER NOT NULL,
    resolved INTEGER NOT NULL CHECK (resolved IN (0, 1))
) STRICT;

ALTER TABLE tickets ADD COLUMN status_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tickets ADD COLUMN requester_name TEXT NOT NULL DEFAULT '';
ALTER TABLE tickets ADD COLUMN requester_email TEXT NOT NULL DEFAULT '';
ALTER TABLE tickets ADD COLUMN owner_name TEXT NOT NULL DEFAULT '';
ALTER TABLE tickets ADD COLUMN posts_activity INTEGER;
ALTER TABLE tickets ADD COLUMN posts_run INTEGER REFERENCES runs (id);
DROP INDEX tickets_by_department;
CREATE INDEX tickets_by_department ON tickets (department_id, last_activity, id);
CREATE INDEX tickets_by_activity ON tickets (last_activity, id);
CREATE INDEX tickets_by_display_id ON tickets (display_id);
CREATE INDEX tickets_unread ON tickets (id)
    WHERE posts_activity IS NOT last_activity AND merged_into IS NULL AND deleted_at IS NULL;

CREATE TABLE posts (
    id INTEGER PRIMARY KEY,
    ticket_id INTEGER NOT NULL REFERENCES tickets (id),
    created_at INTEGER NOT NULL,
    author_name TEXT NOT NULL DEFAULT '',
    author_email TEXT NOT NULL DEFAULT '',
    staff INTEGER NOT NULL DEFAULT 0 CHECK (staff IN (0, 1)),
    is_private INTEGER NOT NULL DEFAULT 0 CHECK (is_private IN (0, 1)),
    is_html INTEGER NOT NULL DEFAULT 0 CHECK (is_html IN (0, 1)),
    note TEXT,
    text TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX posts_by_ticket ON posts (ticket_id, created_at, id);
CREATE INDEX posts_by_time ON posts (created_at, id, ticket_id);
CREATE INDEX attachments_by_response ON attachments (iif(post_id > 0, post_id, -ticket_id));

-- A post that attachments name has a row, even if nobody ever read it: the way to its files.
INSERT INTO posts (id, ticket_id, created_at, note)
SELECT iif(post_id > 0, post_id, -ticket_id) AS response_id, max(ticket_id), min(created_at),
    'not_kept'
FROM attachments GROUP BY response_id;
CREATE TRIGGER attachments_name_a_post AFTER INSERT ON attachments
WHEN NOT EXISTS (SELECT 1 FROM posts WHERE id = iif(new.post_id > 0, new.post_id, -new.ticket_id))
BEGIN
    INSERT INTO posts (id, ticket_id, created_at, note) VALUES (
        iif(new.post_id > 0, new.post_id, -new.ticket_id), new.ticket_id, new.created_at, 'not_kept'
    );
    UPDATE tickets SET posts_activity = NULL WHERE id = new.ticket_id;
END;
CREATE TRIGGER attachments_take_their_post_along AFTER UPDATE OF ticket_id, post_id ON attachments
WHEN old.ticket_id <> new.ticket_id OR old.post_id <> new.post_id
BEGIN
    UPDATE posts SET ticket_id = new.ticket_id
        WHERE id = new.post_id AND id > 0 AND ticket_id <> new.ticket_id;
    INSERT INTO posts (id, ticket_id, created_at, note)
        SELECT iif(new.post_id > 0, new.post_id, -new.ticket_id), new.ticket_id, new.created_at,
            'not_kept'
        WHERE NOT EXISTS (
            SELECT 1 FROM posts WHERE id = iif(new.post_id > 0, new.post_id, -new.ticket_id)
        );
    UPDATE tickets SET posts_activity = NULL WHERE id = new.ticket_id;
END;
CREATE TRIGGER merged_tickets_hand_over_their_posts AFTER UPDATE OF merged_into ON tickets
WHEN new.merged_into IS NOT NULL AND new.merged_into IS NOT old.merged_into
BEGIN
    UPDATE posts SET ticket_id = new.merged_into WHERE ticket_id = new.id AND id > 0;
    UPDATE tickets SET posts_activity = NULL WHERE id = new.merged_into;
END;

CREATE VIEW headers AS
SELECT
    t.id,
    coalesce(n.number, CAST(t.id AS TEXT)) AS ticket_number,
    t.display_id,
    t.department_id,
    coalesce(c.queue_id, m.queue_id, t.department_id) AS queue_id,
    coalesce(
        c.name, m.name, d.title, iif(t.department_id = 0, 'Trash', 'Department ' || t.department_id)
    ) AS queue_name,
    t.subject,
    CASE WHEN s.resolved THEN 'closed' WHEN s.title LIKE '%hold%' THEN 'on-hold' ELSE 'open' END
        AS status,
    t.requester_name,
    t.requester_email,
    t.owner_name,
    t.created_at,
    t.last_activity,
    t.merged_into,
    t.deleted_at
FROM tickets AS t
LEFT JOIN ticket_numbers AS n ON n.ticket_id = t.id
LEFT JOIN departments AS d ON d.id = t.department_id
LEFT JOIN statuses AS s ON s.id = t.status_id
LEFT JOIN queues AS c ON c.department_id = t.department_id AND c.origin = 'config'
LEFT JOIN queues AS m ON m.department_id = t.department_id AND m.origin = 'command';
"""

# Kept apart from attachments, so that the many rows that nobody accepted stay small.
PROOF = """
CREATE TABLE helpdesk (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    address TEXT NOT NULL,
    run_id INTEGER REFERENCES runs (id),
    at INTEGER NOT NULL,
    told INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1))
) STRICT;
INSERT INTO helpdesk (id, address, run_id, at)
    SELECT 1, source, id, started_at FROM runs WHERE source <> '' AND id = (
        SELECT max(n) FROM (
            SELECT max(last_run) AS n FROM attachments
            UNION ALL SELECT max(listed_run) FROM tickets));

CREATE TABLE checks (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('verify', 'audit')),
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    whole INTEGER NOT NULL CHECK (whole IN (0, 1)),
    exit_code INTEGER NOT NULL,
    summary TEXT NOT NULL
) STRICT;

CREATE TABLE accepted (
    attachment_id INTEGER PRIMARY KEY REFERENCES attachments (id),
    accepted_at INTEGER NOT NULL,
    accepted_by TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE TABLE progress (
    run_id INTEGER PRIMARY KEY REFERENCES runs (id),
    at INTEGER NOT NULL,
    facts TEXT NOT NULL
) STRICT;

ALTER TABLE attachments ADD COLUMN kind TEXT NOT NULL DEFAULT 'post'
    CHECK (kind IN ('post', 'customfield', 'article', 'step', 'linked'));
ALTER TABLE attachments ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attachments ADD COLUMN failing_since INTEGER;
ALTER TABLE attachments ADD COLUMN next_try INTEGER;
ALTER TABLE attachments ADD COLUMN original_id INTEGER REFERENCES attachments (id);
CREATE INDEX attachments_replaced ON attachments (original_id) WHERE original_id IS NOT NULL;

CREATE TRIGGER accepted_losses_are_of_one_file
AFTER UPDATE OF filename, declared_size ON attachments
WHEN (old.filename <> new.filename AND old.filename <> '')
    OR old.declared_size <> new.declared_size
BEGIN
    DELETE FROM accepted WHERE attachment_id = new.id;
END;

DROP VIEW ledger;
CREATE VIEW ledger AS
SELECT
    a.id AS attachment_id,
    a.ticket_id,
    a.post_id,
    coalesce(n.number, CAST(a.ticket_id AS TEXT)) AS ticket_number,
    t.department_id,
    coalesce(c.queue_id, m.queue_id, t.department_id) AS queue_id,
    a.filename,
    a.declared_type,
    a.declared_size,
    a.size,
    a.sha256,
    b.mime_type,
    a.state,
    a.problem,
    a.detail,
    a.attempts,
    a.created_at,
    a.stored_at,
    a.kind,
    iif(
        y.attachment_id IS NOT NULL AND a.state IN ('failed', 'missing', 'gone'),
        coalesce(strftime('%Y-%m-%dT%H:%M:%SZ', y.accepted_at, 'unixepoch'), '') || ' '
            || y.accepted_by || ': ' || y.reason,
        NULL
    ) AS accepted
FROM attachments AS a
JOIN tickets AS t ON t.id = a.ticket_id
LEFT JOIN ticket_numbers AS n ON n.ticket_id = a.ticket_id
LEFT JOIN queues AS c ON c.department_id = t.department_id AND c.origin = 'config'
LEFT JOIN queues AS m ON m.department_id = t.department_id AND m.origin = 'command'
LEFT JOIN blobs AS b ON b.sha256 = a.sha256
LEFT JOIN accepted AS y ON y.attachment_id = a.id;
"""

# Threads are read once more, because nobody kept their notes. What was read is shown meanwhile: -1
# is no activity that a ticket can have, and NULL would say that it was never read.
NOTES = """
ALTER TABLE tickets ADD COLUMN user_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tickets ADD COLUMN organization_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tickets ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
ALTER TABLE tickets ADD COLUMN fields_activity INTEGER;
CREATE INDEX tickets_merged ON tickets (merged_into) WHERE merged_into IS NOT NULL;
CREATE TRIGGER merged_tickets_have_fields_too AFTER UPDATE OF merged_into ON tickets
WHEN new.merged_into IS NOT NULL AND new.merged_into IS NOT old.merged_into
BEGIN
    UPDATE tickets SET fields_activity = NULL WHERE id = new.merged_into;
END;
UPDATE tickets SET posts_activity = -1 WHERE posts_activity IS NOT NULL;

ALTER TABLE posts ADD COLUMN kind TEXT NOT NULL DEFAULT 'post'
    CHECK (kind IN ('post', 'note', 'timetrack', 'customfield'));
ALTER TABLE posts ADD COLUMN facts TEXT;
CREATE INDEX posts_by_kind ON posts (kind) WHERE kind <> 'post';

CREATE TABLE labels (
    kind TEXT NOT NULL CHECK (kind IN ('priority', 'type', 'staff')),
    id INTEGER NOT NULL,
    title TEXT NOT NULL,
    email TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE people_notes (
    id INTEGER PRIMARY KEY,
    about TEXT NOT NULL CHECK (about IN ('user', 'organization')),
    about_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    author_name TEXT NOT NULL DEFAULT '',
    is_html INTEGER NOT NULL DEFAULT 0 CHECK (is_html IN (0, 1)),
    facts TEXT,
    note TEXT,
    text TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX people_notes_by_person ON people_notes (about, about_id, created_at, id);

CREATE TABLE articles (
    kind TEXT NOT NULL CHECK (kind IN ('article', 'step')),
    id INTEGER NOT NULL,
    subject TEXT NOT NULL DEFAULT '',
    author_name TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL DEFAULT 0,
    is_html INTEGER NOT NULL DEFAULT 1 CHECK (is_html IN (0, 1)),
    details TEXT NOT NULL DEFAULT '{}',
    note TEXT,
    text TEXT NOT NULL DEFAULT '',
    listed_run INTEGER NOT NULL REFERENCES runs (id),
    deleted_at INTEGER,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE marks_5 (
    name TEXT NOT NULL PRIMARY KEY
        CHECK (name IN ('watermark', 'full_pass', 'success', 'links')),
    value INTEGER NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO marks_5 SELECT name, value, run_id, at FROM marks;
DROP TABLE marks;
ALTER TABLE marks_5 RENAME TO marks;

-- Files of articles belong to no ticket: SQLite changes a column only with the whole table.
CREATE TABLE attachments_5 (
    id INTEGER PRIMARY KEY,
    ticket_id INTEGER REFERENCES tickets (id),
    post_id INTEGER NOT NULL,
    filename TEXT NOT NULL,
    declared_type TEXT NOT NULL,
    declared_size INTEGER NOT NULL CHECK (declared_size >= 0),
    created_at INTEGER NOT NULL,
    note TEXT,
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'stored', 'failed', 'missing', 'gone', 'deleted')),
    problem TEXT,
    detail TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT REFERENCES blobs (sha256),
    size INTEGER,
    stored_at INTEGER,
    first_run INTEGER NOT NULL REFERENCES runs (id),
    last_run INTEGER NOT NULL REFERENCES runs (id),
    kind TEXT NOT NULL DEFAULT 'post'
        CHECK (kind IN ('post', 'customfield', 'article', 'step', 'linked')),
    failures INTEGER NOT NULL DEFAULT 0,
    failing_since INTEGER,
    next_try INTEGER,
    original_id INTEGER REFERENCES attachments (id),
    place TEXT NOT NULL DEFAULT '',
    CHECK ((state IN ('stored', 'deleted')) = (sha256 IS NOT NULL)),
    CHECK ((sha256 IS NULL) = (size IS NULL) AND (sha256 IS NULL) = (stored_at IS NULL)),
    CHECK (ticket_id IS NOT NULL OR kind IN ('article', 'step', 'linked'))
) STRICT;
INSERT INTO attachments_5
    SELECT id, ticket_id, post_id, filename, declared_type, declared_size, created_at, note, state,
        problem, detail, attempts, sha256, size, stored_at, first_run, last_run, kind, failures,
        failing_since, next_try, original_id, ''
    FROM attachments;
DROP VIEW ledger;
DROP TABLE attachments;
ALTER TABLE attachments_5 RENAME TO attachments;
CREATE INDEX attachments_by_ticket ON attachments (ticket_id);
CREATE INDEX attachments_by_blob ON attachments (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX attachments_unfinished ON attachments (id) WHERE state IN ('pending', 'failed');
CREATE INDEX attachments_by_response ON attachments (iif(post_id > 0, post_id, -ticket_id));
CREATE INDEX attachments_replaced ON attachments (original_id) WHERE original_id IS NOT NULL;
CREATE INDEX attachments_by_place ON attachments (kind, place) WHERE kind <> 'post';
CREATE TRIGGER attachments_added AFTER INSERT ON attachments BEGIN
    UPDATE tallies SET n = n + 1, bytes = bytes + coalesce(new.size, new.declared_size)
        WHERE state = new.state;
END;
CREATE TRIGGER attachments_changed AFTER UPDATE OF state, size, declared_size ON attachments
WHEN old.state <> new.state
    OR coalesce(old.size, old.declared_size) <> coalesce(new.size, new.declared_size)
BEGIN
    UPDATE tallies SET n = n - 1, bytes = bytes - coalesce(old.size, old.declared_size)
        WHERE state = old.state;
    UPDATE tallies SET n = n + 1, bytes = bytes + coalesce(new.size, new.declared_size)
        WHERE state = new.state;
END;
CREATE TRIGGER attachments_removed AFTER DELETE ON attachments BEGIN
    UPDATE tallies SET n = n - 1, bytes = bytes - coalesce(old.size, old.declared_size)
        WHERE state = old.state;
END;
CREATE TRIGGER attachments_name_a_post AFTER INSERT ON attachments
WHEN new.ticket_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM posts WHERE id = iif(new.post_id > 0, new.post_id, -new.ticket_id))
BEGIN
    INSERT INTO posts (id, ticket_id, created_at, note) VALUES (
        iif(new.post_id > 0, new.post_id, -new.ticket_id), new.ticket_id, new.created_at, 'not_kept'
    );
    UPDATE tickets SET posts_activity = NULL WHERE id = new.ticket_id;
END;
CREATE TRIGGER attachments_take_their_post_along AFTER UPDATE OF ticket_id, post_id ON attachments
WHEN old.ticket_id <> new.ticket_id OR old.post_id <> new.post_id
BEGIN
    UPDATE posts SET ticket_id = new.ticket_id
        WHERE id = new.post_id AND id > 0 AND ticket_id <> new.ticket_id;
    INSERT INTO posts (id, ticket_id, created_at, note)
        SELECT iif(new.post_id > 0, new.post_id, -new.ticket_id), new.ticket_id, new.created_at,
            'not_kept'
        WHERE NOT EXISTS (
            SELECT 1 FROM posts WHERE id = iif(new.post_id > 0, new.post_id, -new.ticket_id)
        );
    UPDATE tickets SET posts_activity = NULL WHERE id = new.ticket_id;
END;
CREATE TRIGGER accepted_losses_are_of_one_file
AFTER UPDATE OF filename, declared_size ON attachments
WHEN (old.filename <> new.filename AND old.filename <> '')
    OR old.declared_size <> new.declared_size
BEGIN
    DELETE FROM accepted WHERE attachment_id = new.id;
END;

CREATE VIEW ledger AS
SELECT
    a.id AS attachment_id,
    coalesce(a.ticket_id, 0) AS ticket_id,
    a.post_id,
    coalesce(n.number, CAST(a.ticket_id AS TEXT), '') AS ticket_number,
    coalesce(t.department_id, -1) AS department_id,
    coalesce(c.queue_id, m.queue_id, t.department_id, -1) AS queue_id,
    a.filename,
    a.declared_type,
    a.declared_size,
    a.size,
    a.sha256,
    b.mime_type,
    a.state,
    a.problem,
    a.detail,
    a.attempts,
    a.created_at,
    a.stored_at,
    a.kind,
    iif(
        y.attachment_id IS NOT NULL AND a.state IN ('failed', 'missing', 'gone'),
        coalesce(strftime('%Y-%m-%dT%H:%M:%SZ', y.accepted_at, 'unixepoch'), '') || ' '
            || y.accepted_by || ': ' || y.reason,
        NULL
    ) AS accepted,
    a.place
FROM attachments AS a
LEFT JOIN tickets AS t ON t.id = a.ticket_id
LEFT JOIN ticket_numbers AS n ON n.ticket_id = a.ticket_id
LEFT JOIN queues AS c ON c.department_id = t.department_id AND c.origin = 'config'
LEFT JOIN queues AS m ON m.department_id = t.department_id AND m.origin = 'command'
LEFT JOIN blobs AS b ON b.sha256 = a.sha256
LEFT JOIN accepted AS y ON y.attachment_id = a.id;

DROP VIEW headers;
CREATE VIEW headers AS
SELECT
    t.id,
    coalesce(n.number, CAST(t.id AS TEXT)) AS ticket_number,
    t.display_id,
    t.department_id,
    coalesce(c.queue_id, m.queue_id, t.department_id) AS queue_id,
    coalesce(
        c.name, m.name, d.title, iif(t.department_id = 0, 'Trash', 'Department ' || t.department_id)
    ) AS queue_name,
    t.subject,
    CASE WHEN s.resolved THEN 'closed' WHEN s.title LIKE '%hold%' THEN 'on-hold' ELSE 'open' END
        AS status,
    t.requester_name,
    t.requester_email,
    t.owner_name,
    t.created_at,
    t.last_activity,
    t.merged_into,
    t.deleted_at,
    t.user_id,
    t.organization_id,
    t.details,
    coalesce(p.title, '') AS priority,
    coalesce(y.title, '') AS type,
    coalesce(o.email, '') AS owner_email
FROM tickets AS t
LEFT JOIN labels AS p
    ON p.kind = 'priority' AND p.id = CAST(json_extract(t.details, '$.priorityid') AS INTEGER)
LEFT JOIN labels AS y
    ON y.kind = 'type' AND y.id = CAST(json_extract(t.details, '$.typeid') AS INTEGER)
LEFT JOIN labels AS o
    ON o.kind = 'staff' AND o.id = CAST(json_extract(t.details, '$.ownerstaffid') AS INTEGER)
LEFT JOIN ticket_numbers AS n ON n.ticket_id = t.id
LEFT JOIN departments AS d ON d.id = t.department_id
LEFT JOIN statuses AS s ON s.id = t.status_id
LEFT JOIN queues AS c ON c.department_id = t.department_id AND c.origin = 'config'
LEFT JOIN queues AS m ON m.department_id = t.department_id AND m.origin = 'command';
"""

# Files and notes of a target stay when their attachment goes, so they do not refer to it.
DELIVERIES = """
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL,
    ticket_id INTEGER NOT NULL,
    ticket_number TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('note', 'ticket')),
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed', 'undone')),
    marker TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    body BLOB NOT NULL,
    response_id TEXT,
    problem TEXT,
    detail TEXT,
    created_at INTEGER NOT NULL,
    delivered_at INTEGER
) STRICT;
CREATE INDEX deliveries_by_ticket ON deliveries (target, ticket_id);

CREATE TABLE delivered_files (
    target TEXT NOT NULL,
    attachment_id INTEGER NOT NULL,
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
    ticket_id INTEGER NOT NULL,
    size INTEGER NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('pending', 'delivered', 'refused', 'too_large', 'failed')),
    problem TEXT,
    detail TEXT,
    delivery_id INTEGER REFERENCES deliveries (id),
    name TEXT,
    there_id TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (target, attachment_id, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivered_files_by_delivery ON delivered_files (delivery_id)
    WHERE delivery_id IS NOT NULL;
"""

# Replies have no row in blobs: the figures of attachments are counted there.
REPLIES = """
ALTER TABLE tickets ADD COLUMN posts_reply INTEGER;
ALTER TABLE tickets ADD COLUMN fields_reply INTEGER;
CREATE INDEX tickets_unkept ON tickets (id)
    WHERE posts_reply IS NOT last_activity AND merged_into IS NULL AND deleted_at IS NULL;
CREATE TABLE replies (
    ticket_id INTEGER NOT NULL REFERENCES tickets (id),
    kind TEXT NOT NULL CHECK (kind IN ('posts', 'fields')),
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    unpacked INTEGER NOT NULL CHECK (unpacked >= 0),
    received_at INTEGER NOT NULL,
    superseded_at INTEGER,
    PRIMARY KEY (ticket_id, kind, sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX replies_by_blob ON replies (sha256, size);
"""

# A post is found by its id, a subject by the negative id of its ticket: see search.py. An upsert
# would make OR IGNORE an error.
SEARCH = """
CREATE TABLE unindexed (
    id INTEGER PRIMARY KEY,
    is_long INTEGER NOT NULL DEFAULT 0 CHECK (is_long IN (0, 1))
) STRICT;
CREATE INDEX unindexed_short ON unindexed (id) WHERE is_long = 0;
INSERT INTO unindexed (id) SELECT id FROM posts WHERE id > 0;
INSERT INTO unindexed (id) SELECT -id FROM tickets;
CREATE TRIGGER new_posts_are_to_be_indexed AFTER INSERT ON posts
WHEN new.id > 0 AND new.text <> ''
BEGIN
    INSERT INTO unindexed (id) SELECT new.id
        WHERE NOT EXISTS (SELECT 1 FROM unindexed WHERE id = new.id);
END;
CREATE TRIGGER changed_posts_are_to_be_indexed AFTER UPDATE OF text, is_html ON posts
WHEN new.id > 0 AND (new.text <> old.text OR new.is_html <> old.is_html)
BEGIN
    INSERT INTO unindexed (id) SELECT new.id
        WHERE NOT EXISTS (SELECT 1 FROM unindexed WHERE id = new.id);
END;
CREATE TRIGGER new_subjects_are_to_be_indexed AFTER INSERT ON tickets
WHEN new.subject <> ''
BEGIN
    INSERT INTO unindexed (id) SELECT -new.id
        WHERE NOT EXISTS (SELECT 1 FROM unindexed WHERE id = -new.id);
END;
CREATE TRIGGER changed_subjects_are_to_be_indexed AFTER UPDATE OF subject ON tickets
WHEN new.subject <> old.subject
BEGIN
    INSERT INTO unindexed (id) SELECT -new.id
        WHERE NOT EXISTS (SELECT 1 FROM unindexed WHERE id = -new.id);
END;
CREATE INDEX posts_by_author ON posts (lower(author_email), ticket_id) WHERE author_email <> '';
CREATE INDEX posts_of_odd_authors ON posts (author_email, ticket_id)
    WHERE length(author_email) <> length(CAST(author_email AS BLOB));
"""
# The names of those who wrote as staff, without a look at all posts.
STAFF = """
CREATE INDEX posts_of_staff ON posts (author_name, author_email) WHERE staff;
"""

# An attachment may go and what was told of it stays, so it is not referred to.
NOTICES = """
CREATE TABLE told (
    attachment_id INTEGER PRIMARY KEY,
    state TEXT NOT NULL
) STRICT;
CREATE TABLE notices (
    id TEXT NOT NULL PRIMARY KEY,
    event TEXT NOT NULL,
    command TEXT NOT NULL,
    sign TEXT NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    pending TEXT NOT NULL,
    claimed_at INTEGER
) STRICT;
CREATE INDEX attachments_lost ON attachments (id) WHERE state IN ('failed', 'missing', 'gone');
"""

# wordless are the texts in search whose words are not indexed yet. The index finds the ticket of
# a post without a look at its text.
WORDS = """
CREATE TABLE words (
    id INTEGER PRIMARY KEY,
    word TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE wordless (
    id INTEGER PRIMARY KEY
) STRICT;
CREATE INDEX posts_places ON posts (id, ticket_id);
"""

# Only where SQLite has FTS5; without an index of positions it takes a fourth of the room.
SEARCH_TABLE = """
CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5(
    text, tokenize = 'trigram case_sensitive 1', detail = 'none', columnsize = 0);
"""
WORD_PARTS_TABLE = """
CREATE VIRTUAL TABLE IF NOT EXISTS word_parts USING fts5(
    word, content = 'words', content_rowid = 'id', tokenize = 'trigram case_sensitive 1',
    detail = 'none', columnsize = 0);
"""
WORD_TEXTS_TABLE = """
CREATE VIRTUAL TABLE IF NOT EXISTS word_texts USING fts5(
    words, content = '', tokenize = 'ascii', detail = 'none', columnsize = 0);
"""


def version(checkpoint: Checkpoint) -> int:
    """Return the schema's version, 0 for an empty file.

    Raises ArchiveTooNew for one that this version of the tool does not know, and ArchiveDamaged
    for a database that is not a checkpoint.
    """
    ((found,),) = checkpoint.execute("PRAGMA user_version")
    ((owner,),) = checkpoint.execute("PRAGMA application_id")
    ((tables,),) = checkpoint.execute("SELECT count(*) FROM sqlite_master")
    if owner != APPLICATION_ID and (tables or owner or found):
        raise ArchiveDamaged(
            f"{str(checkpoint.path)!r} is a database, but not a checkpoint of this tool. "
            "Choose another archive path."
        )
    if found > VERSION:
        raise ArchiveTooNew(
            f"{str(checkpoint.path)!r} was written by a newer version of this tool (format "
            f"{found}, this one knows up to {VERSION}). Install that version or a newer one."
        )
    return int(found)


def migrate(checkpoint: Checkpoint) -> None:
    """Migrate the checkpoint to VERSION; the caller holds the run lock.

    Raises what :func:`version` raises, and the errors of writing.
    """
    if version(checkpoint) == VERSION:
        return
    from sqlite_utils.migrations import Migrations  # noqa: PLC0415 - see above

    steps = Migrations("migrator")
    for name, step in STEPS.items():
        steps(name=name)(step)
    # A table that others refer to can only be replaced while nobody looks; then all is checked.
    checkpoint.execute("PRAGMA foreign_keys = OFF")
    try:
        _apply(checkpoint, steps)
    finally:
        checkpoint.execute("PRAGMA foreign_keys = ON")


def _apply(checkpoint: Checkpoint, steps: Migrations) -> None:
    from sqlite_utils.db import Database  # noqa: PLC0415 - see above

    with checkpoint.atomic(), Border(checkpoint.path):
        steps.apply(Database(checkpoint.conn, execute_plugins=False, recursive_triggers=False))
        checkpoint.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        checkpoint.execute(f"PRAGMA user_version = {VERSION}")
        if checkpoint.execute("PRAGMA foreign_key_check"):
            raise ArchiveDamaged(
                f"{str(checkpoint.path)!r} has rows that refer to rows that are not there. It was "
                "left as it is. Bring checkpoint.db and its -wal back from a backup."
            )


def names() -> set[str]:
    """Return the names of all tables, indexes, triggers and views of VERSION."""
    found = set[str]()
    for script in (
        SCHEMA,
        SYNC,
        THREADS,
        PROOF,
        NOTES,
        DELIVERIES,
        REPLIES,
        SEARCH,
        STAFF,
        NOTICES,
        WORDS,
    ):
        for verb, name in re.findall(r"^(CREATE|DROP) \w+ (\w+)", script, re.MULTILINE):
            found = found | {name} if verb == "CREATE" else found - {name}
        for old, new in re.findall(r"^ALTER TABLE (\w+) RENAME TO (\w+)", script, re.MULTILINE):
            found = found - {old} | {new}
    return found


def _first(db: Database) -> None:
    _run(db, SCHEMA)
    rules = [(ext, "allow", "") for ext in ALLOWED.split()]
    rules += [(ext, "block", note) for note, exts in BLOCKED.items() for ext in exts.split()]
    db.conn.executemany("INSERT INTO rules (extension, verdict, note) VALUES (?, ?, ?)", rules)


def _search(db: Database) -> None:
    _run(db, SEARCH)
    if _has_fts(db):
        _run(db, SEARCH_TABLE)


def _words(db: Database) -> None:
    _run(db, WORDS)
    if list(db.query("SELECT 1 FROM sqlite_master WHERE name = 'search_content'")):
        db.execute("INSERT INTO wordless (id) SELECT id FROM search_content")
    if _has_fts(db):
        _run(db, WORD_PARTS_TABLE)
        _run(db, WORD_TEXTS_TABLE)


def _has_fts(db: Database) -> bool:
    return bool(list(db.query("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'")))


def _run(db: Database, script: str) -> None:
    for statement in _statements(script):
        db.execute(statement)


def _statements(script: str) -> list[str]:
    """Split a script into statements: executescript() would commit the transaction around it."""
    import sqlite3  # noqa: PLC0415

    found, statement = [], ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            found.append(statement)
            statement = ""
    return found


STEPS: Mapping[str, Callable[[Database], None]] = {
    "0001_first": _first,
    "0002_sync": lambda db: _run(db, SYNC),
    "0003_threads": lambda db: _run(db, THREADS),
    "0004_proof": lambda db: _run(db, PROOF),
    "0005_notes": lambda db: _run(db, NOTES),
    "0006_deliveries": lambda db: _run(db, DELIVERIES),
    "0007_replies": lambda db: _run(db, REPLIES),
    "0008_search": _search,
    "0009_staff": lambda db: _run(db, STAFF),
    "0010_notices": lambda db: _run(db, NOTICES),
    "0011_words": _words,
}
"""The migrations, by their names in the checkpoint."""
