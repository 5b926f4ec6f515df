"""A run, as plain frozen data: what conf/ spells out and everything is built from.

YAML holds numbers and names; these classes hold their meaning and refuse what cannot be run. Every error says
the value, the rule and the fix. Only `trizoo.py` knows Hydra; what arrives here is a plain nested dict.
"""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from shared.run import credentials
from shared.run.config import USES, uses
from shared.run.questions import check, known, learned

BACKENDS = ("tf", "torch", "jax")
FORMATS = ("onnx", "torch", "keras", "flax", "timm")
# what a folder calls its weights: a run's, one that timm saved, an older one of timm
WEIGHT_FILES = ("weights.safetensors", "model.safetensors", "pytorch_model.bin")
TABLE_FORMATS = {  # of a posterior table -> what the name of its file, or folder, ends in
    "parquet": ".parquet",
    "fits": ".fits",
    "votable": ".vot",
    "csv": ".csv",
    "hats": "_hats",
    "moc": "_moc.fits",
}
COMPANION = ".csv-metadata.json"  # says what a CSV file has no place for
TABLE_COLUMNS = {"full": "posterior", "friendly": "friendly"}  # -> what it begins with
PRECISIONS = ("float64", "float32", "tf32", "bfloat16")
SKIES = ("decals", "stripe82")  # surveys whose galaxies and volunteers synthetic ones may be like
POSTERIORS = ("dropout", "laplace", "ensemble")
LIKELIHOODS = ("binomial", "multinomial", "dirichlet_multinomial")
SCORES = (
    "mutual_information",
    "entropy",
    "variance",
    "margin",
    "walk_information",
)  # of one galaxy by itself
ACQUISITIONS = (
    *SCORES,
    "random",
    "power",
    "gibbs",
    "batch_mutual_information",
    "epig",
    "k_centre",
    "mixture",
)


def one_of(name: str, value: Any, allowed: tuple) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(str, allowed))}")


MOST_VOTES = 10_000  # that a galaxy may be expected to get: sums over all counts take as long


def at_least(name: str, value: float, least: float) -> None:
    """Raise ValueError unless `value` is at least `least`."""
    if not value >= least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")


def votes_within(name: str, value: int, least: int) -> None:
    """Raise ValueError unless `value` is a number of votes from `least` to MOST_VOTES."""
    if not least <= value <= MOST_VOTES:
        raise ValueError(f"{name} is {value}; it must be from {least} to {MOST_VOTES} votes")


def in_unit(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}; it must be at least 0 and below 1")


def file_name(name: str, value: str) -> None:
    """Raise ValueError unless `value` can begin the name of a file, in the folder that it is meant for."""
    if not re.fullmatch(r"[^./\\][^/\\]{0,99}", value) or not value.isprintable():
        raise ValueError(
            f"{name} is {value!r}; it begins the name of a folder: up to 100 characters, no / or \\ among them, no "
            "control characters, and no dot first"
        )


def parse_size(name: str, value: str) -> int:
    """The bytes that `value` says, such as 512MB or 1.5 GiB; ValueError for what says none."""
    units = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(MB|GB|MiB|GiB)", value)
    size = round(float(found[1]) * units[found[2]]) if found else 0
    if size < 1:
        raise ValueError(
            f"{name} is {value!r}; give a number and {', '.join(units)}, such as 512MB or 2GB, or null"
        )
    return size


@dataclass(frozen=True)
class BackendSpec:
    """Which framework, where, and how exactly."""

    name: str  # tf | torch | jax
    device: str  # auto | cpu | gpu
    precision: str  # float64 | float32 | tf32 | bfloat16
    compiled: (
        str  # auto: as is usual there | eager: operation by operation | full: torch.compile, XLA
    )
    threads: int  # 0: every core this process may use
    chunk: int  # galaxies in one pass of prediction; the last one is padded. Another chunk rounds otherwise
    steps: int  # training steps in one call into the framework
    memory: (
        str | None
    )  # 512MB, 2GB: the most to take beyond the framework itself; null: whatever it takes
    recompute: bool  # the backward pass computes activations anew instead of keeping them: the same, slower
    python: str | None  # the interpreter of the child process; null: this one
    environment: dict[str, str]  # set before the framework is imported
    workers: (
        int  # processes that share the work, each with `threads` of its own; the result is the same
    )
    address: (
        str | None
    )  # HOST:PORT where workers of other machines join; null: all are started on this one

    def __post_init__(self):
        one_of("backend.name", self.name, BACKENDS)
        one_of("backend.device", self.device, ("auto", "cpu", "gpu"))
        one_of("backend.precision", self.precision, PRECISIONS)
        one_of("backend.compiled", self.compiled, ("auto", "eager", "full"))
        at_least("backend.threads", self.threads, 0)
        at_least("backend.chunk", self.chunk, 1)
        at_least("backend.steps", self.steps, 1)
        if self.memory is not None:
            parse_size("backend.memory", self.memory)
        at_least("backend.workers", self.workers, 1)
        if self.address is not None and not re.fullmatch(r"[^\s/]+:[1-9]\d{0,4}", self.address):
            raise ValueError(
                f"backend.address is {self.address}; it must be HOST:PORT, such as node7:29400"
            )
        if self.workers > 1 and (self.name, self.compiled) in (("jax", "eager"), ("tf", "full")):
            raise ValueError(
                f"backend.compiled is {self.compiled}, by which {self.name} cannot share work; set "
                "backend.compiled=auto or backend.workers=1"
            )
        for name in filter(credentials.names_secret, self.environment):
            raise ValueError(
                f"backend.environment sets {name}, a secret, which the run's record would keep; "
                "leave it out and set it where trizoo is started: every run inherits that"
            )


