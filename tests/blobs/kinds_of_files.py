"""Files of many kinds, as small as their signatures allow, and the same kinds large."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import plistlib
import random
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing

TEXT = "The quick brown fox jumps over the lazy dog, number %d.\n"


def zipped(*names: str, method: int = zipfile.ZIP_DEFLATED, text: str = "<x/>") -> bytes:
    """Return a ZIP with files of these names, the first one stored if it says its type."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in names:
            path, _, said = name.partition("=")
            info = zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_STORED if said else method
            archive.writestr(info, said or text)
    return file.getvalue()


def tar(form: int) -> bytes:
    """Return a tar archive of one file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        archive.addfile(tarfile.TarInfo("a.txt"), io.BytesIO())
    return file.getvalue()


def png(*more: bytes) -> bytes:
    """Return a PNG of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(4)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + pixels + chunk(b"IEND", b"")


def database() -> bytes:
    """Return a SQLite database."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t (x)")
        return db.serialize()


def noise(size: int) -> bytes:
    """Return bytes without meaning, always the same."""
    return random.Random(1).randbytes(size)


def lines(size: int) -> bytes:
    """Return lines of text."""
    count = size // 50 + 1
    return "".join(TEXT % number for number in range(count)).encode()[:size]


def ole(name: str, clsid: bytes = bytes(16), *, far: int = 0) -> bytes:
    """Return a compound file of Microsoft's with one stream of a name, ``far`` sectors away."""
    fat_sectors = far // 128 + 1
    directory = fat_sectors + far
    used = directory + 1 + 8
    fat = [0xFFFFFFFD] * fat_sectors + [0xFFFFFFFF] * far
    fat += [0xFFFFFFFE, *range(directory + 2, used), 0xFFFFFFFE]
    fat += [0xFFFFFFFF] * (fat_sectors * 128 - len(fat))
    head = struct.pack(
        "<8s16sHHHHH6xIIIIIIIIII", bytes.fromhex("d0cf11e0a1b11ae1"), bytes(16), 0x3E, 3, 0xFFFE, 9,
        *(6, 0), fat_sectors, directory, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0, 0,
    )[:76]  # fmt: skip
    head += struct.pack("<109I", *range(fat_sectors), *[0xFFFFFFFF] * (109 - fat_sectors))

    def entry(label: str, kind: int, start: int, size: int, *more: object) -> bytes:
        raw = label.encode("utf-16-le") + b"\0\0"
        return raw.ljust(64, b"\0") + struct.pack(
            "<HBBIII16sIQQIQ", len(raw), kind, 1, *[0xFFFFFFFF] * 2, *more, 0, 0, 0, start, size,
        )  # fmt: skip

    entries = entry("Root Entry", 5, 0xFFFFFFFE, 0, 1, clsid)
    entries += entry(name, 2, directory + 1, 4096, 0xFFFFFFFF, bytes(16))
    body = struct.pack(f"<{len(fat)}I", *fat) + bytes(512 * far) + entries.ljust(512, b"\0")
    return head + body + bytes(4096)


def box(kind: bytes, data: bytes) -> bytes:
    """Return a box of the family of MP4."""
    return struct.pack(">I", len(data) + 8) + kind + data


def ftyp(brand: bytes, *others: bytes) -> bytes:
    """Return the beginning of a file of the family of MP4."""
    return box(b"ftyp", brand + bytes(4) + b"".join(others)) + box(b"mdat", bytes(64))


def ogg(data: bytes) -> bytes:
    """Return the first page of an Ogg file."""
    return b"OggS\0\2" + bytes(20) + b"\1" + bytes([len(data)]) + data


def exe(machine: int, flags: int) -> bytes:
    """Return the head of a program for Windows."""
    head = b"MZ" + bytes(58) + struct.pack("<I", 128) + bytes(64)
    return head + b"PE\0\0" + struct.pack("<HHIIIHH", machine, 1, 0, 0, 0, 224, flags) + bytes(400)


