"""A simulated node: a Node object that stays ready, and a kubelet whose containers are runners on the wire.

The scheduler binds pods to it that select its label and tolerate its taint. It does with them what a kubelet does, as
far as a Job or an operator can tell: Running, terminated with exit code and message, gone when deleted.
Run as ``python -m bench.soaking.node``; it ends at SIGTERM and has written a line for each pod by then.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import aiohttp

from bench.soaking.api import NodeApi, Raw, RefusedError, patiently
from bench.soaking.fates import fate_of, seconds_of
from bench.soaking.runner import Ended, Runner
from pdfjob_api.errors import ExitCode
from pdfjob_api.names import RUNNER_CONTAINER

LABEL: Final = "pdfjob.dev/simulated-node"
"""Label and taint of the node; its value is the node's name."""
_LEASE_SECONDS: Final = 40
_BEAT_SECONDS: Final = 10
_LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_CAPACITY: Final = {"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "4Ti", "pods": "2000"}
_INTERRUPTED: Final = Ended(ExitCode.INTERRUPTED, "Error", '{"message":"SIGTERM"}')


@dataclass
class Life:
    """A pod on this node."""

    pod: Raw
    began: float = 0.0
    told: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its deletion was asked for."""
    task: asyncio.Task[None] | None = None


@dataclass
class SimulatedNode:
    """The node and its pods."""

    api: NodeApi
    name: str
    seed: int
    sink: TextIO
    """Takes a line of JSON for each pod that has ended."""
    lives: dict[str, Life] = field(default_factory=dict)
    version: str = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Join the cluster, play pods until ``stop`` is set, leave."""
        await self._join()
        tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._follow())]
        try:
            await asyncio.wait([asyncio.create_task(stop.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(RefusedError):
                await self.api.call("DELETE", f"/api/v1/nodes/{self.name}")
            with contextlib.suppress(RefusedError):
                await self.api.call("DELETE", f"{_LEASES}/{self.name}")

    async def _join(self) -> None:
        metadata = {"name": self.name, "labels": {LABEL: self.name, "kubernetes.io/hostname": self.name}}
        taints = [{"key": LABEL, "value": self.name, "effect": "NoSchedule"}]
        await self.api.call(
            "POST",
            "/api/v1/nodes",
            {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": taints}},
        )
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name}}
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": _LEASE_SECONDS, "renewTime": _now(micro=True)}
        await self.api.call("POST", _LEASES, {**lease, "spec": spec})
        await self._tell_ready()

    async def _tell_ready(self) -> None:
        now = _now()
        pressure = [
            {"type": kind, "status": "False", "reason": "Simulated", "message": "", **_times(now)}
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
        ]
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated", **_times(now)}
        status = {"capacity": _CAPACITY, "allocatable": _CAPACITY, "conditions": [*pressure, ready]}
        await self.api.call("PATCH", f"/api/v1/nodes/{self.name}/status", {"status": status})

    async def _beat(self) -> None:
        """Renew the lease as a kubelet does; the status is told anew each time, which a kubelet does less often."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            try:
                await self.api.call("PATCH", f"{_LEASES}/{self.name}", {"spec": {"renewTime": _now(micro=True)}})
                await self._tell_ready()
            except (RefusedError, aiohttp.ClientError, TimeoutError) as error:
                print(f"node: heartbeat: {error!r}", file=sys.stderr)

    async def _follow(self) -> None:
        """List and watch the pods bound to this node, for ever."""
        path = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.name}"
        while True:
            try:
                if not self.version:
                    found = await self.api.call("GET", path)
                    for pod in found["items"]:
                        self._learn("MODIFIED", pod)
                    self.version = found["metadata"]["resourceVersion"]
                async for event in self.api.watch(f"{path}&resourceVersion={self.version}&allowWatchBookmarks=true"):
                    if event["type"] == "ERROR":
                        self.version = ""
                        break
                    self.version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._learn(event["type"], event["object"])
            except (RefusedError, aiohttp.ClientError, TimeoutError) as error:
                print(f"node: watch: {error!r}", file=sys.stderr)
                self.version = ""
                await asyncio.sleep(1)

    def _learn(self, kind: str, pod: Raw) -> None:
        uid = pod["metadata"]["uid"]
        life = self.lives.get(uid)
        deleted = "deletionTimestamp" in pod["metadata"]
        if kind == "DELETED":
            if life is not None:
                life.told.set()
                if life.task is None or life.task.done():
                    del self.lives[uid]
        elif life is not None:
            life.pod = pod
            if deleted and not life.told.is_set():
                life.told.set()
                if life.task is not None and life.task.done():
                    life.task = asyncio.create_task(self._remove(life))
        elif pod["status"].get("phase", "Pending") == "Pending" or deleted:
            life = self.lives[uid] = Life(pod)
            if deleted:
                life.told.set()
            life.task = asyncio.create_task(self._remove(life) if deleted else self._live(life))

    async def _live(self, life: Life) -> None:
        """Take a pod from its binding to its end."""
        runner = Runner.of(self.api, life.pod)
        task = runner.task
        fate = fate_of(self.seed, task.job, task.chunk, task.start)
        told: Raw = {"namespace": task.namespace, "job": task.job, "chunk": task.chunk, "start": task.start}
        told |= {"fate": fate.name, "began": time.time()}
        started = _now()
        try:
            await self._tell(life, "Running", {"running": {"startedAt": started}}, started, running=True)
            end = await self._work(life, runner)
            phase = "Succeeded" if end.exit_code == 0 else "Failed"
            told |= {"exitCode": end.exit_code}
            state = {"exitCode": end.exit_code, "reason": end.reason, "message": end.message}
            state |= {"startedAt": started, "finishedAt": _now()}
            await self._tell(life, phase, {"terminated": state}, started)
        except (RefusedError, ValueError, aiohttp.ClientError, TimeoutError) as error:
            told |= {"error": str(error)[:500]}
        finally:
            told |= {"ended": time.time(), "deleted": life.told.is_set()}
            self.sink.write(json.dumps(told) + "\n")
            self.sink.flush()
        if life.told.is_set():
            await self._remove(life)

    async def _work(self, life: Life, runner: Runner) -> Ended:
        """Let the container run for its time; SIGTERM ends it before."""
        task = runner.task
        with contextlib.suppress(TimeoutError):
            seconds = seconds_of(self.seed, task.job, task.chunk, task.start)
            await asyncio.wait_for(life.told.wait(), seconds)
            return _INTERRUPTED
        return await runner.work(fate_of(self.seed, task.job, task.chunk, task.start))

    async def _tell(self, life: Life, phase: str, state: Raw, started: str, *, running: bool = False) -> None:
        image = life.pod["spec"]["containers"][0]["image"]
        container = {
            "name": RUNNER_CONTAINER,
            "image": image,
            "imageID": f"simulated://{image}",
            "restartCount": 0,
            "ready": running,
            "started": running,
            "state": state,
        }
        status = {"phase": phase, "startTime": started, "containerStatuses": [container]}
        path = f"{_path(life.pod)}/status"
        await patiently(lambda: self.api.call("PATCH", path, {"status": status}))

    async def _remove(self, life: Life) -> None:
        """Let a deleted pod go, as a kubelet does when its containers have ended."""
        uid = life.pod["metadata"]["uid"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        with contextlib.suppress(RefusedError):  # gone already
            await self.api.call("DELETE", _path(life.pod), body)
        self.lives.pop(uid, None)


def _path(pod: Raw) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _now(*, micro: bool = False) -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _times(now: str) -> dict[str, Any]:
    return {"lastHeartbeatTime": now, "lastTransitionTime": now}


async def _main(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with arguments.lives.open("a") as sink:
        async with NodeApi.connect(arguments.kubeconfig) as api:
            await SimulatedNode(api, arguments.name, arguments.seed, sink).run(stop)


def main() -> None:
    """Run the node until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--name", required=True, help="of the Node object")
    parser.add_argument("--seed", type=int, required=True, help="of the fates")
    parser.add_argument("--lives", type=Path, required=True, help="file for a line about each pod")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
