"""The Tickiti-compatible endpoint: the archive, read as if it were Tickiti."""

from migrator.tickiti.app import build_app
from migrator.tickiti.audit import Audited, AuditLog
from migrator.tickiti.protocol import Limits, trusted_proxies
from migrator.tickiti.server import BackgroundServer, ServerOptions, serve, serve_on
from migrator.tickiti.settings import EndpointSettings
from migrator.tickiti.tls import server_context
from migrator.tickiti.workers import serve_workers

__all__ = [
    "AuditLog",
    "Audited",
    "BackgroundServer",
    "EndpointSettings",
    "Limits",
    "ServerOptions",
    "build_app",
    "serve",
    "serve_on",
    "serve_workers",
    "server_context",
    "trusted_proxies",
]
