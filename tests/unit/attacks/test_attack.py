"""The sentence as a value: what it checks, what it says of itself, and the plain loop behind it."""

import dataclasses
import inspect
import pickle
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch

from leaklib import (
    adaptive,
    attacks,
    client,
    defenses,
    distances,
    keylock,
    labels,
    models,
    priors,
    solvers,
)
from leaklib.leak import stack

SHAPE = (1, 1, 6, 6)
PAPERS = [
    attacks.dlg, attacks.idlg, attacks.invert_gradients, attacks.dlm, attacks.dlm_projected,
    attacks.dlm_plus, attacks.fedavg, keylock.attack,
]  # fmt: skip
WORDS = [
    distances.likelihood(0.1), priors.total_variation(0.1), priors.smooth(0.2), solvers.lbfgs,
    solvers.lbfgs_torch(history=7), solvers.adam(lr=0.02), solvers.sign_adam(box=None), labels.idlg,
    labels.idlg(layer="fc"), attacks.surrogate(0.25), attacks.simulated(0.1, steps=3),
    adaptive.within_cells(4), adaptive.left_out("fc.weight", "b"), adaptive.noisy_weights(0.3),
    keylock.gains_searched(), keylock.key_searched("sigmoid"),
]  # fmt: skip


def small(seed=0):
    return models.lenet(1, 6, seed=seed).double()


@pytest.fixture(scope="module")
def victim():
    x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3)).double()
    return x, torch.tensor([7])


@pytest.fixture(scope="module")
def leak(victim):
    return client.share_gradient(small(), *victim)


@pytest.fixture(scope="module")
def weights(victim):
    return client.share_weights(small(), *victim, lr=0.05, steps=2)


# --- a changed attack ---------------------------------------------------------------------------


def test_one_word_changed_makes_another_attack(leak, victim):
    mine = replace(attacks.idlg, distance=distances.cosine)
    out = mine(small(), leak, SHAPE, steps=200)
    assert (out.images - victim[0]).abs().max() < 1e-2
    assert attacks.idlg.distance is distances.l2, "the first one is as it was"


def test_changes_of_a_call_are_those_of_a_new_attack(leak):
    for changes in (dict(start="uniform", steps=9), dict(distance=distances.cosine, steps=9)):
        by_call = attacks.idlg(small(), leak, SHAPE, seed=2, **changes)
        by_value = replace(attacks.idlg, **changes)(small(), leak, SHAPE, seed=2)
        assert torch.equal(by_call.images, by_value.images)


def test_a_changed_attack_says_so_and_keeps_no_source():
    mine = replace(attacks.idlg, distance=distances.cosine)
    assert mine.__doc__.startswith("Changed from iDLG: distance.")
    assert "Zhao" in attacks.idlg.__doc__ and "Zhao" not in mine.__doc__
    twice = replace(mine, prior=priors.smooth(), name="Mine")
    assert twice.__doc__.startswith("Changed from iDLG: distance, prior.")
    assert replace(attacks.idlg, name="Mine").__doc__.startswith("Changed from iDLG: name.")
    own = replace(mine, about="What I do.  Source: this test.")
    assert own.__doc__.startswith("What I do.") and own.changed == []
    assert replace(own, steps=3).__doc__.startswith("Changed from iDLG: steps.")


def test_back_to_what_it_was_is_the_first_again():
    there_and_back = replace(replace(attacks.idlg, steps=3), steps=attacks.idlg.steps)
    assert there_and_back.changed == [] and repr(there_and_back) == repr(attacks.idlg)


def test_papers_attacks_differ_in_the_words_that_the_papers_changed():
    assert replace(attacks.idlg, labels="joint", name="DLG").changed == ["labels"]
    assert attacks.invert_gradients.distance is distances.cosine
    assert attacks.invert_gradients.prior == priors.total_variation(0.1)
    assert attacks.dlm_plus.distance is distances.mean_norm and attacks.dlm_plus.scale_free
    assert attacks.dlm.unknowns == {"k": 200.0} and attacks.fedavg.reads == ("weights",)


# --- what it says -------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", PAPERS, ids=lambda a: a.name)
def test_an_attack_says_its_sentence_in_short_lines(attack):
    said = repr(attack)
    assert said.startswith(attack.name) and "that minimise" in said
    assert max(map(len, said.split("\n"))) < 72
    assert attack.distance.__name__ + "(" in said and (attack.start or "half or grey") in said
    assert ("labels y from idlg" in said) == (attack.labels == labels.idlg)
    assert said in attack.__doc__ and "Source: " in attack.__doc__


