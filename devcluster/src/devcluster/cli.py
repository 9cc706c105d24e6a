"""A real one-node Kubernetes for development, tests and the demo.

CLUSTER=local (the default) builds and runs one on this machine; CLUSTER=current uses the cluster of
your current kubectl context and never starts anything.
"""

import json
import os
import shlex
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import current, gemini, product
from .cluster import Cluster
from .environment import local_environment
from .errors import DevclusterError
from .gobuild import ensure_built, link_tools, tool_programs
from .images import LocalImages, find_repository
from .locking import exclusive
from .paths import Paths
from .progress import complain, console
from .settings import NODE_ADDRESS
from .versions import HELM, KUBERNETES

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
_WAITING = "another devcluster command is at work; waiting for it"


class Kind(StrEnum):
    """Which cluster to use."""

    LOCAL = "local"
    CURRENT = "current"


class DemoProcessor(StrEnum):
    """What the demo does with the text."""

    LOCAL = "local"
    GEMINI = "gemini"


ClusterOption = Annotated[
    Kind, typer.Option("--cluster", envvar="CLUSTER", help="local: built here; current: your kubectl context.")
]


@app.command()
def up(cluster: ClusterOption = Kind.LOCAL) -> None:
    """Bring the cluster up, from whatever state it is in, and wait until it is ready."""
    if cluster is Kind.CURRENT:
        context = current.check_context()
        console.print(f"using your current kubectl context: [bold]{context}[/bold] (nothing is started)")
        return
    _require_local()
    paths = Paths.from_environment()
    start = time.monotonic()
    with exclusive(paths, "devcluster", _WAITING):
        Cluster(paths).up()
    console.print(f"[green]cluster ready[/green] after {time.monotonic() - start:.1f} s")
    console.print(f"export KUBECONFIG={paths.kubeconfig}")


@app.command()
def down(
    purge: Annotated[bool, typer.Option(help="Also remove its objects, images, certificates, logs.")] = False,
    cluster: ClusterOption = Kind.LOCAL,
) -> None:
    """End what `up` started, and nothing else."""
    if cluster is Kind.CURRENT:
        console.print("CLUSTER=current: nothing was started, so nothing is stopped.")
        return
    _require_local()
    paths = Paths.from_environment()
    with exclusive(paths, "devcluster", _WAITING):
        Cluster(paths).down(purge=purge)


@app.command()
def status(cluster: ClusterOption = Kind.LOCAL) -> None:
    """Show every part. Exit code 1 when one is not running."""
    if cluster is Kind.CURRENT:
        console.print(f"current kubectl context: {current.check_context()}")
        return
    watched = Cluster(Paths.from_environment())
    parts = watched.status()
    for part in parts:
        print(f"{part.name:24} {part.state:8} {part.detail}")
    print(watched.node_answers())
    if any(part.state != "running" for part in parts):
        raise typer.Exit(1)


@app.command()
def kubeconfig(cluster: ClusterOption = Kind.LOCAL) -> None:
    """Print the path of the administrator's kubeconfig."""
    print(current.kubeconfig() if cluster is Kind.CURRENT else Paths.from_environment().kubeconfig)


@app.command()
def images(
    cluster: ClusterOption = Kind.LOCAL,
    test_images: Annotated[bool, typer.Option(help="Also the image with a shell and curl.")] = False,
) -> None:
    """Build the product's images if their sources changed, give them to the cluster, print them as JSON."""
    print(json.dumps(_ensure_images(cluster, test_images=test_images), indent=1))


@app.command()
def install(
    cluster: ClusterOption = Kind.LOCAL,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Further chart value, key=value; may be repeated.")
    ] = None,
) -> None:
    """Build the images if need be and install the Helm chart, with settings for a small cluster."""
    built = _ensure_images(cluster, test_images=False)
    settings = list(setting or [])
    if cluster is Kind.LOCAL:  # one small node
        settings = ["maxConcurrentChunks=4", "s3.embedded.persistence.size=5Gi", *settings]
    chart = find_repository(Path.cwd()) / "charts" / "pdfjob"
    with exclusive(Paths.from_environment(), "install", _WAITING):
        product.install(_environment(cluster), chart, built, settings)


