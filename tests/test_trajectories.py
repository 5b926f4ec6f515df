"""How trajectories are compared, with weights that are made up, and the paired test of equivalence."""

import json
from functools import cache

import numpy as np
import pytest
from fake import galaxies, noise, run_of

import trizoo
from benchmarks import equivalence, trajectories
from shared.method.batches import draw_plan
from shared.network.weights import first_checkpoint, init_weights
from shared.run.records import write_json
from shared.run.spec import RunSpec, from_config

# Trajectories

TINY = ("model.image_size=16", "model.blocks=[[2],[2],[2],[2]]", "model.dense=4")


def test_divergence_is_of_what_the_weights_have_changed():
    first = np.full(1000, 5, np.float32)
    step = np.random.default_rng(0).choice([-1, 1], (3, 1000)).astype(np.float32)
    one, other = first + 0.1 * step[0], first + 0.1 * step[1]
    assert trajectories.divergence(one, one, first) == 0
    assert trajectories.divergence(one, other, first) == pytest.approx(2**0.5, rel=0.1)
    assert trajectories.divergence(one, first - 0.1 * step[0], first) == pytest.approx(2, rel=1e-4)
    near = one + 0.001 * step[2]
    assert trajectories.divergence(one, near, first) == pytest.approx(0.01, rel=1e-3)
    assert trajectories.divergence(near, one, first) == trajectories.divergence(one, near, first)


def test_nudged_weights_are_the_next_numbers_above_or_below():
    weights = init_weights(run_of().model, 0)
    moved = trajectories.nudged(weights, 0)
    assert list(moved) == list(weights)
    ups = []
    for name, array in weights.items():
        up, down = (np.nextafter(array, np.float32(side * np.inf)) for side in (1, -1))
        assert moved[name].dtype == np.float32
        assert ((moved[name] == up) | (moved[name] == down)).all()
        ups += (moved[name] == up).ravel().tolist()
    assert 0.35 < np.mean(ups) < 0.65
    again, other = (trajectories.nudged(weights, seed) for seed in (0, 1))
    assert all((again[name] == moved[name]).all() for name in weights)
    assert any((other[name] != moved[name]).any() for name in weights)


def test_only_the_control_begins_alike_and_steps_otherwise():
    run = run_of()
    start = first_checkpoint(run.model, run.seed)
    for kind in trajectories.KINDS:
        kernel = trajectories.beginning(run, kind).weights["conv0/kernel"]
        assert (kernel == start.weights["conv0/kernel"]).all() == (kind != "ulp")
    other = trajectories.other_epsilon(run)
    assert (run.training.epsilon_form, other.training.epsilon_form) == ("textbook", "hat")
    assert trajectories.other_epsilon(other) == run


def test_permuted_plans_hold_the_same_galaxies_in_another_order():
    run = run_of("training.batch_size=8")
    plan = draw_plan(run, galaxies(0, 40), noise(40).size, 0, 0, 6)
    mixed = trajectories.permuted(plan, 0)
    for name in ("steps", "scales"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(plan, name))
    for step in range(6):
        order = [plan.rows[step].tolist().index(row) for row in mixed.rows[step]]
        assert sorted(order) == list(range(8)) != order
        arrays = zip(
            (mixed.rows, mixed.votes, mixed.keys, *mixed.views),
            (plan.rows, plan.votes, plan.keys, *plan.views),
            strict=True,
        )
        for got, whole in arrays:
            assert got.dtype == whole.dtype
            np.testing.assert_array_equal(got[step], whole[step][order])
    parts = [draw_plan(run, galaxies(0, 40), noise(40).size, 0, k, 1) for k in range(6)]
    rows = [trajectories.permuted(part, 0).rows[0] for part in parts]
    np.testing.assert_array_equal(rows, mixed.rows)  # however many steps a call has
    assert (trajectories.permuted(plan, 1).rows != mixed.rows).any()


def test_galaxies_are_those_of_the_seed_with_the_votes_of_the_question(monkeypatch):
    monkeypatch.setattr(trajectories, "GALAXIES", 6)
    (images, one), (others, other) = (trajectories.drawn(run_of(f"seed={s}")) for s in (0, 1))
    assert (images[one.rows] != others[other.rows]).any()
    assert len(one.rows) == 6
    assert ((one.yes <= one.total) & (one.total > 0)).all()
    assert not set(one.hashes) & set(other.hashes)


SPREAD = {"ulp": 0.02, "permuted": 0.01, "control": 0.5}


