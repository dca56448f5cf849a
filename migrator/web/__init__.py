"""Staff pages over the archive: search, threads, files and how far the migration is."""

from migrator.web.app import build_pages, join
from migrator.web.session import Board, Sessions

__all__ = ["Board", "Sessions", "build_pages", "join"]
