"""Threads: the headers of tickets and their posts, as the endpoint and the pages show them.

They are read by page, or all in order for an export.
"""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from migrator.archive.checkpoint import Checkpoint, Tuple, folded
from migrator.archive.records import (
    ArticleRow,
    LabelRow,
    PeopleNote,
    PostRow,
    Response,
    ResponseFilter,
    Row,
    StatusRow,
    TicketHeader,
    TicketRow,
)
from migrator.archive.search import TextIndex, TextSearch
from migrator.archive.sql import (
    MERGES,
    ROW,
    TICKET,
    Values,
    as_json,
    clean,
    decoded,
    fit,
    row_from,
    ticket_values,
    upsert,
)

Range = tuple[int | None, int | None]
"""From and to in Unix seconds, both included; None is open."""

AnyOf = str | Collection[str]
"""One text or several, of which one must match; empty ones mean nothing."""

Parts = str | Collection[Collection[str]]
"""A part of a text, or groups of parts, of one of which all must be found; empty ones as above."""

LONGEST = (1 << 31) - 1
"""Characters: more than SQLite holds in one value; its substr() counts in 32 bits."""

_HEADER = ", ".join(f"h.{field.name}" for field in fields(TicketHeader))
_RESPONSE = ", ".join(
    f"h.{field.name}" if field.name in ("ticket_number", "queue_id") else f"p.{field.name}"
    for field in fields(Response)
    if field.name not in ("text", "note", "kind", "facts", "length")
)
_PEOPLE_NOTE = ", ".join(f"n.{field.name}" for field in fields(PeopleNote) if field.name != "facts")
_ARTICLE = ", ".join(f"n.{field.name}" for field in fields(ArticleRow))
_FLAGS = [i for i, field in enumerate(fields(Response)) if field.type == "bool"]
# CROSS JOIN keeps the order of the loops: posts by their index, never all posts of a queue sorted.
_FROM = "FROM posts AS p CROSS JOIN headers AS h ON h.id = p.ticket_id"
_RESPONSES = f"""
    SELECT {_RESPONSE}, substr(p.text, 1, :cut), p.note, p.kind, p.facts, length(p.text)
    {_FROM}
    WHERE """

_OF_RESPONSE = "iif(a.post_id > 0, a.post_id, -a.ticket_id)"
"""Must repeat the words of the index."""
_HAS_ATTACHMENTS = f"""EXISTS (
    SELECT 1 FROM attachments AS a WHERE {_OF_RESPONSE} = p.id AND a.ticket_id = p.ticket_id)"""

# Places for files that belong to no post (p.id < 0) are never read and stay as they are.
_IS_READ = """NOT (p.note IS 'not_kept' AND p.id > 0
    AND (SELECT posts_activity FROM tickets WHERE id = p.ticket_id) IS NULL)"""

_IS_UNREAD = "posts_activity IS NOT last_activity AND merged_into IS NULL AND deleted_at IS NULL"
"""Must repeat the words of the index."""
_IS_UNKEPT = _IS_UNREAD.replace("posts_activity", "posts_reply")
_HAS_UNREAD_FIELDS = _IS_UNREAD.replace("posts_activity", "fields_activity")

_OR_UNKEPT_FIELDS = f"OR {_IS_UNREAD.replace('posts_activity', 'fields_reply')}"

_PUT_STATUS = upsert("statuses", "id", "title", "department_id", "resolved")
# A known ticket keeps what only the lists of tickets may change, such as its activity.
_PUT_HEADER = upsert("tickets", *TICKET, "posts_activity", "posts_run").replace(
    "last_activity = excluded.last_activity, ", ""
)

# Equal posts are not written again, and an empty text never replaces one that we hold.
_PUT_POST = """
    INSERT INTO posts
        (id, ticket_id, created_at, author_name, author_email, staff, is_private, is_html,
         text, note, kind, facts)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        ticket_id = excluded.ticket_id,
        created_at = excluded.created_at,
        author_name = excluded.author_name,
        author_email = excluded.author_email,
        staff = excluded.staff,
        is_private = excluded.is_private,
        kind = excluded.kind,
        facts = excluded.facts,
        is_html = iif(excluded.text = '' AND text <> '', is_html, excluded.is_html),
        note = iif(excluded.text = '' AND text <> '', note, excluded.note),
        text = iif(excluded.text = '', text, excluded.text)
    WHERE (ticket_id, created_at, author_name, author_email, staff, is_private, is_html, note,
        text, kind, facts) IS NOT (excluded.ticket_id, excluded.created_at, excluded.author_name,
        excluded.author_email, excluded.staff, excluded.is_private, excluded.is_html,
        excluded.note, excluded.text, excluded.kind, excluded.facts)"""
_PUT_LABEL = upsert("labels", "kind", "id", "title", "email", keys=2)
_PUT_ARTICLE = upsert(
    "articles",
    *("kind", "id", "subject", "author_name", "created_at", "is_html", "details", "note", "text"),
    *("listed_run", "deleted_at"),
    keys=2,
)
_PUT_PEOPLE_NOTE = """
    INSERT INTO people_notes
        (id, about, about_id, created_at, author_name, is_html, text, note, facts)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        about = excluded.about,
        about_id = excluded.about_id,
        created_at = excluded.created_at,
        author_name = excluded.author_name,
        facts = excluded.facts,
        is_html = iif(excluded.text = '' AND text <> '', is_html, excluded.is_html),
        note = iif(excluded.text = '' AND text <> '', note, excluded.note),
        text = iif(excluded.text = '', text, excluded.text)
    WHERE (about, about_id, created_at, author_name, is_html, text, note, facts) IS NOT (
        excluded.about, excluded.about_id, excluded.created_at, excluded.author_name,
        excluded.is_html, excluded.text, excluded.note, excluded.facts)"""


