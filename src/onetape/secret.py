"""A credential in memory: usable, comparable, never shown."""

import hmac
from hashlib import sha256
from typing import NoReturn


class Secret:
    """A string that nothing prints: shown as `***`, compared in constant time."""

    __slots__ = ("_hidden",)

    def __init__(self, value: str) -> None:
        if not value:
            raise ValueError("a secret is not empty")
        self._hidden = value

    def reveal(self) -> str:
        """Return the value: at the last moment, into the header or the signature it is for."""
        return self._hidden

    def matches(self, presented: str) -> bool:
        """Compare with what a caller presented; the time taken tells nothing, nor does length."""
        return hmac.compare_digest(_digest(self._hidden), _digest(presented))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._hidden)

    def __hash__(self) -> int:
        return hash(_digest(self._hidden))

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret has no state to show")


def _digest(text: str) -> bytes:
    # Digests are of equal length, so the comparison does not tell the secret's.
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
