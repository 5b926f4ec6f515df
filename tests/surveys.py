"""Stand-ins for the published surveys: tables in exactly their columns, votes drawn along the graph, and images.

The galaxies are synthetic, so that there is something to learn: the share of "smooth" is that of
shared/data/synthetic.py.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

import trizoo
from shared.data import schema
from shared.data.synthetic import draw_galaxies, render
from shared.run.questions import layers
from shared.run.spec import DatasetSpec, RunSpec, from_config

WIDTH = 424  # pixels, as the surveys' images
OBJID = 587722981741363000  # 18 digits, too many for a float

# Columns that are no votes, in the tables' order
GZ2 = "dr7objid ra dec rastring decstring sample gz2_class total_classifications total_votes"
HUBBLE = (
    "zooniverse_id survey_id Table RA DEC Z_BEST GZ_MU_HI MAG_BEST_HI imaging correction_type "
    "total_count total_weight"
)
CANDELS = "ID RA Dec num_classifications num_classifications_weighted"
CLEAN = (
    "measured_corr clean_smooth clean_featured clean_clumpy clean_edge_on clean_spiral smooth_disk"
)
DECALS = (
    "iauname ra dec redshift elpetro_absmag_r sersic_nmgy_r petro_th50 petro_th90 petro_theta "
    "upload_group active_learning_on"
)
AUTO = (
    "ra dec iauname petro_theta petro_th50 petro_th90 elpetro_absmag_r sersic_nmgy_r redshift mag_r"
)
WRONG = "wrong_size_statistic wrong_size_warning"
GZ1 = "P_CS P_EL_DEBIASED P_CS_DEBIASED SPIRAL ELLIPTICAL UNCERTAIN"

# Where a table's order is not its schema's
DECALS12_QUESTIONS = (
    "smooth-or-featured how-rounded disk-edge-on edge-on-bulge bar has-spiral-arms spiral-winding "
    "spiral-arm-count bulge-size merging"
)
DECALS5_ANSWERS = {
    "bulge-size": "dominant large moderate small none",
    "edge-on-bulge": "boxy none rounded",
}


class StandIn(NamedTuple):
    words: list[str]  # Hydra's overrides that make a run of it
    votes: (
        pd.DataFrame
    )  # what read_catalogue should find: id, ra, dec, QUESTION_ANSWER and QUESTION_total


@cache
def dataset(name: str, *words: str) -> DatasetSpec:
    """conf/dataset/NAME.yaml with `words`; places that it asks for and `words` do not name are given."""
    given = {word.partition("=")[0] for word in words}
    text = (trizoo.CONF / "dataset" / f"{name}.yaml").read_text()
    complete = name.startswith("synthetic") or name in ("sdss_gz1", "gz2_hub")
    needed = [] if complete else ["images", "table"]
    places = [
        f"dataset.{key}={key}"
        for key in needed
        if f"dataset.{key}" not in given and not (key == "images" and "images: http" in text)
    ]
    return from_config(RunSpec, trizoo.compose([f"dataset={name}", *places, *words])).dataset


def named(survey: DatasetSpec) -> dict[str, tuple[str, dict[str, str]]]:
    """What the table calls each question, and each of its answers."""
    called = {}
    for question, answers in survey.questions.items():
        own, *theirs = survey.columns.names.get(question, (question, *answers))
        called[question] = own, dict(zip(answers, theirs, strict=True))
    return called


def draw_votes(survey: DatasetSpec, smooth: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Votes (galaxy, answer) on every question, of volunteers who go from question to question; `smooth` (galaxy,) is
    the chance of the first question's first answer.
    """
    rng = np.random.default_rng(seed)
    depth = layers(survey.questions, survey.leads)
    everybody = np.maximum(5, rng.poisson(40, len(smooth)))
    if survey.columns.assumed_votes:
        everybody[:] = survey.columns.assumed_votes
    votes: dict[str, np.ndarray] = {}
    for question in sorted(survey.questions, key=depth.__getitem__):
        answers = survey.questions[question]
        shares = rng.dirichlet(np.ones(len(answers)), len(smooth))
        if question == "smooth-or-featured":
            rest = rng.dirichlet(np.r_[4.0, np.full(len(answers) - 2, 0.5)], len(smooth))
            shares = np.c_[smooth, (1 - smooth)[:, None] * rest]
        asked = everybody
        # The challenge's anything-odd adds up to one, whatever was answered before.
        if question in survey.leads and (survey.name, question) != ("gz2_kaggle", "something-odd"):
            asked = np.zeros_like(everybody)
            for earlier, some in survey.leads[question].items():
                places = [survey.questions[earlier].index(answer) for answer in some]
                asked = asked + votes[earlier][:, places].sum(1)
        votes[question] = rng.multinomial(asked, shares)
    return votes


