PRAGMA application_id = 0x4D694B54;
PRAGMA user_version = 5;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'migrator','0001_first','2026-11-28 22:42:11.623391+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'migrator','0002_sync','2026-11-28 22:42:11.624154+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'migrator','0003_threads','2026-11-28 22:42:11.631874+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'migrator','0004_proof','2026-11-28 22:42:11.640398+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'migrator','0005_notes','2026-11-29 01:41:53.286236+00:00');
CREATE TABLE accepted (
    attachment_id INTEGER PRIMARY KEY REFERENCES attachments (id),
    accepted_at INTEGER NOT NULL,
    accepted_by TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
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
CREATE TABLE "attachments" (
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
INSERT INTO "attachments" VALUES(2,2,5,'Logo (final).GIF','image/gif',29799,1546313260,NULL,'stored',NULL,NULL,1,'ba898780157d9e8262bf59c969413ca03b44ecb6e1e1b581b59d1e51fcbc89a8',29799,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(3,8,19,'請求書.pdf','application/pdf',6982,1546338742,NULL,'stored',NULL,NULL,1,'2edfd220d11a4c207cbc286d7f4bcad0346cf238e2c2391d4dca1893ba931ecc',6982,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(4,2,6,'logs.zip','application/zip',6627,1546310738,NULL,'stored',NULL,NULL,1,'24486cb374ab2e103e6ac9825b7c90719c213ffd6558c6dd0269861451aed7c9',6627,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(5,7,18,'Complaint.docx','application/vnd.openxmlformats-officedocument.wordprocessingml.document',3017,1546333268,NULL,'stored',NULL,NULL,1,'457311364b47a3a72e92ef5cc57486e1849099c3254a76ab7316de9cb8ec4ee2',3017,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(7,2,7,'.htaccess','application/octet-stream',2648,1546311795,NULL,'stored',NULL,NULL,1,'3b780c3af949c1876557654b3dabfaebf823a2d2ef4d4495d34a21548f7578bd',2648,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(9,2,8,'kern.log.1','application/octet-stream',17094,1546310745,NULL,'stored',NULL,NULL,1,'21229e70f89177a5de8dcd19417178d386fb271630a0438e48587aa692740430',17094,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(11,7,18,'orders.csv','application/octet-stream',79830,1546333389,NULL,'stored',NULL,NULL,1,'da51812c7003ea811c6660985017de83854a3ee72ace49cfd946ec1c0358312c',79830,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(17,2,7,'image003.png','image/png',532,1546311783,NULL,'stored',NULL,NULL,1,'8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(23,7,17,'har.json','application/octet-stream',7747,1546330774,NULL,'stored',NULL,NULL,1,'475aae45604754e2d83a374109b7b94f98dc84cdb9e8ad35f879e65f7dea29b0',7747,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(24,2,7,'he said "hi".txt','text/plain',24303,1546312661,NULL,'stored',NULL,NULL,1,'c13cb905833ccfce08866a134536c86e86d89e96940a8f956b992ad1b9a9e85d',24303,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(25,5,15,'api-reply.xml','text/xml',30619,1546328722,NULL,'stored',NULL,NULL,1,'7d496259210bcde1a151074fc922c3486597dff6f8ed13df7db1797fe49d30bc',30619,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(26,2,5,'message.eml','application/octet-stream',17328,1546312789,NULL,'stored',NULL,NULL,1,'b8ddf4166287441e9d353b4190ea69c28f440463c0fd4b425597fa2bb98a81de',17328,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(27,2,8,'setup.exe','application/executableFile',116664,1546311700,NULL,'stored',NULL,NULL,1,'3f58b6c064029a6b1c8dcf3138d1dd52fa8ccbf7eaa88ede6ffbf87f6d4dc825',116664,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(28,4,9,'empty.txt','text/plain',0,1546317006,NULL,'stored',NULL,NULL,1,'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',0,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(29,2,8,'a/b/c.txt','text/plain',3988,1546312711,NULL,'stored',NULL,NULL,1,'de45f19f739e20934743d3f6c935e625acb52746fabaa3ace5894620319f1995',3988,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(30,2,7,'image002.png','image/png',532,1546311243,NULL,'stored',NULL,NULL,1,'8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(31,7,16,'manual.v2.PDF','application/pdf',5748,1546331047,NULL,'stored',NULL,NULL,1,'061da467f14a3234421679eb3f5d95436e55bb4bf19e52739585953730290622',5748,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(33,1,1,'UPDD Diag.zip','application/zip',110802,1546306484,NULL,'stored',NULL,NULL,1,'47d2e9eca7be9c15940c92a9e5d8997d14a8cbc504f82b1b0764965e8db53471',110802,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(39,2,5,'Lettre à M. Dupré.docx','application/vnd.openxmlformats-officedocument.wordprocessingml.document',25116,1546312157,NULL,'stored',NULL,NULL,1,'3ac04735e131736a325b35bb6d00d6c2f4c691ea988a727fc883c2aa8325f93d',25116,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(41,7,18,'README','application/octet-stream',31887,1546333075,NULL,'stored',NULL,NULL,1,'7353b1d1061c465ba26ba603f28d5a8dc2d34e3046f2c654ce788d9c44f16f45',31887,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(47,5,14,'error.log','text/log',18192,1546325486,NULL,'stored',NULL,NULL,1,'ae9acace955ddd9f24768c9d939816af97d339ae9a41d4653332eca2b72ed4f0',18192,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(48,2,7,'orders.csv','application/octet-stream',8686,1546312889,NULL,'stored',NULL,NULL,1,'56d4ea48e6a792baa80f33fa0b74272218594711dd9df574f182b19fa6fa7d01',8686,1795905731,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(49,7,18,'page.htm','text/html',2100,1546332271,NULL,'stored',NULL,NULL,1,'d6ec1cf1de2a62cada5384affba927092ce58912733e1393d7d06714568fea56',2100,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(50,7,18,'image001.png','image/png',532,1546333286,NULL,'stored',NULL,NULL,1,'8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(52,5,15,'Café (NFD).txt','text/plain',45167,1546325374,NULL,'stored',NULL,NULL,1,'12ba47b090807a92adcf56a303d47afeadc9f5039a1a179f3c22f2f8e2a7c2ad',45167,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(53,2,5,'api-reply.xml','text/xml',67495,1546310704,NULL,'stored',NULL,NULL,1,'0898a4af69e0747a19ad122f03c6184973662b526027292f2d9d073bb88ef1ac',67495,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(54,7,18,'message.eml','application/octet-stream',157116,1546330110,NULL,'stored',NULL,NULL,1,'fddb49a06b9974ca559e3fc37b9f3d1b29783e21f162c5a01bf28f77e2e7e9e1',157116,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(55,1,1,'setup.exe','application/executableFile',21637,1546305493,NULL,'stored',NULL,NULL,1,'c94851679bc12e16fa7918b956830ab9a3a57b57cc159fc2eb6237d5ab93157e',21637,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(56,2,6,'empty.txt','text/plain',0,1546311336,NULL,'stored',NULL,NULL,1,'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',0,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
INSERT INTO "attachments" VALUES(57,4,12,'CON.txt','text/plain',15066,1546318322,NULL,'stored',NULL,NULL,1,'cd01752887a5a3c72b8e345e9f72b0456561fc1e7c679c30921d407599b5f306',15066,1795905732,1,1,'post',0,NULL,NULL,NULL,'');
CREATE TABLE blobs (
    sha256 TEXT NOT NULL PRIMARY KEY CHECK (length(sha256) = 64),
    size INTEGER NOT NULL CHECK (size >= 0),
    mime_type TEXT NOT NULL,
    stored_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "blobs" VALUES('061da467f14a3234421679eb3f5d95436e55bb4bf19e52739585953730290622',5748,'application/pdf',1795905732);
INSERT INTO "blobs" VALUES('0898a4af69e0747a19ad122f03c6184973662b526027292f2d9d073bb88ef1ac',67495,'text/xml',1795905732);
INSERT INTO "blobs" VALUES('12ba47b090807a92adcf56a303d47afeadc9f5039a1a179f3c22f2f8e2a7c2ad',45167,'text/xml',1795905732);
INSERT INTO "blobs" VALUES('21229e70f89177a5de8dcd19417178d386fb271630a0438e48587aa692740430',17094,'text/plain',1795905731);
INSERT INTO "blobs" VALUES('24486cb374ab2e103e6ac9825b7c90719c213ffd6558c6dd0269861451aed7c9',6627,'application/zip',1795905731);
INSERT INTO "blobs" VALUES('2edfd220d11a4c207cbc286d7f4bcad0346cf238e2c2391d4dca1893ba931ecc',6982,'application/pdf',1795905732);
INSERT INTO "blobs" VALUES('3ac04735e131736a325b35bb6d00d6c2f4c691ea988a727fc883c2aa8325f93d',25116,'application/vnd.openxmlformats-officedocument.wordprocessingml.document',1795905731);
INSERT INTO "blobs" VALUES('3b780c3af949c1876557654b3dabfaebf823a2d2ef4d4495d34a21548f7578bd',2648,'text/plain',1795905731);
INSERT INTO "blobs" VALUES('3f58b6c064029a6b1c8dcf3138d1dd52fa8ccbf7eaa88ede6ffbf87f6d4dc825',116664,'application/x-dosexec',1795905731);
INSERT INTO "blobs" VALUES('457311364b47a3a72e92ef5cc57486e1849099c3254a76ab7316de9cb8ec4ee2',3017,'application/vnd.openxmlformats-officedocument.wordprocessingml.document',1795905732);
INSERT INTO "blobs" VALUES('475aae45604754e2d83a374109b7b94f98dc84cdb9e8ad35f879e65f7dea29b0',7747,'application/json',1795905732);
INSERT INTO "blobs" VALUES('47d2e9eca7be9c15940c92a9e5d8997d14a8cbc504f82b1b0764965e8db53471',110802,'application/zip',1795905732);
INSERT INTO "blobs" VALUES('56d4ea48e6a792baa80f33fa0b74272218594711dd9df574f182b19fa6fa7d01',8686,'text/plain',1795905731);
INSERT INTO "blobs" VALUES('7353b1d1061c465ba26ba603f28d5a8dc2d34e3046f2c654ce788d9c44f16f45',31887,'text/plain',1795905732);
INSERT INTO "blobs" VALUES('7d496259210bcde1a151074fc922c3486597dff6f8ed13df7db1797fe49d30bc',30619,'text/xml',1795905732);
INSERT INTO "blobs" VALUES('8fd627d9c793f20bfd3a6a885c2e75727f65c0036a949870b0f762dca849e297',532,'image/png',1795905731);
INSERT INTO "blobs" VALUES('ae9acace955ddd9f24768c9d939816af97d339ae9a41d4653332eca2b72ed4f0',18192,'text/plain',1795905732);
INSERT INTO "blobs" VALUES('b8ddf4166287441e9d353b4190ea69c28f440463c0fd4b425597fa2bb98a81de',17328,'message/rfc822',1795905731);
INSERT INTO "blobs" VALUES('ba898780157d9e8262bf59c969413ca03b44ecb6e1e1b581b59d1e51fcbc89a8',29799,'image/gif',1795905731);
INSERT INTO "blobs" VALUES('c13cb905833ccfce08866a134536c86e86d89e96940a8f956b992ad1b9a9e85d',24303,'text/xml',1795905731);
INSERT INTO "blobs" VALUES('c94851679bc12e16fa7918b956830ab9a3a57b57cc159fc2eb6237d5ab93157e',21637,'application/x-dosexec',1795905732);
INSERT INTO "blobs" VALUES('cd01752887a5a3c72b8e345e9f72b0456561fc1e7c679c30921d407599b5f306',15066,'image/png',1795905732);
INSERT INTO "blobs" VALUES('d6ec1cf1de2a62cada5384affba927092ce58912733e1393d7d06714568fea56',2100,'text/html',1795905732);
INSERT INTO "blobs" VALUES('da51812c7003ea811c6660985017de83854a3ee72ace49cfd946ec1c0358312c',79830,'text/plain',1795905732);
INSERT INTO "blobs" VALUES('de45f19f739e20934743d3f6c935e625acb52746fabaa3ace5894620319f1995',3988,'image/png',1795905731);
INSERT INTO "blobs" VALUES('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',0,'application/x-empty',1795905732);
INSERT INTO "blobs" VALUES('fddb49a06b9974ca559e3fc37b9f3d1b29783e21f162c5a01bf28f77e2e7e9e1',157116,'message/rfc822',1795905732);
CREATE TABLE checks (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('verify', 'audit')),
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    whole INTEGER NOT NULL CHECK (whole IN (0, 1)),
    exit_code INTEGER NOT NULL,
    summary TEXT NOT NULL
) STRICT;
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
CREATE TABLE helpdesk (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    address TEXT NOT NULL,
    run_id INTEGER REFERENCES runs (id),
    at INTEGER NOT NULL,
    told INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1))
) STRICT;
INSERT INTO "helpdesk" VALUES(1,'https://help.example.com/api/index.php',1,1795905731,1);
CREATE TABLE labels (
    kind TEXT NOT NULL CHECK (kind IN ('priority', 'type', 'staff')),
    id INTEGER NOT NULL,
    title TEXT NOT NULL,
    email TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE "marks" (
    name TEXT NOT NULL PRIMARY KEY
        CHECK (name IN ('watermark', 'full_pass', 'success', 'links')),
    value INTEGER NOT NULL,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "marks" VALUES('full_pass',1795905731,1,1795905732);
INSERT INTO "marks" VALUES('success',1795905732,1,1795905732);
INSERT INTO "marks" VALUES('watermark',1546409259,1,1795905732);
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
, kind TEXT NOT NULL DEFAULT 'post'
    CHECK (kind IN ('post', 'note', 'timetrack', 'customfield')), facts TEXT) STRICT;
INSERT INTO "posts" VALUES(1,1,1546303227,'Bill "The Boss" O''Hara','user4@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(2,1,1546303827,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(3,1,1546304427,'Bill "The Boss" O''Hara','user4@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(4,1,1546305027,'Jane Staff','staff@help.example.com',1,1,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(5,2,1546310600,'Jane Doe','user1@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(6,2,1546311200,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(7,2,1546311800,'Jane Doe','user1@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(8,2,1546312400,'Jane Staff','staff@help.example.com',1,1,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(9,4,1546316817,'José','user5@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(10,4,1546317417,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(11,4,1546318017,'José','user5@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(12,4,1546318617,'Jane Staff','staff@help.example.com',1,1,1,NULL,'<img src="cid:image001.png@01D4A0"> see','post',NULL);
INSERT INTO "posts" VALUES(13,5,1546325193,'<script>','user2@example.com',0,0,1,NULL,'<img src="cid:image001.png@01D4A0"> see','post',NULL);
INSERT INTO "posts" VALUES(14,5,1546325793,'Jane Staff','staff@help.example.com',1,0,1,NULL,'<img src="cid:image001.png@01D4A0"> see','post',NULL);
INSERT INTO "posts" VALUES(15,5,1546326393,'<script>','user2@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(16,7,1546329962,'Jane Doe','user1@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(17,7,1546330562,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(18,7,1546331162,'Jane Doe','user1@example.com',0,0,1,NULL,'<img src="cid:image001.png@01D4A0"> see','post',NULL);
INSERT INTO "posts" VALUES(19,8,1546336947,'<script>','user3@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(20,8,1546337547,'Jane Staff','staff@help.example.com',1,0,0,NULL,'It is broken.
Please help.','post',NULL);
INSERT INTO "posts" VALUES(21,8,1546338147,'<script>','user3@example.com',0,0,0,NULL,'It is broken.
Please help.','post',NULL);
CREATE TABLE progress (
    run_id INTEGER PRIMARY KEY REFERENCES runs (id),
    at INTEGER NOT NULL,
    facts TEXT NOT NULL
) STRICT;
INSERT INTO "progress" VALUES(1,1795905732,'{"kind": "run", "tickets": 6, "tickets_total": 6, "attachments": 30, "attachments_known": null, "bytes": 857254, "share": 1.0, "seconds_left": null, "troubles": {}, "ended": true}');
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
INSERT INTO "runs" VALUES(1,'run','https://help.example.com/api/index.php','{"departments": null, "since": 0, "limit_tickets": null, "include_trash": false}',1795905731,1795905732,0,'{"tickets": 6, "unlisted": {}, "unreadable": {}, "short": 0, "deleted": 0, "changed": [], "contradicted": false, "threads": 6, "threads_missing": {}, "helpdesk_tickets": 6, "unasked_ids": 0, "ended_by": null, "seconds": 0.728}');
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
INSERT INTO "tallies" VALUES('failed',0,0);
INSERT INTO "tallies" VALUES('gone',0,0);
INSERT INTO "tallies" VALUES('missing',0,0);
INSERT INTO "tallies" VALUES('pending',0,0);
INSERT INTO "tallies" VALUES('stored',30,857254);
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
, deleted_at INTEGER, status_id INTEGER NOT NULL DEFAULT 0, requester_name TEXT NOT NULL DEFAULT '', requester_email TEXT NOT NULL DEFAULT '', owner_name TEXT NOT NULL DEFAULT '', posts_activity INTEGER, posts_run INTEGER REFERENCES runs (id), user_id INTEGER NOT NULL DEFAULT 0, organization_id INTEGER NOT NULL DEFAULT 0, details TEXT NOT NULL DEFAULT '{}', fields_activity INTEGER) STRICT;
INSERT INTO "tickets" VALUES(1,2,'JPQ-067-79377','返品について',1546303227,1546375419,NULL,1,NULL,3,'Bill "The Boss" O''Hara','user4@example.com','Jane Staff',-1,1,0,0,'{}',NULL);
INSERT INTO "tickets" VALUES(2,2,'WNT-687-08392','CDATA ]]> in a subject',1546310600,1546350087,NULL,1,NULL,3,'Jane Doe','user1@example.com','Jane Staff',-1,1,0,0,'{}',NULL);
INSERT INTO "tickets" VALUES(4,5,'ZDJ-036-17821','Re: Re: AW: <b>urgent</b> & important',1546316817,1546373985,NULL,1,NULL,3,'José','user5@example.com','Jane Staff',-1,1,0,0,'{}',NULL);
INSERT INTO "tickets" VALUES(5,1,'WZR-167-91568','CDATA ]]> in a subject',1546325193,1546399787,NULL,1,NULL,1,'<script>','user2@example.com','Jane Staff',-1,1,0,0,'{}',NULL);
INSERT INTO "tickets" VALUES(7,4,'UKD-300-55986','Printer does not print',1546329962,1546409259,NULL,1,NULL,4,'Jane Doe','user1@example.com','Jane Staff',-1,1,0,0,'{}',NULL);
INSERT INTO "tickets" VALUES(8,4,'ACN-971-25871','Re: Re: AW: <b>urgent</b> & important',1546336947,1546371467,NULL,1,NULL,5,'<script>','user3@example.com','',-1,1,0,0,'{}',NULL);
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
CREATE INDEX tickets_by_department ON tickets (department_id, last_activity, id);
CREATE INDEX tickets_by_activity ON tickets (last_activity, id);
CREATE INDEX tickets_by_display_id ON tickets (display_id);
CREATE INDEX tickets_unread ON tickets (id)
    WHERE posts_activity IS NOT last_activity AND merged_into IS NULL AND deleted_at IS NULL;
CREATE INDEX posts_by_ticket ON posts (ticket_id, created_at, id);
CREATE INDEX posts_by_time ON posts (created_at, id, ticket_id);
CREATE TRIGGER merged_tickets_hand_over_their_posts AFTER UPDATE OF merged_into ON tickets
WHEN new.merged_into IS NOT NULL AND new.merged_into IS NOT old.merged_into
BEGIN
    UPDATE posts SET ticket_id = new.merged_into WHERE ticket_id = new.id AND id > 0;
    UPDATE tickets SET posts_activity = NULL WHERE id = new.merged_into;
END;
CREATE INDEX tickets_merged ON tickets (merged_into) WHERE merged_into IS NOT NULL;
CREATE TRIGGER merged_tickets_have_fields_too AFTER UPDATE OF merged_into ON tickets
WHEN new.merged_into IS NOT NULL AND new.merged_into IS NOT old.merged_into
BEGIN
    UPDATE tickets SET fields_activity = NULL WHERE id = new.merged_into;
END;
CREATE INDEX posts_by_kind ON posts (kind) WHERE kind <> 'post';
CREATE INDEX people_notes_by_person ON people_notes (about, about_id, created_at, id);
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
DELETE FROM "sqlite_sequence";
COMMIT;
