"""Which addresses an http source may be at: public ones, and what the installation allows besides.

A name is resolved once, every address it has is checked, and the connection goes to those very addresses; the socket
is checked once more when it is made, which covers addresses written as numbers. So neither a redirect nor a name that
changes its address (DNS rebinding) leads into the cluster.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

Network = IPv4Network | IPv6Network
Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""From a host name to its addresses; raises OSError."""

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""
_REFUSED: Final[tuple[Network, ...]] = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("100.64.0.0/10"),  # shared by carriers and some clusters, RFC 6598
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
    IPv4Network("240.0.0.0/4"),
    IPv6Network("::/96"),  # unspecified, loopback, and the long dead IPv4-compatible form
    IPv6Network("64:ff9b:1::/48"),  # NAT64 into private networks, RFC 8215
    IPv6Network("2001::/32"),  # Teredo
    IPv6Network("fec0::/10"),
)
"""Refused whatever the standard library of this Python says about them."""


class AddressRefusedError(Exception):
    """An address that sources may not be at."""


class AddressGuard:
    """Tells public addresses from others.

    Parameters
    ----------
    allowed
        Ranges that are not public and yet allowed.
    """

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = tuple(allowed)

    def check(self, host: str, address: str) -> None:
        """Refuse an address that is neither public nor allowed.

        Raises
        ------
        AddressRefusedError
        """
        if not self.permits(ip_address(address)):
            shown = host if host == address else f"{host} ({address})"
            raise AddressRefusedError(shown)

    def permits(self, address: IPv4Address | IPv6Address) -> bool:
        """Tell whether an address is public or allowed; one that wraps an IPv4 address stands for that."""
        if any(address in network for network in self._allowed if network.version == address.version):
            return True
        if isinstance(address, IPv6Address):
            inner = address.ipv4_mapped or address.sixtofour
            if inner is None and address in _NAT64:
                inner = IPv4Address(int(address) & 0xFFFFFFFF)
            if inner is not None:
                return self.permits(inner)
        if address.is_multicast or any(
            address in network for network in _REFUSED if network.version == address.version
        ):
            return False
        return address.is_global

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for a connection, if it may go there.

        Parameters
        ----------
        info
            As `socket.getaddrinfo` returns it.

        Raises
        ------
        AddressRefusedError
        """
        family, kind, protocol, _, target = info
        self.check(target[0], target[0])
        return socket.socket(family, kind, protocol)


async def system_lookup(host: str) -> Sequence[str]:
    """Resolve a name as this machine does."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in infos]


class GuardedResolver(AbstractResolver):
    """Resolves names for aiohttp and refuses those with any address that is not permitted."""

    def __init__(self, guard: AddressGuard, lookup: Lookup) -> None:
        self._guard = guard
        self._lookup = lookup

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name; each address is checked."""
        results = []
        for address in dict.fromkeys(await self._lookup(host)):
            self._guard.check(host, address)
            version = ip_address(address).version
            results.append(
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=socket.AF_INET if version == 4 else socket.AF_INET6,
                    proto=socket.IPPROTO_TCP,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if not results:
            raise OSError(None, f"{host} has no address")
        return results

    @override
    async def close(self) -> None:
        """Nothing to close."""
