"""Custom processors of a few lines of shell and curl: they honour the runner contract, or break it on purpose."""

from __future__ import annotations

from typing import Any, Final

from tests.support.product import images

PAGES: Final = r"""
field() { printf %s "$PDFJOB_TASK" | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
chunk=$(field chunk) start=$(field start) first=$(field startPage) last=$(field endPage)
"""
"""Reads the task: $chunk, $start, $first and $last."""
SAY: Final = r"""
say() { printf '{"code":"%s","message":"%s"}' "$1" "$2" > /dev/termination-log; }
"""
"""Defines ``say CODE MESSAGE``, the termination message."""
STORE: Final = r"""
store() {
  printf '{"version":1,"startPage":%s,"endPage":%s,"records":[{"page":%s,"endPage":%s,"text":"%s"}]}' \
    "$first" "$last" "$first" "$first" "$1" |
    curl -fsS -X PUT -H 'If-None-Match: *' --data-binary @- "$PDFJOB_RESULT_URL"
}
"""
"""Defines ``store TEXT``, which stores a result of one sentence."""
MANY_RECORDS: Final = r"""
{ printf '{"version":1,"startPage":%s,"endPage":%s,"records":[' "$first" "$last"
  seq 1 150000 | sed "s/.*/{\"page\":$first,\"endPage\":$first,\"text\":\"Sentence & of page $first.\"},/"
  printf '{"page":%s,"endPage":%s,"text":"The last one."}]}' "$first" "$first"
} > /tmp/result
curl -fsS -X PUT -H 'If-None-Match: *' --data-binary @/tmp/result "$PDFJOB_RESULT_URL"
"""
"""Stores a result of 150,001 sentences, which takes the merge a while."""
SLEEP: Final = """
trap 'exit 75' TERM
rest() { sleep "$1" & wait $!; }
"""
"""Defines ``rest SECONDS``, which SIGTERM interrupts."""


def shell_processor(script: str) -> dict[str, Any]:
    """Return a ``spec.processor`` that runs a shell script, with the functions above defined, in an image with curl."""
    whole = "set -eu\n" + PAGES + SAY + STORE + SLEEP + script
    return {"custom": {"image": images()["test-curl"], "command": ["sh", "-c", whole]}}


def python_processor(program: str) -> dict[str, Any]:
    """Return a ``spec.processor`` that runs a Python program in the standard runner's image."""
    return {"custom": {"image": images()["runner"], "command": ["python", "-c", program]}}
