"""Listening on a port, and why it cannot be done: in words that name the setting."""

import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager

from onetape.errors import ConfigInvalid


@contextmanager
def listening(variable: str, *, host: str, port: int) -> Generator[None]:
    """Explain why the block could not listen, if it could not.

    Args:
        variable: The setting that chose the port.
        host: Where the block listens.
        port: As the setting says.

    Raises:
        ConfigInvalid: naming the setting to change.
    """
    try:
        yield
    except OSError as error:
        raise ConfigInvalid(explained(error, variable, host=host, port=port)) from error


def trouble(variable: str, *, host: str, port: int) -> str | None:
    """Say why nobody can listen there now; None when somebody can. Blocks on a host's name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return explained(error, variable, host=host, port=port)
    return None


def explained(error: OSError, variable: str, *, host: str, port: int) -> str:
    """Put the refusal of a port into words."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"{variable}: port {port} is taken by another program;"
            " choose another, or 0 for any free one"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"{variable}: this user may not listen on port {port}; choose one above 1023"
    return f"ONETAPE_HOST: cannot listen on {host}: {error.strerror or error}"
