"""The cluster's certificates and kubeconfig files."""

import base64
import datetime as dt
import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import settings
from .paths import Paths

AUTHORITY_LIFE = dt.timedelta(days=3650)
LEAF_LIFE = dt.timedelta(days=365)
RENEW_BEFORE = dt.timedelta(days=30)
"""A certificate this near to its end is made anew by the next ``up``."""


@dataclass(frozen=True)
class Leaf:
    """One certificate to issue."""

    name: str
    """File name without suffix."""
    common_name: str
    organisation: str = ""
    """Kubernetes reads it as the user's group."""
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    authority: str = "ca"


LEAVES = (
    Leaf(
        "apiserver",
        "kube-apiserver",
        dns=(
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            f"kubernetes.default.svc.{settings.CLUSTER_DOMAIN}",
        ),
        addresses=("127.0.0.1", settings.API_SERVICE_ADDRESS, settings.NODE_ADDRESS),
    ),
    Leaf("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
    Leaf("admin", "admin", "system:masters"),
    Leaf("controller-manager", "system:kube-controller-manager"),
    Leaf("scheduler", "system:kube-scheduler"),
    Leaf("proxy", "system:kube-proxy"),
    Leaf("volume-provisioner", settings.PROVISIONER_USER),
    Leaf("kubelet", f"system:node:{settings.NODE_NAME}", "system:nodes"),
    Leaf(
        "kubelet-server",
        settings.NODE_NAME,
        dns=(settings.NODE_NAME,),
        addresses=(settings.NODE_ADDRESS, "127.0.0.1"),
    ),
    # etcd trusts an authority of its own: no certificate of a cluster user may open the database.
    Leaf("etcd", "etcd", dns=("localhost",), addresses=("127.0.0.1",), authority="etcd-ca"),
    Leaf("apiserver-etcd-client", "kube-apiserver", authority="etcd-ca"),
    # The API server speaks for users to aggregated API servers; who holds this key can be anyone.
    Leaf("front-proxy-client", "front-proxy-client", authority="front-proxy-ca"),
)
AUTHORITIES = ("ca", "etcd-ca", "front-proxy-ca")
KUBECONFIGS = ("admin", "controller-manager", "scheduler", "proxy", "volume-provisioner", "kubelet")


def ensure_certificates(paths: Paths, now: dt.datetime | None = None) -> list[str]:
    """Make what is missing, near its end or made for other names; write the kubeconfig files.

    Returns
    -------
    list of str
        Names of the certificates that were made.
    """
    now = now or dt.datetime.now(dt.UTC)
    paths.pki.mkdir(parents=True, exist_ok=True)
    paths.pki.chmod(0o700)
    made = []
    for authority in AUTHORITIES:
        if _needs_renewal(paths.pki / f"{authority}.crt", now):
            _issue_authority(paths.pki, authority, now)
            made.append(authority)
    for leaf in LEAVES:
        if leaf.authority in made or _leaf_is_stale(paths.pki, leaf, now):
            _issue_leaf(paths.pki, leaf, now)
            made.append(leaf.name)
    if not (paths.pki / "service-accounts.key").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        _write_private(paths.pki / "service-accounts.key", _key_pem(key))
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (paths.pki / "service-accounts.pub").write_bytes(public)
        made.append("service-accounts")
    for name in KUBECONFIGS:
        _write_private(kubeconfig_path(paths, name), kubeconfig(paths, name).encode())
    return made


def kubeconfig_path(paths: Paths, name: str) -> Path:
    """Return the path of a component's kubeconfig file."""
    return paths.kubeconfig if name == "admin" else paths.config / f"{name}.kubeconfig"


def kubeconfig(paths: Paths, name: str) -> str:
    """Render a kubeconfig with the certificates inside, so that the file alone is enough."""
    context = "pdfjob-local"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": context,
                    "cluster": {
                        "server": settings.API_SERVER,
                        "certificate-authority-data": _base64(paths.pki / "ca.crt"),
                    },
                }
            ],
            "users": [
                {
                    "name": name,
                    "user": {
                        "client-certificate-data": _base64(paths.pki / f"{name}.crt"),
                        "client-key-data": _base64(paths.pki / f"{name}.key"),
                    },
                }
            ],
            "contexts": [{"name": context, "context": {"cluster": context, "user": name}}],
            "current-context": context,
        },
        sort_keys=False,
    )


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _needs_renewal(certificate: Path, now: dt.datetime) -> bool:
    try:
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (FileNotFoundError, ValueError):
        return True
    return loaded.not_valid_after_utc - now < RENEW_BEFORE


def _leaf_is_stale(pki: Path, leaf: Leaf, now: dt.datetime) -> bool:
    """Tell whether the certificate is missing, near its end, or was made from other names."""
    request = pki / f"{leaf.name}.json"
    if not request.exists() or request.read_text() != _request(leaf):
        return True
    return _needs_renewal(pki / f"{leaf.name}.crt", now)


def _request(leaf: Leaf) -> str:
    return json.dumps(vars(leaf), default=list, sort_keys=True)


def _issue_authority(pki: Path, name: str, now: dt.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"pdfjob-devcluster-{name}")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(subject, subject, key, now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_private(pki / f"{name}.key", _key_pem(key))
    (pki / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _issue_leaf(pki: Path, leaf: Leaf, now: dt.datetime) -> None:
    authority = x509.load_pem_x509_certificate((pki / f"{leaf.authority}.crt").read_bytes())
    signer = serialization.load_pem_private_key((pki / f"{leaf.authority}.key").read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]
    if leaf.organisation:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organisation))
    builder = (
        _builder(x509.Name(attributes), authority.subject, key, now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
    )
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in leaf.dns]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in leaf.addresses]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    _write_private(pki / f"{leaf.name}.key", _key_pem(key))
    (pki / f"{leaf.name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (pki / f"{leaf.name}.json").write_text(_request(leaf))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour of slack: virtual machines wake up with a wrong clock.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + life)
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all; an equal one is left alone."""
    if file.exists() and file.read_bytes() == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as sink:
        sink.write(content)
    partial.replace(file)