def written(folder, name, away=0.0, seeds=3, words=()):
    """A record of made-up weights: after so many steps, `away` from those of the others by that share of the change."""
    config = trizoo.compose([*TINY, f"backend={name}", *words])
    run, arrays = from_config(RunSpec, config), {}
    random = np.random.default_rng(["tf", "torch", "jax"].index(name))
    for seed in range(seeds):
        first = trajectories.vector(first_checkpoint(run.model, seed).weights)
        for count in trajectories.COUNTS:
            change = np.random.default_rng(seed).choice([-1, 1], first.shape)
            plain = change + away * random.choice([-1, 1], first.shape)
            arrays[f"{seed}/plain/{count}"] = first + 0.1 * plain
            for kind, far in SPREAD.items():
                shift = far * (2 - (seed == 0)) * random.choice([-1, 1], first.shape)
                arrays[f"{seed}/{kind}/{count}"] = first + 0.1 * (plain + shift)
    np.savez(folder / f"{name}.npz", **arrays)
    losses = {f"{seed}/{kind}": [2.0] * 300 for seed in range(seeds) for kind in ("plain", *SPREAD)}
    about = {"where": {"device": "cpu"}, "host": {"cores": 2}, "seconds": 1.0}
    write_json(folder / f"{name}.json", {"run": config, "seeds": seeds, "losses": losses, **about})


def test_frameworks_are_compared_with_their_own_rounding(tmp_path, capsys):
    for name, away in (("tf", 0.0), ("torch", 0.03), ("jax", 0.0)):
        written(tmp_path, name, away)
    file = tmp_path / "out" / "found.json"
    assert trajectories.main([f"compare={tmp_path}", f"record={file}"]) == 0
    found = json.loads(file.read_text())
    assert found["divergence"].keys() == {
        *(f"{name} {kind}" for name in ("jax", "tf", "torch") for kind in SPREAD),
        *("jax-tf", "jax-torch", "tf-torch"),
    }
    assert len(found["divergence"]["tf ulp"]["300"]) == 3
    assert found["divergence"]["tf control"].keys() == {"1", "3", "10", "30"}
    # the median of seeds at 0.02, 0.04 and 0.04, of which one framework's own is the larger of two kinds
    assert found["median"]["tf ulp"]["10"] == pytest.approx(0.04, rel=1e-2)
    assert found["ratio"]["jax-tf"] == dict.fromkeys(found["ratio"]["jax-tf"], 0)
    assert found["ratio"]["tf-torch"]["100"] == pytest.approx(0.03 / 0.04, rel=1e-2)
    assert found["ratio_to_permuted"]["tf-torch"]["1"] == pytest.approx(0.03 / 0.02, rel=1e-2)
    assert found["control_ratio"]["tf"]["10"] == pytest.approx(0.5 / 0.02, rel=0.2)
    assert found["largest_ratio"] == pytest.approx(0.03 / 0.04, rel=1e-2)
    assert found["final_loss"]["tf"] == {"plain": 2, "ulp": 2, "permuted": 2}
    assert "jax-torch" in capsys.readouterr().out


def test_frameworks_that_are_too_far_apart_fail(tmp_path, capsys):
    for name, away in (("tf", 0.0), ("torch", 1.1 * trajectories.FACTOR * 0.04)):
        written(tmp_path, name, away)
    assert trajectories.main([f"compare={tmp_path}"]) == 1
    assert "largest ratio 3.3" in capsys.readouterr().out


def test_records_that_were_not_made_alike_are_refused(tmp_path):
    written(tmp_path, "tf")
    with pytest.raises(ValueError, match="1 records; two frameworks or more"):
        trajectories.compare(tmp_path)
    assert trajectories.main([f"compare={tmp_path}"]) == 2
    for seeds, words, where in (
        (2, (), "seeds"),
        (3, ("training.batch_size=8",), "training.batch_size"),
        (3, ("backend.precision=bfloat16",), "precision"),
    ):
        written(tmp_path, "jax", 0.0, seeds, words)
        with pytest.raises(ValueError, match=f"differs from .* in {where}; train both alike"):
            trajectories.compare(tmp_path)
    (tmp_path / "jax.json").write_text((tmp_path / "tf.json").read_text())
    with pytest.raises(ValueError, match="records of tf, tf; keep one record of each"):
        trajectories.compare(tmp_path)


# Equivalence


@cache
def composed(*words):
    return trizoo.compose(list(words))


def fits(differences, name="jax", words=(), scatter=0.05):
    """Made-up records of tf and of a second framework that is that far from it, seed by seed."""
    random, records = np.random.default_rng(0), []
    for seed, difference in enumerate(differences):
        level = 2.5 + scatter * random.normal()
        for backend, score in (("tf", level), (name, level + difference)):
            config = {**composed(f"backend={backend}", *words), "seed": seed}
            about = {"where": {}, "host": {"commit": "abc"}, "folder": f"{backend}-{seed}"}
            about |= {"started": "2020-01-01T00:00:00+00:00", "seconds": 1.0}
            records.append({"run": config, "results": {"test": {"log_score": score}}, **about})
    return records


WOBBLE = 0.02 * np.array([1, -1, 0.5, -0.5, 1.5, -1.5, 0.2, -0.2])


