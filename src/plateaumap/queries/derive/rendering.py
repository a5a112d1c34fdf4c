"""A derivation as text for a terminal, as LaTeX and as Markdown.

The steps use Unicode for mathematics, and dollars around formulas in sentences. Expressions are
printed by SymPy's printers with a few conventions of mathematical typesetting added.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from functools import cache
from typing import Any

from plateaumap.queries.derive.formulas import import_sympy

_WIDTH = 78
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")

_QUOTIENT = re.compile(r"([∂d]²?\w)/([∂d]\w²?)")
_COMMANDS = {
    "ln(": r"\ln(",
    "det (": r"\det (",
    "Li₂": r"\operatorname{Li}_2",
    "σ": r"\sigma ",
    "Σ": r"\Sigma ",
    "Φ": r"\Phi ",
    "φ": r"\varphi ",
    "∂": r"\partial ",
    "∫": r"\int ",
    "·": r"\cdot ",
    "→": r"\to ",
    "∞": r"\infty ",
    "≥": r"\ge ",
    "≤": r"\le ",
    "−": "-",
    "²": "^2",
    " for ": r" \text{ for } ",
}


@dataclass(frozen=True)
class Equation:
    """One equation of a derivation.

    Attributes:
        left: the left side, or a whole statement that is not an equation.
        rights: the right sides, equal to each other: SymPy expressions, or strings that show
            intermediate forms.
    """

    left: str
    rights: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of a derivation.

    Attributes:
        title: the step in a few words.
        sentence: the explanation, with formulas between dollars.
        equations: the results.
    """

    title: str
    sentence: str
    equations: tuple[Equation, ...] = ()


@dataclass(frozen=True)
class Derivation:
    """The derivation of the matching loss of one activation.

    Attributes:
        activation: the name of the activation.
        steps: the steps, in order.
        loss: the result as a SymPy expression in z and y.
        loss_of_output: the result in a and y; None if it is not a function of a.
        quadrature_error: largest difference between the result and the integral of its gradient
            by quadrature, over max(1, |integral|), in arithmetic of 30 digits.
    """

    activation: str
    steps: tuple[Step, ...]
    loss: Any
    loss_of_output: Any
    quadrature_error: float

    @property
    def title(self) -> str:
        """Return a heading."""
        return f"The loss without slowdown: {self.activation}"

    def to_text(self) -> str:
        """Return the derivation as plain text, equations numbered, for a terminal."""
        return to_text(self)

    def to_latex(self) -> str:
        """Return the derivation as the body of a LaTeX document (package amsmath)."""
        return to_latex(self)

    def to_markdown(self) -> str:
        """Return the derivation as Markdown, with formulas between dollars."""
        return to_markdown(self)


def to_text(derivation: Derivation) -> str:
    """Return a derivation as plain text, its equations numbered."""
    lines = [derivation.title, "=" * len(derivation.title)]
    number = 0
    for position, step in enumerate(derivation.steps, start=1):
        lines += ["", f"{position}. {step.title}", ""]
        sentence = step.sentence.replace("$", "").replace("−", "-")
        lines += textwrap.wrap(sentence, _WIDTH, initial_indent="   ", subsequent_indent="   ")
        if step.equations:
            lines.append("")
        for equation in step.equations:
            number += 1
            lines += _text_equation(equation, f"({number})")
    return "\n".join(lines) + "\n"


def to_latex(derivation: Derivation) -> str:
    """Return a derivation as the body of a LaTeX document."""
    lines = [rf"\section*{{{_prose(derivation.title)}}}"]
    for step in derivation.steps:
        lines += ["", rf"\subsection*{{{_prose(step.title)}}}", _prose(step.sentence)]
        for equation in step.equations:
            lines += [r"\begin{equation}", f"  {_latex_equation(equation)}", r"\end{equation}"]
    return "\n".join(lines) + "\n"


def to_markdown(derivation: Derivation) -> str:
    """Return a derivation as Markdown, its formulas between dollars."""
    lines = [f"# {derivation.title}"]
    for position, step in enumerate(derivation.steps, start=1):
        lines += ["", f"## {position}. {step.title}", "", _prose(step.sentence)]
        for equation in step.equations:
            lines += ["", "$$", _latex_equation(equation), "$$"]
    return "\n".join(lines) + "\n"


