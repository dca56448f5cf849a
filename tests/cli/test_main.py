"""The frame of the command line: help, lazy commands, and errors that become exit codes."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from migrator import cli as frame
from migrator import errors
from migrator.cli import COMMANDS, invoke
from tests.cli.conftest import Cli

ROOT = Path(frame.__file__).parent.parent.parent


def migrator(*argv: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "migrator", *argv],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the command ``init`` end with an error."""

    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr("migrator.cli.init_cmd.init", command)


def test_help_lists_every_command_and_exit_code(cli: Cli) -> None:
    """`--help` names all commands with their short help, and the exit codes."""
    code, out, err = cli("--help")
    assert (code, err) == (0, "")
    width = max(map(len, COMMANDS))
    for name, told in COMMANDS.items():
        assert f"  {name:<{width}}  {told}" in out
    for number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 130):
        assert f"  {number}  " in out


def test_help_imports_nothing_heavy() -> None:
    """`--help` answers at once: no HTTP, XML, SQLite or pydantic is imported for it."""
    script = (
        "import sys; from migrator.cli import invoke; invoke(['--help']); "
        "print(*sorted(sys.modules), sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    heavy = {"httpx", "lxml", "sqlite_utils", "sqlite3", "pydantic", "starlette", "tqdm", "asyncio"}
    assert "migrator" in loaded
    assert not heavy & loaded


def test_every_command_of_the_table_exists_and_has_help(cli: Cli) -> None:
    """The table names real commands, and each of them explains itself."""
    for name in COMMANDS:
        code, out, _ = cli(name, "--help")
        assert code == 0
        assert f"migrator {name}" in out


def test_the_version_is_told(cli: Cli) -> None:
    """`--version` goes to stdout."""
    assert cli("--version")[:2] == (0, "migrator, version 0.1.0\n")


def test_a_mistyped_command_is_a_usage_error(cli: Cli) -> None:
    """An unknown command exits with 2 and suggests the nearest one, whatever else it holds."""
    code, out, err = cli("rum")
    assert (code, out) == (2, "")
    assert "no command 'rum'. Did you mean run?" in err
    assert cli("zzz\x1b[2J")[0] == 2
    assert "Did you mean" not in cli("zzz")[2]


def test_a_mistyped_option_is_a_usage_error(cli: Cli) -> None:
    """An unknown option exits with 2, before and after the command."""
    for argv in (["--nope"], ["init", "--nope"], ["--", "--nope"]):
        code, out, err = cli(*argv)
        assert (code, out) == (2, "")
        assert "Error: No such option" in err
        assert "--help`" in err


def test_an_option_of_the_program_behind_the_command(cli: Cli) -> None:
    """Where it goes is said, with the command that was meant."""
    assert cli("run", "-c", "x.toml").refused("before the command: `migrator -c … run`")
    assert cli("token", "list", "--config=x").refused("`migrator --config … token list`")


def test_nothing_asked_shows_the_help(cli: Cli) -> None:
    """Without a command the help is shown on stderr, with exit code 2."""
    for argv in ([], ["token"]):
        code, out, err = cli(*argv)
        assert (code, out) == (2, "")
        assert err.startswith("Usage: migrator")


@pytest.mark.parametrize(
    "error",
    [
        kind("what happened")
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.MigratorError)
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_becomes_its_exit_code(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: errors.MigratorError
) -> None:
    """Each class of the tree ends as its text on stderr and its own code."""
    failing(monkeypatch, error)
    code, out, err = cli("init")
    assert code == error.exit_code
    assert out == ""
    assert err == ("what happened\n" if code == 130 else "Error: what happened\n")


def test_errors_cannot_take_over_the_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line ends of an error stay, control characters are escaped."""
    failing(monkeypatch, errors.ConfigError("one\n  two\x1b[2J\u202e"))
    assert cli("init")[2] == "Error: one\n  two\\x1b[2J\\u202e\n"


def test_last_words_as_json(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --log-format json the error is one JSON object on stderr."""
    failing(monkeypatch, errors.ArchiveBusy("held by process 7"))
    code, _, err = cli("--log-format", "json", "init")
    words = json.loads(err)
    assert words.pop("ts").endswith("Z")
    assert words == {
        "run": None,
        "event": "error",
        "error": "ArchiveBusy",
        "exit": code,
        "message": "held by process 7",
    }


@pytest.mark.parametrize("argv", [["nope"], ["init", "--nope"], []])
def test_mistakes_of_usage_as_json(cli: Cli, argv: list[str]) -> None:
    """With --log-format json a mistyped command or option is one JSON object, too."""
    code, out, err = cli("--log-format", "json", *argv)
    assert (code, out) == (2, "")
    assert json.loads(err)["exit"] == 2


def test_what_is_logged_is_told_like_the_rest(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings of any logger come as text or JSON, harmless, without keys and tracebacks."""

    @click.command()
    def command() -> None:
        log = logging.getLogger("some.library")
        log.info("not worth a line")
        try:
            raise ValueError("hunter2")
        except ValueError:
            log.exception("two\nlines\x1b[2J with envKey")

    monkeypatch.setattr("migrator.cli.init_cmd.init", command)
    monkeypatch.setenv("KAYAKO_API_KEY", "envKey")
    assert cli("init")[2] == "Error: two\nlines\\x1b[2J with ***\n"
    told = json.loads(cli("--log-format", "json", "init")[2])
    assert (told["level"], told["text"]) == ("error", "two\nlines\x1b[2J with ***")
    monkeypatch.setenv("MIGRATOR_DEBUG", "1")
    assert "ValueError: hunter2" in cli("init")[2]


def test_a_log_that_nobody_reads_ends_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server goes on when the reader of its stderr has gone."""

    @click.command()
    def command() -> None:
        monkeypatch.setattr("migrator.cli.common.click.echo", gone)
        logging.getLogger("migrator").warning("nobody listens")

    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("migrator.cli.init_cmd.init", command)
    assert cli("init")[0] == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()], ids=repr)
def test_an_interrupt_is_130(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Ctrl-C anywhere ends with 130 and no traceback."""
    failing(monkeypatch, error)
    assert cli("init") == (130, "", "Interrupted.\n")


def test_a_full_disk_under_stdout_is_no_bug(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC from wherever it comes exits with 7."""
    failing(monkeypatch, OSError(28, "No space left on device"))
    code, _, err = cli("init")
    assert code == 7
    assert "disk is full" in err


def test_a_bug_is_1_and_keeps_quiet(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other error tells its kind and place, and how to see more, but not its text."""
    failing(monkeypatch, ValueError("hunter2"))
    code, out, err = cli("init")
    assert (code, out) == (1, "")
    assert "ValueError in" in err
    assert "MIGRATOR_DEBUG=1" in err
    assert "hunter2" not in err
    assert "Traceback" not in err


def test_the_traceback_of_a_bug_shows_no_secret(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """MIGRATOR_DEBUG=1 prints a traceback without the secrets of file and environment."""

    @click.command()
    @click.pass_obj
    def command(app: object) -> None:
        app.load()  # type: ignore[attr-defined]
        raise ValueError("key fileSecret/1 and envKey&signature=abc and webPass")

    monkeypatch.setattr("migrator.cli.init_cmd.init", command)
    (tmp_path / "config.toml").write_text(
        '[kayako]\nurl = "https://h"\napi_key = "k"\nsecret_key = "fileSecret/1"\n'
    )
    (tmp_path / "config.toml").chmod(0o600)
    monkeypatch.setenv("KAYAKO_API_KEY", "envKey")
    monkeypatch.setenv("KAYAKO_HTTP_USER", "web")
    monkeypatch.setenv("KAYAKO_HTTP_PASSWORD", "webPass")
    monkeypatch.setenv("MIGRATOR_DEBUG", "1")
    code, _, err = cli("init")
    assert code == 1
    assert "Traceback" in err
    assert "ValueError: key ***" in err
    assert not [word for word in ("fileSecret", "envKey", "abc", "webPass") if word in err]


def test_the_exit_code_reaches_the_process(tmp_path: Path) -> None:
    """`python -m migrator` leaves with the code of the command."""
    assert migrator("status", cwd=tmp_path).returncode == 2
    assert migrator("--version").returncode == 0


def test_a_closed_pipe_is_quiet(home: Path) -> None:
    """`migrator report | head` ends without a word."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "migrator", "report"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == b""


def test_a_terminal_of_few_characters_is_enough(home: Path) -> None:
    """Where stdout cannot show a name it is escaped, not a crash."""
    (home / "config.toml").write_text(
        '[tickiti.queues]\n"1" = { id = 2, name = "日本" }\n', "utf-8"
    )
    done = migrator("queue", "list", cwd=home, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0
    assert "\\u65e5\\u672c" in done.stdout


def test_the_configuration_may_come_from_the_environment(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MIGRATOR_CONFIG and --config name another file; the option wins."""
    (home / "other.toml").write_text('[archive]\npath = "elsewhere"\n')
    monkeypatch.setenv("MIGRATOR_CONFIG", "other.toml")
    assert "elsewhere" in cli("status")[2]
    assert cli("--config", "config.toml", "status")[0] == 0


def test_warnings_of_the_configuration_are_told(cli: Cli, home: Path) -> None:
    """A file with keys that others can read makes a warning on stderr, not on stdout."""
    config = home / "config.toml"
    config.write_text('[kayako]\napi_key = "k"\n')
    config.chmod(0o644)
    code, out, err = cli("status")
    assert code == 0
    assert err.startswith("Warning: ")
    assert "Warning" not in out
    notice = json.loads(cli("--log-format", "json", "status")[2])
    assert (notice["event"], notice["level"]) == ("notice", "warning")


def test_invoke_reads_the_command_line_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments the process's own are used."""
    monkeypatch.setattr(sys, "argv", ["migrator", "--nope"])
    assert invoke() == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        {"TZ": "Nowhere/At all"},
        {"LANG": "xx_YY.nonsense", "LC_ALL": "xx_YY.nonsense"},
        {"COLUMNS": "0", "LINES": "0"},
        {"COLUMNS": "x"},
        {"COLUMNS": "-5"},
        {"NO_COLOR": "1", "TERM": ""},
        {"TMPDIR": "/nonexistent"},
        {"HOME": "", "USER": "", "LOGNAME": ""},
        {"PATH": ""},
        {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_an_odd_environment_changes_nothing(home: Path, env: dict[str, str]) -> None:
    """Commands end as ever, whatever the variables of the process hold."""
    for argv, code in ((["status"], 0), (["report"], 3), (["verify"], 0), (["--help"], 0)):
        done = migrator(*argv, cwd=home, **env)
        assert (done.returncode, "bug" in done.stderr) == (code, False), done.stderr


@pytest.mark.skipif(not str(ROOT).isascii(), reason="Python itself finds no such checkout then")
def test_a_locale_without_all_characters_names_every_file(home: Path) -> None:
    """Paths in the configuration and names in a handover are UTF-8, whatever the locale is."""
    (home / "config.toml").write_text('[archive]\npath = "Übergabe"\n', encoding="utf-8")
    (home / "archive").rename(home / "Übergabe")
    poor = {"LC_ALL": "C", "LANG": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert "/Übergabe\n" in migrator("status", cwd=home, **poor).stdout
    done = migrator("handover", "--tree", "фото", cwd=home, **poor)
    assert done.returncode == 3, done.stderr
    assert (home / "фото" / "README.md").is_file()


@pytest.mark.parametrize("argv", ["status", "init", "plan --output x", "sandbox"])
def test_a_directory_that_is_gone_is_told(tmp_path: Path, argv: str) -> None:
    """Where the process stands no longer exists: exit 2, in words."""
    gone = tmp_path / "gone"
    gone.mkdir()
    python = shlex.quote(sys.executable)
    line = f"cd {gone}; rmdir {gone}; exec {python} -P -m migrator {argv} --port x"
    line = line.removesuffix(" --port x") if argv != "sandbox" else line
    done = subprocess.run(
        ["bash", "-c", line],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("lacking", ["sqlite3", "_ssl", "zlib", "lxml", "httpx", "pydantic"])
def test_a_python_that_lacks_a_part_is_told(home: Path, tmp_path: Path, lacking: str) -> None:
    """Built without SQLite, or installed without a library: exit 2 and its name, not a bug."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(f"import sys\nsys.modules[{lacking!r}] = None\n")
    done = migrator("doctor", cwd=home, PYTHONPATH=f"{hook}{os.pathsep}{ROOT}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
