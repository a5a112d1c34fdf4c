"""`python -m plateaumap` is the `plateaumap` program."""

from plateaumap.cli import main

main()