JSON = {"id": 1, "name": "Köln", "tags": ["a", "b"], "more": {"x": None, "y": [1.5e3, True]}}
ROWS = [{"id": number, **JSON} for number in range(40)]
ODT = "application/vnd.oasis.opendocument."
MAIL = (
    b"Return-Path: <a@b.example>\nReceived: from x by y; Mon, 1 Jan 2024 00:00:00 +0000\n"
    b"From: a@b.example\nTo: c@d.example\nSubject: hi\n\nhello\n"
)

KINDS: dict[str, bytes] = {
    # Texts.
    "text": b"Hello, this is plain text.\nTwo lines.\n",
    "text crlf": b"Hello, this is plain text.\r\nTwo lines.\r\n",
    "text latin-1": "Grüße aus Köln\n".encode("latin-1"),
    "text utf-8": "Grüße aus Köln ☃\n".encode(),
    "text utf-8 bom": b"\xef\xbb\xbf" + "Grüße aus Köln\n".encode(),
    "text utf-16 le": "\ufeffGrüße aus Köln\n".encode("utf-16-le"),
    "text utf-16 be": "\ufeffGrüße aus Köln\n".encode("utf-16-be"),
    "text utf-32 le": "\ufeffGrüße\n".encode("utf-32-le"),
    "text chinese gbk": "中文文件内容\n".encode("gbk"),
    "text shift-jis": "日本語のテキスト\n".encode("shift-jis"),
    "one letter": b"x",
    "line feed": b"\n",
    "spaces": b"   \n",
    "empty": b"",
    "nul": b"\0",
    "nuls": bytes(100),
    "html": b"<!DOCTYPE html>\n<html><head><title>x</title></head></html>",
    "html bare": b"<html><body><p>x</p></body></html>",
    "html fragment": b"<p>Hello <b>you</b></p>\n",
    "html late": b"\n\n   <HTML>\n<HEAD><TITLE>x</TITLE></HEAD><BODY>x</BODY></HTML>",
    "xhtml": b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x" "y">\n<html xmlns="z"></html>',
    "xml": b'<?xml version="1.0" encoding="UTF-8"?>\n<root><a>1</a></root>\n',
    "xml bom": b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>\n<root/>\n',
    "xml no prolog": b"<root><a>1</a></root>\n",
    "xml utf-16": '\ufeff<?xml version="1.0"?>\n<root/>\n'.encode("utf-16-le"),
    "svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    "svg bare": b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>\n',
    "rss": b'<?xml version="1.0"?>\n<rss version="2.0"><channel/></rss>\n',
    "kml": b'<?xml version="1.0"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"></kml>\n',
    "gpx": b'<?xml version="1.0"?>\n<gpx version="1.1"></gpx>\n',
    "plist": plistlib.dumps({"a": 1}),
    "plist binary": plistlib.dumps({"a": [1, "x"]}, fmt=plistlib.FMT_BINARY),
    "css": b"body { color: red; }\n.a > b { margin: 0 }\n",
    "js": b"function f(x) { return x + 1; }\nvar a = f(2);\n",
    "js module": b"import x from 'y';\nexport default x;\n",
    "json object": json.dumps(JSON).encode(),
    "json pretty": json.dumps(ROWS, indent=2, ensure_ascii=False).encode(),
    "json array": b"[1, 2, 3]",
    "json empty object": b"{}",
    "json empty array": b"[]",
    "json number": b"42",
    "json string": b'"text"',
    "json true": b"true",
    "json bom": b"\xef\xbb\xbf" + json.dumps(JSON).encode(),
    "json spaces": b"\n\t " + json.dumps(JSON).encode() + b"\n\n",
    "json cut": json.dumps(ROWS).encode()[:-20],
    "json comment": b'// x\n{"a": 1}\n',
    "ndjson": b"".join(json.dumps(row).encode() + b"\n" for row in ROWS),
    "json two lines": b'{"a":1}\n{"a":2}\n',
    "har": json.dumps({"log": {"version": "1.2", "entries": []}}).encode(),
    "geojson": json.dumps({"type": "FeatureCollection", "features": []}).encode(),
    "csv": b"id,name,amount\n1,Ann,2.50\n2,Bob,3.75\n3,Eve,9.00\n",
    "csv semicolons": b"id;name;amount\n1;Ann;2,50\n2;Bob;3,75\n",
    "csv quoted": b'"id","name"\n"1","Ann, the first"\n"2","Bob"\n',
    "csv one line": b"id,name,amount\n",
    "tsv": b"id\tname\n1\tAnn\n2\tBob\n",
    "ics": b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nEND:VCALENDAR\r\n",
    "vcf": b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ann\r\nEND:VCARD\r\n",
    "eml received": MAIL,
    "eml return-path": MAIL[27:],
    "eml from": b"From: a@b.example\nTo: c@d.example\nSubject: hi\n\nhello\n",
    "eml date": b"Date: Mon, 1 Jan 2024 00:00:00 +0000\nFrom: a@b.example\nSubject: x\n\nhello\n",
    "eml mime": b"MIME-Version: 1.0\nContent-Type: text/plain\nFrom: a@b.example\n\nhello\n",
    "eml message-id": b"Message-ID: <1@b.example>\nFrom: a@b.example\n\nhello\n",
    "eml delivered-to": b"Delivered-To: a@b.example\nReceived: by x\n\nhello\n",
    "eml subject": b"Subject: hi\nFrom: a@b.example\n\nhello\n",
    "mbox": b"From a@b.example Mon Jan  1 00:00:00 2024\n" + MAIL,
    "rtf": rb"{\rtf1\ansi\deff0 {\fonttbl {\f0 Arial;}} Hello\par}",
    "tex": b"\\documentclass{article}\n\\begin{document}\nx\n\\end{document}\n",
    "markdown": b"# Title\n\nSome *text* and a [link](http://x).\n",
    "yaml": b"---\na: 1\nb:\n  - x\n  - y\n",
    "ini": b"[section]\nkey=value\nother=1\n",
    "log": b"2024-01-01 00:00:00 INFO started\n2024-01-01 00:00:01 WARN slow\n",
    "apache log": b'127.0.0.1 - - [01/Jan/2024:00:00:00 +0000] "GET / HTTP/1.1" 200 5\n',
    "sql": b"-- dump\nCREATE TABLE t (id INT);\nINSERT INTO t VALUES (1);\n",
    "php": b"<?php\necho 'x';\n",
    "python": b"#!/usr/bin/env python3\nimport os\nprint(os.name)\n",
    "python bare": b"import os\n\ndef f():\n    return os.name\n",
    "perl": b"#!/usr/bin/perl\nuse strict;\nprint 1;\n",
    "shell": b"#!/bin/sh\necho x\n",
    "bash": b"#!/bin/bash\nset -e\n",
    "bat": b"@echo off\r\necho x\r\n",
    "powershell": b"param($x)\nWrite-Host $x\n",
    "ruby": b"#!/usr/bin/env ruby\nputs 1\n",
    "c": b'#include <stdio.h>\nint main(void) { printf("x"); return 0; }\n',
    "java": b"package a.b;\nimport java.util.List;\npublic class A {}\n",
    "diff": b"--- a/x\t2024\n+++ b/x\t2024\n@@ -1 +1 @@\n-a\n+b\n",
    "git diff": b"diff --git a/x b/x\nindex 1..2 100644\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n",
    "makefile": b"all:\n\tcc x.c\nCC = gcc\n",
    "srt": b"1\r\n00:00:01,000 --> 00:00:02,000\r\nHello\r\n\r\n",
    "vtt": b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n",
    "m3u": b"#EXTM3U\n#EXTINF:1,x\nx.mp3\n",
    "pem certificate": b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "pem key": b"-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n",
    "ssh key": b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ ann@example\n",
    "pgp message": b"-----BEGIN PGP MESSAGE-----\n\nhQEMA\n-----END PGP MESSAGE-----\n",
    "pgp signature": b"-----BEGIN PGP SIGNATURE-----\n\niQEz\n-----END PGP SIGNATURE-----\n",
    "pgp key": b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQEN\n-----END PGP PUBLIC KEY-----\n",
    "base64": b"SGVsbG8sIHRoaXMgaXMgcGxhaW4gdGV4dC4gU2VuZCBpdCBhcyBiYXNlNjQuCg==\n",
    "reg": b"Windows Registry Editor Version 5.00\r\n\r\n[HKEY_CURRENT_USER\\x]\r\n",
    "reg utf-16": "\ufeffWindows Registry Editor Version 5.00\r\n".encode("utf-16-le"),
    "url": b"[InternetShortcut]\r\nURL=http://x/\r\n",
    "xpm": b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c #000000",\n"a"};\n',
    "postscript": b"%!PS-Adobe-3.0\n%%Pages: 1\nshowpage\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    "vmg": b"Content-Type: text/html\n\n<html></html>\n",
    # Images.
    "png": png(),
    "jpeg jfif": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x01\x00\x48\x00\x48\x00" + bytes(65),
    "jpeg exif": b"\xff\xd8\xff\xe1\x00\x20Exif\x00\x00II*\x00\x08\x00\x00\x00" + bytes(64),
    "jpeg raw": b"\xff\xd8\xff\xdb\x00\x43\x00" + bytes(80),
    "gif": b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00;",
    "gif 87": b"GIF87a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00;",
    "bmp": b"BM" + struct.pack("<IHHI", 58, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(4),
    "bmp v5": b"BM" + struct.pack("<IHHI", 142, 0, 0, 138)
    + struct.pack("<IiiHHIIiiII", 124, 1, 1, 1, 32, 3, 4, 2835, 2835, 0, 0) + bytes(88),
    "webp vp8": b"RIFF\x1a\x00\x00\x00WEBPVP8 \x0e\x00\x00\x00" + bytes(14),
    "webp vp8l": b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00/" + bytes(12),
    "webp vp8x": b"RIFF\x1a\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00" + bytes(10),
    "tiff le": b"II*\0\x08\0\0\0\x01\0" + bytes(32),
    "tiff be": b"MM\0*\0\0\0\x08\0\x01" + bytes(32),
    "ico": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0\x68\4\0\0\x16\0\0\0" + bytes(64),
    "cur": b"\0\0\2\0\1\0\x10\x10\0\0\1\0\1\0\x68\4\0\0\x16\0\0\0" + bytes(64),
    "psd": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\1\0\0\0\1\0\x08\0\3" + bytes(12),
    "heic": ftyp(b"heic", b"mif1", b"heic"),
    "heif": ftyp(b"mif1", b"mif1", b"heic"),
    "avif": ftyp(b"avif", b"mif1", b"avif"),
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + box(b"ftyp", b"jp2 \0\0\0\0jp2 "),
    "wmf": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "emf": b"\1\0\0\0\x88\0\0\0" + bytes(32) + b" EMF" + bytes(60),
    "pcx": b"\x0a\x05\x01\x08" + bytes(124),
    "xcf": b"gimp xcf file\0\0\0\0\1\0\0\0\1\0\0\0\0",
    "dds": b"DDS |\0\0\0" + bytes(120),
    "ppm": b"P6\n1 1\n255\n\0\0\0",
    "pgm": b"P5\n1 1\n255\n\0",
    "pbm text": b"P1\n1 1\n1\n",
    "dicom": bytes(128) + b"DICM" + bytes(32),
    "djvu": b"AT&TFORM\0\0\0\x20DJVUINFO" + bytes(32),
    "svgz": gzip.compress(b"<svg/>", mtime=0),
    "jxl": b"\xff\x0a" + bytes(32),
    "ani": b"RIFF\x24\0\0\0ACONanih" + bytes(32),
    # Documents.
    "pdf": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n",
    "pdf late": b"\n\n%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF\n",
    "fdf": b"%FDF-1.2\n%x\n1 0 obj\n",
    "doc": ole("WordDocument"),
    "xls": ole("Workbook"),
    "xls 5": ole("Book"),
    "ppt": ole("PowerPoint Document"),
    "msg": ole("__properties_version1.0"),
    "ole unknown": ole("Something"),
    "doc clsid": ole("WordDocument", bytes.fromhex("0609020000000000c000000000000046")),
    "msi": ole("x", bytes.fromhex("84100c0000000000c000000000000046")),
    "docx": zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
    "docx stored": zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml", method=0),
    "docx odd order": zipped("word/document.xml", "[Content_Types].xml", "_rels/.rels"),
    "docx properties": zipped("[Content_Types].xml", "_rels/.rels", "docProps/app.xml",
                              "docProps/core.xml", "word/document.xml"),
    "docx rels": zipped("_rels/.rels", "[Content_Types].xml", "word/document.xml"),
    "docm": zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml", "word/vba.bin"),
    "xlsx": zipped("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"),
    "xlsx properties": zipped("[Content_Types].xml", "docProps/app.xml", "xl/workbook.xml"),
    "xlsx sheet": zipped("xl/worksheets/sheet1.xml", "xl/workbook.xml", "[Content_Types].xml"),
    "pptx": zipped("[Content_Types].xml", "_rels/.rels", "ppt/presentation.xml"),
    "pptx slides": zipped("ppt/slides/slide1.xml", "x", "y", "z", "[Content_Types].xml"),
    "vsdx": zipped("[Content_Types].xml", "_rels/.rels", "visio/document.xml"),
    "xps": zipped("[Content_Types].xml", "_rels/.rels", "FixedDocSeq.fdseq"),
    "odt": zipped(f"mimetype={ODT}text", "content.xml"),
    "ods": zipped(f"mimetype={ODT}spreadsheet", "content.xml"),
    "odp": zipped(f"mimetype={ODT}presentation", "content.xml"),
    "odg": zipped(f"mimetype={ODT}graphics", "content.xml"),
    "odt late": zipped("content.xml", f"mimetype={ODT}text"),
    "epub": zipped("mimetype=application/epub+zip", "META-INF/container.xml"),
    "pages": zipped("index.xml", "QuickLook/Preview.pdf", "buildVersionHistory.plist"),
    "keynote": zipped("Index/Document.iwa", "Metadata/Properties.plist"),
    "access": b"\0\1\0\0Standard Jet DB\0" + bytes(64),
    "accdb": b"\0\1\0\0Standard ACE DB\0" + bytes(64),
    "onenote": bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(64),
    "chm": b"ITSF\3\0\0\0" + bytes(64),
    "mobi": b"book" + bytes(56) + b"BOOKMOBI" + bytes(64),
    "pst": b"!BDN" + bytes(4) + b"SM\x17\0" + bytes(64),
    "tnef": b"\x78\x9f\x3e\x22" + bytes(64),
    "wordperfect": b"\xffWPC\x10\0\0\0\1\x0a" + bytes(32),
    "dbf": b"\x03\x18\x01\x01\x01\0\0\0\x41\0\x0b\0" + bytes(20) + b"NAME\0" + bytes(40) + b"\r",
    # Archives.
    "zip": zipped("a.txt", "b/c.txt"),
    "zip stored": zipped("a.txt", "b/c.txt", method=0),
    "zip empty": b"PK\5\6" + bytes(18),
    "zip directory": zipped("folder/", "folder/a.txt"),
    "jar": zipped("META-INF/MANIFEST.MF", "A.class"),
    "jar flagged": zipped("META-INF/", "META-INF/MANIFEST.MF", "A.class"),
    "apk": zipped("AndroidManifest.xml", "classes.dex"),
    "7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24),
    "rar 4": b"Rar!\x1a\x07\x00\xcf\x90\x73\x00\x00\x0d" + bytes(7),
    "rar 5": b"Rar!\x1a\x07\x01\x00" + bytes(24),
    "gz": gzip.compress(b"hello" * 20, mtime=0),
    "bz2": bz2.compress(b"hello"),
    "xz": lzma.compress(b"hello"),
    "lzma": lzma.compress(b"hello", format=lzma.FORMAT_ALONE),
    "zst": b"\x28\xb5\x2f\xfd\x04\x58\x29\0\0hello\x12\x34\x56\x78",
    "lz4": b"\x04\x22\x4d\x18\x64\x40\xa7" + bytes(16),
    "compress": b"\x1f\x9d\x90" + bytes(16),
    "tar ustar": tar(tarfile.USTAR_FORMAT),
    "tar gnu": tar(tarfile.GNU_FORMAT),
    "tar pax": tar(tarfile.PAX_FORMAT),
    "cab": b"MSCF\0\0\0\0" + bytes(28),
    "iso": bytes(32768) + b"\1CD001\1\0" + bytes(2040),
    "deb": b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n",
    "ar": b"!<arch>\nx/              0           0     0     100644  4         `\nabcd",
    "rpm": b"\xed\xab\xee\xdb\3\0\0\0" + bytes(90),
    "cpio": b"070701" + b"00000001" * 11 + b"00000006" + b"00000000" + b"a.txt\0" + bytes(32),
    "arj": b"\x60\xea\x2c\0\x22\x0b\1\2\x10\0\2" + bytes(32),
    "lzh": b"\x20\0-lh5-" + bytes(24),
    "torrent": b"d8:announce10:http://x/14:infod4:name1:xee",
    # Sound and films.
    "mp3 id3": b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xfb\x90\x64" + bytes(420),
    "mp3": b"\xff\xfb\x90\x64" + bytes(413) + b"\xff\xfb\x90\x64" + bytes(413),
    "wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0data\0\0\0",
    "avi": b"RIFF\x24\0\0\0AVI LIST" + bytes(32),
    "ogg vorbis": ogg(b"\1vorbis" + bytes(23)),
    "opus": ogg(b"OpusHead\1\1" + bytes(9)),
    "ogg theora": ogg(b"\x80theora\3\2\1" + bytes(30)),
    "flac": b"fLaC\0\0\0\x22\x10\0\x10\0" + bytes(32),
    "mp4 isom": ftyp(b"isom", b"isom", b"mp42"),
    "mp4 mp42": ftyp(b"mp42", b"mp42", b"isom"),
    "m4a": ftyp(b"M4A ", b"M4A ", b"mp42"),
    "m4v": ftyp(b"M4V ", b"M4V ", b"mp42"),
    "mov": ftyp(b"qt  ", b"qt  "),
    "mov moov": box(b"moov", box(b"mvhd", bytes(100))),
    "3gp": ftyp(b"3gp4", b"3gp4"),
    "mkv": b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska\x42\x87\x81\4" + bytes(32),
    "webm": b"\x1a\x45\xdf\xa3\x93\x42\x82\x84webm\x42\x87\x81\4" + bytes(32),
    "wmv": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(64),
    "mpeg ps": b"\0\0\1\xba\x44\0\4\0\4\1" + bytes(32),
    "mpeg ts": (b"\x47\x40\0\x10" + bytes(184)) * 6,
    "flv": b"FLV\1\5\0\0\0\x09" + bytes(16),
    "midi": b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0",
    "amr": b"#!AMR\n" + bytes(32),
    "aiff": b"FORM\0\0\0\x2eAIFFCOMM" + bytes(32),
    "au": b".snd\0\0\0\x18" + bytes(32),
    "aac": b"\xff\xf1\x50\x80\x2e\x7f\xfc" + bytes(64),
    # Programs, fonts and the rest.
    "exe 32": exe(0x14C, 0x102),
    "exe 64": exe(0x8664, 0x22),
    "dll": exe(0x14C, 0x2102),
    "exe dos": b"MZ" + bytes(126),
    "elf": b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0\1\0\0\0" + bytes(40),
    "elf so": b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" + bytes(40),
    "mach-o": b"\xcf\xfa\xed\xfe\7\0\0\1\3\0\0\0\2\0\0\0" + bytes(32),
    "java class": b"\xca\xfe\xba\xbe\0\0\0\x34" + bytes(32),
    "dex": b"dex\n035\0" + bytes(104),
    "swf": b"FWS\x08\x20\0\0\0" + bytes(16),
    "swf packed": b"CWS\x08\x20\0\0\0" + zlib.compress(bytes(16)),
    "lnk": b"L\0\0\0\1\x14\2\0\0\0\0\0\xc0\0\0\0\0\0\0F" + bytes(60),
    "wasm": b"\0asm\1\0\0\0" + bytes(16),
    "pyc": b"\xa7\x0d\x0d\x0a" + bytes(32),
    "sqlite": database(),
    "ttf": b"\0\1\0\0\0\x0c\0\x80\0\3\0\x40GDEF" + bytes(60),
    "otf": b"OTTO\0\x0c\0\x80\0\3\0\x40CFF " + bytes(60),
    "woff": b"wOFF\0\1\0\0" + bytes(40),
    "woff2": b"wOF2\0\1\0\0" + bytes(40),
    "eot": b"\x40\0\0\0\x20\0\0\0\1\0\2\0" + bytes(22) + b"LP" + bytes(40),
    "pcap": b"\xd4\xc3\xb2\xa1\2\0\4\0" + bytes(16),
    "pcapng": b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\1\0\0\0" + bytes(16),
    "p7m": b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03\xa0\x80" + bytes(16),
    "p7s": b"\x30\x82\x06\x2a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x82" + bytes(16),
    "der certificate": b"\x30\x82\x03\x0d\x30\x82\x01\xf5\xa0\x03\x02\x01\x02" + noise(64),
    "p12": b"\x30\x82\x09\x61\x02\x01\x03\x30\x82\x09\x27" + noise(64),
    "dwg": b"AC1027\0\0" + bytes(64),
    "dxf": b"  0\nSECTION\n  2\nHEADER\n",
    "stl": b"solid x\nfacet normal 0 0 0\nendsolid\n",
    "evtx": b"ElfFile\0" + bytes(64),
    "minidump": b"MDMP\x93\xa7" + bytes(64),
    "noise": noise(600),
}  # fmt: skip


def large(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield large files: each kind that goes on as it began, and some that have it far inside."""
    rows = json.dumps(ROWS).encode()[1:-1]
    for kind, data in KINDS.items():
        if kind.startswith(("json", "ndjson", "csv", "text ", "nul", "har", "geo")) or not data:
            continue
        texts = b"\0" not in data[:200] and data[:300].isascii()
        yield f"{kind}, large", data + (lines if texts else noise)(size - len(data))
    many = b",".join([rows] * (size // len(rows)))
    yield "json array, large", b"[" + many + b"]"
    yield "json object, large", b'{"rows": [' + many + b"]}\n"
    yield "json pretty, large", json.dumps(json.loads(b"[" + many + b"]"), indent=1).encode()
    yield "json string inside, large", b'{"x": "' + b"y" * size + b'"}'
    yield "json cut, large", b"[" + many
    yield "json with a tail, large", b"[" + many + b"] and more"
    yield "json bom, large", b"\xef\xbb\xbf[" + many + b"]"
    yield "json nested, large", b'{"a":' * 15 + b"[" + many + b"]" + b"}" * 15
    yield "ndjson, large", KINDS["ndjson"] * (size // len(KINDS["ndjson"]))
    yield "numbers, large", b"12345\n" * (size // 6)
    yield "csv, large", b"id,name,amount\n" + b"1,Ann,2.50\n" * (size // 11)
    yield "csv uneven late, large", b"a,b,c\n" * (size // 6) + b"1,2\n"
    yield "text latin-1, large", "Grüße aus Köln\n".encode("latin-1") * (size // 15)
    yield "text utf-8, large", "Grüße aus Köln\n".encode() * (size // 17)
    yield "text utf-16, large", ("\ufeff" + "Grüße\n" * (size // 12)).encode("utf-16-le")
    yield "text, then nul, large", lines(size) + bytes(100)
    yield "nuls, large", bytes(size)
    yield "html far inside, large", lines(size) + KINDS["html"]
    far = size // 512
    for stream in (
        "WordDocument",
        "Workbook",
        "PowerPoint Document",
        "__properties_version1.0",
    ):
        yield f"ole {stream} far, large", ole(stream, far=far)
    for part in ("word/document.xml", "xl/workbook.xml", "ppt/presentation.xml"):
        text = noise(size).hex()
        yield (
            f"office {part} behind a large part, large",
            zipped("[Content_Types].xml", "_rels/.rels", "docProps/x.jpeg", part, method=0,
                   text=text[: size]),
        )  # fmt: skip
        yield (
            f"office {part} first and large, large",
            zipped(part, "[Content_Types].xml", "_rels/.rels", method=0, text=text[:size]),
        )
