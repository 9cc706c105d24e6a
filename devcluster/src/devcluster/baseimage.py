"""A small Debian with Python, made by debootstrap: for machines that can reach no image registry."""

import hashlib
import os
import shlex
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .buildah import Buildah
from .errors import DevclusterError
from .logs import tail
from .paths import Paths
from .progress import step

_RECIPE = "2"
"""Part of the tag: raise it when the trimming below changes."""
_TRIMMED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
)
_SOURCE_LISTS = ("etc/apt/sources.list", "etc/apt/sources.list.d")
"""Removed too: which mirror this machine uses is nobody else's business."""


@dataclass(frozen=True)
class BaseImage:
    """A root file system by debootstrap's ``minbase`` with some packages."""

    name: str
    packages: tuple[str, ...]

    def reference(self, suite: str) -> str:
        """Return the image reference; the tag changes with anything that goes into the image."""
        digest = hashlib.sha256("\0".join([_RECIPE, suite, *self.packages]).encode()).hexdigest()
        return f"localhost/{self.name}:{suite}-{digest[:12]}"


PYTHON_BASE = BaseImage("pdfjob-base", ("python3", "python3-venv", "ca-certificates"))
CURL_BASE = BaseImage("pdfjob-test-curl", ("curl", "ca-certificates"))
"""A shell and curl: what a processor of a few lines needs (used by the tests)."""


def parse_suite(os_release: str) -> str:
    """Return the Debian suite to use: the machine's own, since its mirror has it.

    Raises
    ------
    DevclusterError
        The machine is not a Debian.
    """
    values = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    suite = values.get("VERSION_CODENAME", "").strip('"')
    if values.get("ID", "").strip('"') != "debian" or not suite:
        raise DevclusterError(
            "The base image is made by debootstrap from this machine's Debian mirror, and this machine is no "
            "Debian. Name a base image to pull instead: BASE_IMAGE=python:3.13-slim."
        )
    return suite


def parse_mirror(index_targets: str, suite: str) -> str:
    """Return the mirror that apt uses for the suite.

    Parameters
    ----------
    index_targets
        Lines ``URI SUITE`` as printed by ``apt-get indextargets``.
    suite
        The suite's code name.

    Raises
    ------
    DevclusterError
        apt knows no mirror for it.
    """
    for line in index_targets.splitlines():
        uri, _, codename = line.strip().rpartition(" ")
        if codename == suite and uri.startswith(("http:", "https:")):
            return uri
    raise DevclusterError(f"apt on this machine has no mirror for {suite}. Name a base image: BASE_IMAGE=...")


def machine_suite() -> str:
    """Return the suite of this machine."""
    return parse_suite(Path("/etc/os-release").read_text())


def ensure_base_image(paths: Paths, buildah: Buildah, image: BaseImage) -> str:
    """Make the image unless it is in buildah's storage, and return its reference.

    Raises
    ------
    DevclusterError
        debootstrap failed; the message names the log.
    """
    suite = machine_suite()
    reference = image.reference(suite)
    if buildah.has(reference):
        return reference
    archive = paths.cache / "images" / f"{image.name}-{reference.rpartition('-')[2]}.rootfs.tar"
    if not archive.exists():
        with step(f"making the base file system of {image.name} by debootstrap ({', '.join(image.packages)})"):
            _bootstrap(paths, image, suite, archive)
    with step(f"importing {reference}"):
        buildah.import_tar(archive, reference)
    return reference


def _bootstrap(paths: Paths, image: BaseImage, suite: str, archive: Path) -> None:
    log = paths.cache / "log" / f"debootstrap-{image.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    debs = paths.cache / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    mirror = parse_mirror(targets.stdout, suite)
    root = paths.cache / "build" / f"{image.name}.{os.getpid()}"
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(image.packages)}"]
    command += [f"--cache-dir={debs}", suite, str(root), mirror]
    try:
        with log.open("wb") as sink:
            done = subprocess.run(command, stdout=sink, stderr=sink, check=False)
        if done.returncode != 0:
            raise DevclusterError(f"`{shlex.join(command[:3])} ...` failed.\n{tail(log)}")
        _trim(root)
        partial = archive.with_suffix(".partial")
        with tarfile.open(partial, "w") as sink_tar:
            sink_tar.add(root, arcname=".", filter=_without_devices)
        partial.replace(archive)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _trim(root: Path) -> None:
    for name in _TRIMMED:
        folder = root / name
        for entry in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for name in _SOURCE_LISTS:
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for log in (root / "var/log").rglob("*"):
        if log.is_file():
            log.unlink()


def _without_devices(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave device nodes out: the container runtime makes its own."""
    return None if member.ischr() or member.isblk() else member
