"""The pages: search, threads, files, and progress of the migration."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from markupsafe import Markup
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from migrator.archive import folded
from migrator.archive.bodies import plain_text
from migrator.archive.lock import Holder
from migrator.archive.records import (
    ArticleRow,
    Count,
    PeopleNote,
    Row,
    RowFilter,
    RunInfo,
    State,
    TicketHeader,
)
from migrator.archive.records import Response as Post
from migrator.blobs.base import Blob
from migrator.report import charts, verdict
from migrator.report.html import MEASURES
from migrator.report.text import KEPT, MEANING, ORDER, SERIOUS, explain
from migrator.report.verdict import Seen
from migrator.serve import audit_log
from migrator.serve.auth import sees
from migrator.serve.bounds import EXCERPT, LONGEST_SEARCH, LONGEST_TEXT, ZIPPED
from migrator.serve.catalog import Gate, Names
from migrator.serve.markup import (
    attachment_id,
    attachment_ids,
    clean,
    file_name,
    is_deep,
    leads_to,
)
from migrator.serve.refusals import Refusal
from migrator.serve.web.files import MISSING, ZipResponse, content_disposition, decoded, send_file
from migrator.serve.web.site import Problem, Site, Visit, line
from migrator.text import brief, human_duration, iso_time, numbered, served_name, ticket_folder

TICKETS: Final = 50
"""The most tickets on the first page."""

COUNTED: Final = 200
"""The most hits of a search that are counted."""

SEARCHED: Final = {
    "": "Everything",
    "number": "Ticket number",
    "subject": "Subject",
    "requester": "Requester",
    "filename": "File name",
    "content": "Texts",
}
"""Fields of a search: the archive's name and the title."""

_OF_ALL: Final = [SEARCHED[one] for one in ("number", "subject", "requester", "filename")]
"""What a search of everything compares: texts would take longer."""

PASSAGE: Final = 120
"""Characters shown around what a search found in a text."""
PASSAGE_READ: Final = 20_000
"""Characters of a post in which it is looked for."""

ARTICLES: Final = 200
"""The most articles on one page."""

_DRAFTS: Final = {"2": "draft", "3": "pending"}
"""Kayako's states of articles that were not published."""

POSTS: Final = 50
"""Posts on one page."""

PAGE_TEXT: Final = 500_000
"""Characters on one page: the page ends after the post that exceeds them."""

TEXT: Final = 200_000
"""Characters of one post that are shown; the API has them all."""

RUNS: Final = 10
REASONS: Final = 20
AT_WORK: Final = 15
AT_REST: Final = 60
"""Seconds after which the status refreshes itself."""
BY_ITSELF: Final = "auto"
"""In the address of a page that was not asked for by anybody."""
FAILURES: Final = 50

IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Types, by the bytes, that a browser only decodes as pixels. SVG may contain scripts.