def test_the_sentence_names_every_word_that_was_changed():
    mine = replace(
        attacks.dlm, distance=distances.likelihood(0.1), prior=priors.smooth(0.2), restarts=3,
        defend=adaptive.entries_sent, start="normal", solver=solvers.adam(lr=0.05), steps=12,
        labels=torch.tensor([1]),
    )  # fmt: skip
    said = repr(mine)
    for word in (
        "likelihood(sigma=0.1)", "smooth(scale=0.2)", "entries_sent(", "scaled(h, k)", "3 times",
        "from normal", "adam(lr=0.05)", "12 evaluations", "x', k", "labels y from the caller",
    ):  # fmt: skip
        assert word in said, word


@pytest.mark.parametrize(
    "attack",
    [
        *PAPERS,
        replace(attacks.idlg, distance=distances.likelihood(0.5), defend=adaptive.scale_free),
        replace(attacks.idlg, distance=lambda g, h: distances.l2(g, h), prior=lambda x: x.sum()),
    ],
    ids=lambda a: a.name,
)
def test_a_notebook_shows_the_formula(attack):
    shown = ET.fromstring(attack._repr_html_())
    maths = shown.findall(".//{http://www.w3.org/1998/Math/MathML}math")
    assert len(maths) == 2 and all("".join(m.itertext()).strip() for m in maths)
    assert "\\" not in "".join(shown.itertext()), "LaTeX that was not understood"


def test_blanks_of_the_formula_are_filled_in():
    text = lambda a: "".join(ET.fromstring(a._repr_html_()).itertext())  # noqa: E731
    assert "0.1" in text(attacks.invert_gradients) and "TV" in text(attacks.invert_gradients)
    assert "0.25" in text(replace(attacks.idlg, prior=priors.total_variation(0.25)))
    assert "k" in text(attacks.dlm) and "argmin" in text(attacks.idlg)


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", PAPERS, ids=lambda a: a.name)
def test_attacks_pickle(attack):
    again = pickle.loads(pickle.dumps(attack))
    assert repr(again) == repr(attack) and again.__doc__ == attack.__doc__ and again.changed == []
    assert pickle.loads(pickle.dumps(replace(attack, steps=5))).changed == ["steps"]


@pytest.mark.parametrize("word", WORDS, ids=repr)
def test_words_compare_pickle_and_print(word):
    again = pickle.loads(pickle.dumps(word))
    assert again == word and hash(again) == hash(word) and repr(again) == repr(word)
    assert all(word != other for other in WORDS if other is not word)
    names = {}
    for module in (attacks, keylock, distances, priors, adaptive, solvers, labels):
        names |= vars(module)
    assert eval(repr(word), names) == word


def test_words_and_attacks_are_frozen():
    for value, name in ((attacks.idlg, "steps"), (solvers.adam, "lr"), (labels.idlg, "layer")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 1)


def test_an_attack_is_equal_to_itself_alone():
    assert attacks.idlg == attacks.idlg and attacks.idlg != replace(attacks.idlg)
    assert len({attacks.idlg, attacks.dlg}) == 2


