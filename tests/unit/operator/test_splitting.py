"""Inspection and splitting, as the operator calls them: real task processes, real PDFs made at run time."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import pikepdf
import pypdf
import pypdfium2
import pytest

from pdfjob_api.conditions import Reason
from pdfjob_api.pdfjob import Chunking
from pdfjob_api.processing import Repair
from pdfjob_operator.documents import ChunkFile, DocumentError, Documents
from pdfjob_operator.planning import ChunkRange, plan_ranges
from pdfjob_operator.settings import DocumentSettings
from tests.support import pdfs


def texts(path: Path) -> list[str]:
    with pypdfium2.PdfDocument(path) as document:
        return [page.get_textpage().get_text_range() for page in document]


async def consume(documents: Documents, source: Path, out: Path, between: Callable[[], Awaitable[None]]) -> None:
    """Split 60 pages into 20 chunks, and do something after each."""
    out.mkdir()
    ranges = plan_ranges(60, Chunking(pages_per_chunk=3))
    async with aclosing(documents.split(source, ranges, out, Repair.STRICT)) as files:
        async for _ in files:
            await between()


async def split(
    documents: Documents, source: Path, ranges: Sequence[ChunkRange], out: Path, repair: Repair = Repair.STRICT
) -> list[ChunkFile]:
    out.mkdir(exist_ok=True)
    async with aclosing(documents.split(source, ranges, out, repair)) as files:
        return [file async for file in files]


@pytest.mark.parametrize("pages", [1, 49, 50, 51, 100, 200, 201])
async def test_every_page_is_in_its_chunk_with_the_same_text(documents: Documents, tmp_path: Path, pages: int) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(pages))
    inspection = await documents.inspect(source, Repair.STRICT)
    assert (inspection.pages, inspection.damage, inspection.empty_pages) == (pages, (), ())
    assert len(pypdf.PdfReader(source).pages) == pages

    ranges = plan_ranges(pages, Chunking(overlap_pages=2))
    files = await split(documents, source, ranges, tmp_path / "out")

    whole = texts(source)
    assert [file.index for file in files] == [each.index for each in ranges]
    for each, file in zip(ranges, files, strict=True):
        first, last = each.start_page - each.context_before, each.end_page + each.context_after
        assert texts(file.path) == whole[first - 1 : last]
        assert pdfs.page_text(first) in texts(file.path)[0]
        assert len(pypdf.PdfReader(file.path).pages) == last - first + 1
        data = file.path.read_bytes()
        assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


async def test_the_same_source_gives_the_same_bytes_also_when_only_some_chunks_are_asked_for(
    documents: Documents, tmp_path: Path
) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.linked_pdf(120))
    ranges = plan_ranges(120, Chunking(pages_per_chunk=20, overlap_pages=3))
    whole = await split(documents, source, ranges, tmp_path / "one")
    again = await split(documents, source, ranges, tmp_path / "two")
    some = await split(documents, source, [ranges[4], ranges[1]], tmp_path / "three")
    assert [file.sha256 for file in whole] == [file.sha256 for file in again]
    assert [file.index for file in some] == [4, 1]
    assert [file.sha256 for file in some] == [whole[4].sha256, whole[1].sha256]


async def test_links_do_not_drag_other_pages_into_a_chunk(documents: Documents, tmp_path: Path) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.linked_pdf(200))
    (file,) = await split(documents, source, [ChunkRange(0, 1, 10, 0, 0)], tmp_path / "out")
    with pikepdf.open(file.path) as chunk:
        assert all("/Annots" not in page.obj for page in chunk.pages)
        assert (
            sum(1 for each in chunk.objects if isinstance(each, pikepdf.Dictionary) and each.get("/Type") == "/Page")
            == 10
        )


async def test_a_chunk_has_only_the_resources_that_it_uses(documents: Documents, tmp_path: Path) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.shared_resources_pdf(40, images=20, pixels=200))
    ranges = plan_ranges(40, Chunking(pages_per_chunk=4, threshold_pages=0))
    total = sum(file.size_bytes for file in await split(documents, source, ranges, tmp_path / "out"))
    # Context pages show an image of the neighbour; without the removal it would be ten times the source.
    assert total < 2.2 * source.stat().st_size


async def test_inherited_page_attributes_survive(documents: Documents, tmp_path: Path) -> None:
    with pikepdf.open(pdfs.write(tmp_path / "plain.pdf", pdfs.plain_pdf(10))) as pdf:
        for page in pdf.pages:
            for key in ("/MediaBox", "/Rotate"):
                if key in page.obj:
                    del page.obj[key]
        pdf.Root.Pages.MediaBox = pikepdf.Array([0, 0, 300, 400])
        pdf.Root.Pages.Rotate = 90
        pdf.save(tmp_path / "source.pdf")
    (file,) = await split(documents, tmp_path / "source.pdf", [ChunkRange(1, 6, 10, 1, 0)], tmp_path / "out")
    with pikepdf.open(file.path) as chunk:
        assert [int(page.obj.Rotate) for page in chunk.pages] == [90] * 6
        assert [[float(each) for each in page.mediabox] for page in chunk.pages] == [[0, 0, 300, 400]] * 6


@pytest.mark.parametrize("case", pdfs.REFUSED)
async def test_strict_refuses_with_the_reason_and_what_to_do(documents: Documents, tmp_path: Path, case: str) -> None:
    make, reason, told = pdfs.REFUSED[case]
    source = pdfs.write(tmp_path / "source.pdf", make())
    with pytest.raises(DocumentError, match=told) as caught:
        await documents.inspect(source, Repair.STRICT)
    assert caught.value.reason.value == reason
    assert not caught.value.retryable
    assert reason != "InvalidFormat" or str(caught.value).startswith("Invalid format")
    assert str(tmp_path) not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["source.pdf"]


@pytest.mark.parametrize("case", pdfs.ACCEPTED)
async def test_strict_takes_what_has_lost_nothing(documents: Documents, tmp_path: Path, case: str) -> None:
    make, pages = pdfs.ACCEPTED[case]
    source = pdfs.write(tmp_path / "source.pdf", make())
    inspection = await documents.inspect(source, Repair.STRICT)
    assert (inspection.pages, inspection.damage, inspection.empty_pages) == (pages, (), ())
    files = await split(documents, source, plan_ranges(pages, Chunking(pages_per_chunk=7)), tmp_path / "out")
    assert texts(files[0].path)[0].startswith(pdfs.page_text(1))


@pytest.mark.parametrize(
    ("case", "pages", "empty"),
    [
        ("truncated", 60, ()),
        ("wrong /Count", 60, ()),
        ("content missing", 5, (5,)),
        ("content damaged", 5, (3,)),
        ("cut at 80 %", 60, None),
    ],
)
async def test_repair_takes_what_can_be_read_and_names_what_is_lost(
    documents: Documents, tmp_path: Path, case: str, pages: int, empty: tuple[int, ...] | None
) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.REFUSED[case][0]())
    inspection = await documents.inspect(source, Repair.REPAIR)
    assert inspection.pages == pages
    assert inspection.damage
    assert inspection.empty_pages == empty if empty is not None else inspection.empty_pages
    ranges = plan_ranges(pages, Chunking(threshold_pages=0))
    files = await split(documents, source, ranges, tmp_path / "out", Repair.REPAIR)
    with pikepdf.open(files[0].path) as chunk:
        assert len(chunk.pages) == ranges[0].page_count + ranges[0].context_after


async def test_repair_reads_by_another_library_what_pikepdf_refuses(documents: Documents, tmp_path: Path) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.one_line_pdf())
    with pytest.raises(DocumentError, match=r"set source\.repair: Repair"):
        await documents.inspect(source, Repair.STRICT)
    inspection = await documents.inspect(source, Repair.REPAIR)
    assert inspection.pages == 1
    assert inspection.damage
    files = await split(documents, source, plan_ranges(1, Chunking()), tmp_path / "out", Repair.REPAIR)
    assert texts(files[0].path)[0].startswith(pdfs.page_text(1))


async def test_at_most_four_files_wait_on_disk(documents: Documents, tmp_path: Path) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(60))
    out = tmp_path / "out"
    out.mkdir()
    seen = 0
    async with aclosing(
        documents.split(source, plan_ranges(60, Chunking(pages_per_chunk=3)), out, Repair.STRICT)
    ) as files:
        async for file in files:
            await asyncio.sleep(0.05)  # long enough for a splitter that does not wait to run ahead
            assert len(list(out.iterdir())) <= 4
            file.path.unlink()
            seen += 1
    assert seen == 20


async def test_leaving_early_ends_the_process_and_frees_its_place(tmp_path: Path) -> None:
    documents = Documents(DocumentSettings(processes=1))
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(60))
    out = tmp_path / "out"
    out.mkdir()
    async with aclosing(
        documents.split(source, plan_ranges(60, Chunking(pages_per_chunk=3)), out, Repair.STRICT)
    ) as files:
        await anext(files)
        assert len(children()) == 1
    assert children() == []
    assert (await documents.inspect(source, Repair.STRICT)).pages == 60


async def test_a_cancelled_task_leaves_no_process_and_no_scratch_folder(documents: Documents, tmp_path: Path) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(60))
    task = asyncio.create_task(documents.inspect(source, Repair.STRICT))
    while not children():  # noqa: ASYNC110 - there is no event to wait for: the process is another program
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []
    assert [each.name for each in tmp_path.iterdir()] == ["source.pdf"]


async def test_no_more_processes_than_allowed(tmp_path: Path) -> None:
    documents = Documents(DocumentSettings(processes=2))
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(50))
    tasks = [asyncio.create_task(documents.inspect(source, Repair.STRICT)) for _ in range(6)]
    most = 0
    while not all(task.done() for task in tasks):
        most = max(most, len(children()))
        await asyncio.sleep(0.005)
    assert [task.result().pages for task in tasks] == [50] * 6
    assert most == 2


async def test_the_event_loop_is_never_blocked(documents: Documents, tmp_path: Path) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(600))
    loop = asyncio.get_running_loop()
    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            begin = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - begin - 0.01)

    beat = asyncio.create_task(heartbeat())
    await documents.inspect(source, Repair.STRICT)
    await split(documents, source, plan_ranges(600, Chunking(pages_per_chunk=100)), tmp_path / "out")
    beat.cancel()
    assert longest < 5  # of a liveness window of 30 s, on a busy machine


async def test_wall_time_is_bounded(tmp_path: Path) -> None:
    documents = Documents(DocumentSettings(wall_seconds=1))
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(60))
    with pytest.raises(DocumentError, match=r"longer than 1 s; raise documents\.wallSeconds") as caught:
        await consume(documents, source, tmp_path / "out", lambda: asyncio.sleep(0.3))
    assert caught.value.reason is Reason.SPLIT_ERROR


async def test_memory_is_bounded(tmp_path: Path) -> None:
    documents = Documents(DocumentSettings(memory_bytes=256 * 1024**2))
    with pikepdf.new() as bomb:
        bomb.add_blank_page()
        # A page whose 300 kB of content unfold to 300 MB of spaces.
        packer = zlib.compressobj(9)
        packed = b"".join(packer.compress(b" " * 1024**2) for _ in range(300)) + packer.flush()
        content = pikepdf.Stream(bomb, packed)
        content.Filter = pikepdf.Name.FlateDecode
        bomb.pages[0].Contents = bomb.make_indirect(content)
        bomb.save(tmp_path / "source.pdf", compress_streams=False, stream_decode_level=pikepdf.StreamDecodeLevel.none)
    with pytest.raises(DocumentError, match="memory") as caught:
        await documents.inspect(tmp_path / "source.pdf", Repair.STRICT)
    assert caught.value.reason is Reason.SPLIT_ERROR


async def test_cpu_time_is_bounded(tmp_path: Path) -> None:
    documents = Documents(DocumentSettings(cpu_seconds=1))
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(1500, lines=2))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(DocumentError, match="CPU time"):
        await split(documents, source, plan_ranges(1500, Chunking(pages_per_chunk=1, threshold_pages=0)), out)


async def test_a_process_killed_from_outside_is_no_fault_of_the_document(documents: Documents, tmp_path: Path) -> None:
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(60))

    async def kill() -> None:
        for child in children():
            with suppress(ProcessLookupError):  # it has died of the kill after the file before
                os.kill(child, signal.SIGKILL)

    with pytest.raises(DocumentError, match="killed from outside") as caught:
        await consume(documents, source, tmp_path / "out", kill)
    assert caught.value.retryable


async def test_task_processes_get_no_credentials(
    documents: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    source = pdfs.write(tmp_path / "source.pdf", pdfs.text_pdf(60))
    out = tmp_path / "out"
    out.mkdir()
    async with aclosing(
        documents.split(source, plan_ranges(60, Chunking(pages_per_chunk=3)), out, Repair.STRICT)
    ) as files:
        await anext(files)
        (child,) = children()
        environment = Path(f"/proc/{child}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"very secret" not in environment


def children() -> list[int]:
    """Return the task processes of this test process that still run."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if (
                not folder.name.isdecimal()
                or int((folder / "stat").read_text().rsplit(")")[1].split()[1]) != os.getpid()
            ):
                continue
            if b"pdfjob_operator." in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
