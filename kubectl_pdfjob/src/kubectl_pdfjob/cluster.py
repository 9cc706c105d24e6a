"""What the plugin reads and writes on the cluster, with the rights of the user.

Everything foreign ends here: answers become models, and errors of the client become one clear line.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import urllib3
from kubernetes import client
from pydantic import ValidationError

from pdfjob_api import names
from pdfjob_api.base import Model
from pdfjob_api.creditaccount import CreditAccount
from pdfjob_api.pdfchunk import PdfChunk
from pdfjob_api.pdfjob import PdfJob

from .api_server import ApiServer, RefusedError
from .errors import ClusterError, UsageError
from .following import Change, Snapshot
from .installation import CONFIG_MAP, DEFAULT_NAMESPACE, LABEL_SELECTOR, Installation
from .kubeconfig import ClusterOptions, load, user_of

__all__ = ["Cluster"]

_MANAGER: Final = "kubectl-pdfjob"

_M = TypeVar("_M", bound=Model)


class Cluster:
    """One cluster, one namespace, with the rights of the user."""

    def __init__(self, api: client.ApiClient, options: ClusterOptions, *, default_namespace: str) -> None:
        self._custom = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._authentication = client.AuthenticationV1Api(api)
        self._options = options
        self._default_namespace = default_namespace
        self.namespace = options.namespace or default_namespace
        self._server = ApiServer(api.configuration.host, self.namespace)

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
        return self._post(names.PDFJOB_KIND, names.PDFJOB_PLURAL, manifest, **options)

    def job(self, name: str) -> PdfJob:
        """Return one PdfJob."""
        return _parse(PdfJob, self._get(names.PDFJOB_KIND, names.PDFJOB_PLURAL, name))

    def jobs(self) -> list[PdfJob]:
        """Return the PdfJobs of the namespace."""
        with self._server.translated("list PdfJobs"):
            return [_parse(PdfJob, item) for item in self._server.list(self._jobs_call())[0]]

    def change_job(self, name: str, doing: str, change: dict[str, Any]) -> PdfJob:
        """Apply a merge patch to a PdfJob and return it as it is then; ``doing`` names the change in an error.

        Raises
        ------
        ClusterError
            When the API server refuses it; the message is its own.
        """
        return _parse(PdfJob, self._patch(f'{doing} pdfjob "{name}"', names.PDFJOB_PLURAL, name, change))

    def accounts(self) -> list[CreditAccount]:
        """Return the CreditAccounts of the namespace."""
        plural = names.CREDIT_ACCOUNT_PLURAL
        with self._server.translated("list CreditAccounts", plural):
            return [_parse(CreditAccount, item) for item in self._server.list(self._custom_call(plural))[0]]

    def account(self, name: str) -> CreditAccount:
        """Return one CreditAccount.

        Raises
        ------
        NotFoundError
            When the namespace has none of this name.
        """
        return _parse(CreditAccount, self._get(names.CREDIT_ACCOUNT_KIND, names.CREDIT_ACCOUNT_PLURAL, name))

    def create_account(self, name: str, balance: int) -> CreditAccount:
        """Create a CreditAccount and return it.

        Raises
        ------
        NameTakenError
            When one of this name exists.
        ForbiddenError
            When the user may not.
        """
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.CREDIT_ACCOUNT_KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"balance": balance},
        }
        return _parse(CreditAccount, self._post(names.CREDIT_ACCOUNT_KIND, names.CREDIT_ACCOUNT_PLURAL, manifest))

    def set_balance(self, account: CreditAccount, balance: int) -> CreditAccount:
        """Set the balance of a CreditAccount, if it is still as it was read, and return it.

        Raises
        ------
        ConflictError
            When it has been changed since.
        ForbiddenError
            When the user may not.
        """
        name, version = account.metadata.name, account.metadata.resource_version
        change = {"metadata": {"resourceVersion": version}, "spec": {"balance": balance}}
        doing = f'top up creditaccount "{name}"'
        return _parse(CreditAccount, self._patch(doing, names.CREDIT_ACCOUNT_PLURAL, name, change))

    def user_name(self) -> str:
        """Return who the API server takes the user for; where it does not say, the user of the kubeconfig."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self._server.call(self._authentication.create_self_subject_review, review)
        except RefusedError:
            return user_of(self._options)
        name = (answer.get("status") or {}).get("userInfo", {}).get("username")
        return str(name or user_of(self._options))

    def chunks(self, job: str, phase: str | None = None) -> list[PdfChunk]:
        """Return the PdfChunks of a job, in page order, those in one phase only when asked for."""
        selector = f"status.phase={phase}" if phase else None
        with self._server.translated("list PdfChunks"):
            items, _ = self._server.list(self._chunks_call(job, selector))
        return sorted((_parse(PdfChunk, item) for item in items), key=lambda chunk: chunk.spec.index)

    def pods(self, job: str) -> list[dict[str, Any]]:
        """Return the runner pods of a job as they are on the wire."""
        with self._server.translated("list pods"):
            return self._server.list(self._pods_call(job))[0]

    def installation(self) -> Installation | None:
        """Find the ConfigMap of the installation; None when there is none or it may not be read."""
        chosen = self._options.install_namespace
        namespace = chosen or DEFAULT_NAMESPACE
        with self._server.translated(f"read ConfigMap {namespace}/{CONFIG_MAP}"):
            found = self._published(namespace) or (None if chosen else self._search_installation())
        if found is None:
            return None
        return Installation.from_config_map(found["metadata"]["namespace"], found.get("data") or {})

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """Return the decoded values of a Secret, with the user's own rights."""
        with self._server.translated(f"read Secret {namespace}/{name}"):
            found = self._server.call(self._core.read_namespaced_secret, name, namespace)
        return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}

    # Watching --------------------------------------------------------------------------------------------------

    def follow_job(self, name: str, *, deadline: float | None = None) -> Iterator[Snapshot[PdfJob] | Change[PdfJob]]:
        """Yield a PdfJob now and at each change; ends at ``deadline`` (of `time.monotonic`)."""
        call = self._jobs_call(f"metadata.name={name}")
        return self._server.follow(call, lambda item: _parse(PdfJob, item), deadline)

    def follow_jobs(self) -> Iterator[Snapshot[PdfJob] | Change[PdfJob]]:
        """Yield the PdfJobs of the namespace now and each change to them, without end."""
        return self._server.follow(self._jobs_call(), lambda item: _parse(PdfJob, item), None)

    def follow_chunks(self, job: str) -> Iterator[Snapshot[PdfChunk] | Change[PdfChunk]]:
        """Yield the PdfChunks of a job now and each change to them, without end."""
        return self._server.follow(self._chunks_call(job), lambda item: _parse(PdfChunk, item), None)

    def follow_pods(self, job: str) -> Iterator[Snapshot[dict[str, Any]] | Change[dict[str, Any]]]:
        """Yield the runner pods of a job now and each change to them, without end."""
        return self._server.follow(self._pods_call(job), lambda item: item, None)

    # Requests --------------------------------------------------------------------------------------------------

    def _post(self, kind: str, plural: str, manifest: dict[str, Any], **options: str) -> dict[str, Any]:
        with self._server.translated(f"create the {kind}", plural):
            return self._server.call(
                self._custom.create_namespaced_custom_object,
                *(names.GROUP, names.VERSION, self.namespace, plural, manifest),
                field_manager=_MANAGER,
                field_validation="Strict",  # as kubectl does: a slip of the pen in a file is not dropped in silence
                **options,
            )

    def _get(self, kind: str, plural: str, name: str) -> dict[str, Any]:
        with self._server.translated(f'read {kind} "{name}"', plural):
            return self._server.call(
                self._custom.get_namespaced_custom_object,
                *(names.GROUP, names.VERSION, self.namespace, plural, name),
            )

    def _patch(self, doing: str, plural: str, name: str, change: dict[str, Any]) -> dict[str, Any]:
        with self._server.translated(doing, plural):
            return self._server.call(
                self._custom.patch_namespaced_custom_object,
                *(names.GROUP, names.VERSION, self.namespace, plural, name, change),
                field_manager=_MANAGER,
                _content_type="application/merge-patch+json",
            )

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

    def _published(self, namespace: str) -> dict[str, Any] | None:
        try:
            return self._server.call(self._core.read_namespaced_config_map, CONFIG_MAP, namespace)
        except RefusedError as error:
            if error.code in {403, 404}:
                return None
            raise

    def _search_installation(self) -> dict[str, Any] | None:
        try:
            answer = self._server.call(self._core.list_config_map_for_all_namespaces, label_selector=LABEL_SELECTOR)
        except RefusedError as error:
            if error.code == 403:
                return None
            raise
        found = answer["items"]
        if len(found) > 1:
            where = ", ".join(sorted(item["metadata"]["namespace"] for item in found))
            raise UsageError(f"pdfjob is installed more than once ({where}); choose one with --install-namespace")
        return found[0] if found else None


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
