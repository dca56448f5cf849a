"""The Tickiti-compatible endpoint: the archive, read as if it were Tickiti."""

from migrator.serve.audit_log import Audited, AuditLog
from migrator.serve.server import (
    BackgroundServer,
    Limits,
    ServerOptions,
    serve,
    serve_on,
    server_context,
    trusted_proxies,
)
from migrator.serve.settings import EndpointSettings
from migrator.serve.tickiti.app import build_app
from migrator.serve.workers import serve_workers

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
