"""How a start ends when it does not end well."""

from __future__ import annotations

from pdfjob_api.errors import EXIT_CODE_ERRORS, ChunkCode, ExitCode


class RunnerError(Exception):
    """The start ends with an exit code of the contract. The message is for users and holds no URL.

    ``retry_after`` is when a language service may be asked again, in seconds, with `ExitCode.RATE_LIMIT`.
    """

    def __init__(self, exit_code: ExitCode, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.retry_after = retry_after

    @property
    def code(self) -> ChunkCode | None:
        """Error code that belongs to the exit code; none when the chunk did not fail."""
        return EXIT_CODE_ERRORS.get(self.exit_code)
