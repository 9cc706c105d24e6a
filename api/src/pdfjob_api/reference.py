"""The API reference, generated from the models and tables: ``python -m pdfjob_api.reference FILE``."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from .conditions import ChunkPhase, JobCondition, JobPhase, Reason
from .crd import CATEGORY, CREDIT_ACCOUNT, PDFCHUNK, PDFJOB, Resource, custom_resource_definition
from .errors import CHUNK_CODES, EXIT_CODE_ERRORS, JOB_CODES, CodeRule, ExitCode
from .names import API_VERSION
from .schema import INT_OR_STRING, PRESERVE, properties

_HEAD: Final = f"""# API reference

Generated from the models by `make generate`; edit `api/src/pdfjob_api`, not this page. The same text is in
`kubectl explain pdfjob.spec`. Group and version: `{API_VERSION}`.
"""

_RULES_HEAD: Final = (
    "Beside what is allowed for each field, the API server refuses what breaks one of these, with this message."
)
_EXIT_MEANING: Final[Mapping[ExitCode, str]] = {
    ExitCode.DONE: "The result is stored. Never used for work that was interrupted.",
    ExitCode.INTERRUPTED: "Interrupted by SIGTERM, work saved; not counted.",
    ExitCode.URL_EXPIRED: "A presigned URL ran out; not counted, the next start gets fresh ones.",
    ExitCode.INVALID_TASK: "The task cannot be read; final.",
    ExitCode.SOFT_TIMEOUT: "The runner's own timer ended it, work saved; not counted when new items were saved.",
}


def reference() -> str:
    """Return the page, in Markdown."""
    parts = [_HEAD, *_resource(PDFJOB), *_resource(PDFCHUNK), *_resource(CREDIT_ACCOUNT), *_codes(), *_conditions()]
    return "\n".join(parts)


def _resource(resource: Resource) -> Iterator[str]:
    version = custom_resource_definition(resource)["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    yield f"## {resource.kind}\n\n{schema['description']} Short name `{resource.short_name}`, category `{CATEGORY}`."
    if resource.scale:
        target = resource.scale["specReplicasPath"]
        yield f"\n`kubectl scale {resource.kind.lower()} NAME --replicas=N` sets `{target}`."
    for part in ("spec", "status"):
        section = schema["properties"][part]
        yield f"\n### {resource.kind} {part}\n\n{section['description']}\n"
        yield from _table(("Field", "Type", "Default", "Allowed", "Description"), _rows(section))
    rules = [*_rules(schema, "metadata.name"), *_rules_below(schema)]
    if rules:
        yield f"\n### {resource.kind} rules\n"
        yield f"{_RULES_HEAD}\n"
        yield from _table(("Where", "Message"), ((f"`{where}`", message) for where, message in rules))
    yield f"\n### {resource.kind} columns\n"
    columns = (
        (column.name.upper(), f"`{column.path}`", column.description, "with `-o wide`" if column.priority else "always")
        for column in resource.columns
    )
    yield from _table(("Column", "Field", "Meaning", "Shown"), columns)
    yield ""


def _rows(section: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for path, schema, required in properties(section):
        default = "required" if required else f"`{_compact(schema['default'])}`" if "default" in schema else ""
        yield f"`{path}`", _type(schema), default, _allowed(schema), schema["description"]


def _type(schema: Mapping[str, Any]) -> str:
    if schema.get(INT_OR_STRING):
        return "integer or string"
    if schema.get(PRESERVE):
        return "object, any fields"
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map to {_type(schema['additionalProperties'])}"
    return "time" if schema.get("format") == "date-time" else str(schema["type"])


def _allowed(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        inner, least = _allowed(schema["items"]), schema.get("minItems", 0)
        count = f"{least} to {schema['maxItems']} entries" if least else f"at most {schema['maxItems']} entries"
        return f"{count}: {inner}" if inner else count
    if "pattern" in schema:
        return f"`{schema['pattern']}`"
    if "minimum" in schema or "maximum" in schema:
        return (
            f"{schema.get('minimum', '')} to {schema['maximum']}" if "maximum" in schema else f"{schema['minimum']} up"
        )
    if "maxLength" in schema and "format" not in schema:
        least = schema.get("minLength", 0)
        return f"{least} to {schema['maxLength']} characters" if least else f"at most {schema['maxLength']} characters"
    return f"at most {schema['maxProperties']} entries" if "maxProperties" in schema else ""


def _rules(schema: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield where, rule["message"]


def _rules_below(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, child, _ in properties(schema):
        yield from _rules(child, path)
        if child.get("type") == "array":
            yield from _rules(child["items"], f"{path}[]")


def _codes() -> Iterator[str]:
    yield "## Error codes of a chunk\n\nIn `status.lastError.code` of a PdfChunk, and in its history.\n"
    yield from _table(("Code", "Message", "Tried again", "Counts as an attempt", "What to do"), _code_rows(CHUNK_CODES))
    yield "\n## Error codes of a job\n\nIn `status.lastError.code` of a PdfJob, and the reason of `Succeeded=False`.\n"
    rows = ((code, message, advice) for code, message, _, _, advice in _code_rows(JOB_CODES))
    yield from _table(("Code", "Message", "What to do"), rows)
    yield "\n## Exit codes of a runner\n"
    exits = (
        (str(int(code)), f"`{EXIT_CODE_ERRORS[code]}`" if code in EXIT_CODE_ERRORS else "", _EXIT_MEANING.get(code, ""))
        for code in ExitCode
    )
    yield from _table(("Exit code", "Error code", "Meaning"), exits)
    yield ""


def _code_rows(table: Mapping[Any, CodeRule]) -> Iterator[tuple[str, ...]]:
    for code, rule in table.items():
        yield f"`{code}`", rule.message, _yes(rule.retryable), _yes(rule.counted), rule.advice


def _conditions() -> Iterator[str]:
    yield "## Phases\n\nA summary for people and columns; scripts use the conditions.\n"
    yield f"PdfJob: {', '.join(f'`{phase}`' for phase in JobPhase)}.\n"
    yield f"PdfChunk: {', '.join(f'`{phase}`' for phase in ChunkPhase)}.\n"
    yield "## Conditions of a PdfJob\n"
    yield from _table(("Type", "Meaning"), _documented(JobCondition))
    yield "\n## Reasons of conditions and Events\n\nConstants: scripts and alerts may match on them.\n"
    yield from _table(("Reason", "Meaning"), _documented(Reason))
    yield ""


def _documented(enum: type[Enum]) -> Iterator[tuple[str, str]]:
    """Yield each member with the string literal below it, which Python does not keep: it is read from the source."""
    body = ast.parse(inspect.getsource(enum)).body[0]
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{enum} is not a class statement")
    for assignment, text in zip(body.body, body.body[1:], strict=False):
        match assignment, text:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                yield f"`{enum[name].value}`", " ".join(said.replace("``", "`").split())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def main(arguments: list[str]) -> int:
    """Write the page into the file named on the command line."""
    if len(arguments) != 1:
        print("usage: python -m pdfjob_api.reference FILE", file=sys.stderr)  # noqa: T201
        return 2
    Path(arguments[0]).write_text(reference(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
