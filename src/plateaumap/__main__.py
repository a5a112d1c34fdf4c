"""`python -m plateaumap` is the `plateaumap` program."""

from plateaumap.cli import main

if __name__ == "__main__":  # not in the processes that a Dask cluster spawns
    main()
