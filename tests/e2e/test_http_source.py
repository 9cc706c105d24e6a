"""Documents from web servers: what is taken, what is refused, what is waited for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.e2e.test_bad_input import GROWTH, job_name
from tests.support import pdfs
from tests.support.cluster import fresh_namespace
from tests.support.outcomes import Event, Outcome, Vitals, assert_refused, memory_watched, outcomes, vitals
from tests.support.product import Job, submit, wait_for_operator
from tests.support.web_server import WebServer, web_server

DOCUMENT: Final = pdfs.text_pdf(3)
LARGE: Final = 2 * 1024**3
"""Bytes of a document over the cap of 1 GiB."""


def _loop(server: WebServer) -> str:
    server.redirect("/there", server.url("/back"))
    return server.redirect("/back", server.url("/there"))


REFUSED: Final[dict[str, tuple[Callable[[WebServer], str], str, str]]] = {
    "404": (lambda server: server.url("/nothing.pdf"), "SourceNotFound", "answers 404; check the address"),
    "410": (lambda server: server.offer("/gone.pdf", status=410), "SourceNotFound", "answers 410"),
    "401": (lambda server: server.offer("/yours.pdf", status=401), "SourceNotFound", "wants credentials"),
    "403": (lambda server: server.offer("/closed.pdf", status=403), "SourceNotFound", "wants credentials"),
    "redirect loop": (_loop, "SourceNotFound", "more than 5 redirects"),
    "redirect to a file": (
        lambda server: server.redirect("/file", "file:///etc/passwd"),
        "SourceNotFound",
        "not an http or https URL",
    ),
    "redirect to the operator itself": (
        lambda server: server.redirect("/inward", "http://127.0.0.1:8080/metrics"),
        "SourceNotAllowed",
        "127.0.0.1 is not a public address",
    ),
    "loopback": (lambda _: "http://127.0.0.1:8080/metrics", "SourceNotAllowed", "source.allowedCidrs"),
    "loopback as a number": (lambda _: "http://2130706433/a.pdf", "SourceNotFound", "not a valid URL; correct it"),
    "loopback by IPv6": (lambda _: "http://[::1]:8080/metrics", "SourceNotAllowed", "not a public address"),
    "metadata of a cloud": (lambda _: "http://169.254.169.254/latest", "SourceNotAllowed", "not a public address"),
    "service of the cluster": (
        lambda _: "http://pdfjob-s3.pdfjob-system.svc:7070/pdfjob/a",
        "SourceNotAllowed",
        "not a public address",
    ),
    "web page": (
        lambda server: server.offer("/page", b"<!DOCTYPE html><title>Sign in</title>"),
        "InvalidFormat",
        "web page",
    ),
    "large, length told": (
        lambda server: server.offer_zeros("/told", LARGE, tell_length=True),
        "SourceTooLarge",
        f"has {LARGE} bytes",
    ),
    "large, length not told": (
        lambda server: server.offer_zeros("/untold", LARGE, tell_length=False),
        "SourceTooLarge",
        "is larger",
    ),
}
"""Name to URL, reason and part of the message."""
WAITING: Final = {"500": 500, "503": 503, "429": 429}
RETRY_SECONDS: Final = 10
"""Before the second try of a source; each further pause is twice the one before."""


@dataclass
class Place:
    """A namespace with PdfJobs that read from one web server."""

    namespace: str
    server: WebServer
    before: Vitals
    peak: dict[str, int] = field(default_factory=dict)
    found: dict[str, Outcome] = field(default_factory=dict)


@pytest.fixture(scope="module")
def place(installed: None) -> Iterator[Place]:
    wait_for_operator()
    with web_server() as server, fresh_namespace() as namespace:
        place = Place(namespace, server, vitals())
        with memory_watched(place.peak):
            jobs = _submit_all(namespace, server)
            for job in jobs:
                job.wait()
            for name in WAITING:
                Job(namespace, f"waits-{name}").wait_for_event("Warning", "StorageUnreachable")
        place.found = outcomes(namespace)
        for name in WAITING:
            server.offer(f"/{name}.pdf", DOCUMENT)
        yield place


def _submit_all(namespace: str, server: WebServer) -> list[Job]:
    """Submit everything; return the jobs that come to an end by themselves."""
    for name, status in WAITING.items():
        submit(namespace, f"waits-{name}", {"http": {"url": server.offer(f"/{name}.pdf", status=status)}})
    sources: dict[str, dict[str, Any]] = {job_name(name): {"url": make(server)} for name, (make, *_) in REFUSED.items()}
    good = server.offer("/novel%20one.pdf", DOCUMENT)
    sources["good"] = {"url": good + "?token=secret", "sha256": hashlib.sha256(DOCUMENT).hexdigest()}
    sources["mismatch"] = {"url": good, "sha256": "0" * 64}
    named = {"Content-Disposition": 'attachment; filename="the novel.pdf"'}
    server.offer("/download", DOCUMENT, headers=named)
    sources["redirected"] = {"url": server.redirect("/go", "/download")}
    return [submit(namespace, name, {"http": source}) for name, source in sources.items()]


@pytest.mark.parametrize("name", REFUSED)
def test_a_web_address_that_gives_no_document_is_refused_with_the_reason(place: Place, name: str) -> None:
    _, reason, told = REFUSED[name]
    assert_refused(place.found[job_name(name)], reason, told)


def test_other_bytes_than_the_hash_promises_are_refused(place: Place) -> None:
    found = hashlib.sha256(DOCUMENT).hexdigest()
    assert_refused(place.found["mismatch"], "ChecksumMismatch", f"has the SHA-256 {found}, not {'0' * 64}")


@pytest.mark.parametrize(("name", "file_name"), [("good", "novel one.pdf"), ("redirected", "the novel.pdf")])
def test_a_web_document_is_processed_under_its_own_name(place: Place, name: str, file_name: str) -> None:
    status = place.found[name].status
    assert status["phase"] == "Succeeded", status
    assert status["source"] == {
        "sha256": hashlib.sha256(DOCUMENT).hexdigest(),
        "sizeBytes": len(DOCUMENT),
        "pages": 3,
        "fileName": file_name,
    }


def test_a_large_document_is_not_read_further_than_the_cap_nor_into_memory(place: Place) -> None:
    after = vitals()
    assert (after.pod, after.restarts) == (place.before.pod, place.before.restarts)
    print(f"operator: {place.before.resident_bytes >> 20} MiB, {place.peak['bytes'] >> 20} at most")
    assert place.peak["bytes"] - place.before.resident_bytes < GROWTH


@pytest.mark.parametrize("name", WAITING)
def test_a_server_in_trouble_is_waited_for_and_the_job_goes_on_when_it_has_recovered(place: Place, name: str) -> None:
    waiting = place.found[f"waits-{name}"]
    split = waiting.condition("Split")
    assert (split["status"], split["reason"]) == ("Unknown", "StorageUnreachable")
    assert f"the server answers {WAITING[name]}; it is tried again" in split["message"]
    assert Event("Warning", "StorageUnreachable", split["message"]) in waiting.events
    assert waiting.status["currentStep"] == "Waiting: StorageUnreachable"
    assert waiting.condition("Finished")["status"] == "False"
    seconds = Job(place.namespace, f"waits-{name}").succeed()["processingSeconds"]
    most = 1 + math.floor(math.log2((seconds + 1) / RETRY_SECONDS + 1))
    assert place.server.asked[f"/{name}.pdf"] <= most, "it waits longer from try to try"
