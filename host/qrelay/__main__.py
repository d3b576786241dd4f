"""`python -m qrelay` is the `qrelay` command."""

from .cli import main

main()
