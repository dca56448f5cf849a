"""The manual: its links lead somewhere, its commands exist, and no option is missing in it."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from migrator import errors
from migrator.archive.queries import TOLD_DELIVERED
from migrator.cli import COMMANDS, cli
from migrator.cli.common import App
from migrator.config import load
from migrator.report.json_report import COLUMNS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "migrator"
PAGES = sorted((PACKAGE / "docs").glob("*.md"))
TEXTS = [ROOT / "README.md", *sorted(PACKAGE.rglob("*.md"))]
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
NAMED = ("map.csv", "plan.jsonl", "report-of-may.json", "fullchain.pem", "privkey.pem")
"""Files that commands of the manual read."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def command_lines(text: str) -> Iterator[str]:
    """Yield the lines of a page that call this tool, as a shell gets them."""
    for kind, block in BLOCK.findall(text):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        if kind == "console":
            lines = [line.strip()[2:] for line in lines if line.strip().startswith("$ ")]
        elif kind != "sh":
            continue
        yield from (
            line.strip() for line in lines if re.search(r"(?:^|[\s(])migrator [-a-z]", line)
        )


def calls(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of this tool in a line of a shell."""
    words = shlex.shlex(re.sub(r"\$(?=\()|\d(?=>)", "", line), posix=True, punctuation_chars=True)
    words.whitespace_split = True
    call: list[str] | None = None
    for word in [*words, ";"]:
        if re.fullmatch(r"[|&;()<>]+", word):
            if call:
                yield call
            call = None
        elif word == "migrator":
            call = []
        elif call is not None:
            call.append(word)


def parse(line: str) -> None:
    """Raise UsageError for a line with a call of this tool that it does not take."""
    for arguments in calls(line):
        if "COMMAND" in arguments:
            continue
        at = next(i for i, word in enumerate(arguments) if word in COMMANDS)
        cli.make_context("migrator", [*arguments[:at], "help"], obj=App())
        command, words = cli.get_command(click.Context(cli), arguments[at]), arguments[at + 1 :]
        if isinstance(command, click.Group):
            command, words = command.commands[words[0]], words[1:]
        if command is not None:
            command.make_context(line, words, obj=App())


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Yield each command of the tool, those of groups too, with its name."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {one}", inner) for one, inner in command.commands.items())


def options_of(command: click.Command) -> set[str]:
    shown = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    return {name for one in shown for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files and headings that a page links to exist; pages link to what is shipped with them."""
    text = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", page.read_text("utf-8")))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match("https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert page.parent == ROOT or target.is_relative_to(PACKAGE), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_maps_the_manual() -> None:
    """It has at most 250 lines, and a link to every page of the manual."""
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 250
    for page in PAGES:
        assert f"](migrator/docs/{page.name})" in readme


def test_a_command_names_its_page_of_the_manual() -> None:
    """Where both have one name, `help NAME` shows the command, which says how to see the page."""
    both = [(name, one) for name, one in all_commands() if name in {page.stem for page in PAGES}]
    assert both
    for name, command in both:
        assert f"`migrator help {name}.md`" in (command.help or "")


def test_nobody_is_sent_to_the_project_of_the_same_name() -> None:
    """What is called migrator on PyPI is somebody else's: extras come from the source."""
    for page in [*TEXTS, *PACKAGE.rglob("*.py")]:
        assert not re.search(r"migrator\[[a-z]", page.read_text("utf-8")), page


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_every_command_of_the_manual_parses(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line that calls this tool is one that it takes."""
    monkeypatch.chdir(tmp_path)
    for name in NAMED:
        (tmp_path / name).touch()
    for line in command_lines(page.read_text("utf-8")):
        parse(line)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_every_configuration_of_the_manual_is_taken(page: Path, tmp_path: Path) -> None:
    """Each block is a configuration; of lines without a table, each is one of [kayako]."""
    file = tmp_path / "config.toml"
    file.touch(0o600)
    (tmp_path / "map.csv").touch()
    for kind, block in BLOCK.findall(page.read_text("utf-8")):
        if kind == "toml":
            whole = block.lstrip().startswith("[")
            for text in [block] if whole else [f"[kayako]\n{one}" for one in block.splitlines()]:
                file.write_text(text.replace("whsec_...", f"whsec_{'A' * 44}"), "utf-8")
                load(file, need_source=False)


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_every_option_in_a_sentence_exists(page: Path) -> None:
    """What a sentence calls `migrator COMMAND --option` has that option."""
    known = {name: options_of(command) for name, command in all_commands()}
    for text in re.findall(r"`migrator ([^`\n]+)`", BLOCK.sub("", page.read_text("utf-8"))):
        words = text.split()
        while words and words[0].startswith("-"):  # before the command
            words = words[2:]
        if not words:
            continue
        two = " ".join(words[:2])
        name = two if two in known else words[0]
        assert name in known or name == "COMMAND", text
        options = {word for word in words if word.startswith("--") and word != "--help"}
        assert options <= known.get(name, options), text


def test_the_reference_has_every_option_and_no_other() -> None:
    """Each command has its section in reference.md, with the options that it has."""
    text = (PACKAGE / "docs" / "reference.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (migrator.*)\n((?:(?!## ).*\n)*)", text, re.MULTILINE))
    wanted = {"migrator": options_of(cli)}
    for_all = {"-q", "--quiet", "-v", "--verbose"}
    wanted |= {f"migrator {name}": options_of(one) - for_all for name, one in all_commands()}
    assert sections.keys() == wanted.keys()
    for name, options in wanted.items():
        rows = re.findall(r"^\| (`-.*?) \| ", sections[name], re.MULTILINE)
        assert {one for row in rows for one in re.findall(r"`(-[\w-]+)", row)} == options, name


def test_the_readme_has_the_codes_of_the_reference() -> None:
    """Both tables name the same exit codes."""
    tables = [
        re.findall(r"^\| (\d+) +\|", page.read_text("utf-8"), re.MULTILINE)
        for page in (ROOT / "README.md", PACKAGE / "docs" / "reference.md")
    ]
    assert tables[0] == tables[1] != []


def test_the_columns_of_the_csv_are_named_in_their_order() -> None:
    """formats.md lists the columns as `report --format csv` writes them."""
    text = (PACKAGE / "docs" / "formats.md").read_text("utf-8")
    section = text.partition("## The CSV\n")[2].partition("\n## ")[0]
    named = [one for one in re.findall(r"`(\w+)`", section) if one != "page"]
    assert named == [*COLUMNS, *TOLD_DELIVERED]


ERRORS = {name for name, one in vars(errors).items() if isinstance(one, type)} | {
    "UsageError",
    "BadParameter",
    "fail",
}
"""What is called with a text that the user reads at the end of a command."""


def text_of(node: ast.expr) -> str:
    """Return a text as the code has it, with … for each part that is known only when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(text_of, parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left) + text_of(right)
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.List(elts=[first, *_])]):
            return text_of(first) + "…"
    return "…"


