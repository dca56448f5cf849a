"""Serving an archive: each face is a folder of this room with one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from migrator.archive import Archive
    from migrator.serve.catalog import EndpointSettings

FACES: Final = (
    "tickiti",
    "web",  # the last one answers at every address that no other one has
)


class Face(Protocol):
    """The interface of a face, in its package under this name.

    It is created once, before processes fork, and creates one application in each of them.
    """

    paths: tuple[str, ...]
    """Addresses of this face; one that ends with a slash includes all below it."""

    def app(self, archive: Archive, settings: EndpointSettings) -> ASGIApp:
        """Return the application over an archive that no other face uses."""


def load_faces(*more: Face) -> list[Face]:
    """Return every face, and before them those that only some servers have."""
    return [*more] + [import_module(f"{__name__}.{name}").Face() for name in FACES]


def join_faces(
    faces: Sequence[Face], open_archive: Callable[[], Archive], settings: EndpointSettings
) -> ASGIApp:
    """Return one application for all faces, each with an archive that it opens for itself.

    So a page that searches a huge archive for seconds does not delay calls of the API.
    """
    apps = [(face.paths, face.app(open_archive(), settings)) for face in faces]
    rest = apps[-1][1]

    async def joined(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        for paths, app in apps[:-1]:
            if any(path == each or (each[-1] == "/" and path.startswith(each)) for each in paths):
                await app(scope, receive, send)
                return
        await rest(scope, receive, send)

    return joined
