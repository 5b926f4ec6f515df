"""torchvision, which Zoobot's and Baal's libraries import: imported first, here, so that they can wherever it is.

Its build for CUDA does not load its operators beside a PyTorch without, and then fails for want of their names. None is
called here, so names are enough.
"""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    NAMES = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        NAMES.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
