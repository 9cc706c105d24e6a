"""What /metrics tells."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from pdfjob_api.pdfchunk import StartRecord


class Metrics:
    """The metrics of one operator process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files of the operator itself
        self.starts = Counter(
            "pdfjob_chunk_starts_ended_total",
            "Starts of chunks that ended, by outcome and error code.",
            ["outcome", "code"],
            registry=self.registry,
        )
        self.reconciles = Counter(
            "pdfjob_reconciles_total", "Reconciles by result.", ["result"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "pdfjob_reconcile_seconds", "Duration of a reconcile.", registry=self.registry
        )
        self.queue_depth = Gauge("pdfjob_queue_depth", "PdfJobs that wait for a reconcile.", registry=self.registry)
        self.api_seconds = Histogram(
            "pdfjob_api_request_seconds", "Calls to the API server.", ["verb"], registry=self.registry
        )
        self.s3_seconds = Histogram("pdfjob_s3_request_seconds", "Calls to S3.", ["operation"], registry=self.registry)
        self.schema_missing = Gauge(
            "pdfjob_crd_fields_missing", "Fields that the installed CRDs lack.", registry=self.registry
        )

    def start_ended(self, record: StartRecord) -> None:
        """Count the end of a start."""
        self.starts.labels(outcome=record.outcome.value, code=record.code or "").inc()
