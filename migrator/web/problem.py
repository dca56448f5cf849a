"""Refusals as pages."""


class Problem(Exception):
    """An answer that is a page with a heading, a sentence and a status other than 200."""

    def __init__(self, status: int, title: str, text: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text
