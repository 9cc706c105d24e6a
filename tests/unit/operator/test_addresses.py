"""Which addresses sources may be at."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from pdfjob_operator.addresses import AddressGuard, AddressRefusedError, GuardedResolver

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.254",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:a9fe:a9fe",
    "2002:7f00:1::",
    "2002:0a00:0001::1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::808:808",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(AddressRefusedError):
        AddressGuard([]).check("host", address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_permitted(address: str) -> None:
    AddressGuard([]).check("host", address)


def test_only_the_ranges_that_are_allowed_open() -> None:
    guard = AddressGuard([ip_network("10.1.0.0/16"), ip_network("fd00::/8")])
    permitted = [
        guard.permits(ip_address(each)) for each in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1", "10.2.0.1", "fc00::1")
    ]
    assert permitted == [True, True, True, False, False]


async def test_a_name_with_one_bad_address_among_good_ones_is_refused() -> None:
    async def lookup(host: str) -> list[str]:
        return ["8.8.8.8", "10.0.0.1"]

    resolver = GuardedResolver(AddressGuard([]), lookup)
    with pytest.raises(AddressRefusedError, match=r"mixed\.example \(10\.0\.0\.1\)"):
        await resolver.resolve("mixed.example", 80)


async def test_the_connection_goes_to_the_addresses_that_were_checked() -> None:
    async def lookup(host: str) -> list[str]:
        return ["8.8.8.8", "2606:4700::1111", "8.8.8.8"]

    results = await GuardedResolver(AddressGuard([]), lookup).resolve("two.example", 443)
    assert [(each["host"], each["port"]) for each in results] == [("8.8.8.8", 443), ("2606:4700::1111", 443)]
