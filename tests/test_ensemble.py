"""Ensembles: each member is the network of its own seed, each sample of the posterior is one member's.

As a program of its own, `python tests/test_ensemble.py FOLDER NAME` trains with framework NAME what the tests compare.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake import Fake, Stopped, galaxies, noise, run_of
from installed import needs
from session_files import made_once

import trizoo
from shared.method.backend import compiled_once
from shared.method.batches import draw_plan
from shared.method.ensemble import (
    Ensemble,
    alone,
    draw_plans,
    masks,
    open_networks,
    without_dropout,
)
from shared.method.likelihood import positive_fraction
from shared.method.sampling import sample_galaxies
from shared.method.training import CHECKPOINT, fit
from shared.method.views import draw_views, still_views
from shared.network.weights import (
    Checkpoint,
    first_checkpoint,
    init_weights,
    load_checkpoint,
    load_weights,
    member,
    merge_members,
    save_weights,
)
from shared.proof import reference
from shared.run.config import uses
from shared.run.keys import galaxy_keys, threefry2x32, uniforms
from shared.run.spec import BACKENDS, RunSpec, from_config

WORDS = (
    "training.steps=10",
    "training.batch_size=8",
    "training.learning_rate=0.01",
    "training.validate_every=0",
    "training.checkpoint_every=4",
    "backend.steps=4",
    "posterior.samples=6",
)
MEMBERS, GALAXIES, SAMPLES = 3, 21, 6
AUGMENTED = "augmentation.at_prediction=true"


def fitted(backend, run, folder):
    """What a fit leaves: the state."""
    folder.mkdir(exist_ok=True)
    return fit(backend, run, noise(40), galaxies(0, GALAXIES), lambda _: 0.0, folder)[0]


def sampled(backend, run, state):
    """Samples of the posterior of a few galaxies."""
    some = galaxies(20, 15)
    return sample_galaxies(backend, run, state, noise(40), some.rows, some.hashes, SAMPLES)


def turned(run):
    """A view of each of those galaxies, every one another."""
    index = np.arange(15)
    return draw_views(run, 16, galaxy_keys(1, "view", galaxies(20, 15).hashes), index, index)


# In a process of its own: a framework


def train(folder, name):
    """Write an ensemble's weights, samples and units, and those of networks trained alone; what was compiled anew."""
    words = [*WORDS, f"backend={name}", "backend.precision=float64", "backend.chunk=4"]
    run = run_of(*words, f"training.members={MEMBERS}")
    networks, found = open_networks(run), {}
    state = fitted(networks, run, folder / "ensemble")
    programs = [one.calls for one in state]
    traced = traces(name, programs[0])
    some, images, views = galaxies(20, 15), noise(40)[20:35], turned(run)
    found["samples"] = sampled(networks, run, state)
    found["augmented"] = sampled(networks, run_of(*words, AUGMENTED), state)
    found["still"] = sampled(without_dropout(networks, run, state), run, state)
    found["units"] = networks.embed(state, images, views)
    found["no units"] = networks.embed(state, images[:0], still_views(run, 16, 0))
    kept = uniforms(galaxy_keys(5, "posterior", some.hashes), 0, 4 * 5).reshape(15, 5, 4) < 0.5
    found["kept"] = kept
    units = networks.features(state, images, views)
    found["logits"] = networks.logits(state, units, {"dropout": kept})
    plan = draw_plans(run, galaxies(0, GALAXIES), 16, 0, 0, 1)
    loss, gradients = networks.gradients(state, noise(40), plan)
    found |= {f"gradients/{key}": array for key, array in gradients.items()} | {"loss": loss}
    save_weights(folder / "ensemble.safetensors", networks.export_weights(state), {})
    backend = networks.backend
    for seed in range(MEMBERS):
        single = run_of(*words, f"seed={seed}")
        one = fitted(backend, single, folder / f"{seed}")
        programs.append(one.calls)
        save_weights(folder / f"{seed}.safetensors", backend.export_weights(one), {})
        plan = draw_plan(single, galaxies(0, GALAXIES), 16, 0, 0, 1)
        loss, gradients = backend.gradients(one, noise(40), plan)
        found |= {f"gradients/{seed}/{key}": array for key, array in gradients.items()}
        found[f"loss/{seed}"] = loss
    np.savez(folder / "found.npz", **found)
    facts = {
        "programs": len({id(calls) for calls in programs}),
        "traces": [traced, traces(name, programs[0])],
        "others": [
            backend.init(run_of(*words, word), first_checkpoint(run.model, 0)).calls is programs[0]
            for word in ("augmentation.border=zero", "training.beta1=0.8", "model.dropout=0.4")
        ],
    }
    (folder / "told.json").write_text(json.dumps(facts))


