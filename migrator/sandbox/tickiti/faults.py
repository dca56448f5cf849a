"""Everything that can go wrong, by name, and when it does."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from migrator.sandbox.tickiti.laravel import (
    HTML,
    Delivery,
    Refusal,
    Reply,
    page,
    reply,
)

ALL: Final = "all"
"""Stands for every fault of :data:`IN_ALL`."""
HARMLESS: Final = "harmless"
"""Stands for those of :data:`HARMLESS_FAULTS`."""
CREATE: Final = "tickets"
RESPOND: Final = "tickets/respond"
UPLOAD: Final = "tickets/attachment-upload"
SHOW: Final = "tickets/show"
DOWNLOAD: Final = "tickets/attachment"
QUERY: Final = "tickets/responses/query"
WRITES: Final = (CREATE, RESPOND, UPLOAD)
KEYED: Final = (CREATE, RESPOND)
READS: Final = (SHOW, "tickets/responses", "tickets/response", DOWNLOAD, QUERY)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: one line about it, and the paths that it hits; none for all.

    It hits the first call unless said otherwise. A ``lasting`` one stays from the first call that
    it hits, or takes minutes; those are not in ``all``. With one that ``costs``, even a perfect
    client cannot bring in every file of every ticket exactly once, and can only say so.
    """

    summary: str
    paths: tuple[str, ...] = ()
    lasting: bool = False
    costs: bool = False


