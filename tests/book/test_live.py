"""The attack that runs in the reader's browser: its numbers are leaklib's, and it works."""

import json

import pytest
import torch
import torch.nn.functional as F

from leaklib import analytic, client, data, defenses, distances, labels, models

SHAPES = [(28, 36, 10), (5, 7, 3), (9, 1, 2)]  # side, hidden units, classes


@pytest.fixture(scope="module")
def context(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    yield context
    context.close()


@pytest.fixture(scope="module")
def script(context, site):
    """The page, for calls of its script with numbers from Python."""
    page = context.new_page()
    page.goto(f"{site}book/live.html")
    return page


@pytest.fixture
def live(context, site):
    """The page as a reader opens it."""
    page = context.new_page()
    page.goto(f"{site}book/live.html")
    page.wait_for_selector("#live-draw")
    yield page
    page.close()


def case(side, hidden, classes, seed):
    """(model, its weights, image, label) in double precision, as the script computes."""
    model = models.mlp(size=side, hidden=(hidden,), classes=classes, seed=seed).double()
    x = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(seed)).double()
    return model, dict(model.named_parameters()), x, torch.tensor([seed % classes])


def flat(tensors):
    return {name: tensor.detach().flatten().tolist() for name, tensor in tensors.items()}


TYPED = "const typed = (g) => Object.fromEntries(Object.entries(g).map(" + (
    "([name, v]) => [name, Float64Array.from(v)]));"
    "const plain = (g) => Object.fromEntries(Object.entries(g).map(([n, v]) => [n, [...v]]));"
)


def compute(page, expression, **given):
    """The value of an expression of the script, with the given numbers as typed arrays."""
    return page.evaluate(f"({{{', '.join(given)}}}) => {{ {TYPED} return {expression}; }}", given)