def traces(name, calls):
    """How often "steps" was compiled."""
    if name == "torch":  # which compiles nothing
        return 1
    return (
        calls["steps"]._cache_size()
        if name == "jax"
        else (calls["steps"].experimental_get_tracing_count())
    )


if __name__ == "__main__":
    sys.exit(train(Path(sys.argv[1]), sys.argv[2]))


@pytest.fixture(scope="module", params=BACKENDS)
def trained(request, tmp_path_factory):
    """A framework's folder, what it found, and what it told."""
    needs(request.param)

    def make(folder):
        environment = trizoo.child_environment({"threads": 1, "environment": {}})
        command = [sys.executable, __file__, folder, request.param]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

    folder = made_once(tmp_path_factory, f"ensemble-{request.param}", make)
    return folder, np.load(folder / "found.npz"), json.loads((folder / "told.json").read_text())


def test_members_are_the_networks_of_their_seeds(trained):
    folder, found, _ = trained
    model, losses = run_of().model, []
    whole = load_weights(folder / "ensemble.safetensors", model, MEMBERS)
    checkpoint, about = load_checkpoint(folder / "ensemble" / CHECKPOINT, model, MEMBERS)
    for seed in range(MEMBERS):
        one = load_weights(folder / f"{seed}.safetensors", model)
        kept, facts = load_checkpoint(folder / f"{seed}" / CHECKPOINT, model)
        losses.append(facts["losses"])
        for parts in zip(checkpoint[:3], kept[:3], strict=True):
            check(member(parts[0], seed), parts[1])
        check(member(whole, seed), one)
        gradients = {name: found[f"gradients/{seed}/{name}"] for name in one}
        check({name: found[f"gradients/member{seed}/{name}"] for name in one}, gradients)
        moved = [
            np.abs(one[name] - array).max() for name, array in init_weights(model, seed).items()
        ]
        assert min(moved) > 1e-4
    np.testing.assert_allclose(about["losses"], np.mean(losses, 0), rtol=1e-12)
    np.testing.assert_allclose(
        found["loss"], np.mean([found[f"loss/{seed}"] for seed in range(MEMBERS)]), rtol=1e-12
    )


