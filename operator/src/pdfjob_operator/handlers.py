"""kopf: watches the five kinds and hands every event over. Nothing is decided here.

kopf runs in a thread with an event loop of its own: at its end it cancels every task of its loop, and the reconciles
in hand shall be finished first.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import kopf
import structlog

from pdfjob_api.names import FIELD_MANAGER

from .storage.kubernetes import JOBS, KINDS, PODS, Kind

Sink = Callable[[str, str | None, Mapping[str, Any]], None]
"""Takes the plural of the kind, the type of the event (None in the first listing) and the object."""
_PAGE: Final = 500

log = structlog.get_logger(__name__)


def build_registry(sink: Sink) -> kopf.OperatorRegistry:
    """Register one low-level handler for each kind: no finalizer, no annotation, no retry by kopf."""
    registry = kopf.OperatorRegistry()
    for kind in KINDS:
        _register(registry, kind, sink)

    @kopf.on.login(registry=registry, id="login")
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    return registry


def _register(registry: kopf.OperatorRegistry, kind: Kind, sink: Sink) -> None:
    group, version = _group_version(kind)

    @kopf.on.event(group, version, kind.plural, registry=registry, id=kind.plural)
    async def forward(event: Any, **_: Any) -> None:
        sink(kind.plural, event["type"], event["object"])


def build_settings() -> kopf.OperatorSettings:
    """Return kopf's settings; the reasons are its behaviour at scale."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # Events are ours, few, and on the PdfJob only
    settings.peering.standalone = True  # peering pauses both of two equals; who works is the Lease's matter
    settings.scanning.disabled = True  # needs no right to list CRDs or namespaces
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.watching.chunk_size = _PAGE
    for kind in (JOBS, PODS):  # filtered by the API server: a cluster may hold any number of other Jobs and pods
        group, version = _group_version(kind)
        settings.watching.label_selectors[group, version, kind.plural] = kind.selector or ""
    return settings


def _group_version(kind: Kind) -> tuple[str, str]:
    parts = kind.prefix.split("/")
    return (parts[2], parts[3]) if parts[1] == "apis" else ("", parts[2])


class Watcher:
    """Runs kopf in a thread."""

    def __init__(self, sink: Sink, namespaces: Sequence[str]) -> None:
        self._sink = sink
        self._namespaces = namespaces
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self.ended = asyncio.Event()
        """Set when kopf has ended, for whatever reason."""

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    async def stop(self, timeout_seconds: float) -> None:
        """Ask kopf to end and wait for it."""
        self._stop.set()
        if not self._thread.is_alive():
            return
        try:
            await asyncio.wait_for(self.ended.wait(), timeout_seconds)
        except TimeoutError:
            log.warning("the watches did not end in time", seconds=timeout_seconds)

    def _run(self) -> None:
        def sink(plural: str, kind: str | None, raw: Mapping[str, Any]) -> None:
            self._loop.call_soon_threadsafe(self._sink, plural, kind, raw)

        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)  # it misses signals, which are ours
        try:
            asyncio.run(
                kopf.operator(
                    registry=build_registry(sink),
                    settings=build_settings(),
                    # kopf would ask for the user's name, and a container's user has none.
                    identity=cast("Any", FIELD_MANAGER),
                    standalone=True,
                    clusterwide=not self._namespaces,
                    namespaces=list(self._namespaces),
                    stop_flag=self._stop,
                )
            )
        except Exception:
            # Told by the exit of the whole process: without watches it would be a zombie.
            log.exception("the watches ended with an error")
        finally:
            self._loop.call_soon_threadsafe(self.ended.set)
