"""Serving an archive: what every face of it needs."""