def check(found, wanted):
    """Every array to 1e-12."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12, atol=1e-14, err_msg=name)


def test_samples_units_and_answers_are_those_of_the_specification(trained):
    folder, found, _ = trained
    run, some, shown = run_of(), galaxies(20, 15), noise(40)[20:35]
    keys, views = galaxy_keys(0, "posterior", some.hashes), still_views(run, 16, 15)
    networks = [load_weights(folder / f"{seed}.safetensors", run.model) for seed in range(MEMBERS)]
    rho = np.empty((15, SAMPLES))
    for number, weights in enumerate(networks):
        own = masks(keys, number)
        logits = reference.sample(run, weights, shown, views, own, 0, 2)
        rho[:, number::MEMBERS] = positive_fraction(run, logits)
    np.testing.assert_allclose(found["samples"], rho, rtol=1e-10)
    x = reference.apply_views(run, shown, turned(run))
    units = [reference.features(run.model, weights, x) for weights in networks]
    assert np.concatenate(units, 1).any(0).sum() > 3
    np.testing.assert_allclose(found["units"], np.concatenate(units, 1), rtol=1e-10, atol=1e-14)
    assert found["no units"].shape == (0, MEMBERS * 4)
    for t in range(5):
        member, kept = t % MEMBERS, {"dropout": found["kept"][:, t]}
        logits = reference.logits(run.model, networks[member], units[member], kept)
        np.testing.assert_allclose(found["logits"][:, t], logits, rtol=1e-10)


def check_still(found, folder):
    """That samples of posterior=ensemble are those of the members by the specification, in turns, nothing dropped."""
    run, shown = run_of("model.dropout=0"), noise(40)[20:35]
    views = still_views(run, 16, 15)
    for number in range(MEMBERS):
        weights = load_weights(folder / f"{number}.safetensors", run.model)
        units = reference.features(run.model, weights, reference.apply_views(run, shown, views))
        wanted = positive_fraction(run, reference.logits(run.model, weights, units, {}))
        for sample in range(number, SAMPLES, MEMBERS):
            np.testing.assert_allclose(found[:, sample], wanted, rtol=1e-10)


def test_an_ensembles_own_samples_drop_nothing(trained):
    folder, found, _ = trained
    check_still(found["still"], folder)
    random = np.random.default_rng(0)
    mistakes = {
        "dropout is left on": found["samples"],
        "the members are one after the other": np.sort(found["still"][:, [0, 0, 1, 1, 2, 2]], 1),
        "one member has all samples": found["still"][:, [0] * SAMPLES],
        "galaxies change places": random.permutation(found["still"]),
    }
    for samples in mistakes.values():
        with pytest.raises(AssertionError):
            check_still(samples, folder)


def test_views_at_prediction_are_new_for_every_sample_of_every_member(trained):
    folder, found, _ = trained
    asked, run = [], run_of(AUGMENTED)
    networks = [load_weights(folder / f"{seed}.safetensors", run.model) for seed in range(MEMBERS)]

    class Oracle(Fake):
        def sample(self, number, images, views, keys, first, samples):
            asked.append((number, first, samples, views.affine.tobytes()))
            return reference.sample(run, networks[number], images, views, keys, first, samples)

    rho = sampled(Ensemble(Oracle(), MEMBERS), run, list(range(MEMBERS)))
    np.testing.assert_allclose(found["augmented"], rho, rtol=1e-8)
    assert [entry[:3] for entry in asked] == [
        (t % MEMBERS, t // MEMBERS, 1) for t in range(SAMPLES)
    ]
    assert len({entry[3] for entry in asked}) == SAMPLES
    assert np.abs(rho - found["samples"]).max() > 1e-6


def test_equal_runs_share_what_was_compiled(trained):
    _, _, facts = trained
    assert facts["programs"] == 1  # of all members, and of those trained alone
    assert facts["traces"] == [1, 1]
    assert facts["others"] == [False] * 3


# In this process, in numpy


def test_what_is_compiled_once():
    made = []

    @compiled_once
    def programs(run, settings):
        made.append((run, settings))
        return len(made)

    run = run_of()
    alike = (run, run_of(), run_of("seed=3", "posterior.samples=9", "acquisition=random"))
    assert [programs(one, one.backend) for one in alike] == [1, 1, 1]
    words = ("model.dense=5", "augmentation.border=zero", "training.epsilon=1e-7")
    assert [programs(one, one.backend) for one in map(run_of, words)] == [2, 3, 4]
    assert programs(run, replace(run.backend, precision="float64")) == 5
    assert programs(run, run.backend) == 1


def test_plans_of_members_are_those_of_their_seeds():
    run, one = run_of("seed=4", "training.members=2"), run_of("seed=4")
    given = (galaxies(0, 40), 16, 3, 5, 4)
    plans, alike = draw_plans(run, *given), draw_plans(one, *given)
    for seed in (4, 5):
        wanted = draw_plan(replace(one, seed=seed), *given)
        for name in ("rows", "votes", "ranks", "keys", "steps", "scales"):
            np.testing.assert_array_equal(getattr(plans, name)[seed - 4], getattr(wanted, name))
        for array, other in zip(plans.views, wanted.views, strict=True):
            np.testing.assert_array_equal(array[seed - 4], other)
    assert not np.array_equal(*plans.rows)
    assert alike.rows.shape == plans.rows.shape[1:]


@pytest.mark.parametrize("stop", [0, 6])
def test_an_ensemble_that_was_stopped_ends_as_one_that_was_not(tmp_path, stop):
    run = run_of(*WORDS, "training.members=2")
    whole = fitted(Ensemble(Fake(), 2), run, tmp_path / "whole")
    with pytest.raises(Stopped):
        fitted(Ensemble(Fake(stop=stop), 2), run, tmp_path / "stopped")
    again = Fake()
    after = fitted(Ensemble(again, 2), run, tmp_path / "stopped")
    assert again.begun == [4 * (stop > 0)] * 2
    for number, state in enumerate(after):
        one = fitted(Fake(), alone(run, number), tmp_path / f"alone {number}")
        for network in (state, whole[number]):
            np.testing.assert_array_equal(
                network.weights["answer/bias"], one.weights["answer/bias"]
            )


def test_a_checkpoint_comes_out_as_it_went_in():
    run = run_of("training.members=2")
    weights = first_checkpoint(run.model, 0, 2).weights
    moved = [{name: array + k for name, array in weights.items()} for k in range(3)]
    ensemble, start = Ensemble(Fake(), 2), Checkpoint(*moved, 9)
    after = ensemble.export_checkpoint(ensemble.init(run, start))
    assert after.step == 9
    for one, other in zip(after[:3], moved, strict=True):
        check(one, other)
    check(ensemble.export_weights(ensemble.init(run, start)), moved[0])


def test_a_member_that_diverges_is_told(tmp_path):
    with pytest.raises(ValueError, match="nan at step 7"):
        fitted(Ensemble(Fake(bad=7), 2), run_of(*WORDS, "training.members=2"), tmp_path)


def test_samples_do_not_depend_on_where_one_begins():
    run, ensemble = run_of(), Ensemble(Fake(), 3)
    state = ensemble.init(run, first_checkpoint(run.model, 0, 3))
    for number, network in enumerate(state):
        network.weights["answer/bias"][0] = number
    some, views = galaxies(0, 8), still_views(run, 16, 8)
    keys, images = galaxy_keys(0, "posterior", some.hashes), noise(40)[:8]
    whole = ensemble.sample(state, images, views, keys, 0, 12)
    for first, samples in ((0, 1), (1, 1), (2, 7), (5, 7), (11, 1), (4, 2)):
        part = ensemble.sample(state, images, views, keys, first, samples)
        np.testing.assert_array_equal(part, whole[:, first : first + samples])
    own = ensemble.backend.sample(state[0], images, views, keys, 0, 4)
    np.testing.assert_array_equal(whole[:, ::3], own)


def test_every_member_has_masks_of_its_own():
    keys = galaxy_keys(0, "posterior", galaxies(0, 50).hashes)
    all_keys = np.concatenate([masks(keys, number) for number in range(5)])
    assert len(np.unique(all_keys, axis=0)) == 250
    np.testing.assert_array_equal(masks(keys, 0), keys)
    np.testing.assert_array_equal(masks(keys[3], 2), threefry2x32(keys[3], [2**32 - 1, 2]))


def test_files_hold_every_member_under_its_name(tmp_path):
    model = run_of().model
    start = first_checkpoint(model, 7, 2)
    assert next(iter(start.weights)) == "member0/conv0/kernel"
    for number in range(2):
        check(member(start.weights, number), init_weights(model, 7 + number))
    save_weights(tmp_path / "two", start.weights, {})
    check(load_weights(tmp_path / "two", model, 2), start.weights)
    save_weights(tmp_path / "one", merge_members([init_weights(model, 7)]), {})
    check(load_weights(tmp_path / "one", model), init_weights(model, 7))
    for name, members, there in (
        ("two", 1, "2 networks"),
        ("two", 3, "2 networks"),
        ("one", 2, "1 network"),
    ):
        message = (
            rf"holds {there}, but training.members is {members}; .*training.members={there[0]}"
        )
        with pytest.raises(ValueError, match=message):
            load_weights(tmp_path / name, model, members)
    del start.weights["member1/answer/bias"]
    save_weights(tmp_path / "less", start.weights, {})
    with pytest.raises(ValueError, match="but the model has member0/conv0/kernel"):
        load_weights(tmp_path / "less", model, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["posterior.samples=31"], "posterior.samples is 31; .* multiple of training.members, 2"),
        (["task=predict", "posterior.samples=1"], "posterior.samples is 1"),
        (["task=active", "acquisition.samples=15"], "acquisition.samples is 15; .*members, 2"),
        (["task=export"], "training.members is 2; export is of one network"),
        (["task=bench"], "bench is of one network"),
        ([f"seed={2**64 - 1}"], "each member has a seed of its own"),
        (["training.members=0"], "training.members is 0"),
    ],
)
def test_what_is_refused_by_the_command(words, message):
    with pytest.raises(ValueError, match=message):
        run_of("training.members=2", *words)


def test_what_is_not_refused():
    run_of("training.members=2", "acquisition.samples=15")  # a fit acquires nothing
    run_of("training.members=2", f"seed={2**64 - 2}")
    run_of("task=active", "training.members=5")


def test_an_ensemble_by_the_command(tmp_path, capfd):
    pytest.importorskip("torch")
    small = ("dataset.galaxies=120", "acquisition.samples=4", "training.members=2", *WORDS)
    schedule = ("initial=16", "per_round=6", "rounds=1", "first_steps=4", "round_steps=2")
    words = [*small, f"outputs={tmp_path}", "model.image_size=16", "model.blocks=[[2],[2],[2],[2]]"]
    folders = {task: tmp_path / task for task in ("fit", "predict", "active")}
    found = {}
    for task, folder in folders.items():
        asked = {
            "fit": words,
            "predict": [*small, f"weights={folders['fit']}"],
            "active": [*words, *(f"acquisition.{word}" for word in schedule)],
        }[task]
        stores = f"dataset.stores={tmp_path}/stores"
        asked = [word for word in asked if uses(task, trizoo.key_of(word))]
        assert trizoo.main([task, *asked, stores, "backend=torch", f"folder={folder}"]) == 0
        found[task] = json.loads((folder / "record.json").read_text())
        assert found[task]["where"]["members"] == "2"
    fitted_run = from_config(RunSpec, found["fit"]["run"])
    assert member(load_weights(folders["fit"] / "weights.safetensors", fitted_run.model, 2), 1)
    posteriors = [(folders[task] / "posterior.parquet").read_bytes() for task in ("fit", "predict")]
    assert posteriors[0] == posteriors[1]
    rounds = found["active"]["results"]["rounds"]
    assert [entry["labelled"] for entry in rounds] == [16, 22]
    assert np.min(rounds[0]["scores"]) > 0
    one = ["dataset.galaxies=120", "training.members=1", f"weights={folders['fit']}"]
    assert trizoo.main(["predict", *one, f"outputs={tmp_path}", "backend=torch"]) == 2
    assert "holds 2 networks, but training.members is 1" in capfd.readouterr().err