@dataclass(frozen=True)
class ColumnsSpec:
    """What a table calls its columns; null: there is none. a|b: whichever of the two is there, a first."""

    id: str  # the column of galaxies' ids, a text or whole number for each; of several files all the same
    file: str | None  # null: the image of galaxy ID is ID.jpg, .jpeg, .png or .fits
    ra: (
        str | None
    )  # right ascension, in the unit that the table gives: degrees, hours, 08:26:17.42; null: unknown
    dec: str | None  # declination, likewise
    # the unit of ra and dec, where the table gives none: deg | rad | h, hours of ra beside degrees of dec; null: deg
    place_unit: str | None
    label: (
        str | None
    )  # a class per galaxy; dataset.classes says what each answers, or null: the classes are the answers
    count: str | None  # votes per answer, a pattern of {question} and {answer}
    # instead of counts: votes / all votes on the question, a pattern; votes = round(fraction x total)
    fraction: str | None
    # votes per question, a pattern of {question}; null: the sum over the answers, or beside fractions a usual name
    total: str | None
    assumed_votes: int | None  # total, for every question, of fractions without any: an assumption
    # question -> what {question} is in the table, then what each {answer} is, in order; none: the same as here
    names: dict[str, tuple[str, ...]]

    def __post_init__(self):
        one_of("dataset.columns.place_unit", self.place_unit, (None, "deg", "rad", "h"))
        if self.assumed_votes is not None:
            votes_within("dataset.columns.assumed_votes", self.assumed_votes, 1)


@dataclass(frozen=True)
class JoinSpec:
    """Another table, whose columns are found as if they were the table's own."""

    table: str | None  # null: not used
    key: str  # its column of galaxies' ids; a|b: whichever is there


@dataclass(frozen=True)
class ScaleSpec:
    """The arcseconds in a pixel of a cutout: max(least, min over `columns` of factor x column), or `fixed`."""

    columns: dict[str, float]  # a column in arcseconds -> its factor; a|b: whichever is there
    least: float  # arcseconds per pixel, below which no scale falls
    fixed: float | None  # arcseconds per pixel of every galaxy

    def __post_init__(self):
        at_least("dataset.service.scale.least", self.least, 0)
        if self.fixed is not None and not 0 < self.fixed < 60:
            raise ValueError(
                f"dataset.service.scale.fixed is {self.fixed}; it must be in arcseconds per pixel, above 0 and below 60"
            )


@dataclass(frozen=True)
class ServiceSpec:
    """How images are fetched where dataset.images is the address of a cutout service or of a dataset hub."""

    downloads: str  # the folder that keeps every image as it came
    width: int  # pixels on a side, the {width} of the address; an answer of another size is refused
    scale: ScaleSpec  # the {scale} of the address
    at_once: int  # requests under way together
    per_second: float  # requests begun in a second, at most
    attempts: int  # for one image, before it is listed as missing
    timeout: float  # seconds without a byte
    contact: str | None  # an address of yours, told to the service

    def __post_init__(self):
        for name in ("at_once", "attempts"):
            at_least(f"dataset.service.{name}", getattr(self, name), 1)
        at_least("dataset.service.width", self.width, 256)
        for name in ("per_second", "timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"dataset.service.{name} is {getattr(self, name)}; it must be above 0"
                )
        if self.timeout > 3600:
            raise ValueError(
                f"dataset.service.timeout is {self.timeout}; it must be in seconds, at most 3600"
            )


@dataclass(frozen=True)
class DatasetSpec:
    """Where galaxies come from, and how they are stored."""

    name: str  # synthetic | folder | gz2 | ..., or any name: it begins the store's
    stores: str  # the folder that holds every store
    # null: synthetic galaxies | a folder | a zip, tar, Parquet or TFRecord file, or several (*) | hub:OWNER/NAME |
    # the address of a cutout service, of {ra} {dec} {scale} {width} {id}
    images: str | None
    licence: str | None  # of the images, as far as known; kept in the store
    table: str | None  # CSV, Parquet, FITS, VOTable or XLSX; null: no labels, ids are file stems
    # the number or name of an HDU of a FITS file, a table of a VOTable, a sheet of a workbook; null: the first table
    table_hdu: str | None
    joins: dict[
        str, JoinSpec
    ]  # a name -> another table of the same galaxies, whose columns are found, too
    columns: ColumnsSpec
    select: dict[str, tuple[str, ...]]  # a column -> the values of the galaxies that are taken
    questions: dict[str, tuple[str, ...]]  # each question's answers, in order
    leads: dict[
        str, dict[str, tuple[str, ...]]
    ]  # question -> earlier question -> those of its answers after which it is asked; none: asked of everybody
    # answer -> values of columns.label that give it one vote; null: each value is an answer
    classes: dict[str, tuple[str, ...]] | None
    galaxies: (
        int | None
    )  # at most so many, drawn by a hash of their id that is not the split's; synthetic: how many
    seed: int  # of synthetic galaxies
    # of votes on synthetic galaxies with a whole tree of questions: the correlation of two volunteers' answers to one
    # question about one galaxy, beyond what its true fractions explain; 0: there is none. null: any other galaxies
    overdispersion: float | None
    # of synthetic galaxies, the telescope: its blur, in that of dataset=synthetic, and the galaxies' brightness in sky
    # noises, likewise; null: 1. The same galaxies, seen by another survey
    seeing: float | None
    depth: float | None  # see dataset.seeing
    # of synthetic galaxies with the four questions of dataset=synthetic: decals | stripe82, as rare artifacts, vote
    # fractions and scatter of crowds as there; null: none of a survey
    population: str | None
    channels: (
        int  # 1: the mean of the colours is stored | 3: the colours; the network sees their mean
    )
    stretch: str  # of FITS: noise: by each image's own noise | grz: three bands in nanomaggies, as GZ DECaLS
    hdu: (
        str | None
    )  # of FITS images: the number (0: the first) or EXTNAME of the one that is read; null: the science image
    skip_bad_images: (
        bool  # leave out unreadable images and list them, instead of stopping at the first
    )
    crop: float  # the share of the stored width, about the centre, that a network sees at zoom 1
    service: ServiceSpec

    def __post_init__(self):
        credentials.refuse("dataset.images", self.images or "")
        file_name("dataset.name", self.name)
        if self.images is None and self.galaxies is None:
            raise ValueError(
                "dataset.galaxies is null; synthetic galaxies need a number, e.g. dataset.galaxies=2000"
            )
        if self.images is None and self.channels != 1:
            raise ValueError(
                "dataset.channels is 3; synthetic galaxies have no colours: set it to 1"
            )
        if self.galaxies is not None:
            at_least("dataset.galaxies", self.galaxies, 1)
        if self.overdispersion is not None:
            in_unit("dataset.overdispersion", self.overdispersion)
            if self.images is not None:
                raise ValueError(
                    f"dataset.overdispersion is {self.overdispersion}, but dataset.images is {self.images}; only the "
                    "votes on synthetic galaxies are drawn: set one of them to null"
                )
        for name in ("seeing", "depth"):
            value = getattr(self, name)
            if value is not None and (self.images is not None or not 0.1 <= value <= 10):
                raise ValueError(
                    f"dataset.{name} is {value}; it is of synthetic galaxies alone, and from 0.1 to 10: set it to null"
                )
        if self.population is not None:
            one_of("dataset.population", self.population, SKIES)
            if self.images is not None or self.overdispersion is not None:
                raise ValueError(
                    f"dataset.population is {self.population}; it is of dataset=synthetic alone, whose volunteers "
                    "answer four questions (on a whole tree, dataset.overdispersion scatters them): set it to null"
                )
        one_of("dataset.channels", self.channels, (1, 3))
        one_of("dataset.stretch", self.stretch, ("noise", "grz"))
        if not 0 < self.crop <= 1:
            raise ValueError(
                f"dataset.crop is {self.crop}; it must be above 0 and at most 1 (the whole image)"
            )
        for question, answers in self.questions.items():
            if len(set(answers)) != len(answers) or len(answers) < 2:
                raise ValueError(
                    f"question {question!r} has answers {list(answers)}; it needs two or more, all different"
                )
        check(self.questions, self.leads)
        if self.classes is not None and len(self.questions) != 1:
            raise ValueError(
                f"dataset.classes answers one question, but dataset.questions has {len(self.questions)}"
            )


