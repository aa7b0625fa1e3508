"""Where a request to a server may go: to the internet, and to this machine where it is named as such.

A recipe may come from anybody, and names servers. Without a check it could have this machine ask what only it
can reach: the settings page of a router, a cloud's metadata at 169.254.169.254, a service behind a firewall.
So a name is resolved once, the connection goes to the address that was checked, and an address is asked if

* it is public: IANA's registries call it globally reachable, and so is the IPv4 address within it, if any;
* or it is of this machine and named so: `localhost`, 127.0.0.1 and its like in full, `[::1]`. A name that
  merely leads there may be anybody's;
* or the environment allows it: `TRUEUP_ALLOW_NETWORKS=10.0.0.0/8,192.168.1.5`. No recipe can say so.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator

from trueup.errors import TrueupError

ALLOW = "TRUEUP_ALLOW_NETWORKS"
"The environment variable that names further addresses and networks, with commas between them."
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_here(host: str) -> bool:
    """Whether a host is this machine, named as such."""
    literal = _literal(host)
    if literal is None:
        return host.lower() == "localhost"
    return literal.is_loopback and _within(literal) is None


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host that may be asked, in the system's order.

    Raises E970 where there is none, and what `socket.getaddrinfo` raises where the host has no address.
    """
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    good = [text for text in addresses if may_ask(host, ipaddress.ip_address(text))]
    if not good:
        raise refused(host, addresses)
    return good


def check_literal(host: str) -> None:
    """Nothing; raises E970 for an address, not a name, that may not be asked."""
    literal = _literal(host)
    if literal is not None and not may_ask(host, literal):
        raise refused(host, [str(literal)])


def may_ask(host: str, address: Address) -> bool:
    """Whether an address that a host has may be asked."""
    if any(address in network for network in _allowed() if network.version == address.version):
        return True
    if is_here(host):
        return address.is_loopback and _within(address) is None
    end = _within(address) or address
    return end.is_global and not (end.is_multicast or end.is_reserved)


def refused(host: str, addresses: list[str]) -> TrueupError:
    """E970: what is asked lies in a network that a person must allow."""
    shown = ",".join(addresses)
    where = "" if addresses == [host.strip("[]")] else f", whose address is {shown},"
    return TrueupError(
        "E970",
        f"{host}{where} is not on the internet, nor this machine named as such",
        where="a server's address",
        remedy=f"if you mean it, `export {ALLOW}={shown}`; this machine is 127.0.0.1",
    )


def _within(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]


def _literal(host: str) -> Address | None:
    """A host that is an address, written in full; None for a name, or what systems read as an address."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _allowed() -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for text in filter(None, map(str.strip, os.environ.get(ALLOW, "").split(","))):
        try:
            yield ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise TrueupError(
                "E970",
                f"{text!r} is no address and no network",
                where=f"${ALLOW}",
                remedy="write 10.1.2.3 or 10.0.0.0/8, with commas between several",
            ) from None
