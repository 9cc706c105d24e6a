"""The Gemini stub as a pod: it starts anew with new code, and is hardened as the demo's namespace demands."""

from pathlib import Path
from typing import Any

from devcluster import gemini

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