def test_frameworks_that_end_alike_are_equivalent():
    found = equivalence.compare(fits(WOBBLE + 0.01, scatter=0.2))
    pair = found["pairs"]["jax-tf"]
    assert found["equivalent"]
    assert pair["mean"] == pytest.approx(0.01)
    # the interval by hand: t of 7 degrees of freedom at 95 % is 1.8946
    reach = 1.8946 * WOBBLE.std(ddof=1) / 8**0.5
    np.testing.assert_allclose(pair["interval"], [0.01 - reach, 0.01 + reach], rtol=1e-4)
    assert pair["smallest_margin"] == pytest.approx(0.01 + reach, rel=1e-4)
    assert pair["p"] == pair["p_below_margin"] > pair["p_above_minus_margin"]
    assert found["spread"]["tf"] > 4 * pair["spread"]  # that pairing takes away


@pytest.mark.parametrize("side", [1, -1])
def test_frameworks_that_are_the_margin_apart_are_not_equivalent(side):
    pair = equivalence.compare(fits(WOBBLE + side * equivalence.MARGIN))["pairs"]["jax-tf"]
    assert not pair["equivalent"]
    assert pair["p"] == pytest.approx(0.5)


def test_a_scatter_that_hides_everything_is_no_equivalence():
    found = equivalence.compare(fits(WOBBLE * 6))
    assert not found["equivalent"]
    assert found["pairs"]["jax-tf"]["mean"] == pytest.approx(0)


def test_the_verdict_turns_where_the_interval_reaches_the_margin():
    reach = 1.894579 * WOBBLE.std(ddof=1) / 8**0.5
    for inside, verdict in ((1e-4, True), (-1e-4, False)):
        for side in (1, -1):
            shift = side * (equivalence.MARGIN - reach - inside)
            assert equivalence.tost(WOBBLE + shift)["equivalent"] == verdict
    assert equivalence.tost(np.zeros(8))["equivalent"]
    assert not equivalence.tost(np.full(8, 1.0))["equivalent"]


def test_it_is_a_test_of_its_size_and_can_pass():
    """At the margin it passes 5 times in 100, whatever the scatter; of equals, nearly always."""
    random = np.random.default_rng(0)
    for shift, low, high in ((equivalence.MARGIN, 0.03, 0.07), (0, 0.95, 1)):
        draws = shift + 0.03 * random.normal(size=(2000, 8))
        passed = np.mean([equivalence.tost(draw)["equivalent"] for draw in draws])
        assert low <= passed <= high


def test_all_pairs_must_pass():
    far = fits(WOBBLE + 0.06, "torch")
    records = fits(WOBBLE) + [r for r in far if r["run"]["backend"]["name"] == "torch"]
    found = equivalence.compare(records)
    assert [pair["equivalent"] for pair in found["pairs"].values()] == [True, False, False]
    assert not found["equivalent"]


def test_what_cannot_be_paired_is_refused():
    nine = fits([*WOBBLE, 0.0])
    assert len(equivalence.compare(nine)["seeds"]) == 9
    with pytest.raises(ValueError, match="7 seeds; at least 8 are needed: seed=0,1,2,3,4,5,6,7"):
        equivalence.compare(fits(WOBBLE[:7]))
    with pytest.raises(ValueError, match="jax has no fit with seed 8, which others have"):
        equivalence.compare(nine[:-1])
    with pytest.raises(ValueError, match="two fits of jax with seed 8"):
        equivalence.compare([*nine, nine[-1]])
    with pytest.raises(ValueError, match="fits of tf; two frameworks are compared"):
        equivalence.compare(nine[::2])
    with pytest.raises(ValueError, match="fits of nobody"):
        equivalence.compare([])
    nine[3]["results"]["test"]["log_score"] = None
    with pytest.raises(ValueError, match="jax-1 has no finite NLL"):
        equivalence.compare(nine)


@pytest.mark.parametrize(
    "word", ["training.steps=7", "backend.precision=bfloat16", "dataset.seed=1", "model.dense=64"]
)
def test_fits_of_other_settings_are_refused(word):
    records = fits(WOBBLE)
    records[-1:] = fits(WOBBLE, words=(word,))[-1:]
    with pytest.raises(ValueError, match=f"jax-7 differs from tf-0 in {word.split('=')[0]}"):
        equivalence.compare(records)


def test_records_are_read_from_folders_and_the_verdict_is_the_exit_status(tmp_path, capsys):
    for folder, shift, status in (("near", 0.0, 0), ("far", 0.05, 1)):
        for record in fits(WOBBLE + shift):
            write_json(tmp_path / folder / record["folder"] / "record.json", record)
        file = tmp_path / f"{folder}.json"
        assert equivalence.main([str(tmp_path / folder), f"record={file}"]) == status
        assert json.loads(file.read_text())["equivalent"] == (status == 0)
        output = capsys.readouterr().out
        assert "90 % interval" in output
        assert ("NOT shown" in output) == (status == 1)
    assert equivalence.main([str(tmp_path / "near" / "tf-0")]) == 2
    assert "two frameworks are compared" in capsys.readouterr().err