_ARTICLES = 50
"""Articles searched at once, each in so many characters of its text:"""
_SEARCHED = 100_000
# A time track says something beside its text.
_EMPTY = "p.kind <> 'timetrack' AND (p.text = '' OR is_blank(p.text, p.is_html))"
_IS_KNOWN = "(p.note IS NOT 'not_kept' OR p.id < 0)"
_FIRST, _SOON, _LATER = 150, 2000, 16_000
"""Tickets looked at first, without the index, and at once with it."""
_PAGE = 1000
"""Tickets searched at once: other threads of Python wait while their texts are folded."""
_SUBJECT = "h.subject"
_PERSON = "h.requester_name || char(31) || h.requester_email || char(31)"
_FILES = """coalesce((
    SELECT group_concat(filename, char(31)) FROM attachments WHERE ticket_id = h.id), '')"""


class _Search(NamedTuple):
    """A search for all parts of any of some groups in any of some columns; all folded."""

    columns: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]

    def meets(self, texts: Mapping[str, str]) -> bool:
        """Return whether the texts of one or more tickets have all parts of one of the groups."""
        return any(
            all(any(part in texts[column] for column in self.columns) for part in group)
            for group in self.groups
        )


class Threads:
    """Headers and posts of an archive; errors as of :class:`Ledger`, from any thread."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint
        self._index = TextIndex(checkpoint)

    def index_texts(self) -> bool:
        """Index some of the texts that wait for it; return whether there may be more."""
        return self._index.add()

    def unindexed(self, most: int = -1) -> int:
        """Return the number of texts that wait to be indexed, or ``most`` when there are more."""
        return self._index.waiting(most)

    def ticket(self, ticket_id: int) -> TicketHeader | None:
        """Return a ticket's header, None for an unknown ticket."""
        sql = f"SELECT {_HEADER} FROM headers AS h WHERE h.id = ?"
        found = self._db.one(sql, (ticket_id,))
        return TicketHeader(*found) if found else None

    def survivor(self, ticket_id: int) -> TicketHeader | None:
        """Return the ticket, or the one it was merged into; None where there is none (any more)."""
        for _ in range(MERGES):
            ticket = self.ticket(ticket_id)
            if ticket is None or ticket.merged_into is None:
                return ticket
            ticket_id = ticket.merged_into
        return None

    def responses(
        self,
        ticket_id: int,
        *,
        after: tuple[int, int] | None = None,
        limit: int | None = None,
        text_limit: int | None = None,
    ) -> list[Response]:
        """Return the posts of a ticket, oldest first: by (created_at, id), above ``after``.

        ``text_limit`` cuts every text to so many characters.
        """
        values = Values()
        where = [f"p.ticket_id = {values(ticket_id)}"]
        return self._responses(where, values, after, limit, text_limit)

    def query(
        self,
        wanted: ResponseFilter,
        *,
        after: tuple[int, int] | None = None,
        limit: int,
        text_limit: int | None = None,
    ) -> list[Response]:
        """Return posts of unmerged tickets that pass the filter, by (created_at, id).

        Oldest first, above ``after``. Fewer than ``limit`` are the last ones. Paging by the last
        post of each page yields every post once, whatever is added meanwhile.
        """
        # A merge leaves behind only placeholders of files that moved: they are not posts.
        values = Values()
        where = ["h.merged_into IS NULL", *_wanted(wanted, values)]
        return self._responses(where, values, after, limit, text_limit)

    def tally(
        self, wanted: ResponseFilter, by: str | None = None, *, limit: int = 1
    ) -> tuple[int, int, list[tuple[Any, int]]]:
        """Count the posts of :meth:`query`: how many there are, in how many groups, and the groups.

        ``by`` is one of TALLIES, or None for one group. Of the groups, ``limit`` come, the largest
        first, each as its value and its number of posts.
        """
        values = Values()
        where = ["h.merged_into IS NULL", *_wanted(wanted, values)]
        key = TALLIES[by] if by else "NULL"
        sql = f"""
            SELECT sum(count(*)) OVER (), count(*) OVER (), {key}, count(*)
            {_FROM} WHERE {" AND ".join(where)}
            GROUP BY 3 ORDER BY 4 DESC, 3 LIMIT {values(limit)}"""
        rows = self._db.execute(sql, values)
        total, groups = rows[0][:2] if rows else (0, 0)
        return total, groups, [(value, number) for _, _, value, number in rows]

    def titles(self, kind: str) -> list[str]:
        """Return the titles of labels of a kind."""
        sql = "SELECT DISTINCT title FROM labels WHERE kind = ? ORDER BY title"
        return [row[0] for row in self._db.execute(sql, (kind,))]

    def people_notes(self, ticket: TicketHeader, *, limit: int = -1) -> list[PeopleNote]:
        """Return the notes about a ticket's user and organization, oldest first."""
        sql = f"""
            SELECT {_PEOPLE_NOTE}, n.facts FROM people_notes AS n
            WHERE (about = 'user' AND about_id = ? AND about_id > 0)
                OR (about = 'organization' AND about_id = ? AND about_id > 0)
            ORDER BY n.created_at, n.id LIMIT ?"""
        found = self._db.execute(sql, (ticket.user_id, ticket.organization_id, limit))
        return [_people_note_from(row) for row in found]

    def all_people_notes(self) -> Iterator[PeopleNote]:
        """Yield all notes about users and organizations by id."""
        sql = f"""
            SELECT {_PEOPLE_NOTE}, n.facts FROM people_notes AS n
            WHERE n.id > :after ORDER BY n.id LIMIT :most"""
        return map(_people_note_from, self._db.stream(sql, -1))

    def put_articles(self, run_id: int, articles: Iterable[ArticleRow]) -> None:
        """Record articles and steps as run ``run_id`` read them."""
        rows = [
            (
                one.kind,
                one.id,
                clean(one.subject),
                clean(one.author_name),
                one.created_at,
                one.is_html,
                as_json(one.details),
                one.note,
                clean(one.text),
                run_id,
                None,
            )
            for one in articles
        ]
        with self._db.atomic():
            self._db.execute_many(_PUT_ARTICLE, rows)

    def mark_articles_deleted(self, kind: str, run_id: int, now: int) -> None:
        """Record that the source no longer has the articles that run ``run_id`` did not see."""
        sql = """
            UPDATE articles SET deleted_at = ?
            WHERE kind = ? AND listed_run <> ? AND deleted_at IS NULL"""
        with self._db.atomic():
            self._db.execute(sql, (now, kind, run_id))

    def articles(self, *, after: tuple[str, int] = ("", 0), limit: int = 100) -> list[ArticleRow]:
        """Return articles and steps by (kind, id) above ``after``."""
        sql = f"""
            SELECT {_ARTICLE} FROM articles AS n WHERE (n.kind, n.id) > (?, ?)
            ORDER BY n.kind, n.id LIMIT ?"""
        return [_article(row) for row in self._db.execute(sql, (after[0], fit(after[1]), limit))]

    def all_articles(self, page: int = 20) -> Iterator[ArticleRow]:
        """Yield all articles and steps by (kind, id); ``page`` of them are read at once."""
        after = ("", 0)
        while rows := self.articles(after=after, limit=page):
            yield from rows
            after = (rows[-1].kind, rows[-1].id)

    def find_articles(
        self, text: str = "", *, deleted: bool = True, limit: int = 100
    ) -> list[ArticleRow]:
        """Return articles and steps, by (kind, id) and without their texts, that hold a text.

        It is found in subject, author, file names and the beginning of their own text, in any case
        and form: see :func:`folded`. With ``deleted`` they include those that the source deleted.
        """
        shown = _ARTICLE.replace("n.text", "''")
        searched = f"""n.subject || char(31) || n.author_name || char(31) || coalesce((
            SELECT group_concat(filename, char(31)) FROM attachments
            WHERE kind = n.kind AND place = CAST(n.id AS TEXT)), '')
            || char(31) || substr(n.text, 1, {_SEARCHED})"""
        visible = "" if deleted else "AND deleted_at IS NULL"
        sql = f"""
            SELECT {searched if text else "''"}, {shown} FROM articles AS n
            WHERE (n.kind, n.id) > (?, ?) {visible} ORDER BY n.kind, n.id LIMIT {_ARTICLES}"""
        part, found, after = folded(clean(text)), list[ArticleRow](), ("", 0)
        while len(found) < limit and (rows := self._db.execute(sql, after)):
            found += [_article(row[1:]) for row in rows if part in folded(row[0])]
            after = (rows[-1][1], rows[-1][2])
        return found[:limit]

    def article(self, kind: str, number: int) -> ArticleRow | None:
        """Return an article or a step, None where there is none."""
        sql = f"SELECT {_ARTICLE} FROM articles AS n WHERE kind = ? AND id = ?"
        found = self._db.one(sql, (kind, fit(number)))
        return _article(found) if found else None

    def files_of_article(self, kind: str, number: int) -> list[Row]:
        """Return the files of an article or a step, in any state, by id."""
        # The partial index is used only where its own words are repeated.
        sql = f"""
            SELECT {ROW} FROM ledger WHERE kind <> 'post' AND kind = ? AND place = ? ORDER BY 1"""
        return [row_from(row) for row in self._db.execute(sql, (kind, str(number)))]

    def count_texts(self) -> dict[str, int]:
        """Return the numbers of kept texts by kind.

        The kinds are ``post``, ``note``, ``timetrack``, ``customfield``, ``people``, ``article``
        and ``step``.
        """
        counted = {"post": 0, "note": 0, "timetrack": 0, "customfield": 0}
        sql = "SELECT kind, count(*) FROM posts WHERE kind <> 'post' GROUP BY kind"
        counted |= dict(self._db.execute(sql))
        sql = "SELECT count(*) FROM posts WHERE note IS NOT 'not_kept'"
        ((texts,),) = self._db.execute(sql)
        ((people,),) = self._db.execute("SELECT count(*) FROM people_notes")
        for kind in ("article", "step"):
            ((counted[kind],),) = self._db.execute(
                "SELECT count(*) FROM articles WHERE kind = ?", (kind,)
            )
        counted["post"] = texts - sum(
            counted[kind] for kind in ("note", "timetrack", "customfield")
        )
        return counted | {"people": people}

    def attachments_of_ticket(self, ticket_id: int, *, limit: int = -1) -> list[Row]:
        """Return the attachments of a ticket, in any state, by id; all or the first ones."""
        sql = f"SELECT {ROW} FROM ledger WHERE ticket_id = ? ORDER BY 1 LIMIT ?"
        return [row_from(row) for row in self._db.execute(sql, (ticket_id, limit))]

    def linked_files(
        self, ticket_id: int, *, names: Collection[str] | None = None, limit: int = 1000
    ) -> list[Row]:
        """Return files that texts of a ticket link to, by id; of ticket 0 those of articles.

        ``names`` are the only ones wanted; None: all.
        """
        values = Values()
        ticket = values(fit(ticket_id) or None)
        named = "" if names is None else f"AND filename IN {values.each(names)}"
        sql = f"""
            SELECT {ROW} FROM ledger WHERE attachment_id IN (
                SELECT id FROM attachments
                WHERE ticket_id IS {ticket} AND kind = 'linked' {named}
                ORDER BY id LIMIT {values(limit)}
            ) ORDER BY 1"""
        return [row_from(row) for row in self._db.execute(sql, values)]

    def response(self, response_id: int, *, text_limit: int | None = None) -> Response | None:
        """Return a post, None where there is none; ``text_limit`` as for :meth:`responses`."""
        values = Values()
        where = [f"p.id = {values(fit(response_id))}"]
        found = self._responses(where, values, None, 1, text_limit)
        return found[0] if found else None

    def authors(self, ticket_id: int, *, limit: int) -> list[tuple[str, str, bool]]:
        """Return who wrote in a thread, the first one first: name, address, whether of the staff.

        The same person may come under several names.
        """
        sql = """
            SELECT author_name, author_email, staff FROM posts
            WHERE ticket_id = ? AND (author_name <> '' OR author_email <> '')
            GROUP BY author_name, author_email, staff ORDER BY min(created_at), min(id) LIMIT ?"""
        return [(row[0], row[1], bool(row[2])) for row in self._db.execute(sql, (ticket_id, limit))]

    def staff(self, *, limit: int) -> list[LabelRow]:
        """Return the staff that the source has, by id, and then by name who else wrote as such.

        Those, and owners of tickets, who are not on the source's list any more have id 0.
        """
        known = "SELECT id, title, email FROM labels WHERE kind = 'staff' ORDER BY id LIMIT ?"
        found = [LabelRow("staff", *row) for row in self._db.execute(known, (limit,))]
        seen = {folded(text) for one in found for text in (one.title, one.email) if text}
        written = """
            SELECT DISTINCT author_name AS name, author_email AS email FROM posts
            WHERE staff AND (author_name <> '' OR author_email <> '')
            UNION SELECT owner_name, '' FROM tickets WHERE owner_name <> ''
            ORDER BY name, email DESC LIMIT ?"""
        for name, email in self._db.execute(written, (limit,)):
            if folded(email or name) not in seen:
                found.append(LabelRow("staff", 0, name, email))
            seen.update(folded(text) for text in (name, email) if text)
        return found[:limit]

    def merged(self, ticket_id: int, *, limit: int) -> list[TicketHeader]:
        """Return the tickets that were merged into a ticket, directly or not, by id."""
        sql = f"""
            WITH RECURSIVE merged (id) AS (
                SELECT id FROM tickets WHERE merged_into = ?
                UNION SELECT t.id FROM tickets AS t JOIN merged ON t.merged_into = merged.id)
            SELECT {_HEADER} FROM headers AS h
            WHERE h.id IN (SELECT id FROM merged WHERE id <> ?) ORDER BY h.id LIMIT ?"""
        found = self._db.execute(sql, (ticket_id, ticket_id, limit))
        return [TicketHeader(*row) for row in found]

    def text(self, response_id: int) -> str:
        """Return the whole text of a post."""
        found = self._db.one("SELECT text FROM posts WHERE id = ?", (response_id,))
        return str(found[0]) if found else ""

    def unique_names(self, ticket_id: int) -> frozenset[str]:
        """Return the file names that only one attachment of a ticket has."""
        sql = """
            SELECT filename FROM attachments WHERE ticket_id = ?
            GROUP BY filename HAVING count(*) = 1"""
        return frozenset(row[0] for row in self._db.execute(sql, (ticket_id,)))

    def attachments_of(self, response_ids: Collection[int]) -> dict[int, list[Row]]:
        """Return the attachments of responses, in any state, by id; none for those without."""
        values = Values()
        sql = f"""
            SELECT {ROW} FROM ledger WHERE attachment_id IN (
                SELECT a.id FROM attachments AS a JOIN posts AS p
                    ON p.id = {_OF_RESPONSE} AND p.ticket_id = a.ticket_id
                WHERE {_OF_RESPONSE} IN {values.each(response_ids)}
            ) ORDER BY 1"""
        found: defaultdict[int, list[Row]] = defaultdict(list)
        for row in map(row_from, self._db.execute(sql, values)):
            found[row.post_id if row.post_id > 0 else -row.ticket_id].append(row)
        return dict(found)

    def find(
        self,
        text: str = "",
        *,
        number: AnyOf = (),
        subject: Parts = (),
        requester: Parts = (),
        filename: Parts = (),
        raised: AnyOf = (),
        content: Parts = (),
        subject_content: Parts = (),
        participants: AnyOf = (),
        assigned: AnyOf = (),
        unassigned: bool = False,
        statuses: AnyOf = (),
        priorities: Collection[str] = (),
        queues: frozenset[int] | None = None,
        created: Range = (None, None),
        updated: Range = (None, None),
        deleted: bool = True,
        limit: int = 100,
    ) -> list[TicketHeader]:
        """Return tickets, latest activity first, without those that were merged into others.

        ``number`` is a whole ticket number, or the id shown by Kayako; ``subject``,
        ``requester`` (name or address) and ``filename`` are parts of such, ``text`` any of all
        these. Of several groups of parts, one must match. Parts match in any case and form: see
        :func:`folded`. ``content`` are parts of posts and notes, HTML without its tags, each in
        another one or not; ``subject_content`` parts of these or of the subject.

        Of several, one must match, too: ``raised`` are addresses of requesters, or parts of names
        where there is no @; ``participants`` are addresses of requesters or of who wrote a post;
        ``assigned`` are addresses or names of the staff, and ``unassigned`` allows nobody as well;
        ``statuses`` are those of the headers, and ``priorities`` their titles, as they are.

        ``queues`` is what the caller may see, None for everything; with ``deleted`` that includes
        what the source has deleted.
        """
        values = Values()
        visible = ["h.merged_into IS NULL", *_visible(queues, deleted, values)]
        where = [*visible, *_between("h.created_at", created, values)]
        where += _between("h.last_activity", updated, values)
        where += [_number_is(_each(number), values)] if _each(number) else []
        where += [_took_part(_each(participants), values)] if _each(participants) else []
        if _each(assigned) or unassigned:
            where.append(_owned(_each(assigned), unassigned, values))
        where += [f"h.status IN {values.each(_each(statuses))}"] if _each(statuses) else []
        where += [f"h.priority IN {values.each(priorities)}"] if priorities else []
        texts = [
            TextSearch(self._db, groups, subjects=subjects)
            for parts, subjects in ((content, False), (subject_content, True))
            if (groups := _groups(parts))
        ]
        # The whole address of a person ends where the column does:
        people = [[f"\x1f{one}\x1f" if "@" in one[1:-1] else one] for one in _each(raised)]
        wanted: list[tuple[tuple[str, ...], Parts]] = [
            ((_SUBJECT,), subject),
            ((_PERSON,), requester),
            ((_PERSON,), people),
            ((_FILES,), filename),
            ((_SUBJECT, _PERSON, _FILES), text),
        ]
        searches = [
            _Search(columns, groups) for columns, parts in wanted if (groups := _groups(parts))
        ]
        if searches:
            direct = self._of_number(text) if text else set()
            narrowed = _narrowed(texts)
            where += [each.filter(values) for each in texts]
            where += [] if narrowed is None else [f"h.id IN {values.each(narrowed)}"]
            ids = self._searched(searches, direct, where, values, limit)
            where = [*visible, f"h.id IN {values.each(ids)}"]
        elif texts:
            return self._db.together(lambda: self._with_texts(texts, where, values, limit))
        return self._headers(where, values, limit)

    def named(self, name: str) -> list[TicketHeader]:
        """Return the tickets that people mean: the one with this id, else those of this number.

        Numbers are those that :meth:`find` takes. A ticket that was merged stands for the one that
        it was merged into.
        """
        name = name.strip()
        plain = name.isascii() and name.isdigit() and len(name) < 19
        ticket = self.survivor(int(name)) if plain else None
        if ticket is not None:
            return [ticket]
        return sorted(self.find(number=name), key=lambda one: one.id) if name else []

    def _headers(self, where: Sequence[str], values: Values, limit: int) -> list[TicketHeader]:
        # One row with all of them: before each row, a thread waits for all others of Python.
        sql = f"""
            SELECT json_group_array(json_array({_HEADER.replace("h.", "")})) FROM (
                SELECT {_HEADER} FROM headers AS h WHERE {" AND ".join(where)}
                ORDER BY h.last_activity DESC, h.id DESC LIMIT :limit) AS found"""
        ((rows,),) = self._db.execute(sql, {**values, "limit": limit})
        return [TicketHeader(*row) for row in json.loads(rows)]

    def _with_texts(
        self, texts: Sequence[TextSearch], where: Sequence[str], values: Values, limit: int
    ) -> list[TicketHeader]:
        """Return the first tickets that pass, when texts are searched.

        Either few tickets may have the texts, or so many do that they are soon found. The latest
        ones, which are looked at first, tell which it is.
        """
        latest = f"""
            SELECT json_group_array(id), min(last_activity) FROM (
                SELECT h.id, h.last_activity FROM headers AS h
                WHERE {" AND ".join(where)} AND (h.last_activity, h.id) < (:time, :last)
                ORDER BY h.last_activity DESC, h.id DESC LIMIT :page)"""
        where = [*where, *(each.filter(values) for each in texts)]
        values |= {"time": fit(1 << 64), "last": fit(1 << 64)}
        found: list[TicketHeader] = []
        seen, page, left = 0, _FIRST, 0
        while True:
            ((listed, until),) = self._db.execute(latest, {**values, "page": page})
            tickets = may = json.loads(listed)
            for each in texts if left > _SOON else ():
                among = each.among(may)
                may = [one for one in may if one in among]
            found += self._first_of(may, where, values, limit - len(found))
            if len(found) >= limit or len(tickets) < page:
                return found
            seen += page
            values |= {"time": until, "last": tickets[-1]}
            # So many more are to be looked at, if as many of them pass.
            left = (limit - len(found)) * seen // (len(found) or 1)
            few = [each.few for each in texts if left > _SOON and each.few is not None]
            if few and min(few) <= left // 2:
                break
            page = min(max(left, _FIRST), _LATER)
        may = self._sorted(_narrowed(texts) or (), values)
        return found + self._first_of(may, where, values, limit - len(found))

    def _sorted(self, tickets: Collection[int], values: Values) -> Sequence[int]:
        """Return tickets in the order of answers, without those that were looked at."""
        sql = """
            SELECT json_group_array(id) FROM (
                SELECT id FROM tickets WHERE id IN (SELECT value FROM json_each(:given))
                    AND (last_activity, id) < (:time, :last)
                ORDER BY last_activity DESC, id DESC)"""
        given = json.dumps(sorted(tickets))
        ((ids,),) = self._db.execute(sql, {**values, "given": given})
        return list(json.loads(ids))

    def _first_of(
        self, tickets: Sequence[int], where: Sequence[str], values: Values, limit: int
    ) -> list[TicketHeader]:
        """Return the first of these tickets that pass, without looking at more than are wanted."""
        found: list[TicketHeader] = []
        where, looked, some = [*where, "h.id IN (SELECT value FROM json_each(:some))"], 0, _FIRST
        while looked < len(tickets) and len(found) < limit:
            values["some"] = json.dumps(tickets[looked : looked + some])
            found += self._headers(where, values, limit - len(found))
            looked += some
            left = (limit - len(found)) * looked // (len(found) or 1)
            some = min(max(left, _FIRST), 2 * some)
        return found

    def file_of(self, ticket_id: int, part: str) -> str | None:
        """Return the first file name of a ticket that contains ``part``, as for :meth:`find`."""
        sql = """
            SELECT filename FROM attachments WHERE ticket_id = ? AND instr(folded(filename), ?) > 0
            ORDER BY id LIMIT 1"""
        found = self._db.one(sql, (ticket_id, folded(clean(part))))
        return found[0] if found else None

    def _of_number(self, number: str) -> set[str]:
        values = Values()
        sql = f"SELECT h.id FROM tickets AS h WHERE {_number_is([number], values)}"
        return {str(row[0]) for row in self._db.execute(sql, values)}

    def _searched(
        self,
        searches: Sequence[_Search],
        direct: set[str],
        where: Sequence[str],
        values: Values,
        limit: int,
    ) -> list[int]:
        """Return the first tickets that pass all searches, or are ``direct`` ones.

        SQLite cannot fold case, and asking Python for each row is slow beside other work. So it
        joins the texts of many tickets, and most of such pages are passed over at one look.
        """
        columns = sorted({column for search in searches for column in search.columns})
        joined = ", ".join(
            f"group_concat(char(30) || replace(text_{n}, char(30), ' '), '')"
            for n in range(len(columns))
        )
        texts = ", ".join(f"{column} AS text_{n}" for n, column in enumerate(columns))
        sql = f"""
            SELECT group_concat(id), group_concat(last_activity), {joined} FROM (
                SELECT h.id, h.last_activity, {texts} FROM headers AS h
                WHERE {" AND ".join(where)} AND (h.last_activity, h.id) < (:time, :id)
                ORDER BY h.last_activity DESC, h.id DESC LIMIT {_PAGE})"""
        found: list[int] = []
        time = last = fit(1 << 64)
        while len(found) < limit:
            ((ids, times, *pages),) = self._db.execute(sql, {**values, "time": time, "id": last})
            if ids is None:
                break
            numbers = ids.split(",")
            time, last = int(times.rpartition(",")[2]), int(numbers[-1])
            page = dict(zip(columns, map(folded, pages), strict=True))
            if all(search.meets(page) for search in searches) or not direct.isdisjoint(numbers):
                split = zip(*(text.split("\x1e")[1:] for text in page.values()), strict=True)
                for number, parts in zip(numbers, split, strict=True):
                    each = dict(zip(columns, parts, strict=True))
                    if number in direct or all(search.meets(each) for search in searches):
                        found.append(int(number))
            if len(numbers) < _PAGE:
                break
        return found[:limit]

    def put_statuses(self, statuses: Iterable[StatusRow]) -> None:
        """Add or change ticket statuses; keep those no longer listed, tickets may have them."""
        with self._db.atomic():
            rows = [(one.id, clean(one.title), one.department_id, one.resolved) for one in statuses]
            self._db.execute_many(_PUT_STATUS, rows)

    def put_labels(self, labels: Iterable[LabelRow]) -> None:
        """Add or change names; keep those no longer listed, tickets may refer to them."""
        with self._db.atomic():
            rows = [(one.kind, one.id, clean(one.title), clean(one.email)) for one in labels]
            self._db.execute_many(_PUT_LABEL, rows)

    def put(
        self,
        run_id: int,
        ticket: TicketRow,
        posts: Sequence[PostRow],
        *,
        people: Sequence[PeopleNote] = (),
        activity: int | None = None,
    ) -> None:
        """Record a ticket's header, posts and notes as run ``run_id`` read them.

        ``people`` are the notes about its user and the user's organization.

        ``activity`` is the last activity that the ledger knew when they were asked for (None: the
        one of ``ticket``). Posts that the source no longer sends stay, those of another ticket
        move here. Equal posts are not written again.
        """
        kept_for = ticket.last_activity if activity is None else activity
        with self._db.atomic():
            self._db.execute(_PUT_HEADER, (*ticket_values(ticket), kept_for, run_id))
            self._db.execute_many(_PUT_POST, [_post(ticket.id, post) for post in posts])
            self._db.execute_many(_PUT_PEOPLE_NOTE, [_people_note(note) for note in people])
            self._index.keep_up(len(posts))

    def put_notes(
        self, ticket_id: int, notes: Sequence[PostRow], people: Sequence[PeopleNote]
    ) -> tuple[list[PostRow], list[PeopleNote]]:
        """Record the notes that come with a list, and return those that are new or changed.

        Notes of a ticket that is known as merged are left to the other one, where they are by now.
        """
        with self._db.atomic():
            merged = self._db.one("SELECT merged_into FROM tickets WHERE id = ?", (ticket_id,))
            if merged is None or merged[0] is not None:
                notes = ()
            return (
                [one for one in notes if self._changes(_PUT_POST, _post(ticket_id, one))],
                [one for one in people if self._changes(_PUT_PEOPLE_NOTE, _people_note(one))],
            )

    def _changes(self, sql: str, values: tuple[object, ...]) -> bool:
        """Execute an upsert; return whether it wrote anything."""
        return bool(list(self._db.execute(f"{sql} RETURNING id", values)))

    def put_fields(
        self, ticket_id: int, responses: Sequence[PostRow], *, activity: int | None
    ) -> None:
        """Record the custom fields of a ticket, for the last activity that the ledger knew."""
        with self._db.atomic():
            self._db.execute_many(_PUT_POST, [_post(ticket_id, post) for post in responses])
            self.skip_fields(ticket_id, activity=activity)

    def skip_fields(self, ticket_id: int, *, activity: int | None) -> None:
        """Record that there is nothing more to read of its custom fields; None: all of it."""
        sql = "UPDATE tickets SET fields_activity = ? WHERE id = ?"
        with self._db.atomic():
            self._db.execute(sql, (activity, ticket_id))

    def without_fields(
        self, *, replies: bool = False, after: int = 0, limit: int = 500
    ) -> list[tuple[int, int]]:
        """Return (ticket, last activity) where custom fields are to be read, as :meth:`unread`."""
        where = f"({_HAS_UNREAD_FIELDS} {_OR_UNKEPT_FIELDS if replies else ''})"
        sql = f"SELECT id, last_activity FROM tickets WHERE {where} AND id > ? ORDER BY id LIMIT ?"
        return [(row[0], row[1]) for row in self._db.execute(sql, (after, limit))]

    def count_without_fields(self, *, replies: bool = False) -> int:
        """Return the number of tickets of :meth:`without_fields`."""
        where = f"{_HAS_UNREAD_FIELDS} {_OR_UNKEPT_FIELDS if replies else ''}"
        ((n,),) = self._db.execute(f"SELECT count(*) FROM tickets WHERE {where}")
        return int(n)

    def fields_activity(self, ticket_id: int, *, again: bool, replies: bool = False) -> int | None:
        """Return the last activity for which custom fields are to be read, None if they were.

        ``again`` says that it does not matter whether they were.
        """
        where = f"({_HAS_UNREAD_FIELDS} {_OR_UNKEPT_FIELDS if replies else ''})"
        where = "true" if again else where
        found = self._db.one(
            f"SELECT last_activity FROM tickets WHERE id = ? AND {where}", (ticket_id,)
        )
        return found[0] if found else None

    def merged_into(self, ticket_id: int) -> list[int]:
        """Return the tickets that were merged into a ticket, by id."""
        sql = "SELECT id FROM tickets WHERE merged_into = ? ORDER BY id"
        return [row[0] for row in self._db.execute(sql, (ticket_id,))]

    def skip(self, run_id: int, ticket_id: int, *, activity: int) -> None:
        """Record that the source has no posts of a ticket that had that last activity."""
        sql = "UPDATE tickets SET posts_activity = ?, posts_run = ? WHERE id = ?"
        with self._db.atomic():
            self._db.execute(sql, (activity, run_id, ticket_id))

    def unread(
        self, *, replies: bool = False, after: int = 0, limit: int = 500
    ) -> list[tuple[int, int]]:
        """Return (ticket, last activity) where posts were never read, or for another activity.

        With ``replies`` also those whose reply was not kept then. By id above ``after``; without
        tickets that were merged into others or deleted.
        """
        each = "SELECT id, last_activity FROM tickets WHERE {} AND id > :after"
        either = f"UNION {each.format(_IS_UNKEPT)}" if replies else ""
        sql = f"{each.format(_IS_UNREAD)} {either} ORDER BY id LIMIT :limit"
        found = self._db.execute(sql, {"after": after, "limit": limit})
        return [(row[0], row[1]) for row in found]

    def unread_activity(self, ticket_id: int, *, replies: bool = False) -> int | None:
        """Return the last activity for which a ticket's posts are to be read, None if they were."""
        found = self.unread(replies=replies, after=ticket_id - 1, limit=1)
        return found[0][1] if found and found[0][0] == ticket_id else None

    def count_unread(self, *, replies: bool = False) -> int:
        """Return the number of tickets of :meth:`unread`."""
        either = f"({_IS_UNREAD}) OR ({_IS_UNKEPT})" if replies else _IS_UNREAD
        ((n,),) = self._db.execute(f"SELECT count(*) FROM tickets WHERE {either}")
        return int(n)

    def all_tickets(self) -> Iterator[TicketHeader]:
        """Yield the headers of all tickets by id, also of merged and deleted ones."""
        sql = f"SELECT {_HEADER} FROM headers AS h WHERE h.id > :after ORDER BY h.id LIMIT :most"
        return (TicketHeader(*row) for row in self._db.stream(sql, -1))

    def all_posts(self, page: int = 50) -> Iterator[Response]:
        """Yield all posts by ticket, and those of a ticket oldest first.

        ``page`` of them are read at once: each may hold some MiB of text.
        """
        after = (-1, 0, 0)
        while posts := self.texts(after=after, limit=page):
            yield from posts
            after = (posts[-1].ticket_id, posts[-1].created_at, posts[-1].id)

    def texts(self, *, after: tuple[int, int, int] = (-1, 0, 0), limit: int = 50) -> list[Response]:
        """Return posts as :meth:`all_posts` does, above a (ticket, time, post)."""
        sql = f"""
            {_RESPONSES} (p.ticket_id, p.created_at, p.id) > (:ticket, :time, :post)
            ORDER BY p.ticket_id, p.created_at, p.id LIMIT :page"""
        ticket_id, time, post_id = after
        values = {"cut": LONGEST, "page": limit, "ticket": ticket_id, "time": time, "post": post_id}
        return [_response(row) for row in self._db.execute(sql, values)]

    def _responses(
        self,
        where: list[str],
        values: Values,
        after: tuple[int, int] | None,
        limit: int | None,
        text_limit: int | None,
    ) -> list[Response]:
        if after is not None:
            time, post_id = map(fit, after)
            where = [*where, f"(p.created_at, p.id) > ({values(time)}, {values(post_id)})"]
        most = -1 if limit is None else limit
        sql = f"""
            {_RESPONSES} {" AND ".join(where)}
            ORDER BY p.created_at, p.id LIMIT {values(most)}"""
        values["cut"] = LONGEST if text_limit is None else text_limit
        return [_response(row) for row in self._db.execute(sql, values)]


