"""HTTP to addresses that tenants name: each is looked up, checked, and dialled itself."""

from __future__ import annotations

import httpx

from app.webhooks.addresses import AddressRefused, parse_url, resolve


class GuardedTransport(httpx.HTTPTransport):
    """Connects to the very address that was checked, so that a name cannot lead elsewhere a moment later.

    No proxy of ours is used: it would look the name up again.
    """

    def __init__(self, *, allow_private: bool) -> None:
        super().__init__(trust_env=False)
        self._allow_private = allow_private

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises:
        AddressRefused: it is not one that this server calls.
        httpx.TransportError: nobody answers there, or the name is not known at present.
        """
        destination = parse_url(f"{request.url.scheme}://{request.url.netloc.decode()}", allow_private=self._allow_private)
        try:
            address = resolve(destination, allow_private=self._allow_private)
        except AddressRefused as refusal:
            if isinstance(refusal.__cause__, OSError):  # the name may be known again in a minute
                raise httpx.ConnectError(str(refusal), request=request) from refusal
            raise
        request.url = request.url.copy_with(host=str(address))  # the header Host was set before, and keeps the name
        request.extensions = {**request.extensions, "sni_hostname": destination.host}
        return super().handle_request(request)