@dataclass(frozen=True)
class MatchSpec:
    """How galaxies of two stores are matched."""

    store: str | None  # the folder of the other store
    radius: float  # arcseconds

    def __post_init__(self):
        if not 0 < self.radius <= 3600:
            raise ValueError(
                f"match.radius is {self.radius}; it must be in arcseconds, above 0 and at most 3600"
            )


@dataclass(frozen=True)
class ConformSpec:
    """What is compared with the specification."""

    kit: str | None  # a conformance kit; null: the backend of this run itself
    answers: str | None  # the folder of what another program made of the kit

    def __post_init__(self):
        if (self.kit is None) != (self.answers is None):
            raise ValueError(
                "conform.kit and conform.answers belong together; give both or neither"
            )


@dataclass(frozen=True)
class SplitSpec:
    """Shares of galaxies held out, by the hash of their id, and how many of the others are learned from."""

    validation: float  # the share of galaxies that training is stopped and the posterior checked by
    test: float  # the share of galaxies that say how good the result is
    labels: (
        int | None
    )  # at most so many training galaxies, drawn by the seed; a larger number has the smaller's too

    def __post_init__(self):
        in_unit("split.validation", self.validation)
        in_unit("split.test", self.test)
        in_unit("split.validation + split.test", self.validation + self.test)
        if self.labels is not None:
            at_least("split.labels", self.labels, 1)


@dataclass(frozen=True)
class ModelSpec:
    """The network: an architecture and its sizes, of which each architecture has its own (`SIZES`), the others null."""

    name: str  # the architecture
    image_size: int  # pixels on a side, as the network sees them
    channels: int  # 1: the mean of the colours | 3: the colours, which the store then keeps
    blocks: tuple[tuple[int, ...], ...] | None  # filters of each convolution, block by block
    dense: int | None  # units of the dense layer, or of each of the head's
    widths: (
        tuple[int, ...] | None
    )  # filters of each stage, with those of stem and top if they are on their own
    depths: tuple[int, ...] | None  # blocks of each stage
    stochastic_depth: (
        float  # rate at which the last blocks are left out in training; earlier ones less often
    )
    dropout: float  # rate at which units of the head are dropped in training
    answers: int  # outputs: one for each answer that the run learns (of a yes-or-no question no, then yes)
    scale: str  # unit: pixels enter as 0..1 | raw: as 0..255 (W20's departure 6)
    # whether pixels enter less the mean of those trained with, over their standard deviation; after another encoder
    # as it was there
    standardise: bool = False
    # fit, active: null: first weights of the seed | whose encoder training starts from: a run folder of fit, a file, a
    # folder as timm saves it, or hub:OWNER/NAME[@REVISION]
    encoder: str | None = None

    def __post_init__(self):
        credentials.refuse("model.encoder", self.encoder or "")
        one_of("model.name", self.name, tuple(SIZES))
        for size in ("blocks", "dense", "widths", "depths"):
            if (getattr(self, size) is None) == (size in SIZES[self.name]):
                wanted = "must be given" if size in SIZES[self.name] else "must be null"
                raise ValueError(
                    f"model.{size} is {getattr(self, size)}; it {wanted}: {self.name} has {', '.join(SIZES[self.name])}"
                )
        one_of("model.channels", self.channels, (1, 3))
        at_least("model.image_size", self.image_size, 1)
        if self.blocks is not None:
            halvings = 2 ** len(self.blocks)
            if self.image_size < halvings or self.image_size % halvings:
                raise ValueError(
                    f"model.image_size is {self.image_size}, which cannot be halved {len(self.blocks)} times; "
                    f"use a multiple of {halvings}"
                )
        for size, count in SIZES[self.name].items():
            values = getattr(self, size)
            if count and len(values) != count:
                raise ValueError(
                    f"model.{size} is {list(values)}; {self.name} needs {count} numbers there"
                )
            for value in flattened(values):
                at_least(f"model.{size}", value, 1)
        in_unit("model.dropout", self.dropout)
        at_least("model.answers", self.answers, 2)
        in_unit("model.stochastic_depth", self.stochastic_depth)
        if self.stochastic_depth and self.name not in WITH_STOCHASTIC_DEPTH:
            raise ValueError(
                f"model.stochastic_depth is {self.stochastic_depth}; {self.name} has none: set it to 0"
            )
        one_of("model.scale", self.scale, ("unit", "raw"))


