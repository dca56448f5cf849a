"""The search for parts of texts: what is found is what a plain look at all texts finds."""

from __future__ import annotations

import contextlib
import itertools
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from migrator.archive import Archive, PostRow, TicketRow, folded, open_archive, open_read_only
from migrator.archive.bodies import plain_text
from migrator.errors import ArchiveDamaged
from tests.archive.test_older_formats import made


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Make an archive without texts."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        crowd(archive)
        yield archive


def crowd(archive: Archive, first: int = 10_000, number: int = 201) -> None:
    """Keep so many tickets without texts that no search finds others without the index."""
    with archive.ledger.atomic():
        for ticket in range(first, first + number):
            archive.ledger.put_ticket(TicketRow(ticket, 1, last_activity=ticket))


def put(archive: Archive, ticket: int, *posts: PostRow, subject: str = "") -> None:
    """Keep a ticket and posts of it."""
    with archive.ledger.atomic():
        run = archive.ledger.begin_run("run", source="test", scope={})
        row = TicketRow(ticket, 1, subject=subject, last_activity=ticket)
        archive.ledger.put_ticket(row)
        archive.threads.put(run.id, row, posts)


def index(archive: Archive) -> None:
    """Index all texts that wait."""
    while archive.threads.index_texts():
        pass
    assert archive.threads.unindexed() == 0


def found(archive: Archive, *parts: str, subjects: bool = False) -> list[int]:
    """Return the tickets with all of these parts."""
    groups = [list(parts)]
    if subjects:
        return [one.id for one in archive.threads.find(subject_content=groups)]
    return [one.id for one in archive.threads.find(content=groups)]


@pytest.mark.parametrize("indexed", [True, False])
def test_parts_of_posts_are_found_in_any_form(archive: Archive, indexed: bool) -> None:
    """Upper case, wide letters, tags between; markup itself is no text; short parts, too."""
    put(archive, 1, PostRow(10, text="Die Gr\u00f6\u00dfe der Stra\u00dfe"), subject="Plate")
    put(archive, 2, PostRow(20, text="<p class='red'>in<b>voi</b>ce &uuml;ber</p>", is_html=True))
    put(archive, 3, PostRow(30, text="nothing"), PostRow(31, text="\uff29\uff2e\uff36oice xy\0z"))
    if indexed:
        index(archive)
    expected = {
        ("GRO\u0308SSE",): [1],
        ("invoice",): [3, 2],
        ("INVOICE", "\u00dcber"): [2],
        ("class",): [],
        ("invoice", "nothing"): [3],
        ("y\0",): [3],
        ("\u00fc",): [2],
        ("plate",): [],
    }
    for parts, tickets in expected.items():
        assert found(archive, *parts) == tickets, parts
    assert found(archive, "plate", "strasse", subjects=True) == [1]


def test_two_groups_are_alternatives(archive: Archive) -> None:
    """One whole group is enough."""
    for number, text in enumerate(("alpha beta", "gamma", "alpha"), 1):
        put(archive, number, PostRow(number, text=text))
    index(archive)
    groups = [["alpha", "beta"], ["gamma"]]
    assert [one.id for one in archive.threads.find(content=groups)] == [2, 1]


def test_texts_are_found_where_they_are_now(archive: Archive) -> None:
    """A changed text, a post that moves, a merged ticket: the old place has nothing any more."""
    put(archive, 1, PostRow(10, text="first text"))
    put(archive, 2, PostRow(20, text="other text"))
    index(archive)
    put(archive, 1, PostRow(10, text="second text"))
    for _ in range(2):
        assert (found(archive, "first"), found(archive, "second")) == ([], [1])
        index(archive)
    put(archive, 2, PostRow(10, text="second text"))
    assert found(archive, "second") == [2]
    archive.ledger.mark_merged(2, 1)
    assert found(archive, "second") == found(archive, "other") == [1]


def test_very_long_texts_are_found_without_an_index(archive: Archive) -> None:
    """They never wait for it, and keep no other text from it."""
    put(archive, 1, PostRow(10, text="x " * 600_000 + "needle"), PostRow(11, text="short"))
    for _ in range(2):
        assert found(archive, "NEEDLE", "short") == [1]
        index(archive)
    put(archive, 1, PostRow(10, text="no more"))
    assert (found(archive, "needle"), found(archive, "no more")) == ([], [1])


def test_what_was_undone_is_not_found(archive: Archive) -> None:
    """A text and what is noted of it are one transaction; the next opening finds both or none."""
    with contextlib.suppress(RuntimeError), archive.ledger.atomic():
        put(archive, 1, PostRow(10, text="never kept"))
        index(archive)
        raise RuntimeError
    assert (found(archive, "never"), archive.threads.unindexed()) == ([], 0)


