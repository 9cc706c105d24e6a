"""What is missing is named together with what to do about it."""

import pytest

from devcluster.cli import local_obstacle
from devcluster.packages import missing_message, missing_packages
from devcluster.versions import APT_PACKAGES


def test_nothing_is_missing_when_every_program_is_there() -> None:
    assert missing_packages(lambda _: True) == []


def test_package_is_missing_when_one_of_its_programs_is() -> None:
    assert missing_packages(lambda program: program != "ctr") == ["containerd"]


def test_everything_is_missing_on_a_bare_machine() -> None:
    assert missing_packages(lambda _: False) == list(APT_PACKAGES)


def test_without_root_the_message_gives_the_command_to_run() -> None:
    message = missing_message(["runc", "buildah"], is_root=False, has_apt=True)
    assert "sudo apt-get install runc buildah" in message


def test_without_apt_the_message_names_the_way_out() -> None:
    message = missing_message(["runc"], is_root=True, has_apt=False)
    assert "runc" in message
    assert "CLUSTER=current" in message


@pytest.mark.parametrize(("platform", "user", "says"), [("darwin", 0, "runs on Linux"), ("linux", 1000, "needs root")])
def test_machine_that_cannot_run_it_is_told_why(platform: str, user: int, says: str) -> None:
    message = local_obstacle(platform, user)
    assert message is not None
    assert says in message
    assert "CLUSTER=current" in message


def test_root_on_linux_may() -> None:
    assert local_obstacle("linux", 0) is None
