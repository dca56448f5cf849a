"""The handover: all that is needed to live without the tool, and nothing that is not whole."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import migrator.handover
from migrator.archive import Archive, Listed, Verdict, open_archive
from migrator.archive.records import ArticleRow, Department
from migrator.blobs import durable
from migrator.errors import ArchiveDamaged, ArchiveUnwritable, ConfigError, Interrupted
from migrator.handover.check import check
from migrator.handover.make import path_of
from tests.report.handed import (
    NAMES,
    blob,
    content,
    everything,
    fill,
    handed,
    lines,
    spoil,
    store,
)

OPEN = 3
"""How a handover of these archives ends: they have losses that nobody accepted."""

TEXT = (Path(migrator.handover.__file__).parent / "HANDOVER.md").read_text("utf-8")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Give an archive of twelve attachments with odd names, ten of them stored."""
    with open_archive(tmp_path / "archive", command="test") as opened:
        fill(opened)
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "handover"


def sums_agree(root: Path) -> bool:
    """Let the program that everybody has check the sums."""
    if not shutil.which("sha256sum"):
        pytest.skip("there is no sha256sum here")
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    assert done.returncode or not done.stdout + done.stderr
    return done.returncode == 0


# What is in it


def test_everything_is_handed_over(archive: Archive, root: Path) -> None:
    """All lists, reports and contents are there, and sha256sum agrees with every one."""
    made = handed(archive, root)
    assert (made.files, made.exit_code, made.without_file, made.tree) == (9, OPEN, 2, 0)
    others = dict.fromkeys(("tickets.jsonl", "posts.jsonl", "people_notes.jsonl"), 3)
    assert made.rows == {"manifest.jsonl": 12, **others, "articles.jsonl": 0, "replies.jsonl": 0}
    assert sums_agree(root)
    assert sorted(path.name for path in root.iterdir()) == [
        "README.md",
        "SHA256SUMS",
        "articles.jsonl",
        "files",
        "handover.json",
        "manifest.jsonl",
        "people_notes.jsonl",
        "posts.jsonl",
        "replies.jsonl",
        "report.html",
        "report.json",
        "tickets.jsonl",
    ]
    named = {line.split("  ")[1] for line in (root / "SHA256SUMS").read_text().splitlines()}
    there = {name for name, data in everything(root).items() if data != b"(directory)"}
    assert named == there - {"SHA256SUMS", "handover.json"}
    readme, (begin, end) = (root / "README.md").read_text("utf-8"), TEXT.split("<!-- verdict -->")
    assert readme.startswith(begin)
    assert readme.endswith(end)
    said = json.loads((root / "handover.json").read_text())["verdict"]["sentence"]
    assert said.startswith("Not complete: 1 attachment is pending or failed.")
    assert readme[len(begin) :].startswith(f"**{said}**\n\nVerify: never. Audit: never.\n")
    assert check(root).exit_code == 0


def test_articles_are_handed_over_with_their_files(archive: Archive, root: Path) -> None:
    """They are in a list of their own, and their files in the tree; a department cannot be both."""
    run = archive.ledger.begin_run("run", source="https://help.example.com", scope={}).id
    rooms = (("article", 10**15 + 7, "knowledge-base"), ("step", 2 * 10**15 + 7, "troubleshooter"))
    with archive.ledger.atomic():
        archive.ledger.put_departments([Department(3, "knowledge-base")])
        for kind, number, _ in rooms:
            archive.threads.put_articles(run, [ArticleRow(kind, 7, "How to", text="<p>So.</p>")])
            file = Listed(number, 0, 0, "same.txt", "text/plain", 3, 0, kind=kind, place="7")
            archive.ledger.record_files(run, [file])
            store(archive, number, b"abc")
    assert handed(archive, root, tree=True).exit_code == OPEN
    told = lines(root, "articles.jsonl")
    assert [(one["kind"], one["article_id"], one["text"]) for one in told] == [
        ("article", 7, "<p>So.</p>"),
        ("step", 7, "<p>So.</p>"),
    ]
    manifest = {one["attachment_id"]: one for one in lines(root, "manifest.jsonl")}
    for _, number, room in rooms:
        assert (manifest[number]["ticket_id"], manifest[number]["department"]) == (0, "")
        assert manifest[number]["tree"] == f"tree/{room}/7/same.txt"
        assert (root / manifest[number]["tree"]).read_bytes() == b"abc"
    assert check(root).exit_code == 0