def test_texts_are_indexed_while_they_come(archive: Archive) -> None:
    """However many come, few wait."""
    for number in range(1, 400):
        put(archive, number, PostRow(number, text=f"text {number:05}"), subject="s")
    assert archive.threads.unindexed() < 600
    assert found(archive, "t 00399") == [399]
    assert found(archive, "t 00001") == [1]


@pytest.mark.parametrize("number", [3, 4, 5])
def test_older_archives_are_searched_at_once(tmp_path: Path, number: int) -> None:
    """Before anything of it is indexed, and after."""
    with open_archive(made(tmp_path / "archive", number), command="test") as archive:
        posts = [post for post in archive.threads.all_posts() if len(post.text) > 5]
        assert posts
        for _ in range(2):
            for post in posts:
                text = plain_text(post.text) if post.is_html else post.text
                ticket = archive.threads.ticket(post.ticket_id)
                assert ticket is not None
                assert post.ticket_id in found(archive, text[:40])
            index(archive)


def test_an_sqlite_without_fts5_finds_the_same(archive: Archive, tmp_path: Path) -> None:
    """An archive that it made has no index; the texts are read."""
    put(archive, 1, PostRow(10, text="some text"), subject="plate")
    path = archive.path / "checkpoint.db"
    archive.close()
    with contextlib.closing(sqlite3.connect(path)) as conn:
        conn.execute("DROP TABLE search")
    with open_read_only(archive.path) as again:
        assert found(again, "some text") == found(again, "me te") == [1]
        assert found(again, "plate", "text", subjects=True) == [1]
    with open_archive(archive.path, command="test") as again:
        index(again)
        assert found(again, "some text") == [1]


def test_an_archive_without_words_is_searched_at_once_and_gets_them(archive: Archive) -> None:
    """An archive of format 10 has trigrams only; a text that changes meanwhile is found, too."""
    for number, text in enumerate(("first text", "second text", "third text"), 1):
        put(archive, number, PostRow(number, text=text))
    index(archive)
    archive.close()
    with contextlib.closing(sqlite3.connect(archive.path / "checkpoint.db")) as conn:
        for table in ("word_parts", "word_texts", "words", "wordless"):
            conn.execute(f"DROP TABLE {table}")
        conn.execute("DROP INDEX posts_places")
        conn.execute("DELETE FROM _sqlite_migrations WHERE name = '0011_words'")
        conn.execute("PRAGMA user_version = 10")
        conn.commit()
    with open_archive(archive.path, command="test") as again:
        assert again.threads.unindexed() == 3
        put(again, 2, PostRow(2, text="other text"))
        for _ in range(2):
            assert (found(again, "first"), found(again, "other")) == ([1], [2])
            assert (found(again, "second"), found(again, "xt")) == ([], [3, 2, 1])
            index(again)
        again.queries.self_check()


def test_parts_of_any_words_are_found(archive: Archive) -> None:
    """Of very long ones, of several, of very many, and between them; indexed and changed."""
    long = "".join(chr(0x4E00 + n % 3000) + "ab" for n in range(300))
    texts = [
        long,
        "one (two), three_four",
        "the two thirds",
        " ".join(f"w{n}x" for n in range(400)),
    ]
    for number, text in enumerate(texts, 1):
        put(archive, number, PostRow(number, text="before"))
        index(archive)
        put(archive, number, PostRow(number, text=text))
    index(archive)
    for at in range(0, len(long) - 70, 7):
        assert found(archive, long[at : at + 70]) == found(archive, long[at : at + 33]) == [1]
    parts = {"ne (two), thr": [2], "e two th": [3], "two)": [2], "two": [3, 2], "o t": [3]}
    parts |= {
        "\u0301": [],
        "), ": [2],
        "e_f": [2],
        "two th": [3],
        "wo thr": [],
        "x w": [4],
        "w39": [4],
    }
    for part, tickets in {
        **parts,
        "before": [],
        "\u0301": [],
        "9x w4": [4],
        "q": [],
        "ou": [2],
    }.items():
        assert found(archive, part) == tickets, part


def test_tickets_without_posts_pass_no_search_of_posts(archive: Archive) -> None:
    """However many there are, with a part that no index has."""
    put(archive, 1, PostRow(10, text="one, two"))
    index(archive)
    crowd(archive, 20_000, 3000)
    assert found(archive, ", ") == found(archive, ", ", "wo") == found(archive, "n") == [1]
    assert found(archive, "; ") == found(archive, ", ", "; ") == found(archive, "zq") == []


WORDS = st.sampled_from(
    ["stra\u00dfe", "STRASSE", "aab", "aba", "a b", "\u4e2d\u6587\u5b57", "i\u0307", "x", '"', "%"]
)
TEXTS = st.lists(WORDS, max_size=5).map("".join)
STEPS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 6), TEXTS, TEXTS, st.booleans()), max_size=8
)


