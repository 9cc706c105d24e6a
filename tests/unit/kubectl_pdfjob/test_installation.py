"""What the chart publishes, and what the command line says instead."""

from __future__ import annotations

import pytest

from kubectl_pdfjob.errors import ClusterError
from kubectl_pdfjob.installation import EmbeddedServer, Installation, StorageOptions
from kubectl_pdfjob.storage_uri import split_uri

EMBEDDED = {
    "bucket": "pdfjob",
    "prefix": "pdfjob",
    "region": "us-east-1",
    "endpoint": "",
    "embedded": "true",
    "s3ServiceName": "pdfjob-s3",
    "s3ServicePort": "7070",
    "s3ServiceNamespace": "system",
    "s3SecretName": "pdfjob-s3",
    "s3SecretNamespace": "system",
}
EXTERNAL = {**EMBEDDED, "embedded": "false", "endpoint": "https://s3.example.org", "s3ServiceName": ""}


def test_the_embedded_server_is_read_from_the_config_map() -> None:
    found = Installation.from_config_map("system", EMBEDDED)

    assert found.embedded == EmbeddedServer("pdfjob-s3", "system", 7070, "pdfjob-s3", "system")
    assert (found.bucket, found.prefix, found.endpoint) == ("pdfjob", "pdfjob", None)


def test_an_external_server_has_an_endpoint_and_nothing_in_the_cluster() -> None:
    found = Installation.from_config_map("system", EXTERNAL)

    assert (found.endpoint, found.embedded) == ("https://s3.example.org", None)


@pytest.mark.parametrize("key", ["bucket", "prefix", "s3ServiceName", "s3ServicePort", "s3SecretName"])
def test_a_key_that_is_missing_is_named(key: str) -> None:
    with pytest.raises(ClusterError, match=key):
        Installation.from_config_map("system", {**EMBEDDED, key: ""})


def test_a_port_that_is_no_number_is_named() -> None:
    with pytest.raises(ClusterError, match="http"):
        Installation.from_config_map("system", {**EMBEDDED, "s3ServicePort": "http"})


def test_an_endpoint_of_the_users_own_takes_the_place_of_the_tunnel() -> None:
    found = Installation.from_config_map("system", EMBEDDED).with_options(StorageOptions(endpoint="http://s3.lan"))

    assert (found.endpoint, found.embedded, found.bucket) == ("http://s3.lan", None, "pdfjob")


def test_the_command_line_alone_needs_a_bucket() -> None:
    assert Installation.from_options(StorageOptions(endpoint="http://s3.lan")) is None
    assert Installation.from_options(StorageOptions(bucket="b", prefix="/p/")) == Installation(bucket="b", prefix="p")


@pytest.mark.parametrize("uri", ["s3://b", "s3://b/", "http://b/k", "b/k"])
def test_what_is_no_s3_address_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/key"):
        split_uri(uri)


def test_an_s3_address_is_split_at_the_first_slash() -> None:
    assert split_uri("s3://b/k/l.pdf") == ("b", "k/l.pdf")
