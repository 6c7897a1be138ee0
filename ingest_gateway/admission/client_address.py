"""Find the client's address behind proxies.

Theory. Anyone can send X-Forwarded-For, so an entry counts only if the hop that wrote it is trusted. The peer of the
connection wrote the last entry, that hop the one before, and so on: walk from the right while the hops are trusted; the
first that is not is the client. With no trusted proxies the header is never read. A named header (CF-Connecting-IP)
holds one address and is believed if the peer is trusted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

# as in RFC 7239: for=192.0.2.60, for="[2001:db8::1]:4711"; an obfuscated or unknown node is no address
_FORWARDED_FOR = re.compile(r'(?:^|[;,\s])for="?(\[[0-9a-f:.]+\]|[0-9.]+)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProxyTrust:
    """Which hops are believed, and in which header they write."""

    networks: tuple[Network, ...] = ()
    header: str = "x-forwarded-for"
    """Lower case; `forwarded` is read as RFC 7239, any other name as one address."""

    def client(self, peer: str, values: Sequence[str]) -> str | None:
        """Return the client's address given the connection's peer and the header's values; None if it has none."""
        address = canonical(peer)
        if address is None or not self.networks or not values or not self._trusts(address):
            return address
        if self.header not in ("x-forwarded-for", "forwarded"):
            return canonical(values[-1]) or address
        hops = _FORWARDED_FOR.findall(",".join(values)) if self.header == "forwarded" else ",".join(values).split(",")
        for hop in reversed(hops):
            # an entry that is no address ends the chain at the last hop that is known
            if (known := canonical(hop)) is None:
                return address
            address = known
            if not self._trusts(address):
                return address
        return address

    def _trusts(self, address: str) -> bool:
        return _within(address, self.networks)


@lru_cache(maxsize=4096)
def canonical(text: str) -> str | None:
    """Return an address in its canonical form, without port, brackets, zone or IPv4-in-IPv6; None if it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


@lru_cache(maxsize=4096)
def _within(address: str, networks: tuple[Network, ...]) -> bool:
    parsed = ip_address(address)
    return any(parsed in network for network in networks)
