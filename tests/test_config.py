"""The configuration: what is read, what is refused, and how mistakes are told."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from migrator import config
from migrator.config import load_ticket_numbers
from migrator.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"
COMPLETE = """
[kayako]
url = "https://help.example.com/api/index.php"
api_key = "the-api-key"
secret_key = "the-secret-key"
"""
NOTHING: Mapping[str, str] = {}


def written(tmp_path: Path, text: str, name: str = "config.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def mistakes(path: Path, *, environ: Mapping[str, str] = NOTHING, need_source: bool = True) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(path, environ, need_source=need_source)
    return str(caught.value)


def mistake_in(tmp_path: Path, section: str, line: str) -> str:
    """Load a file whose only fault is ``line`` and return what is said of it."""
    text = f"[{section}]\n{line}\n"
    said = mistakes(written(tmp_path, text), need_source=False)
    first, only = said.split("\n")
    assert first.endswith("has a mistake:")
    return only.strip()


def test_an_address_and_two_keys_are_enough(tmp_path: Path) -> None:
    """All else has a default; paths are relative to the file, not to the process."""
    loaded = config.load(written(tmp_path, COMPLETE), NOTHING)
    assert loaded.kayako.url == "https://help.example.com/api/index.php"
    assert loaded.kayako.api_key.get_secret_value() == "the-api-key"
    assert loaded.kayako.concurrency == 8
    assert loaded.kayako.timeout == 60
    assert loaded.kayako.max_body == 1 << 30
    assert loaded.archive.path == tmp_path / "archive"
    assert (loaded.sync.margin, loaded.sync.full_pass_every) == (3600, 7 * 86_400)
    assert loaded.sync.max_deletions == 0.05
    assert loaded.tickiti.max_download == 25 << 20
    assert loaded.path == tmp_path / "config.toml"
    assert loaded.warnings == ()


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """A file with several mistakes is told every one of them, each with its key."""
    text = """
    [kayako]
    url = "help.example.com"
    concurrency = 0
    timeout = 60
    [archive]
    path = ""
    [tickiti]
    port = "8480"
    [tickiti.queues]
    "3" = { id = 12 }
    """
    lines = mistakes(written(tmp_path, text)).split("\n")
    keys = {line.split(":")[0].strip() for line in lines[1:]}
    assert keys == {
        "kayako.url",
        "kayako.concurrency",
        "kayako.timeout",
        "kayako.api_key",
        "kayako.secret_key",
        "archive.path",
        "tickiti.port",
        "tickiti.queues.3.name",
    }
    assert "has 8 mistakes" in lines[0]


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        ("kayako", "concurrency = 65", "kayako.concurrency: must be a whole number between 1 and"),
        ("kayako", "concurrency = true", "kayako.concurrency: must be a whole number"),
        ("kayako", "concurrency = 8.0", "kayako.concurrency: must be a whole number"),
        ("kayako", "requests_per_second = -1", "kayako.requests_per_second: must be a number"),
        ("kayako", "requests_per_second = nan", "kayako.requests_per_second: must be a number"),
        ("kayako", 'requests_per_second = "5"', "kayako.requests_per_second: must be a number"),
        ("kayako", 'url_form = "f"', "kayako.url_form: must be 'e' or 'standard'"),
        ("kayako", 'posts = "yes"', "kayako.posts: must be true or false"),
        ("kayako", 'timeout = "60"', "kayako.timeout: must be a duration"),
        ("kayako", 'timeout = "0s"', 'kayako.timeout: must be between "1ms" and'),
        ("kayako", 'timeout = "1 fortnight"', "kayako.timeout: must be a duration"),
        ("kayako", 'max_body = "0"', "kayako.max_body: must be a size"),
        ("kayako", "max_body = 0", "kayako.max_body: must be at least 1 byte"),
        ("kayako", 'max_body = "9000PiB"', "kayako.max_body: must be a size"),
        ("kayako", 'max_body = "9000000000TiB"', "kayako.max_body: must be at least 1 byte and"),
        ("kayako", 'ca_file = "none.pem"', "kayako.ca_file: names a file that does not exist"),
        ("kayako", "page_size = 1001", "kayako.page_size: must be a whole number between 1 and"),
        ("kayako", "attempts = 11", "kayako.attempts: must be a whole number between 1 and 10"),
        ("kayako", 'api_key = "a\\u001bb"', "kayako.api_key: must be one line without control"),
        ("sync", 'full_pass_every = "9999d"', 'sync.full_pass_every: must be between "0s" and'),
        ("sync", 'max_deletions = "101%"', 'sync.max_deletions: must be between "0%" and "100%"'),
        ("sync", "max_deletions = 5", "sync.max_deletions: must be a percentage"),
        ("tickiti", 'queues = "3"', "tickiti.queues: must be lines such as"),
        ("tickiti.queues", 'Sales = { id = 1, name = "S" }', "tickiti.queues: must have Kayako"),
        ("tickiti.queues", '"3" = 4', "tickiti.queues.3: must be a table of keys"),
        (
            "tickiti.queues",
            '"3" = { id = 1, name = "S" }\n"03" = { id = 2, name = "T" }',
            "tickiti.queues: names department 3 twice",
        ),
        ("kayako", "concurency = 8", "kayako.concurency: is not a key of this tool; did you mean"),
        ("kayako", 'margin = "1h"', "kayako.margin: is not a key of this tool; it belongs into"),
        ("archiv", 'path = "x"', "archiv: is not a key of this tool; did you mean archive?"),
        ("xyz", 'path = "x"', "xyz: is not a key of this tool"),
    ],
)
def test_a_wrong_value_is_told_with_its_key(
    tmp_path: Path, section: str, line: str, said: str
) -> None:
    """Every kind of wrong value is refused with its dotted key and what it must be."""
    assert mistake_in(tmp_path, section, line).startswith(said)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604_800), ("1.5 H", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are read with any of their units."""
    assert config.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("25MiB", 25 << 20), ("1GiB", 1 << 30), ("10MB", 10**7), ("512KiB", 1 << 19), (12, 12)],
)
def test_sizes(text: object, count: int) -> None:
    """Sizes are read with decimal and binary units, and as plain numbers of bytes."""
    assert config.size(text) == count


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://help.example.com", "https://help.example.com/api/index.php"),
        ("https://help.example.com/", "https://help.example.com/api/index.php"),
        ("http://example.com:81/support/api/", "http://example.com:81/support/api/index.php"),
        ("https://example.com/api/index.php?", "https://example.com/api/index.php"),
        ("https://example.com/api/index.php/", "https://example.com/api/index.php"),
        ("https://[::1]/api/index.php", "https://[::1]/api/index.php"),
    ],
)
def test_the_address_of_the_helpdesk_is_enough(tmp_path: Path, given: str, url: str) -> None:
    """What Kayako calls the API URL follows from the helpdesk's address."""
    path = written(tmp_path, f'[kayako]\nurl = "{given}"\n')
    assert config.load(path, NOTHING, need_source=False).kayako.url == url