def test_the_manifest_says_all_that_is_known(archive: Archive, root: Path) -> None:
    """One line for each attachment, by id, with its bytes or the reason why there are none."""
    handed(archive, root)
    found = lines(root, "manifest.jsonl")
    assert [line["attachment_id"] for line in found] == list(range(1, 13))
    for line in found:
        assert line["filename"] == NAMES[line["attachment_id"]]
        if line["path"] is not None:
            assert line["path"] == path_of(line["sha256"])
            assert (root / line["path"]).read_bytes() == content(line["attachment_id"])
    by_id = {line["attachment_id"]: line for line in found}
    assert by_id[1]["path"] == by_id[6]["path"]
    assert (by_id[10]["path"], by_id[10]["state"]) == (None, "missing")
    assert by_id[10]["detail"] == "it has no bytes"
    assert (by_id[11]["path"], by_id[11]["state"]) == (None, "pending")
    assert (by_id[12]["state"], by_id[12]["department"]) == ("deleted", "sup\\PORT")
    assert (by_id[1]["created_at"], by_id[11]["stored_at"]) == ("2014-05-13T16:53:20Z", None)


def test_tickets_and_posts_come_along(archive: Archive, root: Path) -> None:
    """What people wrote is handed over as it was kept, one line each, whatever is in it."""
    handed(archive, root)
    tickets, posts = lines(root, "tickets.jsonl"), lines(root, "posts.jsonl")
    assert [one["ticket_id"] for one in tickets] == [10, 11, 12]
    assert (tickets[0]["subject"], tickets[0]["department"]) == ("<b>Subject</b>", "Sup/port")
    assert [(one["ticket_id"], one["text"]) for one in posts] == [
        (ticket, "Hello\u2028there") for ticket in (10, 11, 12)
    ]


def test_every_key_is_explained(archive: Archive, root: Path) -> None:
    """The README of the format names every key of every line, and no other."""
    handed(archive, root, tree=True)
    for name in ("manifest.jsonl", "tickets.jsonl", "posts.jsonl", "people_notes.jsonl"):
        section = TEXT.split(f"### `{name}`")[1].split("\n#")[0]
        cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
        explained = {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}
        assert explained == set(lines(root, name)[0]), name
    marker = TEXT.split("### `handover.json`")[1].split("\n#")[0]
    for key in json.loads((root / "handover.json").read_text()):
        assert f"`{key}`" in marker, key
    for path in root.iterdir():
        assert path.name in TEXT, path.name


def test_it_belongs_to_its_owner_alone(archive: Archive, root: Path) -> None:
    """Directories are 0700 and files 0400, whatever the umask."""
    before = os.umask(0)
    try:
        handed(archive, root, tree=True, link=False)
    finally:
        os.umask(before)
    for path in (root, *root.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o400), path
        assert not path.is_symlink()


