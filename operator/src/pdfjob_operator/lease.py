"""Leader election: of several operator processes the one that holds a Lease works, the others wait for it.

The election of the ``kubernetes`` library (``kubernetes.aio.leaderelection``) is not used: its calls have no time-out,
it ends at the first broken connection, it trusts the wall clocks of two machines, it never releases, and nothing in it
keeps a process that was stopped for a while from writing when it goes on. The rules below are those of client-go.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from pdfjob_api.names import MANAGED_BY

from .clock import utc_now
from .storage.kubernetes import LEASES, AlreadyExistsError, Cluster, ConflictError, KubernetesError, NotFoundError

CALL_SECONDS: Final = 3.0
"""Time-out of one call: within the renew deadline there is room for another."""

Raw = dict[str, Any]
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take, in seconds."""

    duration: int = 10
    """Nobody else takes a lease before it has not been renewed for so long."""
    renew: float = 6.0
    """A holder whose renewals fail for so long gives up, well before others may take the lease."""
    retry: float = 2.0
    """From the begin of one try to the next."""
    margin: float = 1.0
    """A write must have arrived before the lease expires, so none begins in this last part of it."""


class LeaseLostError(RuntimeError):
    """A write was tried without a valid lease."""


def clock() -> float:
    """Seconds that also pass while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end_process(reason: str) -> None:
    """End the process at once: no clean-up, no thread, no ``finally`` writes anything any more."""
    log.error("the lease is lost, the operator ends at once", reason=reason)
    os._exit(1)


def own_identity(environment: Mapping[str, str] = os.environ) -> str:
    """Return who we are to others.

    It is the pod's, not the process's: a container that is restarted in its pod takes its own lease back at once,
    since the process before it is surely dead.
    """
    name, uid = environment.get("POD_NAME"), environment.get("POD_UID")
    return f"{name}_{uid}" if name and uid else f"{socket.gethostname()}_{uuid.uuid4()}"


class Lease:
    """One lease that this process wants, holds, or has released.

    Parameters
    ----------
    cluster
        With connections and time-outs (`CALL_SECONDS`) of its own: calls of the work must not delay a renewal.
    namespace, name, identity
        Which Lease, and whom it names as its holder.
    lost
        Called, from any thread, when the lease was held and is not any more. It should not return.
    now
        Seconds of a clock that never steps.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        lost: Callable[[str], None] = end_process,
        now: Callable[[], float] = clock,
        times: Times | None = None,
    ) -> None:
        self.cluster = cluster
        self._times = times or Times()
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lost = lost
        self._now = now
        self._held: Raw = {}
        self._renewed = float("-inf")
        self._seen: tuple[str, float] = "", float("-inf")
        """Version of somebody else's lease, and when it was seen first: clocks of two machines are never compared."""
        self._ended = threading.Event()
        self._ended.set()

    @property
    def held(self) -> bool:
        """Whether this process may write now."""
        return not self._ended.is_set() and self._now() < self._expires

    @property
    def _expires(self) -> float:
        return self._renewed + self._times.duration - self._times.margin

    def check(self) -> None:
        """Pass while the lease is valid; to be called before each write, from any thread, and cheap.

        A process that was stopped, or whose event loop was blocked, finds out here before it finds out anywhere else.

        Raises
        ------
        LeaseLostError
            When the lease is not held. When it was, and expired, the process ends instead.
        """
        if self.held:
            return
        if not self._ended.is_set():
            self._lose("it expired before a write")
        raise LeaseLostError("nothing is written without the lease")

    async def acquire(self) -> None:
        """Wait until the lease is ours; trouble with the API server is waited out."""
        log.info("waiting for the lease", lease=f"{self._namespace}/{self._name}", identity=self._identity)
        found: Raw | None = None
        trouble = ""
        while True:
            try:
                found = found or await self._read()
                if self._free(found):
                    await self._write(found)
                    break
                found = await self._next(found)
            except (ConflictError, AlreadyExistsError):
                found = None  # somebody was faster: read who
            except KubernetesError as error:
                if str(error) != trouble:
                    log.warning("the lease cannot be asked for", error=str(error))
                found, trouble = None, str(error)
                await asyncio.sleep(self._times.retry)
        self._ended.clear()
        # A thread, since an event loop that is blocked cannot see that time has passed.
        threading.Thread(target=self._watch, name="lease", daemon=True).start()
        log.info("leading", lease=f"{self._namespace}/{self._name}", identity=self._identity)

    async def hold(self) -> None:
        """Renew the lease; returns only when it was released, since the process ends when it is lost."""
        due = self._renewed + self._times.retry
        while not self._ended.is_set():
            await asyncio.sleep(max(due - self._now(), 0.0))
            due = self._now() + self._times.retry
            error = await self._renew()
            if error is not None and not self._ended.is_set():
                age = self._now() - self._renewed
                log.warning("the lease was not renewed", error=error, seconds=round(age, 1))
                if age >= self._times.renew:
                    self._lose(error)

    async def release(self) -> None:
        """Let the next one take the lease at once; from here on `check` refuses."""
        self._ended.set()
        try:
            found = await self._read()
            if found.get("spec", {}).get("holderIdentity") == self._identity:
                await self.cluster.replace(LEASES, self._namespace, self._name, self._body(found, holder=""))
                log.info("lease released")
        except KubernetesError as error:  # then it expires
            log.warning("the lease was not released", error=str(error))

    async def _renew(self) -> str | None:
        """Try once to renew the lease, before the deadline; returns what went wrong."""
        left = self._renewed + self._times.renew - self._now()
        try:
            async with asyncio.timeout(max(left, self._times.margin)):  # one try even if late: it has not expired yet
                try:
                    await self._write(self._held)
                except (ConflictError, NotFoundError, AlreadyExistsError):
                    # Changed or deleted by hand, or an earlier renewal went through although its answer was lost.
                    found = await self._read()
                    holder = found.get("spec", {}).get("holderIdentity")
                    if found and holder != self._identity:
                        self._lose(f"it is held by {holder or 'nobody'}")
                        return "held by another"
                    await self._write(found)
        except TimeoutError:
            return "no answer in time"
        except KubernetesError as error:
            return str(error)
        return None

    def _free(self, found: Raw) -> bool:
        """Whether the lease may be taken: nobody's, ours, or not renewed for as long as its holder promised."""
        spec = found.get("spec") or {}
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        return self._expires_in(found) <= 0

    def _expires_in(self, found: Raw) -> float:
        version, now = found["metadata"]["resourceVersion"], self._now()
        if self._seen[0] != version:
            self._seen = version, now
        return self._seen[1] + float(found["spec"].get("leaseDurationSeconds") or self._times.duration) - now

    async def _next(self, found: Raw) -> Raw:
        """Wait until somebody else's lease changes, or expires; a release is seen at once."""
        version, left = found["metadata"]["resourceVersion"], self._expires_in(found)
        changed = await self.cluster.next_change(LEASES, self._namespace, self._name, version, left + 0.01)
        return found if changed is None else changed

    async def _read(self) -> Raw:
        """Read the lease; empty when there is none."""
        try:
            return await self.cluster.get(LEASES, self._namespace, self._name)
        except NotFoundError:
            return {}

    async def _write(self, found: Raw) -> None:
        begun = self._now()
        body = self._body(found, self._identity)
        if found:
            self._held = await self.cluster.replace(LEASES, self._namespace, self._name, body)
        else:
            self._held = await self.cluster.create(LEASES, self._namespace, body)
        self._renewed = begun  # others count from when they see it, which is later

    def _body(self, found: Raw, holder: str) -> Raw:
        old = found.get("spec") or {}
        now = utc_now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        new = {"holderIdentity": holder, "leaseDurationSeconds": self._times.duration, "renewTime": now}
        if holder and old.get("holderIdentity") != holder:
            new |= {"acquireTime": now, "leaseTransitions": int(old.get("leaseTransitions") or 0) + bool(found)}
        labels = {"app.kubernetes.io/name": MANAGED_BY, "app.kubernetes.io/component": "operator"}
        metadata = found.get("metadata") or {"name": self._name, "namespace": self._namespace, "labels": labels}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {**old, **new}}

    def _watch(self) -> None:
        while not self._ended.wait(max(self._expires - self._now(), 0.0)):
            if self._now() >= self._expires:
                self._lose("it expired and could not be renewed")

    def _lose(self, reason: str) -> None:
        self._ended.set()
        self._lost(reason)
