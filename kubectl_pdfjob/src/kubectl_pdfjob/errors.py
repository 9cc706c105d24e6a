"""Errors of the plugin: each is one clear line for people and one exit code for scripts."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

__all__ = [
    "ClusterError",
    "ConflictError",
    "ExitCode",
    "ForbiddenError",
    "InterruptError",
    "JobFailedError",
    "NameTakenError",
    "NotFoundError",
    "PluginError",
    "StorageError",
    "UsageError",
    "VerbRefusedError",
    "WaitTimeoutError",
]


class ExitCode(IntEnum):
    """Exit codes, documented in ``docs/kubectl-plugin.md``."""

    OK = 0
    JOB_FAILED = 1
    """The PdfJob failed, has no result (yet), or does not take the verb as it stands."""
    USAGE = 2
    """Wrong arguments, or a local file that cannot be read."""
    CLUSTER = 3
    """The Kubernetes API refused, or cannot be reached."""
    STORAGE = 4
    """The S3 storage refused, cannot be reached, or returned other bytes than were stored."""
    TIMEOUT = 5
    """The time of ``--wait`` is over; the job goes on."""
    INTERNAL = 70
    """A fault of the plugin itself."""
    BROKEN_PIPE = 141
    """The reader of our output went away; the code a shell gives for SIGPIPE."""
    INTERRUPTED = 130
    """Ctrl-C; the job goes on."""
    TERMINATED = 143
    """SIGTERM; the job goes on."""


class PluginError(Exception):
    """Something the user can read and act on.

    Parameters
    ----------
    message
        What failed, on which object, and what to do; one line.
    hint
        A command or a setting that helps, shown on a line of its own.
    """

    exit_code: ClassVar[ExitCode]

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.hint = hint


class UsageError(PluginError):
    """The arguments cannot work."""

    exit_code = ExitCode.USAGE


class JobFailedError(PluginError):
    """The PdfJob failed, or it has no result yet."""

    exit_code = ExitCode.JOB_FAILED


class VerbRefusedError(PluginError):
    """The PdfJob does not take this verb as it stands."""

    exit_code = ExitCode.JOB_FAILED


class ClusterError(PluginError):
    """The Kubernetes API refused or did not answer."""

    exit_code = ExitCode.CLUSTER


class NameTakenError(ClusterError):
    """An object of this name exists."""


class NotFoundError(ClusterError):
    """There is no object of this name."""


class ForbiddenError(ClusterError):
    """The user has no right to do this."""


class ConflictError(ClusterError):
    """Somebody else has changed the object since it was read."""


class StorageError(PluginError):
    """The S3 storage refused or did not answer."""

    exit_code = ExitCode.STORAGE


class WaitTimeoutError(PluginError):
    """The time given to ``--wait`` is over."""

    exit_code = ExitCode.TIMEOUT


class InterruptError(PluginError):
    """The user pressed Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED
