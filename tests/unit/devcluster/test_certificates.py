"""Certificates are made once, renewed before they end, and follow the names they are for."""

import datetime as dt
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from devcluster import certificates, settings
from devcluster.certificates import LEAF_LIFE, LEAVES, RENEW_BEFORE, ensure_certificates
from devcluster.paths import Paths

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(cache=tmp_path, state=tmp_path / "state", run=tmp_path / "run")


def load(paths: Paths, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((paths.pki / f"{name}.crt").read_bytes())


def test_second_call_makes_nothing(paths: Paths) -> None:
    assert len(ensure_certificates(paths, NOW)) == len(LEAVES) + len(certificates.AUTHORITIES) + 1
    assert ensure_certificates(paths, NOW) == []


def test_leaf_near_its_end_is_renewed_and_the_authority_kept(paths: Paths) -> None:
    ensure_certificates(paths, NOW)
    authority = load(paths, "ca").serial_number
    later = NOW + LEAF_LIFE - RENEW_BEFORE
    assert ensure_certificates(paths, later - dt.timedelta(days=1)) == []
    assert set(ensure_certificates(paths, later + dt.timedelta(days=1))) == {leaf.name for leaf in LEAVES}
    assert load(paths, "ca").serial_number == authority


def test_certificate_is_made_anew_when_its_names_change(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_certificates(paths, NOW)
    moved = tuple(
        certificates.Leaf("apiserver", leaf.common_name, dns=("elsewhere",)) if leaf.name == "apiserver" else leaf
        for leaf in LEAVES
    )
    monkeypatch.setattr(certificates, "LEAVES", moved)
    assert ensure_certificates(paths, NOW) == ["apiserver"]


def test_lost_authority_renews_only_what_it_signed(paths: Paths) -> None:
    ensure_certificates(paths, NOW)
    (paths.pki / "etcd-ca.crt").unlink()
    assert ensure_certificates(paths, NOW) == ["etcd-ca", "etcd", "apiserver-etcd-client"]


def test_api_server_is_valid_for_its_addresses(paths: Paths) -> None:
    ensure_certificates(paths, NOW)
    names = load(paths, "apiserver").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert {settings.NODE_ADDRESS, settings.API_SERVICE_ADDRESS, "127.0.0.1"} <= addresses
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


def test_no_cluster_user_is_trusted_by_etcd(paths: Paths) -> None:
    ensure_certificates(paths, NOW)
    authority = load(paths, "etcd-ca").subject
    trusted = {leaf.name for leaf in LEAVES if load(paths, leaf.name).issuer == authority}
    assert trusted == {"etcd", "apiserver-etcd-client"}


def test_kubelet_is_in_the_group_that_the_node_authorizer_knows(paths: Paths) -> None:
    ensure_certificates(paths, NOW)
    subject = load(paths, "kubelet").subject.rfc4514_string()
    assert f"CN=system:node:{settings.NODE_NAME}" in subject
    assert "O=system:nodes" in subject


def test_keys_and_kubeconfigs_are_for_their_owner_only(paths: Paths) -> None:
    ensure_certificates(paths, NOW)
    private = [*paths.pki.glob("*.key"), *paths.config.glob("*.kubeconfig"), paths.kubeconfig]
    assert len(private) > 10
    assert {file.stat().st_mode & 0o777 for file in private} == {0o600}


def test_kubeconfig_stands_alone(paths: Paths) -> None:
    ensure_certificates(paths, NOW)
    loaded = yaml.safe_load(paths.kubeconfig.read_text())
    assert loaded["clusters"][0]["cluster"]["server"] == settings.API_SERVER
    assert str(paths.pki) not in paths.kubeconfig.read_text()
