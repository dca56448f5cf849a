"""Chaos tests that an admin can run before the migration."""
