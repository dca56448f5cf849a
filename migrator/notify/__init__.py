"""Tell people what happened while nobody looked: each thing once, and only what changed."""

from migrator.notify.channels import Channels, Settings
from migrator.notify.messages import EVENTS, Outcome, Told, compose, example

__all__ = ["EVENTS", "Channels", "Outcome", "Settings", "Told", "compose", "example"]
