"""Only our own addresses and rules are ours."""

from typing import Any

import pytest

from devcluster import settings
from devcluster.network import chain_removal, forward_rules, masquerade_removal, overlapping_address

SAVED = r"""*nat
:PREROUTING ACCEPT [0:0]
:CNI-aaa - [0:0]
:CNI-bbb - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
-A POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \"pdfjob-devcluster\" id: \"1\"" -j CNI-aaa
-A POSTROUTING -s 10.88.0.9/32 -m comment --comment "name: \"podman\" id: \"2\"" -j CNI-bbb
-A CNI-aaa -d 10.244.0.0/24 -m comment --comment "name: \"pdfjob-devcluster\" id: \"1\"" -j ACCEPT
COMMIT
"""


def interface(name: str, address: str) -> dict[str, Any]:
    return {"ifname": name, "addr_info": [{"family": "inet", "local": address}]}


@pytest.mark.parametrize(
    ("name", "address"),
    [("eth0", "10.244.3.4"), ("wg0", "10.96.0.5"), ("docker0", settings.NODE_ADDRESS)],
)
def test_address_in_our_ranges_on_a_foreign_interface_is_a_conflict(name: str, address: str) -> None:
    message = overlapping_address([interface(name, address)])
    assert message is not None
    assert name in message
    assert address in message


@pytest.mark.parametrize(
    ("name", "address"),
    [(settings.NODE_INTERFACE, settings.NODE_ADDRESS), ("veth1", "10.244.0.1"), ("eth0", "192.168.1.2")],
)
def test_our_own_interfaces_and_other_ranges_are_no_conflict(name: str, address: str) -> None:
    assert overlapping_address([interface(name, address)]) is None


def test_ipv6_addresses_do_not_matter() -> None:
    assert overlapping_address([{"ifname": "eth0", "addr_info": [{"family": "inet6", "local": "fd00::1"}]}]) is None


def test_masquerading_of_our_pods_is_removed_and_of_others_kept() -> None:
    commands = masquerade_removal(SAVED).splitlines()
    assert commands[0] == "*nat"
    assert commands[-1] == "COMMIT"
    assert "-X CNI-aaa" in commands
    assert not any("CNI-bbb" in command for command in commands)
    assert sum(command.startswith("-D POSTROUTING") for command in commands) == 1


def test_nothing_to_remove_is_no_command() -> None:
    assert masquerade_removal("*nat\nCOMMIT\n") == ""
    assert chain_removal("nat", "*nat\nCOMMIT\n") == ""


def test_kubelet_chains_are_removed_together_with_their_jumps() -> None:
    saved = "*filter\n:KUBE-FIREWALL - [0:0]\n-A INPUT -j KUBE-FIREWALL\n-A INPUT -j ACCEPT\nCOMMIT\n"
    assert chain_removal("filter", saved).splitlines() == [
        "*filter",
        ":KUBE-FIREWALL - [0:0]",
        "-D INPUT -j KUBE-FIREWALL",
        "-X KUBE-FIREWALL",
        "COMMIT",
    ]


def test_forward_rules_carry_our_comment() -> None:
    assert all(settings.RULE_COMMENT in rule for rule in forward_rules())
