"""The search for parts of posts, notes and subjects, with an index of their words and trigrams.

``search`` has each text as searches compare it, and SQLite's FTS5 an index of its trigrams. A post
has its own id there, the subject of a ticket the negative id of the ticket. ``words`` has each word
of these texts, ``word_parts`` the trigrams of words, and ``word_texts`` in which texts a word is:
so the texts with a part are those with one of the words that have it. The trigrams of texts, which
many others share, serve for parts of very many words, and for those without a letter.

Triggers note in ``unindexed`` whatever is new or changed, in the same transaction; it is indexed in
batches. Until then it is read from its post, as very long texts always are, and all texts without
FTS5. So no answer lacks what is not indexed.

The index only narrows a search: what it finds is compared as a whole, which decides.
"""
# ruff: noqa: S608 - only constants of this room become SQL

from __future__ import annotations

import json
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from migrator.archive.checkpoint import Checkpoint, Tuple
from migrator.archive.schema import SEARCH_TABLE, WORD_PARTS_TABLE, WORD_TEXTS_TABLE
from migrator.archive.sql import Values

LONGEST: Final = 1_000_000
"""Characters of a text that is indexed: FTS5 keeps all trigrams of a text in memory."""

BATCH: Final = 256
"""Texts that may wait before some are indexed; more at once cost less for each."""
_BATCH_CHARS: Final = 2_000_000
"""Characters of such a batch."""

_GRAM: Final = 3
_SEPARATORS: Final = str.maketrans(dict.fromkeys(string.punctuation, " "))
_STEP: Final = 32
"""Characters of a part of a word that are found in it however long it is."""

_WORDS: Final = 128
"""The most words a part may be in, of so many words of a part:"""
_PIECES: Final = 8

_TRIGRAMS: Final = 12
"""The most trigrams of a part that are looked up."""

_PARTS: Final = 8
"""The most parts of a group that are looked up,"""
_RARE: Final = 1000
"""until one of them is in so few texts."""

_MANY: Final = 32_000
"""Texts with a part that are not few any more."""
_TEXTS: Final = 64_000
"""Texts whose places are in memory at once."""

_HAS_FTS: Final = "SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"
_IS_THERE: Final = "SELECT 1 FROM sqlite_master WHERE name = 'search_content'"
_NEXT: Final = """
    SELECT u.id, coalesce(p.text, t.subject, ''), coalesce(p.is_html, 0) FROM unindexed AS u
    LEFT JOIN posts AS p ON p.id = u.id AND u.id > 0
    LEFT JOIN tickets AS t ON t.id = -u.id AND u.id < 0
    WHERE u.is_long = 0 AND u.id > ? ORDER BY u.id LIMIT 1"""

_NEXT_WORDLESS: Final = """
    SELECT w.id, coalesce(c0, '') FROM wordless AS w LEFT JOIN search_content AS c ON c.id = w.id
    WHERE w.id > ? ORDER BY w.id LIMIT 1"""
_WITH_WORDS: Final = """
    SELECT c0 FROM search_content AS c WHERE id = ? AND NOT EXISTS (
        SELECT 1 FROM wordless AS w WHERE w.id = c.id)"""
_IDS: Final = """
    SELECT json_group_object(given.value, CAST(w.id AS TEXT))
    FROM json_each(?) AS given LEFT JOIN words AS w ON word = given.value"""
