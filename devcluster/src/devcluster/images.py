"""The product's images: which files make each, whether it has to be built, and where it goes.

An image's tag is the hash of what it is built from: unchanged sources are found in the cluster at
once, and a Deployment rolls exactly when the code in it changed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .baseimage import CURL_BASE, PYTHON_BASE, ensure_base_image, machine_suite
from .buildah import Buildah
from .errors import DevclusterError
from .gobuild import binary, ensure_built
from .packages import ensure_packages
from .paths import Paths
from .progress import note, step
from .store import ImageStore
from .versions import VERSITYGW

_IGNORED_FOLDERS = {"__pycache__"}
KEPT_TAGS = 10
"""Older tags of an image are removed from the cluster and from buildah's storage."""
PASSED_ON = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_VERSION")
"""Build arguments taken from the environment, so that a mirror works inside the build too."""


@dataclass(frozen=True)
class ProductImage:
    """An image that users build by a Dockerfile of the repository."""

    name: str
    """Key in ``images.json``."""
    dockerfile: str
    inputs: tuple[str, ...]
    """Files and folders, relative to the repository, that go into it."""

    @property
    def repository(self) -> str:
        """The reference without registry and tag."""
        return f"pdfjob-{self.name}"


_SHARED = (".dockerignore", "requirements.lock", "api/pyproject.toml", "api/src")
OPERATOR = ProductImage(
    "operator", "Dockerfile.operator", (*_SHARED, "Dockerfile.operator", "operator/pyproject.toml", "operator/src")
)
RUNNER = ProductImage(
    "runner",
    "Dockerfile.runner",
    (*_SHARED, "Dockerfile.runner", "chunk_runner/pyproject.toml", "chunk_runner/src"),
)
PRODUCT_IMAGES = (OPERATOR, RUNNER)


def find_repository(start: Path) -> Path:
    """Return the nearest folder at or above `start` that holds the Dockerfiles.

    Raises
    ------
    DevclusterError
        There is none.
    """
    for folder in (start, *start.parents):
        if all((folder / image.dockerfile).exists() for image in PRODUCT_IMAGES):
            return folder
    raise DevclusterError(f"No Dockerfile.operator at or above {start}: run this inside the pdfjob repository.")