@pytest.mark.parametrize(
    "given",
    [
        "ftp://example.com/api/index.php",
        "https:///api/index.php",
        "https://me:hunter2@example.com/",
        "https://example.com/api/index.php?apikey=hunter2",
        "https://example.com/#hunter2",
        "https://example.com:hunter2/",
        "https://exa mple.com/",
        "https://[::1/hunter2",
    ],
)
def test_an_odd_address_is_refused_and_not_repeated(tmp_path: Path, given: str) -> None:
    """Credentials and queries in the address are a mistake whose text does not show them."""
    said = mistake_in(tmp_path, "kayako", f'url = "{given}"')
    assert said.startswith("kayako.url: must")
    assert "hunter2" not in said


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """Both secrets may come from the environment; an empty variable is none."""
    path = written(tmp_path, COMPLETE)
    loaded = config.load(path, {"KAYAKO_API_KEY": "", "KAYAKO_SECRET_KEY": "from outside"})
    assert loaded.kayako.api_key.get_secret_value() == "the-api-key"
    assert loaded.kayako.secret_key.get_secret_value() == "from outside"


def test_the_web_servers_password_is_a_secret_like_the_keys(tmp_path: Path) -> None:
    """File or environment, both or neither, no colon in the name; never shown."""
    text = COMPLETE + 'http_user = "me"\nhttp_password = "from the file"\n'
    loaded = config.load(written(tmp_path, text), {"KAYAKO_HTTP_PASSWORD": "from outside"})
    assert loaded.kayako.http_user == "me"
    assert loaded.kayako.http_password.get_secret_value() == "from outside"
    assert "from outside" not in repr(loaded)
    outside = {"KAYAKO_HTTP_USER": "you", "KAYAKO_HTTP_PASSWORD": "from outside"}
    assert config.load(written(tmp_path, COMPLETE), outside).kayako.http_user == "you"
    alone = mistakes(written(tmp_path, COMPLETE + 'http_user = "me"\n'))
    assert "set both or neither" in alone
    assert "colon" in mistakes(written(tmp_path, text.replace('"me"', '"me:hunter2"')))


