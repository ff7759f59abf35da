/* A small sigmoid network, its gradient, and three ways to read the image out of it.
 *
 * logits = V2 sigma(V1 x + b1) + b2, the loss is the cross-entropy with the probabilities q.
 * Weights and gradients are {"fc1.weight", "fc1.bias", "fc.weight", "fc.bias"}, as in leaklib,
 * flat and row by row. No function here is given the private image, save `gradient`.
 */
const leakAttack = (() => {
  "use strict";

  const NAMES = ["fc1.weight", "fc1.bias", "fc.weight", "fc.bias"];

  // ---- vectors and matrices

  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const times = (A, x) => {
    const y = new Float64Array(A.length / x.length);
    for (let i = 0, k = 0; i < y.length; i++) {
      let sum = 0;
      for (let j = 0; j < x.length; j++, k++) sum += A[k] * x[j];
      y[i] = sum;
    }
    return y;
  };
  const transposedTimes = (A, y) => {
    const x = new Float64Array(A.length / y.length);
    for (let i = 0, k = 0; i < y.length; i++)
      for (let j = 0; j < x.length; j++, k++) x[j] += A[k] * y[i];
    return x;
  };
  const outer = (a, b) => {
    const A = new Float64Array(a.length * b.length);
    for (let i = 0, k = 0; i < a.length; i++)
      for (let j = 0; j < b.length; j++, k++) A[k] = a[i] * b[j];
    return A;
  };
  const add = (a, b, scale = 1) => a.map((value, i) => value + scale * b[i]);
  const multiply = (a, b) => a.map((value, i) => value * b[i]);
  const softmax = (z) => {
    const most = z.reduce((a, b) => Math.max(a, b));
    const e = z.map((value) => Math.exp(value - most));
    const sum = e.reduce((a, b) => a + b);
    return e.map((value) => value / sum);
  };

  // ---- chance: mulberry32, so that a seed gives the same numbers in every browser

  const uniform = (seed) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = (seed) => {
    const u = uniform(seed); // Box and Muller
    return () => Math.sqrt(-2 * Math.log(1 - u())) * Math.cos(2 * Math.PI * u());
  };

  // ---- the client

  /** Weights as PyTorch draws them: every entry from U(-1, 1) / sqrt(inputs of its layer). */
  const network = (inputs, hidden, classes, seed) => {
    const u = uniform(seed);
    const drawn = (count, fanIn) =>
      Float64Array.from({ length: count }, () => (2 * u() - 1) / Math.sqrt(fanIn));
    return {
      "fc1.weight": drawn(hidden * inputs, inputs),
      "fc1.bias": drawn(hidden, inputs),
      "fc.weight": drawn(classes * hidden, hidden),
      "fc.bias": drawn(classes, hidden),
    };
  };

  const oneHot = (label, classes) =>
    Float64Array.from({ length: classes }, (_, i) => (i === label ? 1 : 0));

  const forward = (W, x, q) => {
    // h = sigma(V1 x + b1),  p = softmax(V2 h + b2)
    const h = add(times(W["fc1.weight"], x), W["fc1.bias"]).map((a) => 1 / (1 + Math.exp(-a)));
    const p = softmax(add(times(W["fc.weight"], h), W["fc.bias"]));
    // e = p - q,  u = V2' e,  s = h (1 - h),  d = u s
    const e = add(p, q, -1);
    const u = transposedTimes(W["fc.weight"], e);
    const s = h.map((value) => value * (1 - value));
    return { h, p, e, u, s, d: multiply(u, s) };
  };

  /** g(W, x, q): dl/dV1 = d x', dl/db1 = d, dl/dV2 = e h', dl/db2 = e. */
  const gradient = (W, x, q) => {
    const { h, e, d } = forward(W, x, q);
    return { "fc1.weight": outer(d, x), "fc1.bias": d, "fc.weight": outer(e, h), "fc.bias": e };
  };

  // ---- what a client may do to it: leaklib.defenses.gaussian(sigma, relative=True) and prune(p)

  const gaussian = (g, sigma, seed) => {
    const count = NAMES.reduce((sum, name) => sum + g[name].length, 0);
    const rms = Math.sqrt(NAMES.reduce((sum, name) => sum + dot(g[name], g[name]), 0) / count);
    const z = normal(seed);
    return every((name) => g[name].map((value) => value + sigma * rms * z()));
  };

  const prune = (g, p) =>
    every((name) => {
      const dropped = Math.floor(p * g[name].length);
      const order = Array.from(g[name].keys());
      order.sort((i, j) => Math.abs(g[name][i]) - Math.abs(g[name][j]));
      const kept = Float64Array.from(g[name]);
      order.slice(0, dropped).forEach((i) => (kept[i] = 0));
      return kept;
    });

  const every = (fn) => Object.fromEntries(NAMES.map((name) => [name, fn(name)]));

  // ---- the server

  /** iDLG's rule: the one class whose bias gradient p_c - 1 is below zero, the lowest of all. */
  const label = (g) => g["fc.bias"].indexOf(g["fc.bias"].reduce((a, b) => Math.min(a, b)));

  /** x = sum_i db_i dV_i / sum_i db_i^2, for every row of dl/dV1 is db_i times x. */
  const invert = (g) => {
    const db = g["fc1.bias"];
    const size = dot(db, db);
    return transposedTimes(g["fc1.weight"], db).map((sum) => sum / size);
  };

  /** D(z) = || g(W, x, softmax(v)) - g* ||^2 of z = [x, v], with its gradient. */
  const matching = (W, g) => {
    const inputs = g["fc1.weight"].length / g["fc1.bias"].length;
    const apart = (name, mine) => add(mine, g[name], -1);
    return (z) => {
      const x = z.subarray(0, inputs);
      const q = softmax(z.subarray(inputs));
      const { h, p, e, u, s, d } = forward(W, x, q);
      const R1 = apart("fc1.weight", outer(d, x));
      const r1 = apart("fc1.bias", d);
      const R2 = apart("fc.weight", outer(e, h));
      const r2 = apart("fc.bias", e);
      const value = [R1, r1, R2, r2].reduce((sum, r) => sum + dot(r, r), 0);

      // Backwards, halved: a name in capitals is half of dD/d(that name).
      const D = add(times(R1, x), r1); // from d x' and d
      const U = multiply(D, s); // d = u s
      const S = multiply(D, u);
      const E = add(add(times(R2, h), r2), times(W["fc.weight"], U)); // e h', e, u = V2' e
      const EP = dot(E, p);
      const A2 = p.map((value, i) => value * (E[i] - EP)); // p = softmax(a2), e = p - q
      const EQ = dot(E, q);
      const V = q.map((value, i) => -value * (E[i] - EQ)); // q = softmax(v)
      const H = add(transposedTimes(R2, e), transposedTimes(W["fc.weight"], A2));
      const A1 = h.map((value, i) => (H[i] + S[i] * (1 - 2 * value)) * s[i]); // s = h (1 - h)
      const X = add(transposedTimes(R1, d), transposedTimes(W["fc1.weight"], A1));

      const slope = new Float64Array(z.length);
      slope.set(X);
      slope.set(V, inputs);
      return { value, slope: slope.map((half) => 2 * half) };
    };
  };

  /** L-BFGS with backtracking from z: yields {z, value, evaluations} after every step.
   *
   * Ends when no step along the slope lowers f any more, which is where rounding begins.
   */
  function* lbfgs(f, z, history = 60) {
    let { value, slope } = f(z);
    let evaluations = 1;
    let pairs = [];
    yield { z, value, evaluations };
    while (true) {
      let direction = step(slope, pairs);
      let downhill = dot(direction, slope);
      if (!(downhill < 0)) {
        pairs = [];
        direction = step(slope, pairs);
        downhill = dot(direction, slope);
      }
      let length = 1;
      let next = null;
      let candidate = null;
      for (let tries = 0; tries < 30; tries++, length /= 2) {
        candidate = add(z, direction, length);
        next = f(candidate);
        evaluations++;
        if (next.value <= value + 1e-4 * length * downhill) break;
        next = null;
      }
      if (!next) {
        if (!pairs.length) return;
        pairs = [];
        continue;
      }
      const moved = add(candidate, z, -1);
      const turned = add(next.slope, slope, -1);
      const curvature = dot(moved, turned);
      if (curvature > 1e-12 * dot(turned, turned))
        pairs = [...pairs, { moved, turned, curvature }].slice(-history);
      [z, value, slope] = [candidate, next.value, next.slope];
      yield { z, value, evaluations };
    }
  }

  /** Minus the inverse Hessian of the pairs times the slope: the two loops of L-BFGS. */
  const step = (slope, pairs) => {
    let r = slope.map((value) => -value);
    if (!pairs.length) return r.map((value) => value / Math.max(Math.sqrt(dot(r, r)), 1e-300));
    const alphas = [...pairs].reverse().map(({ moved, turned, curvature }) => {
      const alpha = dot(moved, r) / curvature;
      r = add(r, turned, -alpha);
      return alpha;
    });
    const { turned, curvature } = pairs[pairs.length - 1];
    const scale = curvature / dot(turned, turned);
    r = r.map((value) => value * scale);
    pairs.forEach(({ moved, turned, curvature }, i) => {
      const beta = dot(turned, r) / curvature;
      r = add(r, moved, alphas[pairs.length - 1 - i] - beta);
    });
    return r;
  };

  /** Deep leakage from gradients: image and label together, from a grey image. */
  const dlg = (W, g) => {
    const inputs = g["fc1.weight"].length / g["fc1.bias"].length;
    const start = new Float64Array(inputs + g["fc.bias"].length);
    start.fill(0.5, 0, inputs);
    return lbfgs(matching(W, g), start);
  };

  /** Peak signal to noise ratio in dB, both clamped to [0, 1]. */
  const psnr = (mine, truth) => {
    const within = (value) => Math.min(Math.max(value, 0), 1);
    const error = mine.reduce((sum, v, i) => sum + (within(v) - within(truth[i])) ** 2, 0);
    return -10 * Math.log10(error / mine.length);
  };

  return {
    NAMES, dlg, dot, gaussian, gradient, invert, label, lbfgs, matching, network, oneHot, prune,
    psnr, softmax,
  };
})();
