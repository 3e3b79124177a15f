"""What a simulated vendor's socket machine wants done, for an edge to carry out in order."""

from typing import NamedTuple, NewType

SessionId = NewType("SessionId", int)
"""One connection; unique in a process, never reused."""


class Send(NamedTuple):
    """Write one text frame."""

    session: SessionId
    frame: bytes


class Close(NamedTuple):
    """Send a close frame and end the connection."""

    session: SessionId
    code: int
    reason: str = ""


class Abort(NamedTuple):
    """End the connection without a close frame, after what was sent before."""

    session: SessionId


class Freeze(NamedTuple):
    """Read nothing more, so not even a ping is answered."""

    session: SessionId


class Thaw(NamedTuple):
    """Read again."""

    session: SessionId


class Ping(NamedTuple):
    """Ask whether the client is still there; nobody minds if it does not answer."""

    session: SessionId


Effect = Send | Close | Abort | Freeze | Thaw | Ping
