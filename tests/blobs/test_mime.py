"""Types from bytes, named as PHP's fileinfo names them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from migrator.blobs import mime
from tests.blobs.kinds_of_files import KINDS, large, zipped

PHP_TYPES: dict[str, str] = json.loads(Path(__file__).with_name("php_types.json").read_text())
"""What finfo of PHP 8.2 said of each kind, and of the large files for which it says otherwise."""

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
BETTER = {
    "docx rels": WORD,  # PHP's libmagic 5.40 knows some orders of its parts only
    "eml date": "message/rfc822",
    "cpio": "application/x-cpio",
}
"""Kinds for which libmagic knows more than PHP's."""

PHP = r"""
ini_set('memory_limit', '512M');
$info = finfo_open(FILEINFO_MIME_TYPE);
while (($path = fgets(STDIN)) !== false) {
    $path = rtrim($path, "\n");
    echo finfo_file($info, $path), ' ', finfo_buffer($info, file_get_contents($path)), "\n";
}
"""


def stored(data: bytes) -> str:
    """Return the type under which a store would keep a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return mime.detect(data[: mime.HEAD], lambda: os.open(file.name, os.O_RDONLY))


def expected(name: str) -> str:
    """Return the type that a file is to have."""
    kind = name.partition(", ")[0]
    return BETTER.get(kind) or PHP_TYPES.get(name) or PHP_TYPES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_type_is_named_as_php_names_it(kind: str) -> None:
    """Attachments of every kind get the type that fileinfo of PHP finds in the bytes."""
    assert stored(KINDS[kind]) == expected(kind)


@pytest.mark.parametrize(
    ("size", "kinds"),
    [
        (100_000, ("json", "ole")),
        pytest.param(200_000, "", marks=pytest.mark.slow),
        pytest.param(1_000_000, "", marks=pytest.mark.slow),
    ],
)
def test_a_large_file_is_looked_at_as_far_as_php_looks(size: int, kinds: tuple[str, ...]) -> None:
    """JSON and compound files are what they are as a whole, wherever that shows."""
    told = {name: stored(data) for name, data in large(size) if name.startswith(kinds)}
    assert told == {name: expected(name) for name in told}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed")
def test_php_says_the_same_today(tmp_path: Path) -> None:
    """Its finfo, asked with a path or with the bytes, names every kind as recorded."""
    command = ["php", "-r", PHP]
    pipe = subprocess.PIPE
    # pylibmagic names its database there, and PHP would take that instead of its own.
    plain = {name: value for name, value in os.environ.items() if name != "MAGIC"}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=plain) as php:
        assert php.stdin is not None
        assert php.stdout is not None
        for name, data in [*KINDS.items(), *large(200_000), *large(1_000_000)]:
            path = tmp_path / "file"
            path.write_bytes(data)
            php.stdin.write(f"{path}\n")
            php.stdin.flush()
            said = php.stdout.readline().split()
            assert stored(data) in said or name.partition(", ")[0] in BETTER, (name, said)
        php.stdin.close()


@pytest.mark.parametrize("failing", [True, False])
def test_a_file_that_cannot_be_opened_again_has_the_type_of_its_head(*, failing: bool) -> None:
    """A store need not have a file, and a type is never worth a lost attachment."""

    def reopen() -> int | None:
        if failing:
            raise OSError("gone")
        return None

    head = (b"[" + b"1," * mime.HEAD)[: mime.HEAD]
    assert mime.detect(head, reopen) == mime.detect(head) == "text/plain"


@pytest.mark.parametrize(
    ("names", "type_"),
    [
        (("[Content_Types].xml", "a/b.xml", "c", "d"), "application/zip"),
        (("a", "word/document.xml"), "application/zip"),
        (("[Content_Types].xml", "a", "word/x"), WORD),
    ],
)
def test_a_zip_is_an_office_document_by_its_parts(names: tuple[str, ...], type_: str) -> None:
    """It takes the list of types and a part of one program."""
    found = mime.detect(zipped(*names))
    assert found == type_ or (type_, found) == ("application/zip", mime.UNKNOWN)


def test_only_the_head_is_looked_at() -> None:
    """Bytes after the first 64 KiB change nothing."""
    data = b"a" * mime.HEAD
    assert mime.detect(data + bytes(1000)) == mime.detect(data) == "text/plain"


def test_a_broken_libmagic_costs_the_type_not_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libmagic, or with one that fails, the type is unknown, but Office is still seen."""

    def fail() -> None:
        raise ImportError("no libmagic")

    monkeypatch.setattr(mime, "libmagic", fail)
    assert mime.detect(b"\x89PNG") == "application/octet-stream"
    assert mime.detect(b"") == "application/x-empty"
    assert mime.detect(zipped("[Content_Types].xml", "xl/workbook.xml")) == EXCEL


def test_one_look_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads take turns at libmagic: its handle may not be shared and its memory adds up."""
    looks: list[bytes] = []

    def look(head: bytes) -> str:
        looks.append(head)
        if head == b"first":
            other.start()
            other.join(0.2)
            assert looks == [b"first"], "the other has to wait"
        return "text/plain"

    monkeypatch.setattr(mime, "libmagic", lambda: look)
    other = threading.Thread(target=mime.detect, args=(b"second",))
    assert mime.detect(b"first") == "text/plain"
    other.join(60)
    assert looks == [b"first", b"second"]