STAGES = {"widths": 4, "depths": 4}
SIZES: dict[
    str, dict[str, int | None]
] = {  # how many numbers each size of an architecture has; None: as many as wanted
    "w20": {"blocks": None, "dense": None},
    "dieleman": {"widths": 4, "dense": None},
    "resnet18": STAGES,
    "resnet50": STAGES,
    "efficientnet_b0": {"widths": 9, "depths": 7},
    **{f"convnext_{size}": STAGES for size in ("atto", "femto", "pico", "nano", "tiny", "small")},
}
WITHOUT_LINEAR_HEAD = ("dieleman",)  # units and answers have more than one layer between them
WITH_STOCHASTIC_DEPTH = tuple(
    name for name in SIZES if name.startswith(("convnext", "efficientnet"))
)


def flattened(values) -> tuple[int, ...]:
    """The numbers in a number, or in tuples of such."""
    if isinstance(values, int):
        return (values,)
    return tuple(number for value in values for number in flattened(value))


@dataclass(frozen=True)
class AugmentationSpec:
    """How a galaxy is turned, zoomed and relit each time it is seen."""

    zoom: tuple[float, float]  # uniform between the two
    shift: str  # anywhere: the zoomed window lies anywhere in the crop | centred
    rotation: str  # full: 0 to 2 pi | half: 0 to pi (W20's departure 4) | none
    border: str  # edge: beyond the image, its nearest pixel | zero (departure 4)
    resampling: str  # bilinear: one sampling | nearest: bilinear rotation, then nearest-neighbour zoom (departure 5)
    zoom_per: str  # image | call: one for 15 steps, one for a whole prediction pass (departure 2)
    brightness: float  # added, uniform in +- this
    contrast: tuple[float, float]  # about the image's mean, uniform between the two
    at_prediction: bool  # also at prediction, for every sample anew (departure 3)

    def __post_init__(self):
        low, high = self.zoom
        if not 1 <= low <= high:
            raise ValueError(f"augmentation.zoom is [{low}, {high}]; it must rise from at least 1")
        if not 0 < self.contrast[0] <= self.contrast[1]:
            raise ValueError(
                f"augmentation.contrast is {list(self.contrast)}; it must rise from above 0"
            )
        at_least("augmentation.brightness", self.brightness, 0)
        one_of("augmentation.shift", self.shift, ("anywhere", "centred"))
        one_of("augmentation.rotation", self.rotation, ("full", "half", "none"))
        one_of("augmentation.border", self.border, ("edge", "zero"))
        one_of("augmentation.resampling", self.resampling, ("bilinear", "nearest"))
        one_of("augmentation.zoom_per", self.zoom_per, ("image", "call"))


@dataclass(frozen=True)
class TrainingSpec:
    """Adam on the mean negative log likelihood of a batch's votes."""

    batch_size: int  # galaxies in a step
    # steps in all; null: 4,500 times the root of the number of galaxies trained with, in images, and 800 steps or more
    steps: int | None
    learning_rate: float  # the size of a step, before schedule and warmup
    schedule: str  # constant | cosine: the rate falls to 0 along half a wave over all steps, of active in every round
    warmup: int  # first steps, in which the rate rises in equal parts to `learning_rate`
    # the share of itself that a weight loses in a step at a rate of 1 (AdamW); arrays of one dimension lose nothing
    weight_decay: float
    layer_decay: float  # what the rate of each block is, in that of the block after it; the head has the whole rate
    clip: float | None  # the largest norm of all gradients together; null: any
    # all | head: what comes after the units | last:N, the head, a norm of the units and the N blocks before it |
    # a regular expression of names of weights
    trainable: str
    # the parts of a batch, whose gradients are added in their order, whatever computes them; null: the most of 8, 4, 2
    # and 1 that leave 32 galaxies or more in each. Batch norms have moments of their own in each
    shards: int | None
    # validations without a better one, after which training ends, and the best weights are kept; null: the last ones
    patience: int | None
    beta1: float  # Adam's memory of gradients
    beta2: float  # and of their squares
    epsilon: float  # Adam's, beside the root
    epsilon_form: (
        str  # textbook: outside the root, after bias correction | hat: before it (departure 11)
    )
    moments: str  # of batch norms. batch: those of the batch, by which running ones move | frozen: the running ones
    validate_every: int  # steps; 0: only at the end
    checkpoint_every: int  # steps; 0: only at the end
    members: int  # networks trained side by side, each from first weights and batches of its own

    def __post_init__(self):
        at_least("training.batch_size", self.batch_size, 1)
        if self.steps is not None:
            at_least("training.steps", self.steps, 1)
        at_least("training.members", self.members, 1)
        at_least("training.validate_every", self.validate_every, 0)
        at_least("training.checkpoint_every", self.checkpoint_every, 0)
        if not self.learning_rate > 0:
            raise ValueError(f"training.learning_rate is {self.learning_rate}; it must be above 0")
        one_of("training.schedule", self.schedule, ("constant", "cosine"))
        at_least("training.warmup", self.warmup, 0)
        at_least("training.weight_decay", self.weight_decay, 0)
        if not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"training.layer_decay is {self.layer_decay}; it must be above 0 and at most 1 (all rates alike)"
            )
        try:
            re.compile(self.trainable)
        except re.error as error:
            raise ValueError(
                f"training.trainable is {self.trainable!r}, which is no regular expression ({error}); give all, head, "
                "last:N or a pattern of names of weights, such as stage3|units|answer"
            ) from error
        if self.clip is not None and not self.clip > 0:
            raise ValueError(
                f"training.clip is {self.clip}; it must be above 0, or null for no limit"
            )
        if self.shards is not None and (self.shards < 1 or self.batch_size % self.shards):
            raise ValueError(
                f"training.shards is {self.shards}; it must be at least 1 and divide training.batch_size, which is "
                f"{self.batch_size}"
            )
        if self.patience is not None:
            at_least("training.patience", self.patience, 1)
            if not self.validate_every:
                raise ValueError(
                    f"training.patience is {self.patience}, but training.validate_every is 0; give the steps between "
                    "validations"
                )
        in_unit("training.beta1", self.beta1)
        in_unit("training.beta2", self.beta2)
        one_of("training.epsilon_form", self.epsilon_form, ("textbook", "hat"))
        one_of("training.moments", self.moments, ("batch", "frozen"))


