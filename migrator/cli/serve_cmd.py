"""``migrator serve``: the archive as Tickiti's API, and as pages for the staff."""

from __future__ import annotations

import click

from migrator.cli._common import App, note, open_beside, pass_app


@click.command()
@click.option("--host", help="Address to listen on. [tickiti.host of the configuration]")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port to listen on; 0 takes any free one. [tickiti.port of the configuration]",
)
@pass_app
def serve(app: App, host: str | None, port: int | None) -> None:
    """Serve the archive as Tickiti's API and as staff pages, until Ctrl-C.

    A run may fill the archive at the same time. Open the address in a browser and sign in with
    a token to search tickets, read threads and download files of any size.

    \b
    Example:
      migrator token create --name reader --ability tickets:read
      migrator serve --port 8480
    """
    from migrator.tickiti import EndpointSettings, build_app
    from migrator.tickiti import serve as serve_app
    from migrator.web import build_pages, join

    config, archive = open_beside(app)
    tickiti = config.tickiti
    settings = EndpointSettings(
        max_download=tickiti.max_download, serve_deleted=tickiti.serve_deleted
    )
    with archive:
        if not any(token.revoked_at is None for token in archive.access.tokens()):
            note("There is no token yet; `migrator token create` makes one.", level="warning")
        serve_app(
            join(build_app(archive, settings), build_pages(archive, settings)),
            host=host or tickiti.host,
            port=tickiti.port if port is None else port,
            on_ready=lambda url: note(f"Serving {archive.path} at {url} until Ctrl-C."),
        )
