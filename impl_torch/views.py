"""What the network is shown: the views drawn by `shared.method.views`, applied on the device."""

import torch

from shared.run.spec import RunSpec

from .device import number_type


def apply_views(run: RunSpec, images, views):
    """What the network is shown, (galaxy, y, x, channel), of uint8 images (galaxy, y, x, channel) under `views`.

    Features (galaxy, unit), which an encoder has made of a view, are as they are.
    """
    if len(images.shape) == 2:
        return images
    affine, crop, contrast = views
    galaxies, channels, size = len(images), images.shape[3], run.model.image_size
    planes = images.permute(0, 3, 1, 2).flatten(0, 1)
    maps = (torch.repeat_interleave(one, channels, 0) for one in (affine, crop))
    x = warp(planes, *maps, size, run.augmentation.border)
    x = x / 255 if run.model.scale == "unit" else x
    x = adjust_contrast(x.reshape(galaxies, channels * size, size), contrast)
    return x.reshape(galaxies, channels, size, size).permute(0, 2, 3, 1)


def warp(images, affine, crop, size: int, border: str):
    """Bilinear samples (galaxy, size, size) of images (galaxy, y, x)."""
    pixel = torch.arange(size, device=images.device, dtype=crop.dtype)
    q = crop[:, :2, None] + torch.div(pixel * crop[:, 2, None, None], size, rounding_mode="floor")
    q = q.to(number_type())
    rows, columns = (
        affine[:, axis, 0, None, None] * q[:, 0, :, None]
        + affine[:, axis, 1, None, None] * q[:, 1, None, :]
        + affine[:, axis, 2, None, None]
        for axis in (0, 1)
    )
    top, left = torch.floor(rows), torch.floor(columns)
    down, right = rows - top, columns - left
    flat, last = images.flatten(1), images.shape[1] - 1

    def tap(y, x):
        place = torch.clip(y, 0, last) * (last + 1) + torch.clip(x, 0, last)
        value = (
            torch.gather(flat, 1, place.flatten(1).long()).reshape(place.shape).to(number_type())
        )
        inside = (y >= 0) & (y <= last) & (x >= 0) & (x <= last)
        return torch.where(inside, value, 0) if border == "zero" else value

    above = (1 - right) * tap(top, left) + right * tap(top, left + 1)
    below = (1 - right) * tap(top + 1, left) + right * tap(top + 1, left + 1)
    return (1 - down) * above + down * below


def adjust_contrast(x, contrast):
    """Images (galaxy, y, x) with another contrast about their mean, and another brightness."""
    mean = torch.mean(x, (1, 2), keepdim=True)
    return (x - mean) * contrast[:, 1, None, None] + mean + contrast[:, 0, None, None]
