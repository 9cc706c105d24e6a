"""The key of the language service: read from its file, and never written anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chunk_runner.failures import RunnerError
from pdfjob_api.contract import ENV_API_KEY_FILE, Task
from pdfjob_api.errors import ExitCode
from pdfjob_api.gemini import GeminiProcessor

_LARGEST: Final = 64 * 1024
_KEY: Final = re.compile(r"[!-~]{1,4096}")
"""Whatever fits into a header; a key that does not would end up in an error message of the HTTP library."""


@dataclass(frozen=True, slots=True)
class SecretName:
    """Where the user put the key."""

    namespace: str
    name: str
    key: str

    def refused(self, reason: str) -> RunnerError:
        """Return the error that says what is wrong and what to do."""
        return RunnerError(
            ExitCode.AUTH_ERROR,
            f"The language service cannot be used with the key {self.key!r} of Secret {self.name!r}: "
            f"{reason.rstrip('.')}. "
            f"Put a valid key there: kubectl create secret generic {self.name} -n {self.namespace} "
            f"--from-file={self.key}=FILE --dry-run=client -o yaml | kubectl apply -f -",
        )


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, or the JSON key of a service account."""

    api_key: str | None = field(default=None, repr=False)
    service_account: Mapping[str, Any] | None = field(default=None, repr=False)

    def secrets(self) -> Iterator[str]:
        """Yield what must never be written down."""
        account = self.service_account or {}
        for value in (self.api_key, account.get("private_key"), account.get("private_key_id")):
            if isinstance(value, str):
                yield from {value, json.dumps(value)[1:-1]}  # also as a log line would hold it


def secret_name(task: Task, settings: GeminiProcessor) -> SecretName:
    """Return where the key of this task comes from."""
    reference = settings.api_key_secret_ref
    return SecretName(task.namespace, reference.name, reference.key)


def read_key(path: Path | None, settings: GeminiProcessor, secret: SecretName) -> Key:
    """Read the key.

    Raises
    ------
    RunnerError
        `ExitCode.AUTH_ERROR` when there is none or it cannot be one, `ExitCode.INVALID_TASK` when no file is named.
    """
    if path is None:
        raise RunnerError(ExitCode.INVALID_TASK, f"{ENV_API_KEY_FILE} is not set; the operator sets it")
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST).decode().strip()
    except FileNotFoundError:
        raise secret.refused("the Secret or its key is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise secret.refused(f"it cannot be read ({type(error).__name__})") from None
    if not text:
        raise secret.refused("it is empty")
    if settings.vertex is not None and text.startswith("{"):
        return Key(service_account=_service_account(text, secret))
    if not _KEY.fullmatch(text):
        raise secret.refused("it is no API key: it has spaces, line breaks or other characters that no key has")
    return Key(api_key=text)


def _service_account(text: str, secret: SecretName) -> Mapping[str, Any]:
    try:
        info = json.loads(text)
    except ValueError:
        raise secret.refused("it begins as the JSON key of a service account and is not valid JSON") from None
    missing = [name for name in ("client_email", "private_key", "token_uri") if not isinstance(info.get(name), str)]
    if missing:
        raise secret.refused(f"the JSON key of the service account lacks {', '.join(missing)}")
    return dict(info)