Lists have no thumbnails: to make them, a library for images would decode what strangers sent in
this process, and whole files in their place would be megabytes for each list.
"""

_READ: Final = 10
"""Posts read at once."""

_NOT_NAMED: Final = re.compile(r"[^\w.-]+")
"""What ends the name of a file that a text links to."""

_AFTER: Final = re.compile(r"([0-9]{1,12})-(-?[0-9]{1,18})", re.ASCII)

_NOTES: Final = {
    "not_kept": "The text of this post was not kept; only its files are.",
    "repaired_text": "Parts of the text arrived damaged and were cleaned.",
    "cut_text": "The text was longer than what is kept.",
    "odd_number": "The old helpdesk does not say when it was written.",
    "unknown_privacy": "The old helpdesk does not say whether this reply was private.",
}
_REASONS: Final = {
    State.PENDING: "It has not been fetched yet.",
    State.FAILED: "It could not be fetched so far.",
    State.MISSING: "The old helpdesk lists it, but has no bytes for it.",
    State.GONE: "The old helpdesk dropped it before it was fetched.",
    State.DELETED: "The old helpdesk no longer lists it, and such files are not handed out.",
    State.STORED: "",
}

_LEFT_OUT: Final = {
    Gate.BLOCK: "Files of this type are blocked by an administrator.",
    Gate.REVIEW: "Files of this type need a review: download it from its own page.",
}

_TEXT_POLICY: Final = "default-src 'none'; frame-ancestors 'self'; sandbox"
_PDF_POLICY: Final = "default-src 'none'; frame-ancestors 'self'"
"""Browsers refuse to show a PDF in a sandbox; their own viewers run no script in our origin."""


def search(site: Site, visit: Visit) -> Response:
    """Show the first page: the form with the results below, or the latest tickets."""
    asked = visit.request.query_params
    text = asked.get("q", "").strip()[:LONGEST_SEARCH]
    where = asked.get("in", "")
    where = where if where in SEARCHED else ""
    named: dict[str, Any] = {where or "text": text}
    seen: dict[str, Any] = {"queues": visit.queues, "deleted": site.settings.serve_deleted}
    threads = site.archive.threads
    found = threads.find(**named, **seen, limit=(COUNTED if text else TICKETS) + 1)
    by_number = threads.find(number=text, **seen) if text and where in ("", "number") else []
    numbered = {one.id for one in by_number}
    return site.page(
        "search.html",
        visit,
        text=text,
        field=where,
        fields=SEARCHED,
        searched=[SEARCHED[where]] if where else _OF_ALL,
        tickets=[(each, _reasons(site, each, where, text, numbered)) for each in found[:TICKETS]],
        found=len(found),
        counted=COUNTED,
    )


def _reasons(
    site: Site, ticket: TicketHeader, where: str, text: str, numbered: set[int]
) -> list[tuple[str, str]]:
    """Return what of a ticket a search found: the fields, and what to show of each."""
    if not text:
        return []
    threads, part = site.archive.threads, folded(text)
    found = [("number", "")] if ticket.id in numbered else []
    if where in ("", "subject") and part in folded(ticket.subject):
        found.append(("subject", ""))
    if where == "content":
        found.append(("texts", _passage(site, ticket, part)))
    if where in ("", "requester"):
        people = (ticket.requester_name, ticket.requester_email)
        found += [("requester", one) for one in people if part in folded(one)]
    if (where == "filename" or not (where or found)) and (name := threads.file_of(ticket.id, text)):
        found.append(("file", name))
    return found


def _passage(site: Site, ticket: TicketHeader, part: str) -> str:
    """Return the words around a folded part in the first posts of a ticket, "" beyond these."""
    for post in site.archive.threads.responses(ticket.id, limit=_READ, text_limit=PASSAGE_READ):
        text = " ".join((plain_text(post.text) if post.is_html else post.text).split())
        at = folded(text).find(part)
        if at >= 0:
            start = max(0, at - PASSAGE // 3)
            words = text[start : start + PASSAGE]
            # Folding may have moved the place: what does not show the part is not shown.
            return f"{'…' * (start > 0)}{words}…" if part in folded(words) else ""
    return ""


def knowledge_base(site: Site, visit: Visit) -> Response:
    """Show the articles and the troubleshooter's steps, all or those that a search finds.

    They belong to no queue, so only those may see them who see all queues.
    """
    if visit.queues is not None:
        raise _no_article()
    text = visit.request.query_params.get("q", "").strip()[:LONGEST_SEARCH]
    found = site.archive.threads.find_articles(
        text, deleted=site.settings.serve_deleted, limit=ARTICLES + 1
    )
    return site.page(
        "articles.html",
        visit,
        text=text,
        articles=[(each, _label(each)) for each in found[:ARTICLES]],
        more=len(found) > ARTICLES,
    )


def article(site: Site, visit: Visit) -> Response:
    """Show an article or a step with its files."""
    asked = visit.request.path_params
    found = site.archive.threads.article(asked["kind"], asked["number"])
    if found is None or not _shows_article(site, visit, found):
        raise _no_article()
    rows = site.archive.threads.files_of_article(found.kind, found.id)
    names = {one for one in _NOT_NAMED.split(found.text) if "." in one}
    linked = site.archive.threads.linked_files(0, names=names)
    notes = [_NOTES.get(code, code) for code in (found.note or "").split(",") if code]
    text = found.text
    if len(text) > TEXT:
        text = text[:TEXT]
        notes.append(f"Only the first {TEXT:,} characters are shown.")
    safe: Markup | None = None
    if found.is_html and is_deep(text):
        notes.append("The layout of this text cannot be shown.")
        text = plain_text(text)
    elif found.is_html:
        served = list(filter(site.settings.serves, linked))
        safe = clean(text, {}, _own(site, text, served))
        shown = site.catalog.shown(text, served)
        linked = [one for one in linked if one not in shown]
    return site.page(
        "article.html",
        visit,
        article=found,
        label=_label(found),
        html=safe,
        text=text,
        notes=notes,
        files=[_file(site, row) for row in [*rows, *linked]],
    )


def _shows_article(site: Site, visit: Visit, found: ArticleRow) -> bool:
    return visit.queues is None and (found.deleted_at is None or site.settings.serve_deleted)


def _no_article() -> Problem:
    return Problem(404, "No such article", "It does not exist, or you may not see it.")


def _label(found: ArticleRow) -> str:
    """Return what is to be known of an article before it is read, in a few words."""
    if found.deleted_at is not None:
        return "deleted in the old helpdesk"
    return _DRAFTS.get(str(found.details.get("articlestatus", "")), "")


@dataclass(frozen=True, slots=True)
class File:
    """An attachment as pages show it, by the current rules.

    ``verdict`` is what the rules say about its type; ``reason`` is why its bytes cannot be had,
    "" when they can; ``preview`` is ``image``, ``pdf``, ``text`` or "".
    """

    row: Row
    verdict: Gate
    reason: str
    preview: str

    @property
    def saved_as(self) -> str:
        """The name under which it is saved, if not the listed one."""
        name = served_name(self.row.filename, self.row.id)
        return "" if name == self.row.filename else name

    @property
    def label(self) -> str:
        """Why the file cannot be downloaded at once, in a word or two; "" if it can."""
        if self.reason:
            return "not available"
        return {Gate.BLOCK: "blocked", Gate.REVIEW: "needs review"}.get(self.verdict, "")


def _file(site: Site, row: Row) -> File:
    reason = "" if site.settings.serves(row) else _REASONS[row.state]
    kind = row.mime_type or ""
    preview = "image" if kind in IMAGES else "pdf" if kind == "application/pdf" else ""
    if kind.startswith("text/") and (row.size or 0) <= LONGEST_TEXT:
        preview = "text"
    return File(row, site.catalog.gate(row), reason, preview)


@dataclass(frozen=True, slots=True)
class Entry:
    """A post as the page shows it; ``html`` is safe, None for plain text."""

    post: Post
    html: Markup | None
    text: str
    notes: list[str]
    files: list[File]


def ticket(site: Site, visit: Visit) -> Response:
    """Show a ticket: its thread, page by page, and its files."""
    header = _ticket(site, visit)
    if header.id != visit.request.path_params["ticket"]:
        return RedirectResponse(f"/tickets/{header.id}", 303)
    given = _AFTER.fullmatch(visit.request.query_params.get("after", ""))
    after = (int(given[1]), int(given[2])) if given else None
    page, more = _posts(site, header, after)
    rows = site.archive.threads.attachments_of([post.id for post in page])
    all_rows = site.archive.threads.attachments_of_ticket(header.id, limit=POSTS)
    names = site.catalog.names()
    linked = [
        one for one in site.archive.threads.linked_files(header.id) if site.settings.serves(one)
    ]
    return site.page(
        "ticket.html",
        visit,
        ticket=header,
        entries=[_entry(site, post, rows.get(post.id, []), names, linked) for post in page],
        first=after is None,
        people_notes=_people_notes(site, header) if after is None else [],
        next_page=f"{page[-1].created_at}-{page[-1].id}" if more else "",
        files=sum(map(site.settings.serves, all_rows)),
    )


def _ticket(site: Site, visit: Visit) -> TicketHeader:
    """Return the ticket of the address, or the one that it was merged into."""
    try:
        return site.catalog.ticket(visit.token, id=visit.request.path_params["ticket"])
    except Refusal:
        # One answer for all: it must not reveal which tickets exist in other queues.
        raise Problem(404, "No such ticket", "It does not exist, or you may not see it.") from None


def download_all(site: Site, visit: Visit) -> Response:
    """Send all files of a ticket as a ZIP, by the rules for each of them.

    Files that need a review are in it after one confirmation for all of them, or left out with
    ``?only=known``. What is not in it is named in its MISSING.txt.
    """
    header = _ticket(site, visit)
    rows = site.archive.threads.attachments_of_ticket(header.id, limit=ZIPPED + 1)
    if len(rows) > ZIPPED:
        text = f"It has more than {ZIPPED:,} files, too many for one ZIP. Each can be downloaded."
        raise Problem(413, "Too many files", text)
    found = [_judged(site, _file(site, row)) for row in rows]
    ready = [one for one in found if not one.reason]
    unsure = [one for one in ready if one.verdict is Gate.REVIEW]
    sealed = site.sessions.sealed(_seal(visit), "review all", visit.session.nonce, header.id)
    known = visit.request.query_params.get("only") == "known"
    wanted = {Gate.ALLOW, Gate.REVIEW} if sealed else {Gate.ALLOW}
    chosen = [one for one in ready if one.verdict in wanted]
    if not chosen and not (unsure and not known):
        raise Problem(404, "No files", "This ticket has no file that can be downloaded.")
    sent: list[int] = []
    name = f"ticket-{ticket_folder(header.id, header.ticket_number)}.zip"
    audit_log.tell(ticket=header.id, filename=name, attachments=sent)
    if unsure and not sealed and not known:
        audit_log.tell(code="attachment_review_required")
        others = len(ready) - len(unsure) - sum(one.verdict is Gate.BLOCK for one in ready)
        return site.page("zip.html", visit, status=403, ticket=header, unsure=unsure, others=others)
    saved = [(0, MISSING), *((row.id, served_name(row.filename, row.id)) for row in rows)]
    names = numbered(saved)
    missing = [
        f"{names[one.row.id]}: {one.reason or _LEFT_OUT[one.verdict]}"
        for one in found
        if one.reason or one.verdict not in wanted
    ]
    files = [(names[one.row.id], one.row) for one in chosen]
    return ZipResponse(site.files, visit.token.id, files, missing, sent, name=name)


def confirm_all(site: Site, visit: Visit) -> Response:
    """Accept a visitor's confirmation for the files of a ticket that need a review."""
    header = _ticket(site, visit)
    if visit.form.get("intent") != "review_ok":
        raise Problem(422, "Please confirm", "The files are handed out after a confirmation only.")
    seal = site.sessions.seal("review all", visit.session.nonce, header.id)
    return RedirectResponse(f"/tickets/{header.id}/download?ok={seal}", 303)


