"""The error of an evaluation that could not be completed."""

from plateaumap.inputs.errors import PlateaumapError


class ExecutionError(PlateaumapError):
    """A sweep could not be evaluated to its end; every part stored so far is complete.

    The input is not at fault, so the exit code is 1.
    """

    exit_code = 1
