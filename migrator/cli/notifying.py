"""Who is told how a command ended: ``[notify]`` of the configuration, at the end of the work.

Nothing here changes what a command does or its exit code, and all of it takes a bounded time.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from migrator.archive import Archive, open_beside
from migrator.archive.notices import Notice
from migrator.cli.common import App, note, now
from migrator.cli.process import run_loop
from migrator.config import METRICS_TOKEN, NOTIFY, SECRETS, TOKEN, signing_key
from migrator.errors import ArchiveError, MigratorError
from migrator.notify import Channels, Outcome, Settings, Told, compose
from migrator.notify.messages import STOPPED, remember

if TYPE_CHECKING:
    from migrator.config import Config

START = 10.0
"""Seconds in which a start must be told."""
_USER = re.compile(r"(?<=://)[^/\s@]*@")


def settings_from(config: Config) -> Settings:
    """Translate ``[notify]`` into the settings of the room."""
    found, key = config.notify, config.notify.webhook_key
    command = found.command
    if command and "/" in command[0]:
        command = (str(config.path.parent / command[0]), *command[1:])
    return Settings(
        ping=found.ping.get_secret_value(),
        ping_exit_code=found.ping_exit_code,
        webhook=found.webhook.get_secret_value(),
        webhook_key=signing_key(key) if key.get_secret_value() else b"",
        command=command,
        timeout=found.timeout,
        hidden=frozenset({*SECRETS.values(), *NOTIFY.values(), TOKEN, METRICS_TOKEN}),
    )


def notifier_of(app: App, config: Config) -> Notifier:
    """Return the one that tells of what this process does."""
    if app.notifier is None:
        app.notifier = Notifier(app, config)
    return app.notifier


class Notifier:
    """Tells of one command after the other, or of one round after the other."""

    def __init__(self, app: App, config: Config) -> None:
        self.settings = settings_from(config)
        self._app = app
        self._config = config
        self._run = uuid.uuid4()
        self._began = now()
        self._starting: threading.Thread | None = None
        self._problem: str | None = None
        self.begun = False
        self.rounds = 0

    def begin(self) -> None:
        """Note that work begins; ping its start beside it."""
        self.begun = True
        self._run, self._began = uuid.uuid4(), now()
        if self.settings.pings(self._app.command):
            self._starting = threading.Thread(target=self._ping_start, daemon=True)
            self._starting.start()

    def _ping_start(self) -> None:
        bounded = replace(self.settings, timeout=min(START, self.settings.timeout))

        async def ping() -> None:
            channels = Channels(bounded, clock=time.time)
            self._problem = await channels.ping(self._app.command, "start", self._run)

        with suppress(Exception):  # it is a courtesy
            asyncio.run(ping())

    async def end(self, code: int, kind: str = "", error: str = "") -> None:
        """Tell how the work ended, and what was not told before."""
        begun, self.begun = self.begun, False
        if code in STOPPED or code > 128 or (not begun and code in (0, 3)):
            return
        outcome = Outcome(
            self._app.command, code, self.clean(error), kind, self._lines(), self._began
        )
        archive = self._opened()
        try:
            told = self._told(archive, outcome)
            recorded = archive if told.recorded else None
            await self._send(recorded, told, outcome)
        finally:
            if archive is not None:
                archive.close()

    def clean(self, text: str) -> str:
        """Return a text without secrets."""
        return _USER.sub("***@", self._app.scrub(text))

    def _lines(self) -> Sequence[str]:
        lines = [self.clean(one) for one in self._app.lines]
        self._app.lines.clear()
        return lines

    def _opened(self) -> Archive | None:
        with suppress(MigratorError):
            return open_beside(self._config.archive.path)
        return None

    def _told(self, archive: Archive | None, outcome: Outcome) -> Told:
        def made(where: Archive | None) -> Told:
            return compose(
                where,
                outcome,
                now=now(),
                place=str(self._config.archive.path),
                hour=self._config.notify.summary_hour,
                channels=self.settings.keeping,
                events=self._config.notify.events,
                clean=self.clean,
            )

        try:
            return made(archive)
        except ArchiveError:  # full or damaged: that is told all the more
            return made(None)

    async def _send(self, archive: Archive | None, told: Told, outcome: Outcome) -> None:
        """Send what is new and what is left from before, everywhere at the same time."""
        channels = Channels(self.settings, clock=time.time)
        waiting = _claimed(archive, told, self.settings.timeout)
        left = {
            one.id: [to for to in one.pending if to in self.settings.keeping] for one in waiting
        }
        try:
            work = [deliver(channels, to, waiting, left) for to in self.settings.keeping]
            if self.settings.ping:
                work.append(self._ping(channels, told, outcome))
            problems = [one for one in await asyncio.gather(*work) if one]
        finally:
            if archive is not None:
                with suppress(ArchiveError):  # then it is sent again, under the same id
                    for one in waiting:
                        archive.notices.release(one, left[one.id])
            elif not any(left.values()):
                for one in told.notices:
                    remember(str(self._config.archive.path), one.command, one.sign)
        for problem in problems:
            note(problem, level="warning")

    async def _ping(self, channels: Channels, told: Told, outcome: Outcome) -> str | None:
        command, code = outcome.command, outcome.exit_code
        if self._starting is not None:
            await asyncio.to_thread(self._starting.join, START)
            self._starting = None
        if not (self.settings.pings(command) or outcome.is_failure):
            return None
        what = "fail" if told.bad else ""
        what = str(code) if self.settings.ping_exit_code else what
        problem = await channels.ping(command, what, self._run, told.text)
        return f"The ping was not delivered: {problem}." if problem else None


def _claimed(archive: Archive | None, told: Told, seconds: float) -> Sequence[Notice]:
    if archive is None or archive.read_only:
        return told.notices
    try:
        return archive.notices.claim(now(), seconds)
    except ArchiveError:
        return told.notices


async def deliver(
    channels: Channels, to: str, waiting: Sequence[Notice], left: dict[str, list[str]]
) -> str | None:
    """Send notices through one channel until one fails; return that in words."""
    for notice in waiting:
        if to not in left[notice.id]:
            continue
        if problem := await channels.send(to, notice):
            number = sum(to in one for one in left.values())
            many = "It is" if number == 1 else f"{number:,} messages are"
            return (
                f"A message was not delivered through the {to}: {problem}. {many} sent with the "
                "next command."
            )
        left[notice.id].remove(to)
    return None


class Round:
    """How a round of ``sync --every`` ended."""

    def __init__(self) -> None:
        self.code = 0
        self.error: MigratorError | None = None

    def end(self, code: int, error: object = None) -> None:
        """Note the exit code, or the error that has one."""
        self.error = error if isinstance(error, MigratorError) else None
        self.code = self.error.exit_code if self.error else code


@asynccontextmanager
async def telling_round(app: App, config: Config) -> AsyncIterator[Round]:
    """Tell how the block ended, which notes that in what it gets, or raises.

    Of a bug the end of the process tells.
    """
    ended = Round()
    try:
        yield ended
    except MigratorError as error:
        ended.end(error.exit_code, error)
        await _round(app, config, ended)
        raise
    await _round(app, config, ended)


async def _round(app: App, config: Config, ended: Round) -> None:
    if config.notify.tells:
        notifier = notifier_of(app, config)
        notifier.rounds += 1
        kind = type(ended.error).__name__ if ended.error else ""
        await _guarded(notifier.end(ended.code, kind, str(ended.error or "")))


def conclude(app: App, config: Config, code: int) -> None:
    """Tell how a command ended; whatever goes wrong with that is told on stderr."""
    notifier = notifier_of(app, config)
    if notifier.rounds and not notifier.begun and code != 1:
        return  # each round was told
    with click.Context(click.Command("notify"), obj=app):
        try:
            run_loop(_guarded(notifier.end(code, *app.error)))
        except KeyboardInterrupt:
            note("Interrupted: messages may be left for the next command.", level="warning")


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - what is told is no part of the work
        text = str(error) if isinstance(error, MigratorError) else type(error).__name__
        note(f"Nobody could be told how this ended: {text}", level="warning")
