"""``kubectl pdfjob results`` against a real API server and a real S3 server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .installation import (
    KEYS,
    PLUGIN,
    S3Server,
    embedded_server,
    pdfjob,
    plugin_environment,
    tunnel,
    user_kubeconfig,
)
from .operator_role import OperatorRole
from .test_views import submitted

RESULTS = {
    "jsonl": b'{"n":0,"page":1,"endPage":1,"text":"Un."}\n',
    "txt": b"Un.\n",
    "csv": b"n,page,end_page,text\r\n0,1,1,Un.\r\n",
}


@pytest.fixture
def finished(namespace: str, server: S3Server) -> OperatorRole:
    operator = submitted(namespace, chunks=1)
    operator.succeeded(server, RESULTS, sentences=1)
    return operator


def fetch(namespace: str, installed: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(PLUGIN), "results", "novel", "-n", namespace, "--install-namespace", installed, *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=60, env=plugin_environment(KEYS))


def test_the_bytes_of_each_format_come_out_as_they_are(finished: OperatorRole, namespace: str, installed: str) -> None:
    for form, data in RESULTS.items():
        done = fetch(namespace, installed, "--format", form)

        assert done.returncode == 0, done.stderr
        assert done.stdout == data


def test_a_file_is_named_by_its_suffix_and_appears_whole(
    finished: OperatorRole, namespace: str, installed: str, tmp_path: Path
) -> None:
    target = tmp_path / "novel.csv"
    target.write_text("an older one")
    done = fetch(namespace, installed, "-o", str(target))

    assert done.returncode == 0, done.stderr
    assert (done.stdout, target.read_bytes()) == (b"", RESULTS["csv"])
    assert b"SHA-256 verified" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["novel.csv"]


def test_bytes_that_are_not_those_of_the_job_leave_no_file(
    finished: OperatorRole, namespace: str, installed: str, server: S3Server, tmp_path: Path
) -> None:
    server.put(f"pdfjob/jobs/{namespace}/novel/result.txt", b"Eins.\n")
    target = tmp_path / "novel.txt"
    done = fetch(namespace, installed, "-o", str(target))

    assert done.returncode == 4
    assert b"is not what the job stored" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_is_gone_is_named(
    finished: OperatorRole, namespace: str, installed: str, server: S3Server
) -> None:
    server.s3.delete_object(Bucket="documents", Key=f"pdfjob/jobs/{namespace}/novel/result.txt")
    done = fetch(namespace, installed, "--format", "txt")

    assert done.returncode == 4
    assert f"s3://documents/pdfjob/jobs/{namespace}/novel/result.txt does not exist" in done.stderr.decode()


def test_an_unfinished_job_says_where_it_stands(namespace: str, installed: str) -> None:
    submitted(namespace).running(5)
    done = fetch(namespace, installed)

    assert (done.returncode, done.stdout) == (1, b"")
    assert b'error: pdfjob "novel" has no result yet (Running, 5/10 chunks)' in done.stderr
    assert f"kubectl pdfjob results novel --wait -n {namespace}" in done.stderr.decode()


def test_a_failed_job_says_why_it_has_no_result(namespace: str, installed: str) -> None:
    submitted(namespace).refused("EmptyPdf", "the document has no pages")
    done = fetch(namespace, installed)

    assert done.returncode == 1
    assert b"INVALID_SOURCE/EmptyPdf: the document has no pages" in done.stderr


def test_wait_fetches_as_soon_as_the_job_has_ended(namespace: str, installed: str, server: S3Server) -> None:
    operator = submitted(namespace, chunks=1)
    operator.running(0)
    command = [str(PLUGIN), "results", "novel", "-n", namespace, "--install-namespace", installed, "--wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=plugin_environment(KEYS)) as process:
        operator.succeeded(server, {"jsonl": RESULTS["jsonl"]}, sentences=1)
        stdout, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert json.loads(stdout)["text"] == "Un."


def test_a_reader_that_goes_away_is_no_traceback(namespace: str, installed: str, server: S3Server) -> None:
    operator = submitted(namespace, chunks=1)
    operator.succeeded(server, {"jsonl": RESULTS["jsonl"] * 200_000}, sentences=200_000)
    shell = f"{PLUGIN} results novel -n {namespace} --install-namespace {installed} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, check=False, timeout=60, env=plugin_environment(KEYS)
    )

    assert done.stdout == RESULTS["jsonl"]
    assert done.stderr == b""


def test_a_missing_format_is_refused(namespace: str, installed: str, server: S3Server) -> None:
    submitted(namespace, chunks=1).succeeded(server, {"txt": b"Un.\n"}, sentences=1)
    done = pdfjob("results", "novel", "-n", namespace, "--install-namespace", installed, "--format", "csv")

    assert done.returncode == 2
    assert 'pdfjob "novel" has no result in format csv; it has txt' in done.stderr


def test_the_documented_rights_suffice_for_the_embedded_server(namespace: str, tmp_path: Path) -> None:
    embedded_server(namespace)
    with tunnel(namespace) as server:
        submitted(namespace, chunks=1).succeeded(server, RESULTS, sentences=1)
    documented = [
        {"apiGroups": ["pdfjob.dev"], "resources": ["pdfjobs"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["pdfjob-info"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["embedded-keys"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["create"]},
    ]
    config = user_kubeconfig(namespace, tmp_path / "kubeconfig", *documented)
    done = fetch(namespace, namespace, "--kubeconfig", str(config), "--format", "txt")

    assert done.returncode == 0, done.stderr
    assert done.stdout == RESULTS["txt"]
