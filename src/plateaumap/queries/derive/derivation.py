"""The derivation of the loss without slowdown, step by step, verified by SymPy.

For the sigmoid it follows M. Nielsen, "Neural Networks and Deep Learning", chapter 3. The
quadratic gradient has a factor σ'(z) that vanishes in saturation. Require the gradient (a − y) x
instead: the chain rule, an integral, partial fractions and a substitution lead to the
cross-entropy. For any other increasing activation the same requirement leads to the matching loss
`Σ(z) − y z`.

Every equation is computed, and every claim is proven by a difference that simplifies to zero.
`derive` fails if a claim is not proven.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.activations import Activation, get
from plateaumap.queries.derive import rendering
from plateaumap.queries.derive.formulas import Formula, formula, import_sympy, symbols
from plateaumap.queries.derive.rendering import Derivation, Equation, Step

_CHECK_POINTS = (-8, -2, -0.5, 1, 3, 10)
_CHECK_TARGET = 0.3
_CHECK_DIGITS = 30


def derive(activation: str) -> Derivation:
    """Derive the loss whose gradient has no factor σ'(z).

    Args:
        activation: the name of an activation, such as `"sigmoid"`.

    Raises:
        PlateaumapError: the activation is unknown or not monotone, or SymPy is not installed
            (extra `derive`).

    Example:
        >>> print(derive("sigmoid").loss)
        -y*z + log(exp(z) + 1)
    """
    function = get(activation)
    proof = Proof(formula(function.name))
    if function.why_no_matching_loss is not None:
        raise PlateaumapError(_why_not(function, proof))
    middle = (
        (_integral_step, _fractions_step, _substitution_step, _cross_entropy_step)
        if function.name == "sigmoid"
        else (_matching_step, _in_output_step)
    )
    first = (_quadratic_step, _slowdown_step, _demand_step, _chain_rule_step)
    last = (_gradient_step, _convexity_step, _quadrature_step)
    return Derivation(
        activation=function.name,
        steps=tuple(step(proof) for step in (*first, *middle, *last)),
        loss=proof.loss,
        loss_of_output=proof.formula.loss,
        quadrature_error=proof.quadrature_error,
    )


class Proof:
    """The shared parts of the steps: SymPy, the symbols, the formulas, proofs of equalities."""

    def __init__(self, formula: Formula) -> None:
        """Create the proof of the formulas of one activation, none of which is proven yet."""
        self.sp = import_sympy()
        self.z, self.a, self.y = symbols()
        self.w, self.x, self.b = self.sp.symbols("w x b", real=True)
        self.formula = formula

    @property
    def loss(self) -> Any:
        """Return the matching loss in z, `Σ(z) − y z`."""
        return self.formula.integral - self.y * self.z

    @cached_property
    def quadrature_error(self) -> float:
        """Return the largest error of Σ against quadrature; see `Derivation`."""
        import mpmath

        value, integral = (
            self.sp.lambdify(self.z, expression, "mpmath")
            for expression in (self.formula.value, self.formula.integral)
        )
        errors = []
        with mpmath.workdps(_CHECK_DIGITS):
            target = mpmath.mpf(_CHECK_TARGET)
            for point in map(mpmath.mpf, _CHECK_POINTS):
                area = mpmath.quad(lambda s: value(s) - target, mpmath.linspace(0, point, 5))
                closed = integral(point) - integral(mpmath.mpf(0)) - target * point
                errors.append(abs(area - closed) / max(1, abs(area)))
            return float(max(errors))

    def verify_derivative(self, function: Any, derivative: Any, claim: str) -> None:
        """Prove the derivative of a function of z; if σ has a kink, for either sign of z."""
        for (one, variable, sign), (other, _, _) in zip(
            self.branches(function), self.branches(derivative), strict=True
        ):
            self.verify(self.sp.diff(one, variable), sign * other, claim)

    def verify(self, left: Any, right: Any, claim: str) -> None:
        """Prove that two expressions are equal.

        Raises:
            RuntimeError: their difference does not simplify to zero.
        """
        sp = self.sp
        forms = (lambda e: e, sp.expand_func, lambda e: e.rewrite(sp.exp))
        if not any(sp.simplify(form(left - right)) == 0 for form in forms):
            raise RuntimeError(f"not proven: {claim}; {left} is not {right}")

    def branches(self, expression: Any) -> list[tuple[Any, Any, int]]:
        """Return the expression without its kink, its variable t, and dz/dt; for z > 0 first."""
        if not self.formula.kinked:
            return [(self.sp.sympify(expression), self.z, 1)]
        size = self.sp.Symbol("t", positive=True)
        fold = self.sp.piecewise_fold
        return [(fold(expression.subs(self.z, s * size)), size, s) for s in (1, -1)]

    @cached_property
    def has_slope_at_zero(self) -> bool:
        """Whether σ is differentiable at z = 0. It is everywhere else."""
        ends = [self.sp.limit(f, t, 0, "+") for f, t, _ in self.branches(self.formula.slope)]
        return not self.formula.kinked or ends[0] == ends[1]

    @cached_property
    def flat_sides(self) -> list[int]:
        """The signs of z for which σ' is zero throughout: −1 for ReLU.

        Raises:
            RuntimeError: σ' is neither positive nor zero for one sign of z.
        """
        flat = []
        for slope, _, sign in self.branches(self.formula.slope):
            if slope.is_zero:
                flat.append(sign)
            elif not slope.is_positive:
                raise RuntimeError(f"not proven: {slope} is positive")
        return flat

    def limit(self, expression: Any, sign: int) -> Any:
        """Return the limit of an expression for z → ∞ or, for the sign −1, for z → −∞."""
        for branch, variable, direction in self.branches(expression):
            if not self.formula.kinked or direction == sign:
                return self.sp.limit(branch, variable, sign * direction * self.sp.oo)
        raise AssertionError


def _quadratic_step(proof: Proof) -> Step:
    sp, a, y, w, x = proof.sp, proof.a, proof.y, proof.w, proof.x
    value, slope = proof.formula.value, proof.formula.slope
    quadratic = (a - y) ** 2 / 2
    outer = sp.diff(quadratic, a) * sp.diff(w * x + proof.b, w)
    proof.verify(outer, (a - y) * x, "the error and the input are the outer factors")
    proof.verify_derivative(quadratic.subs(a, value), (value - y) * slope, "the chain rule")
    return Step(
        "The quadratic loss",
        "A neuron forms $z = w x + b$ and puts out $a = σ(z)$. In the gradient of its weight the "
        "chain rule multiplies the error of the output by the derivative of the activation.",
        (
            Equation("σ(z)", (value,)),
            Equation("C", (quadratic,)),
            Equation("∂C/∂w", ("dC/da · da/dz · ∂z/∂w", "(a − y) · σ'(z) · x")),
        ),
    )


def _slowdown_step(proof: Proof) -> Step:
    slope, in_output = proof.formula.slope, proof.formula.slope_of_output
    proof.verify_derivative(proof.formula.value, slope, "the derivative of the activation")
    forms = [slope]
    if in_output is not None:
        proof.verify(*_at_output(proof, in_output, slope), "the derivative in terms of a")
        forms.append(in_output)
    below, above = (proof.limit(slope, sign) for sign in (-1, 1))
    return Step(
        "The factor that slows learning down",
        _on_slowdown(below == 0, above == 0, slope == 1, proof),
        (
            Equation("σ'(z)", tuple(forms)),
            Equation(f"σ'(z) → {rendering.plain(below)} for z → −∞"),
            Equation(f"σ'(z) → {rendering.plain(above)} for z → ∞"),
        ),
    )


def _at_output(proof: Proof, of_output: Any, of_z: Any) -> tuple[Any, Any]:
    """Return a function of a at a = σ(z) and a function of z, for z ≥ 0 if σ has a kink."""
    z = proof.sp.Symbol("t", positive=True) if proof.formula.kinked else proof.z
    return (
        of_output.subs(proof.a, proof.formula.value).subs(proof.z, z),
        of_z.subs(proof.z, z),
    )


def _on_slowdown(vanishes_below: bool, vanishes_above: bool, is_one: bool, proof: Proof) -> str:
    if is_one:
        return (
            "The factor is 1: a linear neuron has no slowdown under the quadratic loss, and what "
            "follows leads back to that loss."
        )
    if vanishes_below and vanishes_above:
        return (
            "The factor vanishes at both ends. A neuron that is saturated on the wrong side has a "
            "large error and hardly any gradient: it waits on a plateau."
        )
    if vanishes_below or vanishes_above:
        side = "negative" if vanishes_below else "positive"
        if proof.flat_sides:
            return (
                f"The factor is zero for every {side} $z$, and does not exist at $z = 0$. A neuron "
                "that starts there with an error has no gradient at all: it never learns."
            )
        return (
            f"The factor vanishes for large {side} $z$. A neuron that starts there with an error "
            "has hardly any gradient: it waits on a plateau."
        )
    return (
        "The factor is never zero, so that a large error always has a gradient; but where the "
        "factor is small, learning is slow in proportion."
        + ("" if proof.has_slope_at_zero else " It does not exist at $z = 0$.")
    )


def _demand_step(proof: Proof) -> Step:
    del proof
    return Step(
        "The demand",
        "Ask for a loss $L$ whose gradient lacks that factor: proportional to the error and to "
        "the input, and to nothing else.",
        (Equation("∂L/∂w", ("(a − y) · x",)),),
    )


def _chain_rule_step(proof: Proof) -> Step:
    sp, a, y, x, formulas = proof.sp, proof.a, proof.y, proof.x, proof.formula
    unknown, factor = sp.symbols("dL/da s")
    (solution,) = sp.solve(sp.Eq(unknown * factor * x, (a - y) * x), unknown)
    proof.verify(solution, (a - y) / factor, "the derivative that is demanded")
    forms: list[Any] = ["(a − y)/σ'(z)"]
    if formulas.slope_of_output is not None:
        proof.verify(
            *_at_output(proof, formulas.slope_of_output, formulas.slope), "the factor in a"
        )
        forms.append((a - y) / formulas.slope_of_output)
    where = " wherever $σ'(z)$ is not zero" if proof.flat_sides else ""
    return Step(
        "What the chain rule makes of it",
        "By the chain rule the gradient is the derivative by the output times $σ'(z)$ times the "
        f"input. Set it equal to the demand: the input cancels, and{where} the derivative by the "
        "output can be solved for.",
        (
            Equation("∂L/∂w", ("dL/da · σ'(z) · x",)),
            Equation("dL/da · σ'(z)", ("a − y",)),
            Equation("dL/da", tuple(forms)),
        ),
    )


def _integral_step(proof: Proof) -> Step:
    a, y = proof.a, proof.y
    return Step(
        "The integral",
        "The loss is an integral of this derivative over the output.",
        (Equation("L", ("∫ dL/da da", f"∫ {rendering.plain((a - y) / (a * (1 - a)))} da")),),
    )


def _fractions_step(proof: Proof) -> Step:
    sp, a, y = proof.sp, proof.a, proof.y
    first, second = sp.symbols("A B")
    identity = sp.Eq(a - y, first * (1 - a) + second * a)
    (at_zero,) = sp.solve(identity.subs(a, 0), first)
    (at_one,) = sp.solve(identity.subs(a, 1), second)
    split = at_zero / a + at_one / (1 - a)
    proof.verify(split, (a - y) / (a * (1 - a)), "the partial fractions")
    return Step(
        "Partial fractions",
        "Split the fraction into two with the numerators $A$ and $B$, and multiply by $a (1 − a)$. "
        "What comes out holds for every $a$: substitute $a = 0$, which leaves $A$, and $a = 1$, "
        "which leaves $B$.",
        (
            Equation("(a − y)/(a (1 − a))", ("A/a + B/(1 − a)",)),
            Equation("a − y", ("A (1 − a) + B a",)),
            Equation("A", (f"{rendering.plain(at_zero)} for a = 0",)),
            Equation("B", (f"{rendering.plain(at_one)} for a = 1",)),
            Equation("dL/da", (split,)),
        ),
    )


def _substitution_step(proof: Proof) -> Step:
    sp, a, y = proof.sp, proof.a, proof.y
    output, u = sp.symbols("a u", positive=True)
    by_output = sp.integrate(-y / output, output).subs(output, a)
    # With u = 1 − a the output is 1 − u, and da = −du.
    turned = ((1 - y) / (1 - output)).subs(output, 1 - u) * sp.diff(1 - u, u)
    in_u = -(1 - y) * sp.log(u)
    proof.verify(sp.diff(in_u, u), turned, "the integral over u")
    by_complement = in_u.subs(u, 1 - a)
    proof.verify(by_complement, -(1 - y) * sp.log(1 - a), "the integral over a")
    loss = by_output + by_complement
    proof.verify(sp.diff(loss, a), (a - y) / (a * (1 - a)), "the integral")
    ends = [sp.limit(loss.subs(y, target), a, target) for target in (0, 1)]
    if ends != [0, 0]:
        raise RuntimeError(f"not proven: the loss of a met target is zero; it is {ends}")
    return Step(
        "The substitution",
        "The first fraction integrates to a logarithm at once. In the second substitute "
        "$u = 1 − a$, so that $da = −du$. The constant is chosen so that the loss is zero where "
        "the output meets a target of 0 or 1.",
        (
            Equation("∫ −y/a da", (by_output,)),
            Equation(
                "∫ (1 − y)/(1 − a) da",
                ("−∫ (1 − y)/u du", "−(1 − y) ln(u)", "−(1 − y) ln(1 − a)"),
            ),
        ),
    )


def _cross_entropy_step(proof: Proof) -> Step:
    sp, z, y, formulas = proof.sp, proof.z, proof.y, proof.formula
    in_z = y * sp.log(1 + sp.exp(-z)) + (1 - y) * sp.log(1 + sp.exp(z))
    of_output = formulas.loss.subs(proof.a, formulas.value)
    for form in (of_output, in_z):
        proof.verify_derivative(form, formulas.value - y, "the loss in z")
        proof.verify(form.subs(z, 0), proof.loss.subs(z, 0), "the constant of the loss")
    return Step(
        "The result",
        "This is the binary cross-entropy. In terms of $z$ it can be computed for any weights, "
        "since no logarithm of a rounded output is taken. Averaged over samples and summed over "
        "outputs it is Shannon's; with logarithms to the base 2 it counts bits.",
        (
            Equation("L", (formulas.loss,)),
            Equation("L", (in_z, proof.loss)),
        ),
    )


def _matching_step(proof: Proof) -> Step:
    formulas = proof.formula
    proof.verify_derivative(formulas.integral, formulas.value, "the integral of the activation")
    ends = {proof.sp.limit(f, t, 0, "+") for f, t, _ in proof.branches(formulas.integral)}
    if len(ends) > 1:
        raise RuntimeError(f"not proven: the integral has no jump at z = 0; it has {ends}")
    return Step(
        "The integral",
        "In terms of $z$ the demand reads $dL/dz = a − y$, since $∂z/∂w = x$. Integrate it: with "
        "$Σ$ for the integral of the activation this is the matching loss, up to a constant. "
        f"{formulas.remark}".rstrip(),
        (
            Equation("dL/dz", ("dL/da · da/dz", "σ(z) − y")),
            Equation("L", ("∫ (σ(z) − y) dz",)),
            Equation("Σ(z)", (formulas.integral,)),
            Equation("L", ("Σ(z) − y z", proof.loss)),
        ),
    )


def _in_output_step(proof: Proof) -> Step:
    formulas, z, y = proof.formula, proof.z, proof.y
    if formulas.inverse is None:
        return Step("In terms of the output", f"Not possible: {formulas.why_no_inverse}.")
    of_output = (
        formulas.inverse.subs(proof.a, formulas.value),
        formulas.loss.subs(proof.a, formulas.value),
    )
    for expression, slope, start in zip(
        of_output, (proof.sp.Integer(1), formulas.value - y), (z, proof.loss), strict=True
    ):
        proof.verify_derivative(expression, slope, "the form in terms of the output")
        proof.verify(expression.subs(z, 0), start.subs(z, 0), "its constant")
    return Step(
        "In terms of the output",
        f"For {formulas.outputs} the output determines $z$; put into the result:",
        (Equation("z", (formulas.inverse,)), Equation("L", (formulas.loss,))),
    )


def _gradient_step(proof: Proof) -> Step:
    z, w, x, y, formulas = proof.z, proof.w, proof.x, proof.y, proof.formula
    proof.verify_derivative(proof.loss, formulas.value - y, "the gradient of the result by z")
    rights: tuple[Any, ...] = ("(dΣ/dz − y) · ∂z/∂w", "(σ(z) − y) · x", "(a − y) · x")
    if not formulas.kinked:
        inner = w * x + proof.b
        gradient = (formulas.value.subs(z, inner) - y) * x
        proof.verify(proof.sp.diff(proof.loss.subs(z, inner), w), gradient, "the gradient by w")
        rights = (gradient, *rights[1:])
    return Step(
        "The proof",
        "Differentiate the result by the weight. The derivative of the activation is gone: the "
        "demand is met" + (", on either side of $z = 0$." if formulas.kinked else "."),
        (Equation("∂L/∂w", rights),),
    )


def _convexity_step(proof: Proof) -> Step:
    slope = proof.formula.slope
    proof.verify_derivative(proof.formula.value - proof.y, slope, "the second derivative")
    _verify_rank(proof)
    if proof.flat_sides:
        in_z = (
            "The second derivative is $σ'(z) ≥ 0$ on either side of $z = 0$, so the loss is convex "
            "in $z$. It is not strictly convex: where $σ' = 0$ it is the straight line $−y z$."
        )
    elif proof.has_slope_at_zero:
        in_z = (
            "The second derivative is $σ'(z)$: the loss is strictly convex in $z$ because $σ' > 0$."
        )
    else:
        in_z = (
            "The second derivative is $σ'(z)$ on either side of $z = 0$, where $σ$ has a kink but "
            "no jump: the loss is strictly convex in $z$ because $σ' > 0$."
        )
    rank = "rank one" if not proof.flat_sides else "rank one, or zero where $σ' = 0$"
    sign = "≥ 0" if proof.flat_sides else "> 0"
    return Step(
        "Its shape",
        f"{in_z} It is convex in $w$ and $b$, but not strictly: the Hessian has {rank}, since the "
        "loss does not change where $w x + b$ stays the same. Every minimum of a convex loss is "
        "global, and the derivative by $z$ is the error: no large error waits on a plateau.",
        (
            Equation("d²L/dz²", ("σ'(z)", slope, sign)),
            Equation("∂²L/∂(w, b)²", ("σ'(z) · (x², x; x, 1)",)),
            Equation("det (x², x; x, 1)", ("x² · 1 − x · x", "0")),
        ),
    )


def _verify_rank(proof: Proof) -> None:
    """Prove the Hessian in w and b of every function of w x + b, and that it is singular."""
    sp, w, x, b = proof.sp, proof.w, proof.x, proof.b
    loss = sp.Function("L")
    hessian = sp.hessian(loss(w * x + b), (w, b)).doit()
    curvature = sp.diff(loss(proof.z), proof.z, 2).subs(proof.z, w * x + b).doit()
    expected = curvature * sp.Matrix([[x**2, x], [x, 1]])
    for entry, value in zip(hessian, expected, strict=True):
        proof.verify(entry, value, "the Hessian in w and b")
    proof.verify(hessian.det(), 0, "the Hessian in w and b is singular")


def _quadrature_step(proof: Proof) -> Step:
    error = proof.quadrature_error
    return Step(
        "A check by numbers",
        f"For $y = {_CHECK_TARGET}$ the integral of $σ(s) − y$ from 0 to $z$ was taken by "
        f"quadrature, in arithmetic of {_CHECK_DIGITS} digits, and compared with $L(z) − L(0)$ at "
        f"{len(_CHECK_POINTS)} points between {min(_CHECK_POINTS)} and {max(_CHECK_POINTS)}. "
        f"The largest difference, relative to the larger of 1 and the integral, was {error:.1e}.",
    )


def _why_not(activation: Activation, proof: Proof) -> str:
    """Return why an activation that is not monotone has no matching loss, with its numbers."""
    sp, z, slope = proof.sp, proof.z, proof.formula.slope
    proof.verify_derivative(proof.formula.value, slope, "the derivative of the activation")
    turn = sp.nsolve(slope, z, -1)
    below = turn - 1
    return (
        f"{activation.name} has no matching loss: σ(z) = {rendering.plain(proof.formula.value)} is "
        f"not monotone. Its derivative is negative for z < {float(turn):.4f} (at z = "
        f"{float(below):.4f} it is {float(slope.subs(z, below)):.4f}). A loss with the gradient "
        "σ(z) − y would have this derivative for its curvature: it would not be convex, and where "
        "that is negative an output that meets its target would be a maximum of it. Train it with "
        "the quadratic loss, or derive the loss of an increasing activation"
    )