def test_a_missing_key_names_both_ways(tmp_path: Path) -> None:
    """An empty key in the file is a missing one, and the text names the variable."""
    said = mistakes(written(tmp_path, COMPLETE.replace("the-secret-key", "")))
    assert "kayako.secret_key: is missing" in said
    assert "KAYAKO_SECRET_KEY" in said
    assert "kayako.api_key" not in said
    assert "kayako.url: is missing" in mistakes(written(tmp_path, ""))


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """Neither an error nor the loaded configuration shows the value of a key."""
    loaded = config.load(written(tmp_path, COMPLETE), NOTHING)
    assert "the-secret-key" not in repr(loaded)
    bad = COMPLETE.replace('"the-secret-key"', '["hunter2"]') + 'extra = "hunter2"\n'
    said = mistakes(written(tmp_path, bad))
    assert "kayako.secret_key" in said
    assert "hunter2" not in said


def test_a_section_by_itself_keeps_its_secrets() -> None:
    """Also the errors of pydantic, should one ever be printed, do not repeat what was given."""
    with pytest.raises(ValidationError) as caught:
        config.KayakoConfig.model_validate({"secret_key": ["hunter2"]})
    assert "hunter2" not in str(caught.value)


def test_without_a_source_the_keys_may_be_absent(tmp_path: Path) -> None:
    """A command that needs no source runs with an empty file, but not with a wrong one."""
    loaded = config.load(written(tmp_path, ""), NOTHING, need_source=False)
    assert loaded.kayako.url == ""
    said = mistakes(written(tmp_path, "kayako = 3"), need_source=False)
    assert "kayako: must be a table of keys, written as [kayako]" in said


def test_a_missing_file_names_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file the text says how to get one; the default is in the working directory."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="migrator init"):
        config.load(None, NOTHING)
    written(tmp_path, COMPLETE)
    assert config.load(None, NOTHING).path == tmp_path / "config.toml"


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    """A directory, broken TOML and wrong encoding are mistakes of the user, not of ours."""
    assert "Cannot read" in mistakes(tmp_path)
    assert "line 2" in mistakes(written(tmp_path, "[kayako]\nurl = hunter2\n"))
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# \xe4\n")
    assert "not UTF-8" in mistakes(latin)


def test_a_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    """A file saved by a Windows editor is read."""
    path = written(tmp_path, "\ufeff" + COMPLETE)
    assert config.load(path, NOTHING).kayako.concurrency == 8


def test_keys_that_others_can_read_are_warned_of(tmp_path: Path) -> None:
    """Loose permissions are a warning, and only when the file holds a key."""
    path = written(tmp_path, COMPLETE)
    path.chmod(0o640)
    (warning,) = config.load(path, NOTHING).warnings
    assert "chmod 600" in warning
    bare = written(tmp_path, "", "bare.toml")
    bare.chmod(0o644)
    assert config.load(bare, NOTHING, need_source=False).warnings == ()


def test_files_are_found_beside_the_configuration(tmp_path: Path) -> None:
    """ca_file and ticket_numbers are relative to the file and must exist."""
    (tmp_path / "ca.pem").touch()
    (tmp_path / "map.csv").touch()
    text = COMPLETE + 'ca_file = "ca.pem"\n[tickiti]\nticket_numbers = "map.csv"\n'
    loaded = config.load(written(tmp_path, text), NOTHING)
    assert loaded.kayako.ca_file == tmp_path / "ca.pem"
    assert loaded.tickiti.ticket_numbers == tmp_path / "map.csv"


def test_queues_are_keyed_by_number(tmp_path: Path) -> None:
    """TOML's text keys become department ids."""
    text = '[tickiti.queues]\n"3" = { id = 12, name = " Sales " }\n'
    queues = config.load(written(tmp_path, text), NOTHING, need_source=False).tickiti.queues
    assert {key: (queue.id, queue.name) for key, queue in queues.items()} == {3: (12, "Sales")}


