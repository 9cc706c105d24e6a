"""Debian packages that the local cluster needs."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from .errors import DevclusterError
from .logs import tail
from .paths import Paths
from .progress import step
from .versions import APT_PACKAGES


def _is_there(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program) is not None


def missing_packages(is_there: Callable[[str], bool] = _is_there) -> list[str]:
    """Return the packages of which some program is not on this machine."""
    return [name for name, programs in APT_PACKAGES.items() if not all(map(is_there, programs))]


def missing_message(missing: list[str], *, is_root: bool, has_apt: bool) -> str:
    """Say what is missing and what to do, for a machine where we cannot install it ourselves."""
    names = " ".join(missing)
    if has_apt and not is_root:
        return (
            f"The local cluster needs these packages: {names}. "
            f"Install them (sudo apt-get install {names}) or run this command as root, which does it for you."
        )
    return (
        f"The local cluster needs the programs of these Debian packages: {names}. This machine has no "
        "apt-get: install them by your own package manager, or use a cluster you have: CLUSTER=current."
    )


def ensure_packages(paths: Paths) -> None:
    """Install what is missing, when root and apt allow it.

    Raises
    ------
    DevclusterError
        Something is missing and cannot be installed here.
    """
    missing = missing_packages()
    if not missing:
        return
    is_root, has_apt = os.geteuid() == 0, shutil.which("apt-get") is not None
    if not (is_root and has_apt):
        raise DevclusterError(missing_message(missing, is_root=is_root, has_apt=has_apt))
    with step(f"installing Debian packages: {' '.join(missing)}"):
        _apt(paths, ["update"])
        _apt(paths, ["install", "--yes", "--no-install-recommends", *missing])
    still = missing_packages()
    if still:
        raise DevclusterError(f"apt-get installed {' '.join(still)}, yet their programs are not there.")


def _apt(paths: Paths, arguments: list[str]) -> None:
    log = paths.cache / "log" / f"apt-{arguments[0]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with log.open("wb") as sink:
        done = subprocess.run(["apt-get", "-q", *arguments], env=environment, stdout=sink, stderr=sink, check=False)
    if done.returncode != 0:
        raise DevclusterError(f"`apt-get {' '.join(arguments)}` failed.\n{tail(log)}")