LEAST = 32  # galaxies of a shard, unless a run says otherwise


def shard_count(spec: TrainingSpec, galaxies: int) -> int:
    """Into how many shards a batch is cut: consecutive galaxies, as many in each."""
    if spec.shards is not None:
        return spec.shards if galaxies % spec.shards == 0 else 1
    fitting = (count for count in (8, 4, 2) if galaxies % count == 0 and galaxies // count >= LEAST)
    return next(fitting, 1)


@dataclass(frozen=True)
class LikelihoodSpec:
    """What is taken to draw volunteers' votes, given the network's outputs."""

    # dirichlet_multinomial (W+22), of two answers the beta-binomial: votes that scatter | multinomial: independent
    # votes | binomial: independent votes on a yes-or-no question (W+20)
    name: str
    concentrations: (
        str  # dirichlet_multinomial: exp, of the outputs | sigmoid: 1 + 100 sigmoid (W+22)
    )

    def __post_init__(self):
        one_of("likelihood.name", self.name, LIKELIHOODS)
        one_of("likelihood.concentrations", self.concentrations, ("exp", "sigmoid"))


@dataclass(frozen=True)
class PosteriorSpec:
    """What is asked of the trained network."""

    # laplace: last layers drawn from their own posterior | dropout: units of the head dropped at random (W+20), both of
    # each of training.members in turn | ensemble: these networks themselves, and nothing is dropped
    method: str
    samples: int  # per galaxy; of an ensemble, as many of each member
    expected_votes: int  # N of the predicted count interval and of the mutual information
    # predict: null | a run folder of calibrate, or its recalibration.json: the scale of concentrations and the
    # conformal intervals that it found
    calibration: str | None
    galaxies: str  # all | test: whose posterior is written
    format: tuple[
        str, ...
    ]  # parquet | fits | votable | csv | hats | moc, one or several, beside posterior.parquet
    columns: (
        str  # of those files. full: every column | friendly: mean, 90 % interval and asked alone
    )

    def __post_init__(self):
        one_of("posterior.method", self.method, POSTERIORS)
        at_least("posterior.samples", self.samples, 1)
        votes_within("posterior.expected_votes", self.expected_votes, 1)
        one_of("posterior.galaxies", self.galaxies, ("all", "test"))
        if not self.format:
            raise ValueError(f"posterior.format is empty; name one of {', '.join(TABLE_FORMATS)}")
        for name in self.format:
            one_of("posterior.format", name, tuple(TABLE_FORMATS))
        one_of("posterior.columns", self.columns, tuple(TABLE_COLUMNS))

    @property
    def by_laplace(self) -> bool:
        """Whether samples are last layers drawn from their own posterior."""
        return self.method == "laplace"


@dataclass(frozen=True)
class AcquisitionSpec:
    """Which galaxies are asked about next, and the schedule of asking."""

    name: str  # the acquisition function
    samples: int  # of each galaxy of the pool
    expected_votes: int  # 0: as many as the catalogue has of each galaxy
    of: str  # power, gibbs, mixture: the score they draw by
    coldness: float  # power, gibbs: how much the score decides; 0: nothing, all are alike
    share: float  # mixture: the chance that a place goes to any galaxy at all
    guard: float  # the share of the pool that no score may choose: those whose features lie farthest out
    states: int  # batch_mutual_information: joint counts of a batch, all of them or, if more, so many drawn
    targets: int  # epig: how many galaxies' votes are to be foretold
    target: (
        str | None
    )  # epig: null: galaxies of the pool | a CSV file whose column id names galaxies of the dataset
    initial: int  # galaxies labelled before the first round, at random
    per_round: int  # galaxies labelled in each round
    rounds: int  # after each of which galaxies are chosen and their votes come in
    first_steps: int  # training steps before the first choice
    round_steps: int  # and in each round
    start: str  # warm: each round trains on | cold: each round begins at the first weights
    shards: int  # 0: score the whole pool | n: score n random shards of it (departure 9)
    shard_size: int  # galaxies of a shard
    vote_choices: tuple[int, ...]  # ask_next.csv: numbers of votes that may be asked for
    # ask_next.csv: votes to hand out, with mutual_information over the whole pool; null: expected_votes for each galaxy
    vote_budget: int | None
    weighted: bool  # whether those labelled weigh in training as they were drawn, so that they stand for the pool
    least_gain: (
        float  # nats of test NLL by which a batch is to lower it, to be called worth its votes
    )

    def __post_init__(self):
        one_of("acquisition.name", self.name, ACQUISITIONS)
        one_of("acquisition.of", self.of, SCORES)
        one_of("acquisition.start", self.start, ("warm", "cold"))
        for name in (
            "samples",
            "states",
            "targets",
            "initial",
            "per_round",
            "first_steps",
            "round_steps",
            "shard_size",
        ):
            at_least(f"acquisition.{name}", getattr(self, name), 1)
        votes_within("acquisition.expected_votes", self.expected_votes, 0)
        for name in ("coldness", "rounds", "shards"):
            at_least(f"acquisition.{name}", getattr(self, name), 0)
        if not 0 <= self.share <= 1:
            raise ValueError(f"acquisition.share is {self.share}; it must be from 0 to 1")
        in_unit("acquisition.guard", self.guard)
        at_least("acquisition.least_gain", self.least_gain, 0)
        choices = self.vote_choices
        if not choices or choices[0] < 1 or list(choices) != sorted(set(choices)):
            raise ValueError(
                f"acquisition.vote_choices is {list(choices)}; it must rise from at least 1"
            )
        votes_within("acquisition.vote_choices", choices[-1], 1)
        if self.vote_budget is not None:
            at_least("acquisition.vote_budget", self.vote_budget, 1)


@dataclass(frozen=True)
class ShowSpec:
    """What volunteers see of a galaxy."""

    # source: drawn from its image file, in colour where that has some | original: the file itself | store: the pixels
    # that are stored, as the network's views sample them
    image: str = "source"
    colour: bool = True  # source: false: grey, the mean of the colours
    width: int = 512  # source: pixels on the longer side, at most; nothing is enlarged

    def __post_init__(self):
        one_of("oracle.show.image", self.image, ("source", "original", "store"))
        at_least("oracle.show.width", self.width, 64)


@dataclass(frozen=True)
class OracleSpec:
    """Who tells the votes of the galaxies that are asked about."""

    # catalogue: the dataset's own votes | volunteers: classifications put in the run's folder | label: people, on the
    # page of `trizoo label`
    name: str
    votes: int | None  # catalogue: so many of a galaxy's votes, drawn; null: all of them
    tasks: dict[str, str]  # volunteers: a task of the workflow (T0) -> the question it asks
    answers: dict[
        str, str
    ]  # volunteers: an answer's text -> ours; none: alike but for case and punctuation
    project: (
        int | None
    )  # volunteers: the project that galaxies are uploaded to; null: they are only written
    workflow: (
        str | None
    )  # volunteers: the number or the name of the one that counts; null: the only one
    # volunteers: the version of the workflow that counts, 16.55, or 16: all that begin so; null: every one
    version: str | None = None
    # volunteers: none: everybody counts alike | agreement: not those who seldom agree with others
    weighting: str = "none"
    show: ShowSpec = ShowSpec()  # volunteers: what they see
    exports: tuple[str, ...] = ()  # votes: classification exports of any project
    galaxy: str | None = (
        None  # votes: the field of a subject's metadata with its galaxy's id; null: !galaxy
    )
    # votes: the questions of the exports, each with its answers; none: the tasks as they are worded there
    questions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self):
        one_of("oracle.name", self.name, ("catalogue", "volunteers", "label"))
        one_of("oracle.weighting", self.weighting, ("none", "agreement"))
        if self.votes is not None:
            votes_within("oracle.votes", self.votes, 1)


