"""A stand-in for the Gemini API on the wire: it answers well, badly or not at all, as told, and counts what it sold.

Standard library only, so that it runs in any image with Python 3.11: ``python -m gemini_stub --port 8080`` as a pod,
``with serve() as stub:`` within a process. It needs no model: answers are derived from the request.

Every API key has a scenario and counts of its own, so that tests can run at the same time:

``PUT /stub/keys/KEY``
    Registers a key, or changes the scenario of a known one and keeps its counts. The body is a `Scenario` as JSON.
``GET /stub/keys/KEY``
    Its counts, see `gemini_stub.counts.Counts.as_json`; with ``?brief`` without the lists of single requests.
``DELETE /stub/keys/KEY``
    The key is not valid any more.
``POST /stub/token``
    Token endpoint of service accounts (``token_uri``): the part before the @ of the account's address is the key.

A key that nobody registered is refused as Google does (400, API_KEY_INVALID), but for ``demo``.
"""

from .scenario import ANSWERED_WELL, CONNECTION_FAULTS, ERRORS, FAULTS, SPOILED, Scenario, ScriptLine
from .server import Stub, serve

__all__ = [
    "ANSWERED_WELL",
    "CONNECTION_FAULTS",
    "ERRORS",
    "FAULTS",
    "SPOILED",
    "Scenario",
    "ScriptLine",
    "Stub",
    "serve",
]
