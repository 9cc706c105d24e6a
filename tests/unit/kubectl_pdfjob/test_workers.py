"""The state of runner pods."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_pdfjob.workers import WorkerState, live_workers

from .builders import ago, make_pod

SCHEDULED = {"type": "PodScheduled", "status": "True"}
NO_NODE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}


def waiting(reason: str, message: str = "") -> list[dict[str, Any]]:
    return [{"name": "runner", "state": {"waiting": {"reason": reason, "message": message}}}]


@pytest.mark.parametrize(
    ("status", "state", "detail"),
    [
        ({}, WorkerState.PENDING, ""),
        ({"conditions": [NO_NODE]}, WorkerState.UNSCHEDULABLE, "0/1 nodes are available"),
        ({"conditions": [SCHEDULED]}, WorkerState.STARTING, ""),
        ({"conditions": [SCHEDULED], "containerStatuses": waiting("ContainerCreating")}, WorkerState.STARTING, ""),
        ({"containerStatuses": waiting("ImagePullBackOff", "no x")}, WorkerState.IMAGE_PULL, "ImagePullBackOff: no x"),
        ({"containerStatuses": waiting("ErrImagePull")}, WorkerState.IMAGE_PULL, "ErrImagePull"),
        (
            {"containerStatuses": waiting("CreateContainerConfigError", 'secret "x" not found')},
            WorkerState.CONFIG_ERROR,
            'CreateContainerConfigError: secret "x" not found',
        ),
        (
            {"phase": "Running", "containerStatuses": [{"name": "runner", "state": {"running": {}}}]},
            WorkerState.RUNNING,
            "",
        ),
        (
            {"phase": "Running", "containerStatuses": [{"name": "runner", "state": {"terminated": {}}}]},
            WorkerState.ENDING,
            "",
        ),
    ],
)
def test_the_state_is_told_from_the_pod(status: dict[str, Any], state: WorkerState, detail: str) -> None:
    [worker] = live_workers([make_pod(**status)], "uid-1")

    assert (worker.state, worker.detail) == (state, detail)


def test_a_pod_that_was_told_to_end_is_ending() -> None:
    pod = make_pod(containerStatuses=[{"name": "runner", "state": {"running": {}}}])
    pod["metadata"]["deletionTimestamp"] = ago(1)

    assert live_workers([pod], "uid-1")[0].state is WorkerState.ENDING


def test_the_runner_counts_and_not_a_sidecar() -> None:
    statuses = [
        {"name": "istio-proxy", "state": {"running": {}}},
        {"name": "runner", "state": {"waiting": {"reason": "ErrImagePull"}}},
    ]

    assert live_workers([make_pod(containerStatuses=statuses)], "uid-1")[0].state is WorkerState.IMAGE_PULL


def test_ended_pods_and_pods_of_an_earlier_job_of_the_name_are_left_out() -> None:
    pods = [make_pod(3), make_pod(1), make_pod(2, uid="uid-0"), make_pod(4, phase="Succeeded")]

    assert [worker.chunk for worker in live_workers(pods, "uid-1")] == [1, 3]


def test_since_is_the_start_of_the_container() -> None:
    pod = make_pod(containerStatuses=[{"name": "runner", "state": {"running": {"startedAt": ago(7)}}}])

    assert live_workers([pod], "uid-1")[0].since == ago(7)
    assert live_workers([make_pod()], "uid-1")[0].since == ago(30)
