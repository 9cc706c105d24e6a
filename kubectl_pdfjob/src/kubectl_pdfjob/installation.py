"""What the plugin must know of the installation: published by the chart in the ConfigMap ``pdfjob-info``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

from .errors import ClusterError

__all__ = ["CONFIG_MAP", "DEFAULT_NAMESPACE", "LABEL_SELECTOR", "EmbeddedServer", "Installation", "StorageOptions"]

CONFIG_MAP: Final = "pdfjob-info"
DEFAULT_NAMESPACE: Final = "pdfjob-system"
LABEL_SELECTOR: Final = "app.kubernetes.io/name=pdfjob,app.kubernetes.io/component=info"
_DEFAULT_PREFIX: Final = "pdfjob"


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """The S3 server that the chart runs inside the cluster."""

    service_name: str
    service_namespace: str
    service_port: int
    secret_name: str
    secret_namespace: str


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """What the user says about the storage on the command line; it wins over what the chart says."""

    endpoint: str | None = None
    bucket: str | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Installation:
    """Where documents and results of an installation are stored."""

    bucket: str
    prefix: str
    region: str | None = None
    endpoint: str | None = None
    """URL as users reach it; None = AWS."""
    embedded: EmbeddedServer | None = None
    """Set when the storage is inside the cluster and has no address outside of it."""

    @classmethod
    def from_config_map(cls, namespace: str, data: dict[str, str]) -> Self:
        """Read the ConfigMap that the chart published in ``namespace``.

        Raises
        ------
        ClusterError
            When a key is missing or has no sensible value.
        """

        def need(key: str) -> str:
            value = data.get(key, "").strip()
            if not value:
                raise ClusterError(f'ConfigMap {namespace}/{CONFIG_MAP} lacks "{key}"; was it edited by hand?')
            return value

        embedded = None
        if data.get("embedded", "").strip().lower() == "true":
            port = need("s3ServicePort")
            if not port.isdecimal():
                raise ClusterError(f'ConfigMap {namespace}/{CONFIG_MAP}: "s3ServicePort" is no number: {port}')
            embedded = EmbeddedServer(
                service_name=need("s3ServiceName"),
                service_namespace=data.get("s3ServiceNamespace") or namespace,
                service_port=int(port),
                secret_name=need("s3SecretName"),
                secret_namespace=data.get("s3SecretNamespace") or namespace,
            )
        return cls(
            bucket=need("bucket"),
            prefix=need("prefix").strip("/"),
            region=data.get("region") or None,
            endpoint=data.get("endpoint") or None,
            embedded=embedded,
        )

    @classmethod
    def from_options(cls, options: StorageOptions) -> Self | None:
        """Build the facts from the command line alone; None when it does not name the bucket."""
        if not options.bucket:
            return None
        return cls(bucket=options.bucket, prefix=_DEFAULT_PREFIX).with_options(options)

    def with_options(self, options: StorageOptions) -> Self:
        """Let the command line win. With an endpoint of the user's own, nothing inside the cluster is used."""
        return replace(
            self,
            bucket=options.bucket or self.bucket,
            prefix=(options.prefix or self.prefix).strip("/"),
            endpoint=options.endpoint or self.endpoint,
            embedded=None if options.endpoint else self.embedded,
        )
