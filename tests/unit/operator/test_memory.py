"""What is remembered of a PdfJob between reconciles, and what is forgotten when it is no longer needed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pdfjob_api.conditions import Reason
from pdfjob_api.contract import Progress
from pdfjob_operator.memory import JobMemory
from pdfjob_operator.observation import WorkError, WorkKind
from tests.support.builders import NOW, at, pdf_job, split_facts
from tests.support.deciding import NOTHING, RESULT

BEAT = Progress(done=1, total=2, time=at(0))


def error(kind: WorkKind) -> WorkError:
    return WorkError(Reason.STORAGE_UNREACHABLE, kind.value, NOW)


def test_only_what_was_learnt_changes() -> None:
    memory = JobMemory(split_facts(pdf_job(), 4, 2))
    before = memory.facts
    memory.learn(stored=1)
    memory.learn_end("chunk-0", 1, NOTHING)
    memory.learn_adopted("chunk-1", RESULT)
    assert (memory.facts.stored, memory.facts.plan) == (1, before.plan)
    assert memory.facts.ends == {("chunk-0", 1): NOTHING}
    assert memory.facts.adopted == {"chunk-1": RESULT}
    assert before.stored == 2, "a decision that looks at the old facts is not disturbed"


def test_facts_that_are_handed_in_are_not_changed() -> None:
    given = split_facts(pdf_job(), 4, 2)
    first, second = JobMemory(given), JobMemory(given)
    first.learn_end("chunk-0", 1, NOTHING)
    first.learn_progress("chunk-0", 1, BEAT, NOW)
    first.learn_adopted("chunk-0", RESULT)
    assert (given.ends, given.progress, given.adopted) == ({}, {}, {})
    assert second.facts == given


def test_one_more_of_thousands_of_starts_does_not_copy_what_is_known_of_the_others() -> None:
    memory = JobMemory()
    known = memory.facts
    memory.learn_end("chunk-0", 1, NOTHING)
    memory.learn_progress("chunk-0", 1, BEAT, NOW)
    memory.learn_adopted("chunk-0", RESULT)
    memory.learn(stored=1)
    memory.forget_ended("chunk-9", 1)
    facts = memory.facts
    assert facts.ends is known.ends
    assert facts.progress is known.progress
    assert facts.adopted is known.adopted
    assert (len(facts.ends), len(facts.progress), len(facts.adopted)) == (1, 1, 1)


def test_what_is_learnt_after_a_run_was_forgotten_is_known() -> None:
    memory = JobMemory()
    memory.learn_end("chunk-0", 1, NOTHING)
    memory.forget_run()
    assert memory.facts.ends == {}
    memory.learn_end("chunk-1", 1, NOTHING)
    assert memory.facts.ends == {("chunk-1", 1): NOTHING}


def test_a_recorded_start_is_forgotten_and_the_others_are_not() -> None:
    memory = JobMemory()
    for start in (1, 2):
        memory.learn_end("chunk-0", start, NOTHING)
        memory.learn_progress("chunk-0", start, BEAT, NOW)
        memory.progress_read["chunk-0", start] = 5.0
    memory.forget_ended("chunk-0", 1)
    assert list(memory.facts.ends) == list(memory.facts.progress) == list(memory.progress_read) == [("chunk-0", 2)]
    memory.forget_ended("chunk-9", 9)  # nothing was known of it


def test_silence_is_forgiven_only_where_a_heartbeat_was_ever_read() -> None:
    memory = JobMemory()
    memory.forgive_silence("chunk-0", 1, NOW)
    assert memory.facts.progress == {}


def test_a_finished_job_keeps_what_its_record_and_its_removal_need() -> None:
    memory = JobMemory(split_facts(pdf_job(), 4, 2, working=WorkKind.RECORD, recorded="s3://pdfjob/job.json"))
    for kind in WorkKind:
        memory.work_failed(kind, error(kind))
    memory.forget_run()
    facts = memory.facts
    assert (facts.working, facts.recorded) == (WorkKind.RECORD, "s3://pdfjob/job.json")
    assert set(facts.errors) == {WorkKind.RECORD, WorkKind.CLEAN}
    assert (facts.plan, facts.manifest, facts.merged, facts.stored) == (None, None, None, 0)


def test_work_that_fails_again_waits_twice_as_long_up_to_the_most() -> None:
    memory = JobMemory()
    waits = []
    for _ in range(40):
        waits.append((memory.retry_at(WorkKind.SPLIT, NOW, first=10, most=300) - NOW).total_seconds())
        memory.work_failed(WorkKind.SPLIT, error(WorkKind.SPLIT))
    assert waits[:7] == [10, 20, 40, 80, 160, 300, 300]
    assert waits[-1] == 300


@pytest.mark.parametrize("kind", list(WorkKind))
def test_success_forgets_the_failures_of_this_kind_of_work_and_no_others(kind: WorkKind) -> None:
    memory = JobMemory()
    for each in WorkKind:
        memory.work_failed(each, error(each))
    memory.work_succeeded(kind)
    assert set(memory.facts.errors) == set(WorkKind) - {kind}
    assert memory.retry_at(kind, NOW, first=10, most=300) == NOW + timedelta(seconds=10)
    other = next(each for each in WorkKind if each is not kind)
    assert memory.retry_at(other, NOW, first=10, most=300) == NOW + timedelta(seconds=20)
