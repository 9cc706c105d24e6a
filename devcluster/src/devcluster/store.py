"""Images inside the cluster's containerd."""

import subprocess
from pathlib import Path

from .errors import DevclusterError
from .paths import Paths


class ImageStore:
    """The image store that the kubelet reads: namespace ``k8s.io`` of our own containerd."""

    def __init__(self, paths: Paths) -> None:
        self._ctr = ["ctr", "--address", str(paths.containerd_socket), "--namespace", "k8s.io"]

    def answers(self) -> bool:
        """Tell whether containerd serves requests."""
        done = subprocess.run([*self._ctr, "version"], capture_output=True, check=False)
        return done.returncode == 0

    def references(self) -> set[str]:
        """Return every image reference in the store.

        Raises
        ------
        DevclusterError
            containerd does not answer.
        """
        return set(self._run("images", "list", "--quiet").split())

    def import_archive(self, archive: Path) -> None:
        """Import an image archive; layers that are there already are not unpacked again."""
        self._run("images", "import", str(archive))

    def prune(self, repository: str, keep: set[str]) -> None:
        """Remove all references of a repository but the given ones."""
        old = [
            reference
            for reference in self.references()
            if reference.rpartition(":")[0] == repository and reference not in keep
        ]
        if old:
            self._run("images", "remove", *old)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._ctr, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DevclusterError(f"`ctr {' '.join(arguments[:2])}` failed: {done.stderr.strip()}")
        return done.stdout
