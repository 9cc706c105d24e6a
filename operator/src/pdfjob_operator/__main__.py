"""The operator process: settings, clients, lease, caches, watches, workers, health; and an orderly end.

Until it has the lease it only tells that it is there. Everything that writes starts with the lease, and ends before it
is released; when it is lost, the process ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import Mapping
from importlib.metadata import version
from time import monotonic
from typing import Any, Final

import structlog
from prometheus_client import Gauge
from pydantic import ValidationError

from .act import Actor
from .bucket import keep_bucket
from .cache import Cache
from .dispatch import Dispatcher
from .documents import Documents
from .handlers import Watcher
from .health import Health
from .kept_results import sweep_for_ever
from .lease import CALL_SECONDS, Lease, own_identity
from .logs import configure_logs
from .metrics import Metrics
from .reconcile import Reconciler
from .schema_check import missing_fields
from .settings import Settings
from .storage.kubernetes import KINDS, Cluster, KubernetesError, NotFoundError, UnavailableError
from .storage.s3 import ObjectStore
from .work import Work
from .workqueue import WorkQueue

_FINISH_SECONDS: Final = 20.0
"""Reconciles in hand are given so long to finish at the end."""
_FILL_SECONDS: Final = 2.0
_LISTED_SECONDS: Final = 5.0
"""After a watch has listed anew (at the start, after a break), the caches are compared with a LIST so much later."""
_READY_SECONDS: Final = 30.0
"""S3 is asked at most this often whether it is there."""

log = structlog.get_logger("pdfjob_operator")


class Operator:
    """All parts of one operator process."""

    def __init__(self, settings: Settings, cluster: Cluster, lease: Lease | None, metrics: Metrics) -> None:
        self.settings = settings
        self.cluster = cluster
        self.lease = lease
        self.metrics = metrics
        self.store = ObjectStore(
            settings.s3,
            observe=lambda operation, seconds: metrics.s3_seconds.labels(operation).observe(seconds),
            guard=lease.check if lease else None,
        )
        self.cache = Cache()
        metrics.resources.read_from(self.cache)
        self.queue = WorkQueue()
        documents = Documents(settings.documents)
        work = Work(settings, cluster, self.store, documents, self.cache, self._wake)
        actor = Actor(settings, cluster, self.store, self.cache, work, metrics)
        dispatcher = Dispatcher(settings.max_concurrent_chunks)
        self.reconciler = Reconciler(self.cache, self.queue, actor, dispatcher, metrics)
        self.watcher = Watcher(self._event, settings.namespaces)
        self.health = Health(metrics.registry, self.queue.oldest_age, self._ready)
        leader = Gauge("pdfjob_is_leader", "1 in the process that works.", registry=metrics.registry)
        leader.set_function(lambda: float(lease is None or lease.held))
        self._s3_seen = float("-inf")
        self._listed = asyncio.Event()
        """Set when a watch has listed anew: whatever vanished before that was never told."""
        self._leading = False
        self._synced = False

    async def run(self, stop: asyncio.Event) -> int:
        """Work until ``stop`` is set or the watches end; returns the exit code."""
        await asyncio.to_thread(self._clear_work_dir)
        port = await self.health.start(self.settings.http_port)
        if not await self._lead(stop):
            await self._finish([], [])
            return 0
        ends: list[asyncio.Task[Any]] = [
            asyncio.create_task(stop.wait()),
            asyncio.create_task(self.watcher.ended.wait()),
        ]
        if self.lease is not None:
            ends.append(asyncio.create_task(self.lease.hold()))
        await self._fill_caches(stop)
        self.watcher.start()
        background: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._resync_for_ever()),
            asyncio.create_task(sweep_for_ever(self.store, self.settings.cache.max_age_days)),
        ]
        if self.settings.s3.create_bucket:
            background.append(asyncio.create_task(keep_bucket(self.store)))
        workers = [asyncio.create_task(self.reconciler.run()) for _ in range(self.settings.workers)]
        log.info("operator ready", version=version("pdfjob-operator"), port=port, jobs=len(self.cache.uids()))
        await asyncio.wait([*ends, *workers], return_when=asyncio.FIRST_COMPLETED)
        ordered = stop.is_set()
        log.info("operator ends" if ordered else "operator ends since its watches or workers did")
        await self._finish(workers, [*background, *ends])
        return 0 if ordered else 1

    async def _lead(self, stop: asyncio.Event) -> bool:
        """Wait for the lease; False when ``stop`` was set before it came."""
        if self.lease is not None:
            acquiring = asyncio.create_task(self.lease.acquire())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([acquiring, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if stop.is_set():
                acquiring.cancel()
                await asyncio.gather(acquiring, return_exceptions=True)
                return False
            acquiring.result()
        self._leading = True
        return True

    async def _fill_caches(self, stop: asyncio.Event) -> None:
        """Read everything; an API server that does not answer well is waited for."""
        while not stop.is_set():
            try:
                await self._check_schema()
                await self._resync()
            except UnavailableError as error:
                log.warning("the caches cannot be filled yet", error=str(error), retry_seconds=_FILL_SECONDS)
                await asyncio.sleep(_FILL_SECONDS)
            else:
                self._synced = True
                return

    async def _finish(self, workers: list[asyncio.Task[None]], others: list[asyncio.Task[Any]]) -> None:
        """Finish the reconciles in hand, release the lease, then let go of everything else."""
        self.queue.close()
        if workers:
            await asyncio.wait(workers, timeout=_FINISH_SECONDS)
        await self.reconciler.stop_work()
        for task in [*workers, *others]:
            task.cancel()
        await asyncio.gather(*workers, *others, return_exceptions=True)
        if self.lease is not None:
            await self.lease.release()
            await self.lease.cluster.close()
        await self.watcher.stop(_FINISH_SECONDS)
        await self.health.stop()
        self.store.close()
        await self.cluster.close()

    def _wake(self, uid: str) -> None:
        self.reconciler.wake(uid)

    def _event(self, plural: str, kind: str | None, raw: Mapping[str, Any]) -> None:
        if kind is None:
            self._listed.set()
        uid = self.cache.remove(plural, raw) if kind == "DELETED" else self.cache.apply(plural, raw)
        if uid:
            self.reconciler.wake(uid)

    async def _resync(self) -> None:
        """Compare the caches with full LISTs; wake every PdfJob that changed."""
        namespaces: list[str | None] = [*self.settings.namespaces] or [None]
        for kind in KINDS:
            lists = [await self.cluster.list_all(kind, name) for name in namespaces]
            items = [item for part, _ in lists for item in part]
            for uid in self.cache.replace(kind.plural, items, min(number for _, number in lists)):
                if uid:
                    self.reconciler.wake(uid)

    async def _resync_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._listed.wait(), self.settings.resync_seconds)
                await asyncio.sleep(_LISTED_SECONDS)
            self._listed.clear()
            try:
                await self._resync()
            except KubernetesError as error:
                log.warning("resync failed", error=str(error))
            except Exception:
                log.exception("resync met a defect")  # the next one may go well; without any, ghosts would stay

    async def _check_schema(self) -> None:
        missing = missing_fields(await self.cluster.openapi())
        self.metrics.schema_missing.set(len(missing))
        if missing:
            log.error(
                "the installed CRDs lack fields of this operator: what it writes there is lost; "
                "apply the CRDs of this version (manifests/crds/)",
                fields=missing,
            )

    async def _ready(self) -> str:
        if self._leading and not self._synced:
            raise RuntimeError("the caches are not filled yet")
        cluster = self.cluster if self._leading or self.lease is None else self.lease.cluster
        if not cluster.answers:  # asked only then: probes come every few seconds, and waiting costs no read
            await cluster.ready()
        if monotonic() - self._s3_seen > _READY_SECONDS:
            await self.store.check()
            self._s3_seen = monotonic()
        return "ready: leading" if self._leading else "ready: standby"

    def _clear_work_dir(self) -> None:
        """Remove what an earlier process left half done."""
        folder = self.settings.work_dir
        folder.mkdir(parents=True, exist_ok=True)
        for entry in folder.iterdir():
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()


async def serve(settings: Settings) -> int:
    """Run the operator until SIGTERM; returns the exit code."""
    metrics = Metrics()
    lease = None
    if settings.leader_election.enabled:
        where = settings.leader_election
        alone = await Cluster.connect(timeout_seconds=CALL_SECONDS)
        lease = Lease(alone, where.namespace or "", where.name, own_identity())
    cluster = await Cluster.connect(
        lambda verb, seconds: metrics.api_seconds.labels(verb).observe(seconds), guard=lease.check if lease else None
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        return await Operator(settings, cluster, lease, metrics).run(stop)
    except NotFoundError as error:
        log.error("the CRDs are not installed: kubectl apply -f manifests/crds/", error=str(error))  # noqa: TRY400
    except KubernetesError as error:
        log.error("the API server refuses or does not answer", error=str(error))  # noqa: TRY400
    if lease is not None:  # another one may be able to work
        await lease.release()
        await lease.cluster.close()
    await cluster.close()
    return 1


def main() -> None:
    """Read the settings and run; a configuration that cannot work is refused in plain words."""
    try:
        settings = Settings()  # the required ones come from file and environment
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        print("pdfjob-operator: the configuration cannot work:\n  " + "\n  ".join(lines), file=sys.stderr)  # noqa: T201
        sys.exit(2)
    if settings.leader_election.enabled and not settings.leader_election.namespace:
        text = "set leaderElection.namespace (or POD_NAMESPACE), or leaderElection.enabled: false for a single process"
        print(f"pdfjob-operator: the configuration cannot work:\n  {text}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    configure_logs(settings.log_level)
    log.debug("settings", **settings.model_dump(mode="json"))  # credentials are none of them
    sys.exit(asyncio.run(serve(settings)))


if __name__ == "__main__":
    main()
