"""The derivation: its results against the code, its steps and text against calculations by hand."""

import subprocess
import sys
import time

import mpmath
import numpy as np
import pytest
import sympy as sp
from tests.accuracy import compute
from tests.exact_activations import INNER_TARGETS, INTEGRALS, SLOPES, VALUES

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.activations import ACTIVATIONS
from plateaumap.neuron.losses import matching_of
from plateaumap.queries.derive.derivation import Proof, derive
from plateaumap.queries.derive.formulas import formula, symbols

Z, A, Y = symbols()
WITHOUT_INVERSE = {"relu"}
POINTS = np.array([-6.0, -1.5, -0.25, 0.5, 2.0, 7.0])


@pytest.fixture(scope="module")
def derivations():
    return {name: derive(name) for name in INTEGRALS}


@pytest.mark.parametrize("name", INTEGRALS)
def test_the_loss_that_is_derived_is_the_loss_that_is_trained(name, derivations):
    for y in INNER_TARGETS[name]:
        symbolic = sp.lambdify((Z, Y), derivations[name].loss, "mpmath")
        derived = [float(mpmath.re(symbolic(mpmath.mpf(z), mpmath.mpf(y)))) for z in POINTS]
        trained = compute(matching_of(name).value, POINTS, np.full_like(POINTS, y))
        np.testing.assert_allclose(trained, derived, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", sorted(set(INTEGRALS) - WITHOUT_INVERSE))
def test_the_loss_of_the_output_is_the_loss_of_z(name, derivations):
    derivation = derivations[name]
    of_z = sp.lambdify((Z, Y), derivation.loss, "mpmath")
    of_output = sp.lambdify((A, Y), derivation.loss_of_output, "mpmath")
    value = sp.lambdify(Z, formula(name).value, "mpmath")
    y = mpmath.mpf(0.3)
    with mpmath.workdps(60):
        for z in map(mpmath.mpf, POINTS):
            assert abs(of_output(value(z), y) - of_z(z, y)) < 1e-30


def test_an_output_that_does_not_determine_z(derivations):
    assert derivations["relu"].loss_of_output is None
    text = derivations["relu"].to_text()
    reason = "Not possible: every z ≤ 0 gives the output 0, so that a does not determine z."
    assert reason in " ".join(text.split())


@pytest.mark.parametrize("name", VALUES)
def test_the_formulas_are_the_activations(name):
    formulas = formula(name)
    for symbolic, exact in (
        (formulas.value, VALUES),
        (formulas.slope, SLOPES),
        (formulas.integral, INTEGRALS),
    ):
        if symbolic is None:
            continue
        function = sp.lambdify(Z, symbolic, "mpmath")
        for z in map(mpmath.mpf, POINTS):
            assert mpmath.almosteq(function(z), exact[name](z), 1e-12, 1e-12)


@pytest.mark.parametrize("name", INTEGRALS)
def test_quadrature_agrees(name, derivations):
    assert derivations[name].quadrature_error < 1e-28
    assert f"was {derivations[name].quadrature_error:.1e}." in derivations[name].to_text()


def test_the_steps_of_the_sigmoid(derivations):
    text = derivations["sigmoid"].to_text()
    titles = [step.title for step in derivations["sigmoid"].steps]
    assert titles == [
        "The quadratic loss",
        "The factor that slows learning down",
        "The demand",
        "What the chain rule makes of it",
        "The integral",
        "Partial fractions",
        "The substitution",
        "The result",
        "The proof",
        "Its shape",
        "A check by numbers",
    ]
    for equation in (
        "∂C/∂w = dC/da · da/dz · ∂z/∂w = (a - y) · σ'(z) · x",
        "σ'(z) = exp(-z)/(1 + exp(-z))² = a (1 - a)",
        "∂L/∂w = (a - y) · x",
        "∂L/∂w = dL/da · σ'(z) · x",
        "dL/da = (a - y)/σ'(z) = (a - y)/(a (1 - a))",
        "L = ∫ dL/da da = ∫ (a - y)/(a (1 - a)) da",
        "(a - y)/(a (1 - a)) = A/a + B/(1 - a)",
        "a - y = A (1 - a) + B a",
        "A = -y for a = 0",
        "B = 1 - y for a = 1",
        "dL/da = (1 - y)/(1 - a) - y/a",
        "∫ -y/a da = -y ln(a)",
        "= -(1 - y) ln(u)",
        "= -(1 - y) ln(1 - a)",
        "L = -y ln(a) - (1 - y) ln(1 - a)",
        "L = y ln(1 + exp(-z)) + (1 - y) ln(1 + exp(z))",
        "= ln(1 + exp(z)) - y z",
        "d²L/dz² = σ'(z) = exp(-z)/(1 + exp(-z))² > 0",
    ):
        assert equation in text
    assert (
        sp.simplify(sp.diff(derivations["sigmoid"].loss_of_output, A) * A * (1 - A) - (A - Y)) == 0
    )


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("tanh", "L = Σ(z) - y z = ln(cosh(z)) - y z"),
        ("softplus", "L = Σ(z) - y z = -y z - Li₂(-exp(z))"),
        ("probit", "Σ(z) = z (1/2 + erf(√2 z/2)/2) + √2 exp(-z²/2)/(2 √π)"),
        ("softsign", "L = Σ(z) - y z = |z| - y z - ln(1 + |z|)"),
        ("atan", "L = Σ(z) - y z = (2 z atan(z) - ln(1 + z²))/π - y z"),
        ("relu", "L = Σ(z) - y z = {z²/2 for z > 0, 0 otherwise} - y z"),
        ("algebraic", "L = (1 - a y)/√(1 - a²)"),
        ("exp", "L = a - y ln(a)"),
        ("identity", "It is the quadratic loss again, less the constant y²/2."),
    ],
)
def test_the_results_in_the_text(name, result, derivations):
    assert result in derivations[name].to_text()


