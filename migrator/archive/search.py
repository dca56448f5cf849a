"""The search for parts of posts, notes and subjects, with an index of their trigrams.

``search`` has each text as searches compare it, and SQLite's FTS5 an index of it. A post has its
own id there, the subject of a ticket the negative id of the ticket. Triggers note in ``unindexed``
whatever is new or changed, in the same transaction; it is indexed in batches. Until then it is
read from its post, as very long texts always are, and all texts without FTS5. So no answer lacks
what is not indexed.

The index only narrows a search: what it finds is compared as a whole, which decides.
"""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Final

from migrator.archive.checkpoint import Checkpoint
from migrator.archive.schema import SEARCH_TABLE
from migrator.archive.sql import Values

LONGEST: Final = 1_000_000
"""Characters of a text that is indexed: FTS5 keeps all trigrams of a text in memory."""

BATCH: Final = 256
"""Texts that may wait before some are indexed; more at once cost less for each."""
_BATCH_CHARS: Final = 2_000_000
"""Characters of such a batch."""

_TRIGRAMS: Final = 24
"""The most trigrams of a part that are looked up."""

_HAS_FTS: Final = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"
_IS_THERE: Final = "SELECT 1 FROM sqlite_master WHERE name = 'search_content'"
_NEXT: Final = """
    SELECT u.id, coalesce(p.text, t.subject, ''), coalesce(p.is_html, 0) FROM unindexed AS u
    LEFT JOIN posts AS p ON p.id = u.id AND u.id > 0
    LEFT JOIN tickets AS t ON t.id = -u.id AND u.id < 0
    WHERE u.is_long = 0 AND u.id > ? ORDER BY u.id LIMIT 1"""

Groups = Sequence[Sequence[str]]
"""Groups of folded parts: all parts of one of them must be found."""


