"""Log files of processes and builds."""

from pathlib import Path

_TAIL_LINES = 15
_TAIL_BYTES = 16_384
_LINE_CHARACTERS = 300


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return text for an error message: which log to read, and its last lines."""
    if not log.exists():
        return f"There is no log {log}."
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        last = source.read().decode(errors="replace").splitlines()[-lines:]
    return "\n".join([f"Last lines of {log}:", *(f"  | {_cut(line)}" for line in last)])


def _cut(line: str) -> str:
    return line if len(line) <= _LINE_CHARACTERS else f"{line[:_LINE_CHARACTERS]} ..."
