"""Staff pages over the archive: search, threads, files and how far the migration is."""

from migrator.web.app import build_pages, join

__all__ = ["build_pages", "join"]