@app.command()
def uninstall(cluster: ClusterOption = Kind.LOCAL) -> None:
    """Take pdfjob off the cluster; nothing is left but the cluster."""
    product.uninstall(_environment(cluster))


@app.command()
def demo(
    document: Annotated[Path, typer.Argument(help="The PDF.", exists=True, dir_okay=False)],
    language: Annotated[str, typer.Option(help="Its language.")] = "fr",
    processor: Annotated[
        DemoProcessor, typer.Option(envvar="PROCESSOR", help="What is done with its text.")
    ] = DemoProcessor.LOCAL,
    cluster: ClusterOption = Kind.LOCAL,
) -> None:
    """Submit a document and show it go through the cluster."""
    plugin = Path(sys.executable).with_name("kubectl-pdfjob")
    environment = _environment(cluster)
    product.prepare_demo(environment)
    if processor is DemoProcessor.LOCAL:
        product.demo(environment, plugin, document, language)
    else:
        image = _ensure_images(cluster, test_images=False)["runner"]
        gemini.demo(environment, plugin, document, language, image)
    product.say_more()


@app.command()
def tools() -> None:
    """Build kubectl and helm of the pinned versions and print the folder that holds them."""
    paths = Paths.from_environment()
    with exclusive(paths, "devcluster", _WAITING):
        ensure_built(paths, KUBERNETES, HELM)
    link_tools(paths, tool_programs(paths))
    print(paths.tools)


@app.command(name="audit-log")
def audit_log() -> None:
    """Print the path of the API server's audit log (one JSON event per line, writes only)."""
    print(Paths.from_environment().audit_log)


@app.command()
def env(cluster: ClusterOption = Kind.LOCAL) -> None:
    """Print shell lines that point kubectl, helm and ctr at the cluster: eval "$(devcluster env)"."""
    if cluster is Kind.CURRENT:
        print(f"export KUBECONFIG={shlex.quote(current.kubeconfig())}")
        return
    paths = Paths.from_environment()
    print(f"export KUBECONFIG={shlex.quote(str(paths.kubeconfig))}")
    print(f'export PATH={shlex.quote(str(paths.tools))}:"$PATH"')
    print(f"export CONTAINERD_ADDRESS={shlex.quote(str(paths.containerd_socket))}")
    print("export CONTAINERD_NAMESPACE=k8s.io")
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy")):
        for name in ("NO_PROXY", "no_proxy"):
            print(f'export {name}="${{{name}:+${name},}}{NODE_ADDRESS}"')


def _environment(cluster: Kind) -> dict[str, str]:
    """Return the environment that points kubectl and helm at the cluster."""
    return dict(os.environ) if cluster is Kind.CURRENT else local_environment(Paths.from_environment())


def _ensure_images(cluster: Kind, *, test_images: bool) -> dict[str, str]:
    paths = Paths.from_environment()
    repository = find_repository(Path.cwd())
    if cluster is Kind.CURRENT:
        return current.build_images(paths, repository)
    _require_local()
    with exclusive(paths, "images", _WAITING):
        return LocalImages(paths, repository).ensure(with_test_images=test_images)


def local_obstacle(platform: str, user_id: int) -> str | None:
    """Say why the local cluster cannot run here at all, or return None."""
    if platform != "linux":
        return "The local cluster runs on Linux. Use a cluster you have: CLUSTER=current."
    if user_id != 0:
        return (
            "The local cluster needs root: it makes network interfaces, mounts and control groups. "
            "Run the same command as root (sudo -E), or use a cluster you have: CLUSTER=current."
        )
    return None


def _require_local() -> None:
    obstacle = local_obstacle(sys.platform, os.geteuid())
    if obstacle:
        raise DevclusterError(obstacle)


def main() -> None:
    """Run the command line; an expected failure is one message and exit code 1."""
    try:
        app(prog_name="devcluster")
    except DevclusterError as error:
        complain(str(error))
        sys.exit(1)