def stand_in(name: str, folder: Path, galaxies: int, seed: int = 0) -> StandIn:
    """Write `galaxies` galaxies of the survey `name` into `folder`: its table (and mapping), and images
    under images/.
    """
    folder.mkdir(parents=True, exist_ok=True)
    survey, drawn = dataset(name), draw_galaxies(galaxies, seed)
    votes = draw_votes(survey, drawn["true_smooth-or-featured_smooth"].to_numpy(), seed)
    if name == "gz_decals5":  # merging had other answers at first, which its total alone counts
        votes["merging"][::5] = 0
    rng = np.random.default_rng([seed, 1])
    ra = np.round(rng.uniform(0, 360, galaxies), 6)
    dec = np.round(rng.uniform(-20, 60, galaxies), 6)
    number = 1 + rng.permutation(3 * galaxies)[:galaxies]
    ids, files = identify(name, number, ra, dec)
    write_images(folder / "images", drawn, files)
    path = folder / ("table.csv.gz" if name == "gz_hubble" else "table.csv")
    plain = plain_columns(name, ids, ra, dec, votes, rng)
    table = pd.DataFrame(TABLES[name](Galaxies(survey, votes, plain)))
    table.to_csv(path, index=False)
    words = [f"dataset={name}", f"dataset.images={folder / 'images'}", f"dataset.table={path}"]
    if name == "gz2":
        # More galaxies have images than votes.
        mapping = {"objid": [str(OBJID), *ids], "sample": "original", "asset_id": [0, *number]}
        mapping = pd.DataFrame(mapping).sort_values("asset_id")
        mapping.to_csv(folder / "mapping.csv", index=False)
        words.append(f"dataset.joins.mapping.table={folder / 'mapping.csv'}")

    truth = {"id": ids} | ({"ra": ra, "dec": dec} if survey.columns.ra else {})
    for question, answers in survey.questions.items() if name != "gz_decals_auto" else ():
        truth |= {f"{question}_{a}": votes[question][:, i] for i, a in enumerate(answers)}
        truth[f"{question}_total"] = votes[question].sum(1)
    return StandIn(words, pd.DataFrame(truth))


def write_images(folder: Path, drawn: pd.DataFrame, files: list[str]) -> None:
    """An image of each galaxy of `drawn` under its name in `files`, as large as the surveys' and in as many colours."""
    for galaxy, file in zip(drawn.to_dict("records"), files, strict=True):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(render(galaxy)[:, :, 0])
        small.resize((WIDTH, WIDTH), Image.Resampling.BICUBIC).convert("RGB").save(folder / file)


