"""The CustomResourceDefinitions, generated from the models: ``python -m pdfjob_api.crd OUTDIR``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel
from typing_extensions import override

from .creditaccount import CreditAccount
from .names import (
    CREDIT_ACCOUNT_KIND,
    CREDIT_ACCOUNT_PLURAL,
    GROUP,
    PDFCHUNK_KIND,
    PDFCHUNK_PLURAL,
    PDFJOB_KIND,
    PDFJOB_PLURAL,
    VERSION,
)
from .pdfchunk import PdfChunk
from .pdfjob import PdfJob
from .schema import structural_schema

_HEADER: Final = "# Generated from the models by `make generate`; edit api/src/pdfjob_api, not this file.\n"
CATEGORY: Final = "pdf"
"""``kubectl get pdf`` lists all kinds. Not ``pdfjob``: `kubectl delete pdfjob NAME` may mean two resources then."""
_WIDE: Final = 1
"""Printer columns of this priority show with ``-o wide`` only."""

_ROOT: Final = {
    "apiVersion": {"description": "Version of the API: pdfjob.dev/v1alpha1.", "type": "string"},
    "kind": {"description": "Kind of the object.", "type": "string"},
    "metadata": {"type": "object"},
}
"""What Kubernetes validates itself; about metadata a CRD may say nothing, not even in a description."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``."""

    name: str
    path: str
    type: str
    description: str
    priority: int = 0

    def wire(self) -> dict[str, Any]:
        """Return it as ``additionalPrinterColumns`` holds it."""
        shown = {"name": self.name, "type": self.type, "jsonPath": self.path, "description": self.description}
        return shown | ({"priority": self.priority} if self.priority else {})


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind: its model, its names and how it is shown."""

    model: type[BaseModel]
    kind: str
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    scale: dict[str, str] | None = None
    selectable: tuple[str, ...] = (".status.phase",)
    """Fields that ``kubectl get --field-selector`` knows."""

    @property
    def file_name(self) -> str:
        """Name of the YAML file."""
        return f"{GROUP}_{self.plural}.yaml"


_AGE: Final = Column("Age", ".metadata.creationTimestamp", "date", "Time since creation.")

PDFJOB: Final = Resource(
    model=PdfJob,
    kind=PDFJOB_KIND,
    plural=PDFJOB_PLURAL,
    short_name="pj",
    scale={"specReplicasPath": ".spec.parallelism", "statusReplicasPath": ".status.chunks.running"},
    columns=(
        Column("Phase", ".status.phase", "string", "Summary of where the job stands."),
        Column("Progress", ".status.summary.progress", "string", "Chunks succeeded in percent of all."),
        Column("Chunks", ".status.summary.chunks", "string", "Chunks succeeded of all."),
        Column("Failed", ".status.chunks.failed", "integer", "Chunks that failed for good."),
        Column("Step", ".status.currentStep", "string", "What is being done."),
        _AGE,
        Column("Pages", ".status.source.pages", "integer", "Pages of the document.", _WIDE),
        Column("Retries", ".status.retries", "integer", "Counted retries of all chunks.", _WIDE),
        Column("Tokens", ".status.tokens.output", "integer", "Tokens that the language model returned.", _WIDE),
        Column("Charged", ".status.credits.charged", "integer", "Tokens charged to the credit account.", _WIDE),
        Column("Priority", ".spec.priority", "integer", "0 to 10, higher first.", _WIDE),
    ),
)

PDFCHUNK: Final = Resource(
    model=PdfChunk,
    kind=PDFCHUNK_KIND,
    plural=PDFCHUNK_PLURAL,
    short_name="pch",  # pc is PriorityClass
    columns=(
        Column("Phase", ".status.phase", "string", "State of the chunk."),
        Column("From", ".spec.startPage", "integer", "First page."),
        Column("To", ".spec.endPage", "integer", "Last page."),
        Column("Attempts", ".status.attempts", "integer", "Attempts so far."),
        Column("Error", ".status.lastError.code", "string", "Code of the last error."),
        _AGE,
        Column("Starts", ".status.starts", "integer", "Jobs made for the chunk.", _WIDE),
        Column("Job", ".status.jobName", "string", "The current or last Job.", _WIDE),
        Column("Sentences", ".status.result.sentences", "integer", "Sentences of the result.", _WIDE),
        Column("Tokens", ".status.result.tokens.output", "integer", "Tokens that the model returned.", _WIDE),
        Column("Retry-At", ".status.nextRetryTime", "string", "When the chunk starts again.", _WIDE),
        Column("Message", ".status.lastError.message", "string", "Message of the last error.", _WIDE),
    ),
)

CREDIT_ACCOUNT: Final = Resource(
    model=CreditAccount,
    kind=CREDIT_ACCOUNT_KIND,
    plural=CREDIT_ACCOUNT_PLURAL,
    short_name="ca",
    columns=(
        Column("Balance", ".spec.balance", "integer", "Tokens ever granted."),
        Column("Available", ".status.available", "integer", "Tokens that can be reserved."),
        Column("Reserved", ".status.reserved", "integer", "Tokens reserved and not used yet."),
        Column("Charged", ".status.charged", "integer", "Tokens charged."),
        Column("Open", ".status.openReservations", "integer", "Jobs that hold a reservation."),
        _AGE,
    ),
    selectable=(),
)

RESOURCES: Final = (PDFCHUNK, PDFJOB, CREDIT_ACCOUNT)


def custom_resource_definition(resource: Resource) -> dict[str, Any]:
    """Return the CustomResourceDefinition of one kind."""
    schema = structural_schema(resource.model, leave_out=frozenset(_ROOT))
    schema["properties"] = {**_ROOT, **schema["properties"]}
    subresources: dict[str, Any] = {"status": {}}
    if resource.scale:
        subresources["scale"] = resource.scale
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    **(
                        {"selectableFields": [{"jsonPath": path} for path in resource.selectable]}
                        if resource.selectable
                        else {}
                    ),
                    "additionalPrinterColumns": [column.wire() for column in resource.columns],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def to_yaml(document: dict[str, Any]) -> str:
    """Write a document as the generated files hold it."""
    return yaml.dump(document, sort_keys=False, width=120, allow_unicode=True, Dumper=_NoAliases)


def files() -> dict[str, str]:
    """Return the generated files: name to text."""
    return {r.file_name: _HEADER + to_yaml(custom_resource_definition(r)) for r in RESOURCES}


class _NoAliases(yaml.SafeDumper):
    """Writes shared parts out each time: YAML anchors confuse readers and some tools."""

    @override
    def ignore_aliases(self, data: Any) -> bool:
        return True


def main(arguments: list[str]) -> int:
    """Write the files into the folders named on the command line."""
    if not arguments:
        print("usage: python -m pdfjob_api.crd OUTDIR...", file=sys.stderr)  # noqa: T201
        return 2
    for folder in map(Path, arguments):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files().items():
            (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
