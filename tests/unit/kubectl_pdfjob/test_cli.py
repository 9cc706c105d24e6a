"""The command line itself: help, wrong usage, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kubectl_pdfjob.cli", *arguments]
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


VERBS = (
    *("submit", "results", "history", "status", "watch", "progress", "chunks"),
    *("retry", "suspend", "resume", "stop", "cancel", "credits"),
)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_verbs(arguments: list[str]) -> None:
    done = run(*arguments)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: kubectl pdfjob [OPTIONS] COMMAND")
    listed = done.stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == list(VERBS)
    assert all(line.endswith(".") and len(line) < 60 for line in listed)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_explains_it_names_plain_kubectl_and_fits_eighty_columns(verb: str) -> None:
    text = run(verb, "--help", env={"COLUMNS": "80"}).stdout
    explained, _, rest = text.partition("\n  The same with kubectl:\n\n")
    plain, _, options = rest.partition("\n\n")

    assert text.startswith(f"Usage: kubectl pdfjob {verb} ")
    assert len(explained.split()) > 10
    assert "    kubectl " in plain
    assert "--namespace NAME" in options
    assert max(len(line) for line in text.splitlines()) <= 80


def test_help_loads_no_client() -> None:
    code = (
        "import sys; from kubectl_pdfjob import cli; sys.argv[1:] = ['submit', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('kubernetes', 'boto3', 'rich', 'pdfjob_api') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit"], "error: Missing argument 'FILE|URL|s3://BUCKET/KEY'. (see kubectl pdfjob submit --help)"),
        (["sbmit"], "error: No such command 'sbmit'. Did you mean 'submit'? (see kubectl pdfjob --help)"),
        (["results", "x", "--format", "pdf"], "error: Invalid value for '--format'"),
        (["submit", "https://x.org/a.pdf", "--timeout", "5m"], "error: --timeout says how long to wait"),
        (["submit", "https://x.org/a.pdf", "--wait", "--timeout", "soon"], "error: --timeout soon: write a time"),
        (["submit", "https://x.org/a.pdf", "--wait", "--dry-run"], "error: --dry-run creates nothing"),
        (["submit", "https://x.org/a.pdf", "--spec", "/no/such.yaml"], "error: --spec: /no/such.yaml cannot be read"),
        (["results", "x", "--partial", "--wait"], "error: --partial is for what there is now"),
        (["retry", "x", "--chunk", "two"], "error: Invalid value for '--chunk'"),
        (["retry", "x", "--timeout", "5m"], "error: --timeout says how long to wait"),
        (["chunks", "x", "--next", "--status", "Failed"], "error: --next shows one chunk"),
        (["status", "x", "--watch", "-o", "json"], "error: --watch is for the eye"),
        (["credits", "--add", "5"], "error: --add needs the NAME of the account"),
        (["credits", "--create", "5"], "error: --create needs the NAME of the account"),
        (["credits", "books", "--add", "5", "--create", "5"], "error: --create makes an account and --add tops one up"),
        (["credits", "books", "--add", "0"], "error: Invalid value for '--add'"),
        (["credits", "books", "--add", "-5"], "error: Invalid value for '--add'"),
        (
            ["submit", "https://x.org/a.pdf", "--estimated-tokens", "9"],
            "error: --estimated-tokens says what",
        ),
        (["history", "--run", "0123abcd"], "error: --run needs the NAME"),
        (["cancel"], "error: Missing argument 'NAME'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(arguments: list[str], message: str) -> None:
    done = run(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_no_cluster_is_one_line_and_exit_code_three() -> None:
    done = run("status")

    assert done.returncode == 3
    assert done.stderr.startswith("error: no usable kubeconfig")
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback_too() -> None:
    done = run("status", "--debug")

    assert done.returncode == 3
    assert "Traceback" in done.stderr


def test_a_fault_of_the_plugin_itself_is_one_line_too(tmp_path: Path) -> None:
    # Contexts that are no list are a kubeconfig that the client did not expect.
    path = tmp_path / "kubeconfig"
    path.write_text('{"current-context":"c","contexts":7,"clusters":[],"users":[]}')
    done = run("status", "--kubeconfig", str(path))

    assert done.returncode == 70
    assert done.stderr.startswith("error: unexpected TypeError: ")
    assert len(done.stderr.splitlines()) == 1


def test_an_api_server_that_is_away_is_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("config") / "kubeconfig"
    path.write_text(
        '{"current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],'
        '"clusters":[{"name":"c","cluster":{"server":"http://127.0.0.1:9"}}],"users":[{"name":"u","user":{}}]}'
    )
    done = run("status", "--kubeconfig", str(path))

    assert done.returncode == 3
    assert done.stderr.startswith("error: cannot reach the API server http://127.0.0.1:9: ")
    assert "refused" in done.stderr
    assert len(done.stderr.splitlines()) == 1