def identify(name: str, number: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> tuple[list, list]:
    """Each galaxy's id, and its image's name under images/, as the survey `name` has them."""
    if name.startswith("gz_decals"):
        ids = [iauname(*place) for place in zip(ra, dec, strict=True)]
        return ids, [f"gz_decals_dr5_png_part1/{i[:4]}/{i}.png" for i in ids]
    first = {"gz2": OBJID, "gz1": OBJID, "gz2_kaggle": 100000, "gz_hubble": 10000000}.get(name, 0)
    form = {"gz_hubble": "AHZ{}", "gz_candels": "COS_{}"}.get(name, "{}")
    ids = [form.format(first + n) for n in number]
    return ids, [f"{n}.jpg" for n in (number if name == "gz2" else ids)]


class Galaxies(NamedTuple):
    """What a table is written of."""

    survey: DatasetSpec
    votes: dict[str, np.ndarray]  # question -> (galaxy, answer)
    plain: dict[str, object]  # columns that are no votes, under every table's names

    def put(self, names: str) -> dict[str, object]:
        """Columns that are no votes; what there is no galaxy for is one half."""
        return {name: self.plain.get(name, 0.5) for name in names.split()}

    def total(self, question: str) -> np.ndarray:
        return self.votes[question].sum(1)

    def count(self, question: str, answer: str) -> np.ndarray:
        return self.votes[question][:, self.survey.questions[question].index(answer)]

    def share(self, question: str, answer: str) -> np.ndarray:
        """To three digits; NaN where nobody was asked."""
        total = self.total(question)
        empty = np.full(len(total), np.nan)
        return np.round(np.divide(self.count(question, answer), total, empty, where=total > 0), 3)


def gz2_table(galaxies: Galaxies) -> dict:
    table = galaxies.put(GZ2)
    for question, (own, answers) in named(galaxies.survey).items():
        for answer, theirs in answers.items():
            count = galaxies.count(question, answer)
            share = np.nan_to_num(galaxies.share(question, answer))
            column = f"{own}_{theirs}"
            table |= {f"{column}_count": count, f"{column}_weight": count.astype(float)}
            table |= {f"{column}_{kind}": share for kind in ("fraction", "weighted_fraction")}
            table |= {f"{column}_debiased": share, f"{column}_flag": (share > 0.8).astype(int)}
    return table


def kaggle_table(galaxies: Galaxies) -> dict:
    table, everybody = galaxies.put("GalaxyID"), galaxies.total("smooth-or-featured")
    for question, (own, answers) in named(galaxies.survey).items():
        for answer, theirs in answers.items():
            table[f"{own}.{theirs}"] = np.round(galaxies.count(question, answer) / everybody, 6)
    return table


def hubble_table(galaxies: Galaxies) -> dict:
    table = galaxies.put(HUBBLE)
    for question, (own, answers) in named(galaxies.survey).items():
        for answer, theirs in answers.items():
            kinds = ["fraction", "weighted_fraction"]
            if question == "smooth-or-featured":
                kinds += ["debiased_fraction", "best_fraction", "lower_limit", "upper_limit"]
                kinds = [*(kinds[:2] if answer == "artifact" else kinds), "flag"]
            table |= {f"{own}_{theirs}_{kind}": galaxies.share(question, answer) for kind in kinds}
        table[f"{own}_total_count"] = galaxies.total(question)
        table[f"{own}_total_weight"] = galaxies.total(question).astype(float)
    return table


def candels_table(galaxies: Galaxies) -> dict:
    table = galaxies.put(CANDELS)
    for question, (own, answers) in named(galaxies.survey).items():
        for kind in ("frac", "weighted_frac"):
            for answer, theirs in answers.items():
                table[f"{own}_{theirs}_{kind}"] = galaxies.share(question, answer)
        for kind in ("count", "weight"):
            table[f"{own}_{kind}"] = galaxies.total(question).astype(float)
    return table | galaxies.put(CLEAN)


def gz1_table(galaxies: Galaxies) -> dict:
    ((question, (own, answers)),) = named(galaxies.survey).items()
    shares = {theirs: galaxies.share(question, answer) for answer, theirs in answers.items()}
    return (
        galaxies.put("OBJID RA DEC") | {own: galaxies.total(question)} | shares | galaxies.put(GZ1)
    )


def decals12_table(galaxies: Galaxies) -> dict:
    order = {
        question: galaxies.survey.questions[question] for question in DECALS12_QUESTIONS.split()
    }
    return galaxies.put(f"{DECALS} in_gzd_c data_release") | decals_votes(galaxies, order)


def decals5_table(galaxies: Galaxies) -> dict:
    order = galaxies.survey.questions | {q: some.split() for q, some in DECALS5_ANSWERS.items()}
    return galaxies.put(f"{DECALS} in_gzd_ab png_loc") | decals_votes(galaxies, order)


def decals_votes(galaxies: Galaxies, order: dict) -> dict:
    table = {}
    for question, some in order.items():
        own, answers = named(galaxies.survey)[question]
        total = galaxies.total(question)
        table[f"{own}_total-votes"] = np.where(total, total, came_to(galaxies, question))
        for answer in some:
            column, share = f"{own}_{answers[answer]}", galaxies.share(question, answer)
            table[column] = galaxies.count(question, answer)
            table |= {f"{column}_fraction": share, f"{column}_debiased": share}
    return table | galaxies.put(WRONG)


def auto_table(galaxies: Galaxies) -> dict:
    order = galaxies.survey.questions | {q: some.split() for q, some in DECALS5_ANSWERS.items()}
    pairs, everybody = schema.answers(order), galaxies.total("smooth-or-featured")
    samples = "[" + ", ".join(["7.3133", "12.2"] * 10) + "]"
    return (
        galaxies.put(AUTO)
        | {f"{q}_{a}_concentration": samples for q, a in pairs}
        | {f"{q}_{a}_fraction": galaxies.share(q, a) for q, a in pairs}
        | {f"{q}_proportion_volunteers_asked": galaxies.total(q) / everybody for q in order}
        | galaxies.put(f"file_loc {WRONG}")
    )


def came_to(galaxies: Galaxies, question: str) -> np.ndarray:
    """Everybody who was asked `question`, whatever they answered."""
    leads = galaxies.survey.leads.get(question, {})
    pairs = [(earlier, answer) for earlier, some in leads.items() for answer in some]
    return np.sum([galaxies.count(*pair) for pair in pairs], axis=0)


TABLES = {
    "gz2": gz2_table,
    "gz2_kaggle": kaggle_table,
    "gz_hubble": hubble_table,
    "gz_candels": candels_table,
    "gz_decals12": decals12_table,
    "gz_decals5": decals5_table,
    "gz_decals_auto": auto_table,
    "gz1": gz1_table,
}
SURVEYS = tuple(TABLES)


def plain_columns(name: str, ids: list[str], ra, dec, votes: dict[str, np.ndarray], rng) -> dict:
    """The columns of the survey `name`'s table that are no votes, and other surveys' too."""
    everybody = votes["smooth-or-featured"].sum(1)
    sky = {"ra": ra, "RA": ra, "dec": dec, "DEC": dec, "Dec": dec}
    sky |= {"rastring": sexagesimal(ra / 15), "decstring": sexagesimal(dec)}
    if name == "gz1":
        sky |= {"RA": sky["rastring"], "DEC": sky["decstring"]}
    words = {"sample": "original", "gz2_class": "Sc", "Table": "main", "imaging": "COSMOS"}
    words |= {"upload_group": "dr5", "data_release": "DR2", "active_learning_on": False}
    return {
        **dict.fromkeys(("dr7objid", "GalaxyID", "zooniverse_id", "ID", "iauname", "OBJID"), ids),
        **sky,
        **words,
        **dict.fromkeys(("total_classifications", "total_count"), everybody),
        "num_classifications": everybody.astype(float),
        "total_votes": sum(counts.sum(1) for counts in votes.values()),
        "petro_th50": np.round(rng.uniform(1, 6, len(ids)), 6),
        "petro_th90": np.round(rng.uniform(5, 20, len(ids)), 6),
        "png_loc": [f"dr5/{i[:4]}/{i}.png" for i in ids],
        "file_loc": [f"dr5/png/{i[:4]}/{i}.png" for i in ids],
    }


def sexagesimal(values: np.ndarray) -> list[str]:
    """Hours or degrees with minutes and seconds, as in 12:01:37.80 or -03:15:39.80."""
    hundredths = np.rint(np.abs(values) * 360000).astype(int)
    signs = np.where(values < 0, "-", "")
    return [
        f"{sign}{n // 360000:02d}:{n // 6000 % 60:02d}:{n % 6000 / 100:05.2f}"
        for n, sign in zip(hundredths, signs, strict=True)
    ]


def iauname(ra: float, dec: float) -> str:
    """A name made of the place, as in J081412.47+220853.0."""
    ((east,), (north,)) = sexagesimal(np.array([ra / 15])), sexagesimal(np.array([abs(dec)]))
    return f"J{east}{'-' if dec < 0 else '+'}{north[:-1]}".replace(":", "")
