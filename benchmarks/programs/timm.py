"""timm's networks, as it makes them, in the training loop of plain PyTorch."""

from benchmarks.programs import vision  # noqa: F401  before all that imports torchvision

# isort: split
import timm

from benchmarks.programs import peers, plain_torch
from benchmarks.work import Work
from shared.run.spec import RunSpec

SIZES = ("atto", "femto", "pico", "nano", "tiny", "small")
NETWORKS = (
    "resnet18",
    "resnet50",
    "efficientnet_b0",
    *(f"convnext_{size}" for size in SIZES),
)


def work(run: RunSpec, task: str) -> Work:
    """The task called `task`, opened; ValueError for another than train_plain, and for networks that are not here."""
    peers.check(run, task, ("train_plain",), NETWORKS)
    plain_torch.configure(run)
    images = peers.galaxies(run).images
    return plain_torch.learning(run, network(run), images, lambda _, images: images)


def network(run: RunSpec):
    """The network, of two answers."""
    spec = run.model
    settings = {"in_chans": spec.channels, "num_classes": 2, "drop_rate": spec.dropout}
    return timm.create_model(spec.name, **settings).to(plain_torch.device(run))


def describe(run: RunSpec) -> dict[str, str]:
    """What computes, and how."""
    return {"timm": timm.__version__, **plain_torch.describe(run)}
