"""The cache: never older than its last word, no ghosts, nobody else's objects."""

from __future__ import annotations

from typing import Any

import pytest

from pdfjob_api.names import LABEL_CHUNK, LABEL_JOB_UID, LABEL_START
from pdfjob_operator.cache import Cache
from tests.support.builders import JOB_UID, pdf_chunk, pdf_job, raw_job, raw_pod, running, terminated


def raw_chunk(index: int = 0, version: int = 10, phase: str = "Pending") -> dict[str, Any]:
    raw = pdf_chunk(index).wire()
    raw["metadata"] |= {"resourceVersion": str(version), "labels": {LABEL_JOB_UID: JOB_UID}}
    return {**raw, "status": {"phase": phase}}


def raw_pdf_job(version: int = 10) -> dict[str, Any]:
    raw = pdf_job().wire()
    raw["metadata"]["resourceVersion"] = str(version)
    return raw


def pod_version(cache: Cache) -> list[int]:
    return [pod.meta.resource_version for pod in cache.pods(JOB_UID)]


def test_what_is_taken_in_is_found_by_its_pdfjob() -> None:
    cache = Cache()
    assert cache.apply("pdfjobs", raw_pdf_job()) == JOB_UID
    assert cache.apply("pdfchunks", raw_chunk(3)) == JOB_UID
    assert cache.apply("jobs", raw_job(chunk=3)) == JOB_UID
    assert cache.apply("pods", raw_pod(chunk=3)) == JOB_UID
    assert cache.uids() == [JOB_UID]
    assert list(cache.chunks(JOB_UID)) == [3]
    assert [job.meta.chunk for job in cache.child_jobs(JOB_UID)] == [3]
    assert [pod.meta.chunk for pod in cache.pods(JOB_UID)] == [3]
    assert cache.pods("another") == []


def test_an_older_version_never_replaces_a_newer_one() -> None:
    cache = Cache()
    assert cache.apply("pods", raw_pod(terminated(0), version=12)) == JOB_UID
    assert cache.apply("pods", raw_pod(running(), version=11)) is None
    assert [pod.exit_code for pod in cache.pods(JOB_UID)] == [0]


def test_versions_are_numbers_not_words() -> None:
    cache = Cache()
    cache.apply("pods", raw_pod(version=9))
    assert cache.apply("pods", raw_pod(version=10)) == JOB_UID


def test_the_same_version_is_no_news() -> None:
    cache = Cache()
    cache.apply("pdfjobs", raw_pdf_job())
    assert cache.apply("pdfjobs", raw_pdf_job()) is None


def test_what_was_deleted_does_not_come_back_by_a_late_event() -> None:
    cache = Cache()
    cache.apply("jobs", raw_job(version=10))
    cache.forget("jobs", JOB_UID, "job-0-1")
    assert cache.apply("jobs", raw_job(version=11)) is None
    assert cache.child_jobs(JOB_UID) == []


def test_a_deletion_that_comes_before_its_creation_wins() -> None:
    cache = Cache()
    assert cache.remove("pods", raw_pod(version=12)) == JOB_UID
    assert cache.apply("pods", raw_pod(version=10)) is None


def test_another_object_of_the_same_name_is_another_object() -> None:
    cache = Cache()
    cache.remove("pods", raw_pod(uid="old", version=12))
    assert cache.apply("pods", raw_pod(uid="new", version=13)) == JOB_UID


def test_a_listing_drops_ghosts_and_says_whose() -> None:
    cache = Cache()
    cache.apply("pods", raw_pod(chunk=0, version=10))
    cache.apply("pods", raw_pod(chunk=1, version=11))
    assert cache.replace("pods", [raw_pod(chunk=1, version=11)], 20) == {JOB_UID}
    assert [pod.meta.chunk for pod in cache.pods(JOB_UID)] == [1]
    assert cache.apply("pods", raw_pod(chunk=0, version=12)) is None


def test_a_listing_does_not_drop_what_is_younger_than_itself() -> None:
    cache = Cache()
    cache.apply("jobs", raw_job(version=30))
    assert cache.replace("jobs", [], 20) == set()
    assert len(cache.child_jobs(JOB_UID)) == 1


def test_a_listing_takes_in_what_no_event_told_and_keeps_what_is_newer() -> None:
    cache = Cache()
    cache.apply("pods", raw_pod(chunk=0, version=15))
    assert cache.replace("pods", [raw_pod(chunk=0, version=10), raw_pod(chunk=1, version=11)], 20) == {JOB_UID}
    assert sorted(pod_version(cache)) == [11, 15]


def test_a_listing_without_news_changes_nothing() -> None:
    cache = Cache()
    cache.apply("pdfjobs", raw_pdf_job())
    assert cache.replace("pdfjobs", [raw_pdf_job()], 50) == set()


def test_a_listing_of_one_kind_leaves_the_others_alone() -> None:
    cache = Cache()
    cache.apply("pods", raw_pod())
    cache.apply("pdfchunks", raw_chunk())
    cache.replace("pods", [], 50)
    assert list(cache.chunks(JOB_UID)) == [0]


def test_a_pdfjob_that_is_gone_is_found_no_more() -> None:
    cache = Cache()
    cache.apply("pdfjobs", raw_pdf_job())
    cache.remove("pdfjobs", raw_pdf_job(12))
    assert cache.job(JOB_UID) is None
    assert cache.uids() == []


