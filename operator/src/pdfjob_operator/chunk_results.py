"""The results of chunks on the operator's disk: what a merge reads, verified, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from pdfjob_api.conditions import ChunkPhase
from pdfjob_api.contract import MAX_RESULT_BYTES
from pdfjob_api.pdfchunk import PdfChunk

from .documents import MergeInput, MissingPart, ResultPart
from .plan import missing_code
from .storage.errors import ObjectNotFound, ObjectTooLarge
from .storage.s3 import ObjectStore
from .work_errors import MergeInputError


async def fetch_results(
    store: ObjectStore, chunks: Sequence[PdfChunk], folder: Path
) -> AsyncGenerator[MergeInput, None]:
    """Bring the chunk results to disk one after the other, the next while the present one is merged.

    A file is there until the next one is asked for. Close the generator also when it is left early.

    Raises
    ------
    MergeInputError
        When a result is gone or damaged.
    StorageError
        When the storage does not answer.
    """
    ahead: asyncio.Task[MergeInput] | None = None
    try:
        for number, chunk in enumerate(chunks):
            part = await (ahead or asyncio.create_task(_fetch(store, chunk, folder)))
            following = chunks[number + 1] if number + 1 < len(chunks) else None
            ahead = asyncio.create_task(_fetch(store, following, folder)) if following else None
            yield part
            if isinstance(part, ResultPart):
                await asyncio.to_thread(part.path.unlink, missing_ok=True)
    finally:
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


async def _fetch(store: ObjectStore, chunk: PdfChunk, folder: Path) -> MergeInput:
    """Bring the result of a chunk to disk, or name its pages as missing when it did not succeed."""
    spec, result = chunk.spec, chunk.status.result
    if chunk.status.phase is not ChunkPhase.SUCCEEDED or result is None:
        return MissingPart(spec.start_page, spec.end_page, missing_code(chunk.status))
    path = folder / f"{spec.index}.json"
    key = result.uri.removeprefix(store.uri(""))
    try:
        sha256 = await store.download(key, path, max_bytes=MAX_RESULT_BYTES)
    except ObjectNotFound as error:
        raise MergeInputError(spec.index, "is gone from the storage") from error
    except ObjectTooLarge as error:
        raise MergeInputError(spec.index, f"is damaged: {error}") from error
    if sha256 != result.sha256:
        raise MergeInputError(spec.index, "is not what its runner stored")
    return ResultPart(path, spec.start_page, spec.end_page)