def error_texts() -> set[str]:
    """Return the texts of all errors that the tool raises, but for those made of other texts."""
    found = set()
    for module in PACKAGE.rglob("*.py"):
        if (
            "sandbox" in module.relative_to(PACKAGE).parts
        ):  # look-alikes, which say what Kayako does
            continue
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                called = node.func
                name = called.attr if isinstance(called, ast.Attribute) else ""
                if isinstance(called, ast.Name) and called.id != "fail":  # a finding of doctor's
                    name = called.id
                if name in ERRORS:
                    found.add(text_of(node.args[0]))
    return {text for text in found if re.search(r"[a-z]{3}", text)}


def test_every_error_text_leads_to_an_entry_of_troubleshooting() -> None:
    """Each text has a quoted phrase in troubleshooting.md, and each phrase there is of a text."""
    text = (PACKAGE / "docs" / "troubleshooting.md").read_text("utf-8")
    quoted = re.findall(r"^> - `(.+)`$", text, re.MULTILINE)
    phrases = {
        one: re.compile(".*".join(map(re.escape, one.split("…"))), re.DOTALL) for one in quoted
    }
    texts = error_texts()
    assert len(texts) > 200
    without = [one for one in texts if not any(phrase.search(one) for phrase in phrases.values())]
    assert sorted(without) == [], "name these in troubleshooting.md, by a phrase of each"
    assert [one for one in phrases if not any(phrases[one].search(text) for text in texts)] == []


def test_every_entry_of_troubleshooting_says_what_to_do() -> None:
    """Behind the quoted messages of each entry stands a paragraph."""
    text = (PACKAGE / "docs" / "troubleshooting.md").read_text("utf-8")
    for entry in re.split(r"\n(?=> )(?<!`\n)", text)[1:]:
        answer = re.sub(r"^>.*\n", "", entry, flags=re.MULTILINE).strip()
        assert len(answer.partition("\n\n")[0]) > 30, entry