def test_files_are_links_unless_copies_are_wanted(archive: Archive, root: Path) -> None:
    """Links take no room; a copy shares nothing with the archive."""
    handed(archive, root)
    handed(archive, root.with_name("copies"), link=False)
    ours = blob(archive, 2)
    name = path_of(ours.name)
    assert (root / name).samefile(ours)
    assert not (root.with_name("copies") / name).samefile(ours)
    assert (root.with_name("copies") / name).read_bytes() == ours.read_bytes()


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP])
def test_where_there_are_no_links_there_are_copies(
    archive: Archive, root: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file system, too many links, or one without links: the same handover."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    made = handed(archive, root, tree=True)
    assert (made.files, made.tree, made.exit_code) == (9, 10, OPEN)
    assert sums_agree(root)
    assert check(root).exit_code == 0
    assert not (root / path_of(blob(archive, 2).name)).samefile(blob(archive, 2))


# The tree


def test_the_tree_is_for_people(archive: Archive, root: Path) -> None:
    """Department, ticket, name: harmless everywhere, none lost to another one of its name."""
    handed(archive, root, tree=True)
    found = {one["attachment_id"]: one["tree"] for one in lines(root, "manifest.jsonl")}
    assert found == {
        1: "tree/Sup_port/10/invoice.pdf",
        2: "tree/Sup_port/10/INVOICE (2).pdf",
        3: "tree/Sup_port/10/_._.._.._etc_passwd",
        4: "tree/Sup_port/10/_CON.txt",
        5: "tree/Sup_port/10/gpj_fdp.exe",
        6: "tree/sup_PORT (2)/11/invoice.pdf",
        7: "tree/sup_PORT (2)/11/line_break_.txt",
        8: "tree/sup_PORT (2)/11/" + "\u65e5" * 38 + ".txt",
        9: "tree/sup_PORT (2)/11/empty",
        10: None,
        11: None,
        12: "tree/sup_PORT (2)/12/old.txt",
    }
    files = {str(one.relative_to(root)) for one in (root / "tree").rglob("*") if one.is_file()}
    assert files == {name for name in found.values() if name}
    for number, name in found.items():
        if name is not None:
            assert (root / name).read_bytes() == content(number)
            assert (root / name).samefile(root / path_of(blob(archive, number).name))


def test_a_tree_is_made_anew_with_the_handover(archive: Archive, root: Path) -> None:
    """What was there before does not linger, and nobody has to ask for the tree again."""
    handed(archive, root, tree=True)
    stale = root / "tree" / "Sup_port" / "10" / "gone.txt"
    stale.write_bytes(b"x")
    store(archive, 11)
    assert handed(archive, root).tree == 11
    assert not stale.exists()
    assert (root / "tree" / "sup_PORT (2)" / "12" / "pending.txt").read_bytes() == content(11)


def test_numbers_that_are_mapped_name_the_tickets(archive: Archive, root: Path) -> None:
    """A number that could be a path, or another one's in other case, carries the id."""
    archive.access.apply_config({1: (7, "Queue")}, {10: "../A", 11: "B-2"})
    handed(archive, root, tree=True)
    assert (root / "tree" / "Sup_port" / "_._A (10)").is_dir()
    assert (root / "tree" / "sup_PORT (2)" / "B-2").is_dir()
    line = lines(root, "manifest.jsonl")[0]
    assert (line["ticket_number"], line["queue_id"], line["queue_name"]) == ("../A", 7, "Queue")


# Damage


@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize(
    ("harm", "verdict"), [(spoil, "damaged"), (lambda path: path.unlink(), "lost")]
)
def test_what_is_not_whole_is_not_handed_over(
    archive: Archive, root: Path, harm: Callable[[Path], None], verdict: str, link: bool
) -> None:
    """It is told, has no file, no sum and no name in the tree; the rest is as good as ever."""
    ours = blob(archive, 1)
    harm(ours)
    told: list[tuple[str, Verdict]] = []
    made = handed(
        archive,
        root,
        tree=True,
        link=link,
        tell=lambda sha256, size, verdict, total: told.append((sha256, verdict)),
    )
    assert made.exit_code == 6
    assert (made.damaged, made.lost) == (
        ([ours.name], []) if verdict == "damaged" else ([], [ours.name])
    )
    assert dict(told)[ours.name] == verdict
    assert (len(told), made.files, made.tree, made.without_file) == (9, 8, 8, 4)
    assert not (root / path_of(ours.name)).exists()
    for number in (0, 5):
        line = lines(root, "manifest.jsonl")[number]
        assert (line["sha256"], line["path"], line["tree"]) == (ours.name, None, None)
    assert sums_agree(root)
    assert check(root).exit_code == 0
    assert json.loads((root / "handover.json").read_text())[verdict] == 1


def test_a_repaired_archive_completes_the_handover(archive: Archive, root: Path) -> None:
    """Made again after the repair, nothing is missing any more."""
    ours = blob(archive, 1)
    whole = ours.read_bytes()
    spoil(ours)
    handed(archive, root)
    ours.unlink()
    ours.write_bytes(whole)
    assert handed(archive, root).exit_code == OPEN
    assert (root / path_of(ours.name)).read_bytes() == whole


def test_damage_in_the_handover_is_mended(archive: Archive, root: Path) -> None:
    """Every file that is there already is read again, and replaced where it is not whole."""
    handed(archive, root, link=False)
    theirs = root / path_of(blob(archive, 1).name)
    spoil(theirs)
    assert not sums_agree(root)
    assert handed(archive, root, link=False).exit_code == OPEN
    assert sums_agree(root)


def test_a_good_copy_outlives_damage_in_the_archive(archive: Archive, root: Path) -> None:
    """What was handed over whole stays, when the archive has lost it since."""
    handed(archive, root, link=False)
    ours = blob(archive, 1)
    ours.unlink()
    assert handed(archive, root, link=False).exit_code == OPEN
    assert (root / path_of(ours.name)).read_bytes() == content(1)


def test_a_disk_that_cannot_read_is_damage(
    archive: Archive, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input/output error while copying gives no file of half the bytes."""

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    made = handed(archive, root, link=False)
    assert (len(made.damaged), made.files) == (8, 1)  # nothing of nothing is still whole
    assert list(root.glob("files/*/*/*")) == [root / path_of(blob(archive, 9).name)]


@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize("harm", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/nowhere")])
def test_one_odd_thing_does_not_end_it(
    archive: Archive, root: Path, harm: Callable[[Path], None], link: bool
) -> None:
    """What is no file is damaged, with the reason; everything else is handed over."""
    ours = blob(archive, 2)
    ours.unlink()
    harm(ours)
    spoil(blob(archive, 4))
    with ThreadPoolExecutor(2) as pool:
        made = handed(archive, root, link=link, pool=pool)
    assert sorted(made.damaged) == sorted([ours.name, blob(archive, 4).name])
    assert list(made.unreadable) == [ours.name]
    assert (made.files, made.exit_code) == (7, 6)
    assert sums_agree(root)


def test_a_file_that_may_not_be_opened_does_not_end_it(
    archive: Archive, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions of one file are told as its damage."""
    ours, real = blob(archive, 2), os.open

    def refuse(path: str | Path, flags: int, mode: int = 0o777, **how: int) -> int:
        if Path(path) == ours:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, mode, **how)

    monkeypatch.setattr(os, "open", refuse)
    for link in (True, False):
        made = handed(archive, root, link=link)
        assert (made.damaged, made.files) == ([ours.name], 8)
        assert "Permission denied" in made.unreadable[ours.name]


def test_a_hash_that_is_a_path_leads_nowhere(archive: Archive, root: Path, tmp_path: Path) -> None:
    """A checkpoint that names a file by a path is damaged; nothing is made outside."""
    evil = "../" * 19 + "outside"
    with closing(sqlite3.connect(archive.path / "checkpoint.db")) as conn:
        conn.execute("INSERT INTO blobs VALUES (?, 1, 'text/plain', 1)", (evil,))
        conn.commit()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ArchiveDamaged, match="no SHA-256"):
        handed(archive, root)
    assert sorted({*tmp_path.iterdir()} - {root}) == before


