"""Base64 decoded while it arrives."""

from __future__ import annotations

import pybase64

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_OTHERS = bytes(range(256)).translate(None, _ALPHABET)
_WHITE_SPACE = b" \t\r\n"
_LAST = 8
"""So many characters are looked at one by one where a piece does not end in the alphabet."""


class Base64Decoder:
    """Decodes one base64 text from any pieces, strictly while it can.

    White space is allowed anywhere. At the first thing that strict base64 does not allow
    (a foreign character, padding that is wrong or not at the end), decoding goes on by the rule
    of PHP's ``base64_decode``: every character outside the alphabet is skipped, ``=`` too, and a
    dangling single character is dropped. ``lenient`` tells that this happened; it is final after
    :meth:`close`. Both rules agree on all that was decoded before, so nothing is taken back.
    ``dangling`` tells of that single character: no encoder writes six bits that are no byte, so
    characters were lost, or came in from elsewhere, and shifted all that follows them.
    """

    def __init__(self) -> None:
        self.lenient = False
        self.dangling = False
        self.empty = True
        """Whether nothing but white space has come."""
        self._carry = b""  # the characters of an unfinished group of four: alphabet only
        self._padding = 0

    def feed(self, data: bytes | memoryview) -> bytes:
        """Return the bytes that the next piece completes."""
        if self.lenient or self._padding:
            return self._feed_carefully(bytes(data))
        # The usual case, at the speed of memory: unbroken characters of the alphabet.
        text = self._carry + data
        whole = len(text) & ~3
        unbroken = not text[max(whole - 1, 0) :].translate(None, _ALPHABET)
        if not unbroken:  # padding, mostly
            whole = max(len(text) - _LAST, 0) & ~3
        try:
            if text.endswith(b"=", 0, whole):
                raise ValueError  # noqa: TRY301
            decoded = pybase64.b64decode(memoryview(text)[:whole], validate=True)
        except ValueError:
            return self._feed_carefully(bytes(data))
        self.empty = self.empty and not whole
        if unbroken:
            self._carry = text[whole:]
            self.empty = self.empty and not self._carry
            return decoded
        self._carry = b""
        return decoded + self._feed_carefully(text[whole:])

    def close(self) -> bytes:
        """Return the bytes of an unfinished last group, and settle ``lenient``."""
        group, self._carry = self._carry, b""
        if (len(group), self._padding) not in {(0, 0), (2, 2), (3, 1)}:
            self.lenient = True
        self.dangling = len(group) == 1
        return pybase64.b64decode(group + b"=" * (4 - len(group))) if len(group) > 1 else b""

    def _feed_carefully(self, data: bytes) -> bytes:
        text = data.translate(None, _WHITE_SPACE)
        letters = text.translate(None, _OTHERS)
        padding = len(text) - len(text.rstrip(b"="))
        if len(letters) + padding != len(text) or (self._padding and letters):
            self.lenient = True
        self._padding += padding
        self.empty = self.empty and not text
        group = self._carry + letters
        whole = len(group) & ~3
        self._carry = group[whole:]
        return pybase64.b64decode(memoryview(group)[:whole], validate=True)
