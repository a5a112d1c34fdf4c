"""`python -m benchmarks.engine`."""

from benchmarks.engine.main import main

main()
