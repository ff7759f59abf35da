"""Look at a page of the site as its readers do: in light, in dark, on a telephone, by keyboard.

The tests of the site judge what is found here.
"""

from axe_playwright_python import base as axe

WIDE, NARROW = {"width": 1280, "height": 1000}, {"width": 360, "height": 740}
MOST_STOPS = 600  # of the Tab key on a page; where focus is still inside then, it cannot get out

# What a page shows, read in one go. Code and the sources of formulas are not text. MathJax
# writes a command that it does not know in red.
FACTS = """() => {
    const all = (css) => [...document.querySelectorAll(css)];
    const name = (e) => e.ariaLabel ?? e.getAttribute("aria-labelledby")?.split(" ")
        .map(id => document.getElementById(id).textContent.trim()).join(" ");
    const article = document.querySelector("article, main").cloneNode(true);
    article.querySelectorAll("pre, code, script, style, mjx-container").forEach(e => e.remove());
    return {
        text: article.textContent,
        images: all("img").map(e => ({src: e.src.slice(0, 80), alt: e.alt, width: e.naturalWidth})),
        formulas: all(".math").length,
        unrendered: all(".math").filter(e => !e.querySelector("mjx-container")).length,
        wrong: all("mjx-merror, mjx-container [style*='color: red']").map(e => e.textContent),
        links: all("a[href]").map(e => e.href),
        headings: all("main :is(h1, h2, h3, h4, h5, h6)").filter(e => e.checkVisibility())
            .map(e => [Number(e.tagName[1]), e.textContent]),
        mains: all("main, [role=main]").length,
        navs: all("nav").filter(e => e.checkVisibility()).map(name),
    };
}"""

# By how many pixels the page, or its text alone, is wider than the screen.
TOO_WIDE = """() => [document.documentElement, document.querySelector("article, main")]
    .map(e => e.scrollWidth - e.clientWidth)"""

# axe's rules, its best practices too, but for contrast: each violation as one line.
BARRIERS = """async () => {
    const options = {preload: false, resultTypes: ["violations"],
        rules: {"color-contrast": {enabled: false}, "target-size": {enabled: true}}};
    const told = ({id, impact, help, nodes}) => nodes.map(
        n => `${impact}: ${id} (${help}): ${n.target.join(" ")}: ${n.html.slice(0, 120)}`);
    return (await axe.run(document, options)).violations.flatMap(told);
}"""

# Every word of code has an element of its own, for its colour: half of all that axe has to look at.
PLAIN_CODE = """() => document.querySelectorAll(".highlight pre").forEach(
    e => { e.textContent = e.textContent; })"""

# Contrast takes axe most of its time, and a page has thousands of words in a few dozen looks: one
# of each is enough. A look is what contrast depends on, and that is the colour and size of the
# letters and all that lies under them, down to the first opaque ground.
CONTRAST = """async () => {
    const ground = (e) => {
        if (!e) return "";
        const {backgroundImage, backgroundColor, opacity} = getComputedStyle(e);
        const below = backgroundColor.startsWith("rgb(") ? "" : ground(e.parentElement);
        return [backgroundImage, backgroundColor, opacity] + below;
    };
    const looks = new Map();
    const silent = "script, style, noscript, mjx-container *";
    for (const e of document.body.querySelectorAll(`:not(${silent})`)) {
        const words = [...e.childNodes].some(n => n.nodeType == Node.TEXT_NODE && n.data.trim());
        if (!words || !e.checkVisibility({visibilityProperty: true})) continue;
        const {color, fontSize, fontWeight} = getComputedStyle(e);
        const look = [color, fontSize, fontWeight, ground(e)].join("|");
        if (!looks.has(look)) looks.set(look, e);
    }
    const options = {preload: false, resultTypes: ["violations"], runOnly: ["color-contrast"]};
    const {violations} = await axe.run({include: [...looks.values()]}, options);
    return violations.flatMap(v => v.nodes).map(
        n => `${n.target.join(" ")}: ${n.html.slice(0, 120)}: ${n.any.map(a => a.message)}`);
}"""

# Every element that takes the keyboard, in `stops` the order in which it got it; null is where
# focus left the page.
WATCH = """() => {
    const css = "a[href], button, input, select, textarea, summary, [tabindex]";
    window.waiting = new Set([...document.querySelectorAll(css)].filter(e => e.tabIndex >= 0
        && !e.disabled && e.checkVisibility({visibilityProperty: true})));
    window.kinds = new Map();
    window.stops = [];
    const told = (e) => `${e.tagName.toLowerCase()}.${e.className} "${e.textContent.trim()}"`;
    window.told = (e) => told(e).replace(/\\s+/g, " ").slice(0, 120);
    document.addEventListener("focusin", ({target}) => {
        window.waiting.delete(target);
        window.stops.push(window.told(target));
        const kind = [target, target.parentElement, target.closest("[class]")]
            .map(e => e.tagName + "." + e.className).join(" < ");
        if (!window.kinds.has(kind)) window.kinds.set(kind, target);
    });
    document.addEventListener("focusout", ({relatedTarget}) => {
        if (!relatedTarget) window.stops.push(null);
    });
}"""

