"""Checking a handover: whatever was changed since is found, and nothing in it is believed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.archive import Verdict, open_archive
from migrator.errors import ConfigError, Interrupted
from migrator.handover import check as module
from migrator.handover.check import check
from tests.report.handed import fill, handed, spoil


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a handover with a tree, of copies."""
    with open_archive(tmp_path / "archive", command="test") as archive:
        fill(archive)
        handed(archive, tmp_path / "handover", tree=True, link=False)
    return tmp_path / "handover"


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change a text of the handover."""
    path.chmod(0o600)
    path.write_text(change(path.read_text()))


def largest(root: Path) -> Path:
    """Give a file of some bytes."""
    return max(root.glob("files/*/*/*"), key=lambda path: (path.stat().st_size, path))


def test_a_whole_handover_is_whole(root: Path) -> None:
    """All is read: nine contents, six lists, two reports and the README."""
    told: list[tuple[Verdict, int]] = []
    found = check(root, tell=lambda sha256, size, verdict, total: told.append((verdict, total)))
    assert (found.checked, found.exit_code, found.finished) == (18, 0, True)
    assert found.bytes > 1000
    assert told == [(Verdict.OK, 9)] * 9


def test_a_changed_file_is_damaged(root: Path) -> None:
    """One byte is enough, in a content as in a list."""
    spoil(largest(root))
    spoil(root / "posts.jsonl")
    found = check(root)
    assert (found.damaged.n, found.lost.n, found.exit_code) == (2, 0, 6)
    assert "posts.jsonl" in found.damaged.named


def test_a_removed_file_is_lost(root: Path) -> None:
    """What has a sum must be there, and not as a link to somewhere else."""
    gone, linked = sorted(root.glob("files/*/*/*"))[:2]
    gone.unlink()
    elsewhere = root.parent / "elsewhere"
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    found = check(root)
    assert sorted(found.lost.named) == [str(one.relative_to(root)) for one in (gone, linked)]
    assert found.exit_code == 6


@pytest.mark.parametrize("name", ["SHA256SUMS", "manifest.jsonl"])
def test_a_list_that_is_gone_is_lost(root: Path, name: str) -> None:
    """Without its lists it is no handover."""
    (root / name).unlink()
    found = check(root)
    assert name in found.lost.named
    assert found.exit_code == 6


def test_a_list_that_cannot_be_opened_is_wrong(root: Path) -> None:
    """A directory in the place of a list is told, not a bug."""
    (root / "SHA256SUMS").unlink()
    (root / "SHA256SUMS").mkdir()
    assert check(root).wrong.named[0].startswith("SHA256SUMS: ")


@pytest.mark.parametrize("name", ["SHA256SUMS", "manifest.jsonl", "files"])
def test_a_pipe_is_not_waited_for(root: Path, name: str) -> None:
    """In the place of a list or of a file it is told, and all else is read."""
    path = largest(root) if name == "files" else root / name
    path.unlink()
    os.mkfifo(path)
    found = check(root)
    assert found.exit_code == 6
    assert found.lost.n + found.wrong.n >= 1
    assert found.checked == (18 if name != "SHA256SUMS" else 0)


def test_one_that_cannot_be_read_does_not_end_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is damaged, with the reason; all others are read."""
    victim, real = largest(root), os.open

    def refuse(path: str | Path, flags: int, mode: int = 0o777, **how: int) -> int:
        if Path(path) == victim:
            raise OSError(5, "Input/output error", str(path))
        return real(path, flags, mode, **how)

    monkeypatch.setattr(os, "open", refuse)
    found = check(root)
    name = str(victim.relative_to(root))
    assert (found.checked, found.damaged.named, found.exit_code) == (18, [name], 6)
    assert found.unreadable == {name: "it cannot be read: Input/output error"}


def test_lines_that_are_missing_are_missed(root: Path) -> None:
    """Whoever removes a file together with its sum is found by the count, and by the manifest."""
    victim = largest(root)
    rewrite(
        root / "SHA256SUMS",
        lambda text: "".join(one for one in text.splitlines(True) if victim.name not in one),
    )
    victim.unlink()
    found = check(root)
    assert "SHA256SUMS: 8 files instead of 9" in found.wrong.named
    assert any(victim.name in one and "manifest" in one for one in found.wrong.named)


