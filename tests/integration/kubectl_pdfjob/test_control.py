"""``kubectl pdfjob retry``, ``suspend``, ``resume``, ``stop`` and ``cancel`` against a real API server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.cluster import kubectl, kubectl_json
from tests.support.product import wait_until

from .installation import KEYS, PLUGIN, pdfjob, plugin_environment, user_kubeconfig
from .operator_role import OperatorRole, condition, now
from .test_views import submitted

NOT_FOUND = 3
REQUESTED_BY = "pdfjob.dev/shutdown-requested-by"


def spec(operator: OperatorRole) -> dict[str, Any]:
    found: dict[str, Any] = kubectl_json("get", "pdfjob", operator.name, "-n", operator.namespace)["spec"]
    return found


def started(namespace: str, *arguments: str) -> subprocess.Popen[str]:
    command = [str(PLUGIN), *arguments, "-n", namespace]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plugin_environment(KEYS)
    )


def answered(operator: OperatorRole, process: subprocess.Popen[str], **answer: Any) -> tuple[str, str]:
    """Answer the retry request that the plugin writes, as the operator does, and return what the plugin says."""
    request = wait_until(lambda: spec(operator).get("retryRequest"), "the retry request", 30)
    operator.status(lastRetry={"id": request["id"], "time": now(), **answer})
    return process.communicate(timeout=60)


def test_retry_writes_the_request_and_shows_the_answer(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(2, failed=2)
    process = started(namespace, "retry", "novel", "--chunk", "5", "--chunk", "2", "--chunk", "99", "--force")
    stdout, stderr = answered(
        operator,
        process,
        message="Retrying 2 chunks",
        retriedCount=2,
        chunks=[2, 5],
        refused=[{"chunks": "99", "reason": "there is no such chunk"}],
    )

    assert process.returncode == 0, stderr
    assert stdout.splitlines() == [
        "Retrying 2 chunks",
        "  again:    2, 5",
        "  refused:  99: there is no such chunk",
    ]
    request = spec(operator)["retryRequest"]
    assert (request["chunks"], request["force"]) == ([2, 5, 99], True)
    assert f"kubectl pdfjob watch novel -n {namespace}" in stderr


def test_a_second_retry_asks_for_its_own_chunks_with_a_new_id(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(2)
    kubectl(
        *("patch", "pdfjob", "novel", "-n", namespace, "--type=merge", "-p"),
        '{"spec":{"retryRequest":{"id":"first","chunks":[7],"force":true}}}',
    )
    process = started(namespace, "retry", "novel")
    request = wait_until(
        lambda: [found for found in [spec(operator)["retryRequest"]] if found["id"] != "first"], "a new request", 30
    )[0]
    operator.status(lastRetry={"id": request["id"], "time": now(), "message": "Retrying 0 chunks; merging again"})
    stdout, _ = process.communicate(timeout=60)

    assert "chunks" not in request
    assert request["force"] is False
    assert (process.returncode, stdout) == (0, "Retrying 0 chunks; merging again\n")


def test_a_retry_that_is_refused_as_a_whole_ends_with_exit_code_one_and_the_reasons(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(2)
    process = started(namespace, "retry", "novel", "--chunk", "3")
    stdout, stderr = answered(
        operator,
        process,
        message="Retrying 0 chunks",
        retriedCount=0,
        refused=[{"chunks": "3", "reason": "it has succeeded; force processes it again"}],
    )

    assert (process.returncode, stdout) == (1, "")
    assert 'error: pdfjob "novel": no chunk starts again' in stderr
    assert "refused:  3: it has succeeded; force processes it again" in stderr


def test_a_retry_of_a_stopped_job_is_refused_in_the_operators_words(namespace: str) -> None:
    operator = submitted(namespace)
    kubectl("patch", "pdfjob", "novel", "-n", namespace, "--type=merge", "-p", '{"spec":{"shutdown":"Stop"}}')
    operator.status(phase="Stopped", conditions=[condition("Finished", "True", "Stopped")])
    process = started(namespace, "retry", "novel")
    stdout, stderr = answered(operator, process, message="Refused: the PdfJob was stopped and stays so")

    assert (process.returncode, stdout) == (1, "")
    assert stderr == 'error: pdfjob "novel": Refused: the PdfJob was stopped and stays so\n'


def test_a_retry_that_nobody_answers_stays_and_says_so(namespace: str) -> None:
    operator = submitted(namespace)
    done = pdfjob("retry", "novel", "-n", namespace)

    assert done.returncode == 5
    assert "the operator has not answered within 10 s; the request stays" in done.stderr
    assert spec(operator)["retryRequest"]["id"].startswith("kubectl-")


def test_suspend_and_resume_change_the_job_and_tell_the_progress(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(4)
    suspended = pdfjob("suspend", "novel", "-n", namespace)
    assert (suspended.returncode, suspended.stdout) == (0, "pdfjob.pdfjob.dev/novel suspended\n")
    assert f"kubectl pdfjob resume novel -n {namespace}" in suspended.stderr
    assert spec(operator)["suspend"] is True
    assert pdfjob("suspend", "novel", "-n", namespace).stdout == "pdfjob.pdfjob.dev/novel is suspended already\n"

    resumed = pdfjob("resume", "novel", "-n", namespace)
    assert resumed.stdout.splitlines() == [
        "pdfjob.pdfjob.dev/novel resumed",
        "  so far:      4/10 chunks done (40.0%), 1 at work, 5 waiting, 0 failed; 200 of 500 pages done",
    ]
    assert spec(operator)["suspend"] is False
    assert pdfjob("resume", "novel", "-n", namespace).stdout.startswith("pdfjob.pdfjob.dev/novel is not suspended\n")


def test_suspend_waits_until_nothing_runs(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(4)
    process = started(namespace, "suspend", "novel", "--wait", "--timeout", "60s")
    wait_until(lambda: spec(operator)["suspend"], "suspended", 30)
    operator.status(phase="Suspended", conditions=[condition("Suspended", "False", "Draining", "1 runner saves")])
    operator.status(conditions=[condition("Suspended", "True", "Suspended", "Batch paused, checkpoint retained")])
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 0
    assert "Batch paused, checkpoint retained" in stderr


def test_waiting_for_a_pause_ends_with_its_time(namespace: str) -> None:
    submitted(namespace).running(4)
    done = pdfjob("suspend", "novel", "-n", namespace, "--wait", "--timeout", "2s")

    assert done.returncode == 5
    assert 'pdfjob "novel" is not suspended yet after 2s; it goes on' in done.stderr


def test_stop_names_the_user_as_the_api_server_knows_them(namespace: str, tmp_path: Path) -> None:
    operator = submitted(namespace)
    operator.running(4)
    rights = {"apiGroups": ["pdfjob.dev"], "resources": ["pdfjobs"], "verbs": ["get", "patch"]}
    config = user_kubeconfig(namespace, tmp_path / "kubeconfig", rights)
    user = f"system:serviceaccount:{namespace}:user"
    done = pdfjob("stop", "novel", "-n", namespace, "--kubeconfig", str(config))

    assert (done.returncode, done.stdout) == (0, f"pdfjob.pdfjob.dev/novel stopped by {user}\n"), done.stderr
    assert "kubectl pdfjob results novel --partial" in done.stderr
    found = kubectl_json("get", "pdfjob", operator.name, "-n", namespace)
    assert found["spec"]["shutdown"] == "Stop"
    assert found["metadata"]["annotations"][REQUESTED_BY] == user


def test_stop_becomes_cancel_and_nothing_becomes_stop_again(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(4)
    assert pdfjob("stop", "novel", "-n", namespace).returncode == 0
    assert "is being stopped already" in pdfjob("stop", "novel", "-n", namespace).stdout
    assert pdfjob("cancel", "novel", "-n", namespace).returncode == 0
    assert spec(operator)["shutdown"] == "Cancel"
    refused = pdfjob("stop", "novel", "-n", namespace)

    assert refused.returncode == 3
    assert 'cannot stop pdfjob "novel"' in refused.stderr
    assert "spec.shutdown is for good: only Stop may still become Cancel" in refused.stderr


def test_a_stopped_job_is_not_resumed_in_the_words_of_the_api_server(namespace: str) -> None:
    operator = submitted(namespace)
    pdfjob("stop", "novel", "-n", namespace)
    ended = [condition("Finished", "True", "Stopped"), condition("Succeeded", "False", "Stopped")]
    operator.status(phase="Stopped", conditions=ended)
    done = pdfjob("resume", "novel", "-n", namespace)

    assert (done.returncode, done.stdout) == (3, "")
    assert 'cannot resume pdfjob "novel"' in done.stderr
    assert "spec.shutdown is for good" in done.stderr
    assert "create it again to process the document after all" in done.stderr


def test_cancel_waits_for_the_end(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(4)
    process = started(namespace, "cancel", "novel", "--wait")
    wait_until(lambda: spec(operator).get("shutdown") == "Cancel", "cancelled", 30)
    operator.status(phase="Cancelled", conditions=[condition("Finished", "True", "Cancelled", "cancelled by admin")])
    stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == 0
    assert stdout.startswith("pdfjob.pdfjob.dev/novel cancelled by ")
    assert "cancelled by admin" in stderr


def test_a_job_that_has_ended_is_neither_paused_nor_ended_again(namespace: str) -> None:
    operator = submitted(namespace)
    operator.refused("EmptyPdf", "the document has no pages")
    for verb in ("suspend", "resume", "stop", "cancel"):
        done = pdfjob(verb, "novel", "-n", namespace)

        assert (done.returncode, done.stdout) == (1, "")
        assert f'error: pdfjob "novel" has ended (Failed); there is nothing to {verb}' in done.stderr
    assert "shutdown" not in spec(operator)
    assert spec(operator)["suspend"] is False


def test_every_verb_names_a_job_that_does_not_exist(namespace: str) -> None:
    for verb in ("retry", "suspend", "resume", "stop", "cancel", "watch", "progress"):
        done = pdfjob(verb, "nothing", "-n", namespace)

        assert done.returncode == NOT_FOUND, verb
        assert done.stderr == f'error: pdfjobs.pdfjob.dev "nothing" not found in namespace "{namespace}"\n'


def test_a_user_without_the_right_to_change_it_reads_that(namespace: str, tmp_path: Path) -> None:
    submitted(namespace)
    rights = {"apiGroups": ["pdfjob.dev"], "resources": ["pdfjobs"], "verbs": ["get"]}
    config = user_kubeconfig(namespace, tmp_path / "kubeconfig", rights)
    for verb in ("retry", "suspend", "stop", "cancel"):
        done = pdfjob(verb, "novel", "-n", namespace, "--kubeconfig", str(config))

        assert done.returncode == 3
        assert f'cannot {verb} pdfjob "novel": pdfjobs.pdfjob.dev "novel" is forbidden' in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_status_as_json_has_the_job_its_chunks_and_workers(namespace: str) -> None:
    operator = submitted(namespace)
    operator.running(2)
    operator.chunk(0, "Succeeded", attempts=1)
    found = json.loads(pdfjob("status", "novel", "-n", namespace, "-o", "json").stdout)
    listed = json.loads(pdfjob("status", "-n", namespace, "-o", "json").stdout)

    assert found["job"]["status"]["chunks"]["succeeded"] == 2
    assert [chunk["status"]["phase"] for chunk in found["chunks"]] == ["Succeeded"]
    assert found["workers"] == []
    assert [job["metadata"]["name"] for job in listed] == ["novel"]