_WAITING: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM unindexed WHERE is_long = 0 UNION ALL
        SELECT 1 FROM wordless WHERE id NOT IN (SELECT id FROM unindexed WHERE is_long = 0)
        LIMIT ?)"""
_MORE: Final = """
    SELECT 1 FROM unindexed WHERE is_long = 0 UNION ALL SELECT 1 FROM wordless LIMIT 1"""
_STATE: Final = f"""
    SELECT EXISTS ({_IS_THERE}), EXISTS ({_HAS_FTS}), EXISTS (
        SELECT 1 FROM sqlite_master WHERE name = 'word_texts'
            AND NOT EXISTS (SELECT 1 FROM wordless))"""

Groups = Sequence[Sequence[str]]
"""Groups of folded parts: all parts of one of them must be found."""

_Places = Mapping[int, int]
"""Tickets, by their texts."""
_Ranges = Sequence[tuple[int, int]]
"""First and last ids of texts."""


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
        with self._db.atomic():
            for table in (SEARCH_TABLE, WORD_PARTS_TABLE, WORD_TEXTS_TABLE):
                self._db.execute(table)  # another SQLite may have made the archive
            found = self._batch(_NEXT)
            texts = [
                (one, _stored(searchable(text, bool(is_html))))
                for one, text, is_html in found
                if len(text) <= LONGEST
            ]
            self._forget_words([one for one, _ in texts])
            sql = "INSERT OR REPLACE INTO search (rowid, text) VALUES (?, ?)"
            self._db.execute_many(sql, texts)
            for one, text, _ in found:
                if len(text) > LONGEST:
                    self._db.execute("UPDATE unindexed SET is_long = 1 WHERE id = ?", (one,))
            if found:
                sql = "DELETE FROM unindexed WHERE is_long = 0 AND id <= ?"
                self._db.execute(sql, (found[-1][0],))
            else:
                texts = self._batch(_NEXT_WORDLESS)
            self._put_words(texts)
        return self._db.one(_MORE) is not None

    def _batch(self, sql: str) -> list[Tuple]:
        """Return texts that a query returns one by one, by id."""
        found, chars = list[Tuple](), 0
        last = -1 << 63
        while len(found) < BATCH and chars < _BATCH_CHARS and (row := self._db.one(sql, (last,))):
            found.append(row)
            last, chars = row[0], chars + len(row[1])
        return found

    def _put_words(self, texts: Sequence[tuple[int, str]]) -> None:
        """Index the words of texts that have none in the index."""
        words = [_words(text) for _, text in texts]
        ids = self._ids_of(set[str]().union(*words))
        new = sorted(word for word, number in ids.items() if number is None)
        ((last,),) = self._db.execute("SELECT coalesce(max(id), 0) FROM words")
        self._db.execute_many("INSERT INTO words (word) VALUES (?)", [(word,) for word in new])
        sql = "INSERT INTO word_parts (rowid, word) SELECT id, word FROM words WHERE id > ?"
        self._db.execute(sql, (last,))
        ids |= self._ids_of(new)
        rows = [
            (one, " ".join(map(ids.__getitem__, each)))
            for (one, _), each in zip(texts, words, strict=True)
        ]
        self._db.execute_many("INSERT INTO word_texts (rowid, words) VALUES (?, ?)", rows)
        sql = "DELETE FROM wordless WHERE id IN (SELECT value FROM json_each(?))"
        self._db.execute(sql, (json.dumps([one for one, _ in texts]),))

    def _forget_words(self, texts: Iterable[int]) -> None:
        """Take texts out of the index of words; FTS5 must be told what it has of them."""
        sql = "INSERT INTO word_texts (word_texts, rowid, words) VALUES ('delete', ?, ?)"
        for one in texts:
            if had := self._db.one(_WITH_WORDS, (one,)):
                ids = self._ids_of(_words(had[0]))
                self._db.execute(sql, (one, " ".join(ids.values())))

    def _ids_of(self, words: Iterable[str]) -> dict[str, Any]:
        """Return the ids of words as texts, None for new ones."""
        ((ids,),) = self._db.execute(_IDS, (json.dumps(list(words), ensure_ascii=False),))
        return dict(json.loads(ids))

    def waiting(self, most: int = -1) -> int:
        """Return the number of texts that are to be indexed, or ``most`` when there are more."""
        ((waiting,),) = self._db.execute(_WAITING, (most,))
        return int(waiting)

    @cached_property
    def _has_fts(self) -> bool:
        return bool(self._db.execute(_HAS_FTS))


class TextSearch:
    """A search for tickets whose texts have all parts of one of some groups.

    Each part may be in another text: posts, and with ``subjects`` also the subject.
    """

    def __init__(self, checkpoint: Checkpoint, groups: Groups, *, subjects: bool) -> None:
        """Ask what is indexed; errors as of :class:`Ledger`."""
        self._db, self._subjects = checkpoint, subjects
        # A long part is in fewer texts than a short one: most tickets are done with it.
        self._queries: dict[str, tuple[str, str | None]] = {}
        self._groups = [
            sorted((_stored(part) for part in group), key=len, reverse=True) for group in groups
        ]
        # All words would be read for short ones.
        long = [[part for part in group if len(part) >= _GRAM] for group in self._groups]
        self._sought = [
            (some or group)[:_PARTS] for some, group in zip(long, self._groups, strict=True)
        ]
        ((self._is_there, self._has_fts, self._has_words),) = self._db.execute(_STATE)

    def filter(self, values: Values) -> str:
        """Return a filter for the tickets (h)."""
        tests = {part: self._test(part, values) for group in self._groups for part in group}
        any_of = (" AND ".join(tests[part] for part in group) for group in self._groups)
        return "(" + " OR ".join(f"({each})" for each in any_of) + ")"

    def _test(self, part: str, values: Values) -> str:
        held = values(part)
        in_post = f"""EXISTS (
            SELECT 1 FROM posts AS p WHERE p.ticket_id = h.id AND p.id > 0
                AND instr({self._text("p.id", "searchable(p.text, p.is_html)")}, {held}) > 0)"""
        in_subject = f"instr({self._text('-h.id', 'searchable(h.subject, 0)')}, {held}) > 0"
        return f"({in_subject} OR {in_post})" if self._subjects else in_post

    def _text(self, key: str, read: str) -> str:
        """Return SQL for a text as it is compared: the one that is kept, else the one ``read``."""
        if not self._is_there:
            return read
        return f"""coalesce((
            SELECT c0 FROM search_content WHERE id = {key}
                AND NOT EXISTS (SELECT 1 FROM unindexed WHERE id = {key})), {read})"""

    @cached_property
    def few(self) -> int | None:
        """The number of texts that may have the rarest part of a group, None for many."""
        sizes = [None if rarest is None else len(rarest[1]) for rarest in self._rarest]
        return None if None in sizes else sum(size or 0 for size in sizes)

    def tickets(self) -> set[int]:
        """Return the tickets that may pass, where :attr:`few` texts have the parts."""
        return set[int]().union(*map(self._with_all, self._sought, self._rarest))

    def _with_all(self, group: Sequence[str], rarest: tuple[str, set[int]] | None) -> set[int]:
        """Return the tickets that may have all parts of a group."""
        if rarest is None:
            return set()
        tickets = self._tickets_of(rarest[1])
        for part in group if len(tickets) > _RARE else ():
            most = 4 * len(tickets)  # a look at other parts must save more than it costs
            if part != rarest[0] and self._count(part, most) <= most:
                places = self._places(sorted(tickets))
                texts = self._texts(part, self._all, most)
                if places is not None and texts is not None:
                    tickets = _at(places, texts)
        return tickets

    def among(self, tickets: Sequence[int]) -> Collection[int]:
        """Return those of some tickets that may pass."""
        places = self._places(tickets)
        if places is None or self._waiting is None:
            return tickets
        found = set[int]()
        for group, rarest in zip(self._sought, self._rarest, strict=True):
            found |= self._within(places, group) if rarest is None else _at(places, rarest[1])
        return found

    def _within(self, places: _Places, group: Sequence[str]) -> set[int]:
        """Return the tickets that may have all parts of a group in texts at these places."""
        signs = ([one for one in places if one < 0], [one for one in places if one > 0])
        ranges = [(min(each), max(each)) for each in signs if each]
        found = set(places.values())
        for part in group:
            # Where more are found, these texts have no range of their own.
            texts = self._texts(part, ranges, 4 * len(places))
            if texts is not None:
                found &= _at(places, texts)
        return found

    def _tickets_of(self, texts: Collection[int]) -> set[int]:
        """Return the tickets of texts; of subjects only when they are searched."""
        # One row with all of them: before each row, a thread waits for all others of Python.
        sql = """
            SELECT json_group_array(DISTINCT p.ticket_id) FROM json_each(?) AS given
            CROSS JOIN posts AS p INDEXED BY posts_places ON p.id = given.value"""
        posts = json.dumps(sorted(one for one in texts if one > 0))
        ((tickets,),) = self._db.execute(sql, (posts,))
        return set(json.loads(tickets)) | {-one for one in texts if one < 0 and self._subjects}

    def _places(self, tickets: Sequence[int]) -> _Places | None:
        """Return where the texts of tickets are, None for too many."""
        sql = f"""
            SELECT json_group_array(id), json_group_array(ticket_id) FROM (
                SELECT p.id, p.ticket_id
                FROM json_each(?) AS given CROSS JOIN posts AS p ON p.ticket_id = given.value
                WHERE p.id > 0 LIMIT {_TEXTS + 1})"""
        ((ids, of),) = self._db.execute(sql, (json.dumps(tickets),))
        found = dict(zip(json.loads(ids), json.loads(of), strict=True))
        found |= {-one: one for one in tickets if self._subjects}
        return found if len(found) <= _TEXTS else None

    @cached_property
    def _rarest(self) -> Sequence[tuple[str, set[int]] | None]:
        """The rarest part of each group, and the texts that may have it; None for many."""
        found = list[tuple[str, set[int]] | None]()
        for group in self._sought:
            rarest, most = "" if group[1:] else group[0], _MANY + 1
            for part in group if group[1:] and self._waiting is not None else ():
                if most > _RARE and (count := self._count(part, most)) < most:
                    rarest, most = part, count
            known = rarest and self._waiting is not None
            texts = self._texts(rarest, self._all, most) if known else None
            found.append(None if texts is None else (rarest, texts))
        return found

    @cached_property
    def _waiting(self) -> set[int] | None:
        """The texts that may have any part, None for too many."""
        if not (self._is_there and self._has_fts):
            return None
        waiting = f"SELECT id FROM unindexed LIMIT {_MANY + 1}"
        ((ids,),) = self._db.execute(f"SELECT json_group_array(id) FROM ({waiting})")
        found = set[int](json.loads(ids))
        return found if len(found) <= _MANY else None

    @property
    def _all(self) -> _Ranges:
        return [(-(1 << 63), -1)] * self._subjects + [(1, (1 << 63) - 1)]

    def _count(self, part: str, most: int) -> int:
        """Return in how many indexed texts a part may be, a number above ``most`` for many."""
        found = self._indexed("count(*)", part, self._all, most)
        return most + 1 if found is None else int(found)

    def _texts(self, part: str, ranges: _Ranges, most: int) -> set[int] | None:
        """Return the texts that may have a part, None for many, or too short a part."""
        ids = f"iif(count(*) > {most}, NULL, json_group_array(id))"
        found = self._indexed(ids, part, ranges, most)
        return None if found is None else set(json.loads(found)) | (self._waiting or set())

    def _indexed(self, what: str, part: str, ranges: _Ranges, most: int) -> Any:
        """Return what SQL says of the indexed texts in some ranges that may have a part."""
        table, query = self._query(part)
        if query is None:
            return None
        values = Values()
        each = f"SELECT rowid AS id FROM {table} WHERE {table} MATCH {values(query)} AND rowid"
        either = " UNION ALL ".join(
            f"{each} BETWEEN {values(low)} AND {values(high)}" for low, high in ranges if query
        )
        texts = f"SELECT id FROM ({either or 'SELECT NULL AS id LIMIT 0'}) LIMIT {most + 1}"
        ((found,),) = self._db.execute(f"SELECT {what} FROM ({texts})", values)
        return found

    def _query(self, part: str) -> tuple[str, str | None]:
        """Return a table and a query of FTS5 for a part, None where there is none, "" for nothing.

        They stay the same: a search looks at one moment.
        """
        if part not in self._queries:
            words = self._of_words(part) if self._has_words else None
            by_trigrams = ("search", _trigrams(part))
            self._queries[part] = by_trigrams if words is None else ("word_texts", words)
        return self._queries[part]

    def _of_words(self, part: str) -> str | None:
        """Return a query for the texts with the words of a part, None for too many words."""
        found, pieces = list[str](), _pieces(part)
        for piece, whole in sorted(pieces, key=lambda one: -len(one[0]))[:_PIECES]:
            if len(piece) < _GRAM and not whole and found:
                continue  # all words would be read
            ids = self._words_with(piece, whole=whole)
            if not ids:
                return ""
            if len(ids) <= _WORDS:
                found.append(" OR ".join(map(str, ids)))
        return " AND ".join(f"({each})" for each in found) or None

    def _words_with(self, piece: str, *, whole: bool) -> list[int]:
        values = Values()
        held = values(piece)
        where = f"word = {held}" if whole else f"instr(word, {held}) > 0"
        if not whole and (trigrams := _trigrams(piece)):
            where += f""" AND id IN (
                SELECT rowid FROM word_parts WHERE word_parts MATCH {values(trigrams)})"""
        sql = f"SELECT id FROM words WHERE {where} LIMIT {_WORDS + 1}"
        ((ids,),) = self._db.execute(f"SELECT json_group_array(id) FROM ({sql})", values)
        return list(json.loads(ids))


def _at(places: _Places, texts: Collection[int]) -> set[int]:
    """Return the tickets of those texts that are at these places."""
    return {places[one] for one in texts if one in places}


def _words(text: str) -> set[str]:
    """Return the words of a text, very long ones in pieces that overlap by :data:`_STEP`.

    Never change it: words of a text are taken out of the index as they were put in.
    """
    found = set(text.translate(_SEPARATORS).split())
    if max(map(len, found), default=0) <= 2 * _STEP:
        return found
    for word in [word for word in found if len(word) > 2 * _STEP]:
        found.remove(word)
        found |= {word[at : at + 2 * _STEP] for at in range(0, len(word) - _STEP, _STEP)}
    return found


def _pieces(part: str) -> list[tuple[str, bool]]:
    """Return what words a part has, and whether each is a whole word wherever the part is."""
    spaced = part.translate(_SEPARATORS)
    words = spaced.split()
    found = []
    for number, word in enumerate(words):
        begins = number > 0 or spaced[0].isspace()
        ends = number < len(words) - 1 or spaced[-1].isspace()
        whole = begins and ends and len(word) <= 2 * _STEP
        found.append((word if whole else word[:_STEP], whole))
    return found


def _trigrams(part: str) -> str | None:
    """Return a query of FTS5 for the trigrams of a part, None for a part that has none."""
    part = _stored(part)
    found = list(dict.fromkeys(part[at : at + _GRAM] for at in range(len(part) - _GRAM + 1)))
    step = -(-len(found) // _TRIGRAMS) or 1
    return " AND ".join('"' + each.replace('"', '""') + '"' for each in found[::step]) or None


def _stored(text: str) -> str:
    """Return a text that SQLite reads to its end."""
    return text.replace("\0", "\ufffd")