# Again and again


def test_done_again_it_is_the_same(archive: Archive, root: Path) -> None:
    """A second handover over the first changes nothing, with any number of readers."""
    handed(archive, root, tree=True)
    before = everything(root)
    with ThreadPoolExecutor(4) as pool:
        handed(archive, root, tree=True, pool=pool)
    assert everything(root) == before


STEPS: dict[str, tuple[Any, str]] = {
    "link": (os, "link"),
    "publish": (durable.NewFile, "publish"),
    "sync": (durable, "sync_dir"),
    "make": (durable, "make_dir"),
    "create": (durable, "create"),
    "remove": (shutil, "rmtree"),
}


class Killed(BaseException):
    """Stands for the end of the process at this very moment."""


@pytest.mark.slow
@pytest.mark.parametrize("link", [True, False], ids=["links", "copies"])
@pytest.mark.parametrize("step", sorted(STEPS))
def test_killed_at_any_step_it_goes_on(
    archive: Archive, root: Path, tmp_path: Path, step: str, link: bool
) -> None:
    """Killed before and after the nth step of each kind, for all n: it ends as undisturbed."""
    handed(archive, tmp_path / "calm", tree=True, link=link)
    calm = everything(tmp_path / "calm")
    place, name = STEPS[step]
    real = getattr(place, name)
    for number in range(400):
        left = number

        def doomed(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1:
                raise Killed
            done = real(*args, **kwargs)
            if left == -2:
                raise Killed
            return done

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, name, doomed)
            try:
                handed(archive, root, tree=True, link=link)
            except Killed:
                pass
            else:
                break
        if number % 7 == 0 or number < 12:
            marker = root / "handover.json"
            if marker.exists() and json.loads(marker.read_text())["finished"]:
                assert check(root).exit_code == 0, "it says that it is finished, and is not"
            handed(archive, root, tree=True, link=link)
            assert everything(root) == calm
            shutil.rmtree(root)
    else:
        pytest.fail("it never came to its end")