FOCUS = """e => {
    e.focus();
    e.scrollIntoView({block: "center"});
    return document.activeElement == e;
}"""
LEAVE = "e => HTMLElement.prototype.blur.call(e)"  # some buttons do not let go at a mere blur()


def at(browser, site, name, kinds):
    """What happened on a page, and what it shows. Requests off the site are stopped.

    kinds: the kinds of controls whose focus was looked at; the page's own are added.
    """
    context = browser.new_context(viewport=WIDE, reduced_motion="reduce", color_scheme="light")
    seen = listen(context, site)
    page = open_page(context, f"{site}{name}.html")
    page.add_style_tag(content="* { transition: none !important; animation: none !important; }")
    page.evaluate("() => document.querySelectorAll('details').forEach(e => e.open = true)")
    seen |= page.evaluate(FACTS)
    seen["bytes when opened"] = seen["bytes"]
    page.evaluate(axe.AXE_SCRIPT)
    seen["faint in light"] = page.evaluate(CONTRAST)
    seen |= walk(page, kinds)
    page.emulate_media(color_scheme="dark")
    resize(page, NARROW)
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    seen["too wide"] = page.evaluate(TOO_WIDE)
    seen["faint in dark"] = page.evaluate(CONTRAST)
    page.evaluate(PLAIN_CODE)
    seen["barriers when narrow"] = page.evaluate(BARRIERS)
    resize(page, WIDE)
    seen["barriers"] = page.evaluate(BARRIERS)
    context.close()
    return seen


def resize(page, size):
    page.set_viewport_size(size)
    page.wait_for_timeout(400)  # the theme looks only after 300 ms what scrolls now


def listen(context, site):
    """What goes wrong in a context from now on, and how many bytes its pages take."""
    seen = {"errors": [], "failed": [], "elsewhere": [], "bytes": 0}

    def only_here(route):
        if route.request.url.startswith((site, "data:", "blob:")):
            return route.continue_()
        seen["elsewhere"].append(route.request.url)
        return route.abort()

    def answered(response):
        seen["bytes"] += int(response.headers.get("content-length", 0))
        if response.status >= 400:
            seen["failed"].append(f"{response.status} {response.url}")

    context.route("**/*", only_here)
    context.on("response", answered)
    context.on("requestfailed", lambda r: seen["failed"].append(r.url))
    context.on("console", lambda m: m.type == "error" and seen["errors"].append(m.text))
    context.on("weberror", lambda error: seen["errors"].append(str(error.error)))
    return seen


def open_page(context, address):
    """Open a page and wait until its formulas are set."""
    page = context.new_page()
    page.goto(address, wait_until="load")
    page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    return page


def walk(page, kinds):
    """Where Tab leads from the top of a page to its end."""
    page.evaluate(WATCH)
    page.keyboard.press("Tab")
    skip = page.evaluate("() => [window.told(document.activeElement), document.activeElement.hash]")
    stops = []
    while None not in stops and len(stops) < MOST_STOPS:
        for _ in range(20):
            page.keyboard.down("Tab")  # held, it moves on
        stops = page.evaluate("() => window.stops")
    page.keyboard.up("Tab")
    missed = page.evaluate("() => [...window.waiting].map(window.told)")
    return {
        "skip": skip,
        "left": None in stops,
        "missed": missed,
        "unseen": unseen(page, kinds),
        "skipped": skipped(page),
    }


def unseen(page, kinds):
    """The new kinds of controls that look the same with focus and without."""
    same = []
    for kind in set(page.evaluate("() => [...window.kinds.keys()]")) - kinds:
        element = page.evaluate_handle("kind => window.kinds.get(kind)", kind).as_element()
        focused = element.evaluate(FOCUS)
        box = element.bounding_box()
        if not focused or box is None:
            continue  # it is there only while the page is scrolled to some place
        kinds.add(kind)
        pixels = around(page, box)
        element.evaluate(LEAVE)
        if around(page, box) == pixels:
            same.append(kind)
    return same


def around(page, box, more=8):
    """The pixels of a place and of its nearest neighbourhood."""
    x, y = max(box["x"] - more, 0), max(box["y"] - more, 0)
    size = {"width": box["width"] + 2 * more, "height": min(box["height"], 300) + 2 * more}
    return page.screenshot(clip={"x": x, "y": y, **size}, animations="disabled")


def skipped(page):
    """Whether the first link leads past all others, to the first stop in the page's own text."""
    page.evaluate("() => document.querySelector('.skip-link a').focus()")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    inside = page.evaluate("() => !!document.activeElement.closest('main')")
    page.evaluate_handle("() => document.activeElement").evaluate(LEAVE)
    return inside