def _narrowed(texts: Sequence[TextSearch]) -> set[int] | None:
    """Return the tickets that may pass all searches of texts, None for too many."""
    found = [each.tickets() for each in texts if each.few is not None]
    return set.intersection(*found) if found else None


def _wanted(wanted: ResponseFilter, values: Values) -> list[str]:
    """Translate a filter into conditions on p (posts) and h (headers)."""
    where = _visible(wanted.queues, wanted.deleted, values)
    where += _between("p.created_at", (wanted.created_from, wanted.created_to), values)
    if wanted.queue_names is not None:
        where.append(f"h.queue_name IN {values.each(wanted.queue_names)}")
    if wanted.ticket_numbers is not None:
        where.append(f"p.ticket_id IN {values.tickets(wanted.ticket_numbers)}")
    if wanted.is_internal is not None:
        where.append(f"p.is_private = {values(wanted.is_internal)}")
    if wanted.staff is not None:
        where.append(f"p.staff = {values(wanted.staff)}")
    if wanted.response_ids is not None:
        where.append(f"p.id IN {values.each(wanted.response_ids)}")
    if wanted.author_email is not None:
        author = values(folded(clean(wanted.author_email)))
        where.append(f"{_address('p.author_email')} = {author}")
    if not wanted.unread:
        where.append(_IS_READ)
    if wanted.is_empty is not None:
        where += [_IS_KNOWN, f"({_EMPTY})" if wanted.is_empty else f"NOT ({_EMPTY})"]
    if wanted.has_attachments is not None:
        where.append(_HAS_ATTACHMENTS if wanted.has_attachments else f"NOT {_HAS_ATTACHMENTS}")
    return where