@dataclass(frozen=True)
class LabelSpec:
    """The page on which people label: when it ends, what it asks about, and who may open it."""

    target: int | None  # labels after which `label` ends; null: when somebody says so
    random: (
        float  # the share of galaxies that come at random; only these say how good the network is
    )
    first: int  # labels of random galaxies before the network learns
    every: int  # labels after which it learns again
    per_galaxy: int  # people who label each galaxy
    host: (
        str | None
    )  # the address to listen at, then with a token; null: 127.0.0.1, for this machine alone
    port: int  # 0: any that is free

    def __post_init__(self):
        for name in ("first", "every", "per_galaxy"):
            at_least(f"label.{name}", getattr(self, name), 1)
        if self.target is not None:
            at_least("label.target", self.target, 1)
        if not 0 <= self.random <= 1:
            raise ValueError(f"label.random is {self.random}; it must be from 0 to 1")
        if not 0 <= self.port < 65536:
            raise ValueError(f"label.port is {self.port}; it must be from 0 to 65535")


@dataclass(frozen=True)
class BenchSpec:
    """What is timed, of whom, and how often; see benchmarks/METHOD.md."""

    programs: tuple[str, ...]  # of benchmarks/programs, interleaved; none: this run's backend alone
    tasks: tuple[str, ...]  # files of benchmarks/tasks
    batch_size: int  # galaxies in a step of training, and in a call of prediction
    warmup: int  # calls, at most, until a task is steady
    rounds: int  # in each, every program has its turn
    repeats: int  # calls in a turn
    galaxies: int  # of the dataset, for the tasks that read a store
    target: float  # NLL (nats, lower is better) that the task quality trains to
    pythons: dict[str, str]  # the interpreter of each program that needs an environment of its own
    price_per_hour: float  # of the machine, for the report's ledger of costs
    patience: float  # seconds that a program may take over its first call, its warm-up or a turn

    def __post_init__(self):
        at_least("bench.batch_size", self.batch_size, 1)
        at_least("bench.warmup", self.warmup, 1)
        at_least("bench.rounds", self.rounds, 1)
        at_least("bench.repeats", self.repeats, 1)
        at_least("bench.galaxies", self.galaxies, 1)
        at_least("bench.price_per_hour", self.price_per_hour, 0)
        at_least("bench.patience", self.patience, 1)


@dataclass(frozen=True)
class SlurmSpec:
    """What a worker of Dask asks of Slurm."""

    partition: str | None  # the queue; null: the cluster's usual one
    account: str | None  # who is charged; null: the user's usual one
    time: str  # HOURS:MINUTES:SECONDS that it may take
    memory: str  # 32GB
    cores: int  # of a worker, and so of a part
    options: tuple[str, ...]  # any other of sbatch's: --gres=gpu:1

    def __post_init__(self):
        if not re.fullmatch(r"(\d+-)?\d+:[0-5]\d:[0-5]\d", self.time):
            raise ValueError(
                f"engine.slurm.time is {self.time!r}; give HOURS:MINUTES:SECONDS, such as '24:00:00'"
            )
        parse_size("engine.slurm.memory", self.memory)
        at_least("engine.slurm.cores", self.cores, 1)


