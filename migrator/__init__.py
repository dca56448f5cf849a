"""migrator: leave Kayako Classic for Tickiti without losing a single file."""

__version__ = "0.1.0"