def test_the_example_shows_every_key_with_its_default(tmp_path: Path) -> None:
    """config.example.toml has all keys in order, with the defaults that the tool really uses."""
    text = EXAMPLE.read_text(encoding="utf-8")
    uncommented = re.sub(r'^# ((?:\w+|"3") = .*)$', r"\1", text, flags=re.MULTILINE)
    tables = tomllib.loads(uncommented)
    models: dict[str, type[BaseModel]] = {
        "kayako": config.KayakoConfig,
        "archive": config.ArchiveConfig,
        "s3": config.S3Config,
        "sync": config.SyncConfig,
        "tickiti": config.TickitiConfig,
        "deliver": config.DeliverConfig,
        "notify": config.NotifyConfig,
        "metrics": config.MetricsConfig,
    }
    assert list(tables) == list(models)
    for section, model in models.items():
        assert list(tables[section]) == list(model.model_fields)
    keys = {"KAYAKO_API_KEY": "a", "KAYAKO_SECRET_KEY": "s"}
    shown = config.load(EXAMPLE, keys)
    bare = config.load(written(tmp_path, COMPLETE), keys)
    assert shown.kayako == bare.kayako
    assert shown.sync == bare.sync
    assert shown.tickiti == bare.tickiti
    assert shown.notify == bare.notify
    assert shown.archive.path.name == bare.archive.path.name


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('token = "short"', "16 to 256 letters"),
        ('token = "with blanks and ümlauts"', "16 to 256 letters"),
        ('textfile = "metrics.txt"', "must end with .prom"),
        ("serve = 1", "must be true or false"),
        ("port = 9", "is not a key of this tool; it belongs into [tickiti]"),
    ],
)
def test_mistakes_of_metrics(tmp_path: Path, line: str, why: str) -> None:
    """Each says what is allowed, and none repeats a token."""
    with pytest.raises(ConfigError) as caught:
        config.load(written(tmp_path, f"[metrics]\n{line}\n"), {}, need_source=False)
    assert why in str(caught.value)
    assert "ümlauts" not in str(caught.value)


def test_a_token_switches_metrics_on(tmp_path: Path) -> None:
    """In the file or in the environment, which wins; also where there is no file."""
    secret = "0123456789abcdef"
    path = written(tmp_path, f'[metrics]\ntoken = "{secret}"\n')
    assert config.load(path, {}, need_source=False).metrics.served
    environ = {"MIGRATOR_METRICS_TOKEN": secret[::-1]}
    for found in (
        config.load(path, environ, need_source=False).metrics,
        config.metrics_from_environment(environ),
    ):
        assert found.token.get_secret_value() == secret[::-1]
        assert found.served
    assert not config.metrics_from_environment({}).served
    with pytest.raises(ConfigError, match="MIGRATOR_METRICS_TOKEN: must be 16"):
        config.metrics_from_environment({"MIGRATOR_METRICS_TOKEN": "short"})


def numbers(tmp_path: Path, text: str) -> Path:
    return written(tmp_path, text, "map.csv")


def test_ticket_numbers_are_read(tmp_path: Path) -> None:
    """Ids map to numbers of any text; spaces, empty lines and a byte order mark do not matter."""
    text = "\ufeffkayako_ticket_id,ticket_number\n1, 100200\n\n2,ABC-7\r\n"
    assert load_ticket_numbers(numbers(tmp_path, text)) == {1: "100200", 2: "ABC-7"}


def test_mistakes_of_ticket_numbers_are_told_with_their_lines(tmp_path: Path) -> None:
    """Every bad line is told, at most twenty of them."""
    text = "kayako_ticket_id,ticket_number\n1,10\nx,11\n3\n1,12\n5,10\n6,\n7,a\x1bb\n8,9,9\n"
    with pytest.raises(ConfigError) as caught:
        load_ticket_numbers(numbers(tmp_path, text))
    lines = [line.strip().partition(":")[0] for line in str(caught.value).split("\n")[1:]]
    assert lines == [f"line {n}" for n in (3, 4, 5, 6, 7, 8, 9)]
    many = "kayako_ticket_id,ticket_number\n" + "x,1\n" * 30
    with pytest.raises(ConfigError, match="and 10 more"):
        load_ticket_numbers(numbers(tmp_path, many))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffkayako_ticket_id,ticket_number\r\n\r\n1,10\r\n2,20\r\n",
        'kayako_ticket_id;ticket_number;doubt;subject\r\n1;10;;"a;b"\r\n;;;\r\n2;20;;c,d\r\n',
        '\ufeff"kayako_ticket_id"\t"ticket_number"\r\n"1"\t"10"\r\n"2"\t"20"\r\n',
        "Kayako_Ticket_ID,Ticket_Number\n#1,#10\n2 , 20\n",
    ],
)
def test_ticket_numbers_as_spreadsheets_save_them(tmp_path: Path, text: str) -> None:
    """Semicolons, tabs, marks of the encoding, blank lines and # make no difference."""
    assert load_ticket_numbers(numbers(tmp_path, text)) == {1: "10", 2: "20"}


