"""The GPU plug-in: one CUDA thread per run."""
