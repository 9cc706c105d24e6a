"""Settings of the operator: a mounted YAML file, overridden by the environment.

The file is named by ``PDFJOB_CONFIG`` and holds the camelCase names below, as the Helm chart writes them. An
environment variable ``PDFJOB_S3__ENDPOINT`` overrides ``s3.endpoint``. Credentials are never settings: boto3 reads
``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` (or its other usual sources) itself.
"""

from __future__ import annotations

import os
import tempfile
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from typing_extensions import override

_RESOURCES: dict[str, dict[str, int | str]] = {
    "requests": {"cpu": "250m", "memory": "256Mi"},
    "limits": {"memory": "2Gi"},
}


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class S3Settings(_Section):
    """Where documents and results are stored."""

    endpoint: str | None = None
    """URL as the operator reaches it; None = AWS."""
    pod_endpoint: str | None = None
    """URL as the runner pods reach it, presigned URLs are made for it; None = ``endpoint``."""
    bucket: str = Field(min_length=3)
    prefix: str = Field(default="pdfjob", pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")
    """Everything of pdfjob lies under it."""
    region: str = "us-east-1"
    create_bucket: bool = False
    """Only for the embedded server; an external bucket is never created."""


class SourceSettings(_Section):
    """What users may read documents from."""

    max_bytes: int = Field(default=1024**3, ge=1)
    """Bytes of a source at most."""
    allowed_cidrs: list[IPv4Network | IPv6Network] = Field(default_factory=list)
    """Address ranges that are not public and yet allowed for http sources."""
    allowed_buckets: dict[str, list[str]] = Field(default_factory=dict)
    """Namespace (or ``*``) to buckets, each ``bucket`` or ``bucket/prefix``, besides the namespace's own inbox."""
    timeout_seconds: float = Field(default=30, gt=0)
    """Without a byte for so long, a transfer is given up (and tried again)."""
    total_timeout_seconds: float = Field(default=3600, gt=0)
    """A whole transfer takes at most so long."""


class RunnerSettings(_Section):
    """Defaults of the runner pods; ``spec.runner`` of a PdfJob overrides them."""

    image: str = Field(min_length=1)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: list[str] = Field(default_factory=list)
    resources: dict[str, dict[str, int | str]] = Field(default=_RESOURCES)
    scratch_size: str = "1Gi"
    """Size limit of the emptyDir at /tmp."""


class DocumentSettings(_Section):
    """Limits of the processes that read documents in the operator."""

    processes: int = Field(default=2, ge=1)
    """At most so many at once."""
    memory_bytes: int = Field(default=1024**3, ge=64 * 1024**2)
    """Address space of one process."""
    cpu_seconds: int = Field(default=900, ge=1)
    """CPU time of one process."""
    wall_seconds: int = Field(default=1800, ge=1)
    """Wall time of one process, waiting for uploads included."""


class CacheSettings(_Section):
    """Results of paid work that are kept for other jobs of the namespace."""

    max_age_days: int = Field(default=30, ge=0, le=36500)
    """Days for which a result is kept; 0 = there is no cache, and what one held is removed."""


class LeaderElectionSettings(_Section):
    """Which of several operator processes works."""

    enabled: bool = True
    """Without it there must never be two processes."""
    namespace: str | None = Field(default_factory=lambda: os.environ.get("POD_NAMESPACE"))
    """Where the Lease is; by default the pod's own namespace."""
    name: str = Field(default="pdfjob", min_length=1)


class Settings(BaseSettings):
    """All settings of the operator."""

    model_config = SettingsConfigDict(
        env_prefix="PDFJOB_",
        env_nested_delimiter="__",
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
    )

    s3: S3Settings
    runner: RunnerSettings
    source: SourceSettings = SourceSettings()
    documents: DocumentSettings = DocumentSettings()
    cache: CacheSettings = CacheSettings()
    leader_election: LeaderElectionSettings = Field(default_factory=LeaderElectionSettings)
    namespaces: list[str] = Field(default_factory=list)
    """Namespaces to watch; empty = all."""
    max_concurrent_chunks: int = Field(default=0, ge=0)
    """Chunks in flight over all jobs; 0 = the cluster decides."""
    workers: int = Field(default=8, ge=1)
    """Reconciles at once, each of another PdfJob."""
    resync_seconds: int = Field(default=600, ge=10)
    """How often the caches are compared with a full LIST."""
    work_dir: Path = Field(default_factory=lambda: Path(tempfile.gettempdir()) / "pdfjob")
    """Folder for sources, chunk PDFs and merges under way; emptied at start."""
    http_port: int = Field(default=8080, ge=0, le=65535)
    """/metrics, /livez, /readyz; 0 = any free port."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then the file that ``PDFJOB_CONFIG`` names."""
        sources: list[Any] = [init_settings, env_settings]
        path = os.environ.get("PDFJOB_CONFIG")
        if path:
            sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=path))
        return tuple(sources)
