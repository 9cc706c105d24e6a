"""What a request on the wire is: who sent it, to which server, and what it does there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, unquote

API: Final = "api"
S3: Final = "s3"
OPERATOR: Final = "operator"
RUNNER: Final = "runner"
WRITES: Final = frozenset({"create", "patch", "replace", "delete", "deletecollection", "put", "create_bucket"})

_KEYS: Final = (
    ("plan", re.compile(r"/jobs/[^/]+/[^/]+/plan\.json$")),
    ("manifest", re.compile(r"/jobs/[^/]+/[^/]+/manifest\.json$")),
    ("chunk", re.compile(r"/jobs/[^/]+/[^/]+/chunks/")),
    ("checkpoint", re.compile(r"/jobs/[^/]+/[^/]+/checkpoints/")),
    ("progress", re.compile(r"/jobs/[^/]+/[^/]+/progress/")),
    ("chunk_result", re.compile(r"/jobs/[^/]+/[^/]+/results/")),
    ("result", re.compile(r"/jobs/[^/]+/[^/]+/result\.")),
    ("root", re.compile(r"/jobs/[^/]+/[^/]+/$")),
    ("history_record", re.compile(r"/history/[^/]+/[^/]+/[^/]+/job\.json$")),
    ("error", re.compile(r"/history/[^/]+/[^/]+/[^/]+/errors/")),
    ("cached", re.compile(r"/cache/[^/]+/[^/]+\.json$")),
    ("inbox", re.compile(r"/inbox/")),
)
"""Names of `pdfjob_api.keys.JobKeys` by the form of the key."""
_API_PATH: Final = re.compile(
    r"^/(?:api|apis/(?P<group>[^/]+))/[^/]+(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[a-z]+))?$"
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    server: str
    """``api`` or ``s3``."""
    caller: str
    """``operator`` or ``runner``."""
    verb: str
    """get, list, watch, create, patch, replace, delete, deletecollection; for S3 get, head, list, put, delete,
    create_bucket."""
    what: str
    """Plural of the kind with the subresource (``pdfchunks/status``), or the kind of the S3 key (``chunk_result``)."""
    name: str
    """Name of the object, or its key."""

    @property
    def point(self) -> str:
        """What is done to what, e.g. ``create jobs`` or ``put plan``."""
        return f"{self.verb} {self.what}"

    @property
    def is_write(self) -> bool:
        """Whether it changes something, if it succeeds."""
        return self.verb in WRITES


def api_request(method: str, path: str, query: str, body: bytes) -> Request:
    """Say what a request to the API server is."""
    found = _API_PATH.match(path)
    if found is None:
        return Request(API, OPERATOR, "get", "other", path)
    parts = found.groupdict()
    what = parts["plural"] + (f"/{parts['subresource']}" if parts["subresource"] else "")
    name = parts["name"] or ""
    verb = {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "replace", "DELETE": "delete"}[method]
    if not name:
        watches = parse_qs(query).get("watch", ["false"])[0] in {"true", "1"}
        verb = {"get": "watch" if watches else "list", "delete": "deletecollection"}.get(verb, verb)
    if verb == "create":
        name = str(json.loads(body)["metadata"].get("name", ""))
    return Request(API, OPERATOR, verb, what, name)


def s3_request(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Say what a request to the object store is."""
    _, _, key = unquote(path).lstrip("/").partition("/")
    caller = OPERATOR if "Authorization" in headers else RUNNER
    fields = parse_qs(query, keep_blank_values=True)
    if not key:
        if method == "POST" and "delete" in fields:
            names = [unquote(item.decode()) for item in re.findall(rb"<Key>([^<]+)</Key>", body)]
            kinds = {kind_of_key(name) for name in names}
            return Request(S3, caller, "delete", kinds.pop() if len(kinds) == 1 else "root", " ".join(names))
        if method == "GET":
            prefix = fields.get("prefix", [""])[0]
            return Request(S3, caller, "list", kind_of_key(prefix), prefix)
        return Request(S3, caller, {"PUT": "create_bucket"}.get(method, method.lower()), "bucket", path)
    verb = {"GET": "get", "HEAD": "head", "PUT": "put", "DELETE": "delete"}.get(method, method.lower())
    return Request(S3, caller, verb, kind_of_key(key), key)


def kind_of_key(key: str) -> str:
    """Return the name that `JobKeys` has for keys of this form."""
    return next((name for name, form in _KEYS if form.search(f"/{key}")), "other")
