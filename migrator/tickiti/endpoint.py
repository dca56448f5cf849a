"""What all authenticated endpoints do first: admit the token and read the body."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from starlette.types import Receive, Scope, Send

from migrator.archive.records import Token
from migrator.tickiti.auth import Doorkeeper
from migrator.tickiti.body import read_object
from migrator.tickiti.stream import send_json

Body = Mapping[str, object]


class Endpoint(ABC):
    """An endpoint as a bare ASGI application behind a route.

    ``ability`` is what a token must hold; ``staff`` says that its owner must be of the staff.
    """

    ability: ClassVar[str] = "tickets:read"
    staff: ClassVar[bool] = True

    def __init__(self, door: Doorkeeper) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises Refusal for every answer but 200."""
        token = self._door.admit(scope, self.ability, staff=self.staff)
        body = await read_object(scope, receive)
        await self.answer(token, body, receive, send)

    @abstractmethod
    async def answer(self, token: Token, body: Body, receive: Receive, send: Send, /) -> None:
        """Check the body, look up, and send the answer."""


class Lookup(Endpoint):
    """An endpoint whose answers are short enough to be made as a whole."""

    async def answer(self, token: Token, body: Body, _receive: Receive, send: Send, /) -> None:
        """Send what :meth:`found` returns."""
        await send_json(send, self.found(token, body))

    @abstractmethod
    def found(self, token: Token, body: Body, /) -> object:
        """Check the body, look up, and return the whole document."""
