"""The file of a plan, and what differs from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.archive import Row, State
from migrator.errors import ConfigError
from migrator.plan.plan_file import (
    FIRST,
    SLACK,
    Entry,
    Head,
    PlanFile,
    changes,
    compare,
    entry_of,
    lines,
)
from migrator.sources.base import Scope

SOURCE = "https://help.example.com"
HEAD = Head(SOURCE, Scope().told(), 1000, True, False, 10, 0, 0, 0, 0)


def row(number: int, name: str = "a.txt", size: int = 5) -> Row:
    return Row(
        number, 1, 1, "1", 1, 1, name, "", size, None, None, None, State.PENDING, None, None, 0, 9,
        None,
    )  # fmt: skip


def saved(path: Path, rows: Iterable[Row], **head: object) -> Path:
    """Save a plan of some rows."""
    found = list(rows)
    facts = {"attachments": len(found), **head}
    path.write_text("".join(lines(replace(HEAD, **facts), found)))  # type: ignore[arg-type]
    return path


def checked(path: Path, source: str = SOURCE, scope: Scope | None = None, now: int = 1000) -> None:
    PlanFile(path).check(source, scope or Scope(), now=now)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(st.builds(row, st.integers(1, 10**6), st.text(), st.integers(0, 2**42))))
def test_a_saved_plan_is_read_as_it_was(
    rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the names of attachments hold, a plan comes back, line by line."""
    unique = sorted({one.id: one for one in rows}.values(), key=lambda one: one.id)
    path = saved(tmp_path_factory.mktemp("plan") / "p", unique)
    plan = PlanFile(path)
    plan.check(SOURCE, Scope(), now=1000)
    assert list(plan.entries()) == [entry_of(one) for one in unique]
    assert plan.head == replace(HEAD, attachments=len(unique))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a plan"),
        ("\0\0\0", "is not a plan"),
        ("[]", "is not a plan"),
        ('{"format": "migrator.report/1"}', "is not a plan"),
        ('{"format": "migrator.plan-file/x"}', "is not a plan"),
        ('{"format": 7}', "is not a plan"),
        ('{"format": "migrator.plan-file/2"}', "newer version"),
        ('{"format": "migrator.plan-file/1"}', "damaged in line 1"),
    ],
)
def test_any_other_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """Anything but a plan that we know is refused with a word about what to do."""
    (tmp_path / "p").write_text(text)
    with pytest.raises(ConfigError, match=says):
        checked(tmp_path / "p")


@pytest.mark.parametrize("key", ["made_at", "source", "scope", "tickets"])
def test_a_head_of_other_types_is_refused(tmp_path: Path, key: str) -> None:
    """A head that somebody edited is damaged, not a bug of ours."""
    path = saved(tmp_path / "p", [])
    head = json.loads(path.read_text())
    path.write_text(json.dumps({**head, key: None}) + "\n")
    with pytest.raises(ConfigError, match="damaged in line 1"):
        checked(path)


@pytest.mark.parametrize(
    "line", ["", "{", "[]", '{"id": 9}', '{"id":"9","ticket":1,"name":"","size":1,"created":0}']
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    """A damaged plan is refused before anything is asked, with the line."""
    path = saved(tmp_path / "p", [row(1), row(2)], attachments=3)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match="damaged in line 4"):
        checked(path)


def test_an_unsorted_plan_is_damaged(tmp_path: Path) -> None:
    """The comparison relies on the order, so it is checked."""
    with pytest.raises(ConfigError, match="line 3"):
        checked(saved(tmp_path / "p", [row(2), row(1)]))


def test_a_plan_that_was_cut_is_refused(tmp_path: Path) -> None:
    """A copy that ended early would make everything behind it look new."""
    with pytest.raises(ConfigError, match="names 2 of 5"):
        checked(saved(tmp_path / "p", [row(1), row(2)], attachments=5))


def test_a_plan_that_is_gone_is_told(tmp_path: Path) -> None:
    """A plan that cannot be read is an error of the user's, not ours."""
    with pytest.raises(ConfigError, match="Cannot read"):
        checked(tmp_path / "p")


def test_a_plan_of_another_helpdesk_is_refused(tmp_path: Path) -> None:
    """The text names both."""
    with pytest.raises(ConfigError, match=r"plan of https://help\.example\.com, not of https://b"):
        checked(saved(tmp_path / "p", []), "https://b")


@pytest.mark.parametrize(
    ("scope", "says"),
    [
        (Scope(frozenset({"Sales"})), "--department 'Sales'"),
        (Scope(since=5), "another --since"),
        (Scope(limit_tickets=3), "--limit-tickets 3"),
        (Scope(include_trash=True), "the trash included"),
    ],
)
def test_a_plan_of_another_scope_is_refused(tmp_path: Path, scope: Scope, says: str) -> None:
    """Both ways, and the text tells with which options the plan was made."""
    with pytest.raises(ConfigError, match="no option that narrows it"):
        checked(saved(tmp_path / "all", []), scope=scope)
    with pytest.raises(ConfigError, match=says):
        checked(saved(tmp_path / "part", [], scope=scope.told()))


def test_an_age_means_a_later_day_later(tmp_path: Path) -> None:
    """--since 30d given to the plan and, two days later, to the run is the same scope."""
    then = Scope(since=100_000)
    path = saved(tmp_path / "p", [], scope=then.told())
    age = 2 * 86_400
    checked(path, scope=Scope(since=100_000 + age + SLACK // 2), now=1000 + age)
    checked(path, scope=then, now=1000 + age)
    with pytest.raises(ConfigError, match="another --since"):
        checked(path, scope=Scope(since=100_000 + 2 * age), now=1000 + age)
    with pytest.raises(ConfigError, match="another --since"):
        checked(path, now=1000)


# Drift


def entry(number: int, ticket: int = 1, name: str = "a", size: int = 1) -> Entry:
    return Entry(number, ticket, name, size, 0)


DESK = st.dictionaries(
    st.integers(1, 30), st.builds(entry, st.just(0), st.integers(1, 2), st.text(max_size=1))
)


@settings(deadline=None, max_examples=200)
@given(DESK, DESK, st.booleans())
def test_drift_is_what_two_dictionaries_say(
    then: dict[int, Entry], now: dict[int, Entry], whole: bool
) -> None:
    """For any two lists: the same as looking every attachment up."""

    def listed(desk: dict[int, Entry]) -> list[Entry]:
        return [desk[number]._replace(id=number) for number in sorted(desk)]

    drift = compare(listed(then), listed(now), whole=whole)
    new, vanished = sorted(now.keys() - then.keys()), sorted(then.keys() - now.keys())
    changed = [key for key in sorted(then.keys() & now.keys()) if then[key] != now[key]]
    assert (drift.new.n, [one.id for one in drift.new.first]) == (len(new), new[:FIRST])
    assert [one.id for one in drift.changed.first] == changed[:FIRST]
    assert drift.changed.n == len(changed)
    assert [one._replace(id=0) for one in drift.changed.before] == [
        then[key]._replace(id=0) for key in changed[:FIRST]
    ]
    assert all(changes(*two) for two in zip(drift.changed.before, drift.changed.first, strict=True))
    assert drift.new.before == []
    assert drift.new.bytes == sum(now[key].size for key in new)
    if whole:
        assert drift.vanished is not None
        assert (drift.vanished.n, drift.vanished.bytes) == (len(vanished), len(vanished))
    else:
        assert drift.vanished is None
        assert drift.told()["vanished"] is None
    assert json.loads(json.dumps(drift.told()))
