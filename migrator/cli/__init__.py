"""The command line: reads options, calls a room, prints the outcome, and decides nothing else.

Results go to stdout, everything else to stderr. A command returns its exit code, or None for 0.
Only :func:`invoke` turns the errors of all rooms into a message and a code.
"""

from __future__ import annotations

import difflib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from errno import ENOENT, ENOSPC, EPIPE
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from migrator import __version__
from migrator.cli import process
from migrator.errors import ArchiveDamaged, ArchiveUnwritable, MigratorError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from migrator.cli.common import App

__all__ = ["cli", "invoke", "main"]

COMMANDS = {
    "init": "Write a commented config.toml to fill in.",
    "doctor": "Try the connection, the keys and the disk; say what to change.",
    "plan": "Show what a run would do; write nothing.",
    "run": "Pull every attachment into the archive; resumes by itself.",
    "sync": "Pull what is new; repeats itself with --every 15m.",
    "schedule": "Print a systemd timer or a cron line that syncs regularly.",
    "pause": "Pause all requests, from another terminal.",
    "resume": "End a pause.",
    "status": "Show where the migration stands, also while a run is at work.",
    "report": "Print the closing ledger as text, JSON, CSV or HTML.",
    "accept": "Accept losses with a reason, so that they count as settled.",
    "verify": "Read every stored file again and compare.",
    "audit": "Fetch a sample again from the source and compare.",
    "handover": "Write all that is needed without this tool into one directory.",
    "deliver": "Put the files into a live Tickiti, each once, mailing nobody.",
    "notify": "Show who is told of failures and losses, or send a test.",
    "archive": "Copy or move the files to another bucket or disk.",
    "publish": "Write a snapshot of the checkpoint into the bucket of the files.",
    "restore": "Make an archive from a bucket alone.",
    "serve": "Serve the archive as Tickiti does, to clients and staff.",
    "token": "Create, list and revoke tokens of the API.",
    "rule": "Set which file types the API hands out.",
    "queue": "Map departments to queues of Tickiti.",
    "source": "Call Kayako by hand: list, get, upload or delete one attachment.",
    "sandbox": "Serve a Kayako look-alike to rehearse on.",
    "demo": "Show the whole story in one command, without a helpdesk.",
    "selftest": "Kill, fill and damage a rehearsal; show that nothing is lost.",
    "help": "Show the help of a command, or a page of the manual.",
}
"""The commands in the order of the help, and what each does in a few words."""
WORKS = COMMANDS.keys() - {
    *("doctor", "plan", "schedule", "status", "report", "notify", "help"),
    *("token", "rule", "queue", "source"),
}
"""The commands that do more than to print: whether their text arrives does not change the code."""
WATCHED = {"run", "sync", "verify", "audit", "publish", "deliver"}
"""The commands of whose end ``[notify]`` tells."""
MODULES = {
    "token": "access",
    "rule": "access",
    "queue": "access",
    "restore": "publish",
    "resume": "pause",
}
"""The module of a command that has none of its own."""

EXIT_CODES = """\b
Exit codes:
  0  done; nothing is open         5  another run holds the archive
  1  a bug of this tool            6  damage, or a difference was found
  2  usage or configuration        7  the archive cannot be written
  3  finished, but something is    8  stopped by a safety limit
     open or was left out        130  interrupted; progress is saved
  4  the source, Tickiti or the bucket refuses or cannot be reached
"""

BEFORE = {"-c", "--config", "--log-format"}
"""The options of the whole program that take a value."""

COMPLETE = "_MIGRATOR_COMPLETE"
"""The variable through which a shell asks for completions, as click names it."""


def _choose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().obj.verbosity = -1 if param.name == "quiet" else 1


