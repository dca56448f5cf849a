"""How Hypothesis searches: the same examples every time, more of them where time is given."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("default", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=2000, deadline=None, print_blob=True)
"""Random and long: ``python -m pytest -m "" --hypothesis-profile search``."""
settings.load_profile("default")
