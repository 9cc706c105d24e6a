"""Brings the local cluster up and down, and tells how it is."""

import datetime as dt
import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import addons, cgroups, controlplane, network, node, ports, readiness, settings
from .buildah import Buildah
from .certificates import ensure_certificates
from .errors import DevclusterError
from .gobuild import binary, ensure_built, is_built, link_tools, remove_old_builds, tool_programs
from .logs import tail
from .packages import ensure_packages
from .paths import Paths
from .processes import Part, ProcessTable, end_process, is_alive, is_shim, kill_all, marked_processes
from .progress import note, step
from .readiness import Kubectl
from .store import ImageStore
from .versions import COMPONENTS, COREDNS, KUBERNETES, NODE

PARTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "volume-provisioner",
)
"""Every part, in the order of starting."""
_STOP_ORDER = (
    "volume-provisioner",
    "kubelet",
    "kube-proxy",
    "containerd",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "etcd",
)


@dataclass(frozen=True)
class PartStatus:
    """How one part is."""

    name: str
    state: str
    """``running``, ``dead`` (it was started and is gone) or ``stopped``."""
    detail: str


class Cluster:
    """The local one-node cluster."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._table = ProcessTable(paths)
        self._kubectl = Kubectl(paths)
        self._store = ImageStore(paths)

    @property
    def node_image(self) -> str:
        """Reference of the pause and probe image; the tag is the hash of its source."""
        return f"localhost/pdfjob-node:{NODE.key.removeprefix('node-')}"

    @property
    def coredns_image(self) -> str:
        """Reference of the CoreDNS image."""
        return f"localhost/coredns:{COREDNS.key.removeprefix('coredns-')}"

    def up(self) -> None:
        """Bring the cluster up from whatever state it is in; return when it is ready.

        Raises
        ------
        DevclusterError
            Something is missing on this machine, or a part does not start.
        """
        ensure_packages(self._paths)
        ensure_built(self._paths, *COMPONENTS)
        link_tools(self._paths, tool_programs(self._paths))
        self._build_node_images()
        remove_old_builds(self._paths, COMPONENTS)
        made = ensure_certificates(self._paths)
        if made:
            note(f"certificates made: {', '.join(made)}")
        controlplane.write_configuration(self._paths)
        node.write_configuration(self._paths, self.node_image)
        self._name_the_dead()
        if not any(map(self._table.is_running, PARTS)):
            self._clean_leftovers()
        network.ensure_network()
        cgroups.ensure_cgroup_root()
        since = dt.datetime.now(dt.UTC)
        started = self._start_parts()
        self._apply_addons()
        if not started and self._ready_file.exists() and readiness.is_serving(self._kubectl):
            note("the cluster runs already and answers")
            return
        self._wait_until_ready(since if started else since - dt.timedelta(seconds=10))

    def down(self, *, purge: bool) -> None:
        """End every process of this cluster and take away what it made on this machine.

        Parameters
        ----------
        purge
            Also forget the cluster's state: objects, images in containerd, certificates, logs.
        """
        with step("stopping the cluster's processes"):
            self._ready_file.unlink(missing_ok=True)
            for name in _STOP_ORDER:
                if self._table.stop(name):
                    note(f"{name} stopped")
            self._end_everything()
        with step("removing mounts, network and control groups"):
            self._unmount(self._paths.run, self._paths.state)
            proxy = binary(self._paths, KUBERNETES, "kube-proxy")
            network.remove_network(self._paths, proxy)
            cgroups.remove_groups(keep_root=False)
            shutil.rmtree(self._paths.run / "containerd", ignore_errors=True)
        if purge:
            with step(f"removing the cluster's state in {self._paths.state}"):
                self._unmount(self._paths.cache / "buildah")
                shutil.rmtree(self._paths.run, ignore_errors=True)
                if self._paths.state.exists():
                    shutil.rmtree(self._paths.state)

    def status(self) -> list[PartStatus]:
        """Tell for every part whether it runs; a dead one with the end of its log."""
        found = []
        for name in PARTS:
            record = self._table.record(name)
            if record is None:
                found.append(PartStatus(name, "stopped", ""))
            elif is_alive(record):
                age = dt.timedelta(seconds=int(time.time() - record.started))
                found.append(PartStatus(name, "running", f"pid {record.pid}, for {age}"))
            else:
                found.append(PartStatus(name, "dead", tail(Path(record.log), 3)))
        return found

    def node_answers(self) -> str:
        """Describe the node's last sign of life in one line."""
        if not self._table.is_running("kube-apiserver"):
            return "the API server does not run"
        renewed = readiness.node_lease(self._kubectl)
        if renewed is None:
            return "the API server does not answer or knows no node"
        age = (dt.datetime.now(dt.UTC) - renewed).total_seconds()
        return f"node {settings.NODE_NAME} renewed its Lease {age:.0f} s ago"

    @property
    def _ready_file(self) -> Path:
        """Exists while the last `up` saw the cluster ready; gone while one is under way."""
        return self._paths.state / "ready.json"

    @property
    def _archives(self) -> Path:
        return self._paths.cache / "images"

    def _build_node_images(self) -> None:
        """Make the archives of the two images without which no pod starts."""
        self._archives.mkdir(parents=True, exist_ok=True)
        for component, reference, lines in (
            (NODE, self.node_image, ['ENTRYPOINT ["/node"]', 'CMD ["pause"]', "USER 65532:65532"]),
            (COREDNS, self.coredns_image, ['ENTRYPOINT ["/coredns"]']),
        ):
            archive = self._archive_of(reference)
            if archive.exists():
                continue
            if not is_built(self._paths, component):
                raise DevclusterError(f"{component.name} is not built.")
            with step(f"building image {reference}"):
                buildah = Buildah(self._paths)
                context = self._paths.cache / "build" / component.name
                buildah.build_from_scratch(binary(self._paths, component), reference, lines, context)
                partial = archive.with_suffix(".partial")
                buildah.save(reference, partial)
                partial.replace(archive)

    def _archive_of(self, reference: str) -> Path:
        return self._archives / f"{reference.replace('/', '_').replace(':', '_')}.tar"

    def _name_the_dead(self) -> None:
        for part in self.status():
            if part.state == "dead":
                note(f"{part.name} had died; starting it again", style="yellow")

    def _clean_leftovers(self) -> None:
        """Remove what a killed cluster left: processes without records, mounts, network namespaces."""
        found = marked_processes(self._paths.state)
        inside = cgroups.contained_processes()
        mounts = self._mounts(self._paths.run / "containerd")
        if not (found or inside or mounts):
            return
        with step(f"cleaning up after an unclean end ({len(found) + len(inside)} processes, {len(mounts)} mounts)"):
            self._end_everything()
            self._unmount(self._paths.run / "containerd")
            network.remove_pod_networks(self._paths)
            cgroups.remove_groups(keep_root=True)
            shutil.rmtree(self._paths.run / "containerd", ignore_errors=True)

    def _end_everything(self) -> None:
        """End marked processes, shims first so that none restarts anything, then what is in containers."""
        marked = marked_processes(self._paths.state)
        kill_all([pid for pid in marked if is_shim(pid)])
        for pid in marked:
            end_process(pid, timeout=3)
        cgroups.end_containers()

    def _start_parts(self) -> list[str]:
        """Start what does not run as configured, wait until each answers; return the names of the started."""
        paths, table = self._paths, self._table
        servers = [controlplane.etcd(paths), controlplane.api_server(paths), node.containerd(paths)]
        clients = [
            controlplane.controller_manager(paths),
            controlplane.scheduler(paths),
            node.kubelet(paths),
            node.kube_proxy(paths),
            node.volume_provisioner(paths),
        ]
        started = [part.name for part in (*servers, *clients) if not table.is_current(part)]
        if not started:
            return []
        self._ready_file.unlink(missing_ok=True)
        with step(f"starting {', '.join(started)}"):
            self._start_pending(servers, started)
            # The kubelet exits for good when containerd's socket is not there yet.
            table.wait_until("containerd", self._store.answers, 60, "answering on its socket")
            self._import_node_images()
            table.wait_until(
                "kube-apiserver",
                lambda: self._kubectl.succeeds("get", "--raw", "/readyz"),
                90,
                "becoming ready",
            )
            self._start_pending(clients, started)
        return started

    def _start_pending(self, parts: list[Part], pending: list[str]) -> None:
        for part in parts:
            if part.name in pending:
                self._table.stop(part.name)
                ports.check_free(part.name)
                self._table.start(part)

    def _import_node_images(self) -> None:
        there = self._store.references()
        for reference in (self.node_image, self.coredns_image):
            if reference not in there:
                self._store.import_archive(self._archive_of(reference))

    def _apply_addons(self) -> None:
        servers = node.upstream_resolvers((self._paths.config / "resolv.conf").read_text())
        rendered = addons.manifests(self.coredns_image, servers)
        applied = self._paths.state / "addons.yaml"
        if self._ready_file.exists() and applied.exists() and applied.read_text() == rendered:
            return
        with step("applying CoreDNS and the default StorageClass"):
            self._kubectl.run(
                "apply",
                "--server-side",
                "--force-conflicts",
                "--field-manager=devcluster",
                "-f",
                "-",
                text_input=rendered,
            )
            applied.write_text(rendered)

    def _wait_until_ready(self, since: dt.datetime) -> None:
        log = self._paths.logs / "kubelet.log"
        with step("waiting for the node to renew its Lease"):
            readiness.wait_for_node(self._kubectl, since, 90, log)
        with step("running a probe pod that uses cluster DNS and a Service address"):
            readiness.run_probe(self._kubectl, self.node_image, 90)
        dead = [part.name for part in self.status() if part.state != "running"]
        if dead:
            raise DevclusterError(f"Died while the cluster was starting: {', '.join(dead)}. See `devcluster status`.")
        self._ready_file.write_text(json.dumps({"ready": dt.datetime.now(dt.UTC).isoformat()}))

    def _mounts(self, *folders: Path) -> list[str]:
        """Return mount points below the folders, innermost first."""
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        prefixes = tuple(f"{folder}/" for folder in folders)
        return [point for point in reversed(points) if point.startswith(prefixes)]

    def _unmount(self, *folders: Path) -> None:
        points = self._mounts(*folders)
        if points:
            subprocess.run(["umount", "--lazy", *points], capture_output=True, check=False)
