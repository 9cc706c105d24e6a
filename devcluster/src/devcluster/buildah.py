"""Builds container images with buildah, in a storage of our own."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .errors import DevclusterError
from .logs import tail
from .paths import Paths

CA_BUNDLES = "/etc/ssl/certs"
"""Mounted read-only into build steps, so that downloads there trust what this machine trusts."""


class Buildah:
    """Buildah with its storage under our cache folder."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._storage = ["--root", str(paths.cache / "buildah"), "--runroot", str(paths.run / "buildah")]
        self._storage += ["--storage-driver", "overlay"]
        # buildah keeps cache mounts and copies of contexts in its temporary folder.
        self._environment = {**os.environ, "TMPDIR": str(paths.cache / "tmp")}

    def has(self, reference: str) -> bool:
        """Tell whether the image is in our storage."""
        done = subprocess.run(["buildah", *self._storage, "images", "-q", reference], capture_output=True, check=False)
        return done.returncode == 0 and bool(done.stdout.strip())

    def build(
        self, dockerfile: Path, context: Path, reference: str, arguments: Mapping[str, str], log_name: str
    ) -> None:
        """Build an image as ``docker build -f DOCKERFILE -t REFERENCE CONTEXT`` would.

        Raises
        ------
        DevclusterError
            The build failed; the message names the log.
        """
        command = ["bud", "--isolation", "chroot", "--network", "host", "--layers"]
        command += ["--volume", f"{CA_BUNDLES}:{CA_BUNDLES}:ro"]
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        command += ["-f", str(dockerfile), "-t", reference, str(context)]
        self._run(command, f"image-{log_name}")

    def build_from_scratch(self, program: Path, reference: str, lines: list[str], context: Path) -> None:
        """Build an image that holds one statically linked program and nothing else.

        Parameters
        ----------
        program
            The file to put at the image's root.
        lines
            Dockerfile lines after the ``COPY``.
        context
            A folder of our own to build in.
        """
        context.mkdir(parents=True, exist_ok=True)
        copy = context / program.name
        copy.unlink(missing_ok=True)
        os.link(program, copy)
        dockerfile = context / "Dockerfile"
        dockerfile.write_text("\n".join(["FROM scratch", f"COPY {program.name} /{program.name}", *lines, ""]))
        self.build(dockerfile, context, reference, {}, program.name)

    def import_tar(self, archive: Path, reference: str) -> None:
        """Make a base image from an archive of a root file system."""
        dockerfile = archive.with_suffix(".dockerfile")
        dockerfile.write_text(f'FROM scratch\nADD {archive.name} /\nCMD ["/bin/sh"]\n')
        self.build(dockerfile, archive.parent, reference, {}, archive.stem)

    def save(self, reference: str, archive: Path) -> None:
        """Write the image to an OCI archive, lightly compressed: reading it costs more than packing it."""
        archive.unlink(missing_ok=True)
        compression = ["--compression-format", "zstd", "--compression-level", "1"]
        self._run(["push", *compression, reference, f"oci-archive:{archive}:{reference}"], "image-save")

    def prune(self, repository: str, keep: set[str]) -> None:
        """Remove all tags of a repository but the given references; layers in use stay."""
        done = subprocess.run(
            ["buildah", *self._storage, "images", "--format", "{{.Name}}:{{.Tag}}"],
            capture_output=True,
            text=True,
            check=False,
        )
        for reference in done.stdout.split():
            if reference.rpartition(":")[0] == repository and reference not in keep:
                subprocess.run(["buildah", *self._storage, "rmi", reference], capture_output=True, check=False)

    def _run(self, arguments: list[str], log_name: str) -> None:
        log = self._paths.cache / "log" / f"{log_name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        Path(self._environment["TMPDIR"]).mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            done = subprocess.run(
                ["buildah", *self._storage, *arguments],
                stdout=sink,
                stderr=sink,
                env=self._environment,
                check=False,
            )
        if done.returncode != 0:
            raise DevclusterError(f"buildah {arguments[0]} failed (exit {done.returncode}).\n{tail(log)}")
