"""``kubectl pdfjob submit`` against a real API server and a real S3 server."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

from tests.support.cluster import REPOSITORY, kubectl, kubectl_json

from .installation import ACCESS_KEY, BUCKET, KEYS, PLUGIN, S3Server, embedded_server, pdfjob, plugin_environment
from .operator_role import OperatorRole

T = TypeVar("T")
JSONL = b'{"n":0,"page":1,"endPage":1,"text":"Il \xc3\xa9tait une fois."}\n{"missing":[2,3],"code":"TIMEOUT"}\n'


def test_a_file_is_stored_in_the_inbox_before_the_job_exists(
    namespace: str, installed: str, server: S3Server, pdf: Path
) -> None:
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", installed, "--pages-per-chunk", "20")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "pdfjob.pdfjob.dev/mon-roman-ete created\n"
    assert "Uploaded Mon Roman (été).pdf (5.0 kB)" in done.stderr
    assert f"kubectl pdfjob status mon-roman-ete --watch -n {namespace}" in done.stderr
    job = kubectl_json("get", "pdfjob", "mon-roman-ete", "-n", namespace)
    key = f"pdfjob/inbox/{namespace}/{hashlib.sha256(pdf.read_bytes()).hexdigest()[:12]}/Mon Roman (été).pdf"
    assert job["spec"]["source"]["s3"] == {"key": key}
    assert job["spec"]["chunking"]["pagesPerChunk"] == 20
    assert job["metadata"]["annotations"]["pdfjob.dev/file-name"] == "Mon Roman (été).pdf"
    assert server.get(key) == pdf.read_bytes()


def test_the_same_file_again_is_a_second_job_and_no_second_upload(
    namespace: str, installed: str, server: S3Server, pdf: Path
) -> None:
    arguments = ("submit", str(pdf), "-n", namespace, "--install-namespace", installed, "-o", "name")
    first, second = pdfjob(*arguments), pdfjob(*arguments)

    assert (first.stdout, second.stdout) == ("pdfjob.pdfjob.dev/mon-roman-ete\n", "pdfjob.pdfjob.dev/mon-roman-ete-2\n")
    assert "stored already" in second.stderr
    assert len(server.keys(f"pdfjob/inbox/{namespace}/")) == 1


def test_a_large_file_is_uploaded_in_parts(namespace: str, installed: str, server: S3Server, tmp_path: Path) -> None:
    large = tmp_path / "large.pdf"
    large.write_bytes(b"%PDF-1.7\n" + os.urandom(40_000_000))
    done = pdfjob("submit", str(large), "-n", namespace, "--install-namespace", installed)

    assert done.returncode == 0, done.stderr
    key = kubectl_json("get", "pdfjob", "large", "-n", namespace)["spec"]["source"]["s3"]["key"]
    head = server.s3.head_object(Bucket=BUCKET, Key=key)
    assert head["ETag"].strip('"').endswith("-3")
    assert hashlib.sha256(server.get(key)).hexdigest() == hashlib.sha256(large.read_bytes()).hexdigest()


def test_a_refused_setting_is_one_line_and_nothing_is_stored(
    namespace: str, installed: str, server: S3Server, pdf: Path
) -> None:
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", installed, "--priority", "11")

    assert (done.returncode, done.stdout) == (3, "")
    assert "priority must be between 0 and 10" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert server.keys(f"pdfjob/inbox/{namespace}/") == []


def test_a_file_of_settings_makes_a_job_with_a_language_model(
    namespace: str, installed: str, server: S3Server, pdf: Path
) -> None:
    example = REPOSITORY / "examples" / "pdfjob-gemini.yaml"
    options = ("--spec", str(example), "--language", "en", "--name", "with-a-model")
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", installed, *options)

    assert done.returncode == 0, done.stderr
    spec = kubectl_json("get", "pdfjob", "with-a-model", "-n", namespace)["spec"]
    assert spec["source"]["s3"]["key"] in server.keys(f"pdfjob/inbox/{namespace}/")
    assert spec["processor"]["gemini"]["apiKeySecretRef"] == {"name": "gemini", "key": "api-key"}
    assert spec["processor"]["gemini"]["language"] == "en"
    assert "local" not in spec["processor"]


def test_a_slip_of_the_pen_in_a_file_of_settings_is_refused_before_the_upload(
    namespace: str, installed: str, server: S3Server, pdf: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("chunking: {pagePerChunk: 10}\n")
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", installed, "--spec", str(settings))

    assert done.returncode == 3
    assert "pagePerChunk" in done.stderr
    assert server.keys(f"pdfjob/inbox/{namespace}/") == []


def test_a_name_that_is_taken_is_refused_before_the_upload(
    namespace: str, installed: str, server: S3Server, pdf: Path
) -> None:
    arguments = ("-n", namespace, "--install-namespace", installed, "--name", "batch-001")
    pdfjob("submit", "https://example.org/a.pdf", *arguments)
    done = pdfjob("submit", str(pdf), *arguments)

    assert done.returncode == 3
    assert f'"batch-001" already exists in namespace "{namespace}"' in done.stderr
    assert server.keys(f"pdfjob/inbox/{namespace}/") == []


def test_a_url_needs_neither_storage_nor_installation(namespace: str) -> None:
    done = pdfjob("submit", "https://example.org/docs/manual.pdf?x=1", "-n", namespace, "--language", "en")

    assert done.returncode == 0, done.stderr
    spec = kubectl_json("get", "pdfjob", "manual", "-n", namespace)["spec"]
    assert spec["source"]["http"]["url"] == "https://example.org/docs/manual.pdf?x=1"
    assert spec["processor"]["local"]["language"] == "en"


def test_dry_run_prints_a_manifest_that_the_server_accepts(namespace: str, installed: str, pdf: Path) -> None:
    options = ("--format", "txt", "--format", "csv", "--repair", "--parallelism", "8", "--threshold", "0")
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", installed, "--dry-run", *options)

    assert done.returncode == 0, done.stderr
    manifest = yaml.safe_load(done.stdout)
    assert manifest["spec"]["output"] == {"formats": ["txt", "csv"]}
    assert manifest["spec"]["source"]["repair"] == "Repair"
    kubectl("create", "--dry-run=server", "-f", "-", stdin=done.stdout)
    assert kubectl("get", "pdfjobs", "-n", namespace).stdout == ""


def test_without_credentials_it_says_which_are_missing(namespace: str, installed: str, pdf: Path) -> None:
    empty = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", installed, extra=empty)

    assert done.returncode == 4
    assert f'error: no S3 credentials for bucket "{BUCKET}"' in done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr


def test_wrong_credentials_are_a_storage_error(namespace: str, installed: str, pdf: Path) -> None:
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", installed, extra=wrong)

    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_an_installation_it_says_how_to_name_one(namespace: str, pdf: Path) -> None:
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", namespace)

    assert done.returncode == 4
    assert "pdfjob-info" in done.stderr
    assert "--s3-bucket" in done.stderr


def test_the_command_line_can_name_the_storage_alone(namespace: str, server: S3Server, pdf: Path) -> None:
    storage = ("--s3-endpoint", server.endpoint, "--s3-bucket", BUCKET, "--s3-prefix", "elsewhere")
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", namespace, *storage)

    assert done.returncode == 0, done.stderr
    assert len(server.keys(f"elsewhere/inbox/{namespace}/")) == 1


def test_wait_shows_progress_and_the_sentences(namespace: str, installed: str, server: S3Server, pdf: Path) -> None:
    arguments = ("submit", str(pdf), "-n", namespace, "--install-namespace", installed, "--wait", "--timeout", "60s")
    with _started(*arguments) as waiting:
        operator = OperatorRole(namespace, _created(namespace))
        operator.running(5)
        _told(waiting, "Processing chunk 5/10 (50%)")
        operator.succeeded(server, {"jsonl": JSONL}, sentences=1)
        stdout, stderr = waiting.communicate(timeout=60)

    assert waiting.returncode == 0, stderr
    assert stdout == "Il était une fois.\n[pages 2-3 missing: TIMEOUT]\n"


def test_wait_on_a_failure_prints_reason_and_message(namespace: str) -> None:
    with _started("submit", "https://example.org/x.pdf", "-n", namespace, "--wait") as waiting:
        OperatorRole(namespace, _created(namespace)).refused("Encrypted", "a password is needed; remove it first")
        stdout, stderr = waiting.communicate(timeout=30)

    assert (waiting.returncode, stdout) == (1, "")
    assert 'error: pdfjob "x" failed: INVALID_SOURCE/Encrypted: a password is needed; remove it first' in stderr


def test_wait_ends_with_its_time_and_says_that_the_job_goes_on(namespace: str) -> None:
    started = time.monotonic()
    done = pdfjob("submit", "https://example.org/x.pdf", "-n", namespace, "--wait", "--timeout", "2s")

    assert done.returncode == 5
    assert 'pdfjob "x" is still Pending after 2s; it goes on' in done.stderr
    assert time.monotonic() - started < 60


def test_ctrl_c_while_waiting_says_that_the_job_goes_on(namespace: str) -> None:
    with _started("submit", "https://example.org/x.pdf", "-n", namespace, "--wait") as waiting:
        OperatorRole(namespace, _created(namespace)).running(1)
        _told(waiting, "Processing chunk 1/10 (10%)")
        waiting.send_signal(signal.SIGINT)
        _, stderr = waiting.communicate(timeout=60)

    assert waiting.returncode == 130
    assert 'stopped waiting; pdfjob "x" goes on' in stderr
    assert kubectl_json("get", "pdfjob", "x", "-n", namespace)["metadata"]["name"] == "x"


def test_ctrl_c_while_uploading_leaves_neither_parts_nor_a_job(
    namespace: str, installed: str, server: S3Server, tmp_path: Path
) -> None:
    large = tmp_path / "large.pdf"
    with large.open("wb") as stream:
        stream.write(b"%PDF-1.7\n")
        stream.truncate(1_500_000_000)
    with _started("submit", str(large), "-n", namespace, "--install-namespace", installed) as uploading:
        _until(lambda: _open_uploads(server) or uploading.poll() is not None)
        assert uploading.poll() is None
        uploading.send_signal(signal.SIGINT)
        _, stderr = uploading.communicate(timeout=120)

    assert uploading.returncode == 130
    assert stderr.splitlines()[-1] == "error: interrupted while uploading; no PdfJob was created"
    assert _open_uploads(server) == []
    assert kubectl("get", "pdfjobs", "-n", namespace).stdout == ""


def test_the_embedded_server_is_reached_through_the_cluster(namespace: str, pdf: Path) -> None:
    embedded_server(namespace)
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    arguments = ("submit", str(pdf), "-n", namespace, "--install-namespace", namespace)
    first, second = pdfjob(*arguments, extra=none), pdfjob(*arguments, extra=none)

    assert first.returncode == 0, first.stderr
    assert "Uploaded" in first.stderr
    assert "stored already" in second.stderr
    assert ACCESS_KEY not in first.stdout + first.stderr
    assert _tunnels(namespace) == []


def test_a_secret_that_is_not_open_to_the_user_is_named(namespace: str, pdf: Path) -> None:
    names = {"s3ServiceName": "s3", "s3ServicePort": "80", "s3SecretName": "keys", "s3SecretNamespace": namespace}
    _publish_embedded(namespace, names)
    done = pdfjob("submit", str(pdf), "-n", namespace, "--install-namespace", namespace)

    assert done.returncode == 4
    assert f"credentials in Secret {namespace}/keys are not open to you" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"PK\x03\x04", "is not a PDF")],
)
def test_a_file_that_is_no_pdf_is_refused_without_a_cluster(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.pdf"
    path.write_bytes(content)
    done = pdfjob("submit", str(path))

    assert done.returncode == 2
    assert message in done.stderr


def _started(*arguments: str) -> subprocess.Popen[str]:
    environment = plugin_environment(KEYS)
    return subprocess.Popen(
        # A test run in the background ignores Ctrl-C, and so would everything it starts.
        ["env", "--default-signal=INT", str(PLUGIN), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _created(namespace: str) -> str:
    """Wait until the plugin has made the job and return its name."""
    [job] = _until(lambda: kubectl_json("get", "pdfjobs", "-n", namespace)["items"])
    return str(job["metadata"]["name"])


def _told(process: subprocess.Popen[str], text: str) -> None:
    """Read what the plugin says until it has said this."""
    assert process.stderr
    seen = ""
    while text not in seen:
        line = process.stderr.readline()
        assert line, f"it ended and did not say {text!r}: {seen}"
        seen += line


def _open_uploads(server: S3Server) -> list[str]:
    """Return the keys of uploads in parts that have neither ended nor been given up."""
    uploads = server.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return [upload["Key"] for upload in uploads]


def _until(look: Callable[[], T]) -> T:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + 120
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not come within 120 s"
        time.sleep(0.1)
    return seen


def _publish_embedded(namespace: str, names: dict[str, str]) -> None:
    from .installation import publish

    publish(namespace, embedded="true", **names)


def _tunnels(namespace: str) -> list[str]:
    """Return the command lines of port-forwards into a namespace that still run."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if "port-forward" in line and namespace in line]
