/* The page of the live attack: draws, listens, and calls leakAttack. Nothing leaves the tab. */
(() => {
  "use strict";

  const SIDE = 28;
  const HIDDEN = 36;
  const TILES = 6; // the gradient's 36 rows are shown 6 by 6
  const CLASSES = 10;
  const NOISE = [0, 0.01, 0.03, 0.1, 0.3, 1, 3];
  const PRUNED = [0, 0.5, 0.9, 0.95, 0.99, 0.999];
  const MOST_EVALUATIONS = 600;
  const STEPS_A_FRAME = 1; // slow enough to be watched
  const MATCHED = 1e-16; // of the squared length of the gradient: no closer is worth a step
  const EXACT = 100; // decibels
  const CANVAS =
    'tabindex="0" role="application" aria-roledescription="drawing" aria-label="Your picture, ' +
    '28 by 28. Arrow keys move the pen, space puts it down or lifts it."';

  const root = document.getElementById("leak-live");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  const state = {
    x: new Float64Array(SIDE * SIDE),
    truth: 0,
    seed: 1,
    W: null,
    sent: null,
    search: null,
    now: null,
    curve: [],
    running: false,
    pen: { row: SIDE / 2, column: SIDE / 2, down: false },
  };

  // ---- the page

  const range = (id, name, values, told) => `
    <label for="live-${id}">${name}
      <input id="live-${id}" type="range" min="0" max="${values.length - 1}" step="1" value="0"
        aria-valuetext="${told(0)}"><output for="live-${id}" aria-hidden="true">${told(0)}</output>
    </label>`;
  const panel = (id, number, title, name, said = "") => `
    <section class="live-panel" aria-labelledby="live-${id}-title">
      <h2 class="live-title" id="live-${id}-title">
        <span aria-hidden="true">${number}</span> ${title}
      </h2>
      <div class="live-screen"><canvas id="live-${id}" ${name}></canvas></div>
      <p id="live-${id}-said">${said}</p>
      <div id="live-${id}-extra"></div>
    </section>`;

  const noiseTold = (i) => (NOISE[i] ? `${NOISE[i]} × rms` : "none");
  const pruneTold = (i) => (PRUNED[i] ? `${+(100 * PRUNED[i]).toFixed(1)} % dropped` : "none");

  const build = () => {
    const pictures = Object.keys(leakPictures)
      .map((name) => `<button type="button" data-picture="${name}">${name}</button>`)
      .join("");
    const classes = Array.from({ length: CLASSES }, (_, i) => `<option>${i}</option>`).join("");
    const label = `<label>class <select id="live-label">${classes}</select></label>`;
    root.innerHTML = `
      <div class="live-pick" role="group" aria-label="A picture to begin with">
        <span>Draw, or take</span>
        ${pictures}
        <button type="button" id="live-clear">clear</button>
      </div>
      <div class="live-panels">
        ${panel("draw", 1, "Private", CANVAS, label)}
        ${panel("sent", 2, "Sent", 'role="img"')}
        ${panel("closed", 3, "One division", 'role="img"')}
        ${panel("dlg", 4, "Search", 'role="img"')}
      </div>
      <div class="leak-controls live-controls">
        ${range("noise", "Noise", NOISE, noiseTold)}
        ${range("prune", "Pruning", PRUNED, pruneTold)}
        <div class="live-buttons">
          <button type="button" id="live-run">pause</button>
          <button type="button" id="live-step">one step</button>
          <button type="button" id="live-again">start again</button>
          <button type="button" id="live-network">another network</button>
        </div>
      </div>
      <p class="live-told" id="live-told" role="status"></p>`;
    root.hidden = false;
  };

  const at = (id) => root.querySelector(`#live-${id}`);

  // ---- drawing on canvases

  const paint = (canvas, width, height, colour) => {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    for (let k = 0; k < width * height; k++) {
      const [r, g, b] = colour(Math.floor(k / width), k % width);
      pixels.data.set([r, g, b, 255], 4 * k);
    }
    context.putImageData(pixels, 0, 0);
  };

  const showImage = (canvas, x) =>
    paint(canvas, SIDE, SIDE, (row, column) => {
      const v = 255 * Math.min(Math.max(x[row * SIDE + column], 0), 1);
      return [v, v, v];
    });

  /** Every row of the first layer's gradient as a picture: blue below zero, orange above. */
  const showRows = (canvas, rows) => {
    const most = rows.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-300);
    paint(canvas, TILES * SIDE, TILES * SIDE, (row, column) => {
      const tile = TILES * Math.floor(row / SIDE) + Math.floor(column / SIDE);
      const v = rows[tile * SIDE * SIDE + (row % SIDE) * SIDE + (column % SIDE)] / most;
      const strength = Math.sqrt(Math.abs(v)); // small entries are seen too
      const [r, g, b] = v < 0 ? [86, 180, 233] : [230, 159, 0];
      return [r * strength, g * strength, b * strength];
    });
  };

  const bars = (values, chosen) => {
    const most = values.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-300);
    const drawn = Array.from(values, (value, i) => {
      const height = (20 * Math.abs(value)) / most;
      const y = value < 0 ? 22 : 22 - height;
      const kind = i === chosen ? "live-chosen" : "live-bar";
      return `<rect class="${kind}" x="${10 * i + 1}" y="${y}" width="8" height="${height}"/>
        <text x="${10 * i + 5}" y="54">${i}</text>`;
    });
    return `<svg viewBox="0 0 100 56" aria-hidden="true">${drawn.join("")}
      <line class="live-axis" x1="0" x2="100" y1="22" y2="22"/></svg>`;
  };

  const curve = (points) => {
    const last = Math.max(points.length - 1, 1);
    const logs = points.map((value) => Math.log10(Math.max(value, 1e-30)));
    const [top, bottom] = [Math.max(...logs), Math.min(...logs, Math.max(...logs) - 4)];
    const place = (log, i) =>
      `${((100 * i) / last).toFixed(1)},${(2 + (50 * (top - log)) / (top - bottom)).toFixed(1)}`;
    return `<svg viewBox="0 0 100 56" aria-hidden="true">
      <polyline class="live-curve" points="${logs.map(place).join(" ")}"/></svg>`;
  };

  const decibel = (mine) => {
    const db = leakAttack.psnr(mine, state.x);
    return db > EXACT ? "exact" : `${db.toFixed(1)} dB`;
  };

  // ---- what happens

  /** The client sends; the server divides, reads the label, and begins a search. */
  const send = () => {
    const [noise, pruned] = [NOISE[at("noise").value], PRUNED[at("prune").value]];
    let g = leakAttack.gradient(state.W, state.x, leakAttack.oneHot(state.truth, CLASSES));
    if (pruned) g = leakAttack.prune(g, pruned);
    if (noise) g = leakAttack.gaussian(g, noise, state.seed);
    state.sent = g;

    const divided = leakAttack.invert(g);
    const read = leakAttack.label(g);
    showImage(at("draw"), state.x);
    showRows(at("sent"), g["fc1.weight"]);
    showImage(at("closed"), divided);
    const count = leakAttack.NAMES.reduce((sum, name) => sum + g[name].length, 0);
    at("sent-said").textContent = `${count.toLocaleString("en")} numbers`;
    at("closed-said").textContent = `class ${read} · ${decibel(divided)}`;
    at("closed-extra").innerHTML = bars(g["fc.bias"], read);
    at("sent").setAttribute("aria-label", "The gradient of the first layer: 36 rows as pictures.");
    at("closed").setAttribute(
      "aria-label",
      `What one division gives: class ${read}, ${decibel(divided)} against your picture.`,
    );
    begin();
  };

  const begin = () => {
    state.search = leakAttack.dlg(state.W, state.sent);
    state.curve = [];
    advance(1);
    run(true);
  };

  /** Take so many steps of the search; false when it has ended. */
  const advance = (steps) => {
    const size = leakAttack.NAMES.reduce(
      (sum, name) => sum + leakAttack.dot(state.sent[name], state.sent[name]),
      0,
    );
    let going = true;
    for (let i = 0; i < steps && going; i++) {
      const { value, done } = state.search.next();
      going = !done && value.evaluations < MOST_EVALUATIONS && value.value > MATCHED * size;
      if (value) {
        state.now = value;
        state.curve.push(value.value);
      }
    }
    showSearch();
    return going;
  };

  const found = () => state.now.z.subarray(0, SIDE * SIDE);
  const foundLabel = () => {
    const logits = state.now.z.subarray(SIDE * SIDE);
    return logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
  };

  const showSearch = () => {
    showImage(at("dlg"), found());
    const said = `class ${foundLabel()} · ${decibel(found())}`;
    at("dlg-said").textContent = said;
    at("dlg-extra").innerHTML =
      `${curve(state.curve)}<p class="live-small">${state.now.evaluations} evaluations</p>`;
    const label = `The search after ${state.now.evaluations} evaluations: ${said}.`;
    at("dlg").setAttribute("aria-label", label);
  };

  const told = () => {
    const divided = leakAttack.invert(state.sent);
    at("told").textContent =
      `Read from the gradient: class ${leakAttack.label(state.sent)}. ` +
      `By one division: ${decibel(divided)}. By the search: class ${foundLabel()}, ` +
      `${decibel(found())} after ${state.now.evaluations} evaluations.`;
  };

  const run = (running) => {
    const asleep = !state.running;
    state.running = running;
    at("run").textContent = running ? "pause" : "run";
    if (running && asleep) requestAnimationFrame(frame);
    if (!running) told();
  };

  const frame = () => {
    if (!state.running) return;
    if (advance(calm.matches ? MOST_EVALUATIONS : STEPS_A_FRAME)) requestAnimationFrame(frame);
    else run(false);
  };

  // ---- the pen

  const dab = (row, column) => {
    for (let i = 0; i < SIDE; i++)
      for (let j = 0; j < SIDE; j++) {
        const ink = Math.min(1, 1.9 - Math.hypot(i - row, j - column));
        if (ink > state.x[i * SIDE + j]) state.x[i * SIDE + j] = ink;
      }
  };

  const stroke = (from, to) => {
    const length = Math.hypot(to.row - from.row, to.column - from.column);
    const steps = Math.max(1, Math.ceil(2 * length));
    for (let k = 0; k <= steps; k++)
      dab(
        from.row + ((to.row - from.row) * k) / steps,
        from.column + ((to.column - from.column) * k) / steps,
      );
  };

  let due = false; // at most one gradient a frame, however fast the pen moves
  const changed = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      send();
    });
  };

  const listenToPen = () => {
    const canvas = at("draw");
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return {
        row: ((event.clientY - box.top) / box.height) * SIDE - 0.5,
        column: ((event.clientX - box.left) / box.width) * SIDE - 0.5,
      };
    };
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = place(event);
      stroke(last, last);
      changed();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const next = place(event);
      stroke(last, next);
      last = next;
      changed();
    });
    ["pointerup", "pointercancel"].forEach((name) =>
      canvas.addEventListener(name, () => (last = null)),
    );

    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    canvas.addEventListener("keydown", (event) => {
      const { pen } = state;
      if (event.key === " ") pen.down = !pen.down;
      else if (moves[event.key]) {
        const within = (v) => Math.min(Math.max(v, 0), SIDE - 1);
        pen.row = within(pen.row + moves[event.key][0]);
        pen.column = within(pen.column + moves[event.key][1]);
      } else return;
      event.preventDefault();
      if (pen.down) {
        dab(pen.row, pen.column);
        changed();
      }
      const place = `row ${pen.row + 1}, column ${pen.column + 1}`;
      at("told").textContent = `Pen ${pen.down ? "down" : "up"}, ${place}.`;
      showPen();
    });
    canvas.addEventListener("focus", showPen);
  };

  const showPen = () => {
    const { row, column, down } = state.pen;
    const screen = at("draw").parentElement;
    screen.style.setProperty("--pen-row", (row + 0.5) / SIDE);
    screen.style.setProperty("--pen-column", (column + 0.5) / SIDE);
    screen.dataset.pen = down ? "down" : "up";
  };

  // ---- the controls

  const take = (name) => {
    const bytes = atob(leakPictures[name]);
    state.x = Float64Array.from(bytes, (byte) => byte.charCodeAt(0) / 255);
    if (/^\d$/.test(name)) state.truth = Number(name);
    at("label").value = state.truth;
    send();
  };

  const newNetwork = () => {
    state.W = leakAttack.network(SIDE * SIDE, HIDDEN, CLASSES, state.seed);
  };

  const listen = () => {
    listenToPen();
    root.querySelectorAll("[data-picture]").forEach((button) =>
      button.addEventListener("click", () => take(button.dataset.picture)),
    );
    at("clear").addEventListener("click", () => {
      state.x.fill(0);
      send();
    });
    at("label").addEventListener("change", (event) => {
      state.truth = Number(event.target.value);
      send();
    });
    [["noise", noiseTold], ["prune", pruneTold]].forEach(([id, words]) => {
      const slider = at(id);
      slider.value = 0; // a browser that goes back remembers the slider, but not the page
      slider.addEventListener("input", () => {
        slider.setAttribute("aria-valuetext", words(slider.value));
        slider.nextElementSibling.textContent = words(slider.value);
        changed();
      });
    });
    at("run").addEventListener("click", () => run(!state.running));
    at("step").addEventListener("click", () => {
      run(false);
      advance(1);
      told();
    });
    at("again").addEventListener("click", begin);
    at("network").addEventListener("click", () => {
      state.seed += 1;
      newNetwork();
      send();
    });
  };

  build();
  newNetwork();
  listen();
  take("7");
})();
