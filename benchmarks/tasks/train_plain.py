"""Training steps on images that are neither turned, zoomed nor relit, which are sampled all the same."""

from dataclasses import replace

from benchmarks.tasks import train


def work(backend, run):
    """What `train` does, with every galaxy seen as it is."""
    plain = replace(
        run.augmentation, zoom=(1.0, 1.0), rotation="none", brightness=0.0, contrast=(1.0, 1.0)
    )
    return train.work(backend, replace(run, augmentation=plain))
