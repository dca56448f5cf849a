"""Staff pages over the archive: search, threads, files and progress of the migration."""

from starlette.types import ASGIApp

from migrator.archive import Archive
from migrator.serve.catalog import EndpointSettings
from migrator.serve.web.app import build_pages
from migrator.serve.web.sessions import Board, Sessions

__all__ = ["Face", "build_pages"]


class Face:
    """This face, as :mod:`migrator.serve` knows it; its processes have the same sessions."""

    paths = ("/",)

    def __init__(self) -> None:
        self._sessions = Sessions(board=Board())

    def app(self, archive: Archive, settings: EndpointSettings) -> ASGIApp:
        """Return the application over an archive."""
        return build_pages(archive, settings, self._sessions)