def test_the_text_about_slowdown(derivations):
    def text(name):
        return derivations[name].steps[1].sentence

    assert "vanishes at both ends" in text("tanh")
    assert "vanishes for large negative $z$" in text("softplus")
    assert "is zero for every negative $z$" in text("relu")
    assert "is never zero" in text("leaky_relu")
    assert "is 1" in text("identity")


def test_the_substituted_numerators_are_those_of_the_fraction():
    a_, b_ = sp.symbols("A B")
    solved = sp.solve([sp.Eq(A - Y, a_ * (1 - A) + b_ * A).subs(A, at) for at in (0, 1)], (a_, b_))
    assert solved == {a_: -Y, b_: 1 - Y}
    assert (
        sp.simplify(sp.apart((A - Y) / (A * (1 - A)), A) - solved[a_] / A - solved[b_] / (1 - A))
        == 0
    )


FLAT, KINKED = {"relu"}, {"relu", "leaky_relu"}
"""Activations with a zero slope on one side, and those without a slope at z = 0."""


@pytest.mark.parametrize("name", INTEGRALS)
def test_the_text_about_convexity_is_true(name, derivations):
    """Check the second derivative in z and the Hessian in w and b against the text."""
    text = " ".join(derivations[name].to_text().split("Its shape")[1].split())
    loss = sp.lambdify((Z, Y), derivations[name].loss, "mpmath")
    x, y = mpmath.mpf(1.5), mpmath.mpf(0.3)
    with mpmath.workdps(40):
        values = [float(mpmath.re(mpmath.diff(lambda z: loss(z, y), z, 2))) for z in POINTS]
        entries = [
            mpmath.re(mpmath.diff(lambda w, b: loss(w * x + b, y), (0.5, 0.3), order))
            for order in ((2, 0), (1, 1), (0, 2))
        ]
    assert all(value >= 0 for value in values)
    strictly = all(value > 0 for value in values)
    assert strictly == (name not in FLAT)
    assert ("strictly convex in z because σ' > 0" in text) == strictly
    assert ("It is not strictly convex" in text) == (not strictly)
    assert "convex in w and b, but not strictly: the Hessian has rank one" in text
    assert ("rank one, or zero where σ' = 0" in text) == (name in FLAT)
    assert ("on either side of z = 0" in text) == (name in KINKED)
    assert entries[0] + entries[2] > 0
    assert float(entries[0] * entries[2] - entries[1] ** 2) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", INTEGRALS)