def plain(expression: Any) -> str:
    """Return a SymPy expression on one line: `y ln(a) + (1 - y) ln(1 - a)`."""
    if isinstance(expression, str):
        return expression
    return _printers()[0].doprint(expression)


def _text_equation(equation: Equation, number: str) -> list[str]:
    first, *others = [_related(plain(right)) for right in equation.rights] or [""]
    start = f"      {number:<5} {equation.left}"
    whole = " ".join([start, first, *others]).rstrip()
    if len(whole) <= _WIDTH:
        return [whole.replace("−", "-")]
    indent = " " * len(start)
    lines = [f"{start} {first}", *(f"{indent} {right}" for right in others)]
    return [line.replace("−", "-") for line in lines]


def _latex_equation(equation: Equation) -> str:
    latex = _printers()[1]
    rights = [
        _related(_mathematics(right) if isinstance(right, str) else latex.doprint(right))
        for right in equation.rights
    ]
    return " ".join([_mathematics(equation.left), *rights])


def _related(side: str) -> str:
    """Return a right side with its relation sign, which is = by default."""
    return side if side.startswith(("≥", r"\ge", ">")) else f"= {side}"


def _mathematics(text: str) -> str:
    text = _QUOTIENT.sub(r"\\frac{\1}{\2}", text)
    for character, command in _COMMANDS.items():
        text = text.replace(character, command)
    return text


def _prose(text: str) -> str:
    """Return a sentence with LaTeX inside its dollars."""
    parts = text.split("$")
    return "$".join(_mathematics(part) if i % 2 else part for i, part in enumerate(parts))


@cache
def _printers() -> tuple[Any, Any]:
    """Return SymPy's printers for text and LaTeX with conventions of mathematical typesetting."""
    sympy = import_sympy()
    from sympy.printing.latex import LatexPrinter
    from sympy.printing.precedence import PRECEDENCE
    from sympy.printing.str import StrPrinter

    class PositiveFirst:
        """A printer of `1 - a` and `ln(cosh(z)) - y z`: positive terms and numbers first."""

        def _as_ordered_terms(self, expr: Any, order: str | None = None) -> list[Any]:
            terms = super()._as_ordered_terms(expr, order)  # type: ignore[misc]
            return sorted(terms, key=lambda t: (t.could_extract_minus_sign(), not t.is_number))

    class Latex(PositiveFirst, LatexPrinter):
        """The LaTeX of SymPy."""

    class Text(PositiveFirst, StrPrinter):
        """One line of text."""

        def _print_log(self, expr: Any) -> str:
            return f"ln({self._print(expr.args[0])})"

        def _print_Abs(self, expr: Any) -> str:  # noqa: N802
            return f"|{self._print(expr.args[0])}|"

        def _print_polylog(self, expr: Any) -> str:
            order, argument = map(self._print, expr.args)
            return f"Li{order.translate(_SUBSCRIPTS)}({argument})"

        def _print_Pi(self, expr: Any) -> str:  # noqa: N802
            return "π"

        def _print_Infinity(self, expr: Any) -> str:  # noqa: N802
            return "∞"

        def _print_Pow(self, expr: Any, rational: bool = False) -> str:  # noqa: N802
            if expr.exp.is_number and expr.exp < 0 and expr.exp != -sympy.S.Half:
                below = expr.base**-expr.exp
                return f"1/{self.parenthesize(below, PRECEDENCE['Mul'], strict=False)}"
            return super()._print_Pow(expr, rational)

        def _print_Piecewise(self, expr: Any) -> str:  # noqa: N802
            cases = [
                f"{self._print(value)} " + ("otherwise" if where == sympy.true else f"for {where}")
                for value, where in expr.args
            ]
            return "{" + ", ".join(cases) + "}"

        def doprint(self, expr: Any) -> str:
            text = super().doprint(expr).replace("**2", "²").replace("**", "^").replace("*", " ")
            return re.sub(r"sqrt\((\w+)\)", r"√\1", text).replace("sqrt(", "√(")

    return Text(), Latex({"ln_notation": True})
