"""The errors that a user can cause, each with one message that says what to do."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class PlateaumapError(ValueError):
    """Bad input: the message says what was wrong, its value and what to do.

    The command line prints the message and exits with `exit_code`.
    """

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a spec.

    Attributes:
        path: where it stands, such as `axes[0].num` or `fixed.y`; empty for the whole.
        message: what is wrong, its value and what to do.
    """

    path: str
    message: str

    def under(self, prefix: str) -> "Fault":
        """The same fault seen from outside, its path continued from `prefix`."""
        joint = "." if self.path and not self.path.startswith("[") else ""
        return Fault(f"{prefix}{joint}{self.path}", self.message)

    def __str__(self) -> str:
        """One line: path and message."""
        return f"{self.path}: {self.message}" if self.path else self.message


class SpecError(PlateaumapError):
    """A spec is refused; every fault that was found is told at once.

    Attributes:
        faults: all of them, in the order of the spec's fields.
    """

    def __init__(self, faults: Iterable[Fault], subject: str = "the sweep") -> None:
        """Collects `faults` of one `subject` (words for the first line of the message)."""
        self.faults = tuple(faults)
        self.subject = subject
        super().__init__(self._text())

    def __reduce__(self) -> tuple[type["SpecError"], tuple[tuple[Fault, ...], str]]:
        """Pickles the faults, from which the message follows."""
        return type(self), (self.faults, self.subject)

    def _text(self) -> str:
        if len(self.faults) == 1:
            return f"{self.subject}: {self.faults[0]}"
        lines = [f"{len(self.faults)} faults in {self.subject}:"]
        return "\n  ".join([*lines, *map(str, self.faults)])


def advice(word: object, known: Iterable[str]) -> str:
    """Ends a message about an unknown `word`: its closest match, if any, and all that is known."""
    names = list(known)
    listed = f"known: {', '.join(names)}" if names else "none is known"
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? ({listed})" if close else listed
