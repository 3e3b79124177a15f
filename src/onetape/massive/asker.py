"""The vendor's REST API as somebody who answers questions: good answers, or our errors.

`questions.Asker` for the side that has the vendor's key; a client's is its gateway. What
is refused is named by its status; the vendor's words and its name for the request are in
the message, and `Refused` beneath it has the status as a number.
"""

from collections.abc import AsyncGenerator
from typing import Final, Protocol

from yarl import URL

from onetape.errors import (
    InvalidRequest,
    NotFound,
    OnetapeError,
    UpstreamDown,
    UpstreamForbidden,
    UpstreamGarbled,
    UpstreamThrottled,
    UpstreamTimeout,
)
from onetape.massive.rest import RestResponse
from onetape.massive.wire_rest import Params, error_text, next_url_of, query_of

MAX_PAGES: Final = 10_000
"""More pages than any answer has; what goes on after them does not end by itself."""

_OK: Final = range(200, 300)
_FAULTS: Final = range(500, 600)
_TEXT_LIMIT: Final = 200
_KINDS: Final[dict[int, type[OnetapeError]]] = {
    400: InvalidRequest,
    401: UpstreamForbidden,
    403: UpstreamForbidden,
    404: NotFound,
    408: UpstreamTimeout,
    429: UpstreamThrottled,
}


class Rest(Protocol):
    """What we need of `MassiveREST`."""

    async def get(
        self, path: str, query: str = "", *, deadline_s: float | None = None
    ) -> RestResponse:
        """Ask for an encoded path and query; return the answer whatever its status."""
        ...


class Refused(Exception):
    """What the vendor answered instead of what was asked for: the cause of our error."""

    def __init__(self, response: RestResponse) -> None:
        super().__init__(f"status {response.status}")
        self.status = response.status
        self.request_id = response.request_id


class VendorAsker:
    """Asks the vendor. Cancel-safe.

    Args:
        rest: Where it asks.
        deadline_s: How long each page may take, retries included; None for as long as
            `rest` waits.
    """

    def __init__(self, rest: Rest, *, deadline_s: float | None = None) -> None:
        self._rest = rest
        self._deadline_s = deadline_s

    async def get(self, path: str, params: Params | None = None) -> RestResponse:
        """Ask for a path with parameters of which the Nones are left out.

        Raises:
            NotFound: there is no such thing.
            InvalidRequest: the vendor cannot read the question, or we cannot write it.
            UpstreamError: everything else that is no answer.
        """
        return await self._get(path, query_of(params or {}))

    async def pages(
        self, path: str, params: Params | None = None, *, max_pages: int | None = None
    ) -> AsyncGenerator[RestResponse]:
        """Ask for page after page, the next one when the one before has been dealt with.

        Raises:
            UpstreamGarbled: a next page that cannot be one, or there is no last one.
            OnetapeError: as for `get`.
        """
        at = path, query_of(params or {})
        seen = {at}
        for _ in range(MAX_PAGES if max_pages is None else max_pages):
            response = await self._get(*at)
            yield response
            next_url = next_url_of(response.body)
            if not next_url:
                return
            at = _place_of(next_url)
            if at in seen:
                raise UpstreamGarbled("the pages go round in a circle")
            seen.add(at)
        if max_pages is None:
            raise UpstreamGarbled(f"more than {MAX_PAGES} pages")

    async def _get(self, path: str, query: str) -> RestResponse:
        response = await self._rest.get(path, query, deadline_s=self._deadline_s)
        if response.status not in _OK:
            raise error_of(response) from Refused(response)
        return response


def error_of(response: RestResponse) -> OnetapeError:
    """Return what an answer other than 2xx means."""
    kind = _KINDS.get(response.status)
    if kind is None:
        kind = UpstreamDown if response.status in _FAULTS else UpstreamGarbled
    is_json = "json" in response.content_type.lower()
    text = error_text(response.body)[:_TEXT_LIMIT] if is_json else ""
    facts = [f"status {response.status}"]
    if response.request_id:
        facts.append(f"request {_printable(response.request_id)}")
    if response.attempts > 1:
        facts.append(f"{response.attempts} tries")
    return kind(
        f"{_printable(text) or 'the vendor refused the request'} ({', '.join(facts)})",
        retry_after_s=response.retry_after_s,
    )


def _place_of(next_url: str) -> tuple[str, str]:
    """Return the path and query of a page.

    It is asked for at the address we were given: the key goes nowhere else.
    """
    try:
        url = URL(next_url, encoded=True)
    except ValueError:
        raise UpstreamGarbled("the address of the next page cannot be read") from None
    if not url.raw_path.startswith("/v"):
        raise UpstreamGarbled("the address of the next page is not one of the vendor's")
    return url.raw_path, url.raw_query_string


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
