/* A formula that is wider than its column scrolls inside itself, and the keyboard must get there.
   The theme does the same for code and tables. */
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  const OVERHANG = 4; // pixels by which an accent may stand out of its letter
  const reach = () => {
    for (const formula of document.querySelectorAll("mjx-container")) {
      if (formula.scrollWidth > formula.clientWidth + OVERHANG) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    }
  };
  reach();
  addEventListener("resize", reach);
});
