"""The Gemini processor: windows of pages go to the model, sentences come back."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from google.genai import types
from typing_extensions import override

from chunk_runner.logs import Log
from chunk_runner.processors import Finished, Surroundings, Window
from pdfjob_api.contract import MissingPage, Record, Task
from pdfjob_api.errors import ItemCode
from pdfjob_api.gemini import GeminiMode, GeminiProcessor

from . import windows
from .answer import Answer, UnusableAnswerError, check_fullness, read_answer, records
from .calls import Caller, Reply
from .client import connect
from .errors import TooLargeError
from .key import read_key, secret_name
from .prompt import system_instruction
from .sources import PdfSource, Source, TextSource

_ASKS: Final = 2
"""How often a window is asked for before it is halved."""


def open_gemini(task: Task, pdf: Path, surroundings: Surroundings) -> WindowProcessor:
    """Make the processor: read the key, connect, open the chunk PDF.

    Raises
    ------
    RunnerError
        `ExitCode.AUTH_ERROR`, `ExitCode.INVALID_TASK`, `ExitCode.INVALID_PDF`.
    """
    settings = task.processor.gemini
    assert settings is not None
    secret = secret_name(task, settings)
    key = read_key(surroundings.api_key_file, settings, secret)
    for text in key.secrets():
        surroundings.log.hide(text)
    _hear_libraries(surroundings.log)
    caller = Caller(
        connect(task, settings, key, secret),
        model=settings.model,
        config=request_config(settings),
        secret=secret,
        surroundings=surroundings,
    )
    source = TextSource(task, pdf) if settings.mode is GeminiMode.TEXT else PdfSource(task, pdf)
    return WindowProcessor(task, settings, source, caller, surroundings.log)


def request_config(settings: GeminiProcessor) -> types.GenerateContentConfig:
    """Return what is the same in every request."""
    thinking = settings.thinking_config
    level = thinking.thinking_level if thinking else None
    resolution = settings.media_resolution
    return types.GenerateContentConfig(
        system_instruction=system_instruction(settings),
        response_mime_type="application/json",
        response_schema=Answer,
        # It would ask, and pay, again by itself.
        automatic_continuation=False,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        temperature=settings.temperature,
        max_output_tokens=settings.max_output_tokens,
        thinking_config=types.ThinkingConfig(
            thinking_budget=thinking.thinking_budget,
            thinking_level=types.ThinkingLevel(level.upper()) if level else None,
        )
        if thinking
        else None,
        safety_settings=[
            types.SafetySetting(
                category=types.HarmCategory(setting.category), threshold=types.HarmBlockThreshold(setting.threshold)
            )
            for setting in settings.safety_settings
        ]
        if settings.safety_settings
        else None,
        media_resolution=types.MediaResolution(f"MEDIA_RESOLUTION_{resolution.value.upper()}") if resolution else None,
    )


class WindowProcessor:
    """Asks for windows, halves those that fail, and gives up on single pages only."""

    def __init__(self, task: Task, settings: GeminiProcessor, source: Source, caller: Caller, log: Log) -> None:
        self._size = settings.window_pages
        # What another instruction asks for may leave pages empty.
        self._expects_sentences = settings.instruction is None
        self._last_page = task.end_page + task.context_after
        self._source = source
        self._caller = caller
        self._log = log

    def windows(self, remaining: Sequence[int]) -> Iterable[Window]:
        """Neighbouring pages, as many as ``windowPages`` says."""
        return windows.cut(remaining, self._size)

    def process(self, window: Window) -> Iterator[Finished]:
        """Yield what needs no request, then one piece for each answer, used or thrown away.

        Raises
        ------
        RunnerError
            With the exit code of the contract.
        """
        found = self._source.sort(window)
        if found.blank or found.missing:
            yield Finished(found.blank + found.missing, missing=_missing(found.missing, ItemCode.INVALID_ITEM))
        parts = [found.asked] if found.asked else []
        while parts:
            part = parts.pop()
            failure = yield from self._ask(part)
            if failure is None:
                continue
            if len(part) > 1:
                first, second = windows.halve(part)
                parts += [second, first]
            else:
                yield Finished(part, missing=_missing(part, failure), paid=True)

    def close(self) -> None:
        """Close the chunk PDF."""
        self._source.close()

    def _ask(self, part: Window) -> Generator[Finished, None, ItemCode | None]:
        """Ask until there is a good answer, at most twice; return why there is none."""
        failure = ItemCode.INVALID_ANSWER
        for _ in range(_ASKS):
            began = time.monotonic()
            try:
                reply = self._caller.ask(self._source.parts(part))
            except TooLargeError as error:
                self._log.warning("a window is too large", pages=windows.name(part), reason=str(error))
                return ItemCode.TOO_LARGE
            told = {
                "pages": windows.name(part),
                "seconds": round(time.monotonic() - began, 3),
                "tokens": reply.tokens.wire(),
            }
            try:
                found = self._read(reply, part)
            except UnusableAnswerError as error:
                self._log.warning("an answer cannot be used", **told, code=error.code.value, reason=str(error))
                failure = error.code
                yield Finished((), tokens=reply.tokens, paid=True)
                continue
            self._log.info("answered", **told)
            empty = self._source.lost.intersection(part).difference(record.page for record in found)
            yield Finished(
                part, found, missing=_missing(sorted(empty), ItemCode.INVALID_ITEM), tokens=reply.tokens, paid=True
            )
            return None
        return failure

    def _read(self, reply: Reply, part: Window) -> list[Record]:
        pages = read_answer(reply.text, reply.finish, reply.blocked, part)
        if self._expects_sentences:
            check_fullness(pages, self._source.texts(part))
        return records(pages, self._last_page)


def _missing(pages: Sequence[int], code: ItemCode) -> list[MissingPage]:
    return [MissingPage(page=page, code=code.value) for page in pages]


class _LibraryLog(logging.Handler):
    """Sends warnings of libraries to our log, which leaves out secrets and keeps one form."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._log.warning("a library warns", library=record.name, reason=record.getMessage()[:500])


def _hear_libraries(log: Log) -> None:
    """Let the log of this start, and of no earlier one, have what libraries warn of."""
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _LibraryLog)]:
        root.removeHandler(handler)
    root.addHandler(_LibraryLog(log))