@pytest.mark.parametrize("text", ["", "ticket_number,kayako_ticket_id\n", "1,2\n"])
def test_ticket_numbers_need_their_header(tmp_path: Path, text: str) -> None:
    """Without the header nobody knows which column is which."""
    with pytest.raises(ConfigError, match="first line"):
        load_ticket_numbers(numbers(tmp_path, text))


def test_a_file_of_ticket_numbers_that_is_none(tmp_path: Path) -> None:
    """A missing file, broken quotes and wrong encoding are told as such."""
    with pytest.raises(ConfigError, match="Cannot read"):
        load_ticket_numbers(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="not a CSV file"):
        load_ticket_numbers(numbers(tmp_path, 'kayako_ticket_id,"x" y\n'))
    (tmp_path / "latin.csv").write_bytes(b"\xe4\n")
    with pytest.raises(ConfigError, match="not a CSV file"):
        load_ticket_numbers(tmp_path / "latin.csv")


def test_a_home_that_is_unknown_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``~`` is never taken for another place: without a home the path must be written in full."""
    assert "home that is unknown" in mistake_in(tmp_path, "archive", 'path = "~nobody-at-all/x"')
    for home in ("", "relative", str(tmp_path / "missing")):
        monkeypatch.setenv("HOME", home)
        said = mistake_in(tmp_path, "archive", 'path = "~/x"')
        assert said == "archive.path: begins with ~, a home that is unknown or not there"
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = config.load(written(tmp_path, '[archive]\npath = "~/x"'), NOTHING, need_source=False)
    assert loaded.archive.path == tmp_path / "x"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as for a user without a name
    assert "home that is unknown" in mistake_in(tmp_path, "tickiti", 'audit_log = "~/x"')


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "must be a text"),
        (r"a\u0000b", "control characters"),
        ("x" * 300, "File name too long"),
        ("x/" * 3000, "File name too long"),
        ("loop", "symbolic links"),
        ("loop/x", "symbolic links"),
        ("nowhere", "link to nowhere"),
        ("config.toml/x", "Not a directory"),
    ],
)
def test_a_path_at_which_no_archive_can_be(tmp_path: Path, value: str, words: str) -> None:
    """It is told before anything else, whatever is wrong with it."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing")
    assert words in mistake_in(tmp_path, "archive", f'path = "{value}"')


@pytest.mark.parametrize("value", ["x" * 300, "loop", ".", "pipe", "/dev/zero"])
def test_a_path_at_which_no_file_is(tmp_path: Path, value: str) -> None:
    """Nothing waits for a pipe or reads a device."""
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for section, key in (("kayako", "ca_file"), ("tickiti", "ticket_numbers")):
        assert mistake_in(tmp_path, section, f'{key} = "{value}"').startswith(f"{section}.{key}: ")


@pytest.mark.parametrize(
    "text",
    [
        b"a = " + b"[" * 100_000,
        b"a = " + b"9" * 5000,
        b"a = 1\n" * 400_000,
        b"a = 2021-02-31",
        "a = 1".encode("utf-16"),
        "a = 1".encode("utf-16-be"),
        b"\xff\xfe",
        b"\x00" * 100,
    ],
    ids=range(8),
)
def test_a_file_that_is_no_configuration_is_told(tmp_path: Path, text: bytes) -> None:
    """Whatever its bytes, the answer is one sentence that names the file."""
    path = tmp_path / "config.toml"
    path.write_bytes(text)
    assert mistakes(path).startswith(str(path))


@pytest.mark.parametrize("place", ["folder", "pipe", "loop", "nowhere", "/dev/zero", "x" * 300])
def test_a_configuration_that_is_no_file_is_told(tmp_path: Path, place: str) -> None:
    """Nothing waits for a pipe, and no device is read without end."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing")
    assert str(tmp_path / place) in mistakes(tmp_path / place)