def _with_verbosity(command: click.Command) -> click.Command:
    """Return a command that takes -q and -v, as all below it; the last one given counts."""
    if all(param.name != "quiet" for param in command.params):
        for names, told in (
            (("-q", "--quiet"), "Print results, warnings and errors only."),
            (("-v", "--verbose"), "Print the outcome of each request as well."),
        ):
            option = click.Option(
                names, is_flag=True, expose_value=False, callback=_choose, help=told
            )
            command.params.append(option)
    if isinstance(command, click.Group) and not isinstance(command, LazyGroup):
        for each in command.commands.values():
            _with_verbosity(each)
    return command


class LazyGroup(click.Group):
    """Imports a command only when it is called.

    ``migrator --help`` and a mistyped command must answer at once: nothing of HTTP, XML or SQLite
    is imported before a command needs it.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return the command; None for an unknown one."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"migrator.cli.{MODULES.get(cmd_name, cmd_name)}_cmd")
        return _with_verbosity(getattr(module, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for a mistyped one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"There is no command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands from the table, importing none; else options."""
        from click.shell_completion import CompletionItem

        found = [(name, told) for name, told in COMMANDS.items() if name.startswith(incomplete)]
        items = [CompletionItem(name, help=told) for name, told in found]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _wanted_format(args: Sequence[str]) -> str:
    """Return the format of errors before anything is parsed, which may raise the first one.

    The option is found anywhere, even after the command, where it is a mistake.
    """
    found = "text"
    for arg, following in pairwise([*args, ""]):
        if arg == "--":
            break
        name, given, value = arg.partition("=")
        if name == "--log-format":
            value = value if given else following
            found = value if value in ("text", "json") else found
    return found


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar="MIGRATOR_CONFIG",
    show_envvar=True,
    help="Configuration file. [default: ./config.toml]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of progress and errors on stderr.",
    expose_value=False,  # it was found before: see _wanted_format()
)
@click.version_option(__version__, prog_name="migrator")
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None) -> None:
    """Leave Kayako Classic for Tickiti without losing a single file."""
    ctx.obj.config_path = config_path
    ctx.obj.command = ctx.invoked_subcommand or ""
    if ctx.invoked_subcommand in WORKS and (stdout := process.telling(sys.stdout)):
        stdout.strict = stdout.needed = False