FAULTS: Final[dict[str, Fault]] = {
    # Nothing is written.
    "error_before": Fault("500 in HTML before anything is written", WRITES),
    "gateway": Fault("502 of a proxy before anything is written", WRITES),
    "busy": Fault("503 with Retry-After before anything is written", WRITES),
    "throttle": Fault("429 with Retry-After in seconds"),
    "throttle_date": Fault("429 with Retry-After as a date"),
    "throttle_bare": Fault("429 without Retry-After"),
    "conflict": Fault("409: the key belongs to another payload", KEYED, costs=True),
    "key_busy": Fault("409: another request with the key is running", KEYED),
    "cut_request": Fault("the connection is closed while the request is read", WRITES),
    "ok_false": Fault("200 with ok: false, and nothing is written", WRITES),
    "stored_error": Fault("500 before the write, which the key repeats for ever", KEYED),
    # All is written, but the answer does not say so.
    "lost_answer": Fault("the connection is closed after the write", WRITES),
    "lost_answer_and_key": Fault("the same, and the key is forgotten", KEYED),
    "cut_answer": Fault("half of the answer after the write", WRITES),
    "error_after": Fault("500 after the write", WRITES),
    "error_after_and_key": Fault("500 after the write, and the key is forgotten", KEYED),
    "timeout_after": Fault("504 of a proxy after the write", WRITES),
    "not_json": Fault("200 with an HTML page after the write", WRITES),
    "empty_answer": Fault("200 without a body after the write", WRITES),
    "warning_before": Fault("200 with PHP's warning before the JSON", WRITES),
    "no_ids": Fault("200 with ok: true, but without any id", WRITES),
    "slow": Fault("the answer takes a second", (*WRITES, *READS)),
    "hangs": Fault("the answer never comes, though all is written", WRITES, lasting=True),
    "key_forgotten": Fault("all keys are forgotten before the call", KEYED),
    # Something else is written.
    "foreign_response": Fault("somebody else responds just before", (RESPOND,)),
    "closed_between": Fault("somebody closes the ticket just before", (RESPOND,), costs=True),
    "deleted_between": Fault("somebody deletes the ticket just before", (RESPOND,), costs=True),
    "moved_between": Fault(
        "somebody moves the ticket to a queue that the token cannot see", (RESPOND,), costs=True
    ),
    "reopened": Fault(
        "the ticket is open afterwards, whatever was asked for", (RESPOND,), costs=True
    ),
    "params_ignored": Fault(
        "keep_status and attachments are ignored, and said to be", (RESPOND,), costs=True
    ),
    "params_named": Fault(
        "keep_status is said to be ignored, though it was not", (RESPOND,), costs=True
    ),
    "files_dropped": Fault("the response is written without its files", (RESPOND,), costs=True),
    "written_twice": Fault("the response is written twice", (RESPOND,), costs=True),
    "orphans_removed": Fault("uploads that no response uses are removed just before", KEYED),
    "name_kept": Fault("the files of the response get other names", (RESPOND,)),
    "damaged_file": Fault("a file of the response always reads back wrong", (RESPOND,), costs=True),
    "lost_file": Fault("the bytes of a file of the response are lost: 404", (RESPOND,), costs=True),
    "other_file": Fault(
        "a file of the response is another one, as show says too", (RESPOND,), costs=True
    ),
    "slow_write": Fault("the write begins after half a second", KEYED),
    # Uploads.
    "type_refused": Fault("403: the extension is blocked", (UPLOAD,), costs=True),
    "type_invalid": Fault("422: the extension is blocked", (UPLOAD,), costs=True),
    "too_large": Fault("413: the file is too large", (UPLOAD,), costs=True),
    "wrong_hash": Fault("the answer names another SHA-256", (UPLOAD,)),
    "wrong_size": Fault("the answer names another size", (UPLOAD,)),
    "name_changed": Fault("the answer names another file name", (UPLOAD,)),
    "upload_short": Fault("half of the file is stored, and the answer says so", (UPLOAD,)),
    # Reads.
    "error_read": Fault("500 instead of what is read", READS),
    "cut_read": Fault("half of what is read", READS),
    "not_json_read": Fault("200 with an HTML page instead of what is read", READS),
    "stale_read": Fault(
        "what is read lacks the newest response", (SHOW, "tickets/responses", QUERY)
    ),
    "wrong_bytes": Fault("the file reads back wrong", (DOWNLOAD,)),
    "short_bytes": Fault("the file reads back without its last byte", (DOWNLOAD,)),
    # Lasting.
    "token_revoked": Fault("the token is revoked: 401 from then on", WRITES, lasting=True),
    "ability_lost": Fault("the token loses tickets:write: 403 from then on", WRITES, lasting=True),
    "https_only": Fault("301 to https, always", lasting=True),
    "https_keeps_verb": Fault("308 to https, always", lasting=True),
    "down": Fault("503 of PHP's maintenance mode, always", lasting=True),
    "no_hash": Fault(
        "show and responses tell nothing of files but id, name and is_inline", lasting=True
    ),
    "created_201": Fault("201 instead of 200 for what was written", WRITES, lasting=True),
    "plain_errors": Fault("errors are Laravel's own, without ok and error", lasting=True),
    "bare_rows": Fault("tickets/query answers with rows alone", ("tickets/query",), lasting=True),
    "token_by_family": Fault("token names abilities by family", ("token",), lasting=True),
    "author_unknown": Fault("422 for authors without an account", lasting=True),
    "author_refused": Fault("403 for authors other than the token's owner", lasting=True),
    "empty_refused": Fault("422 for empty files", lasting=True),
    "few_files": Fault("422 for more than 10 files in a response", lasting=True),
    "short_names": Fault("422 for names of more than 255 characters", lasting=True),
    "short_texts": Fault("500 for bodies of more than 65,535 bytes", lasting=True),
    "proxy_413": Fault("a proxy refuses requests over 1 MiB: 413 in HTML", lasting=True),
    "upload_limit": Fault("upload_max_filesize is 2 MiB: 422", lasting=True),
    "post_limit": Fault("post_max_size is 8 MiB: 422 over it, as for no file", lasting=True),
    "post_limit_413": Fault("post_max_size is 8 MiB: 413 over it", lasting=True),
    "post_limit_200": Fault(
        "post_max_size is 8 MiB: 200 with a warning in HTML over it", lasting=True
    ),
    "auto_response": Fault(
        "tickets that are created not public mail their originators", lasting=True
    ),
    "ai_answers": Fault("an assistant answers tickets that are created, by mail", lasting=True),
    "notes_mail": Fault("internal responses mail the staff who take part", lasting=True),
}
"""Every fault, with one line about it."""

