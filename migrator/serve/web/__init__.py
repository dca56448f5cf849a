"""Staff pages over the archive: search, threads, files and how far the migration is."""

from migrator.serve.web.app import build_pages, join
from migrator.serve.web.session import Board, Sessions

__all__ = ["Board", "Sessions", "build_pages", "join"]
