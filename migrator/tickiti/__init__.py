"""The Tickiti-compatible endpoint: the archive, read as if it were Tickiti."""

from migrator.tickiti.app import build_app
from migrator.tickiti.download import EndpointSettings
from migrator.tickiti.server import BackgroundServer, serve

__all__ = ["BackgroundServer", "EndpointSettings", "build_app", "serve"]
