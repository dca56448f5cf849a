"""``migrator queue``, and queues and ticket numbers of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.archive import open_beside
from tests.cli.conftest import Cli


def test_queues_are_mapped_and_unmapped(cli: Cli, home: Path) -> None:
    """The list shows each department with its queue, its own until mapped."""
    code, out, _ = cli("queue", "list")
    assert code == 0
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["1", "Support", "1", "Support", "1"],
        ["3", "Sal\\u202ees", "3", "Sal\\u202ees", "0"],
    ]
    assert cli("queue", "map", "3", "--id", "12", "--name", " Sales ")[0] == 0
    assert cli("queue", "list")[1].splitlines()[2].split()[2:4] == ["12", "Sales"]
    assert cli("queue", "unmap", "3")[0] == 0
    assert cli("queue", "list")[1] == out
    assert cli("queue", "unmap", "3").refused("Department 3 has no queue")


def test_two_departments_become_one_queue_on_purpose(cli: Cli, home: Path) -> None:
    """Merging is possible and told; one that only keeps its own id is named as not meant."""
    assert cli("queue", "map", "3", "--id", "12", "--name", "One")[2].count("Warning") == 0
    err = cli("queue", "map", "1", "--id", "12", "--name", "One")[2]
    assert "Queue 12 stands for the departments 1 (Support) and 3" in err
    assert "Nothing maps" not in err
    assert "Warning" not in err
    cli("queue", "unmap", "3")
    assert "stands for" not in cli("queue", "list")[2]
    err = cli("queue", "map", "1", "--id", "3", "--name", "One")[2]
    assert "Warning: Queue 3 stands for the departments" in err
    assert "Nothing maps 3, whose own id this is: map it too." in err
    cli("queue", "map", "1", "--id", "12", "--name", "One")
    assert (
        "Queues 12 and 13 have one name, One"
        in cli("queue", "map", "3", "--id", "13", "--name", "ONE")[2]
    )


def test_a_queue_needs_a_name(cli: Cli, home: Path) -> None:
    """An empty or odd name is a usage error."""
    for name in ("", "a\nb"):
        assert cli("queue", "map", "3", "--id", "12", "--name", name).refused("one line of text")


def test_a_warning_is_told_once(cli: Cli, home: Path) -> None:
    """A command that reads the configuration twice does not warn twice."""
    config = home / "config.toml"
    config.write_text('[kayako]\napi_key = "k"\n')
    config.chmod(0o644)
    assert cli("queue", "map", "3", "--id", "12", "--name", "Sales")[2].count("Warning") == 1


def test_the_configuration_wins(cli: Cli, home: Path) -> None:
    """What the file maps is shown, and the command refuses to pretend otherwise."""
    (home / "config.toml").write_text('[tickiti.queues]\n"1" = { id = 9, name = "Help" }\n')
    assert cli("queue", "list")[1].splitlines()[1].split()[2:4] == ["9", "Help"]
    for argv in (["map", "1", "--id", "2", "--name", "x"], ["unmap", "1"]):
        code, _, err = cli("queue", *argv)
        assert code == 2
        assert "[tickiti.queues]" in err
    (home / "config.toml").write_text("")
    assert cli("queue", "list")[1].splitlines()[1].split()[2:4] == ["1", "Support"]


def test_ticket_numbers_come_and_go_with_the_file(cli: Cli, home: Path) -> None:
    """The CSV decides the numbers in reports; without it they are Kayako's ids again."""
    (home / "map.csv").write_text("kayako_ticket_id,ticket_number\n10,220009\n")
    (home / "config.toml").write_text('[tickiti]\nticket_numbers = "map.csv"\n')
    assert "1,10,5,220009," in cli("report", "--format", "csv")[1]
    (home / "config.toml").write_text("")
    assert "1,10,5,10," in cli("report", "--format", "csv")[1]


def test_a_broken_csv_closes_the_archive(cli: Cli, home: Path) -> None:
    """A mistake in the CSV is told with its line, and nothing is left open."""
    (home / "map.csv").write_text("kayako_ticket_id,ticket_number\nx,1\n")
    (home / "config.toml").write_text('[tickiti]\nticket_numbers = "map.csv"\n')
    code, _, err = cli("queue", "list")
    assert code == 2
    assert "line 2" in err
    with open_beside(home / "archive") as archive:
        assert archive.queries.ticket_count() == 1


@pytest.mark.parametrize("department", ["x", "-1", "2", "99999999999999999999", "", "#Support"])
def test_a_department_that_is_none_is_named_with_those_there_are(
    cli: Cli, home: Path, department: str
) -> None:
    """Whoever mistypes an id or a title is told which there are."""
    for argv in (["map", "--id", "1", "--name", "x"], ["unmap"]):
        made = cli("queue", *argv, "--", department)
        assert made.refused("There is no department")
        assert "there are: 1 (Support), 3 (Sal\\u202ees)" in made.err


@pytest.mark.parametrize("department", ["1", "01", "#1", "support", " SUPPORT ", "\uff53upport"])
def test_a_department_is_an_id_or_a_title(cli: Cli, home: Path, department: str) -> None:
    """Both are accepted alike, in any case, width and spacing."""
    assert cli("queue", "map", department, "--id", "12", "--name", "Help")[0] == 0
    assert cli("queue", "list")[1].splitlines()[1].split() == ["1", "Support", "12", "Help", "1"]
    assert cli("queue", "unmap", department)[0] == 0
