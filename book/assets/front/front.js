/* The picture of the front page: two sliders choose a row of tiles out of front/frames.webp. */
(() => {
  "use strict";

  const TILE = 32;
  const GAP = 3;
  const SECONDS = 2.5; // the search runs once by itself, then it is the reader's

  const figure = document.getElementById("leak-front");
  const { names, noise, evaluations, psnr } = leakFront;
  const width = names.length * (TILE + GAP) - GAP;
  const last = evaluations.length - 1;
  const noiseTold = (i) => (noise[i] ? `${noise[i]} × rms` : "none");
  const countTold = (i) => evaluations[i].toLocaleString("en");

  const range = (id, name, most, value, told) => `
    <label>${name}
      <input id="front-${id}" type="range" min="0" max="${most}" step="1" value="${value}"
        aria-valuetext="${told(value)}"><output aria-hidden="true">${told(value)}</output>
    </label>`;
  const row = (id, name) => `
    <div class="front-name">${name}</div>
    <canvas id="front-${id}" width="${width}" height="${TILE}" role="img"></canvas>`;

  const build = () => {
    const live = document.createElement("div");
    live.className = "front-live";
    live.innerHTML = `
      <div class="front-rows">
        <div class="front-titles" aria-hidden="true">
          ${names.map((name) => `<span>${name}</span>`).join("")}
        </div>
        ${row("private", "stayed at home")}
        ${row("rebuilt", "seen by the server")}
      </div>
      <div class="leak-controls">
        ${range("evaluations", "Search", last, last, countTold)}
        ${range("noise", "Noise", noise.length - 1, 0, noiseTold)}
      </div>`;
    figure.prepend(live);
    figure.classList.add("front-ready");
  };

  const median = (scores) => {
    const sorted = [...scores].sort((a, b) => a - b);
    const half = sorted.length / 2;
    return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
  };

  const start = (sprite) => {
    build();
    const at = (id) => figure.querySelector(`#front-${id}`);
    const sliders = [at("evaluations"), at("noise")];
    const caption = figure.querySelector("figcaption");

    const draw = (canvas, frame) => {
      const context = canvas.getContext("2d");
      names.forEach((_, i) => {
        const [from, to] = [i * TILE, i * (TILE + GAP)];
        context.drawImage(sprite, from, frame * TILE, TILE, TILE, to, 0, TILE, TILE);
      });
    };

    const show = () => {
      const [moment, amount] = sliders.map((slider) => Number(slider.value));
      const frame = amount * evaluations.length + moment;
      draw(at("rebuilt"), frame + 1); // the first row of the sprite is the private one
      [countTold(moment), noiseTold(amount)].forEach((told, i) => {
        sliders[i].setAttribute("aria-valuetext", told);
        sliders[i].nextElementSibling.textContent = told;
      });
      const scores = names.map((name, i) => `${name} ${psnr[frame][i]} dB`).join(", ");
      at("rebuilt").setAttribute("aria-label", `What the server rebuilt. PSNR: ${scores}.`);
      const noised = amount ? `, with noise of ${noiseTold(amount)} on it` : "";
      return (
        `After ${countTold(moment)} evaluations on one gradient of each picture${noised}: ` +
        `median PSNR ${median(psnr[frame]).toFixed(1)} dB. ` +
        "Above about 30 dB the eye sees little difference."
      );
    };

    draw(at("private"), 0);
    at("private").setAttribute("aria-label", `The private pictures: ${names.join(", ")}.`);
    show();

    let playing = !window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    sliders.forEach((slider) => {
      // A hand that leaves the slider where it is makes no "input", and stops the search too.
      ["keydown", "pointerdown", "input"].forEach((event) =>
        slider.addEventListener(event, () => (playing = false)),
      );
      slider.addEventListener("input", () => {
        caption.setAttribute("aria-live", "polite");
        caption.textContent = show();
      });
    });
    const begun = performance.now();
    const play = (now) => {
      if (!playing) return;
      const passed = Math.max(now - begun, 0) / (1000 * SECONDS);
      const moment = Math.min(last, Math.floor(last * passed));
      sliders[0].value = moment;
      show();
      if (moment < last) requestAnimationFrame(play);
    };
    if (playing) requestAnimationFrame(play);
  };

  const sprite = new Image();
  sprite.addEventListener("load", () => start(sprite));
  sprite.src = figure.dataset.frames;
})();
