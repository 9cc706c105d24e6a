"""The Gemini stub as a pod: it starts anew with new code, and is hardened as the demo's namespace demands."""

import json
from pathlib import Path
from typing import Any

import pytest

from devcluster import gemini
from devcluster.errors import DevclusterError

REPOSITORY = Path(__file__).parents[3]


def rendered(code: dict[str, str]) -> dict[str, Any]:
    return {item["kind"]: item for item in gemini.stub_objects("books", "localhost/pdfjob-runner:1", code)}


def test_the_whole_package_goes_into_the_config_map() -> None:
    code = gemini.stub_code(REPOSITORY)
    there = {file.name for file in (REPOSITORY / "gemini_stub").glob("*.py")}
    assert set(rendered(code)["ConfigMap"]["data"]) == there
    assert "__main__.py" in there
    assert sum(map(len, code.values())) < 900_000  # a ConfigMap holds 1 MiB


def test_the_pod_starts_anew_when_the_code_changes() -> None:
    templates = [rendered({"a.py": text})["Deployment"]["spec"]["template"] for text in ("1", "1", "2")]
    assert templates[0] == templates[1] != templates[2]


def test_the_pod_keeps_to_pod_security_restricted() -> None:
    pod = rendered({})["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_address_names_the_service_and_its_port() -> None:
    (port,) = rendered({})["Service"]["spec"]["ports"]
    assert gemini.stub_url("books") == f"http://gemini-stub.books.svc:{port['port']}"


def test_the_key_reaches_kubectl_but_no_command_line(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/words\ncat >> {tmp_path}/input\n')
    program.chmod(0o755)
    gemini.put_key({"PATH": f"{tmp_path}:/usr/bin:/bin"}, "books", "gemini", "a-secret-key")
    assert "a-secret-key" not in (tmp_path / "words").read_text()
    secret = json.loads((tmp_path / "input").read_text())
    assert secret["stringData"] == {"api-key": "a-secret-key"}
    assert secret["metadata"] == {"name": "gemini", "namespace": "books"}


def test_a_kubectl_that_fails_is_told_of_without_the_key(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho no such namespace >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(DevclusterError, match="no such namespace") as caught:
        gemini.put_key({"PATH": f"{tmp_path}:/usr/bin:/bin"}, "books", "gemini", "a-secret-key")
    assert "a-secret-key" not in str(caught.value)
