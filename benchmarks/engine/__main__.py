"""`python -m benchmarks.engine`."""

from benchmarks.engine.main import main

if __name__ == "__main__":
    main()
