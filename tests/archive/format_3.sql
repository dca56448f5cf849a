PRAGMA application_id = 0x4D694B54;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'migrator','0001_first','2026-11-28 17:00:15.897522+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'migrator','0002_sync','2026-11-28 17:00:15.898290+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'migrator','0003_threads','2026-11-28 17:00:15.901789+00:00');
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
INSERT INTO "attachments" VALUES(1,19,26,'Logo (final).GIF','image/gif',76738,1546382743,NULL,'failed','server_error','attachment 1 of ticket 19: the server failed (HTTP 500).',4,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(2,19,26,'Invoice 2019-117.pdf','application/pdf',7750,1546384251,NULL,'missing','source_lost_file','Kayako lists 7,750 bytes but has lost the file: its reply is empty',2,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(3,12,11,'logs.zip','application/zip',26961,1546339661,NULL,'failed','memory_exhausted','attachment 3 of ticket 12: PHP ran out of memory building the reply. Raise memory_limit in the helpdesk''s php.ini, then run again.',1,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(5,18,1,'Lettre à M. Dupré.docx','application/vnd.openxmlformats-officedocument.wordprocessingml.document',1115,1546304419,NULL,'stored',NULL,NULL,2,'6f8d38adeb520d65dd27743bcb3e5a118445ee56a444fa3fd012ca8fd7fd7b95',1115,1795885217,1,1);
INSERT INTO "attachments" VALUES(6,12,12,'.htaccess','application/octet-stream',9358,1546341985,NULL,'stored',NULL,NULL,1,'d948d730db2a7b26a98f943f4b2d14da1db3030c172e6df33f3efa3332c4fedb',9358,1795885216,1,1);
INSERT INTO "attachments" VALUES(7,16,21,'error.log','text/log',18234,1546361885,NULL,'failed','not_xml','attachment 7 of ticket 16: the reply is not the expected XML. It begins: Uncaught Exception Router: /Tickets/TicketAttachment Unable to load attachment chunk in .../class.SWIFT_Attachment.php:418 ============================================================================…',4,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(8,19,26,'export;2019.csv','application/octet-stream',7732,1546381618,NULL,'missing','source_lost_file','Kayako lists 7,732 bytes but has lost the file: its reply is empty',2,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(9,6,4,'image003.png','image/png',532,1546316969,NULL,'stored',NULL,NULL,1,'8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,1795885216,1,1);
INSERT INTO "attachments" VALUES(13,15,17,'ListAll.xml','text/xml',106591,1546356955,NULL,'stored',NULL,NULL,1,'8d1e37704aaada8613a1d03bdaadc9af8c7e9b0c0a5aef9e546a2070c36b5d89',106591,1795885218,1,1);
INSERT INTO "attachments" VALUES(14,15,17,'Fwd: order.eml','application/octet-stream',12601,1546357328,NULL,'stored',NULL,NULL,2,'859eea82c131a917b155b943a154d5e3ec42e807cf62f147801e113479f12bc6',12601,1795885217,1,1);
INSERT INTO "attachments" VALUES(15,16,20,'TeamViewer QS.EXE','application/executableFile',3136,1546359835,NULL,'stored',NULL,NULL,2,'b758d15f6b0f862af088dab259d9aa3342b770bc49a14e52bd6fcaaa36b1c42a',3136,1795885217,1,1);
INSERT INTO "attachments" VALUES(16,12,11,'untitled','application/octet-stream',0,1546339590,NULL,'stored',NULL,NULL,1,'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',0,1795885216,1,1);
INSERT INTO "attachments" VALUES(17,17,22,'README','application/octet-stream',40715,1546368053,NULL,'stored',NULL,NULL,1,'9b9866e2a9d30612bc733bc21bd98a3fec289e1b6d9e511dee3abf2863062df0',40715,1795885216,1,1);
INSERT INTO "attachments" VALUES(19,12,11,'image002.png','image/png',532,1546341211,NULL,'stored',NULL,NULL,1,'8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,1795885216,1,1);
INSERT INTO "attachments" VALUES(25,19,26,'manual.v2.PDF','application/pdf',2809,1546381892,NULL,'stored','size_mismatch','the source names 2,809 bytes and sends 2,732, the same ones twice',2,'66a41050bdba5329124ddd45576ab8738d4ff0cda9ff06a2bbe13114d253b0c2',2732,1795885217,1,1);
INSERT INTO "attachments" VALUES(33,12,12,'..','application/octet-stream',8182,1546339966,NULL,'stored',NULL,NULL,1,'2131a19b9fb086a2bcd0dbca6dc1b20688686d27ee564715ad9bf7fb3dfcd2f6',8182,1795885216,1,1);
INSERT INTO "attachments" VALUES(34,12,12,'kern.log.1','application/octet-stream',21108,1546339986,NULL,'stored',NULL,NULL,2,'4bff5c3dab07225e200fda411cac0c2f90cfab0559938415b6e04c7c29c59b21',21108,1795885217,1,1);
INSERT INTO "attachments" VALUES(35,12,12,'orders.csv','application/octet-stream',20145,1546341305,NULL,'stored',NULL,NULL,2,'aa0de4eadee350f32e4f090272359bd8f2a46a91a2922770f7298782967f2b0f',20145,1795885217,1,1);
INSERT INTO "attachments" VALUES(36,15,17,'mail.html','text/html',32814,1546358203,NULL,'stored',NULL,NULL,3,'70606949ff3d65f5655d9281362fe2116f5e3bd5217d157b1d609e90b9065cc2',32814,1795885218,1,1);
INSERT INTO "attachments" VALUES(37,10,6,'image001.png','image/png',532,1546327000,NULL,'stored',NULL,NULL,1,'8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,1795885216,1,1);
INSERT INTO "attachments" VALUES(43,12,12,'-rf','application/octet-stream',74086,1546341349,NULL,'stored',NULL,NULL,1,'1eb7df15e86553f9e16ef54471ff931b70a7d7de30d9838cac00e79ae17dc700',74086,1795885216,1,1);
INSERT INTO "attachments" VALUES(44,18,25,'api-reply.xml','text/xml',12751,1546376652,NULL,'failed','truncated','attachment 44 of ticket 18: the reply ends in the middle of its document.',4,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(46,16,18,'TeamViewer QS.EXE','application/executableFile',21109,1546362440,NULL,'stored',NULL,NULL,1,'bc4d10b5cb267a3f65fd3ee022419aad7b2fef04d55c803a89714abb48336048',21109,1795885217,1,1);
INSERT INTO "attachments" VALUES(47,17,22,'untitled','application/octet-stream',0,1546370809,NULL,'stored',NULL,NULL,1,'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',0,1795885216,1,1);
INSERT INTO "attachments" VALUES(54,12,11,'Logo (final).GIF','image/gif',3346,1546340147,NULL,'failed','not_xml','attachment 54 of ticket 12: the reply is not the expected XML. It begins: Login Username',4,NULL,NULL,NULL,1,1);
INSERT INTO "attachments" VALUES(56,12,11,'image003.png','image/png',532,1546342080,NULL,'stored',NULL,NULL,1,'8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,1795885216,1,1);
INSERT INTO "attachments" VALUES(68,19,26,'Complaint.docx','application/vnd.openxmlformats-officedocument.wordprocessingml.document',10101,1546383970,NULL,'stored','noise_around_xml','text stood before or after the XML of the reply',1,'fab1e56f20993cee5e14e6f321b152f374e481fa8e265c74581267824d5f2c4b',10101,1795885217,1,1);
INSERT INTO "attachments" VALUES(69,12,12,'👩‍👧 holiday.png','image/png',66524,1546341243,NULL,'stored',NULL,NULL,1,'23775c2f222b35f75e5c27432c1a13d9293ba887fe5bc35ddc3d59c08e549279',66524,1795885216,1,1);
INSERT INTO "attachments" VALUES(71,6,4,'error.log','text/log',18506,1546316992,NULL,'stored','size_mismatch','the source names 18,506 bytes and sends 12,337, the same ones twice',2,'698633f82c668d8d5c1a91ffa7c24e4b9d6adedc5913ade86c19c753a3b76aff',12337,1795885216,1,1);
INSERT INTO "attachments" VALUES(74,12,12,'page.htm','text/html',14815,1546341950,NULL,'stored',NULL,NULL,2,'998af332ece3858198d8c9fec5533b1510f4e3e4db7ee77289e77b7710a69952',14815,1795885217,1,1);
INSERT INTO "attachments" VALUES(80,12,11,'attachment.json','application/octet-stream',10822,1546341026,NULL,'stored','noise_around_xml','text stood before or after the XML of the reply',1,'a3918bbd09284b8a67c6e009ab7cc1fba2054334366eaea88dfdff8353cab389',10822,1795885216,1,1);
INSERT INTO "attachments" VALUES(82,12,11,'image002.png','image/png',532,1546340576,NULL,'stored',NULL,NULL,1,'8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,1795885216,1,1);
CREATE TABLE blobs (
    sha256 TEXT NOT NULL PRIMARY KEY CHECK (length(sha256) = 64),
    size INTEGER NOT NULL CHECK (size >= 0),
    mime_type TEXT NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "blobs" VALUES('1eb7df15e86553f9e16ef54471ff931b70a7d7de30d9838cac00e79ae17dc700',74086,'text/xml',1795885216);
INSERT INTO "blobs" VALUES('2131a19b9fb086a2bcd0dbca6dc1b20688686d27ee564715ad9bf7fb3dfcd2f6',8182,'text/plain',1795885216);
INSERT INTO "blobs" VALUES('23775c2f222b35f75e5c27432c1a13d9293ba887fe5bc35ddc3d59c08e549279',66524,'text/plain',1795885216);
INSERT INTO "blobs" VALUES('4bff5c3dab07225e200fda411cac0c2f90cfab0559938415b6e04c7c29c59b21',21108,'text/plain',1795885217);
INSERT INTO "blobs" VALUES('66a41050bdba5329124ddd45576ab8738d4ff0cda9ff06a2bbe13114d253b0c2',2732,'application/pdf',1795885217);
INSERT INTO "blobs" VALUES('698633f82c668d8d5c1a91ffa7c24e4b9d6adedc5913ade86c19c753a3b76aff',12337,'text/plain',1795885216);
INSERT INTO "blobs" VALUES('6f8d38adeb520d65dd27743bcb3e5a118445ee56a444fa3fd012ca8fd7fd7b95',1115,'application/vnd.openxmlformats-officedocument.wordprocessingml.document',1795885217);
INSERT INTO "blobs" VALUES('70606949ff3d65f5655d9281362fe2116f5e3bd5217d157b1d609e90b9065cc2',32814,'text/html',1795885218);
INSERT INTO "blobs" VALUES('859eea82c131a917b155b943a154d5e3ec42e807cf62f147801e113479f12bc6',12601,'message/rfc822',1795885217);
INSERT INTO "blobs" VALUES('8d1e37704aaada8613a1d03bdaadc9af8c7e9b0c0a5aef9e546a2070c36b5d89',106591,'text/xml',1795885218);
INSERT INTO "blobs" VALUES('8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,'image/png',1795885216);
INSERT INTO "blobs" VALUES('998af332ece3858198d8c9fec5533b1510f4e3e4db7ee77289e77b7710a69952',14815,'text/html',1795885217);
INSERT INTO "blobs" VALUES('9b9866e2a9d30612bc733bc21bd98a3fec289e1b6d9e511dee3abf2863062df0',40715,'image/png',1795885216);
INSERT INTO "blobs" VALUES('a3918bbd09284b8a67c6e009ab7cc1fba2054334366eaea88dfdff8353cab389',10822,'application/json',1795885216);
INSERT INTO "blobs" VALUES('aa0de4eadee350f32e4f090272359bd8f2a46a91a2922770f7298782967f2b0f',20145,'text/plain',1795885217);
INSERT INTO "blobs" VALUES('b758d15f6b0f862af088dab259d9aa3342b770bc49a14e52bd6fcaaa36b1c42a',3136,'application/x-dosexec',1795885217);
INSERT INTO "blobs" VALUES('bc4d10b5cb267a3f65fd3ee022419aad7b2fef04d55c803a89714abb48336048',21109,'application/x-dosexec',1795885217);
INSERT INTO "blobs" VALUES('d948d730db2a7b26a98f943f4b2d14da1db3030c172e6df33f3efa3332c4fedb',9358,'text/plain',1795885216);
INSERT INTO "blobs" VALUES('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',0,'application/x-empty',1795885216);
INSERT INTO "blobs" VALUES('fab1e56f20993cee5e14e6f321b152f374e481fa8e265c74581267824d5f2c4b',10101,'application/vnd.openxmlformats-officedocument.wordprocessingml.document',1795885217);
CREATE TABLE departments (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    app TEXT NOT NULL
) STRICT;
INSERT INTO "departments" VALUES(1,'Support','tickets');
INSERT INTO "departments" VALUES(2,'Sales & Orders','tickets');
INSERT INTO "departments" VALUES(3,'Live Chat','livechat');
INSERT INTO "departments" VALUES(4,'Rücksendungen','tickets');
INSERT INTO "departments" VALUES(5,'Hardware','tickets');
CREATE TABLE marks (
    name TEXT NOT NULL PRIMARY KEY CHECK (name IN ('watermark', 'full_pass', 'success')),
    value INTEGER NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "marks" VALUES('full_pass',1795885215,1,1795885220);
INSERT INTO "marks" VALUES('success',1795885220,1,1795885220);
INSERT INTO "marks" VALUES('watermark',1546459626,1,1795885220);
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
INSERT INTO "posts" VALUES(1,18,1546303131,'<script>','user1@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(4,6,1546316154,'José','user3@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(5,10,1546324128,'山田 太郎','user7@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(6,10,1546324728,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(7,11,1546329954,'Jane Doe','user1@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(8,11,1546330554,'Jane Staff','staff@help.example.com',1,0,1,NULL,'<img src="cid:image001.png@01D4A0"> see');
INSERT INTO "posts" VALUES(9,11,1546331154,'Jane Doe','user1@example.com',0,0,1,NULL,'<img src="cid:image001.png@01D4A0"> see');
INSERT INTO "posts" VALUES(10,11,1546331754,'Jane Staff','staff@help.example.com',1,1,1,NULL,'<img src="cid:image001.png@01D4A0"> see');
INSERT INTO "posts" VALUES(11,12,1546339010,'<script>','user1@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(12,12,1546339610,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(13,14,1546344229,'山田 太郎','user1@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(14,14,1546344829,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(15,14,1546345429,'山田 太郎','user1@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(16,14,1546346029,'Jane Staff','staff@help.example.com',1,1,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(17,15,1546354726,'Jane Doe','user1@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(18,16,1546359422,'Ömer Şahin','user5@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(19,16,1546360022,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(20,16,1546360622,'Ömer Şahin','user5@example.com',0,0,1,NULL,'<img src="cid:image001.png@01D4A0"> see');
INSERT INTO "posts" VALUES(21,16,1546361222,'Jane Staff','staff@help.example.com',1,1,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(22,17,1546367324,'Ömer Şahin','user7@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(23,18,1546374625,'<script>','user1@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(24,18,1546375225,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(25,18,1546375825,'<script>','user1@example.com',0,0,0,NULL,'It is broken.
Please help.');
INSERT INTO "posts" VALUES(26,19,1546380868,'<script>','user3@example.com',0,0,0,NULL,'It is broken.
Please help.');
CREATE TABLE queues (
    department_id INTEGER NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('config', 'command')),
    queue_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (department_id, origin)
) STRICT, WITHOUT ROWID;
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
INSERT INTO "runs" VALUES(1,'run','https://help.example.com/api/index.php','{"departments": null, "since": 0, "limit_tickets": null, "include_trash": false}',1795885215,1795885220,3,'{"tickets": 10, "unlisted": {}, "unreadable": {}, "short": 0, "deleted": 0, "threads": 11, "threads_missing": {}, "ended_by": null, "seconds": 4.162}');
CREATE TABLE statuses (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    department_id INTEGER NOT NULL,
    resolved INTEGER NOT NULL CHECK (resolved IN (0, 1))
) STRICT;
INSERT INTO "statuses" VALUES(1,'Open',0,0);
INSERT INTO "statuses" VALUES(2,'On Hold',0,0);
INSERT INTO "statuses" VALUES(3,'Closed',0,1);
INSERT INTO "statuses" VALUES(4,'Waiting for parcel',4,0);
INSERT INTO "statuses" VALUES(5,'Refunded',4,1);
CREATE TABLE tallies (
    state TEXT NOT NULL PRIMARY KEY,
    n INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "tallies" VALUES('deleted',0,0);
INSERT INTO "tallies" VALUES('failed',5,138030);
INSERT INTO "tallies" VALUES('gone',0,0);
INSERT INTO "tallies" VALUES('missing',2,15482);
INSERT INTO "tallies" VALUES('pending',0,0);
INSERT INTO "tallies" VALUES('stored',25,470951);
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
, deleted_at INTEGER, status_id INTEGER NOT NULL DEFAULT 0, requester_name TEXT NOT NULL DEFAULT '', requester_email TEXT NOT NULL DEFAULT '', owner_name TEXT NOT NULL DEFAULT '', posts_activity INTEGER, posts_run INTEGER REFERENCES runs (id)) STRICT;
INSERT INTO "tickets" VALUES(1,5,'','',0,0,18,NULL,NULL,0,'','','',NULL,NULL);
INSERT INTO "tickets" VALUES(6,4,'GFL-296-02816','CDATA ]]> in a subject',1546316154,1546329261,NULL,1,NULL,3,'José','user3@example.com','Jane Staff',1546329261,1);
INSERT INTO "tickets" VALUES(10,2,'HPW-866-66228','Printer does not print',1546324128,1546355944,NULL,1,NULL,3,'山田 太郎','user7@example.com','Jane Staff',1546355944,1);
INSERT INTO "tickets" VALUES(11,5,'RCE-860-51544','order and tabs',1546329954,1546391468,NULL,1,NULL,3,'Jane Doe','user1@example.com','Jane Staff',1546391468,1);
INSERT INTO "tickets" VALUES(12,2,'KIW-361-60179','order and tabs',1546339010,1546418825,NULL,1,NULL,2,'<script>','user1@example.com','Jane Staff',1546418825,1);
INSERT INTO "tickets" VALUES(14,5,'WOF-516-54185','Re: Re: AW: <b>urgent</b> & important',1546344229,1546389590,NULL,1,NULL,3,'山田 太郎','user1@example.com','Jane Staff',1546389590,1);
INSERT INTO "tickets" VALUES(15,1,'UUV-261-04254','order and tabs',1546354726,1546365635,NULL,1,NULL,1,'Jane Doe','user1@example.com','Jane Staff',1546365635,1);
INSERT INTO "tickets" VALUES(16,4,'CQI-071-21950','CDATA ]]> in a subject',1546359422,1546445491,NULL,1,NULL,3,'Ömer Şahin','user5@example.com','Jane Staff',1546445491,1);
INSERT INTO "tickets" VALUES(17,2,'GGS-214-79383','Printer does not print',1546367324,1546369665,NULL,1,NULL,3,'Ömer Şahin','user7@example.com','Jane Staff',1546369665,1);
INSERT INTO "tickets" VALUES(18,5,'OFZ-816-91101','Bestellung 4711: Lieferung unvollständig',1546374625,1546459626,NULL,1,NULL,3,'<script>','user1@example.com','Jane Staff',1546459626,1);
INSERT INTO "tickets" VALUES(19,1,'HWI-961-39043','返品について',1546380868,1546413945,NULL,1,NULL,1,'<script>','user3@example.com','',1546413945,1);
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
CREATE INDEX tickets_by_department ON tickets (department_id, last_activity, id);
CREATE INDEX tickets_by_activity ON tickets (last_activity, id);
CREATE INDEX tickets_by_display_id ON tickets (display_id);
CREATE INDEX tickets_unread ON tickets (id)
    WHERE posts_activity IS NOT last_activity AND merged_into IS NULL AND deleted_at IS NULL;
CREATE INDEX posts_by_ticket ON posts (ticket_id, created_at, id);
CREATE INDEX posts_by_time ON posts (created_at, id, ticket_id);
CREATE INDEX attachments_by_response ON attachments (iif(post_id > 0, post_id, -ticket_id));
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
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tokens',1);
COMMIT;