def relative_difference(found, wanted):
    found = torch.tensor(found, dtype=torch.float64)
    wanted = torch.as_tensor(wanted).double().flatten()
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(("side", "hidden", "classes"), SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_is_that_of_leaklib(script, side, hidden, classes, seed):
    model, W, x, y = case(side, hidden, classes, seed)
    wanted = client.share_gradient(model, x, y).direction
    found = compute(
        script,
        "plain(leakAttack.gradient(typed(W), Float64Array.from(x), leakAttack.oneHot(y, k)))",
        W=flat(W), x=x.flatten().tolist(), y=int(y), k=classes,
    )  # fmt: skip
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert relative_difference(found[name], wanted[name]) < 1e-5, name


@pytest.mark.parametrize(("side", "hidden", "classes"), SHAPES)
def test_matching_and_its_slope_are_those_of_autograd(script, side, hidden, classes):
    """The second-order derivative by hand, at a random image and random soft labels."""
    model, W, x, y = case(side, hidden, classes, seed=2)
    sent = client.share_gradient(model, x, y).direction
    z = torch.randn(side**2 + classes, generator=torch.Generator().manual_seed(3)).double()
    z.requires_grad_()
    g = client.gradient(model)
    mine = g(W, z[: side**2].reshape(x.shape), z[side**2 :].softmax(0)[None], {})
    wanted = distances.l2(mine, sent)
    (slope,) = torch.autograd.grad(wanted, z)
    found = compute(
        script,
        "(({value, slope}) => ({value, slope: [...slope]}))"
        "(leakAttack.matching(typed(W), typed(sent))(Float64Array.from(z)))",
        W=flat(W), sent=flat(sent), z=z.tolist(),
    )  # fmt: skip
    assert found["value"] == pytest.approx(wanted.item(), rel=1e-9)
    assert relative_difference(found["slope"], slope) < 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_division_and_label_rule_are_those_of_leaklib(script, seed):
    model, _, x, y = case(28, 36, 10, seed)
    sent = client.share_gradient(model, x, y, defense=defenses.gaussian(0.3, relative=True))
    found = compute(
        script,
        "({x: [...leakAttack.invert(typed(g))], label: leakAttack.label(typed(g))})",
        g=flat(sent.direction),
    )
    assert relative_difference(found["x"], analytic.linear_input(sent)) < 1e-9
    assert found["label"] == int(labels.idlg(sent)) == int(y)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_pruning_is_that_of_leaklib(script, share):
    model, _, x, y = case(28, 36, 10, seed=0)
    plain = client.share_gradient(model, x, y).direction
    wanted = defenses.prune(share)(plain, torch.Generator())
    found = compute(script, "plain(leakAttack.prune(typed(g), p))", g=flat(plain), p=share)
    for name in wanted:
        assert found[name] == wanted[name].flatten().tolist(), name


def test_noise_has_the_strength_that_is_asked_for(script):
    model, _, x, y = case(28, 36, 10, seed=0)
    g = client.share_gradient(model, x, y).direction
    noised = compute(script, "plain(leakAttack.gaussian(typed(g), 0.3, 5))", g=flat(g))
    together = torch.cat([tensor.flatten() for tensor in g.values()])
    added = torch.tensor([v for name in g for v in noised[name]]) - together
    rms = together.square().mean().sqrt()
    assert float(added.std() / rms) == pytest.approx(0.3, rel=0.03)
    assert abs(float(added.mean() / rms)) < 0.01
    normal = added / added.std()
    assert float(normal.pow(4).mean()) == pytest.approx(3, abs=0.2), "normal, not uniform"


def test_network_is_drawn_within_the_bounds_of_pytorch(script):
    W = compute(script, "plain(leakAttack.network(n, m, k, 1))", n=784, m=36, k=10)
    model = models.mlp(size=28, hidden=(36,))
    for name, wanted in model.named_parameters():
        bound = 784**-0.5 if name.startswith("fc1") else 36**-0.5
        drawn = torch.tensor(W[name])
        assert drawn.numel() == wanted.numel()
        assert float(drawn.abs().max()) <= bound
        if drawn.numel() > 100:
            assert float(drawn.std()) == pytest.approx(bound / 3**0.5, rel=0.1)


# --- the page


def next_frame(page):
    frame = "requestAnimationFrame(() => requestAnimationFrame(resolve))"
    page.evaluate(f"() => new Promise((resolve) => {frame})")


def attack(page):
    """What the page shows once the search has ended: private, divided, found, and its words."""
    page.wait_for_function("document.querySelector('#live-run').textContent === 'run'")
    read = """() => Object.fromEntries(["draw", "closed", "dlg"].map((id) => {
        const canvas = document.querySelector(`#live-${id}`);
        const {data} = canvas.getContext("2d").getImageData(0, 0, 28, 28);
        return [id, [...data].filter((_, i) => i % 4 === 0).map((v) => v / 255)];
    }))"""
    shown = {name: torch.tensor(pixels) for name, pixels in page.evaluate(read).items()}
    words = {id_: page.inner_text(f"#live-{id_}-said") for id_ in ("closed", "dlg")}
    return shown, words


def psnr(mine, truth):
    return float(-10 * F.mse_loss(mine, truth).clamp_min(1e-12).log10())


def draw_a_seven(page):
    page.click("#live-clear")
    page.select_option("#live-label", "7")
    canvas = page.query_selector("#live-draw")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    corners = [(0.25, 0.2), (0.75, 0.2), (0.45, 0.85)]
    places = [(box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=12)
    page.mouse.up()


def test_attack_recovers_a_drawn_digit(live):
    draw_a_seven(live)
    next_frame(live)  # a stroke is taken up with the next frame
    shown, words = attack(live)
    assert 0.02 < shown["draw"].mean() < 0.5, "something is drawn"
    assert psnr(shown["closed"], shown["draw"]) > 40
    assert psnr(shown["dlg"], shown["draw"]) > 40
    assert words["closed"].startswith("class 7") and words["dlg"].startswith("class 7")


@pytest.mark.parametrize("name", [*"0123456789", "cat", "flower"])
def test_every_picture_is_recovered(live, name):
    live.click(f"[data-picture='{name}']")
    shown, words = attack(live)
    assert psnr(shown["closed"], shown["draw"]) > 40 and psnr(shown["dlg"], shown["draw"]) > 30
    if name.isdigit():
        assert words["closed"].startswith(f"class {name}")
        assert words["dlg"].startswith(f"class {name}")


def test_another_network_and_another_label_change_nothing_for_the_attacker(live):
    live.click("#live-network")
    live.select_option("#live-label", "2")
    shown, words = attack(live)
    assert words["closed"].startswith("class 2") and words["dlg"].startswith("class 2")
    assert psnr(shown["dlg"], shown["draw"]) > 40


def test_noise_drowns_the_picture(live):
    """The more noise, the less of the picture, by either way."""
    ways = []
    for _ in range(3):
        for _ in range(2):
            live.press("#live-noise", "ArrowRight")
        next_frame(live)
        shown, _ = attack(live)
        ways.append([psnr(shown[way], shown["draw"]) for way in ("closed", "dlg")])
    for i in (0, 1):
        assert ways[0][i] > ways[1][i] + 5 > ways[2][i] + 10
    assert max(ways[2]) < 15


def test_pruning_hurts_a_photograph(live):
    live.click("[data-picture='cat']")
    whole, _ = attack(live)
    live.press("#live-prune", "End")
    next_frame(live)
    pruned, _ = attack(live)
    assert live.get_attribute("#live-prune", "aria-valuetext") == "99.9 % dropped"
    assert psnr(pruned["dlg"], whole["draw"]) < 15 < psnr(whole["dlg"], whole["draw"])


def test_pen_of_the_keyboard_draws(live):
    live.click("#live-clear")
    live.focus("#live-draw")
    live.keyboard.press("ArrowRight")
    next_frame(live)
    assert attack(live)[0]["draw"].sum() == 0, "the pen is up"
    live.keyboard.press("Space")
    for _ in range(6):
        live.keyboard.press("ArrowDown")
    next_frame(live)
    shown, _ = attack(live)
    assert 6 < (shown["draw"] > 0.5).sum() < 60
    assert psnr(shown["closed"], shown["draw"]) > 40
    live.keyboard.press("Tab")
    assert live.evaluate("document.activeElement.id") != "live-draw", "the way out"


def test_finger_draws(browser, site):
    context = browser.new_context(has_touch=True, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(f"{site}book/live.html")
    page.click("#live-clear")
    canvas = page.query_selector("#live-draw")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    next_frame(page)
    shown, _ = attack(page)
    assert shown["draw"].reshape(28, 28)[13:15, 13:15].min() > 0.5
    context.close()


def test_one_step_is_one_step_and_start_again_begins_anew(live):
    attack(live)
    # in one go, or the search might be at its end before it is paused
    live.evaluate("['#live-again', '#live-run'].map((id) => document.querySelector(id).click())")
    count = lambda: int(live.inner_text("#live-dlg-extra").split()[0])  # noqa: E731
    first = count()
    live.click("#live-step")
    assert first < count() <= first + 30
    live.wait_for_timeout(200)
    second = count()
    live.wait_for_timeout(200)
    assert count() == second, "it is paused"
    assert live.inner_text("#live-run") == "run"


def test_still_is_there_without_script_and_on_paper(browser, site, live):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}book/live.html")
    assert page.query_selector(".live-still").is_visible()
    assert not page.query_selector("#leak-live").is_visible()
    context.close()
    assert not live.query_selector(".live-still").is_visible()
    live.emulate_media(media="print")
    assert live.query_selector(".live-still").is_visible()
    assert not live.query_selector("#leak-live").is_visible()


def test_nothing_is_sent_while_the_attack_runs(live):
    asked = []
    live.on("request", lambda request: asked.append(request.url))
    draw_a_seven(live)
    next_frame(live)
    attack(live)
    assert asked == []


# --- the picture of the front page


@pytest.fixture
def front(context, site):
    page = context.new_page()
    page.goto(f"{site}book/welcome.html")
    page.wait_for_selector("#front-rebuilt")
    yield page
    page.close()


def rebuilt(page):
    return page.evaluate("document.querySelector('#front-rebuilt').toDataURL()")


def test_front_picture_shows_what_its_sliders_say(front):
    told = json.loads(front.evaluate("JSON.stringify(leakFront)"))
    pictures, frames = set(), []
    for noise_key in ("Home", "End"):
        front.press("#front-noise", noise_key)
        for key in ("Home", "End"):
            front.press("#front-evaluations", key)
            pictures.add(rebuilt(front))
            frames.append(front.get_attribute("#front-rebuilt", "aria-label"))
    assert len(pictures) >= 3
    last = told["psnr"][len(told["evaluations"]) - 1]
    assert all(f"{n} {db} dB" in frames[1] for n, db in zip(told["names"], last, strict=True))
    assert "median PSNR" in front.inner_text("#leak-front figcaption")


def test_front_picture_ends_in_the_private_pictures(front):
    """Computed from the pixels that are shown, and compared with the scores that are told."""
    front.press("#front-evaluations", "End")
    front.press("#front-noise", "Home")
    read = """(id) => [...document.querySelector(id).getContext("2d")
        .getImageData(0, 0, 32, 32).data].filter((_, i) => i % 4 < 3)"""
    private, found = (
        torch.tensor(front.evaluate(read, f"#front-{id_}")) / 255 for id_ in ("private", "rebuilt")
    )
    db = front.evaluate("leakFront.psnr[leakFront.evaluations.length - 1][0]")
    assert psnr(found, private) == pytest.approx(min(db, 51), abs=3)
    cat = data.load("photos")[0][data.PICTURES.index("cat")]
    assert torch.allclose(private.reshape(32, 32, 3).permute(2, 0, 1), cat, atol=1 / 255)


@pytest.fixture
def begun(context, site):
    """The front page half a second after it was opened, by a clock that only we move."""
    page = context.new_page()
    page.clock.install()
    page.goto(f"{site}book/welcome.html")
    page.wait_for_selector("#front-rebuilt")
    page.clock.run_for(500)
    yield page
    page.close()


def moment(page):
    return int(page.input_value("#front-evaluations"))


def test_front_picture_runs_once_to_its_end(begun):
    last = int(begun.get_attribute("#front-evaluations", "max"))
    assert 0 < moment(begun) < last
    begun.clock.run_for(5000)
    assert moment(begun) == last


@pytest.mark.parametrize("hand", ["keydown", "pointerdown"])
def test_front_picture_stops_for_a_hand_that_moves_nothing(begun, hand):
    before = moment(begun)
    begun.dispatch_event("#front-evaluations", hand)
    begun.clock.run_for(5000)
    assert moment(begun) == before


def test_front_picture_stops_for_a_hand_on_its_slider(begun):
    begun.press("#front-evaluations", "Home")
    begun.clock.run_for(5000)
    assert moment(begun) == 0


def test_front_picture_stands_still_for_those_who_ask(browser, site):
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{site}book/welcome.html")
    page.wait_for_selector("#front-rebuilt")
    last = page.get_attribute("#front-evaluations", "max")
    for _ in range(3):
        assert page.input_value("#front-evaluations") == last
        page.wait_for_timeout(100)
    context.close()


def test_front_picture_is_a_still_without_script(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}book/welcome.html")
    assert page.query_selector("#leak-front > img").is_visible()
    context.close()
