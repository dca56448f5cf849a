"""Names of files that work everywhere, whatever the helpdesk calls them."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrator.text import (
    NAME_BYTES,
    SERVED_BYTES,
    extension_of,
    numbered,
    safe_name,
    served_name,
    ticket_folder,
)

DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(10)),
}


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("invoice.pdf", "invoice.pdf"),
        ("../../etc/passwd", "_._.._etc_passwd"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        ("   ", "_"),
        ("C:\\boot.ini", "C__boot.ini"),
        ("CON", "_CON"),
        ("con.tar.gz", "_con.tar.gz"),
        ("COM1 .txt", "_COM1 .txt"),
        ("LPT\u00b9", "_LPT\u00b9"),
        ("console.txt", "console.txt"),
        ("name. . ", "name"),
        (".htaccess", "_htaccess"),
        ("-rf", "_rf"),
        ("a\x00b\nc\x1b[31m", "a_b_c_[31m"),
        ("gpj\u202efdp.exe", "gpj_fdp.exe"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("a\u00a0b", "a b"),
        ("R\u00e9sum\u00e9 \u65e5\u672c.pdf", "R\u00e9sum\u00e9 \u65e5\u672c.pdf"),
        ("half\ud800.txt", "half_.txt"),
    ],
)
def test_names_become_safe(name: str, safe: str) -> None:
    """What is harmless stays; what is not is replaced, never interpreted."""
    assert safe_name(name) == safe


HOSTILE = st.text(
    st.one_of(st.characters(), st.sampled_from("./\\ :*?\x00\u202e\u0301conCON1")), max_size=200
)


def assert_safe(name: str, limit: int) -> None:
    """Hold a name against the rules of all systems."""
    assert name
    assert len(name.encode("utf-8")) <= limit
    assert name not in (".", "..")
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f]', name)
    assert name == name.strip(" ")
    assert not name.endswith(".")
    assert not name.startswith((".", "-"))
    assert name.partition(".")[0].strip().lower() not in DEVICES
    assert unicodedata.normalize("NFC", name) == name
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in name)


SAVED = {
    "a.PDF": ("a.PDF", "pdf"),
    "a.tar.gz": ("a.tar.gz", "gz"),
    "a": ("a", ""),
    "": ("attachment-7", ""),
    "...": ("attachment-7", ""),
    "_": ("_", ""),
    "\u00e4.\u00dc": ("\u00e4.\u00dc", "\u00fc"),
    "evil.exe.": ("evil.exe", "exe"),
    "evil.exe ": ("evil.exe", "exe"),
    "evil.exe. . ": ("evil.exe", "exe"),
    "evil.exe\u00a0\u3000": ("evil.exe", "exe"),
    "evil.exe\0": ("evil.exe", "exe"),
    "evil.exe\r\n": ("evil.exe", "exe"),
    "evil.exe\u202e": ("evil.exe", "exe"),
    "evil.exe\u200b.": ("evil.exe", "exe"),
    "evil.exe\0.txt": ("evil.exe_.txt", "txt"),
    "\u202eevil.exe": ("evil.exe", "exe"),
    "gpj\u202eexe.txt": ("gpj_exe.txt", "txt"),
    "evil.exe::$DATA": ("evil.exe__$DATA", "exe__$data"),
    "evil.exe:x.txt": ("evil.exe_x.txt", "txt"),
    "x.txt/evil.exe": ("x.txt_evil.exe", "exe"),
    "x.txt\\evil.exe": ("x.txt_evil.exe", "exe"),
    "evil.exe/": ("evil.exe_", "exe_"),
    "evil.exe%20": ("evil.exe%20", "exe%20"),
    "evil%2Eexe": ("evil%2Eexe", ""),
    "evil\uff0eexe": ("evil\uff0eexe", "exe"),
    "evil\u2024exe": ("evil\u2024exe", "exe"),
    "evil.\uff25\uff38\uff25": ("evil.\uff25\uff38\uff25", "exe"),
    "evil.exe\uff0e": ("evil.exe\uff0e", "exe"),
    "evil.\u212aext": ("evil.Kext", "kext"),
    "evil.e\u0301xe": ("evil.\u00e9xe", "\u00e9xe"),
    ".exe": ("_exe", "exe"),
    "..exe": ("_.exe", "exe"),
    "con.exe": ("_con.exe", "exe"),
    "half\ud800.exe": ("half_.exe", "exe"),
    "x" * 300 + ".exe": ("x" * 251 + ".exe", "exe"),
    "x" * 251 + ".exe." + "z" * 50: ("x" * 251 + "_exe", ""),
    "x." + "z" * 300: ("x_" + "z" * 253, ""),
}


@pytest.mark.parametrize(("name", "saved", "extension"), [(k, *v) for k, v in SAVED.items()])
def test_rules_judge_the_name_under_which_a_file_is_saved(
    name: str, saved: str, extension: str
) -> None:
    """One function makes the name for clients, and the extension is that of this name."""
    assert served_name(name, 7) == saved
    assert extension_of(name) == extension
    assert extension_of(saved) in (extension, ""), "without one no system starts it"


@settings(deadline=None, max_examples=300)
@given(HOSTILE | HOSTILE.map(lambda name: name + ".exe") | HOSTILE.map(lambda name: "x.exe" + name))
@example("A" * 250 + ".exe." + "z" * 300)
def test_no_name_is_saved_as_another_type_than_was_judged(name: str) -> None:
    """Whatever the helpdesk calls a file: saved as a program, it was judged as a program."""
    saved = served_name(name, 7)
    assert_safe(saved, SERVED_BYTES)
    assert served_name(saved, 7) == saved
    if saved.lower().endswith(".exe"):
        assert extension_of(name) == "exe"


def test_long_names_are_cut_and_keep_their_extension() -> None:
    """The limit counts bytes, and no character is cut in two."""
    name = safe_name("\u65e5" * 200 + ".pdf")
    assert name == "\u65e5" * 38 + ".pdf"
    assert len(name.encode()) <= NAME_BYTES
    assert len(safe_name("a." + "x" * 300)) == NAME_BYTES


@settings(deadline=None, max_examples=300)
@given(HOSTILE, st.sampled_from([50, 60, 120]))
@example("con" + " " * 200 + ".txt", 50)
@example("aux" + " " * 130 + "x", 50)
@example("con." + "x" * 116, 120)
@example("a" * 130 + ". .txt", 120)
@example("\u0344.", 50)
def test_no_name_makes_trouble(name: str, limit: int) -> None:
    """Whatever the helpdesk sends, the name holds everywhere."""
    assert_safe(safe_name(name, limit), limit)


def test_equal_names_are_numbered_by_their_id() -> None:
    """The first keeps its name; in other case or other code points it is still the same file."""
    names = [(3, "a.txt"), (5, "A.TXT"), (7, "a.txt"), (9, "\u00e9"), (11, "e\u0301"), (12, "b")]
    assert numbered(names) == {
        3: "a.txt",
        5: "A (5).TXT",
        7: "a (7).txt",
        9: "\u00e9",
        11: "\u00e9 (11)",
        12: "b",
    }


def test_a_name_that_looks_numbered_takes_nothing_away() -> None:
    """Somebody else's " (9)" is a name like any other."""
    names = [(1, "a (9).txt"), (2, "a.txt"), (9, "a.txt")]
    assert numbered(names) == {1: "a (9).txt", 2: "a.txt", 9: "a (9.1).txt"}


@settings(deadline=None, max_examples=200)
@given(st.lists(HOSTILE, max_size=12))
def test_no_two_names_are_one_file(names: list[str]) -> None:
    """Of equal names as of different ones, all files stay, on every system."""
    found = numbered(enumerate(names, 1))
    assert len(found) == len(names)
    for name in found.values():
        assert_safe(name, NAME_BYTES)
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in found.values()}
    assert len(folded) == len(names)


@pytest.mark.parametrize(
    ("number", "folder"),
    [("14494", "14494"), ("ABC-123", "ABC-123"), ("abc", "abc (7)"), ("CON", "_CON (7)"),
     ("../x", "_._x (7)"), ("", "_ (7)"), ("9 (8)", "9 (8) (7)")],
)  # fmt: skip
def test_ticket_folders_are_numbers_or_carry_the_id(number: str, folder: str) -> None:
    """A plain number stands alone; what could be another one's name on some system does not."""
    assert ticket_folder(7, number) == folder


@settings(deadline=None)
@given(HOSTILE, st.integers(0, 2**63 - 1))
def test_ticket_folders_make_no_trouble(number: str, ticket: int) -> None:
    """A mapped number is as hostile as any name."""
    assert_safe(ticket_folder(ticket, number), 60)
