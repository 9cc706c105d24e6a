"""Entry of ``python -m devcluster``."""

from .cli import main

main()
