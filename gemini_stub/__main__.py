"""``python -m gemini_stub --port 8080``."""

import argparse
import signal
import threading

from .server import serve


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="gemini_stub", description="A stand-in for the Gemini API, for tests.")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")  # noqa: S104 - it runs in pods
    parser.add_argument("--port", type=int, default=8080)
    words = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with serve(words.port, words.host) as stub:
        print(f"gemini_stub listens on {stub.url}", flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
