"""Builds the cluster's programs from pinned Go modules."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from .errors import DevclusterError
from .logs import tail
from .paths import Paths
from .progress import step
from .versions import HELM, KUBERNETES, VERSITYGW, Component


def binary(paths: Paths, component: Component, program: str | None = None) -> Path:
    """Return the path of a built program (the component's only one when not named)."""
    return paths.binaries / component.key / (program or component.programs[0])


def is_built(paths: Paths, component: Component) -> bool:
    """Tell whether every program of the component is there at the pinned version."""
    return all(binary(paths, component, program).exists() for program in component.programs)


def go_version(output: str) -> tuple[int, int]:
    """Read (major, minor) from what ``go version`` or ``go env GOVERSION`` prints.

    Raises
    ------
    DevclusterError
        The text holds no Go version.
    """
    match = re.search(r"go(\d+)\.(\d+)", output)
    if match is None:
        raise DevclusterError(f"Cannot read a Go version from {output!r}.")
    return int(match.group(1)), int(match.group(2))


def check_go(component: Component) -> None:
    """Make sure that a Go toolchain new enough for the component is on PATH.

    Raises
    ------
    DevclusterError
        There is none, or it is too old and may not fetch a newer one itself.
    """
    need = ".".join(map(str, component.minimum_go))
    if shutil.which("go") is None:
        raise DevclusterError(
            f"Building {component.name} needs Go {need} or newer, and there is no `go` on PATH. "
            "Install Go (https://go.dev/doc/install), or use a cluster you have: CLUSTER=current."
        )
    have = _go_env("GOVERSION")
    if go_version(have) < component.minimum_go and _go_env("GOTOOLCHAIN") == "local":
        raise DevclusterError(
            f"Building {component.name} needs Go {need} or newer; this machine has {have} and "
            "GOTOOLCHAIN=local forbids it to fetch a newer one. Install a newer Go or unset GOTOOLCHAIN."
        )


def ensure_built(paths: Paths, *components: Component) -> None:
    """Build the components unless the same versions from the same files are there already.

    Raises
    ------
    DevclusterError
        No usable Go toolchain (said before anything is built), or a build failed; the message names the log.
    """
    missing = [component for component in components if not is_built(paths, component)]
    for component in missing:
        check_go(component)
    for component in missing:
        about = f"once per version, about {component.seconds} s on two cores"
        with step(f"building {component.name} {component.version} from its Go module ({about})"):
            _build(paths, component)


def _build(paths: Paths, component: Component) -> None:
    target = paths.binaries / component.key
    partial = paths.binaries / f".{component.key}.{os.getpid()}"
    log = paths.cache / "log" / f"build-{component.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    partial.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-mod=readonly", "-buildvcs=false"]
    if component.tags:
        command += ["-tags", component.tags]
    # With several packages -o must be a folder; with the package "." the file is named here.
    output = f"{partial}/{component.name}" if component.packages == (".",) else f"{partial}/"
    command += ["-ldflags", component.linker_flags, "-o", output, *component.packages]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    try:
        with log.open("wb") as sink:
            done = subprocess.run(command, cwd=component.folder, env=environment, stdout=sink, stderr=sink, check=False)
        if done.returncode != 0:
            raise DevclusterError(
                f"Building {component.name} {component.version} failed (exit {done.returncode}).\n{tail(log)}"
            )
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def tool_programs(paths: Paths) -> dict[str, Path]:
    """Return the programs that people and tests call, and where they were built."""
    return {
        "kubectl": binary(paths, KUBERNETES, "kubectl"),
        "helm": binary(paths, HELM),
        "versitygw": binary(paths, VERSITYGW),
    }


def link_tools(paths: Paths, programs: dict[str, Path]) -> None:
    """Point ``tools/NAME`` at the built programs, so that ``PATH`` needs one stable folder."""
    paths.tools.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        link = paths.tools / name
        if not link.is_symlink() or link.readlink() != program:
            partial = link.with_name(f".{name}.{os.getpid()}")
            partial.unlink(missing_ok=True)
            partial.symlink_to(program)
            partial.replace(link)


def remove_old_builds(paths: Paths, components: tuple[Component, ...]) -> None:
    """Delete builds of other versions of the given components: each set is about 500 MB."""
    for component in components:
        for folder in paths.binaries.glob(f"{component.name}-v*"):
            if folder.name != component.key:
                shutil.rmtree(folder)


def _go_env(name: str) -> str:
    done = subprocess.run(["go", "env", name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DevclusterError(f"`go env {name}` failed: {done.stderr.strip()}")
    return done.stdout.strip()