def test_the_chain_rule_gives_the_demand(name, derivations):
    """dL/da times σ'(z) times x is (a − y) x, wherever the factor is not zero."""
    step = derivations[name].steps[3]
    assert step.title == "What the chain rule makes of it"
    assert step.equations[-1].rights[0] == "(a − y)/σ'(z)"
    for form in step.equations[-1].rights[1:]:
        ready = sp.lambdify((A, Y), form, "mpmath")
        for z in map(mpmath.mpf, POINTS):
            output = VALUES[name](z)
            product = ready(output, mpmath.mpf(0.3)) * SLOPES[name](z)
            assert mpmath.almosteq(product, output - mpmath.mpf(0.3), 1e-9)
    assert ("wherever $σ'(z)$ is not zero" in step.sentence) == (name in FLAT)


@pytest.mark.parametrize("name", INTEGRALS)
def test_the_text_about_the_factor_is_true(name, derivations):
    text = derivations[name].steps[1].sentence
    low, high = (SLOPES[name](mpmath.mpf(z)) for z in (-1e8, 1e8))
    vanishing = (low < 1e-3, high < 1e-3)
    assert ("vanishes at both ends" in text) == (vanishing == (True, True))
    assert ("large negative $z$" in text) == (vanishing == (True, False) and name not in FLAT)
    assert ("is zero for every negative $z$" in text) == (name in FLAT)
    assert ("The factor is 1:" in text) == (name == "identity")
    assert ("not exist at $z = 0$" in text) == (name in KINKED)


def test_remarks_are_true():
    tanh = formula("tanh").loss
    entropy = formula("sigmoid").loss.subs({A: (1 + A) / 2, Y: (1 + Y) / 2}, simultaneous=True)
    assert sp.simplify(sp.expand_log(entropy - sp.log(2) - tanh, force=True)) == 0
    assert sp.expand((A - Y) ** 2 / 2 - Y**2 / 2 - formula("identity").loss) == 0


def test_latex_and_markdown(derivations):
    for name, derivation in derivations.items():
        latex, markdown = derivation.to_latex(), derivation.to_markdown()
        assert latex.startswith(rf"\section*{{The loss without slowdown: {name}".replace("_", r"_"))
        assert latex.count(r"\begin{equation}") == latex.count(r"\end{equation}") > 8
        assert markdown.startswith(f"# The loss without slowdown: {name}\n")
        assert markdown.count("$$") == 2 * latex.count(r"\begin{equation}")
        for rendered in (latex, markdown):
            assert not set("σΣ∂∫·→∞−≥≤²") & set(rendered)
            assert r"\frac{\partial C}{\partial w}" in rendered
            opened, closed = rendered.count("{"), rendered.count("}")
            assert opened == closed
    assert r"\ln{\left(1 - a \right)}" in derivations["sigmoid"].to_latex()


@pytest.mark.parametrize(
    ("name", "turn", "beyond"), [("gelu", -0.7518, -0.1108), ("swish", -1.2785, -0.0991)]
)
def test_an_activation_that_is_not_monotone_is_refused_with_the_reason(name, turn, beyond):
    with pytest.raises(PlateaumapError) as caught:
        derive(name)
    message = str(caught.value)
    assert message.startswith(f"{name} has no matching loss: σ(z) = ")
    assert (
        f"Its derivative is negative for z < {turn} (at z = {turn - 1:.4f} it is {beyond})"
        in message
    )
    assert float(SLOPES[name](mpmath.mpf(turn - 1))) == pytest.approx(beyond, abs=1e-4)
    assert f"{turn}" in ACTIVATIONS[name].why_no_matching_loss


def test_an_unknown_activation():
    with pytest.raises(PlateaumapError, match="activation = 'sigmoyd': unknown; did you"):
        derive("sigmoyd")


def test_a_false_claim_is_not_proven():
    proof = Proof(formula("sigmoid"))
    proof.verify(sp.sin(Z) ** 2 + sp.cos(Z) ** 2, sp.Integer(1), "Pythagoras")
    with pytest.raises(RuntimeError, match="not proven: a wrong slope"):
        proof.verify_derivative(proof.formula.value, proof.formula.slope * 2, "a wrong slope")


def test_without_sympy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(PlateaumapError) as caught:
        derive("tanh")
    assert str(caught.value) == (
        "deriving a loss needs SymPy, which is not installed; "
        "install it with: pip install 'plateaumap[derive]'"
    )


def test_sympy_is_imported_only_when_needed():
    code = "import sys, plateaumap.queries.derive.derivation; print('sympy' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout == "False\n"


def test_the_sigmoid_is_derived_in_seconds():
    start = time.perf_counter()
    derive("sigmoid")
    assert time.perf_counter() - start < 5
