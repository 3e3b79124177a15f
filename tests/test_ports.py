import errno
import os
import socket

import pytest

from onetape.errors import ConfigInvalid
from onetape.ports import explained, listening, trouble


def test_a_taken_port_is_explained_with_the_setting_that_named_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        said = trouble("PORT", host="127.0.0.1", port=port)
        with (
            pytest.raises(
                ConfigInvalid, match=r"^PORT: port \d+ is taken by another program"
            ) as why,
            listening("PORT", host="127.0.0.1", port=port),
            socket.socket() as second,
        ):
            second.bind(("127.0.0.1", port))

    assert str(why.value) == said


def test_a_free_port_is_no_trouble() -> None:
    assert trouble("PORT", host="127.0.0.1", port=0) is None
    assert trouble("PORT", host="::1", port=0) is None or not socket.has_ipv6


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EACCES, "no"), "PORT: this user may not listen on port 80"),
        (OSError(errno.EADDRNOTAVAIL, "not here"), "ONETAPE_HOST: cannot listen on h: not here"),
        (socket.gaierror("strange"), "ONETAPE_HOST: cannot listen on h: strange"),
    ],
    ids=["privileged", "elsewhere", "unknown"],
)
def test_every_refusal_names_what_to_change(error: OSError, said: str) -> None:
    assert explained(error, "PORT", host="h", port=80).startswith(said)


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), listening("PORT", host="h", port=1):
        assert os.getpid() // 0