def _people_notes(site: Site, header: TicketHeader) -> list[PeopleNote]:
    """Return the notes about a ticket's requester, as plain text and not too long."""
    return [
        replace(note, text=(plain_text(note.text) if note.is_html else note.text)[:TEXT])
        for note in site.archive.threads.people_notes(header, limit=POSTS)
    ]


def _posts(
    site: Site, header: TicketHeader, after: tuple[int, int] | None
) -> tuple[list[Post], bool]:
    """Return the posts of one page, and whether there are more of them."""
    page: list[Post] = []
    size = 0
    while True:
        few = site.archive.threads.responses(
            header.id, after=after, limit=_READ, text_limit=TEXT + 1
        )
        for post in few:
            if len(page) == POSTS or size > PAGE_TEXT:
                return page, True
            page.append(post)
            size += len(post.text)
        if len(few) < _READ:
            return page, False
        after = (few[-1].created_at, few[-1].id)


def _entry(site: Site, post: Post, rows: list[Row], names: Names, linked: Sequence[Row]) -> Entry:
    notes = [_NOTES.get(code, code) for code in (post.note or "").split(",") if code]
    served = [row for row in rows if site.settings.serves(row)]
    inline = site.catalog.inline_images(post, served, names)
    files = [_file(site, row) for row in rows if row.id not in inline]
    text = post.text
    if len(text) > TEXT:
        text = text[:TEXT]
        notes.append(f"Only the first {TEXT:,} characters are shown.")
    if not post.is_html:
        return Entry(post, None, text, notes, files)
    if is_deep(text):
        notes.append("The layout of this text cannot be shown.")
        return Entry(post, None, plain_text(text), notes, files)
    images = {row.filename: f"/attachments/{row.id}/view" for row in rows if row.id in inline}
    found = [site.archive.queries.attachment(key) for key in attachment_ids(text)]
    named = [row for row in found if row is not None and row.ticket_id == post.ticket_id]
    own = _own(site, text, [*linked, *filter(site.settings.serves, named)])
    return Entry(post, clean(text, images, own), "", notes, files)