_with_verbosity(cli)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit the process with its exit code."""
    process.begin()
    try:
        instruction = os.environ.get(COMPLETE)
        code = _complete(instruction) if instruction else invoke(argv)
    except KeyboardInterrupt:  # before anything was done, or in the midst of saying so
        code = process.INTERRUPTED
    process.end(code)


def _complete(instruction: str) -> int:
    """Print the script that makes a shell complete our command lines, or what completes one."""
    from click.shell_completion import shell_complete

    code = shell_complete(cli, {}, "migrator", COMPLETE, instruction)
    if code:
        click.echo(f"Error: {COMPLETE} must be bash_source, zsh_source or fish_source.", err=True)
    return 2 if code else 0


def invoke(argv: Sequence[str] | None = None) -> int:
    """Run the command line (None: of this process) and return its exit code.

    Who is to be told of its end is told.
    """
    from migrator.cli.common import App

    app = App()
    code = _invoke(app, argv)
    if app.command in WATCHED and app.config is not None and app.config.notify.tells:
        from migrator.cli.notifying import conclude

        conclude(app, app.config, code)
    return code


def _invoke(app: App, argv: Sequence[str] | None) -> int:
    from migrator.cli.common import LogLines

    log = LogLines(app)
    logging.getLogger().addHandler(log)
    try:
        args = list(sys.argv[1:] if argv is None else argv)
        app.log_format = _wanted_format(args)
        with cli.make_context("migrator", args, obj=app) as ctx:
            code = int(cli.invoke(ctx) or 0)
        sys.stdout.flush()
        return _with_what_was_lost(code)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except BrokenPipeError:  # quiet, as `| head` expects
        return 128 + signal.SIGPIPE
    except (KeyboardInterrupt, click.Abort):
        return _tell(app, "Interrupted", "Interrupted.", 130)
    except Exception as exc:  # noqa: BLE001 - every error becomes a message here
        return _tell(app, type(exc).__name__, *_words(app, exc))
    finally:
        logging.getLogger().removeHandler(log)


def _with_what_was_lost(code: int) -> int:
    """Return the exit code of a command whose results may have been lost."""
    stdout = process.telling(sys.stdout)
    if stdout is not None and stdout.lost is not None:
        if stdout.needed and code == 0:
            stdout.refuse()
        if stdout.lost.errno != EPIPE:
            why = process.reason(stdout.lost)
            logging.getLogger(__name__).warning("stdout could not be written: %s.", why)
    return code


def _words(app: App, exc: Exception) -> tuple[str, int]:
    """Return the message of an error for the user, with the exit code."""
    if isinstance(exc, MigratorError):
        return (str(exc) if exc.exit_code == 130 else f"Error: {exc}"), exc.exit_code
    if isinstance(exc, click.ClickException):
        if isinstance(exc, click.exceptions.NoArgsIsHelpError):
            return exc.format_message(), 2
        ctx = exc.ctx if isinstance(exc, click.UsageError) else None
        hint = f"\nTry `{ctx.command_path} --help`." if ctx else ""
        if ctx and isinstance(exc, click.NoSuchOption) and exc.option_name in BEFORE:
            called = f"{exc.option_name} … {ctx.command_path.removeprefix('migrator ')}"
            hint = f"\nIt goes before the command: `migrator {called}`."
        choices = exc.format_message().replace("\n\t", "\n  ")  # as click lists them
        return f"Error: {choices}{hint}", 2
    if isinstance(exc, OSError) and (lacking := _lacking(exc)):
        return lacking
    if isinstance(exc, ImportError) and exc.name:  # a part, a library, or a part of Python
        return f"Error: This installation lacks {exc.name}, which this command needs.", 2
    damage = _damage(app)
    return (f"Error: {damage}", damage.exit_code) if damage else (_bug(app, exc), 1)


def _lacking(exc: OSError) -> tuple[str, int] | None:
    """Return what this machine lacks where an error shows that, with the exit code."""
    import tempfile

    if exc.errno == ENOSPC:
        return "Error: The disk is full. Make room and try again.", ArchiveUnwritable.exit_code
    if exc.errno != ENOENT:
        return None
    for find, words in (
        (Path.cwd, "The current directory no longer exists: change into another."),
        (tempfile.gettempdir, "There is no directory for temporary files: set TMPDIR to one."),
    ):
        try:
            find()
        except FileNotFoundError:
            return f"Error: {words}", 2
    return None


def _bug(app: App, exc: Exception) -> str:
    # The text of a foreign error may hold anything, so only its kind and place are shown.
    frames = traceback.extract_tb(exc.__traceback__)
    ours = [frame for frame in frames if "migrator" in Path(frame.filename).parts]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    bug = (
        f"Error: This is a bug of migrator {__version__}: {type(exc).__name__} in {place}.\n"
        "Everything stored so far is safe. Please report this line; "
        "MIGRATOR_DEBUG=1 shows the details."
    )
    if os.environ.get("MIGRATOR_DEBUG") == "1":
        bug = app.scrub("".join(traceback.format_exception(exc))) + bug
    return bug


def _damage(app: App) -> ArchiveDamaged | None:
    """Return damage to the archive, if any, which explains an error that is not our bug."""
    if app.config is None:
        return None
    from migrator.archive import open_read_only

    try:
        with open_read_only(app.config.archive.path) as archive:
            archive.queries.self_check()
    except ArchiveDamaged as error:
        return error
    except Exception:  # noqa: BLE001 - the error to explain is shown all the same
        return None
    return None


def _tell(app: App, kind: str, text: str, code: int) -> int:
    """Print an error on stderr in the selected format, and return the exit code."""
    from migrator.cli.common import print_event
    from migrator.text import shown

    app.error = kind, text.removeprefix("Error: ")
    if app.log_format == "json":
        message = text.removeprefix("Error: ")
        print_event(app, "error", error=kind, exit=code, message=message)
    else:
        click.echo("\n".join(map(shown, text.split("\n"))), err=True)
    return code
