"""``python -m chunk_runner``: processes one chunk and ends with an exit code of the contract."""

import signal
import sys
import time

if __name__ == "__main__":
    BEGAN = time.perf_counter()
    # Before anything else is imported: a signal that comes early waits until `stopping.Watch` takes it. As process 1
    # of a container this one would otherwise not be told of SIGTERM at all.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    from chunk_runner.start import main

    sys.exit(main(began=BEGAN))
