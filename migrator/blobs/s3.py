"""The store in a bucket of any S3-compatible service: the names of a disk, as keys.

``prefix/blobs/ab/cd/abcd…`` holds the bytes whose SHA-256 is ``abcd…``, so that a plain copy of a
local archive's ``blobs`` is such a store, and the other way round. obstore speaks the protocol,
signs, and repeats what fails for a moment. This module alone knows it.

A new blob waits in an unnamed file beside the checkpoint until its hash, and so its key, is known.
It counts as stored once the service shows it with its size.
"""
# ruff: noqa: D102 - the contract says what the methods of a store do

from __future__ import annotations

import configparser
import contextlib
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store as Bucket

from migrator.blobs import Place, base, durable
from migrator.blobs.base import Entry, Examined, Verdict
from migrator.errors import (
    ArchiveDamaged,
    ArchiveError,
    ArchiveUnreachable,
    ArchiveUnwritable,
    ConfigError,
)

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta

_HEX64: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TEMP: Final = re.compile(r"blobs/tmp/[0-9a-f]{32}", re.ASCII)
"""No writer of this store makes one, but a copy of a local archive may bring it along."""
_BLOB: Final = re.compile(r"blobs/([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{60})", re.ASCII)

_PART: Final = 5 << 20
"""Bytes of a request to write, the least that the protocol has: each writer holds one of them."""
_PARTS: Final = 10_000
"""Of one object at most: from 52 GB on, parts are larger."""
_CHUNK: Final = 256 << 10
"""Bytes read from the network at once."""
_SPOOL: Final = 1 << 20
"""Bytes of a new blob that are kept in memory."""

_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_LOCKED: Final = re.compile(r"protected by object lock|WORM|ObjectLocked", re.IGNORECASE)
_STATUS: Final = re.compile(r"status code: (\d{3})")
_RIGHTS: Final = "Needed are s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"
_REGION: Final = "the bucket is in another region. Correct s3.region"
_NOBODY: Final = (
    "there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to "
    "~/.aws/credentials"
)
_BUSY: Final = "the service is overloaded or out of order. Run it again later"
_FULL: Final = "there is no room left. Make room, then run it again"
_WORDS: Final = {
    "NoSuchBucket": "there is no such bucket. Create it, or correct its name (archive.blobs)",
    "InvalidBucketName": "that is no name of a bucket. Correct archive.blobs",
    "AccessDenied": f"the credentials have no right to do that. {_RIGHTS}",
    "AllAccessDisabled": f"the credentials have no right to do that. {_RIGHTS}",
    "InvalidAccessKeyId": "the access key is unknown there. Check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is wrong. Check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired. Get new ones",
    "InvalidToken": "the session token is wrong. Check AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "the clock of this machine is wrong. Set it",
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "507": _FULL,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": _BUSY,
    "401": "the credentials were refused. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "403": f"the credentials have no right to do that. {_RIGHTS}",
    "429": _BUSY,
    "500": _BUSY,
    "502": _BUSY,
    "503": _BUSY,
    "504": _BUSY,
}
"""What a code of the service, or else its status, means for an admin."""
_ONE: Final = {"AccessDenied", "InternalError", "NoSuchKey", "412", "416", "500", "502", "504"}
"""What a service may answer for one object that it cannot read."""


