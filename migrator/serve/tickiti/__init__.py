"""The Tickiti-compatible endpoint: the archive, read as if it were Tickiti."""

from starlette.types import ASGIApp

from migrator.archive import Archive
from migrator.serve.catalog import EndpointSettings
from migrator.serve.tickiti.app import build_app

__all__ = ["Face", "build_app"]


class Face:
    """This face, as :mod:`migrator.serve.faces` knows it."""

    paths = ("/api", "/api/", "/openapi.json", "/healthz", "/readyz")

    def app(self, archive: Archive, settings: EndpointSettings) -> ASGIApp:
        """Return the application over an archive."""
        return build_app(archive, settings)
