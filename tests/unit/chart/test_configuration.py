"""What the chart tells the operator, the S3 server and the plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pdfjob_operator.settings import Settings
from tests.unit.chart.rendering import Rendered, render
from tests.unit.chart.test_chart import COMBINATIONS, EXTERNAL


def settings(rendered: Rendered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Read the rendered file as the operator does."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(rendered.config), encoding="utf-8")
    monkeypatch.setenv("PDFJOB_CONFIG", str(path))
    return Settings()


@pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS.keys())
def test_operator_reads_every_name_in_its_configuration(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = render(values)
    known = {field.alias for field in Settings.model_fields.values()}
    assert set(rendered.config) <= known
    settings(rendered, tmp_path, monkeypatch)


def test_defaults_of_the_chart_are_those_of_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = settings(render(), tmp_path, monkeypatch)
    monkeypatch.delenv("PDFJOB_CONFIG")
    bare = Settings.model_validate({"s3": {"bucket": "pdfjob"}, "runner": {"image": "pdfjob/runner:0.1.0"}})
    differing = {name for name in Settings.model_fields if getattr(told, name) != getattr(bare, name)}
    assert differing == {"s3"}


def test_values_reach_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "maxConcurrentChunks": 7,
        "logLevel": "debug",
        "cache": {"maxAgeDays": 0},
        "watchNamespaces": ["team-a"],
        "source": {"maxBytes": 5 * 1024**3, "allowedCidrs": ["10.1.0.0/16"], "allowedBuckets": {"*": ["books/x"]}},
        "runner": {
            "image": {"repository": "r.example.com/run", "tag": "9"},
            "resources": {"limits": {"memory": "4Gi"}},
        },
        "operator": {"documents": {"processes": 1}, "workers": 3},
    }
    told = settings(render(values), tmp_path, monkeypatch)
    assert (told.max_concurrent_chunks, told.log_level) == (7, "debug")
    assert told.cache.max_age_days == 0
    assert told.namespaces == ["team-a"]
    assert told.source.max_bytes == 5 * 1024**3
    assert [str(network) for network in told.source.allowed_cidrs] == ["10.1.0.0/16"]
    assert told.source.allowed_buckets == {"*": ["books/x"]}
    assert told.runner.image == "r.example.com/run:9"
    assert told.runner.resources["limits"] == {"memory": "4Gi"}
    assert (told.documents.processes, told.workers) == (1, 3)


def test_work_folder_lies_on_the_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = render()
    [container] = rendered.pods["pdfjob"]["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert str(settings(rendered, tmp_path, monkeypatch).work_dir).startswith("/tmp/")
    [volume] = [volume for volume in rendered.pods["pdfjob"]["volumes"] if volume["name"] == mounts["/tmp"]]
    assert volume["emptyDir"]["sizeLimit"] == "8Gi"


def environment(pod: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") or entry["valueFrom"] for entry in pod["containers"][0]["env"]}


def test_pod_says_who_it_is_so_that_a_restarted_container_takes_its_own_lease_back() -> None:
    told = environment(render().pods["pdfjob"])
    paths = {name: told[name]["fieldRef"]["fieldPath"] for name in ("POD_NAME", "POD_UID", "POD_NAMESPACE")}
    assert paths == {
        "POD_NAME": "metadata.name",
        "POD_UID": "metadata.uid",
        "POD_NAMESPACE": "metadata.namespace",
    }


def test_embedded_server_and_operator_share_one_secret() -> None:
    rendered = render()
    secret = rendered.one("Secret", "pdfjob-s3")
    assert len(secret["stringData"]["accessKey"]) == 20
    assert len(secret["stringData"]["secretKey"]) == 40
    operator, server = environment(rendered.pods["pdfjob"]), environment(rendered.pods["pdfjob-s3"])
    for theirs, ours, key in (
        ("ROOT_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "accessKey"),
        ("ROOT_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "secretKey"),
    ):
        assert server[theirs] == operator[ours] == {"secretKeyRef": {"name": "pdfjob-s3", "key": key}}
    assert rendered.config["s3"]["endpoint"] == "http://pdfjob-s3.here.svc:7070"
    assert rendered.config["s3"]["createBucket"] is True


def test_given_credentials_are_used_and_an_existing_secret_is_not_made_again() -> None:
    given = render({"s3": {"embedded": {"accessKey": "me", "secretKey": "mine"}}})
    assert given.one("Secret", "pdfjob-s3")["stringData"] == {"accessKey": "me", "secretKey": "mine"}
    existing = render({"s3": {"embedded": {"existingSecret": "theirs"}}})
    assert not existing.of("Secret")
    assert environment(existing.pods["pdfjob"])["AWS_ACCESS_KEY_ID"]["secretKeyRef"]["name"] == "theirs"


def test_external_storage_takes_the_secret_by_reference_and_makes_no_bucket() -> None:
    values = {"s3": {**EXTERNAL["s3"], "existingSecretKeys": {"accessKey": "id", "secretKey": "key"}}}
    rendered = render(values)
    assert rendered.config["s3"] == {
        "endpoint": "https://s3.example.com",
        "bucket": "books",
        "prefix": "pdfjob",
        "region": "us-east-1",
        "createBucket": False,
    }
    assert environment(rendered.pods["pdfjob"])["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "s3", "key": "id"}}
    assert not rendered.of("Secret")
    assert not rendered.of("Service")
    assert not rendered.of("PersistentVolumeClaim")


def test_without_a_secret_the_operator_gets_no_credentials() -> None:
    rendered = render(COMBINATIONS["external S3 by role"])
    assert not [name for name in environment(rendered.pods["pdfjob"]) if name.startswith("AWS")]


def test_plugin_is_told_where_things_are() -> None:
    data = render().one("ConfigMap", "pdfjob-info")["data"]
    assert data == {
        "version": "0.1.0",
        "bucket": "pdfjob",
        "prefix": "pdfjob",
        "region": "us-east-1",
        "endpoint": "",
        "embedded": "true",
        "s3ServiceName": "pdfjob-s3",
        "s3ServicePort": "7070",
        "s3ServiceNamespace": "here",
        "s3SecretName": "pdfjob-s3",
        "s3SecretNamespace": "here",
    }
    external = render(EXTERNAL).one("ConfigMap", "pdfjob-info")["data"]
    assert set(external) == set(data)
    assert (external["embedded"], external["endpoint"]) == ("false", "https://s3.example.com")
    assert {external[key] for key in data if key.startswith("s3S")} == {""}


def test_storage_outlives_the_release_unless_told_otherwise() -> None:
    claim = render().one("PersistentVolumeClaim", "pdfjob-s3")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    loose = render({"s3": {"embedded": {"persistence": {"keep": False}}}}).one("PersistentVolumeClaim", "pdfjob-s3")
    assert "annotations" not in loose["metadata"]