def test_called_with_settings_alone_a_word_has_them():
    assert solvers.adam(lr=0.5) == replace(solvers.adam, lr=0.5) != solvers.adam
    assert labels.idlg() is labels.idlg


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("name", "", "what the attack is called"),
        ("labels", None, '"joint", class numbers, or a rule'),
        ("labels", "both", '"joint", class numbers, or a rule'),
        ("distance", "l2", "a function such as l2$"),
        ("distance", None, "a function such as l2$"),
        ("prior", 0.1, "a function, or None"),
        ("defend", "mask", "a function, or None"),
        ("predict", None, "a function such as single_step$"),
        ("sent", 3, "a function, or None"),
        ("measure", "cosine", "a function, or None"),
        ("solver", "adam", "a function such as lbfgs$"),
        ("start", "noise", "images, or one of half, grey, zeros, uniform, normal"),
        ("start", 0.5, "images, or one of half, grey, zeros, uniform, normal"),
        ("unknowns", 200.0, "a dict of where each begins"),
        ("steps", 1.5, "a positive whole number"),
        ("steps", 0, "a positive whole number"),
        ("restarts", True, "a positive whole number"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(field, value, wanted, leak):
    message = f"^{field}: got {value!r}; wanted .*{wanted}"
    with pytest.raises(ValueError, match=message):
        replace(attacks.idlg, **{field: value})
    with pytest.raises(ValueError, match=message):
        attacks.idlg(small(), leak, SHAPE, **{field: value})


def test_first_unknown_is_a_number():
    for k in (float("nan"), "many", None):
        with pytest.raises(ValueError, match=r"^unknowns\['k'\]: got .*; wanted a finite number"):
            replace(attacks.dlm, unknowns={"k": k})


def test_a_name_that_is_no_field_is_refused_with_those_that_are(leak):
    with pytest.raises(ValueError, match="^tv: got 0.1; wanted a field of an attack: name, labels"):
        attacks.invert_gradients(small(), leak, SHAPE, tv=0.1)


def test_the_attacker_has_no_field_for_the_truth():
    known = set(inspect.signature(attacks.Attack.__call__).parameters)
    known |= {field.name for field in dataclasses.fields(attacks.Attack)}
    assert not {"truth", "x", "y", "images", "lr", "learning_rate"} & known


def test_attacks_work_where_gradients_are_off(leak, victim):
    with torch.no_grad():
        out = attacks.idlg(small(), leak, SHAPE, steps=200)
    assert (out.images - victim[0]).abs().max() < 1e-2


def test_an_attack_reads_the_kind_of_leak_that_it_is_made_for(leak):
    with pytest.raises(ValueError, match="^leak: got a gradient; wanted weights, as client.share"):
        attacks.fedavg(small(), leak, SHAPE)
    only = replace(attacks.idlg, reads=("gradient",))
    sent = dataclasses.replace(leak, kind="weights")
    with pytest.raises(ValueError, match="^leak: got weights.*; wanted a gradient"):
        only(small(), sent, SHAPE)


# --- a rule, everywhere -------------------------------------------------------------------------


@pytest.mark.parametrize("attack", PAPERS[:-1], ids=lambda a: a.name)
def test_labels_are_joint_numbers_or_a_rule(attack, leak, weights):
    seen = []

    def rule(leak, model=None, loss=None):
        seen.append((leak, model, loss))
        return torch.tensor([3])

    sent = weights if attack is attacks.fedavg else leak
    model = small()
    by_rule = attack(model, sent, SHAPE, labels=rule, steps=4)
    assert seen == [(sent, model, attack.loss)]
    for numbers in (torch.tensor([3]), torch.tensor([[3]]), [3], 3):
        by_number = attack(model, sent, SHAPE, labels=numbers, steps=4)
        assert torch.equal(by_number.images, by_rule.images)
    joint = attack(model, sent, SHAPE, labels="joint", steps=4)
    assert by_rule.labels.tolist() == [[3]] and not torch.equal(joint.images, by_rule.images)


def test_a_rule_sees_the_stack_and_may_not_know(leak):
    def unsure(leak, model=None, loss=None):
        return torch.tensor([[7], [-1]])

    out = attacks.idlg(small(), stack([leak, leak]), SHAPE, labels=unsure, steps=300)
    assert out.labels.tolist() == [[7], [-1]] and out.converged.tolist() == [True, False]


# --- the plain loop is the truth ----------------------------------------------------------------


def changed_attacks():
    yield from PAPERS[:-1]
    yield replace(attacks.dlg, name="DLG, 3 starts", start="normal", restarts=3)
    yield replace(attacks.idlg, name="defended", defend=defenses.clip(0.5), start="uniform")
    yield replace(attacks.idlg, name="smooth", prior=priors.smooth(2.0), solver=solvers.adam)
    yield replace(attacks.fedavg, name="simulated", predict=attacks.simulated(0.05, steps=2))


@pytest.mark.parametrize("attack", [*changed_attacks()], ids=lambda a: a.name)
def test_search_is_the_plain_loop(attack, leak, weights):
    by_gradient = "DLG" in attack.name or attack.name == "smooth"
    sent = leak if by_gradient else weights
    attack = replace(attack, steps=12)
    images, label, objective = attacks.plain(attack, small(), sent, SHAPE, seed=5)
    out = attack(small(), sent, SHAPE, seed=5)
    torch.testing.assert_close(out.images[0], images, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(float(out.objective), objective, rtol=1e-6, atol=1e-12)
    if not attack.scale_free:
        assert torch.equal(out.labels[0], label)


def test_search_of_many_is_the_plain_loop_of_each(victim):
    """Victims with networks of their own, each from its own draw of the start."""
    sent = [client.share_gradient(small(i), *victim) for i in range(3)]
    starts = torch.rand(3, 2, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    attack = replace(attacks.dlg, steps=10, restarts=2)
    out = attack(small(), stack(sent), SHAPE, start=starts, labels=victim[1])
    for i, leak in enumerate(sent):
        one = replace(attack, start=starts[i], labels=victim[1])
        images, _, objective = attacks.plain(one, small(), leak, SHAPE)
        torch.testing.assert_close(out.images[i], images, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(float(out.objective[i]), objective, rtol=1e-6, atol=1e-12)


def test_start_and_joint_labels_have_streams_of_their_own(leak):
    """What is drawn for labels does not move the start, and neither is the network's draw."""
    for seed in range(5):
        run = dict(start="uniform", steps=1, seed=seed)
        joint = attacks.dlg(small(), leak, SHAPE, **run).images
        read = attacks.idlg(small(), leak, SHAPE, **run).images
        assert torch.equal(joint, read)
        first_weights = torch.cat([w.flatten() for w in client.state(small(seed))[0].values()])
        assert ((first_weights[:36] + 0.5) - read.flatten()).abs().max() > 1e-3