@pytest.mark.slow
@settings(
    deadline=None, max_examples=25, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
@given(steps=STEPS, tokens=st.lists(TEXTS.filter(bool), min_size=1, max_size=2))
def test_search_finds_what_a_look_at_all_texts_finds(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, int, str, str, bool]],
    tokens: list[str],
) -> None:
    """Whatever was written and changed in whatever order, indexed or not."""
    with open_archive(tmp_path_factory.mktemp("archive"), command="test") as archive:
        crowd(archive)
        for ticket, post, text, subject, indexed in steps:
            put(archive, ticket, PostRow(post, text=text), subject=subject)
            if indexed:
                index(archive)
        texts: dict[int, list[str]] = {one.id: [] for one in archive.threads.all_tickets()}
        for one in archive.threads.all_posts():
            texts[one.ticket_id].append(folded(one.text))
        for subjects in (False, True):
            everything = {
                one.id: texts[one.id] + [folded(one.subject)] * subjects
                for one in archive.threads.all_tickets()
            }
            expected = [
                number
                for number, held in everything.items()
                if all(any(folded(token) in text for text in held) for token in tokens)
            ]
            assert sorted(found(archive, *tokens, subjects=subjects)) == expected, (steps, tokens)


@pytest.mark.slow
def test_first_tickets_are_found_however_many_have_a_word(archive: Archive) -> None:
    """Few, many or nearly all of thousands; parts together or apart; indexed, waiting, changed."""
    chance, size = random.Random(3), 3000
    shares = {"everyword": 0.9, "abcabc": 0.3, "cabca": 0.3, "seldom": 0.01, "never": 0.001}
    texts: dict[int, list[str]] = {}
    run = archive.ledger.begin_run("run", source="test", scope={})
    for one in chance.sample(range(1, size + 1), size):
        had = [[word for word in shares if chance.random() < shares[word]] for _ in "123"]
        texts[one] = [" ".join(words) for words in had]
        posts = [PostRow(one * 2 + n, text=text) for n, text in enumerate(texts[one][1:])]
        row = TicketRow(one, 1, subject=texts[one][0], last_activity=one % 700)
        with archive.ledger.atomic():
            archive.threads.put(run.id, row, posts)
    put(archive, 7, PostRow(14, text="never"), subject="seldom")
    texts[7] = ["seldom", "never", texts[7][2]]
    newest = sorted(texts, key=lambda one: (-(one % 700), -one))
    groups = [[word] for word in (*shares, "bcab", "ca", "ab", "nowhere")]
    groups += [["seldom", "everyword"], ["abcabc", "seldom"], ["cabca", "never"], ["ca", "seldom"]]
    for parts, limit, subjects in itertools.product(groups, (1, 100, 5000), (False, True)):
        expected = [
            one
            for one in newest
            if all(any(part in text for text in texts[one][not subjects :]) for part in parts)
        ]
        in_posts, in_all = [parts] * (not subjects), [parts] * subjects
        got = archive.threads.find(content=in_posts, subject_content=in_all, limit=limit)
        assert [one.id for one in got] == expected[:limit], (parts, limit, subjects)


def test_a_text_that_no_search_finds_is_told(archive: Archive) -> None:
    """Neither indexed nor waiting for it: the check of the whole checkpoint says so."""
    put(archive, 1, PostRow(10, text="some text"), PostRow(11))
    archive.queries.self_check()
    archive.close()
    with contextlib.closing(sqlite3.connect(archive.path / "checkpoint.db")) as conn, conn:
        conn.execute("DELETE FROM unindexed")
    with (
        open_archive(archive.path, command="test") as again,
        pytest.raises(ArchiveDamaged, match="no search finds the text of post 10"),
    ):
        again.queries.self_check()


def test_people_are_found_by_an_index(archive: Archive) -> None:
    """A search for who took part reads no post of anybody else."""
    plans: list[str] = []
    put(archive, 1, PostRow(10, author_email="Zo\u00eb@x"), PostRow(11, author_email="A@x"))
    with contextlib.closing(sqlite3.connect(archive.path / "checkpoint.db")) as conn:
        for where in (
            "author_email <> '' AND lower(author_email) IN ('a@x')",
            "length(author_email) <> length(CAST(author_email AS BLOB))",
        ):
            sql = f"EXPLAIN QUERY PLAN SELECT ticket_id FROM posts WHERE {where}"
            plans += [row[3] for row in conn.execute(sql)]
    assert any("posts_by_author" in plan for plan in plans), plans
    assert any("posts_of_odd_authors" in plan for plan in plans), plans
    for address in ("ZO\u00cb@X", "a@X"):
        assert [one.id for one in archive.threads.find(participants=[address])] == [1]
