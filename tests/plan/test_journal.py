"""The notes of a dry run: whole or torn, ours or a stranger's."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import ConfigError
from migrator.plan import plan_file as module
from migrator.plan.plan_file import Journal
from migrator.sources.base import Attachment

HEAD = {"source": "https://help.example.com"}

NUMBERS = st.integers(0, 2**63 - 1)
FILES = st.lists(
    st.builds(
        Attachment,
        NUMBERS,
        NUMBERS,
        NUMBERS,
        st.text(),
        NUMBERS,
        st.text(),
        NUMBERS,
        st.lists(st.sampled_from(["repaired_name", "noise_around_xml"])).map(tuple),
    ),
    max_size=5,
)


def written(path: Path, tickets: int = 3) -> bytes:
    """Write a journal of a few tickets and give its bytes."""
    with Journal(path, HEAD) as journal:
        for number in range(1, tickets + 1):
            journal.add(number, 1000, [Attachment(number, number, 1, f"{number}.txt", 5)])
    return path.read_bytes()


@settings(deadline=None, max_examples=40)
@given(files=FILES, activity=NUMBERS)
def test_what_was_noted_is_found_again(
    files: list[Attachment], activity: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any attachments come back as they were, from the same journal and from a reopened one."""
    path = tmp_path_factory.mktemp("journal") / "plan.partial"
    with Journal(path, HEAD) as journal:
        journal.add(7, activity, files)
        assert journal.find(7, activity) == files
    with Journal(path, HEAD) as journal:
        assert len(journal) == 1
        assert journal.find(7, activity) == files
        assert journal.find(7, activity + 1) is None, "it was active since"
        assert journal.find(8, activity) is None


def test_the_last_word_on_a_ticket_counts(tmp_path: Path) -> None:
    """A ticket that was listed twice is found as it was the second time."""
    path = tmp_path / "p"
    with Journal(path, HEAD) as journal:
        journal.add(1, 10, [])
        journal.add(1, 20, [Attachment(5, 1, 1)])
    with Journal(path, HEAD) as journal:
        assert journal.find(1, 10) is None
        assert journal.find(1, 20) == [Attachment(5, 1, 1)]


def test_torn_anywhere_the_whole_lines_stay(tmp_path: Path) -> None:
    """Cut at any byte, the tickets before the cut are known, and new ones are added after them."""
    path = tmp_path / "p"
    whole = written(path)
    ends = [end + 1 for end, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(ends[0], len(whole) + 1):
        path.write_bytes(whole[:cut])
        with Journal(path, HEAD) as journal:
            known = sum(end <= cut for end in ends) - 1
            assert len(journal) == known
            journal.add(9, 1, [])
        with Journal(path, HEAD) as journal:
            assert len(journal) == known + 1
            assert journal.find(9, 1) == []


@pytest.mark.parametrize("junk", [b"\0" * 40 + b"\n", b"[1]\n", b'[1,"x",[]]\n', b"[1,2,[[3]]]\n"])
def test_what_is_no_entry_ends_it(tmp_path: Path, junk: bytes) -> None:
    """After a power cut there may be anything; what comes behind it is not believed."""
    path = tmp_path / "p"
    whole = written(path)
    path.write_bytes(whole + junk + b"[4,1000,[]]\n")
    with Journal(path, HEAD) as journal:
        assert len(journal) == 3
    assert path.read_bytes() == whole


def test_a_long_line_is_read_whole(tmp_path: Path) -> None:
    """A ticket of thousands of attachments comes back, though its line is many blocks long."""
    files = [Attachment(number, 1, 1, "x" * 200) for number in range(500)]
    with Journal(tmp_path / "p", HEAD) as journal:
        journal.add(1, 1, files)
        journal.add(2, 1, [])
        assert journal.find(1, 1) == files


@pytest.mark.parametrize(
    "other", [b"not ours\n", b"no line end", json.dumps({"format": "x"}).encode() + b"\n"]
)
def test_a_strangers_file_is_left_alone(tmp_path: Path, other: bytes) -> None:
    """A file that is no journal is refused, and is the same afterwards."""
    path = tmp_path / "p"
    path.write_bytes(other)
    with pytest.raises(ConfigError, match="remove it"):
        Journal(path, HEAD)
    assert path.read_bytes() == other


def test_a_journal_of_another_helpdesk_is_refused(tmp_path: Path) -> None:
    """What was listed of one helpdesk says nothing of another."""
    path = tmp_path / "p"
    whole = written(path)
    with pytest.raises(ConfigError, match="another"):
        Journal(path, {"source": "https://other"})
    assert path.read_bytes() == whole


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    """Two dry runs do not write the same plan."""
    with Journal(tmp_path / "p", HEAD), pytest.raises(ConfigError, match="Another dry run"):
        Journal(tmp_path / "p", HEAD)


def test_an_empty_one_is_not_left_behind(tmp_path: Path) -> None:
    """A dry run that came to nothing leaves nothing; one that listed something leaves its notes."""
    with Journal(tmp_path / "none", HEAD):
        pass
    written(tmp_path / "some")
    assert [path.name for path in tmp_path.iterdir()] == ["some"]
    assert (tmp_path / "some").stat().st_mode & 0o777 == 0o600
    with Journal(tmp_path / "some", HEAD) as journal:
        journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link that somebody laid there does not make us write elsewhere."""
    (tmp_path / "p").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError, match="Cannot write"):
        Journal(tmp_path / "p", HEAD)
    assert not (tmp_path / "victim").exists()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that could not be written whole is an error, and torn for the next one."""
    path = tmp_path / "p"
    written(path)

    class Full(io.FileIO):
        def write(self, data: object, /) -> int:
            return super().write(bytes(data)[:5])  # type: ignore[call-overload]

    monkeypatch.setattr(module, "FileIO", Full)
    with Journal(path, HEAD) as journal, pytest.raises(ConfigError, match="No space left"):
        journal.add(8, 1, [])
    monkeypatch.undo()
    with Journal(path, HEAD) as journal:
        assert len(journal) == 3
