"""Why a row is left out."""


class LeftOut(Exception):
    """Why a row is no example, in a few words that hold none of its text."""


class NotText(LeftOut):
    """A value is neither text nor of a form that is known to hold one."""

    def __init__(self) -> None:
        super().__init__("not text")
