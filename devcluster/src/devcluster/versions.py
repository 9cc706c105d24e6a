"""Which programs make up the cluster, at which version: the one place that lists them.

The version itself stands in each component's ``go.mod`` (folder ``go/``), because the Go
toolchain reads it there; this module reads it from the same line.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import DevclusterError

GO_FOLDER = Path(__file__).parent / "go"


@dataclass(frozen=True)
class Component:
    """One Go module with the programs built from it."""

    name: str
    """Folder under ``go/``."""
    module: str
    """The upstream module whose version ``go.mod`` pins; empty when the source is our own."""
    packages: tuple[str, ...]
    """Go packages to build; the last path part is the program's name."""
    version_variables: tuple[str, ...] = ()
    """Linker variables that make the program report its version (``{version}`` is filled in)."""
    tags: str = ""
    """Go build tags."""
    seconds: int = 10
    """About how long a first build takes on two cores: people wait better when they know."""

    @property
    def folder(self) -> Path:
        """Where ``go.mod`` and ``go.sum`` are."""
        return GO_FOLDER / self.name

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the files that a build makes."""
        return tuple(self.name if package == "." else package.rsplit("/", 1)[-1] for package in self.packages)

    @cached_property
    def version(self) -> str:
        """The pinned version with its ``v``, or ``v0`` for our own source.

        Raises
        ------
        DevclusterError
            ``go.mod`` does not require the module.
        """
        if not self.module:
            return "v0"
        text = (self.folder / "go.mod").read_text()
        match = re.search(rf"^(?:require\s)?\s*{re.escape(self.module)} (v\S+)", text, re.MULTILINE)
        if match is None:
            raise DevclusterError(f"{self.folder / 'go.mod'} does not require {self.module}.")
        return match.group(1)

    @cached_property
    def minimum_go(self) -> tuple[int, int]:
        """The Go release line that ``go.mod`` asks for, as (major, minor)."""
        match = re.search(r"^go (\d+)\.(\d+)", (self.folder / "go.mod").read_text(), re.MULTILINE)
        if match is None:
            raise DevclusterError(f"{self.folder / 'go.mod'} has no go line.")
        return int(match.group(1)), int(match.group(2))

    @cached_property
    def key(self) -> str:
        """``name-version-hash``; changes when anything that goes into the build changes."""
        digest = hashlib.sha256()
        for file in sorted(self.folder.iterdir()):
            digest.update(f"{file.name}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        digest.update(repr((self.packages, self.version_variables, self.tags)).encode())
        return f"{self.name}-{self.version}-{digest.hexdigest()[:12]}"

    @property
    def linker_flags(self) -> str:
        """Value of ``-ldflags``: stripped, with the version filled in."""
        major, minor, *_ = [*self.version.lstrip("v").split("."), "0"]
        values = [
            f"-X {variable.format(version=self.version, major=major, minor=minor)}"
            for variable in self.version_variables
        ]
        return " ".join(["-s", "-w", *values])


KUBERNETES = Component(
    name="kubernetes",
    module="k8s.io/kubernetes",
    packages=tuple(
        f"k8s.io/kubernetes/cmd/{program}"
        for program in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubectl",
            "kubelet",
        )
    ),
    version_variables=tuple(
        f"{package}.{variable}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for variable in ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}", "gitTreeState=clean")
    ),
    tags="providerless",
    seconds=310,
)
ETCD = Component(name="etcd", module="go.etcd.io/etcd/server/v3", packages=(".",), seconds=30)
COREDNS = Component(
    name="coredns",
    module="github.com/coredns/coredns",
    packages=(".",),
    seconds=90,
)
VERSITYGW = Component(
    name="versitygw",
    module="github.com/versity/versitygw",
    packages=("github.com/versity/versitygw/cmd/versitygw",),
    version_variables=("main.Version={version}",),
    seconds=50,
)
HELM = Component(
    name="helm",
    module="helm.sh/helm/v3",
    packages=("helm.sh/helm/v3/cmd/helm",),
    version_variables=(
        "helm.sh/helm/v3/internal/version.version={version}",
        "helm.sh/helm/v3/internal/version.gitTreeState=clean",
    ),
    seconds=75,
)
NODE = Component(name="node", module="", packages=(".",))
"""Our own pause program and readiness probe."""
PROVISIONER = Component(
    name="provisioner",
    module="sigs.k8s.io/sig-storage-lib-external-provisioner/v13",
    packages=(".",),
    seconds=45,
)
"""Our own volume provisioner, by the library that most provisioners use."""

COMPONENTS = (NODE, KUBERNETES, ETCD, COREDNS, PROVISIONER, VERSITYGW, HELM)
"""Everything that is built, in that order."""

APT_PACKAGES: dict[str, tuple[str, ...]] = {
    "containerd": ("containerd", "ctr"),
    "runc": ("runc",),
    "containernetworking-plugins": ("/usr/lib/cni/bridge",),
    "buildah": ("buildah",),
    "debootstrap": ("debootstrap",),
    "iptables": ("iptables",),
    "iproute2": ("ip",),
    "conntrack": ("conntrack",),
}
"""Debian package to the programs it must provide: a name on PATH or an absolute file."""
