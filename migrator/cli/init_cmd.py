"""``migrator init``: a configuration to fill in."""

from __future__ import annotations

from pathlib import Path

import click

import migrator
from migrator.cli.common import App, note, pass_app
from migrator.errors import ConfigError

EXAMPLE = "config.example.toml"


@click.command()
@pass_app
def init(app: App) -> None:
    """Write a commented config.toml to fill in; never overwrites one.

    \b
    Example:
      migrator init
      migrator -c /etc/migrator.toml init
    """
    from migrator.blobs import durable
    from migrator.config import DEFAULT_PATH

    path, text = app.config_path or DEFAULT_PATH, example()
    try:
        durable.write(path, [text.encode()], replace=False)
    except FileExistsError:
        raise ConfigError(
            f"{path} already exists and stays as it is. "
            "Move it away, or name another with -c/--config."
        ) from None
    except OSError as exc:
        raise ConfigError(f"Cannot write {path}: {exc.strerror}.") from exc
    click.echo(str(path))
    note("Fill in the address and the keys, then try them: migrator doctor")


def example() -> str:
    """Return the text of the example configuration, from the package or the source tree."""
    package = Path(migrator.__file__).parent
    places = (package / EXAMPLE, package.parent / EXAMPLE)
    return next(place for place in places if place.is_file()).read_text(encoding="utf-8")
