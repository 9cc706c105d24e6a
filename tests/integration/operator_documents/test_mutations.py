"""Documents damaged at random end in a typed answer, never in a crash; Repair reads at least what Strict reads."""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import aclosing
from pathlib import Path

import pytest

from pdfjob_api.pdfjob import Chunking
from pdfjob_api.processing import Repair
from pdfjob_operator.documents import DocumentError, Documents
from pdfjob_operator.planning import plan_ranges
from pdfjob_operator.settings import DocumentSettings
from tests.support import pdfs

MUTANTS = 40


def mutant(seed: int) -> bytes:
    """Damage one of four kinds of PDF in 1 to 40 places; the same bytes for the same seed."""
    source = random.Random(seed)
    makers = [
        lambda: pdfs.plain_pdf(6),
        lambda: pdfs.compressed_pdf(6),
        lambda: pdfs.linked_pdf(12),
        lambda: pdfs.encrypted_pdf(3, user="", owner="boss"),
    ]
    data = bytearray(makers[seed % 4]())
    for _ in range(source.choice((1, 3, 10, 40))):
        place = source.randrange(len(data))
        match source.randrange(5):
            case 0:
                data[place] = source.randrange(256)
            case 1:
                del data[place : place + source.randrange(1, 200)]
            case 2:
                data[place:place] = source.randbytes(source.randrange(1, 100))
            case 3:
                other = source.randrange(len(data))
                data[place : place + 50] = data[other : other + 50]
            case _:
                number = source.choice(list(re.finditer(rb"\d+", data)))
                value = source.choice((0, 1, -1, 2, 99_999_999_999, source.randrange(50)))
                data[number.start() : number.end()] = str(value).encode()
    return bytes(data)


async def answer(documents: Documents, source: Path, repair: Repair) -> str:
    out = source.with_suffix(f".{repair}")
    out.mkdir()
    try:
        inspection = await documents.inspect(source, repair)
        ranges = plan_ranges(inspection.pages, Chunking(pages_per_chunk=5, threshold_pages=0))
        async with aclosing(documents.split(source, ranges, out, repair)) as files:
            indexes = [file.index async for file in files]
    except DocumentError as error:
        if error.retryable or error.reason.value == "SplitError":  # crashed, killed, or passed an inspection wrongly
            raise
        return error.reason.value
    assert indexes == [each.index for each in ranges]
    return "damaged" if inspection.damage else "whole"


@pytest.mark.timeout(240)
async def test_random_damage_ends_in_an_answer(tmp_path: Path) -> None:
    documents = Documents(DocumentSettings(cpu_seconds=20, wall_seconds=20))

    async def both(seed: int) -> tuple[str, str]:
        source = pdfs.write(tmp_path / f"{seed}.pdf", mutant(seed))
        return await answer(documents, source, Repair.STRICT), await answer(documents, source, Repair.REPAIR)

    answers = await asyncio.gather(*(both(seed) for seed in range(MUTANTS)))
    assert all(strict != "damaged" for strict, _ in answers)
    assert all(repaired == "whole" for strict, repaired in answers if strict == "whole")
    assert {"whole", "damaged", "InvalidFormat"} <= {repaired for _, repaired in answers}
