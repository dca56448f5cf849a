"""``migrator selftest``: chaos tests that an admin can run before the migration."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from migrator.cli.common import note, print_table
from migrator.cli.process import STOP_SIGNALS, on_signals


@click.command()
@click.option(
    "--kills",
    default=20,
    show_default=True,
    type=click.IntRange(1),
    help="How often to kill a run.",
)
@click.option(
    "--tickets",
    default=60,
    show_default=True,
    type=click.IntRange(8),
    help="Size of the helpdesk; from 40 on it has every fault. 900 make 2,000 attachments.",
)
@click.option(
    "--seed",
    default=1,
    show_default=True,
    help="The same seed, the same helpdesk and moments.",
)
def selftest(*, kills: int, tickets: int, seed: int) -> int:
    """Test this tool against everything that can go wrong, on a local Kayako look-alike.

    Runs the real command line as a process against a helpdesk with every fault, kills it at
    random moments, interrupts it, starts it twice, takes the source and the disk away, damages
    its files, and compares the result with what it must be. Touches only its own temporary
    directory. Exits with 1 when a promise was not kept.

    \b
    Examples:
      migrator selftest
      migrator selftest --kills 200 --tickets 900
    """
    from migrator.errors import MigratorError
    from migrator.selftest.checks import CHECKS, Lab
    from migrator.selftest.rig import Failed, Skipped

    verdicts: list[tuple[str, str, str]] = []
    with _first_signal_ends(), tempfile.TemporaryDirectory(prefix="migrator-selftest-") as name:
        lab = Lab(Path(name), tickets, kills, seed, note)
        for title, check in CHECKS.items():
            note(f"{len(verdicts) + 1} of {len(CHECKS)}: {title}")
            try:
                verdicts.append((title, "passed", check(lab)))
            except Skipped as reason:
                verdicts.append((title, "skipped", str(reason)))
            except (Failed, MigratorError, OSError, subprocess.SubprocessError) as reason:
                verdicts.append((title, "FAILED", str(reason)))
    print_table(("check", "result", "what was seen"), tuple(verdicts))
    results = [result for _, result, _ in verdicts]
    summary = ", ".join(
        f"{results.count(word)} {word.lower()}" for word in ("passed", "FAILED", "skipped")
    )
    click.echo(f"\n{summary}")
    return 1 if "FAILED" in results else 0


@contextmanager
def _first_signal_ends() -> Iterator[None]:
    """End the block by KeyboardInterrupt at the first signal; later ones don't stop the cleanup."""

    def end(*_: object) -> NoReturn:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    with on_signals(end, *STOP_SIGNALS):
        yield