def content_tag(repository: Path, inputs: Iterable[str], base_image: str) -> str:
    """Hash the contents and names of the inputs and the base image's reference into a tag."""
    digest = hashlib.sha256(base_image.encode())
    for file in _files(repository, inputs):
        digest.update(f"\0{file.relative_to(repository)}\0{file.stat().st_mode & 0o111:o}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _files(repository: Path, inputs: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for name in inputs:
        path = repository / name
        if path.is_dir():
            found += [
                file
                for file in path.rglob("*")
                if file.is_file()
                and not _IGNORED_FOLDERS.intersection(file.parts)
                and not any(part.endswith(".egg-info") for part in file.parts)
            ]
        elif path.exists():
            found.append(path)
    return sorted(found)


def versitygw_reference() -> str:
    """Return the reference of the embedded S3 server's image."""
    return f"localhost/versitygw:{VERSITYGW.key.removeprefix('versitygw-')}"


class LocalImages:
    """Builds images with buildah and puts them into the local cluster's containerd."""

    def __init__(self, paths: Paths, repository: Path) -> None:
        self._paths = paths
        self._repository = repository
        self._buildah = Buildah(paths)
        self._store = ImageStore(paths)

    def references(self, *, with_test_images: bool) -> dict[str, str]:
        """Return the reference that each image must have for the present sources."""
        suite_or_base = self._chosen_base() or PYTHON_BASE.reference(machine_suite())
        wanted = {
            image.name: f"localhost/{image.repository}:" + content_tag(self._repository, image.inputs, suite_or_base)
            for image in PRODUCT_IMAGES
        }
        wanted["versitygw"] = versitygw_reference()
        if with_test_images:
            wanted["test-curl"] = CURL_BASE.reference(machine_suite())
        return wanted

    def ensure(self, *, with_test_images: bool) -> dict[str, str]:
        """Build and import what the cluster does not have yet; return image name to reference.

        Raises
        ------
        DevclusterError
            A build failed, or the cluster does not run.
        """
        wanted = self.references(with_test_images=with_test_images)
        if not self._store.answers():
            raise DevclusterError("The local cluster's containerd does not answer. Run `devcluster up` first.")
        there = self._store.references()
        for name, reference in wanted.items():
            if reference not in there:
                self._build_and_import(name, reference)
        self._remember(wanted)
        return wanted

    def _build_and_import(self, name: str, reference: str) -> None:
        ensure_packages(self._paths)
        if name == "test-curl":
            ensure_base_image(self._paths, self._buildah, CURL_BASE)
        elif not self._buildah.has(reference):
            self._build(name, reference)
        archive = self._paths.cache / "images" / f".{name}.{os.getpid()}.tar"
        archive.parent.mkdir(parents=True, exist_ok=True)
        with step(f"importing {reference} into the cluster"):
            try:
                self._buildah.save(reference, archive)
                self._store.import_archive(archive)
            finally:
                archive.unlink(missing_ok=True)

    def _build(self, name: str, reference: str) -> None:
        if name == "versitygw":
            ensure_built(self._paths, VERSITYGW)
            with step(f"building image {reference}"):
                self._buildah.build_from_scratch(
                    binary(self._paths, VERSITYGW),
                    reference,
                    ['ENTRYPOINT ["/versitygw"]', "USER 65532:65532"],
                    self._paths.cache / "build" / "versitygw",
                )
            return
        image = next(image for image in PRODUCT_IMAGES if image.name == name)
        base = self._chosen_base() or ensure_base_image(self._paths, self._buildah, PYTHON_BASE)
        with step(f"building image {reference}"):
            self._buildah.build(
                self._repository / image.dockerfile,
                self._repository,
                reference,
                build_arguments(base, os.environ),
                name,
            )

    def _chosen_base(self) -> str | None:
        return os.environ.get("BASE_IMAGE") or None

    def _remember(self, wanted: Mapping[str, str]) -> None:
        """Write ``images.json`` and forget tags that were not used for long."""
        # The test image stays known when a later run does not ask for it.
        write_record(self._paths, {**read_record(self._paths), **wanted})
        history_file = self._paths.cache / "images-history.json"
        history = json.loads(history_file.read_text()) if history_file.exists() else {}
        updated = {name: recent(history.get(name, []), reference) for name, reference in wanted.items()}
        history.update(updated)
        for name, reference in wanted.items():
            repository = reference.rpartition(":")[0]
            if len(history[name]) >= KEPT_TAGS:
                self._store.prune(repository, set(history[name]))
                self._buildah.prune(repository, set(history[name]))
        history_file.write_text(json.dumps(history, indent=1))


def build_arguments(base_image: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the Dockerfiles' build arguments.

    Parameters
    ----------
    base_image
        None leaves the Dockerfile's own default.
    environment
        Where the names of `PASSED_ON` are looked up. Nothing else of it enters the build.
    """
    arguments = {name: environment[name] for name in PASSED_ON if environment.get(name)}
    if base_image:
        arguments["BASE_IMAGE"] = base_image
    return arguments


def recent(history: list[str], reference: str) -> list[str]:
    """Put the reference last in the history and keep the last `KEPT_TAGS`."""
    return [*(old for old in history if old != reference), reference][-KEPT_TAGS:]


def write_record(paths: Paths, images: Mapping[str, str]) -> None:
    """Write ``images.json``: image name to the reference that a pod uses."""
    text = json.dumps(dict(images), indent=1, sort_keys=True) + "\n"
    if not paths.images_file.exists() or paths.images_file.read_text() != text:
        paths.images_file.parent.mkdir(parents=True, exist_ok=True)
        partial = paths.images_file.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(paths.images_file)
        note(f"recorded in {paths.images_file}")


def read_record(paths: Paths) -> dict[str, str]:
    """Read ``images.json``; nothing built yet is empty."""
    known: dict[str, str] = json.loads(paths.images_file.read_text()) if paths.images_file.exists() else {}
    return known
