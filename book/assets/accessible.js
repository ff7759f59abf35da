/* What a keyboard needs and the theme does not give. */

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

/* The theme takes the focus from its buttons when they are pressed, so that no tooltip stays under
   the mouse. Who presses them by a key keeps it: else there is no way back from the menu. */
addEventListener("DOMContentLoaded", () => {
  const theirs = ".theme-switch-button, .search-button, .primary-toggle, .secondary-toggle";
  for (const button of document.querySelectorAll(theirs)) {
    button.blur = () => {
      if (!button.matches(":focus-visible")) HTMLElement.prototype.blur.call(button);
    };
  }
});
