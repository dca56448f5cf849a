"""The Tickiti-compatible endpoint: the archive, read as if it were Tickiti."""

from migrator.tickiti.app import build_app
from migrator.tickiti.server import BackgroundServer, serve
from migrator.tickiti.settings import EndpointSettings

__all__ = ["BackgroundServer", "EndpointSettings", "build_app", "serve"]