@pytest.mark.parametrize("name", ["manifest.jsonl", "posts.jsonl"])
def test_a_list_without_a_sum_is_wrong(root: Path, name: str) -> None:
    """A list that nothing vouches for could say anything."""
    rewrite(
        root / "SHA256SUMS",
        lambda text: "".join(one for one in text.splitlines(True) if not one.endswith(name + "\n")),
    )
    assert check(root).wrong.named == [f"SHA256SUMS: {name} is not in it"]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "0" * 64 + "  ../../etc/passwd",
        "0" * 64 + "  /etc/passwd",
        "0" * 64 + "  files/aa/bb/" + "0" * 64,
        "0" * 64 + "  files/" + "/" * 70,
        "0" * 64 + " *manifest.jsonl",
        "\\" + "0" * 64 + "  a\\nb",
        "x" * 100_000,
    ],
)
def test_hostile_sums_are_wrong_and_lead_nowhere(root: Path, line: str) -> None:
    """No path but one of ours is ever opened."""
    rewrite(root / "SHA256SUMS", lambda text: f"{text}{line}\n")
    found = check(root)
    assert found.exit_code == 6
    assert found.wrong.n >= 1
    assert found.checked == 18


def entry(**facts: object) -> str:
    """Give a line of the manifest."""
    return json.dumps({"path": None, "sha256": None, "tree": None, "size": 0, **facts})


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EMPTY_PATH = f"files/e3/b0/{EMPTY}"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        entry(path="/etc/passwd"),
        entry(path="files/../x", sha256="../x"),
        entry(path=EMPTY_PATH, sha256=[]),
        entry(path=EMPTY_PATH, sha256=EMPTY, size=1),
        entry(path=EMPTY_PATH, sha256=EMPTY, tree="../../../etc/passwd"),
        entry(path=EMPTY_PATH, sha256=EMPTY, tree="tree/../../x"),
        entry(path=EMPTY_PATH, sha256=EMPTY, tree="tree/a/b/c"),
        entry(path=EMPTY_PATH, sha256=EMPTY, tree=7),
        entry(path="files/00/00/" + "0" * 64, sha256="0" * 64),
    ],
)
def test_hostile_lines_of_the_manifest_are_wrong(root: Path, line: str) -> None:
    """A manifest is believed no more than the sums; each such line is named by its number."""
    rewrite(root / "manifest.jsonl", lambda text: f"{text}{line}\n")
    found = check(root)
    assert found.damaged.named == ["manifest.jsonl"]
    assert [one.startswith("manifest.jsonl, line 13: ") for one in found.wrong.named] == [True]


def test_the_tree_is_checked(root: Path) -> None:
    """A name that leads to other bytes, to nothing, or out of the handover is wrong."""
    changed, gone, linked = sorted(one for one in root.glob("tree/*/10/*"))[:3]
    changed.unlink()  # it shares its bytes with a content, which stays as it is
    changed.write_text("other bytes")
    gone.unlink()
    linked.unlink()
    linked.symlink_to(root / "README.md")
    found = check(root)
    assert (found.wrong.n, found.damaged.n, found.exit_code) == (3, 0, 6)


def test_copies_in_the_tree_count_by_their_bytes(root: Path) -> None:
    """A tree that was copied elsewhere and back has no links any more, and is as good."""
    name = next(iter(root.glob("tree/*/10/*")))
    copy = name.with_name("copy")
    shutil.copyfile(name, copy)
    copy.replace(name)
    assert check(root).exit_code == 0


def test_an_unfinished_handover_is_not_trusted(root: Path) -> None:
    """It may look whole: what says of itself that it is not is not."""
    rewrite(root / "handover.json", lambda text: text.replace("true", "false", 1))
    found = check(root)
    assert (found.finished, found.exit_code) == (False, 6)


def test_odd_numbers_in_the_marker_are_wrong(root: Path) -> None:
    """The marker is a text like any other."""
    rewrite(
        root / "handover.json",
        lambda text: text.replace('"files": 9', '"files": "9"').replace('"lines": {', '"x": {'),
    )
    assert check(root).wrong.named == ["SHA256SUMS: 9 files instead of 9"]


@pytest.mark.parametrize("make", [False, True])
def test_nothing_is_no_handover(tmp_path: Path, make: bool) -> None:
    """An empty directory, or none, is a mistake of usage."""
    place = tmp_path / "empty"
    if make:
        place.mkdir()
    with pytest.raises(ConfigError, match="no handover"):
        check(place)


def test_a_check_can_be_interrupted(root: Path) -> None:
    """It reads for hours, and ends when asked to."""
    with pytest.raises(Interrupted):
        check(root, stopped=lambda: True)


def test_only_so_many_faults_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are counted."""
    monkeypatch.setattr(module, "NAMED", 2)
    shutil.rmtree(root / "files")
    found = check(root)
    assert (found.lost.n, len(found.lost.named)) == (9, 2)
