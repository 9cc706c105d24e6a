"""CLUSTER=current: the cluster of the user's own kubectl context, which we never start or change."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from .errors import DevclusterError
from .images import PRODUCT_IMAGES, build_arguments, content_tag, write_record
from .paths import Paths
from .progress import note, step

BUILDERS = ("docker", "podman", "buildah")
"""Programs that build a Dockerfile, in the order of preference."""


def kubeconfig() -> str:
    """Return what kubectl reads: KUBECONFIG, or the default file."""
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


def check_context() -> str:
    """Return the current context's name.

    Raises
    ------
    DevclusterError
        There is no kubectl, no current context, or its API server does not answer.
    """
    if shutil.which("kubectl") is None:
        raise DevclusterError("CLUSTER=current needs `kubectl` on PATH.")
    named = _kubectl("config", "current-context")
    if named.returncode != 0:
        raise DevclusterError(
            f"CLUSTER=current, and kubectl has no current context in {kubeconfig()}. "
            "Choose one: kubectl config use-context NAME."
        )
    context = named.stdout.strip()
    answer = _kubectl("get", "--raw", "/version")
    if answer.returncode != 0:
        raise DevclusterError(f"The cluster of context {context} does not answer: {answer.stderr.strip()}")
    return context


def build_images(paths: Paths, repository: Path) -> dict[str, str]:
    """Build the product's images with the machine's builder; push them, or say how to load them.

    ``IMAGE_REGISTRY`` names the registry to push to (you are logged in there). ``BASE_IMAGE``
    replaces the Dockerfiles' base.

    Raises
    ------
    DevclusterError
        There is no builder, or building or pushing failed.
    """
    builder = next((name for name in BUILDERS if shutil.which(name)), None)
    if builder is None:
        raise DevclusterError(f"Building images needs one of these programs: {', '.join(BUILDERS)}.")
    registry = os.environ.get("IMAGE_REGISTRY", "").rstrip("/")
    base = os.environ.get("BASE_IMAGE") or None
    built = {}
    for image in PRODUCT_IMAGES:
        tag = content_tag(repository, image.inputs, base or "")
        reference = f"{registry or 'localhost'}/{image.repository}:{tag}"
        with step(f"building {reference} with {builder}"):
            command = [builder, "build", "-f", image.dockerfile, "-t", reference]
            for name, value in build_arguments(base, os.environ).items():
                command += ["--build-arg", f"{name}={value}"]
            _builder([*command, "."], repository)
        if registry:
            with step(f"pushing {reference}"):
                _builder([builder, "push", reference], repository)
        built[image.name] = reference
    if not registry:
        note(load_instructions(builder, list(built.values())))
    write_record(paths, built)
    return built


def load_instructions(builder: str, references: list[str]) -> str:
    """Say how to give built images to a cluster without a registry."""
    if builder == "docker":
        how = [f"kind load docker-image {reference}" for reference in references]
    else:
        how = [
            f"{builder} push {reference} docker-archive:image.tar:{reference} && kind load image-archive image.tar"
            for reference in references
        ]
    lines = "\n      ".join(how)
    return (
        "IMAGE_REGISTRY is not set, so nothing was pushed. Load the images yourself, for kind:\n      "
        f"{lines}\n    or set IMAGE_REGISTRY=registry.example.com/team and run this again."
    )


def _builder(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise DevclusterError(f"`{shlex.join(command)}` failed (exit {done.returncode}); its output is above.")


def _kubectl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["kubectl", "--request-timeout=15s", *arguments], capture_output=True, text=True, check=False)