@dataclass(frozen=True)
class EngineSpec:
    """Who does the parts of a prediction."""

    name: str  # none: this machine, one after the other | dask: the workers of Dask
    scheduler: (
        str | None
    )  # dask: null: processes of this machine | HOST:PORT of a scheduler that runs | slurm: jobs of Slurm
    workers: (
        int  # dask: processes of this machine, or jobs of Slurm; a scheduler that runs has its own
    )
    slurm: SlurmSpec

    def __post_init__(self):
        one_of("engine.name", self.name, ("none", "dask"))
        at_least("engine.workers", self.workers, 1)
        address = r"slurm|(\w+://)?[^\s/]+:[1-9]\d{0,4}"
        if self.scheduler is not None and not re.fullmatch(address, self.scheduler):
            raise ValueError(
                f"engine.scheduler is {self.scheduler!r}; give HOST:PORT, slurm, or null for this machine's processes"
            )


@dataclass(frozen=True)
class TaskSpec:
    """What to do."""

    name: str


@dataclass(frozen=True)
class RunSpec:
    """One run: one task, one framework, one process, one folder."""

    task: TaskSpec
    seed: int  # of all random numbers
    question: (
        str  # the one that is learned and measured; with questions, the one that is looked at alone
    )
    positive: tuple[str, ...]  # the answers counted as yes
    # null: question alone, as yes or no | all, or names of questions: with all their answers, learned together; then
    # question and positive are what acquisitions and measures of a single question look at
    questions: tuple[str, ...] | None
    minimum_votes: (
        int  # galaxies with fewer votes on the question are not trained on or tested with
    )
    outputs: str  # where runs are kept
    folder: str | None  # of this run; null: outputs/TASK/NAME, the name made from the run itself
    # predict, calibrate, export: a run folder of fit, or a weights.safetensors | fit: such, to train on from
    weights: str | None
    run: (
        str | None
    )  # catalogue: a run folder of fit or predict, or a posterior.parquet | gather: of predict in parts
    parts: (
        int | None
    )  # predict: into how many runs the galaxies are cut, each of which may be done anywhere
    part: (
        int | None
    )  # predict: which of them, from 0; null: all that are missing, one after the other
    stream: bool  # predict: read images as they are wanted, and keep none: no store is made
    format: str  # export: onnx, for other languages | torch, keras, flax: that framework's own file | timm: the encoder
    again: bool  # do a finished run anew
    backend: BackendSpec
    dataset: DatasetSpec
    match: MatchSpec
    conform: ConformSpec
    engine: EngineSpec
    split: SplitSpec
    model: ModelSpec
    augmentation: AugmentationSpec
    training: TrainingSpec
    likelihood: LikelihoodSpec
    posterior: PosteriorSpec
    acquisition: AcquisitionSpec
    oracle: OracleSpec
    label: LabelSpec
    bench: BenchSpec

    def __post_init__(self):
        one_of("task.name", self.task.name, tuple(USES))
        one_of("format", self.format, FORMATS)
        if uses(self.task.name, "question"):
            self._check_question()
        at_least("minimum_votes", self.minimum_votes, 1)
        if uses(self.task.name, "parts"):
            self._check_parts()
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}; it must be at least 0 and below 2^64")
        if self.training.batch_size > 65536:
            raise ValueError(
                f"training.batch_size is {self.training.batch_size}; it must be at most 65536"
            )
        if uses(self.task.name, "posterior.method"):
            self._check_posterior()
        members, task = self.training.members, self.task.name
        if task in ("fit", "active"):
            self._check_workers()
        if self.model.channels > self.dataset.channels and uses(task, "dataset.channels"):
            raise ValueError(
                f"model.channels is {self.model.channels}, but dataset.channels is {self.dataset.channels}, so that "
                f"the store would keep one channel; set dataset.channels={self.model.channels}, or model.channels=1"
            )
        if task == "fit" and self.weights is not None and self.model.encoder is not None:
            raise ValueError(
                "weights and model.encoder both say where training starts; leave one out: weights=... takes the whole "
                "network, model.encoder=... its encoder alone"
            )
        if task == "active" and self.training.patience is not None:
            raise ValueError(
                f"training.patience is {self.training.patience}; active trains for as many steps as its rounds have: "
                "set it to null"
            )
        if self.seed + members > 2**64:
            raise ValueError(
                f"seed is {self.seed} and training.members {members}; each member has a seed of its own, up to 2^64"
            )
        asked = {}
        if task in ("fit", "predict", "calibrate", "active"):
            asked["posterior.samples"] = self.posterior.samples
        if task == "active":
            asked["acquisition.samples"] = self.acquisition.samples
        for name, samples in asked.items():
            if samples % members:
                raise ValueError(
                    f"{name} is {samples}; it must be a multiple of training.members, {members}: "
                    "each member gives as many samples"
                )
        if members > 1 and task in ("bench", "export"):
            raise ValueError(
                f"training.members is {members}; {task} is of one network: that of a fit with training.members=1, "
                "whose seed may be that of a member (seed, seed + 1, ...)"
            )

    def _check_workers(self) -> None:
        workers, galaxies = self.backend.workers, self.training.batch_size
        if (shards := shard_count(self.training, galaxies)) % workers:
            fitting = [n for n in range(workers, galaxies + 1, workers) if galaxies % n == 0]
            fix = (
                f"set training.shards={fitting[0]}"
                if fitting
                else f"make training.batch_size a multiple of {workers} and set training.shards={workers}"
            )
            raise ValueError(
                f"backend.workers is {workers}, but a batch of {galaxies} galaxies is cut into {shards} shards, which "
                f"so many cannot share; {fix}, or backend.workers to what divides {shards}"
            )

    def _check_parts(self) -> None:
        if self.parts is None:
            if self.part is not None:
                raise ValueError(
                    f"part is {self.part}, but parts is null; say of how many: parts=64"
                )
            return
        at_least("parts", self.parts, 1)
        if self.part is not None and not 0 <= self.part < self.parts:
            raise ValueError(
                f"part is {self.part}; of parts={self.parts} it must be from 0 to {self.parts - 1}"
            )

    def _check_posterior(self) -> None:
        method, members = self.posterior.method, self.training.members
        if method == "ensemble" and members == 1:
            raise ValueError(
                f"posterior.method is {method}, which is of several networks, and training.members is 1; set "
                "training.members=5 in the fit, or choose posterior=laplace or posterior=dropout"
            )
        if self.posterior.by_laplace:
            self._check_laplace()

    def _check_laplace(self) -> None:
        fix = "choose another or posterior=dropout"
        method = f"posterior.method is {self.posterior.method}"
        if self.model.name in WITHOUT_LINEAR_HEAD:
            raise ValueError(
                f"{method}, which is of one linear layer from units to answers, and model.name is "
                f"{self.model.name}, whose head has several; {fix}"
            )
        if self.likelihood.name == "binomial":
            raise ValueError(
                f"{method} and likelihood.name {self.likelihood.name}: the votes on a yes-or-no "
                "question are taken as independent, and the posterior would be much too sure; give "
                "likelihood=dirichlet_multinomial, or posterior=dropout"
            )
        if self.augmentation.at_prediction:
            raise ValueError(
                f"{method}, which is of galaxies as they are, and augmentation.at_prediction is true; set it to "
                "false, or posterior=dropout"
            )

    def _check_question(self) -> None:
        answers = self.dataset.questions.get(self.question)
        if answers is None:
            raise ValueError(
                f"question is {self.question!r}; dataset {self.dataset.name} asks {', '.join(self.dataset.questions)}"
            )
        strange = [answer for answer in self.positive if answer not in answers]
        if strange or not self.positive or set(self.positive) == set(answers):
            raise ValueError(
                f"positive is {list(self.positive)}; {self.question} has the answers {', '.join(answers)}: "
                "name at least one of them and not all"
            )
        for name in self.questions or ():
            known(f"questions has {name!r}", name, ("all", *self.dataset.questions))
        if self.question not in dict(self.asked):
            raise ValueError(
                f"question is {self.question!r}, which is not among questions={list(self.questions)}; set question and "
                "positive to one of these: measures and acquisitions of a single question look at it"
            )
        if self.likelihood.name == "binomial" and self.questions is not None:
            raise ValueError(
                "likelihood.name is binomial, which is for one yes-or-no question; with questions=... choose "
                "multinomial or dirichlet_multinomial"
            )
        if self.questions is not None and self.oracle.votes is not None:
            raise ValueError(
                f"oracle.votes is {self.oracle.votes}; of whole questions all votes are revealed: set it to null"
            )
        if self.model.answers != (wanted := sum(len(outputs) for _, outputs in self.asked)):
            raise ValueError(
                f"model.answers is {self.model.answers}, but the questions have {wanted} answers; set it to that"
            )

    @property
    def asked(self) -> tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]:
        """Each question that is learned, and for each output of it the answers that it counts.

        Of a yes-or-no question the outputs are no and yes; of whole questions, each answer.
        """
        if self.questions is None:
            return ((self.question, (self.negative, self.positive)),)
        questions = self.dataset.questions
        return tuple(
            (question, tuple((answer,) for answer in questions[question]))
            for question in learned(self.questions, questions)
        )

    @property
    def negative(self) -> tuple[str, ...]:
        """The answers counted as no."""
        return tuple(
            answer
            for answer in self.dataset.questions[self.question]
            if answer not in self.positive
        )


