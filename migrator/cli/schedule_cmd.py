"""``migrator schedule``: units for systemd or a line for cron that sync regularly."""

from __future__ import annotations

import shlex
import sys

import click

from migrator.cli.common import App, duration, note, pass_app, user_name
from migrator.errors import ConfigError

MINUTES = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
"""Intervals that cron repeats evenly: the divisors of an hour and of a day."""

SERVICE = """\
# /etc/systemd/system/migrator-sync.service
[Unit]
Description=Pull new ticket attachments out of Kayako
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User={user}
ExecStart={command}
# The keys, unless they are in the configuration: KAYAKO_API_KEY=... and KAYAKO_SECRET_KEY=...
# EnvironmentFile=/etc/migrator.env
# What newly fails or is lost makes this unit fail, once; what is known already does not.
Environment=MIGRATOR_KNOWN_OK=1
# 5: another run is at work. Watch `migrator status --max-age` beside the state of this unit.
SuccessExitStatus=5
TimeoutStopSec=60
UMask=0077
ProtectSystem=full
ReadWritePaths={archive}
# No PrivateTmp=: where the archive cannot be written, /tmp remembers which failures were told.
NoNewPrivileges=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""
TIMER = """\
# /etc/systemd/system/migrator-sync.timer
# systemctl daemon-reload && systemctl enable --now migrator-sync.timer
[Unit]
Description=Pull new ticket attachments out of Kayako again and again

[Timer]
OnBootSec=2min
OnUnitActiveSec={seconds}s
RandomizedDelaySec={jitter}s

[Install]
WantedBy=timers.target
"""


@click.command()
@click.option("--systemd", "form", flag_value="systemd", help="Print a service and a timer.")
@click.option("--cron", "form", flag_value="cron", help="Print a line for crontab.")
@click.option(
    "--every",
    callback=duration,
    default="15m",
    show_default=True,
    metavar="DURATION",
    help="How often to sync.",
)
@pass_app
def schedule(app: App, form: str | None, every: float) -> None:
    """Print a systemd timer or a cron line that syncs regularly.

    Uses the paths of this installation and this configuration. If a sync is still at work when the
    next one is due, the next one ends at once with exit code 5.

    \b
    Examples:
      migrator schedule --systemd
      migrator schedule --cron --every 1h
    """
    if form is None:
        raise click.UsageError("Say which: --systemd or --cron.")
    if every < 60:
        raise click.BadParameter("must be at least 1m", param_hint="--every")
    config = app.load(need_source=False)
    # -P: a directory "migrator" where the job starts must not be imported.
    argv = [sys.executable, "-P", "-m", "migrator", "--config", str(config.path), "sync"]
    if form == "cron":
        # The code of a pipe is that of its last command, here the code of the sync.
        logged = f"{{ {{ {cron_command(argv)} 2>&1; echo $? >&3; }} | logger -t migrator; }} 3>&1"
        click.echo(f"{_cron_times(every)} {logged} | {{ read code; exit $code; }}")
        note("Add the line with `crontab -e`. Keys that are not in the configuration go above it.")
        return
    # ProtectSystem= makes /etc and /usr read-only, where the archive may be.
    archive, user = systemd_path(str(config.archive.path)), user_name("{}", config.archive.path)
    service = SERVICE.format(user=user, command=systemd_command(argv), archive=archive)
    click.echo(service)
    click.echo(TIMER.format(seconds=round(every), jitter=max(1, round(every / 10))), nl=False)


def systemd_command(argv: list[str]) -> str:
    """Return a command for ``ExecStart=``, without variables, specifiers or escapes."""
    # The colon keeps systemd from looking for variables, also in the name of the program.
    return (":" if any("$" in arg for arg in argv) else "") + " ".join(map(_systemd_word, argv))


def systemd_path(path: str) -> str:
    """Return a path for ``ReadWritePaths=``; one that does not exist yet is no error."""
    return _systemd_word(f"-{path}")


def _systemd_word(arg: str) -> str:
    plain = arg.replace("%", "%%")
    if all(char.isalnum() or char in "/._-+=,%@" for char in arg):
        return plain
    quoted = "".join(_systemd_char(char) for char in plain)
    return f'"{quoted}"'


def _systemd_char(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def cron_command(argv: list[str]) -> str:
    """Return a command for a crontab: quoted for the shell, and every ``%`` for cron.

    Raises ConfigError for what a crontab cannot hold.
    """
    if any(char in arg for arg in argv for char in "\n\r\0"):
        raise ConfigError("A path with a line end cannot stand in a crontab; use --systemd.")
    # Cron needs \%, but shells keep the backslash between quotes; so it is put outside of them.
    words = ("\\%".join(map(_shell_word, arg.split("%"))) for arg in argv)
    return " ".join(words)


def _shell_word(part: str) -> str:
    return shlex.quote(part) if part else ""


def _cron_times(every: float) -> str:
    minutes, rest = divmod(round(every), 60)
    if not rest and minutes in MINUTES:
        return f"*/{minutes} * * * *" if minutes > 1 else "* * * * *"
    hours, rest = divmod(round(every), 3600)
    if not rest and hours in HOURS:
        return {1: "0 * * * *", 24: "0 3 * * *"}.get(hours, f"0 */{hours} * * *")
    even = ", ".join([*(f"{one}m" for one in MINUTES), *(f"{one}h" for one in HOURS)])
    raise click.BadParameter(f"cron can only repeat every {even}", param_hint="--every")
