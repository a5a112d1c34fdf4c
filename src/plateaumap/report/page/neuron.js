// One neuron under gradient descent, in float64 as `plateaumap.simulate` has it.
// Nothing is computed as 1 - a, so that saturation is right here too.
"use strict";
const Neuron = (() => {
  const softplusRemainder = (z) => Math.log1p(Math.exp(-Math.abs(z)));
  const sigmoidPair = (z) => {
    const e = Math.exp(-Math.abs(z));
    const large = 1 / (1 + e), small = e / (1 + e);
    return z >= 0 ? [large, small] : [small, large];
  };
  // An odd activation with outputs in (-1, 1); tail(t) is 1 - value(t) for t >= 0.
  const odd = (value, tail, slope, integral) => ({
    value, slope, integral,
    error: (z, y) => {
      const sign = z < 0 ? -1 : 1;
      return Math.abs(z) > 0.5 ? sign * ((1 - sign * y) - tail(Math.abs(z))) : value(z) - y;
    },
  });
  const plain = (value, slope, integral) =>
    ({ value, slope, integral, error: (z, y) => value(z) - y });

  const ACTIVATIONS = {
    sigmoid: {
      value: (z) => sigmoidPair(z)[0],
      slope: (z) => { const [a, s] = sigmoidPair(z); return a * s; },
      error: (z, y) => { const [a, s] = sigmoidPair(z); return (1 - y) * a - y * s; },
      // Asymptote less target, times z, and what is left: nothing cancels for y in {0, 1}.
      matching: (z, y) => (z > 0 ? 1 - y : -y) * z + softplusRemainder(z),
    },
    tanh: odd(Math.tanh, (t) => 2 * sigmoidPair(2 * t)[1],
      (z) => { const [a, s] = sigmoidPair(2 * z); return 4 * a * s; },
      (z) => Math.abs(z) + softplusRemainder(2 * z) - Math.LN2),
    softsign: odd((z) => z / (1 + Math.abs(z)), (t) => 1 / (1 + t),
      (z) => (1 + Math.abs(z)) ** -2, (z) => Math.abs(z) - Math.log1p(Math.abs(z))),
    algebraic: odd((z) => z / Math.hypot(1, z),
      (t) => 1 / (Math.hypot(1, t) + t) / Math.hypot(1, t),
      (z) => (1 + z * z) ** -1.5, (z) => Math.hypot(1, z)),
    identity: plain((z) => z, () => 1, (z) => z * z / 2),
    relu: plain((z) => Math.max(z, 0), (z) => (z > 0 ? 1 : 0), (z) => Math.max(z, 0) ** 2 / 2),
    leaky_relu: plain((z) => (z > 0 ? z : 0.01 * z), (z) => (z > 0 ? 1 : 0.01),
      (z) => (z > 0 ? z : 0.01 * z) * z / 2),
  };

  // The loss from z and its derivative in z, or null if it is not known here.
  function lossOf(activation, loss) {
    const f = Object.hasOwn(ACTIVATIONS, activation) ? ACTIVATIONS[activation] : null;
    if (f === null) return null;
    if (loss === "quadratic") {
      return {
        value: (z, y) => f.error(z, y) ** 2 / 2,
        gradient: (z, y) => f.error(z, y) * f.slope(z),
      };
    }
    if (loss === "matching" || (loss === "cross_entropy" && activation === "sigmoid")) {
      const value = f.matching ?? ((z, y) => f.integral(z) - y * z);
      return { value, gradient: f.error };
    }
    return null;
  }

  // The epochs to keep: evenly spread, denser at the beginning, and those asked for.
  function chosenEpochs(last, wanted) {
    const epochs = new Set([0, last, ...wanted.filter((n) => n >= 0 && n <= last)]);
    for (let i = 0; i <= 1000; i++) {
      epochs.add(Math.round(last * i / 1000));
      epochs.add(Math.min(last, Math.round((last + 1) ** (i / 1000)) - 1));
    }
    return [...epochs].sort((one, other) => one - other);
  }

  // Rows at the chosen epochs of 0 … last of the run from `point` (w0, b0, lr, x, y).
  function curve(activation, loss, point, last, wanted = []) {
    const chosen = lossOf(activation, loss);
    if (chosen === null) return null;
    const { lr, x, y } = point, { value } = ACTIVATIONS[activation];
    const epoch = chosenEpochs(last, wanted);
    const rows = { epoch, loss: [], output: [], w: [], b: [] };
    let w = point.w0, b = point.b0, next = 0;
    for (let n = 0; next < epoch.length; n++) {
      const z = w * x + b;
      if (n === epoch[next]) {
        rows.loss.push(chosen.value(z, y));
        rows.output.push(value(z));
        rows.w.push(w);
        rows.b.push(b);
        next++;
      }
      const gradient = chosen.gradient(z, y);
      w -= lr * (gradient * x);
      b -= lr * gradient;
    }
    return rows;
  }

  return { curve, knows: (activation, loss) => lossOf(activation, loss) !== null };
})();
