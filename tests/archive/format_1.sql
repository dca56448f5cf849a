PRAGMA application_id = 0x4D694B54;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'migrator','0001_first','2023-11-14 22:13:20+00:00');
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
INSERT INTO "attachments" VALUES(1,10,5,'1.txt','text/plain',3,1600000000,NULL,'stored',NULL,NULL,1,'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',3,1700000000,1,1);
INSERT INTO "attachments" VALUES(2,10,5,'2.txt','text/plain',3,1600000000,NULL,'failed','server_error','HTTP 500',1,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(3,10,5,'3.txt','text/plain',3,1600000000,NULL,'missing','source_lost_file','no bytes',1,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(4,10,5,'4.txt','text/plain',3,1600000000,NULL,'gone','not_found','not there',1,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(5,10,5,'5.txt','text/plain',3,1600000000,NULL,'pending',NULL,NULL,0,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(6,10,5,'6.txt','text/plain',3,1600000000,NULL,'deleted',NULL,'the source deleted it',1,'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',3,1700000000,1,1);
CREATE TABLE blobs (
    sha256 TEXT NOT NULL PRIMARY KEY CHECK (length(sha256) = 64),
    size INTEGER NOT NULL CHECK (size >= 0),
    mime_type TEXT NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "blobs" VALUES('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',3,'text/plain',1700000000);
CREATE TABLE departments (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    app TEXT NOT NULL
) STRICT;
INSERT INTO "departments" VALUES(1,'Support','tickets');
CREATE TABLE queues (
    department_id INTEGER NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('config', 'command')),
    queue_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (department_id, origin)
) STRICT, WITHOUT ROWID;
INSERT INTO "queues" VALUES(1,'command',12,'Sales');
CREATE TABLE rules (
    extension TEXT NOT NULL PRIMARY KEY,
    verdict TEXT NOT NULL CHECK (verdict IN ('allow', 'block')),
    note TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
INSERT INTO "rules" VALUES('7z','allow','');
INSERT INTO "rules" VALUES('apk','block','program');
INSERT INTO "rules" VALUES('app','block','program');
INSERT INTO "rules" VALUES('bash','block','script');
INSERT INTO "rules" VALUES('bat','block','program');
INSERT INTO "rules" VALUES('bin','block','program');
INSERT INTO "rules" VALUES('bmp','allow','');
INSERT INTO "rules" VALUES('cmd','block','program');
INSERT INTO "rules" VALUES('com','block','program');
INSERT INTO "rules" VALUES('cpl','block','program');
INSERT INTO "rules" VALUES('csh','block','script');
INSERT INTO "rules" VALUES('csv','allow','');
INSERT INTO "rules" VALUES('deb','block','program');
INSERT INTO "rules" VALUES('dll','block','program');
INSERT INTO "rules" VALUES('dmg','block','program');
INSERT INTO "rules" VALUES('doc','allow','');
INSERT INTO "rules" VALUES('docm','block','office format with macros');
INSERT INTO "rules" VALUES('docx','allow','');
INSERT INTO "rules" VALUES('dotm','block','office format with macros');
INSERT INTO "rules" VALUES('exe','block','program');
INSERT INTO "rules" VALUES('gadget','block','program');
INSERT INTO "rules" VALUES('gif','allow','');
INSERT INTO "rules" VALUES('hta','block','script');
INSERT INTO "rules" VALUES('jar','block','program');
INSERT INTO "rules" VALUES('jpeg','allow','');
INSERT INTO "rules" VALUES('jpg','allow','');
INSERT INTO "rules" VALUES('js','block','script');
INSERT INTO "rules" VALUES('jse','block','script');
INSERT INTO "rules" VALUES('ksh','block','script');
INSERT INTO "rules" VALUES('lnk','block','program');
INSERT INTO "rules" VALUES('mjs','block','script');
INSERT INTO "rules" VALUES('msi','block','program');
INSERT INTO "rules" VALUES('msp','block','program');
INSERT INTO "rules" VALUES('mst','block','program');
INSERT INTO "rules" VALUES('pdf','allow','');
INSERT INTO "rules" VALUES('pif','block','program');
INSERT INTO "rules" VALUES('pkg','block','program');
INSERT INTO "rules" VALUES('png','allow','');
INSERT INTO "rules" VALUES('potm','block','office format with macros');
INSERT INTO "rules" VALUES('ppam','block','office format with macros');
INSERT INTO "rules" VALUES('ppsm','block','office format with macros');
INSERT INTO "rules" VALUES('ppt','allow','');
INSERT INTO "rules" VALUES('pptm','block','office format with macros');
INSERT INTO "rules" VALUES('pptx','allow','');
INSERT INTO "rules" VALUES('ps1','block','program');
INSERT INTO "rules" VALUES('ps1xml','block','script');
INSERT INTO "rules" VALUES('ps2','block','script');
INSERT INTO "rules" VALUES('psc1','block','script');
INSERT INTO "rules" VALUES('psd1','block','script');
INSERT INTO "rules" VALUES('psm1','block','script');
INSERT INTO "rules" VALUES('reg','block','program');
INSERT INTO "rules" VALUES('rpm','block','program');
INSERT INTO "rules" VALUES('rtf','allow','');
INSERT INTO "rules" VALUES('run','block','program');
INSERT INTO "rules" VALUES('scr','block','program');
INSERT INTO "rules" VALUES('sct','block','script');
INSERT INTO "rules" VALUES('sh','block','script');
INSERT INTO "rules" VALUES('sldm','block','office format with macros');
INSERT INTO "rules" VALUES('svg','allow','');
INSERT INTO "rules" VALUES('txt','allow','');
INSERT INTO "rules" VALUES('url','block','script');
INSERT INTO "rules" VALUES('vb','block','script');
INSERT INTO "rules" VALUES('vbe','block','script');
INSERT INTO "rules" VALUES('vbs','block','script');
INSERT INTO "rules" VALUES('webp','allow','');
INSERT INTO "rules" VALUES('ws','block','script');
INSERT INTO "rules" VALUES('wsc','block','script');
INSERT INTO "rules" VALUES('wsf','block','script');
INSERT INTO "rules" VALUES('wsh','block','script');
INSERT INTO "rules" VALUES('xlam','block','office format with macros');
INSERT INTO "rules" VALUES('xll','block','office format with macros');
INSERT INTO "rules" VALUES('xls','allow','');
INSERT INTO "rules" VALUES('xlsb','block','office format with macros');
INSERT INTO "rules" VALUES('xlsm','block','office format with macros');
INSERT INTO "rules" VALUES('xlsx','allow','');
INSERT INTO "rules" VALUES('xltm','block','office format with macros');
INSERT INTO "rules" VALUES('zip','allow','');
INSERT INTO "rules" VALUES('zsh','block','script');
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
INSERT INTO "runs" VALUES(1,'run','https://help.example.com/api/index.php','{"include_trash": false}',1700000000,1700000000,3,'{"tickets": 2}');
CREATE TABLE tallies (
    state TEXT NOT NULL PRIMARY KEY,
    n INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "tallies" VALUES('deleted',1,3);
INSERT INTO "tallies" VALUES('failed',1,3);
INSERT INTO "tallies" VALUES('gone',1,3);
INSERT INTO "tallies" VALUES('missing',1,3);
INSERT INTO "tallies" VALUES('pending',1,3);
INSERT INTO "tallies" VALUES('stored',1,3);
CREATE TABLE ticket_numbers (
    ticket_id INTEGER PRIMARY KEY,
    number TEXT NOT NULL UNIQUE
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
INSERT INTO "tickets" VALUES(10,1,'ABC-123-45678','A subject',1600000000,1650000000,NULL,1);
INSERT INTO "tickets" VALUES(11,1,'','',0,0,10,NULL);
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
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX tickets_by_department ON tickets (department_id);
CREATE INDEX attachments_by_ticket ON attachments (ticket_id);
CREATE INDEX attachments_by_blob ON attachments (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX attachments_unfinished ON attachments (id) WHERE state IN ('pending', 'failed');
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
COMMIT;