def _visible(queues: frozenset[int] | None, deleted: bool, values: Values) -> list[str]:
    """Return a filter for tickets of these queues (None: all), ``deleted`` ones on request."""
    where = [] if queues is None else [f"h.department_id IN {values.departments(queues)}"]
    return where if deleted else [*where, "h.deleted_at IS NULL"]


def _between(column: str, given: Range, values: Values) -> list[str]:
    ends = zip((">=", "<="), given, strict=True)
    return [f"{column} {sign} {values(fit(end))}" for sign, end in ends if end is not None]


def _each(parts: AnyOf) -> Collection[str]:
    return [one for one in ([parts] if isinstance(parts, str) else parts) if one]


def _groups(parts: Parts) -> tuple[tuple[str, ...], ...]:
    """Return the groups of parts, folded, without empty ones."""
    given = [[parts]] if isinstance(parts, str) else parts
    groups = (tuple(folded(clean(part)) for part in group if part) for group in given)
    return tuple(group for group in groups if group)


def _address(column: str) -> str:
    """Return SQL for an address as :func:`folded` has it; must repeat the words of the indexes."""
    # Nearly all addresses are ASCII, for which SQLite need not ask Python.
    return f"iif({_is_odd(column)}, folded({column}), lower({column}))"


def _is_odd(column: str) -> str:
    return f"length({column}) <> length(CAST({column} AS BLOB))"


