"""Puts the archive's files into a live Tickiti: each exactly once, read back, mailing nobody."""
