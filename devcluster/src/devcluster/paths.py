"""Where devcluster keeps things: never inside the work tree."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Every folder and file of one devcluster."""

    cache: Path
    """What is worth keeping across clusters: binaries, base images, the record of built images."""
    state: Path
    """What belongs to this cluster: etcd data, certificates, configuration, logs, containerd's root."""
    run: Path
    """What means nothing after a reboot: sockets and containerd's running state."""

    @classmethod
    def from_environment(cls) -> "Paths":
        """Read ``PDFJOB_CACHE`` (default ``~/.cache/pdfjob``).

        ``run`` is fixed and short: a Unix socket's path has at most 107 characters.
        """
        cache = Path(os.environ.get("PDFJOB_CACHE") or Path.home() / ".cache" / "pdfjob").absolute()
        return cls(cache=cache, state=cache / "cluster", run=Path("/run/pdfjob-devcluster"))

    @property
    def binaries(self) -> Path:
        """Programs built from Go modules, one folder per component, version and hash."""
        return self.cache / "bin"

    @property
    def tools(self) -> Path:
        """Folder for ``PATH``: kubectl and helm of the pinned versions."""
        return self.cache / "tools"

    @property
    def images_file(self) -> Path:
        """JSON: image name to the reference a pod uses."""
        return self.cache / "images.json"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.state / "log"

    @property
    def config(self) -> Path:
        """Rendered configuration files."""
        return self.state / "config"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.state / "pki"

    @property
    def records(self) -> Path:
        """One small JSON file per started process."""
        return self.state / "processes"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; the path never changes."""
        return self.state / "admin.kubeconfig"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, one JSON event per line."""
        return self.logs / "audit.log"

    @property
    def containerd_socket(self) -> Path:
        """Socket of this cluster's own containerd."""
        return self.run / "containerd.sock"