T = TypeVar("T")


def from_config(kind: type[T], config: dict) -> T:
    """A `kind` from nested plain data.

    Raises ValueError, with the full name of the key, for a key too many, a key too few or a value of the wrong type.
    """
    return _read(kind, config, "")


def _read(kind, value, name: str):
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{name} is {value!r}; it must be a group of keys")
        hints = get_type_hints(kind)
        prefix = f"{name}." if name else ""
        for key in value.keys() - hints.keys():
            raise ValueError(f"no key {prefix}{key}; correct it to one of {', '.join(hints)}")
        for key in hints.keys() - value.keys():
            raise ValueError(
                f"the key {prefix}{key} is missing; add it as conf/ has it, or begin the run anew"
            )
        return kind(
            **{
                field.name: _read(hints[field.name], value[field.name], prefix + field.name)
                for field in fields(kind)
            }
        )
    origin, inner = get_origin(kind), get_args(kind)
    if type(None) in inner:
        return None if value is None else _read(inner[0], value, name)
    if origin is tuple and inner == (str, ...) and isinstance(value, str):
        value = [value]
    if origin is tuple and isinstance(value, list | tuple):
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(kinds) != len(value):
            raise ValueError(f"{name} is {list(value)}; it must have {len(kinds)} values")
        return tuple(
            _read(k, v, f"{name}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is dict and isinstance(value, dict):
        return {str(key): _read(inner[1], entry, f"{name}.{key}") for key, entry in value.items()}
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, name)
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if origin is None and isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{name} is {value!r}, which is not {getattr(kind, '__name__', kind)}")


def completed(kind, held: dict, default: dict, name: str = "") -> dict:
    """The config `held` of a `kind`, of which keys that it lacks are as in `default`: a file older than they are.

    Raises ValueError for a key that a `kind` has not, or a group that is none.
    """
    if not isinstance(held, dict):
        raise ValueError(f"{name or 'it'} is {held!r}, not a group of keys")
    hints, whole = get_type_hints(kind), {}
    if strange := held.keys() - hints.keys():
        raise ValueError(f"{name}{min(strange)} is no key")
    for key, inner in hints.items():
        whole[key] = held.get(key, default[key])
        if is_dataclass(inner):
            whole[key] = completed(inner, whole[key], default[key], f"{name}{key}.")
    return whole


def _finite(value: float, name: str) -> float:
    """`value` as a float; ValueError for one that JSON cannot hold, and that nothing can be reckoned with."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} is {number}; it must be a finite number")
    return number


def to_config(spec) -> dict:
    """The nested plain data that `from_config` makes `spec` from; JSON can hold it."""
    return json.loads(json.dumps(asdict(spec)))


def digest(value: Any, length: int = 10) -> str:
    """A short name for plain data: the same data, the same name."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
