// The training of one neuron in float64, as `plateaumap.simulate` computes it.
// No expression contains 1 - a, so the results are accurate in saturation too.
"use strict";
const Neuron = (() => {
  const softplusRemainder = (z) => Math.log1p(Math.exp(-Math.abs(z)));
  // sigma(z) and sigma(-z).
  const sigmoidPair = (z) => {
    const e = Math.exp(-Math.abs(z));
    const large = 1 / (1 + e), small = e / (1 + e);
    return z >= 0 ? [large, small] : [small, large];
  };
  // An odd activation with outputs in (-1, 1). tail(t) is 1 - value(t) for t >= 0.
  const odd = (value, tail, slope, integral) => ({
    value, slope, integral,
    error: (z, y) => {
      const sign = z < 0 ? -1 : 1;
      return Math.abs(z) > 0.5 ? sign * ((1 - sign * y) - tail(Math.abs(z))) : value(z) - y;
    },
  });
  const plain = (value, slope, integral) =>
    ({ value, slope, integral, error: (z, y) => value(z) - y });

  // value is the output, slope its derivative, error output - y, integral that of value.
  const ACTIVATIONS = {
    sigmoid: {
      value: (z) => sigmoidPair(z)[0],
      slope: (z) => { const [a, s] = sigmoidPair(z); return a * s; },
      error: (z, y) => { const [a, s] = sigmoidPair(z); return (1 - y) * a - y * s; },
      // The matching loss without cancellation for y in {0, 1}.
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

  // Return the loss as a function of z and y and its derivative dC/dz, or null if it is unknown.
  function lossOf(activation, loss) {
    if (!Object.hasOwn(ACTIVATIONS, activation)) return null;
    const f = ACTIVATIONS[activation];
    if (loss === "quadratic") {
      return {
        value: (z, y) => f.error(z, y) ** 2 / 2,
        gradient: (z, y) => f.error(z, y) * f.slope(z),
      };
    }
    if (loss === "matching" || (loss === "cross_entropy" && activation === "sigmoid")) {
      return { value: f.matching ?? ((z, y) => f.integral(z) - y * z), gradient: f.error };
    }
    return null;
  }

  // Return w and b after one update with the gradient dC/dz.
  const update = (w, b, { lr, x }, gradient) => [w - lr * (gradient * x), b - lr * gradient];

  // Return the epochs to draw: evenly spread, denser at the beginning, and those marked.
  function drawnEpochs(last, marked) {
    const epochs = new Set([0, last, ...marked.filter((n) => n >= 0 && n <= last)]);
    for (let i = 0; i <= 1000; i++) {
      epochs.add(Math.round(last * i / 1000));
      epochs.add(Math.min(last, Math.round((last + 1) ** (i / 1000)) - 1));
    }
    return [...epochs].sort((one, other) => one - other);
  }

  // Return columns of the run from `point` (w0, b0, lr, x, y) at drawn epochs from 0 to `last`,
  // or null if the page does not know the loss.
  function curve(activation, loss, point, last, marked = []) {
    const chosen = lossOf(activation, loss);
    if (chosen === null) return null;
    const epoch = drawnEpochs(last, marked);
    const columns = { epoch, loss: [], output: [], w: [], b: [] };
    let w = point.w0, b = point.b0, next = 0;
    for (let n = 0; next < epoch.length; n++) {
      const z = w * point.x + b;
      if (n === epoch[next]) {
        columns.loss.push(chosen.value(z, point.y));
        columns.output.push(ACTIVATIONS[activation].value(z));
        columns.w.push(w);
        columns.b.push(b);
        next++;
      }
      [w, b] = update(w, b, point, chosen.gradient(z, point.y));
    }
    return columns;
  }

  return { curve, lossOf, activations: Object.keys(ACTIVATIONS) };
})();
