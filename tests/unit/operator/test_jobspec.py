"""The child Job as it is sent: a golden file, and the fields that security and counting depend on."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pdfjob_api.contract import Task
from pdfjob_api.errors import ExitCode
from pdfjob_api.pdfchunk import ChunkRetry, PdfChunk
from pdfjob_api.pdfjob import Limits, PdfJob
from pdfjob_api.processing import CustomProcessor, Processor
from pdfjob_api.runner import Runner
from pdfjob_operator.jobspec import Urls, build_job, build_task
from pdfjob_operator.settings import RunnerSettings
from tests.support.builders import at, pdf_chunk, pdf_job

GOLDEN = Path(__file__).parent / "golden" / "job.yaml"
BASE = "https://s3.example/pdfjob/jobs/books/novel"
SIGNED = "?X-Amz-Signature=0123"
URLS = Urls(
    chunk=f"{BASE}/chunks/c00002.pdf{SIGNED}",
    checkpoint=f"{BASE}/checkpoints/c00002/0f1e2d3c-a3.json{SIGNED}",
    progress=f"{BASE}/progress/c00002/0f1e2d3c-a3.json{SIGNED}",
    result=f"{BASE}/results/c00002/0f1e2d3c-a3.json{SIGNED}",
    previous_checkpoint=f"{BASE}/checkpoints/c00002/0f1e2d3c-a2.json{SIGNED}",
)
DEFAULTS = RunnerSettings(image="registry.example/pdfjob-runner:0.1.0", image_pull_secrets=["registry"])


def chunk() -> PdfChunk:
    return pdf_chunk(2, spec={"context_before": 1, "context_after": 1})


def build(job: PdfJob | None = None, urls: Urls = URLS) -> dict[str, Any]:
    return build_job(job or pdf_job(), chunk(), build_task(job or pdf_job(), chunk(), 3), urls, DEFAULTS)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def environment(job: dict[str, Any]) -> dict[str, str]:
    (container,) = pod_of(job)["containers"]
    return {item["name"]: item["value"] for item in container["env"]}


def test_the_job_is_the_golden_one() -> None:
    """To accept a change, look at it and write the new file: `python -m tests.unit.operator.test_jobspec`."""
    assert build() == yaml.safe_load(GOLDEN.read_text())


def test_one_job_makes_one_pod_ever() -> None:
    spec = build()["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["podReplacementPolicy"] == "Failed"
    assert {rule["action"] for rule in spec["podFailurePolicy"]["rules"]} == {"FailJob"}
    assert pod_of(build())["restartPolicy"] == "Never"


def test_every_exit_code_of_the_contract_is_left_on_the_job() -> None:
    rules = build()["spec"]["podFailurePolicy"]["rules"]
    (codes,) = [rule["onExitCodes"]["values"] for rule in rules if "onExitCodes" in rule]
    assert codes == sorted(set(ExitCode) - {ExitCode.DONE})
    assert [rule["onPodConditions"] for rule in rules if "onPodConditions" in rule] == [
        [{"type": "DisruptionTarget", "status": "True"}]
    ]


def test_the_pod_passes_the_restricted_profile() -> None:
    pod = pod_of(build())
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {tuple(volume) for volume in pod["volumes"]} == {("name", "emptyDir")}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}


def test_the_pod_holds_no_credential_but_presigned_urls() -> None:
    pod = pod_of(build())
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert "envFrom" not in container
    assert not [item for item in container["env"] if "valueFrom" in item]
    assert "AWS" not in json.dumps(container["env"])
    signed = {name for name, value in environment(build()).items() if SIGNED in value}
    assert signed == {
        "PDFJOB_CHUNK_URL",
        "PDFJOB_CHECKPOINT_URL",
        "PDFJOB_PREVIOUS_CHECKPOINT_URL",
        "PDFJOB_PROGRESS_URL",
        "PDFJOB_RESULT_URL",
    }


def test_the_hard_limit_is_the_pods_and_never_the_jobs() -> None:
    job = build(pdf_job(limits=Limits(chunk_timeout_seconds=77, chunk_soft_timeout_seconds=66)))
    assert pod_of(job)["activeDeadlineSeconds"] == 77
    assert "activeDeadlineSeconds" not in job["spec"]
    assert json.loads(environment(job)["PDFJOB_TASK"])["softTimeoutSeconds"] == 66


def test_the_task_says_what_the_start_has_to_do() -> None:
    task = Task.model_validate_json(environment(build())["PDFJOB_TASK"])
    assert (task.namespace, task.job, task.chunk, task.start) == ("books", "novel", 2, 3)
    assert (task.start_page, task.end_page, task.context_before, task.context_after) == (5, 6, 1, 1)


def test_without_an_earlier_checkpoint_there_is_no_url_of_one() -> None:
    urls = Urls(URLS.chunk, URLS.checkpoint, URLS.progress, URLS.result, None)
    assert "PDFJOB_PREVIOUS_CHECKPOINT_URL" not in environment(build(urls=urls))


def test_the_chunk_owns_the_job_and_labels_lead_back_to_it() -> None:
    job = build()
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("PdfChunk", "chunk-2", True)
    assert job["metadata"]["name"] == "novel-c00002-a3"
    labels = job["metadata"]["labels"]
    assert labels == job["spec"]["template"]["metadata"]["labels"]
    assert labels["pdfjob.dev/job-uid"] == pdf_job().metadata.uid
    assert (labels["pdfjob.dev/chunk"], labels["pdfjob.dev/start"]) == ("2", "3")


def test_labels_of_the_user_are_added_and_cannot_replace_ours() -> None:
    runner = Runner(labels={"kueue.x-k8s.io/queue-name": "books", "pdfjob.dev/chunk": "9"})
    labels = build(pdf_job(runner=runner))["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "books"
    assert labels["pdfjob.dev/chunk"] == "2"


def test_kueue_finds_its_labels_on_the_job_and_not_on_the_pod() -> None:
    job = pdf_job()
    queues = {"kueue.x-k8s.io/queue-name": "books", "kueue.x-k8s.io/priority-class": "low"}
    meta = job.metadata.model_copy(update={"labels": {**queues, "team": "a", "pdfjob.dev/chunk": "9"}})
    built = build(job.model_copy(update={"metadata": meta}))
    labels = built["metadata"]["labels"]
    assert labels == {**build()["metadata"]["labels"], **queues}
    assert built["spec"]["template"]["metadata"]["labels"] == build()["spec"]["template"]["metadata"]["labels"]
    assert "suspend" not in built["spec"], "Kueue suspends it itself"


def built_for(**status: Any) -> dict[str, Any]:
    retried = pdf_chunk(2, **status)
    job = build_job(pdf_job(), retried, build_task(pdf_job(), retried, 3), URLS, DEFAULTS)
    assert job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"]
    labels: dict[str, Any] = job["metadata"]["labels"]
    return labels


@pytest.mark.parametrize("request_id", ["a", "2026-11-22.again_1", "x" * 63])
def test_the_jobs_of_a_retry_are_marked_with_its_id(request_id: str) -> None:
    assert built_for(last_job_retry_id=request_id)["pdfjob.dev/retry"] == request_id
    own = ChunkRetry(id=request_id, accepted=True, time=at(0))
    assert built_for(last_retry=own)["pdfjob.dev/retry"] == request_id


@pytest.mark.parametrize("request_id", ["", "-a", "a-", "a b", "été", "x" * 64, "a/b", "a\n"])
def test_an_id_that_is_no_label_value_is_marked_by_its_hash(request_id: str) -> None:
    value = built_for(last_job_retry_id=request_id)["pdfjob.dev/retry"]
    assert re.fullmatch("[0-9a-f]{16}", value)
    assert value != built_for(last_job_retry_id=f"{request_id}!")["pdfjob.dev/retry"]


def test_a_start_that_nobody_asked_for_is_not_marked() -> None:
    refused = ChunkRetry(id="mine", accepted=False, time=at(0))
    assert "pdfjob.dev/retry" not in built_for()
    assert "pdfjob.dev/retry" not in built_for(last_retry=refused)
    assert built_for(last_retry=refused, last_job_retry_id="the-jobs")["pdfjob.dev/retry"] == "the-jobs"


def test_the_environment_of_the_user_cannot_replace_ours() -> None:
    env = [{"name": "PDFJOB_RESULT_URL", "value": "https://elsewhere"}, {"name": "TZ", "value": "UTC"}]
    job = build(pdf_job(runner=Runner.model_validate({"env": env})))
    (container,) = pod_of(job)["containers"]
    names = [item["name"] for item in container["env"]]
    assert environment(job)["TZ"] == "UTC"
    assert environment(job)["PDFJOB_RESULT_URL"] == URLS.result, "the last one of a name counts"
    assert names.index("TZ") < names.index("PDFJOB_TASK")


def test_the_pod_of_the_job_overrides_the_installations() -> None:
    runner = Runner.model_validate(
        {
            "image": "mine:2",
            "resources": {"limits": {"memory": "4Gi"}},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "imagePullSecrets": [{"name": "mine"}],
            "serviceAccountName": "reader",
            "priorityClassName": "low",
        }
    )
    pod = pod_of(build(pdf_job(runner=runner)))
    (container,) = pod["containers"]
    assert container["image"] == "mine:2"
    assert container["resources"] == {"limits": {"memory": "4Gi"}}
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert pod["imagePullSecrets"] == [{"name": "mine"}]
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("reader", "low")
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("command", [None, ["/bin/sh", "-c"]])
def test_a_custom_processor_brings_its_image_and_keeps_the_rules(command: list[str] | None) -> None:
    custom = CustomProcessor(image="curl:8", command=command, args=["run"], config={"depth": 2})
    job = build(pdf_job(processor=Processor(custom=custom)))
    (container,) = pod_of(job)["containers"]
    assert (container["image"], container.get("command"), container["args"]) == ("curl:8", command, ["run"])
    assert container["securityContext"] == pod_of(build())["containers"][0]["securityContext"]
    assert json.loads(environment(job)["PDFJOB_TASK"])["processor"]["custom"]["config"] == {"depth": 2}


def test_the_kubelet_expands_nothing_in_the_task() -> None:
    custom = CustomProcessor(image="x", config={"prompt": "costs $(HOME) and $5"})
    task = environment(build(pdf_job(processor=Processor(custom=custom))))["PDFJOB_TASK"]
    assert "$$(HOME)" in task
    assert "$5" in task


if __name__ == "__main__":
    without_aliases = json.loads(json.dumps(build()))
    GOLDEN.write_text(yaml.safe_dump(without_aliases, sort_keys=False, width=120))
