"""Recording rules and alerts of the chart: off by default, over metrics that the operator has."""

from __future__ import annotations

import re
from typing import Any

from pdfjob_operator.metrics import Metrics
from tests.unit.chart.rendering import render

ON: dict[str, Any] = {"monitoring": {"rules": {"enabled": True}, "serviceMonitor": {"enabled": True}}}
BESIDES = {"pdfjob_is_leader"}
"""Metrics that only a whole operator process has."""


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return the recording rules (``record``) or the alerts (``alert``) by name."""
    groups = render(ON).one("PrometheusRule", "pdfjob")["spec"]["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def names(expression: str) -> set[str]:
    """Return the metrics that an expression reads."""
    return set(re.findall(r"\b(?:[a-z_]+:)?pdfjob_[a-z0-9_]+(?::[a-z0-9_]+)?", expression))


def test_nothing_of_the_prometheus_operator_is_made_unless_asked_for() -> None:
    assert not {"PrometheusRule", "ServiceMonitor"} & {document["kind"] for document in render().documents}


def test_every_rule_reads_metrics_that_exist() -> None:
    told = {
        name
        for family in Metrics().registry.collect()
        for base in [family.name]
        for name in (base, f"{base}_total", f"{base}_bucket", f"{base}_sum", f"{base}_count")
    }
    records, alerts = rules("record"), rules("alert")
    for rule in [*records.values(), *alerts.values()]:
        assert names(rule["expr"]), rule
        assert names(rule["expr"]) <= told | BESIDES | set(records), rule


def test_what_is_to_be_known_over_a_day_is_recorded_and_each_target_has_an_alert() -> None:
    assert {
        "namespace:pdfjob_chunk_success:ratio24h",
        "namespace:pdfjob_chunk_failed:ratio24h",
        "namespace_code:pdfjob_chunk_errors:increase24h",
        "namespace:pdfjob_chunk_attempts:avg24h",
        "namespace:pdfjob_chunk_duration_seconds:avg24h",
    } <= set(rules("record"))
    ends = {name: rule["expr"].rpartition("}")[2].strip() for name, rule in rules("alert").items()}
    targets = {
        "PdfjobChunkSuccessLow": "< 0.95",
        "PdfjobChunksFail": "> 0.05",
        "PdfjobRetriesHigh": "- 1 > 1.5",
        "PdfjobChunksSlow": "> 30",
    }
    assert {name: ends[name] for name in targets} == targets


def test_chunks_given_up_as_stuck_raise_an_alert_although_each_is_being_ended_for_moments_only() -> None:
    alert = rules("alert")["PdfjobChunksStuck"]
    assert names(alert["expr"]) == {"pdfjob_chunk_starts_stuck_total", "pdfjob_chunks_stuck"}
    assert " or " in alert["expr"].replace("\n", " ")
    assert "for" not in alert, "a start is over long before"


def test_rules_read_the_series_of_their_own_installation_only() -> None:
    for rule in [*rules("record").values(), *rules("alert").values()]:
        selectors = re.findall(r"\{([^}]*)\}", rule["expr"])
        assert selectors
        assert all('namespace="here"' in selector for selector in selectors)


def test_the_monitor_finds_the_service_and_carries_the_labels_asked_for() -> None:
    rendered = render({"monitoring": {"serviceMonitor": {"enabled": True, "labels": {"release": "x"}}}})
    monitor, service = rendered.one("ServiceMonitor", "pdfjob"), rendered.one("Service", "pdfjob-metrics")
    assert monitor["metadata"]["labels"]["release"] == "x"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
