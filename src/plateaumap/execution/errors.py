"""What can go wrong while points are evaluated."""

from plateaumap.inputs.errors import PlateaumapError


class ExecutionError(PlateaumapError):
    """A sweep could not be evaluated to its end; what is stored by then is whole.

    Unlike other errors of this package it is no fault of the input.
    """

    exit_code = 1
