"""The configuration: one TOML file, whose secrets may come from the environment.

:func:`load` reads and checks the whole file and reports all its mistakes together, each
with its dotted key. What it returns is frozen and in plain units: durations in seconds, sizes in
bytes, percentages as a fraction of 1, paths absolute. Texts of mistakes never show a value of the
file, because any value may turn out to be a misplaced secret. :func:`load_ticket_numbers` reads
the file that says which Tickiti ticket number each Kayako ticket got.
"""

from __future__ import annotations

import base64
import csv
import difflib
import errno
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import ErrorDetails

from migrator import hours
from migrator.errors import ConfigError

DEFAULT_PATH: Final = Path("config.toml")
SECRETS: Final = {
    "api_key": "KAYAKO_API_KEY",
    "secret_key": "KAYAKO_SECRET_KEY",
    "http_user": "KAYAKO_HTTP_USER",
    "http_password": "KAYAKO_HTTP_PASSWORD",
}
"""The keys of ``[kayako]`` that an environment variable overrides, and its name."""
TOKEN: Final = "TICKITI_TOKEN"  # noqa: S105 - its name
"""The variable that overrides ``deliver.token``."""
NOTIFY: Final = {
    "ping": "MIGRATOR_PING",
    "webhook": "MIGRATOR_WEBHOOK",
    "webhook_key": "MIGRATOR_WEBHOOK_KEY",
}
"""The keys of ``[notify]`` that an environment variable overrides, and its name."""
METRICS_TOKEN: Final = "MIGRATOR_METRICS_TOKEN"  # noqa: S105 - its name
"""The variable that overrides ``metrics.token``."""
_SHORTEST: Final = 16
"""Characters of a token that people choose, at least."""
_NEEDED: Final = ("api_key", "secret_key")

_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES: Final = {
    **{unit: 1000**power for power, unit in enumerate(("b", "kb", "mb", "gb", "tb"))},
    **{unit: 1024**power for power, unit in enumerate(("b", "kib", "mib", "gib", "tib"))},
}
_QUANTITY: Final = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-z%]+)\s*", re.IGNORECASE)
_INT64: Final = 2**63 - 1
_LARGEST: Final = 1 << 20
"""Characters of a configuration at most."""


# Types of values; every message completes the sentence "kayako.timeout: …".