def test_interrupted_it_goes_on(archive: Archive, root: Path) -> None:
    """Asked to stop at any moment it ends, and says so; done again it is whole."""
    handed(archive, root, tree=True, link=False)
    asked = 0
    for number in range(11):
        asked = -number

        def stopped() -> bool:
            nonlocal asked
            asked += 1
            return asked > 0

        with suppress(Interrupted):
            handed(archive, root, tree=True, link=False, stopped=stopped)
            pytest.fail("it was not stopped")
        assert not (root / "SHA256SUMS").exists()
        assert check(root).exit_code == 6
    assert handed(archive, root).exit_code == OPEN
    assert check(root).exit_code == 0


def test_a_long_list_can_be_interrupted(
    archive: Archive, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only between files: a million lines take their time."""
    monkeypatch.setattr("migrator.handover.make.BATCH", 3)
    calls = 0

    def stopped() -> bool:
        nonlocal calls
        calls += 1
        return calls == 9 + 2  # nine files were put, two more questions come with the manifest

    with pytest.raises(Interrupted):
        handed(archive, root, stopped=stopped)
    assert not (root / "manifest.jsonl").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("link", [True, False], ids=["links", "copies"])
def test_a_full_disk_is_told_and_loses_nothing(
    archive: Archive, root: Path, number: int, link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 7 with the reason; with more room the same command ends well."""
    real, left = os.write, 3

    def full(fd: int, data: bytes) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(number, os.strerror(number))
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ArchiveUnwritable, match=r"The handover .* cannot be written"):
        handed(archive, root, link=link)
    monkeypatch.undo()
    assert handed(archive, root, link=link).exit_code == OPEN
    assert check(root).exit_code == 0


# What it refuses


def test_a_directory_of_somebody_else_is_refused(archive: Archive, root: Path) -> None:
    """Nothing is written into a directory that is not empty and not a handover."""
    root.mkdir()
    (root / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="not empty and no handover"):
        handed(archive, root)
    assert [path.name for path in root.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "migrator.handover/2"}'])
def test_a_marker_that_is_not_ours_is_refused(archive: Archive, root: Path, text: str) -> None:
    """A file of that name is not enough, and a newer format is not touched."""
    root.mkdir()
    (root / "handover.json").write_text(text)
    with pytest.raises(ConfigError, match="not empty and no handover"):
        handed(archive, root)


def test_a_file_is_no_directory(archive: Archive, root: Path) -> None:
    """A file at that place is told, and stays."""
    root.write_text("x")
    with pytest.raises(ConfigError, match="not empty and no handover"):
        handed(archive, root)
    assert root.read_text() == "x"


@pytest.mark.parametrize("place", [".", "inside", "blobs/new", ".."])
def test_the_archive_and_the_handover_stay_apart(archive: Archive, place: str) -> None:
    """A handover inside the archive, around it, or in its very place is refused."""
    before = sorted(archive.path.rglob("*"))
    with pytest.raises(ConfigError, match="hold one another"):
        handed(archive, archive.path / place)
    assert sorted(archive.path.rglob("*")) == before


def test_a_link_into_the_archive_is_seen_through(archive: Archive, root: Path) -> None:
    """A symbolic link does not get around that."""
    root.symlink_to(archive.path / "blobs")
    with pytest.raises(ConfigError, match="hold one another"):
        handed(archive, root)


def test_the_handover_of_another_helpdesk_is_refused(archive: Archive, root: Path) -> None:
    """Two helpdesks in one directory would be neither."""
    handed(archive, root)
    archive.ledger.begin_run("run", source="https://other.example.com", scope={})
    with pytest.raises(ConfigError, match=r"of https://help\.example\.com, not of"):
        handed(archive, root)


@pytest.mark.parametrize("name", ["files", "files/e3"])
def test_links_in_the_handover_lead_nowhere(
    archive: Archive, root: Path, tmp_path: Path, name: str
) -> None:
    """A symbolic link that stands where a directory shall be is not followed."""
    handed(archive, root)
    victim = tmp_path / "victim"
    victim.mkdir()
    shutil.rmtree(root / name)
    (root / name).symlink_to(victim)
    with pytest.raises(ArchiveUnwritable):
        handed(archive, root)
    assert list(victim.iterdir()) == []


def test_an_empty_archive_makes_an_empty_handover(tmp_path: Path, root: Path) -> None:
    """Nothing is nothing: no lines, no files, and still a whole handover."""
    with open_archive(tmp_path / "nothing", command="test") as archive:
        made = handed(archive, root, tree=True)
    assert (made.files, made.tree, made.exit_code) == (0, 0, OPEN)
    assert (root / "manifest.jsonl").read_bytes() == b""
    assert check(root).exit_code == 0