def _own(site: Site, text: str, rows: Sequence[Row]) -> Callable[[str, str], str | None]:
    """Return a function that tells where we have what an address in a text leads to."""
    by_id = {row.id: row for row in rows}
    by_name = {row.filename: row for row in rows if row.kind == "linked"}
    shown = {row.id for row in site.catalog.shown(text, rows)}

    def own(attribute: str, address: str) -> str | None:
        row = by_id.get(attachment_id(address))
        if row is None:
            row = by_name.get(file_name(address))
            if row is None or not leads_to(address, row.place):
                return None
        if attribute == "href":
            return f"/attachments/{row.id}"
        return f"/attachments/{row.id}/view" if row.id in shown else None

    return own


def attachment(site: Site, visit: Visit) -> Response:
    """Show an attachment; with a review's seal in its address the file can be downloaded."""
    found = _find(site, visit)
    confirmed = found.verdict is Gate.REVIEW and _is_reviewed(site, visit, found.row)
    status = 200 if found.verdict is Gate.ALLOW or confirmed or found.reason else 403
    answer = site.page(
        "attachment.html",
        visit,
        status=status,
        found=found,
        ready=status == 200 and not found.reason,
        query=f"?ok={_seal(visit)}" if confirmed else "",
        ticket=site.archive.threads.ticket(found.row.ticket_id),
    )
    if found.preview in ("pdf", "text"):
        answer.headers["content-security-policy"] = (
            "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
    return answer


def confirm(site: Site, visit: Visit) -> Response:
    """Accept a visitor's confirmation of the warning, for this file and session."""
    row = _find(site, visit).row
    if visit.form.get("intent") != "review_ok":
        raise Problem(422, "Please confirm", "The file is handed out after a confirmation only.")
    seal = site.sessions.seal("review", visit.session.nonce, row.id)
    return RedirectResponse(f"/attachments/{row.id}?ok={seal}", 303)


def download(site: Site, visit: Visit) -> Response:
    """Send the file, to be saved."""
    found = _handed_out(site, visit)
    if isinstance(found, Response):
        return found
    return _send(site, visit, found.row, "attachment")


def view(site: Site, visit: Visit) -> Response:
    """Send the file to be viewed: images and PDF only, by their bytes."""
    found = _handed_out(site, visit)
    if isinstance(found, Response):
        return found
    if found.preview not in ("image", "pdf"):
        raise Problem(415, "No preview", "Files of this type can be downloaded, but not shown.")
    answer = _send(site, visit, found.row, "inline")
    if found.preview == "pdf":
        answer.headers["content-security-policy"] = _PDF_POLICY
        answer.headers["x-frame-options"] = "SAMEORIGIN"
    return answer


def excerpt(site: Site, visit: Visit) -> Response:
    """Send the beginning of a text as plain text, which a visitor reviews before the download."""
    found = _found(site, visit)
    if found.verdict is Gate.BLOCK:
        return _refused(site, visit, found)
    if found.preview != "text":
        raise Problem(415, "No preview", "Only texts can be read here.")
    with _open(site, found.row) as file:
        start = file.read(0, EXCERPT)
    shown = "\n".join(map(line, decoded(start).expandtabs(4).splitlines()))
    if len(start) < file.size:
        shown += f"\n\n[The first {EXCERPT:,} of {file.size:,} bytes.]"
    headers = {"content-security-policy": _TEXT_POLICY, "x-frame-options": "SAMEORIGIN"}
    return PlainTextResponse(shown, headers=headers)


def _open(site: Site, row: Row) -> Blob:
    try:
        return site.files.open(row)
    except Refusal as refusal:
        audit_log.tell(code=refusal.code)
        if refusal.status == 404:
            raise Problem(404, "File missing", refusal.message) from None
        again = {"refresh": "1", "retry-after": "1"}  # until the browser gets the file
        raise Problem(refusal.status, "Almost there", refusal.message, again) from None


def _send(site: Site, visit: Visit, row: Row, kind: str) -> Response:
    return send_file(
        visit.request,
        _open(site, row),
        row,
        media_type=row.mime_type or "application/octet-stream",
        disposition=content_disposition(kind, served_name(row.filename, row.id)),
    )


def _find(site: Site, visit: Visit) -> File:
    row = site.archive.queries.attachment(visit.request.path_params["attachment"])
    if row is None or not _shows(site, visit, row):
        # One answer for all: it must not reveal which attachments exist in other queues.
        raise Problem(404, "No such attachment", "It does not exist, or you may not see it.")
    return _judged(site, _file(site, row))


def _judged(site: Site, found: File) -> File:
    if found.verdict is not Gate.ALLOW and site.catalog.is_inline(found.row):
        return replace(found, verdict=Gate.ALLOW)  # as the API: inline images skip the rules
    return found


def _shows(site: Site, visit: Visit, row: Row) -> bool:
    """Return whether the visitor may see what an attachment belongs to."""
    if row.ticket_id:
        header = site.archive.threads.ticket(row.ticket_id)
        seen = header is not None and site.settings.shows(header)
        return seen and sees(visit.token, row.queue_id)
    if row.kind == "linked":  # of articles, and of notes about people
        return visit.queues is None
    found = site.archive.threads.article(row.kind, int(row.place)) if row.place.isdigit() else None
    return found is not None and _shows_article(site, visit, found)


def _handed_out(site: Site, visit: Visit) -> File | Response:
    """Return the file if it may be sent, else the page that asks or refuses."""
    found = _found(site, visit)
    if found.verdict is Gate.ALLOW:
        return found
    if found.verdict is Gate.REVIEW and _is_reviewed(site, visit, found.row):
        return found
    return _refused(site, visit, found)


def _found(site: Site, visit: Visit) -> File:
    """Return the file whose bytes are asked for, and tell the audit log."""
    audit_log.tell(attachment=visit.request.path_params["attachment"])
    found = _find(site, visit)
    row = found.row
    audit_log.tell(ticket=row.ticket_id, filename=row.filename, size=row.size)
    if found.reason:
        raise Problem(404, "File missing", found.reason)
    return found


def _refused(site: Site, visit: Visit, found: File) -> Response:
    blocked = found.verdict is Gate.BLOCK
    audit_log.tell(code="attachment_blocked" if blocked else "attachment_review_required")
    return attachment(site, visit)


def _seal(visit: Visit) -> str:
    return visit.request.query_params.get("ok", "")


def _is_reviewed(site: Site, visit: Visit, row: Row) -> bool:
    return site.sessions.sealed(_seal(visit), "review", visit.session.nonce, row.id)


@dataclass(frozen=True, slots=True)
class Work:
    """The run that has not finished.

    ``holder`` is None when it is not at work any more. ``told`` says in words how far it is, and
    how long ago that was; ``share`` is the part that is done, None while unknown. Visitors who do
    not see all queues get only the share.
    """

    run: RunInfo
    holder: Holder | None
    told: str
    share: float | None
    per_minute: float | None


def status(site: Site, visit: Visit) -> Response:
    """Show the ledger, the runs and the problems, limited to the visitor's queues."""
    queries = site.archive.queries
    seen = queries.together(lambda: verdict.look(site.archive))
    counts = _counts(site, visit)
    lost = RowFilter(states=frozenset(verdict.ATTENTION), queues=visit.queues)
    failures = [
        row
        for accepted in (False, True)
        for row in queries.rows(only=replace(lost, accepted=accepted), limit=FAILURES)
    ]
    asked = visit.request.query_params
    again = 0 if asked.get("refresh") == "off" else AT_WORK if seen.at_work else AT_REST
    answer = site.page(
        "status.html",
        visit,
        verdict=verdict.judge(seen),
        proof=[f"Scope: {verdict.scope_line(seen)}.", *verdict.proof_lines(seen)],
        tiles=list(_tiles(seen, visit, counts)),
        counts=counts,
        listed=verdict.total(counts),
        meaning={state: MEANING[state] for state in ORDER},
        work=_work(seen, visit),
        waits=verdict.waits(seen) if visit.queues is None else [],
        runs=[(run, _outcome(seen, run)) for run in queries.runs(RUNS)],
        failures=failures[:FAILURES],
        failed=sum(counts[state].n for state in verdict.ATTENTION),
        again=again,
        **(_overview(site) if visit.queues is None else {"kinds": None}),
    )
    if again:
        # A mark in the address: a page that nobody looks at must not keep its session alive.
        answer.headers["refresh"] = f"{again}; url=/status?{BY_ITSELF}=1"
    return answer


def _tiles(
    seen: Seen, visit: Visit, counts: Mapping[State, Count]
) -> Iterator[tuple[str, str, str]]:
    """Yield what to know at first sight: a label, a figure and a remark."""
    listed, held = verdict.total(counts), counts[State.STORED].n + counts[State.DELETED].n
    yield "In the archive", f"{held:,}", f"of {listed.n:,} files listed"
    lost = sum(counts[state].n for state in verdict.ATTENTION)
    accepted = sum(count.n for count in seen.accepted.values()) if visit.queues is None else 0
    remark = f"{accepted:,} of them accepted as lost" if accepted else ""
    yield "Failed, missing, gone", f"{lost:,}", remark
    yield "Pending", f"{counts[State.PENDING].n:,}", ""
    if visit.queues is not None:
        return
    ended = seen.covered.finished_at if seen.covered else None
    yield "Last finished pass", _day(ended), seen.covered.kind if seen.covered else ""
    check = max(seen.checks.values(), key=lambda one: one.finished_at, default=None)
    remark = "" if check is None else f"{check.kind}{', found a fault' * bool(check.exit_code)}"
    yield "Last proof", _day(check.finished_at if check else None), remark
    for target, found in seen.deliveries.items():
        there, every = found.get("delivered", Count()).n, sum(one.n for one in found.values())
        yield "Delivered", f"{there:,}", f"of {every:,} files of tickets, to {brief(target, 60)}"


def _day(seconds: int | None) -> str:
    return iso_time(seconds)[:16].replace("T", " ") or "never"


def _overview(site: Site) -> dict[str, object]:
    """Return the pace of the last run, the kinds of files, and what is missing by reason."""
    figures = site.figures()
    points, pace = figures.pace, None
    if points:
        step = points[1].at - points[0].at if len(points) > 1 else 0
        pace = charts.columns(
            "Files stored over time",
            [_day(point.at)[5:] for point in points],
            [(point.attachments, point.bytes) for point in points],
            MEASURES,
            f"in {human_duration(step)}" if step else "in the whole run",
        )
    reasons = [
        (state.value, *explain(state, problem), n)
        for state, problem, n in sorted(figures.problems, key=lambda one: SERIOUS.index(one[0]))
        if state not in KEPT
    ]
    return {
        "pace": pace,
        "kinds": figures.kinds,
        "reasons": reasons[:REASONS],
        "reasons_left": sum(n for *_, n in reasons[REASONS:]),
        "reasons_sum": sum(n for *_, n in reasons),
        "figures_at": figures.at,
    }


def _counts(site: Site, visit: Visit) -> dict[State, Count]:
    if visit.queues is None:
        return site.archive.queries.counts()
    n, size = Counter[State](), Counter[State]()
    for queue, sums in site.by_queue().items():
        for state, count in sums.items() if queue in visit.queues else ():
            n[state] += count.n
            size[state] += count.bytes
    return {state: Count(n[state], size[state]) for state in State}


def _outcome(seen: Seen, run: RunInfo) -> str:
    return verdict.outcome(run, at_work=seen.at_work and seen.last == run)


def _work(seen: Seen, visit: Visit) -> Work | None:
    run = seen.last
    if run is None or run.finished_at is not None:
        return None
    facts: dict[str, Any] = dict(seen.progress or {})
    share = facts.get("share") if isinstance(facts.get("share"), int | float) else None
    if not seen.at_work:
        return Work(run, None, "", None, None)
    if visit.queues is not None:
        told = ", ".join(verdict.done(share, facts.get("seconds_left")))
        return Work(run, seen.worker, told, share, None)
    at = seen.progress_at
    age = None if at is None else int(time.time()) - at
    settled, seconds = facts.get("attachments"), (at or 0) - run.started_at
    pace = settled * 60 / seconds if isinstance(settled, int) and seconds > 0 else None
    return Work(run, seen.worker, verdict.how_far(facts, age=age), share, pace)