IN_ALL: Final = frozenset(name for name, fault in FAULTS.items() if not fault.lasting)
HARMLESS_FAULTS: Final = frozenset(name for name in IN_ALL if not FAULTS[name].costs)
"""Those in spite of which a perfect client brings in every file exactly once."""

SPACE: Final = 3
"""Calls without a fault between two faults of ``all`` on the same path."""
_SPEC: Final = re.compile(
    r"(?P<name>\w+)(?::(?P<path>[\w/-]+))?"
    r"(?:@(?P<first>[1-9]\d*)(?P<last>-\d*)?|%(?P<percent>\d+(?:\.\d+)?))?"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A fault that was chosen, for one path or all of its own, and which of the calls it hits.

    Without ``first`` and ``chance`` it hits one call, with space to the faults before it.
    """

    name: str
    paths: tuple[str, ...]
    first: int | None = 1
    last: float = 1
    chance: float | None = None


def parse(spec: str) -> list[Choice]:
    """Read NAME[:PATH] with @N, @N-M, @N- or %P behind it, or ``all`` or ``harmless``.

    Raises ValueError for what is no fault.
    """
    if spec in {ALL, HARMLESS}:
        names = IN_ALL if spec == ALL else HARMLESS_FAULTS
        return [Choice(name, FAULTS[name].paths, None) for name in FAULTS if name in names]
    found = _SPEC.fullmatch(spec)
    if found is None or found["name"] not in FAULTS:
        raise ValueError(f"unknown fault: {spec}")
    fault = FAULTS[found["name"]]
    paths = (found["path"],) if found["path"] else fault.paths
    last = float("inf") if fault.lasting else 1.0
    choice = Choice(found["name"], paths, 1, last)
    if found["percent"]:
        return [replace(choice, chance=float(found["percent"]) / 100)]
    if found["first"]:
        first = int(found["first"])
        last = float(found["last"][1:] or "inf") if found["last"] else max(last, first)
        return [replace(choice, first=first, last=last)]
    return [choice]


class Faults:
    """The faults that are switched on. Callers hold the lock of the install."""

    def __init__(self, specs: Iterable[str] = (), seed: int = 1) -> None:
        self.chosen: list[Choice] = []
        self.happened: list[tuple[str, str]] = []
        """Name and path of each one that hit a call."""
        self._calls: Counter[Choice] = Counter()
        self._clean: Counter[str] = Counter()
        self._random = random.Random(seed)  # noqa: S311 - faults are no secrets
        self.add(*specs)

    def add(self, *specs: str) -> None:
        """Switch faults on; calls are counted from now on. Raises ValueError for unknown ones."""
        for choice in [one for spec in specs for one in parse(spec)]:
            self._calls[choice] = 0
            self.chosen.append(choice)

    def clear(self) -> None:
        """Switch all faults off."""
        self.chosen.clear()

    def hitting(self, path: str) -> frozenset[str]:
        """Count a call, and return the faults that hit it."""
        hits = {one.name for one in self.chosen if self._hits(one, path)}
        if not hits and self._clean[path] >= SPACE:
            waiting = (one for one in self.chosen if self._waits(one, path))
            if (choice := next(waiting, None)) is not None:
                self._calls[choice] += 1
                hits.add(choice.name)
        lasting = {name for name in hits if FAULTS[name].lasting}
        self._clean[path] = 0 if hits - lasting else self._clean[path] + 1
        told = {name for name, _ in self.happened}
        self.happened += [(name, path) for name in sorted(hits) if name not in lasting & told]
        return frozenset(hits)

    def _waits(self, choice: Choice, path: str) -> bool:
        waiting = choice.first is None and choice.chance is None and not self._calls[choice]
        return waiting and (not choice.paths or path in choice.paths)

    def _hits(self, choice: Choice, path: str) -> bool:
        if choice.paths and path not in choice.paths:
            return False
        if choice.chance is not None:
            return self._random.random() < choice.chance
        if choice.first is None:
            return False
        self._calls[choice] += 1
        return choice.first <= self._calls[choice] <= choice.last


# Answers


def in_front(hits: frozenset[str], secure: str, retry_at: str) -> Reply | None:
    """Return what is answered instead of the call, before anything is written."""
    made: dict[str, Callable[[], Reply]] = {
        "https_only": lambda: page(301, "301 Moved Permanently", ("Location", secure)),
        "https_keeps_verb": lambda: page(308, "308 Permanent Redirect", ("Location", secure)),
        "down": lambda: page(503, "Service Unavailable"),
        "error_before": lambda: page(500, "Server Error"),
        "error_read": lambda: page(500, "Server Error"),
        "gateway": lambda: page(502, "502 Bad Gateway"),
        "busy": lambda: page(503, "Service Unavailable", ("Retry-After", "1")),
        "throttle": lambda: _too_many("1"),
        "throttle_date": lambda: _too_many(retry_at),
        "throttle_bare": lambda: _too_many(None),
        "not_json_read": lambda: page(200, "Log in"),
        "ok_false": lambda: reply(
            200, {"ok": False, "error": "server_error", "message": "Something went wrong."}
        ),
        "conflict": lambda: conflict().reply,
        "key_busy": lambda: reply(409, _BUSY),
    }
    return next((make() for name, make in made.items() if name in hits), None)


_BUSY: Final = {
    "ok": False,
    "error": "idempotency_key_in_use",
    "message": "A request with this Idempotency-Key is still running.",
}


def conflict() -> Refusal:
    """Return the refusal of a key that belongs to another payload."""
    return Refusal(
        409,
        "idempotency_key_conflict",
        "This Idempotency-Key was already used with a different payload.",
    )


def _too_many(after: str | None) -> Reply:
    told = reply(429, {"message": "Too Many Attempts."})
    return told if after is None else replace(told, headers=(("Retry-After", after),))


_WARNING: Final = (
    b"<br />\n<b>Warning</b>:  Undefined array key &quot;HTTP_REFERER&quot; in "
    b"<b>/var/www/app/Http/Kernel.php</b> on line <b>41</b><br />\n"
)


def _plain(sent: Reply) -> Reply:
    """Return an error as the framework words it; leave everything else."""
    if sent.status < 400 or sent.content_type == HTML:
        return sent
    told = {name: one for name, one in sent.told.items() if name in {"message", "errors"}}
    return replace(sent, body=reply(sent.status, told).body)


def _by(delivery: Delivery) -> Callable[[Reply], Reply]:
    """Send the answer in another way."""
    return lambda sent: sent.sent(delivery)


def _instead(other: Reply) -> Callable[[Reply], Reply]:
    """Send another answer."""
    return lambda _: other


_AFTERWARDS: Final[dict[str, Callable[[Reply], Reply]]] = {
    "plain_errors": _plain,
    "created_201": lambda sent: replace(sent, status=201) if sent.status == 200 else sent,
    "no_ids": _instead(reply(200, {"ok": True, "data": {}})),
    "empty_answer": lambda sent: replace(sent, body=b""),
    "warning_before": lambda sent: replace(sent, body=_WARNING + sent.body, content_type=HTML),
    "error_after": _instead(reply(500, {"message": "Server Error"})),
    "error_after_and_key": _instead(reply(500, {"message": "Server Error"})),
    "stored_error": _instead(page(500, "Server Error")),
    "timeout_after": _instead(page(504, "504 Gateway Time-out")),
    "not_json": _instead(page(200, "Tickiti")),
    "lost_answer": _by(Delivery.LOST),
    "lost_answer_and_key": _by(Delivery.LOST),
    "cut_answer": _by(Delivery.CUT),
    "cut_read": _by(Delivery.CUT),
    "slow": _by(Delivery.SLOW),
    "hangs": _by(Delivery.HANGS),
}


def afterwards(hits: frozenset[str], sent: Reply) -> Reply:
    """Return the answer to a call as all of its faults change it, in this order."""
    for name, change in _AFTERWARDS.items():
        if name in hits:
            sent = change(sent)
    return sent