TALLIES = {
    "ticket_number": "h.ticket_number",
    "created_by_email": _address("p.author_email"),
    "queue": "h.queue_name",
    "is_internal": "p.is_private",
    "staff_response": "p.staff",
    "day": "coalesce(strftime('%Y-%m-%d', p.created_at, 'unixepoch'), '1970-01-01')",
}
"""What posts may be counted by, in SQL."""


def _took_part(addresses: Collection[str], values: Values) -> str:
    """Return a filter for the tickets that one of these people raised, or wrote in."""
    given = values.each(folded(clean(one)) for one in addresses)
    return f"""(
        {_address("h.requester_email")} IN {given} OR h.id IN (
            SELECT ticket_id FROM posts
            WHERE author_email <> '' AND lower(author_email) IN {given}
            UNION ALL SELECT ticket_id FROM posts
            WHERE {_is_odd("author_email")} AND folded(author_email) IN {given}))"""


def _owned(people: Collection[str], nobody: bool, values: Values) -> str:
    """Return a filter for the tickets of these members of the staff, or of nobody."""
    given = values.each(folded(clean(one)) for one in people)
    named = f"""
        CAST(json_extract(t.details, '$.ownerstaffid') AS INTEGER) IN (
            SELECT id FROM labels WHERE kind = 'staff'
                AND ({_address("email")} IN {given} OR folded(title) IN {given}))
        OR (t.owner_name <> '' AND lower(t.owner_name) IN {given})"""
    # A ticket that was listed has a status; of others nobody knows whose they are.
    free = """
        t.owner_name = '' AND json_extract(t.details, '$.ownerstaffid') IS NULL
        AND (t.status_id <> 0 OR t.posts_activity IS NOT NULL)"""
    return f"""EXISTS (
        SELECT 1 FROM tickets AS t
        WHERE t.id = h.id AND ({named} OR ({free if nobody else "0"})))"""


