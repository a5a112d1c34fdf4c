"""The errors that a user can cause; each message says what is wrong and what to do."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class PlateaumapError(ValueError):
    """Bad input. The message names the argument, its value, what is wrong and what to do.

    The command line prints the message and exits with `exit_code`.

    Example:
        >>> import plateaumap as pm
        >>> try:
        ...     pm.SingleNeuron(activation="sigmod")
        ... except pm.PlateaumapError as error:
        ...     print("did you mean 'sigmoid'?" in str(error))
        True
    """

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Fault:
    """One fault of a specification.

    Attributes:
        path: the location of the fault, such as `axes[0].num` or `fixed.y`; empty for the whole.
        message: what is wrong and what to do.
        value: the text of the faulty value; empty if the message shows it.
    """

    path: str
    message: str
    value: str = ""

    def __str__(self) -> str:
        """Return path, value and message in one line."""
        subject = " = ".join(filter(None, (self.path, self.value)))
        return f"{subject}: {self.message}" if subject else self.message


class SpecError(PlateaumapError):
    """A specification is refused; the message lists all its faults.

    Attributes:
        faults: the faults in the order of the specification's fields.

    Example:
        >>> import plateaumap as pm
        >>> try:
        ...     pm.linspace("w0", 0, 1, num=0)
        ... except pm.SpecError as error:
        ...     print(error.faults[0])
        num = 0: must be at least 1
    """

    def __init__(self, faults: Iterable[Fault], subject: str = "the sweep") -> None:
        """Collect the `faults` of one `subject`, which begins the message."""
        self.faults = tuple(faults)
        self.subject = subject
        super().__init__(self._text())

    def __reduce__(self) -> tuple[type["SpecError"], tuple[tuple[Fault, ...], str]]:
        """Pickle the faults, from which the message follows."""
        return type(self), (self.faults, self.subject)

    def _text(self) -> str:
        if len(self.faults) == 1:
            return f"{self.subject}: {self.faults[0]}"
        lines = [f"{len(self.faults)} faults in {self.subject}:"]
        return "\n  ".join([*lines, *map(str, self.faults)])


def advice(word: object, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown `word`: its closest match and all known words.

    Example:
        >>> advice("horizn", ["horizon", "method"])
        "did you mean 'horizon'? (known: horizon, method)"
    """
    names = list(known)
    listed = f"known: {', '.join(names)}" if names else "none is known"
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? ({listed})" if close else listed


def first_line(error: Exception) -> str:
    """Return the type of an exception and the first line of its message."""
    lines = [*str(error).strip().splitlines(), ""]
    return f"{type(error).__name__}: {lines[0]}"