class S3Store(base.Store):
    """Blobs below the prefix of a bucket; ``root`` is the archive's directory, for new ones.

    So many ``remembered`` blobs are not read again when they are stored again. Names of entries
    are keys without the prefix. A request that fails is repeated for ``patience`` seconds.
    """

    waits = True
    if_bare = (
        "Is that the bucket and the prefix of this archive, and s3.endpoint its service? Correct it"
    )

    def __init__(
        self, root: Path, place: Place, *, remembered: int = 1 << 16, patience: float = 120
    ) -> None:
        """Connect to nothing yet. Raises ConfigError for what cannot be a place."""
        self._root = root
        self.where = place.url
        self._bucket = _bucket(place, patience)
        self._remembered = remembered
        self._verified: dict[str, Hashable] = {}
        self._lock = threading.Lock()
        self._is_known = False
        """The bucket was seen: what is not found in it is not there."""

    def prepare(self) -> None:
        if not self._is_known:
            self._ask(ArchiveUnwritable)

    def missing(self) -> list[str]:
        self._ask(ArchiveUnreachable)
        return []

    def writer(self) -> base.Writer:
        with durable.writing(self._root):
            return _Writer(
                self._root,
                tempfile.SpooledTemporaryFile(max_size=_SPOOL, dir=str(self._root)),
                self._keep,
            )

    def open(self, sha256: str, /) -> base.Blob | None:
        key = _key(sha256)
        with self._border(ArchiveDamaged, key):
            found = self._get(key)
            return None if found is None else _Blob(self, key, found)

    def size(self, sha256: str, /) -> int | None:
        meta = self._head(_key(sha256))
        return None if meta is None else meta["size"]

    def has(self, sha256: str, /) -> bool:
        try:
            return self._head(_key(sha256)) is not None
        except ArchiveDamaged:
            return True

    def blocked(self, sha256: str, /) -> str | None:
        _key(sha256)
        return None

    def examine(self, sha256: str, size: int, /) -> Examined:
        try:
            blob = self.open(sha256)
            if blob is None:
                return Examined(Verdict.LOST)
            with blob:
                read = hashlib.sha256()
                for block in blob.blocks() if blob.size == size else ():
                    read.update(block)
        except ArchiveUnreachable:
            raise
        except ArchiveDamaged as error:
            self._ask(ArchiveUnreachable)  # is it the blob, or all of the bucket?
            return Examined(Verdict.DAMAGED, f"it cannot be read: {error}")
        whole = blob.size == size and read.hexdigest() == sha256
        return Examined(Verdict.OK if whole else Verdict.DAMAGED)

    def scan(self, unreadable: Callable[[str, str], None] | None = None, /) -> Iterator[Entry]:
        try:
            with self._border(ArchiveDamaged, "blobs"):
                for some in obstore.list(self._bucket, "blobs", chunk_size=1000):
                    for meta in some:
                        yield _named(meta["path"], meta["size"])
        except ArchiveDamaged as error:
            if unreadable is None or isinstance(error, ArchiveUnreachable):
                raise
            unreadable("blobs", str(error))

    def entry(self, name: str, /) -> Entry | None:
        meta = self._head(name) if _named(name).kind else None
        return None if meta is None else _named(name, meta["size"])

    def remove(self, name: str, /) -> int:
        if _named(name).kind is None:
            raise ValueError(f"{name!r} is no object of this store")
        with self._border(ArchiveUnwritable, name):
            meta = self._look(name)
            if meta is None:
                raise ArchiveUnwritable(f"There is no {name!r} in {self.where}.")
            obstore.delete(self._bucket, name)
            return meta["size"]

    # Other objects below the prefix, beside the blobs.

    def put_object(self, key: str, file: IO[bytes], size: int) -> None:
        """Upload a file of ``size`` bytes in one step, and see it there. Raises ArchiveUnwritable.

        It replaces what has that key.
        """
        with self._border(ArchiveUnwritable, key):
            self._put_parts(key, file, size)
            self._see_size(key, size)

    def object_blocks(self, key: str) -> Iterator[bytes] | None:
        """Return the bytes of an object in blocks, None if there is none. Raises ArchiveDamaged."""
        with self._border(ArchiveDamaged, key):
            found = self._get(key)
        return None if found is None else self._blocks_of(key, found)

    def _blocks_of(self, key: str, found: GetResult) -> Iterator[bytes]:
        with self._border(ArchiveDamaged, key):
            for chunk in found.stream(min_chunk_size=_CHUNK):
                yield bytes(chunk)

    def objects(self, folder: str) -> list[str]:
        """Return the keys below ``folder``, the one written last as the last. May raise."""
        with self._border(ArchiveDamaged, folder):
            found = [meta for some in obstore.list(self._bucket, folder) for meta in some]
        return [one["path"] for one in sorted(found, key=lambda m: (m["last_modified"], m["path"]))]

    def remove_object(self, key: str) -> None:
        """Remove an object, if it is there. Raises ArchiveUnwritable."""
        with self._border(ArchiveUnwritable, key), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._bucket, key)

    # Requests. Those with a name in quotes may raise anything of obstore.

    def _ask(self, kind: type[ArchiveError]) -> None:
        """Raise ``kind`` unless the bucket answers."""
        with self._border(kind, ""):
            self._list_one()

    def _list_one(self) -> None:
        next(iter(obstore.list(self._bucket, "blobs", chunk_size=1)), None)
        self._is_known = True

    def _see(self) -> None:
        """Ask once, where nothing was found: a missing bucket looks like a missing blob."""
        if not self._is_known:
            self._list_one()

    def _head(self, key: str) -> ObjectMeta | None:
        with self._border(ArchiveDamaged, key):
            return self._look(key)

    def _look(self, key: str) -> ObjectMeta | None:
        try:
            return obstore.head(self._bucket, key)
        except FileNotFoundError:
            self._see()
            return None

    def _get(self, key: str, **options: Any) -> GetResult | None:
        try:
            return obstore.get(self._bucket, key, options=options or None)  # type: ignore[arg-type]
        except FileNotFoundError:
            self._see()
            return None

    @contextlib.contextmanager
    def _border(self, kind: type[ArchiveError], key: str) -> Iterator[None]:
        """Turn what obstore raises into ``kind``, in an admin's words."""
        try:
            yield
        except ArchiveUnreachable as error:  # of a border within
            if kind is ArchiveUnwritable:
                raise kind(str(error)) from error
            raise
        except BaseError as error:
            name = f"{self.where}/{key}" if key else self.where
            if kind is ArchiveDamaged and not _of_one(error):
                kind = ArchiveUnreachable
            raise kind(f"{name!r}: {_words(error)}.") from error

    # Writing.

    def _keep(self, file: IO[bytes], sha256: str, size: int) -> bool:
        """Upload a new file as a blob; return False when a whole one is there already."""
        key = _key(sha256)
        with self._border(ArchiveUnwritable, key):
            if self._holds(sha256, size):
                return False
            if size > _PART:
                self._put_parts(key, file, size)
            elif not self._create(key, file):
                if self._holds(sha256, size):  # another writer was faster
                    return False
                file.seek(0)
                obstore.put(self._bucket, key, file, use_multipart=False)
            self._see_size(key, size)
        return True

    def _put_parts(self, key: str, file: IO[bytes], size: int) -> None:
        """Upload a file in parts, one at a time."""
        file.seek(0)
        part = max(_PART, -(-size // _PARTS))
        obstore.put(self._bucket, key, file, chunk_size=part, max_concurrency=1)

    def _see_size(self, key: str, size: int) -> None:
        """Raise ArchiveUnwritable unless the service shows what it took."""
        meta = self._look(key)
        if meta is None or meta["size"] != size:
            shown = "shows nothing" if meta is None else f"shows {meta['size']:,} of them"
            raise ArchiveUnwritable(
                f"{self.where}/{key}: the service took {size:,} bytes and {shown}. Nothing is "
                "recorded as stored. Check the service, then run it again."
            )

    def _create(self, key: str, file: IO[bytes]) -> bool:
        """Upload a small file unless something has its key."""
        file.seek(0)
        try:
            obstore.put(self._bucket, key, file, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def _holds(self, sha256: str, size: int) -> bool:
        """Return whether the blob is there and whole; read it only once per process."""
        meta = self._look(_key(sha256))
        if meta is None or meta["size"] != size:
            return False
        version = _version(meta)
        if self._verified.get(sha256) == version:
            return True
        if self.examine(sha256, size).verdict is not Verdict.OK:
            return False
        with self._lock:
            if len(self._verified) >= self._remembered:
                self._verified.pop(next(iter(self._verified)))
            self._verified[sha256] = version
        return True


class _Writer(base.Writer):
    def __init__(
        self, root: Path, file: IO[bytes], keep: Callable[[IO[bytes], str, int], bool]
    ) -> None:
        super().__init__()
        self._root = root
        self._file = file
        self._keep = keep

    def append(self, data: bytes, /) -> None:
        with durable.writing(self._root):
            self._file.write(data)

    def reopen(self) -> int:
        fd = self._file.fileno()  # now there is a file
        self._file.seek(0)
        return os.dup(fd)

    def keep(self, sha256: str, size: int, /) -> bool:
        return self._keep(self._file, sha256, size)

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


class _Blob(base.Blob):
    """An object that is being received; reading goes on where it was, or asks anew elsewhere."""

    waits = True

    def __init__(self, store: S3Store, key: str, found: GetResult) -> None:
        meta = found.meta
        self._store, self._key = store, key
        self.size = meta["size"]
        self.version = _version(meta)
        self._tag = meta["e_tag"]
        self._at = 0
        self._rest = b""
        """Received bytes from ``_at`` on."""
        self._chunks: Iterator[Any] | None = iter(found.stream(min_chunk_size=_CHUNK))

    def read(self, offset: int, length: int, /) -> bytes:
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        with self._store._border(ArchiveDamaged, self._key):  # noqa: SLF001 - of this module
            try:
                return self._read(offset, length)
            except PreconditionError:
                raise
            except BaseError:  # the connection may have been idle for too long
                self._chunks = None
                return self._read(offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        if self._chunks is None or offset != self._at:
            options: dict[str, Any] = {"range": (offset, self.size)}
            if self._tag:
                options["if_match"] = self._tag
            found = self._store._get(self._key, **options)  # noqa: SLF001
            if found is None:
                raise ArchiveDamaged(f"{self._store.where}/{self._key}: it has gone.")
            self._chunks, self._rest, self._at = iter(found.stream(_CHUNK)), b"", offset
        pieces, have = [self._rest], len(self._rest)
        while have < length and (chunk := next(self._chunks, None)) is not None:
            pieces.append(bytes(chunk))
            have += len(pieces[-1])
        data = b"".join(pieces)
        self._at, self._rest = offset + min(have, length), data[length:]
        return data[:length]

    def untouched(self) -> bool:
        if self._tag:
            return True  # one answer is of one version, and another one was asked for by its tag
        meta = self._store._head(self._key)  # noqa: SLF001
        return meta is not None and _version(meta) == self.version

    def close(self) -> None:
        self._chunks, self._rest = None, b""


def _key(sha256: str) -> str:
    if not _HEX64.fullmatch(sha256):
        raise ValueError("a blob is named by 64 lower-case hex digits")
    return f"blobs/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def _named(name: str, size: int | None = None) -> Entry:
    if found := _BLOB.fullmatch(name):
        return Entry(name, "blob", found[3], size)
    return Entry(name, "temporary" if _TEMP.fullmatch(name) else None, size=size)


def _version(meta: ObjectMeta) -> Hashable:
    return meta["e_tag"], meta["version"], meta["size"], meta["last_modified"]


def _bucket(place: Place, patience: float) -> Bucket:
    parts = urlsplit(place.url)
    name, prefix = parts.netloc, parts.path.strip("/")
    if parts.scheme != "s3" or not name or parts.query or parts.fragment or "@" in name:
        raise ConfigError("archive.blobs must look like s3://bucket/prefix.")
    told = {"endpoint": place.endpoint, "region": place.region}
    options: dict[str, Any] = _from_files() | {key: value for key, value in told.items() if value}
    try:
        return Bucket(
            name,
            prefix=prefix or None,
            checksum_algorithm="sha256",
            client_options={
                "allow_http": place.allow_http,
                "connect_timeout": "10s",
                "timeout": "10m",
            },
            retry_config={"max_retries": 10, "retry_timeout": timedelta(seconds=patience)},
            **options,
        )
    except (BaseError, ValueError) as error:
        raise ConfigError(f"archive.blobs or [s3] cannot be used: {_words(error)}.") from error


def _from_files() -> dict[str, str]:
    """Return what the environment leaves to the files of AWS's own tools.

    https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html
    """
    env, home, found = os.environ, Path.home() / ".aws", dict[str, str]()
    profile = env.get("AWS_PROFILE") or "default"
    names = {
        "AWS_SHARED_CREDENTIALS_FILE": (
            "credentials",
            profile,
            ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
        ),
        "AWS_CONFIG_FILE": (
            "config",
            profile if profile == "default" else f"profile {profile}",
            ("region", "endpoint_url"),
        ),
    }
    for variable, (file, section, keys) in names.items():
        parser = configparser.RawConfigParser(strict=False)
        with contextlib.suppress(OSError, configparser.Error, UnicodeDecodeError):
            parser.read(env.get(variable) or home / file, encoding="utf-8")
        for key in keys:
            option = "endpoint" if key == "endpoint_url" else key.removeprefix("aws_")
            if parser.has_option(section, key):
                found[option] = parser.get(section, key)
    if env.get("AWS_ACCESS_KEY_ID"):
        for option in ("access_key_id", "secret_access_key", "session_token"):
            found.pop(option, None)
    for option, names_of in (
        ("region", ("AWS_REGION", "AWS_DEFAULT_REGION")),
        ("endpoint", ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")),
    ):
        for variable in names_of:
            if env.get(variable):
                found[option] = env[variable]
    return found


def _of_one(error: Exception) -> bool:
    """Return whether an error may concern one object, not all of the service."""
    text = str(error)
    said = [found[1] for found in (_CODE.search(text), _STATUS.search(text)) if found]
    if not said:
        return "error sending request" not in text and "builder error" not in text
    return any(each in _ONE for each in said)


def _words(error: Exception) -> str:
    """Say what happened and what to do, without the library's details."""
    text = str(error).partition("\n\nDebug source:")[0]
    code, status = _CODE.search(text), _STATUS.search(text)
    said = [found[1] for found in (code, status) if found]
    known = [_WORDS[each] for each in said if each in _WORDS]
    if _LOCKED.search(text):
        known = ["object lock protects it. It can be removed once its retention has ended"]
    elif isinstance(error, PreconditionError):
        known = ["it was replaced while it was read. Run `migrator verify`"]
    elif "169.254.169.254" in text or "credential" in text.lower():
        known = [_NOBODY]
    elif "without LOCATION" in text:
        known = [_REGION]
    elif isinstance(error, PermissionDeniedError | UnauthenticatedError):
        known.append(_WORDS["403"])
    elif "builder error" in text:
        known.append(
            "s3.endpoint begins with http://. Set s3.allow_http (--allow-http), or use https://"
        )
    elif "error sending request" in text:
        known.append(
            "the service cannot be reached. Check s3.endpoint, the network and the certificate"
        )
    known += [f"the service answered {each}" for each in said]
    known.append(re.sub(r"https?://\S+", "the service", text.splitlines()[0])[:200].rstrip("."))
    return known[0]
