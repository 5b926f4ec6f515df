"""Whether fits in float32 end equally well in every framework: a paired test of equivalence (TOST).

    trizoo -m fit experiment=equivalence hydra/launcher=parallel
    python -m benchmarks.equivalence outputs/equivalence/fit record=equivalence.json

What is compared is the NLL of the test galaxies, -ln p(k | N) in nats per galaxy, lower is better. A test of
difference that finds none proves nothing: with few seeds, or noisy ones, it never finds any. So the question is turned
round (Schuirmann 1987, "A comparison of the two one-sided tests procedure"): two frameworks are held to differ by
MARGIN or more, in either direction, until both one-sided t tests at ALPHA refute it; which is to say that the 90 %
interval of their mean difference lies within +-MARGIN. Few seeds or a wide scatter then fail. Runs are paired by seed:
those of a seed begin at the same first weights and see the same batches, views and masks. All pairs of frameworks must
pass, so that testing several makes no verdict easier, and ALPHA needs no correction (an intersection-union test).

MARGIN was written down before the fits were made: 0.05 nats per galaxy. On the demo's galaxies, of some 40 votes, one
who gives every count the same chance scores 3.70, and one who knows the true chance of every vote 2.09, so training has
1.6 nats to gain, and the margin is 3 % of that. The votes of a typical galaxy become likelier by e^0.05, 5 %: less than
what a change to the network or the schedule must bring to be reported. It is not made from the scatter over seeds, or
noisy fits would earn themselves a wide one; that scatter is printed beside it. With 8 seeds the test can only pass if
the differences of a seed scatter (standard deviation) by less than MARGIN x sqrt(8) / 1.89 = 0.075.

The first fits, ten seeds of the demo's galaxies at 32 pixels, could say nothing: they scattered by 0.15 to 0.18, and
scored 4.6, so they ended neither quietly nor well. What made the scatter smaller: half of all galaxies to test with (a
galaxy's own score differs by 0.9 to 3 nats between two fits, so 1,200 galaxies alone scatter a pair by up to 0.09), and
many galaxies in a batch with short steps. What made the score better: galaxies that fill the few pixels and are never
shifted or relit. Sixteen seeds of such fits, 1,000 steps at an even rate of 0.0007, scored 3.86; two pairs of
frameworks passed and JAX and TensorFlow, which scattered by 0.10, did not, by 0.003. Those sixteen are spent.

The fits of conf/experiment/equivalence.yaml end quietly, at a rate that falls to 0 along a cosine. They were chosen
from pilots of TensorFlow and PyTorch with the seeds 0 and 100 to 102, by the scatter of their differences and the score
alone, and written down with their seeds before any of these was fitted. 500 steps of 256 galaxies at first 0.003 cost
half as much as before, scored 3.83 and scattered by 0.025 (four pairs); at 0.002 they scored 4.0, as quietly (two
pairs); of one pair each, batches of 128 differed by 0.05 and 1,000 steps at 0.002, at twice the cost, scored 3.57 and
differed by 0.014. Twelve seeds: to be passed by fits
that do not differ with a chance of 95 %, (t + 2) x scatter / sqrt(seeds) must be within MARGIN, t being Student's at
ALPHA, and with twelve that is so up to a scatter of 0.046, nearly twice that of the pilots, which four pairs can well
understate. No seed is added after looking.

What came of it: all three pairs equivalent, p = 0.016 at most; they scattered by 0.025 to 0.062. At
0.062, that of TensorFlow and PyTorch, fits that do not differ pass two times in three, not the 95 % planned for.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from scipy.stats import t

from shared.run.config import differences
from shared.run.errors import complain
from shared.run.records import host, read_records, write_json

MARGIN = 0.05  # nats per galaxy
ALPHA = 0.05
FEWEST = 8  # pairs


def main(words: list[str]) -> int:
    """Test the fits in the folders that `words` name; 0 if all frameworks are equivalent, 2 if they
    cannot be tested.
    """
    given = dict(word.split("=", 1) for word in words if word.startswith("record="))
    folders = [Path(word) for word in words if not word.startswith("record=")]
    try:
        found = compare([record for folder in folders for record in read_records(folder)])
    except ValueError as error:
        return complain(error)
    print(table(found))
    if "record" in given:
        write_json(Path(given["record"]), found)
    return 0 if found["equivalent"] else 1


def compare(records: list[dict]) -> dict:
    """Every two frameworks' fits among `records`, tested for equivalence.

    Raises ValueError if there are too few seeds, seeds that not every framework has, or runs that are not alike.
    """
    fits = [record for record in records if record["run"]["task"]["name"] == "fit"]
    scores = paired(fits)
    check_alike(fits)
    seeds = sorted(next(iter(scores.values())))
    ordered = {name: np.array([scores[name][seed] for seed in seeds]) for name in sorted(scores)}
    pairs = {
        f"{one}-{other}": tost(ordered[one] - ordered[other])
        for one, other in itertools.combinations(ordered, 2)
    }
    return {
        "equivalent": all(pair["equivalent"] for pair in pairs.values()),
        "margin": MARGIN,
        "alpha": ALPHA,
        "seeds": seeds,
        "pairs": pairs,
        "log_score": {name: values.tolist() for name, values in ordered.items()},
        "mean": {name: float(values.mean()) for name, values in ordered.items()},
        "spread": {name: float(values.std(ddof=1)) for name, values in ordered.items()},
        "run": {key: value for key, value in alike(fits[0]).items() if key != "dataset"},
        "where": {fit["run"]["backend"]["name"]: fit["where"] for fit in fits},
        "commits": sorted({str(fit["host"]["commit"]) for fit in fits}),
        "host": host(),
    }


def paired(fits: list[dict]) -> dict[str, dict[int, float]]:
    """The NLL on test galaxies of every framework and seed; ValueError unless they are pairs, and enough."""
    scores: dict[str, dict[int, float]] = {}
    for fit in fits:
        name, seed = fit["run"]["backend"]["name"], fit["run"]["seed"]
        if seed in scores.setdefault(name, {}):
            raise ValueError(f"two fits of {name} with seed {seed}; name folders that hold one")
        score = fit["results"].get("test", {}).get("log_score")
        if score is None:
            raise ValueError(f"{fit['folder']} has no finite NLL on test galaxies")
        scores[name][seed] = score
    if len(scores) < 2:
        raise ValueError(f"fits of {', '.join(scores) or 'nobody'}; two frameworks are compared")
    all_seeds = set().union(*scores.values())
    for name, found in scores.items():
        if missing := sorted(all_seeds - set(found)):
            raise ValueError(
                f"{name} has no fit with seed {', '.join(map(str, missing))}, which others have; fit it too"
            )
    if len(all_seeds) < FEWEST:
        raise ValueError(
            f"{len(all_seeds)} seeds; at least {FEWEST} are needed: seed={','.join(map(str, range(FEWEST)))}"
        )
    return scores


def check_alike(fits: list[dict]) -> None:
    """Raise ValueError if `fits` differ in anything but framework, seed and where they are kept."""
    for fit in fits[1:]:
        if where := differences(alike(fits[0]), alike(fit)):
            raise ValueError(
                f"{fit['folder']} differs from {fits[0]['folder']} in {', '.join(where[:5])}; fit them alike"
            )


def alike(fit: dict) -> dict:
    """What must be the same in all fits."""
    run, own = fit["run"], ("seed", "outputs", "folder", "again")
    kept = {key: value for key, value in run.items() if key not in own}
    kept["dataset"] = {key: value for key, value in run["dataset"].items() if key != "stores"}
    kept["backend"] = {key: run["backend"][key] for key in ("device", "precision")}
    return kept


def tost(differences: np.ndarray) -> dict:
    """Two one-sided t tests of paired `differences` (seed,) against -MARGIN and MARGIN."""
    count, mean = len(differences), float(differences.mean())
    spread = float(differences.std(ddof=1))
    error = max(spread / np.sqrt(count), np.finfo(float).tiny)  # of pairs that are all the same
    low, high = (float(t.sf((MARGIN + side * mean) / error, count - 1)) for side in (1, -1))
    reach = float(t.ppf(1 - ALPHA, count - 1)) * error
    return {
        "pairs": count,
        "mean": mean,
        "spread": spread,
        "p_above_minus_margin": low,
        "p_below_margin": high,
        "p": max(low, high),
        "interval": [mean - reach, mean + reach],  # of 1 - 2 ALPHA
        "smallest_margin": abs(mean) + reach,  # that would have passed
        "equivalent": max(low, high) < ALPHA,
    }


def table(found: dict) -> str:
    """The verdict on every pair, and the scatter over seeds, as text."""
    lines = [f"NLL on test galaxies, nats; {len(found['seeds'])} seeds; margin {MARGIN:g}"]
    for name, mean in found["mean"].items():
        lines.append(f"{name:12} {mean:8.4f}, spread over seeds {found['spread'][name]:.4f}")
    for name, pair in found["pairs"].items():
        low, high = pair["interval"]
        verdict = "equivalent" if pair["equivalent"] else "NOT shown to be equivalent"
        lines.append(
            f"{name:12} {pair['mean']:+8.4f}, spread {pair['spread']:.4f}, "
            f"90 % interval [{low:+.4f}, {high:+.4f}], p = {pair['p']:.2g}: {verdict}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
