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
from typing import Final

from migrator.archive.checkpoint import Checkpoint, Params, Tuple
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
    SELECT c0 FROM search_content WHERE id = ?1 AND NOT EXISTS (
        SELECT 1 FROM wordless WHERE id = ?1)"""
_NEW_WORDS: Final = """
    INSERT INTO words (word) SELECT value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING"""
_IDS: Final = """
    SELECT json_group_object(word, CAST(w.id AS TEXT))
    FROM json_each(?) AS given CROSS JOIN words AS w ON word = given.value"""
_WAITING: Final = """
    SELECT (SELECT count(*) FROM unindexed WHERE is_long = 0) + (SELECT count(*) FROM wordless)"""
_MORE: Final = """
    SELECT 1 FROM unindexed WHERE is_long = 0 UNION ALL SELECT 1 FROM wordless LIMIT 1"""
_HAS_WORDS: Final = """
    SELECT 1 FROM sqlite_master WHERE name = 'word_texts'
        AND NOT EXISTS (SELECT 1 FROM wordless)"""

Groups = Sequence[Sequence[str]]
"""Groups of folded parts: all parts of one of them must be found."""


Places = Mapping[int, int]
"""Tickets, by their texts."""


class Candidates:
    """The texts that may have what is searched: by group, those of each of its rare parts."""

    def __init__(self, groups: Sequence[Sequence[set[int]]]) -> None:
        self._groups = groups

    def texts(self) -> set[int]:
        """Return all of them, together."""
        return set[int]().union(*(texts for group in self._groups for texts in group))

    def tickets(self, places: Places) -> set[int]:
        """Return the tickets that may have all parts of a group in texts at these places."""
        found = set[int]()
        for group in self._groups:
            each = ({places[one] for one in texts.intersection(places)} for texts in group)
            found |= set.intersection(*each)
        return found


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
                is_long = len(text) > LONGEST
                sql = "UPDATE unindexed SET is_long = 1" if is_long else "DELETE FROM unindexed"
                self._db.execute(f"{sql} WHERE id = ?", (one,))
            if not found:
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
        every = json.dumps(sorted(set[str]().union(*words)), ensure_ascii=False)
        ((last,),) = self._db.execute("SELECT coalesce(max(id), 0) FROM words")
        self._db.execute(_NEW_WORDS, (every,))
        sql = "INSERT INTO word_parts (rowid, word) SELECT id, word FROM words WHERE id > ?"
        self._db.execute(sql, (last,))
        rows = zip((one for one, _ in texts), self._as_ids(words, every), strict=True)
        self._db.execute_many("INSERT INTO word_texts (rowid, words) VALUES (?, ?)", list(rows))
        sql = "DELETE FROM wordless WHERE id IN (SELECT value FROM json_each(?))"
        self._db.execute(sql, (json.dumps([one for one, _ in texts]),))

    def _forget_words(self, texts: Iterable[int]) -> None:
        """Take texts out of the index of words; FTS5 must be told what it has of them."""
        sql = "INSERT INTO word_texts (word_texts, rowid, words) VALUES ('delete', ?, ?)"
        for one in texts:
            if had := self._db.one(_WITH_WORDS, (one,)):
                words = _words(had[0])
                (ids,) = self._as_ids([words], json.dumps(list(words), ensure_ascii=False))
                self._db.execute(sql, (one, ids))

    def _as_ids(self, texts: Sequence[set[str]], every: str) -> list[str]:
        """Return texts whose words are the ids of words; ``every`` has all of them as JSON."""
        ((found,),) = self._db.execute(_IDS, (every,))
        ids = json.loads(found)
        return [" ".join(map(ids.__getitem__, words)) for words in texts]

    def waiting(self) -> int:
        """Return the number of texts that are to be indexed."""
        ((waiting,),) = self._db.execute(_WAITING)
        return int(waiting)

    def has(self, groups: Groups, *, subjects: bool, values: Values) -> str:
        """Return a filter for tickets (h) whose texts have all parts of one of the groups.

        Each part may be in another post, with ``subjects`` also in the subject.
        """
        parts = dict.fromkeys(part for group in groups for part in group)
        tests = {part: self._test(part, subjects, values) for part in parts}
        # A long part is in fewer texts than a short one: most tickets are done with it.
        longest = [sorted(group, key=len, reverse=True) for group in groups]
        any_of = (" AND ".join(tests[part] for part in group) for group in longest)
        return "(" + " OR ".join(f"({each})" for each in any_of) + ")"

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

    def places(self, texts: Iterable[int], *, subjects: bool) -> Places:
        """Return where texts are; of those of subjects only when they are searched."""
        given = sorted(texts)
        # One row with all of them: before each row, a thread waits for all others of Python.
        sql = """
            SELECT json_group_array(p.id), json_group_array(p.ticket_id)
            FROM json_each(?) AS given
            CROSS JOIN posts AS p INDEXED BY posts_places ON p.id = given.value"""
        ((ids, tickets),) = self._db.execute(sql, (json.dumps([one for one in given if one > 0]),))
        found = dict(zip(json.loads(ids), json.loads(tickets), strict=True))
        return found | {one: -one for one in given if one < 0 and subjects}

    def places_in(self, tickets: Sequence[int], *, subjects: bool) -> Places | None:
        """Return where the texts of tickets are, as :meth:`places`; None for too many texts."""
        sql = f"""
            SELECT json_group_array(id), json_group_array(ticket_id) FROM (
                SELECT p.id, p.ticket_id
                FROM json_each(?) AS given CROSS JOIN posts AS p ON p.ticket_id = given.value
                WHERE p.id > 0 LIMIT {_TEXTS + 1})"""
        ((ids, of),) = self._db.execute(sql, (json.dumps(tickets),))
        found = dict(zip(json.loads(ids), json.loads(of), strict=True))
        found |= {-one: one for one in tickets if subjects}
        return found if len(found) <= _TEXTS else None

    def candidates(
        self, groups: Groups, most: int, *, subjects: bool, within: Places | None = None
    ) -> Candidates | None:
        """Return the texts that may have what is searched, None for more than ``most`` of a part.

        ``within`` are the only ones wanted, None for all.
        """
        waiting = self._ids(f"SELECT id FROM unindexed LIMIT {most + 1}", (), most)
        if waiting is None or not self._is_there or not self._has_fts:
            return None
        ranges = [(-(1 << 63), -1)] * subjects + [(1, (1 << 63) - 1)]
        if within is not None:
            signs = ([one for one in within if one < 0], [one for one in within if one > 0])
            ranges = [(min(each), max(each)) for each in signs if each]
        found = list[list[set[int]]]()
        for group in groups:
            sets: list[set[int]] = []
            for part in sorted(group, key=len, reverse=True)[:_PARTS]:
                texts = self._look_up(part, ranges, most)
                if texts is not None:
                    sets.append(texts | waiting)
                    if len(texts) <= _RARE:
                        break
                    most = min(most, 4 * len(texts))  # others must not cost more than they save
            if not sets:
                return None
            found.append(sets)
        return Candidates(found)

    def _look_up(
        self, part: str, ranges: Collection[tuple[int, int]], most: int
    ) -> set[int] | None:
        """Return the texts that may have a part, None for too many or too short a part."""
        table, query = "word_texts", self._of_words(part) if self._has_words else None
        if query is None:
            table, query = "search", _trigrams(part)
        if not query:
            return None if query is None else set()
        values = Values()
        each = f"SELECT rowid AS id FROM {table} WHERE {table} MATCH {values(query)} AND rowid"
        either = " UNION ALL ".join(
            f"{each} BETWEEN {values(low)} AND {values(high)}" for low, high in ranges
        )
        return self._ids(f"SELECT id FROM ({either}) LIMIT {most + 1}", values, most)

    def _of_words(self, part: str) -> str | None:
        """Return a query of FTS5 for the texts with the words of a part, None for too many words.

        It is empty when no text can have them.
        """
        found, pieces = list[str](), _pieces(_stored(part))
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

    def _ids(self, sql: str, values: Params, most: int) -> set[int] | None:
        all_of = f"iif(count(*) > {most}, NULL, json_group_array(id))"
        ((ids,),) = self._db.execute(f"SELECT {all_of} FROM ({sql})", values)
        return None if ids is None else set(json.loads(ids))

    @cached_property
    def _has_fts(self) -> bool:
        return bool(self._db.execute(_HAS_FTS))

    @property
    def _is_there(self) -> bool:
        return bool(self._db.execute(_IS_THERE))

    @property
    def _has_words(self) -> bool:
        return bool(self._db.execute(_HAS_WORDS))


def _words(text: str) -> set[str]:
    """Return the words of a text, very long ones in pieces that overlap by :data:`_STEP`.

    Never change it: words of a text are taken out of the index as they were put in.
    """
    found = set(text.translate(_SEPARATORS).split())
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
