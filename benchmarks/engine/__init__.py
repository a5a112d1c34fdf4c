"""The engine against other programs that do the same job: `python -m benchmarks.engine`."""