class TextIndex:
    """The texts of a checkpoint; errors as of :class:`Ledger`, from any thread."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._db = checkpoint

    def keep_up(self, added: int) -> None:
        """Index what waits, but for less than a batch; not many more texts than were added."""
        most = (added // BATCH + 1) * BATCH
        sql = f"SELECT count(*) FROM (SELECT 1 FROM unindexed WHERE is_long = 0 LIMIT {most})"
        ((waiting,),) = self._db.execute(sql)
        for _ in range(waiting // BATCH):
            self.add()

    def add(self) -> bool:
        """Index a batch of the texts that wait; return whether there may be more.

        Ids ascend in a batch, as FTS5 wants them: else it would flush before each.
        """
        from migrator.archive.bodies import searchable  # noqa: PLC0415 - lxml costs start-up time

        if not self._has_fts:
            return False
        last, done, chars = -1 << 63, 0, 0
        with self._db.atomic():
            if not self._is_there:  # another SQLite made the archive
                self._db.execute(SEARCH_TABLE)
            while done < BATCH and chars < _BATCH_CHARS and (row := self._db.one(_NEXT, (last,))):
                last, text, is_html = row
                done, chars = done + 1, chars + len(text)
                if len(text) > LONGEST:
                    self._db.execute("UPDATE unindexed SET is_long = 1 WHERE id = ?", (last,))
                    continue
                folded = _stored(searchable(text, bool(is_html)))
                sql = "INSERT OR REPLACE INTO search (rowid, text) VALUES (?, ?)"
                self._db.execute(sql, (last, folded))
            self._db.execute("DELETE FROM unindexed WHERE is_long = 0 AND id <= ?", (last,))
        return done == BATCH or chars >= _BATCH_CHARS

    def waiting(self) -> int:
        """Return the number of texts that are to be indexed."""
        ((waiting,),) = self._db.execute("SELECT count(*) FROM unindexed WHERE is_long = 0")
        return int(waiting)

    def has(self, groups: Groups, *, subjects: bool, values: Values, indexed: bool = False) -> str:
        """Return a filter for tickets (h) whose texts have all parts of one of the groups.

        Each part may be in another post, with ``subjects`` also in the subject. When ``indexed``,
        the index is read as a whole first, to pass over most tickets without reading texts.
        """
        parts = dict.fromkeys(part for group in groups for part in group)
        tests = {part: self._test(part, subjects, values) for part in parts}
        may = {part: self._may(part, subjects, values) for part in parts if indexed}
        # A long part is in fewer texts than a short one: most tickets are done with it.
        longest = [sorted(group, key=len, reverse=True) for group in groups]
        any_of = (
            " AND ".join(each[part] for each in (may, tests) for part in group if part in each)
            for group in longest
        )
        return "(" + " OR ".join(f"({each})" for each in any_of) + ")"

    def _may(self, part: str, subjects: bool, values: Values) -> str:
        """Return a test whether a text of a ticket has all trigrams of a part, or is unindexed."""
        trigrams = _trigrams(part)
        if trigrams is None or not self._is_there or not self._has_fts:
            return "1"
        also = "SELECT -h.id AS id UNION ALL" if subjects else ""
        # With a plus, or SQLite would look for each found text in each ticket.
        return f"""EXISTS (
            SELECT 1 FROM (
                {also} SELECT id FROM posts WHERE ticket_id = h.id AND id > 0)
            WHERE +id IN (
                SELECT rowid FROM search WHERE search MATCH {values(trigrams)}
                UNION ALL SELECT id FROM unindexed))"""

    def _test(self, part: str, subjects: bool, values: Values) -> str:
        held = values(_stored(part))
        in_post = f"""EXISTS (
            SELECT 1 FROM posts AS p WHERE p.ticket_id = h.id AND p.id > 0
                AND instr({self._text("p.id", "searchable(p.text, p.is_html)")}, {held}) > 0)"""
        in_subject = f"instr({self._text('-h.id', 'searchable(h.subject, 0)')}, {held}) > 0"
        return f"({in_subject} OR {in_post})" if subjects else in_post

    def _text(self, key: str, read: str) -> str:
        """Return SQL for a text as it is compared: the one that is kept, else the one ``read``."""
        if not self._is_there:
            return read
        return f"""coalesce((
            SELECT c0 FROM search_content WHERE id = {key}
                AND NOT EXISTS (SELECT 1 FROM unindexed WHERE id = {key})), {read})"""

    def narrowed(self, groups: Groups, most: int, *, subjects: bool) -> set[int] | None:
        """Return the tickets that may pass :meth:`has`, None for more than ``most`` texts."""
        where = "" if subjects else "AND rowid > 0"
        waiting = self._ids(f"SELECT id FROM unindexed LIMIT {most + 1}", (), most)
        if waiting is None or not self._is_there or not self._has_fts:
            return None
        found = set(waiting)
        for group in groups:
            # The rarest part decides; the others are compared where it is.
            looked_up = [self._look_up(part, where, most) for part in group]
            few = [keys for keys in looked_up if keys is not None]
            if not few:
                return None
            found |= min(few, key=len)
        values = Values()
        sql = f"""
            SELECT json_group_array(DISTINCT ticket_id) FROM posts
            WHERE id IN {values.each(found)}"""
        ((tickets,),) = self._db.execute(sql, values)
        return set(json.loads(tickets)) | {-key for key in found if key < 0 and subjects}

    def _look_up(self, part: str, where: str, most: int) -> set[int] | None:
        """Return the texts that have all trigrams of a part, None for too many or too short."""
        trigrams = _trigrams(part)
        if trigrams is None:
            return None
        sql = f"SELECT rowid AS id FROM search WHERE search MATCH ? {where} LIMIT {most + 1}"
        return self._ids(sql, (trigrams,), most)

    def _ids(self, sql: str, values: Collection[object], most: int) -> set[int] | None:
        # One row with all of them: before each row, a thread waits for all others of Python.
        ((ids,),) = self._db.execute(f"SELECT json_group_array(id) FROM ({sql})", tuple(values))
        found: set[int] = set(json.loads(ids))
        return None if len(found) > most else found

    @cached_property
    def _has_fts(self) -> bool:
        return bool(self._db.execute(_HAS_FTS))

    @property
    def _is_there(self) -> bool:
        return bool(self._db.execute(_IS_THERE))


def _trigrams(part: str) -> str | None:
    """Return a query of FTS5 for the trigrams of a part, None for a part that has none."""
    part = _stored(part)
    found = list(dict.fromkeys(part[at : at + 3] for at in range(len(part) - 2)))
    step = -(-len(found) // _TRIGRAMS) or 1
    return " AND ".join('"' + each.replace('"', '""') + '"' for each in found[::step]) or None


def _stored(text: str) -> str:
    """Return a text that SQLite reads to its end."""
    return text.replace("\0", "\ufffd")