@pytest.mark.parametrize("label", [LABEL_CHUNK, LABEL_START])
@pytest.mark.parametrize("value", [None, "two"])
def test_objects_of_others_are_ignored(label: str, value: str | None) -> None:
    cache, raw = Cache(), raw_job()
    raw["metadata"]["labels"].pop(label)
    if value is not None:
        raw["metadata"]["labels"][label] = value
    assert cache.apply("jobs", raw) is None
    assert cache.child_jobs(JOB_UID) == []


def test_objects_without_labels_are_ignored() -> None:
    cache, raw = Cache(), raw_pod()
    raw["metadata"].pop("labels")
    assert cache.apply("pods", raw) is None
    assert cache.remove("pods", raw) == ""


def test_a_pdfjob_that_cannot_be_read_is_ignored() -> None:
    raw = raw_pdf_job()
    raw["spec"]["source"] = "a string"
    assert Cache().apply("pdfjobs", raw) is None


def test_the_newest_start_is_known_when_its_job_and_pod_are_gone() -> None:
    cache = Cache()
    for start in (1, 3, 2):
        cache.apply("jobs", raw_job(start=start))
        cache.forget("jobs", JOB_UID, f"job-0-{start}")
    cache.apply("pods", raw_pod(chunk=4, start=2))
    assert cache.newest_starts(JOB_UID) == {0: 3, 4: 2}
    cache.forget("pdfjobs", JOB_UID, JOB_UID)
    assert cache.newest_starts(JOB_UID) == {}


def test_tombstones_are_bounded() -> None:
    cache = Cache()
    for number in range(20_050):
        cache.forget("pods", JOB_UID, f"pod-{number}")
    assert cache.apply("pods", raw_pod(uid="pod-20049")) is None
    assert cache.apply("pods", raw_pod(uid="pod-10")) == JOB_UID


def test_a_pod_that_outlives_its_pdfjob_leaves_nothing_behind() -> None:
    cache = Cache()
    cache.apply("pdfjobs", raw_pdf_job())
    cache.remove("pdfjobs", raw_pdf_job(11))
    cache.apply("pods", raw_pod(terminated(0), version=12))
    cache.remove("pods", raw_pod(terminated(0), version=13))
    assert cache.newest_starts(JOB_UID) == {}


def test_a_start_whose_job_and_pod_are_gone_is_remembered_while_its_pdfjob_is_there() -> None:
    cache = Cache()
    cache.apply("pdfjobs", raw_pdf_job())
    cache.apply("pods", raw_pod(start=2, version=12))
    cache.remove("pods", raw_pod(start=2, version=13))
    assert cache.newest_starts(JOB_UID) == {0: 2}


def test_pdfchunks_that_are_gone_are_remembered_as_long_as_their_pdfjob_is_there() -> None:
    cache = Cache()
    cache.apply("pdfjobs", raw_pdf_job(1))
    raws = [raw_chunk(index) for index in range(2)]
    for raw in raws:
        cache.apply("pdfchunks", raw)
    cache.remove("pdfchunks", raws[1])
    assert (sorted(cache.chunks(JOB_UID)), sorted(cache.last_known_chunks(JOB_UID))) == ([0], [0, 1])
    again = {**raws[1], "metadata": {**raws[1]["metadata"], "uid": "made-again"}}
    cache.apply("pdfchunks", again)
    assert cache.last_known_chunks(JOB_UID)[1].metadata.uid == "made-again"
    cache.remove("pdfchunks", again)
    cache.remove("pdfjobs", raw_pdf_job(2))
    assert 1 not in cache.last_known_chunks(JOB_UID)
    cache.remove("pdfchunks", raws[0])
    assert cache.last_known_chunks(JOB_UID) == {}, "what is never asked for again must not pile up"


@pytest.mark.parametrize(
    ("state", "torn"), [(running(), True), (terminated(0), False), ({}, False)], ids=["at work", "ended", "not begun"]
)
def test_a_pod_that_goes_while_its_runner_works_was_deleted_by_force(state: dict[str, Any], *, torn: bool) -> None:
    cache = Cache()
    cache.apply("pdfjobs", raw_pdf_job())
    cache.apply("pods", raw_pod(state))
    assert cache.torn_away(JOB_UID) is None
    cache.remove("pods", raw_pod(state))
    assert (cache.torn_away(JOB_UID) is not None) == torn
    cache.forget("pdfjobs", JOB_UID, JOB_UID)
    assert cache.torn_away(JOB_UID) is None


def raw_account(name: str = "team", version: int = 10, namespace: str = "books") -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {"balance": version}}


def test_a_credit_account_is_found_by_its_name_and_belongs_to_itself() -> None:
    cache = Cache()
    assert cache.apply("creditaccounts", raw_account()) == "uid-team"
    assert cache.apply("creditaccounts", raw_account(version=9)) is None
    assert cache.apply("creditaccounts", raw_account(version=11)) == "uid-team"
    found = cache.account("books", "team")
    assert found is not None
    assert (found.spec.balance, cache.account_of_uid("uid-team"), cache.accounts()) == (11, found, [found])
    assert cache.account("other", "team") is None
    assert cache.account("books", "another") is None
    assert cache.uids() == []


def test_a_credit_account_that_vanished_in_a_gap_of_the_watch_is_dropped() -> None:
    cache = Cache()
    cache.apply("creditaccounts", raw_account())
    cache.apply("creditaccounts", raw_account("old"))
    assert cache.replace("creditaccounts", [raw_account(version=12)], 12) == {"uid-team", "uid-old"}
    assert [each.metadata.name for each in cache.accounts()] == ["team"]
