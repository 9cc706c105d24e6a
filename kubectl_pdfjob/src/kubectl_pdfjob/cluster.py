"""Access to the Kubernetes API; the only module that touches the client.

Everything foreign ends here: answers become models, and errors of the client become one clear line.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import urllib3
from kubernetes import client
from pydantic import ValidationError

from pdfjob_api import names
from pdfjob_api.base import Model
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .errors import ClusterError, NameTakenError, UsageError
from .following import Change, Snapshot
from .installation import CONFIG_MAP, DEFAULT_NAMESPACE, LABEL_SELECTOR, Installation
from .kubeconfig import ClusterOptions, load

__all__ = ["Cluster"]

_PAGE: Final = 500
"""Objects per LIST request, as kubectl does."""
_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_WATCH_SECONDS: Final = 240
"""The server ends a watch after so long, and it is taken up where it ended."""
_RECONNECT_SECONDS: Final = 60.0
"""A watch that lost its connection tries so long to get it back."""
_GONE: Final = 410
"""The resource version of a watch is too old; list again."""
_MANAGER: Final = "kubectl-pdfjob"

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Model)


class _RefusedError(Exception):
    """An HTTP status of 400 and above, with the Kubernetes ``Status`` object when there is one."""

    def __init__(self, code: int, status: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {status.get('message', '')}")
        self.code = code
        self.reason = str(status.get("reason") or "")
        self.message = str(status.get("message") or f"HTTP {code}")
        self.names_object = bool((status.get("details") or {}).get("name"))
        self.passing = code == 429 or code >= 500


class Cluster:
    """One cluster, one namespace, with the rights of the user."""

    def __init__(self, api: client.ApiClient, options: ClusterOptions, *, default_namespace: str) -> None:
        self._custom = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._host = api.configuration.host
        self._options = options
        self._default_namespace = default_namespace
        self.namespace = options.namespace or default_namespace

    @classmethod
    def connect(cls, options: ClusterOptions) -> Cluster:
        """Read the kubeconfig as kubectl does; no request is made yet.

        Raises
        ------
        ClusterError
            When there is no usable kubeconfig, or the context does not exist.
        """
        settings, default = load(options)
        settings.retries = urllib3.Retry(total=2, backoff_factor=0.2, raise_on_status=False)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        return cls(client.ApiClient(settings), options, default_namespace=default)

    def kubectl(self, *arguments: str) -> list[str]:
        """Return a kubectl command line for the same cluster."""
        command = ["kubectl"]
        if self._options.kubeconfig:
            command += ["--kubeconfig", str(self._options.kubeconfig)]
        if self._options.context:
            command += ["--context", self._options.context]
        return [*command, *arguments]

    @property
    def flags(self) -> str:
        """Flags that commands shown to the user need so that they mean this cluster and namespace."""
        flags = f" -n {self.namespace}" if self.namespace != self._default_namespace else ""
        if self._options.context:
            flags += f" --context {self._options.context}"
        if self._options.kubeconfig:
            flags += f" --kubeconfig {self._options.kubeconfig}"
        return flags

    # Resources -------------------------------------------------------------------------------------------------

    def create_job(self, manifest: dict[str, Any]) -> tuple[PdfJob, dict[str, Any]]:
        """Create a PdfJob and return it, as model and as the API server stored it.

        Raises
        ------
        NameTakenError
            When one of this name exists.
        ClusterError
            When the API server refuses it; the message says which field and what is allowed.
        """
        created = self._create(manifest)
        return _parse(PdfJob, created), created

    def check_job(self, manifest: dict[str, Any]) -> None:
        """Ask the API server whether it would take a PdfJob; raises as `create_job` does and changes nothing."""
        self._create(manifest, dry_run="All")

    def _create(self, manifest: dict[str, Any], **options: str) -> dict[str, Any]:
        with self._translated("create the PdfJob"):
            return self._call(
                self._custom.create_namespaced_custom_object,
                *(names.GROUP, names.VERSION, self.namespace, names.PDFJOB_PLURAL, manifest),
                field_manager=_MANAGER,
                **options,
            )

    def job(self, name: str) -> PdfJob:
        """Return one PdfJob."""
        with self._translated(f'read PdfJob "{name}"'):
            found = self._call(
                self._custom.get_namespaced_custom_object,
                *(names.GROUP, names.VERSION, self.namespace, names.PDFJOB_PLURAL, name),
            )
        return _parse(PdfJob, found)

    def jobs(self) -> list[PdfJob]:
        """Return the PdfJobs of the namespace."""
        with self._translated("list PdfJobs"):
            return [_parse(PdfJob, item) for item in self._list(self._jobs_call())[0]]

    def chunks(self, job: str, phase: str | None = None) -> list[PdfChunk]:
        """Return the PdfChunks of a job, in page order, those in one phase only when asked for."""
        selector = f"status.phase={phase}" if phase else None
        with self._translated("list PdfChunks"):
            items, _ = self._list(self._chunks_call(job, selector))
        return sorted((_parse(PdfChunk, item) for item in items), key=lambda chunk: chunk.spec.index)

    def pods(self, job: str) -> list[dict[str, Any]]:
        """Return the runner pods of a job as they are on the wire."""
        with self._translated("list pods"):
            return self._list(self._pods_call(job))[0]

    def installation(self) -> Installation | None:
        """Find the ConfigMap of the installation; None when there is none or it may not be read."""
        chosen = self._options.install_namespace
        namespace = chosen or DEFAULT_NAMESPACE
        with self._translated(f"read ConfigMap {namespace}/{CONFIG_MAP}"):
            found = self._published(namespace) or (None if chosen else self._search_installation())
        if found is None:
            return None
        return Installation.from_config_map(found["metadata"]["namespace"], found.get("data") or {})

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """Return the decoded values of a Secret, with the user's own rights."""
        with self._translated(f"read Secret {namespace}/{name}"):
            found = self._call(self._core.read_namespaced_secret, name, namespace)
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}

    # Watching --------------------------------------------------------------------------------------------------

    def follow_job(self, name: str, *, deadline: float | None = None) -> Iterator[Snapshot[PdfJob] | Change[PdfJob]]:
        """Yield a PdfJob now and at each change; ends at ``deadline`` (of `time.monotonic`)."""
        call = self._jobs_call(f"metadata.name={name}")
        return self._follow(call, lambda item: _parse(PdfJob, item), deadline)

    def follow_jobs(self) -> Iterator[Snapshot[PdfJob] | Change[PdfJob]]:
        """Yield the PdfJobs of the namespace now and each change to them, without end."""
        return self._follow(self._jobs_call(), lambda item: _parse(PdfJob, item), None)

    def follow_chunks(self, job: str) -> Iterator[Snapshot[PdfChunk] | Change[PdfChunk]]:
        """Yield the PdfChunks of a job now and each change to them, without end."""
        return self._follow(self._chunks_call(job), lambda item: _parse(PdfChunk, item), None)

    def follow_pods(self, job: str) -> Iterator[Snapshot[dict[str, Any]] | Change[dict[str, Any]]]:
        """Yield the runner pods of a job now and each change to them, without end."""
        return self._follow(self._pods_call(job), lambda item: item, None)

    def _follow(
        self, call: Callable[..., Any], parse: Callable[[dict[str, Any]], _T], deadline: float | None
    ) -> Iterator[Snapshot[_T] | Change[_T]]:
        """List, then watch from there; on a gap list again. A lost connection is taken up again."""
        version: str | None = None
        lost_since: float | None = None
        while deadline is None or time.monotonic() < deadline:
            try:
                if version is None:
                    with self._translated("list"):
                        items, version = self._list(call)
                    yield Snapshot([parse(item) for item in items])
                for kind, item in self._watch(call, version, deadline):
                    lost_since = None
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        yield Change(parse(item), kind == "DELETED")
                lost_since = None
            except (_RefusedError, urllib3.exceptions.HTTPError) as error:
                if isinstance(error, _RefusedError) and error.code == _GONE:
                    version = None
                    continue
                if isinstance(error, _RefusedError) and not error.passing:
                    raise self._explained("watch", error) from error
                now = time.monotonic()
                lost_since = lost_since or now
                if now - lost_since > _RECONNECT_SECONDS:
                    raise ClusterError(f"lost the connection to the API server {self._host}") from error
                time.sleep(1)

    def _watch(
        self, call: Callable[..., Any], version: str, deadline: float | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        seconds = _WATCH_SECONDS
        if deadline is not None:
            seconds = min(seconds, max(1, int(deadline - time.monotonic()) + 1))
        response = _send(
            call,
            watch=True,
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=seconds,
            _request_timeout=(_CONNECT_SECONDS, seconds + _CONNECT_SECONDS),
        )
        try:
            for line in response:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _RefusedError(int(event["object"].get("code", 500)), event["object"])
                yield event["type"], event["object"]
        finally:
            response.close()

    # Requests --------------------------------------------------------------------------------------------------

    def _jobs_call(self, field_selector: str | None = None) -> Callable[..., Any]:
        return self._custom_call(names.PDFJOB_PLURAL, field_selector=field_selector)

    def _chunks_call(self, job: str, field_selector: str | None = None) -> Callable[..., Any]:
        return self._custom_call(
            names.PDFCHUNK_PLURAL, field_selector=field_selector, label_selector=f"{names.LABEL_JOB}={job}"
        )

    def _pods_call(self, job: str) -> Callable[..., Any]:
        def call(**options: Any) -> Any:
            return self._core.list_namespaced_pod(self.namespace, label_selector=f"{names.LABEL_JOB}={job}", **options)

        return call

    def _custom_call(self, plural: str, **selectors: str | None) -> Callable[..., Any]:
        chosen = {key: value for key, value in selectors.items() if value}

        def call(**options: Any) -> Any:
            return self._custom.list_namespaced_custom_object(
                *(names.GROUP, names.VERSION, self.namespace, plural), **chosen, **options
            )

        return call

    def _list(self, call: Callable[..., Any]) -> tuple[list[dict[str, Any]], str]:
        """Return all objects of a LIST, read page by page, and the resource version to watch from."""
        items: list[dict[str, Any]] = []
        more: dict[str, Any] = {}
        while True:
            page = self._call(call, limit=_PAGE, **more)
            items += page.get("items") or []
            token = page["metadata"].get("continue")
            if not token:
                return items, page["metadata"]["resourceVersion"]
            more = {"_continue": token}

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> dict[str, Any]:
        response = _send(function, *arguments, **options, _request_timeout=(_CONNECT_SECONDS, _READ_SECONDS))
        answer: dict[str, Any] = json.loads(response.data)
        return answer

    def _published(self, namespace: str) -> dict[str, Any] | None:
        try:
            return self._call(self._core.read_namespaced_config_map, CONFIG_MAP, namespace)
        except _RefusedError as error:
            if error.code in {403, 404}:
                return None
            raise

    def _search_installation(self) -> dict[str, Any] | None:
        try:
            found = self._call(self._core.list_config_map_for_all_namespaces, label_selector=LABEL_SELECTOR)["items"]
        except _RefusedError as error:
            if error.code == 403:
                return None
            raise
        if len(found) > 1:
            where = ", ".join(sorted(item["metadata"]["namespace"] for item in found))
            raise UsageError(f"pdfjob is installed more than once ({where}); choose one with --install-namespace")
        return found[0] if found else None

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except _RefusedError as error:
            raise self._explained(doing, error) from error
        except (urllib3.exceptions.HTTPError, client.ApiException) as error:
            reason = getattr(error, "reason", None) or error
            text = str(reason).rsplit(": ", 1)[-1]
            raise ClusterError(f"cannot reach the API server {self._host}: {text}") from error

    def _explained(self, doing: str, error: _RefusedError) -> ClusterError:
        if error.code == 401:
            return ClusterError(f"the API server {self._host} refused your credentials; log in again")
        if error.code == 404 and not error.names_object:
            return ClusterError("pdfjob is not installed on this cluster: it has no resource pdfjobs.pdfjob.dev")
        if error.code == 404 and error.message.startswith("namespaces "):
            return ClusterError(f'namespace "{self.namespace}" does not exist')
        if error.code == 404:
            return ClusterError(f'{error.message} in namespace "{self.namespace}"')
        if error.code == 409 and error.reason == "AlreadyExists":
            return NameTakenError(f'{error.message} in namespace "{self.namespace}"')
        return ClusterError(f"cannot {doing}: {error.message}")


def _send(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Send a request of the client and return the answer unread, as JSON is parsed here and not by the client."""
    try:
        return function(*arguments, **options, _preload_content=False)
    except client.ApiException as error:
        if not error.status:
            raise
        try:
            status = json.loads(error.body or "")
        except ValueError:
            # A proxy in between may send something else than a Status object.
            status = {}
        raise _RefusedError(error.status, status if isinstance(status, dict) else {}) from error


def _parse(model: type[_M], item: dict[str, Any]) -> _M:
    try:
        return model.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        name = (item.get("metadata") or {}).get("name", "?")
        raise ClusterError(
            f"{model.__name__} {name} has a {where} that this plugin does not know; update kubectl-pdfjob to the "
            "version of the installation"
        ) from error