def _number_is(numbers: Collection[str], values: Values) -> str:
    """Return a filter for the tickets of these numbers, or with these ids shown by Kayako."""
    return f"h.id IN {values.tickets(numbers, shown=True)}"


def _post(ticket_id: int, post: PostRow) -> Tuple:
    return (
        post.id,
        ticket_id,
        post.created_at,
        clean(post.author_name),
        clean(post.author_email),
        post.staff,
        post.is_private,
        post.is_html,
        clean(post.text),
        post.note,
        post.kind,
        as_json(post.facts) if post.facts else None,
    )


def _people_note(note: PeopleNote) -> Tuple:
    return (
        note.id,
        note.about,
        note.about_id,
        note.created_at,
        clean(note.author_name),
        note.is_html,
        clean(note.text),
        note.note,
        as_json(note.facts) if note.facts else None,
    )


def _people_note_from(values: Tuple) -> PeopleNote:
    *columns, facts = values
    note = PeopleNote(*columns)
    facts = decoded(facts, "people_notes.facts") if facts else {}
    return replace(note, is_html=bool(note.is_html), facts=facts)


def _article(values: Tuple) -> ArticleRow:
    *columns, details = values
    row = ArticleRow(*columns)
    return replace(row, is_html=bool(row.is_html), details=decoded(details, "articles.details"))


def _response(values: Tuple) -> Response:
    columns = list(values)
    for flag in _FLAGS:
        columns[flag] = bool(columns[flag])
    return Response(*columns)