def _whole(low: int, high: int) -> BeforeValidator:
    def check(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be a whole number between {low} and {high}")
        return value

    return BeforeValidator(check)


def _number(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= float(value) <= 1e6:  # type: ignore[arg-type]
        raise ValueError("must be a number between 0 and 1000000, such as 5 or 0.5")
    return float(value)  # type: ignore[arg-type]


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")  # noqa: TRY004 - for pydantic
    return value


def _text(value: object) -> str:
    """Accept one non-empty line of text; strip spaces around it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text between quotes, and not empty")
    if any(not character.isprintable() for character in value.strip()):
        raise ValueError("must be one line without control characters")
    return value.strip()


def _quantity(value: object, units: Mapping[str, float], hint: str) -> float:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    factor = units.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(hint)
    return float(match[1]) * factor


def duration(value: object) -> float:
    """Read a duration such as ``500ms``, ``30s``, ``15m``, ``1h``, ``7d`` as seconds.

    Raises ValueError with a text for the user, as do :func:`size` and :func:`fraction`.
    """
    return _quantity(value, _SECONDS, 'must be a duration such as "30s", "15m" or "7d"')


def _seconds(at_least: float) -> BeforeValidator:
    def check(value: object) -> float:
        seconds = duration(value)
        if not at_least <= seconds <= 3650 * 86_400:
            least = "0s" if at_least == 0 else f"{at_least * 1000:g}ms"
            raise ValueError(f'must be between "{least}" and "3650d"')
        return seconds

    return BeforeValidator(check)


def size(value: object) -> int:
    """Read a size such as ``25MiB``, ``1GB`` or a number of bytes."""
    hint = 'must be a size such as "25MiB" or "1GiB", or a number of bytes'
    count = value if type(value) is int else int(_quantity(value, _BYTES, hint))
    if not 1 <= count <= _INT64:
        raise ValueError("must be at least 1 byte and less than 8EiB")
    return count


def fraction(value: object) -> float:
    """Read a percentage such as ``5%`` as a fraction of 1."""
    part = _quantity(value, {"%": 0.01}, 'must be a percentage such as "5%"')
    if part > 1:
        raise ValueError('must be between "0%" and "100%"')
    return part


def bucket_url(value: object) -> str:
    """Accept ``s3://bucket/prefix``. Raises ValueError, as :func:`endpoint_url`."""
    text = _text(value).rstrip("/")
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.!'()*-]+)*", text, re.ASCII):
        raise ValueError('must look like "s3://bucket/prefix"')
    return text


def endpoint_url(value: object) -> str:
    """Accept the address of a service."""
    text = _text(value).rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError('must look like "https://s3.example.com", without a name or password')
    return text


def _path(value: object, info: ValidationInfo) -> Path:
    """Return an absolute path; a relative one is relative to the configuration file."""
    base: Path = (info.context or {}).get("base", Path())
    path = value if isinstance(value, Path) else Path(_text(value))
    if path.parts and path.parts[0].startswith("~"):
        home = os.path.expanduser(path.parts[0])  # noqa: PTH111 - leaves what it does not know
        if not os.path.isabs(home) or not os.path.isdir(home) or os.environ.get("HOME") == "":  # noqa: PTH112, PTH117
            raise ValueError(f"begins with {path.parts[0]}, a home that is unknown or not there")
        path = Path(home, *path.parts[1:])
    path = base / path
    _kind_of(path)
    return path


def _kind_of(path: Path) -> int:
    """Return the kind of file at ``path``, as of ``stat.S_IFMT``; 0 if nothing can be seen there.

    Raises ValueError for a path at which nothing can ever be.
    """
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError as exc:
        if exc.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR):
            raise ValueError(f"cannot be used: {exc.strerror}") from None
        if exc.errno == errno.ENOENT and path.is_symlink():
            raise ValueError("is a link to nowhere; is its disk mounted?") from None
        return 0


def _existing_file(value: object, info: ValidationInfo) -> Path:
    path = _path(value, info)
    if _kind_of(path) != stat.S_IFREG:
        raise ValueError("names a file that does not exist (relative to the configuration file)")
    return path


def _api_url(value: object) -> str:
    """Accept the API URL, or the address of the helpdesk from which it follows."""
    text = _text(value)
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, a missing bracket
        valid = False
    if not valid or " " in text:
        raise ValueError("must be an address such as https://help.example.com/api/index.php")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or a password")
    if parts.query or parts.fragment:
        raise ValueError("must end with /api/index.php, without anything after it")
    path = parts.path.rstrip("/")
    if not path.endswith("index.php"):
        path = path.removesuffix("/api") + "/api/index.php"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _address(value: object) -> str:
    """Accept the address of a web site, without a path's last slash, a query or a password."""
    text = _text(value)
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, a missing bracket
        valid = False
    if not valid or " " in text or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://support.example.com")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or a password")
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return urlunsplit((parts.scheme, parts.netloc.lower(), path, "", ""))


def _email(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[^@\s]+@[^@\s]+", text):
        raise ValueError("must be an e-mail address such as migration@example.com")
    return text


def _header(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isascii():
        raise ValueError("must be the token as Tickiti showed it, such as 14|wfxN4z")
    return value


def _told_address(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not re.fullmatch(r"https?://[^\s/?#]+([/?][^\s#]*)?", text, re.ASCII):
        raise ValueError("must be an address that begins with https:// or http://")
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("has no host, or a port that is none")
    return value


def signing_key(value: SecretStr) -> bytes:
    """Return the bytes of a key such as ``whsec_…``, as Standard Webhooks writes it."""
    try:
        text = value.get_secret_value().removeprefix("whsec_")
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError(
            "must be 24 to 64 bytes in base64, with or without whsec_ before them; "
            "`openssl rand -base64 32` makes one"
        )
    return key


def _signing_key(value: SecretStr) -> SecretStr:
    signing_key(value)
    return value


def _argv(value: object) -> tuple[str, ...]:
    hint = 'must be a list of texts, such as ["/usr/local/bin/tell", "--all"]'
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(hint)
    if not value or not value[0].strip() or any("\0" in one for one in value):
        raise ValueError(hint)
    return tuple(value)


def _events(value: object) -> frozenset[str]:
    known = ("failure", "losses", "recovery", "summary")
    if not isinstance(value, list) or any(one not in known for one in value):
        raise ValueError(f"must be a list of {', '.join(known)}, each between quotes")
    return frozenset(value)


def _bearer(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not re.fullmatch(rf"[\w.~+/=-]{{{_SHORTEST},256}}", text, re.ASCII):
        raise ValueError(
            f"must be {_SHORTEST} to 256 letters, digits and signs such as - and _, as of "
            "`openssl rand -hex 16`"
        )
    return value


def _textfile(value: Path) -> Path:
    if value.suffix != ".prom":
        raise ValueError("must end with .prom: node exporter reads no other file")
    return value


def _queues(value: object) -> dict[int, Any]:
    """Convert the department ids, which TOML has as strings only, into numbers."""
    if not isinstance(value, dict):
        raise ValueError('must be lines such as "3" = { id = 12, name = "Sales" }')  # noqa: TRY004
    queues: dict[int, Any] = {}
    for key, queue in value.items():
        if not re.fullmatch(r"[0-9]{1,18}", str(key), re.ASCII):
            raise ValueError('must have Kayako department ids as keys, such as "3"')
        if int(key) in queues:
            raise ValueError(f"names department {int(key)} twice")
        queues[int(key)] = queue
    return queues


def _windows(value: object) -> hours.Spans:
    return hours.windows(_text(value))


def _rates(value: object) -> tuple[tuple[hours.Spans, int], ...]:
    """Accept bytes per second, with their times or without; 0 is no limit."""
    if type(value) is int:
        return ((hours.ALWAYS, size(value)),) if value else ()
    if not isinstance(value, str):
        raise ValueError(hours.RATES_HINT)  # noqa: TRY004 - for pydantic
    return hours.rates(_text(value), size)


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(_text(value))
    except (ValueError, OSError, LookupError):
        raise ValueError(
            'must be a time zone that this system knows, such as "Europe/Berlin" (where it knows '
            "none, `pip install tzdata` helps)"
        ) from None


def _http_user(value: object) -> str:
    """Accept a name for basic authentication, which ends at the first colon."""
    text = _text(value)
    if ":" in text:
        raise ValueError("must not hold a colon")
    return text


Text = Annotated[str, BeforeValidator(_text)]
Secret = Annotated[SecretStr, BeforeValidator(_text)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Size = Annotated[int, BeforeValidator(size)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class KayakoConfig(_Section):
    """``[kayako]``: how to reach the source, and how gently.

    ``url``, ``api_key`` and ``secret_key`` are empty when a command that needs no source was
    given a file without them. ``http_user`` and ``http_password`` are for a web server that wants
    a log-in. ``requests_per_second`` 0 means no limit. ``timeout`` (silence) and ``patience`` (with
    a server that went away) are in seconds, ``max_body`` is the largest reply in bytes,
    ``attempts`` how often one request is made before it counts as failed. ``windows``,
    ``bytes_per_second`` and ``timezone`` are those of :attr:`Config.hours`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    url: Annotated[str, BeforeValidator(_api_url)] = ""
    api_key: Secret = SecretStr("")
    secret_key: Secret = SecretStr("")
    http_user: Annotated[Text, BeforeValidator(_http_user)] = ""
    http_password: Secret = SecretStr("")
    concurrency: Annotated[int, _whole(1, 64)] = 8
    requests_per_second: Annotated[float, BeforeValidator(_number)] = 0.0
    windows: Annotated[hours.Spans, BeforeValidator(_windows)] = ()
    bytes_per_second: Annotated[tuple[tuple[hours.Spans, int], ...], BeforeValidator(_rates)] = ()
    timezone: Annotated[ZoneInfo, BeforeValidator(_zone)] | None = None
    url_form: Literal["e", "standard"] = "e"
    ca_file: Annotated[Path, BeforeValidator(_existing_file)] | None = None
    timeout: Annotated[float, _seconds(0.001)] = 60.0
    page_size: Annotated[int, _whole(1, 1000)] = 100
    max_body: Size = 1 << 30
    attempts: Annotated[int, _whole(1, 10)] = 4
    patience: Annotated[float, _seconds(0)] = 120.0
    include_trash: Flag = False
    posts: Flag = True
    linked_files: Flag = True
    knowledge_base: Flag = True
    custom_fields: Flag = True


class ArchiveConfig(_Section):
    """``[archive]``: the place of the archive, and what is kept there beside files.

    ``blobs`` is a bucket for the files. With ``publish`` each run and sync writes a snapshot of the
    checkpoint into it, of which the last ``keep_snapshots`` stay.
    """

    path: Annotated[Path, BeforeValidator(_path)] = Field(Path("archive"), validate_default=True)
    blobs: Annotated[str, BeforeValidator(bucket_url)] | None = None
    keep_replies: Flag = True
    publish: Flag = False
    keep_snapshots: Annotated[int, _whole(1, 1000)] = 10


class S3Config(_Section):
    """``[s3]``: the service that has the bucket; None is what the environment says."""

    endpoint: Annotated[str, BeforeValidator(endpoint_url)] | None = None
    region: Text | None = None
    allow_http: Flag = False


class SyncConfig(_Section):
    """``[sync]``: durations in seconds; ``max_deletions`` is a fraction of 1."""

    margin: Annotated[float, _seconds(0)] = 3600.0
    full_pass_every: Annotated[float, _seconds(0)] = 7 * 86_400.0
    max_deletions: Annotated[float, BeforeValidator(fraction)] = 0.05


class QueueConfig(_Section):
    """The Tickiti queue of a Kayako department."""

    id: Annotated[int, _whole(1, _INT64)]
    name: Text


class TickitiConfig(_Section):
    """``[tickiti]``: the endpoint; ``queues`` is keyed by Kayako department id.

    ``tls_key`` None with a ``tls_cert`` means that the key is in the same file; without one it is
    plain HTTP. ``forwarded_allow_ips`` are the trusted proxies.
    """

    host: Text = "127.0.0.1"
    port: Annotated[int, _whole(0, 65_535)] = 8480
    tls_cert: Annotated[Path, BeforeValidator(_existing_file)] | None = None
    tls_key: Annotated[Path, BeforeValidator(_existing_file)] | None = None
    forwarded_allow_ips: Text | None = None
    max_connections: Annotated[int, _whole(1, 4096)] = 256
    audit_log: Annotated[Path, BeforeValidator(_path)] | None = None
    max_download: Size = 25 << 20
    serve_deleted: Flag = False
    ticket_numbers: Annotated[Path, BeforeValidator(_existing_file)] | None = None
    queues: Annotated[dict[int, QueueConfig], BeforeValidator(_queues)] = {}


class DeliverConfig(_Section):
    """``[deliver]``: the live Tickiti that ``deliver`` writes into; ``url`` "" is none.

    ``pages`` is the address of our own pages, for what Tickiti does not take. ``timeout``,
    ``patience``, ``concurrency`` and ``requests_per_second`` are as in ``[kayako]``.
    """

    url: Annotated[str, BeforeValidator(_address)] = ""
    token: Annotated[Secret, AfterValidator(_header)] = SecretStr("")
    author: Annotated[Text, BeforeValidator(_email)] = ""
    after_sync: Flag = False
    max_upload: Size = 25 << 20
    pages: Annotated[str, BeforeValidator(_address)] = ""
    concurrency: Annotated[int, _whole(1, 16)] = 2
    requests_per_second: Annotated[float, BeforeValidator(_number)] = 0.0
    timeout: Annotated[float, _seconds(0.001)] = 300.0
    patience: Annotated[float, _seconds(0)] = 120.0


class NotifyConfig(_Section):
    """``[notify]``: whom to tell what happened; "" and () are nobody.

    ``summary_hour`` is of the local day. ``timeout`` (seconds) is for all that is sent at the end
    of a command.
    """

    ping: Annotated[Secret, AfterValidator(_told_address)] = SecretStr("")
    ping_exit_code: Flag = False
    webhook: Annotated[Secret, AfterValidator(_told_address)] = SecretStr("")
    webhook_key: Annotated[Secret, AfterValidator(_signing_key)] = SecretStr("")
    command: Annotated[tuple[str, ...], BeforeValidator(_argv)] = ()
    events: Annotated[frozenset[str], BeforeValidator(_events)] = frozenset(
        {"failure", "losses", "recovery", "summary"}
    )
    summary_hour: Annotated[int, _whole(0, 23)] = 8
    timeout: Annotated[float, _seconds(0.1)] = 30.0

    @property
    def tells(self) -> bool:
        """Whether anybody is told anything."""
        return bool(self.ping.get_secret_value() or self.webhook.get_secret_value() or self.command)


class MetricsConfig(_Section):
    """``[metrics]``: for Prometheus; needs the extra of this name.

    With ``serve``, or a ``token`` that every reader must have, `serve` answers at ``/metrics``.
    Commands that change the archive write ``textfile`` for node exporter.
    """

    serve: Flag = False
    token: Annotated[Secret, AfterValidator(_bearer)] = SecretStr("")
    textfile: Annotated[Path, BeforeValidator(_path), AfterValidator(_textfile)] | None = None

    @property
    def served(self) -> bool:
        """Whether `serve` has metrics."""
        return self.serve or bool(self.token.get_secret_value())


class _File(_Section):
    kayako: KayakoConfig
    archive: ArchiveConfig
    s3: S3Config
    sync: SyncConfig
    tickiti: TickitiConfig
    deliver: DeliverConfig
    notify: NotifyConfig
    metrics: MetricsConfig


_SECTIONS: Final[dict[str, Any]] = {
    name: field.annotation for name, field in _File.model_fields.items()
}


@dataclass(frozen=True)
class Config:
    """A checked configuration; ``warnings`` are sentences for the user, ``path`` its file."""

    kayako: KayakoConfig
    archive: ArchiveConfig
    s3: S3Config
    sync: SyncConfig
    tickiti: TickitiConfig
    deliver: DeliverConfig
    notify: NotifyConfig
    metrics: MetricsConfig
    path: Path
    warnings: tuple[str, ...] = ()

    @property
    def keeps_posts(self) -> bool:
        """Whether runs keep the texts of tickets, so that an unread text counts as open."""
        return self.kayako.posts

    @property
    def hours(self) -> hours.Hours:
        """When requests may be made to Kayako, and how many bytes a second may come."""
        kayako = self.kayako
        return hours.Hours(kayako.windows, kayako.bytes_per_second, kayako.timezone)


def load(
    path: Path | None, environ: Mapping[str, str] = os.environ, *, need_source: bool = True
) -> Config:
    """Read and check the configuration file ``path`` (None: ``./config.toml``).

    Environment variables of :data:`SECRETS` win over the file. Without ``need_source`` the
    address and the keys of Kayako may be absent; what is there is checked all the same.
    Raises ConfigError that lists all mistakes.
    """
    path = path or DEFAULT_PATH
    try:
        path = path.absolute()
    except OSError:
        raise ConfigError(
            "The current directory no longer exists: change into another, and name the "
            "configuration with -c/--config."
        ) from None
    tables = _read_toml(path)
    warnings = tuple(_warnings(path, tables))
    tables = {section: {} for section in _SECTIONS} | tables
    kayako = tables["kayako"]
    if isinstance(kayako, dict):
        _overlay(kayako, environ, SECRETS)
    if isinstance(tables["deliver"], dict):
        _overlay(tables["deliver"], environ, {"token": TOKEN})
    if isinstance(tables["notify"], dict):
        _overlay(tables["notify"], environ, NOTIFY)
    if isinstance(tables["metrics"], dict):
        _overlay(tables["metrics"], environ, {"token": METRICS_TOKEN})
    mistakes: list[str] = []
    try:
        parsed = _File.model_validate(tables, context={"base": path.parent})
    except ValidationError as exc:
        mistakes = [_sentence(error) for error in exc.errors(include_url=False)]
    if need_source and isinstance(kayako, dict):
        mistakes += _absent(kayako)
    if mistakes:
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ConfigError("\n  ".join([f"{path} has {count}:", *mistakes]))
    sections = {name: getattr(parsed, name) for name in _SECTIONS}
    return Config(**sections, path=path, warnings=warnings)


def metrics_from_environment(environ: Mapping[str, str] = os.environ) -> MetricsConfig:
    """Return ``[metrics]`` where there is no file. Raises ConfigError."""
    section: dict[str, Any] = {}
    _overlay(section, environ, {"token": METRICS_TOKEN})
    try:
        return MetricsConfig.model_validate(section)
    except ValidationError as exc:
        mistake = _sentence(exc.errors(include_url=False)[0]).partition(": ")[2]
        raise ConfigError(f"{METRICS_TOKEN}: {mistake}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        # Nothing waits for a pipe, and no device is read without end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"Cannot read {path}: it is no file.")
        # Windows editors often write a byte order mark, which TOML forbids.
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise ConfigError(f"{path} is too large for a configuration.")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no configuration at {path}. `migrator init` writes one to fill in; "
            "-c/--config or MIGRATOR_CONFIG names another."
        ) from None
    except OSError as exc:
        raise ConfigError(f"Cannot read {path}: {exc.strerror}.") from exc
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text. Save it as UTF-8.") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply.") from None
    except ValueError as exc:
        raise ConfigError(f"{path} is not valid TOML: {exc}. Are all texts in quotes?") from None


def _overlay(
    section: dict[str, Any], environ: Mapping[str, str], secrets: Mapping[str, str]
) -> None:
    """Override the file's secrets with those of the environment; an empty one counts as unset."""
    for key, name in secrets.items():
        if environ.get(name):
            section[key] = environ[name]
        elif section.get(key) == "":
            del section[key]


def _warnings(path: Path, tables: dict[str, Any]) -> Iterator[str]:
    kayako = tables.get("kayako")
    secrets = [kayako.get(key) for key in SECRETS] if isinstance(kayako, dict) else []
    deliver = tables.get("deliver")
    secrets += [deliver.get("token")] if isinstance(deliver, dict) else []
    notify = tables.get("notify")
    secrets += [notify.get(key) for key in NOTIFY] if isinstance(notify, dict) else []
    others = (tables.get("deliver"), tables.get("metrics"))
    secrets += [section.get("token") for section in others if isinstance(section, dict)]
    if any(secrets) and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield f"{path} holds keys and others can read it: run `chmod 600` on it."


def _absent(kayako: Mapping[str, object]) -> Iterator[str]:
    if "url" not in kayako:
        yield "kayako.url: is missing; see REST API, API Information in Kayako's Admin CP"
    for key in _NEEDED:
        if key not in kayako:
            name = SECRETS[key]
            yield f"kayako.{key}: is missing; set it in the file, or {name} in the environment"
    if ("http_user" in kayako) != ("http_password" in kayako):
        yield "kayako.http_user and kayako.http_password: one is missing; set both or neither"


def _sentence(error: ErrorDetails) -> str:
    """Return one mistake as ``dotted.key: what is wrong``."""
    key = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "value_error":
            return f"{key}: {error['ctx']['error']}"
        case "missing":
            return f"{key}: is missing"
        case "literal_error":
            return f"{key}: must be {error['ctx']['expected']}"
        case "extra_forbidden":
            return f"{key}: is not a key of this tool{_nearest(error['loc'])}"
        case _:
            return f"{key}: must be a table of keys, written as [{key}]"


def _nearest(loc: tuple[int | str, ...]) -> str:
    """Suggest the known key that was probably meant, here or in another section."""
    word = str(loc[-1])
    model = _SECTIONS[str(loc[0])] if len(loc) == 2 else QueueConfig
    here = _SECTIONS if len(loc) == 1 else model.model_fields
    if close := difflib.get_close_matches(word, here, n=1):
        return f"; did you mean {close[0]}?"
    elsewhere = [name for name, model in _SECTIONS.items() if word in model.model_fields]
    return f"; it belongs into [{elsewhere[0]}]" if elsewhere else ""


def load_ticket_numbers(path: Path) -> dict[int, str]:
    """Read the Tickiti ticket number of each Kayako ticket id from a CSV file.

    The header begins with ``kayako_ticket_id,ticket_number``; both must be unique, and a # before
    them is left out. A third column ``doubt``, as `deliver --match` writes it, must be empty;
    further ones are for people. Cells may be parted as spreadsheets do it, by semicolons or tabs.
    Raises ConfigError that lists all mistakes with their lines.
    """
    rows = _read_csv(path)
    head = [cell.lower() for cell in rows[0][1]] if rows else []
    if head[:2] != ["kayako_ticket_id", "ticket_number"]:
        raise ConfigError(f"{path}: its first line must be kayako_ticket_id,ticket_number.")
    doubt = head.index("doubt") if "doubt" in head else len(head)
    numbers: dict[int, str] = {}
    owners: dict[str, int] = {}
    mistakes: list[str] = []
    for line, cells in rows[1:]:
        cells[:2] = [cell.removeprefix("#") for cell in cells[:2]]
        ticket_id = int(cells[0]) if re.fullmatch(r"[0-9]{1,18}", cells[0], re.ASCII) else None
        if ticket_id is None or len(cells) != len(head) or not _is_number(cells[1]):
            mistakes.append(
                f"line {line}: must be a Kayako ticket id (the number in the address of the "
                "ticket, no ABC-123-45678) and a ticket number"
            )
        elif any(cells[doubt : doubt + 1]):
            mistakes.append(f"line {line}: is in doubt: empty its cell doubt once you have checked")
        elif ticket_id in numbers:
            mistakes.append(f"line {line}: ticket {ticket_id} is listed twice")
        elif (owner := owners.setdefault(cells[1], ticket_id)) != ticket_id:
            mistakes.append(f"line {line}: ticket {owner} has this number already")
        else:
            numbers[ticket_id] = cells[1]
    if mistakes:
        mistakes[20:] = [f"and {len(mistakes) - 20} more"] if len(mistakes) > 20 else []
        raise ConfigError("\n  ".join([f"{path} cannot be used:", *mistakes]))
    return numbers


def _is_number(text: str) -> bool:
    return bool(text) and text.isprintable()


def _read_csv(path: Path) -> list[tuple[int, list[str]]]:
    """Yield the non-empty lines as line number and cells."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            parted = re.match(r'"?\w+"?([,;\t])', lines.readline())
            lines.seek(0)
            reader = csv.reader(lines, strict=True, delimiter=parted[1] if parted else ",")
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except OSError as exc:
        raise ConfigError(f"Cannot read {path}: {exc.strerror}.") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise ConfigError(
            f"{path} is not a CSV file in UTF-8 (in Excel: CSV UTF-8): {exc}."
        ) from exc
    return [(line, cells) for line, cells in rows if any(cells)]
