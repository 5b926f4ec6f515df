"""What the network is shown: the views drawn by `shared.method.views`, applied on the device."""

import tensorflow as tf

from shared.run.spec import RunSpec

from .device import number_type


def apply_views(run: RunSpec, images, views):
    """What the network is shown, (galaxy, y, x, channel), of uint8 images (galaxy, y, x, channel) under `views`.

    Features (galaxy, unit), which an encoder has made of a view, are as they are.
    """
    if len(images.shape) == 2:
        return images
    affine, crop, contrast = views
    galaxies, channels, size = tf.shape(images)[0], images.shape[3], run.model.image_size
    planes = tf.reshape(tf.transpose(images, [0, 3, 1, 2]), [-1, *images.shape[1:3]])
    maps = (tf.repeat(one, channels, 0) for one in (affine, crop))
    x = warp(planes, *maps, size, run.augmentation.border)
    x = x / 255 if run.model.scale == "unit" else x
    x = adjust_contrast(tf.reshape(x, [galaxies, channels * size, size]), contrast)
    return tf.transpose(tf.reshape(x, [galaxies, channels, size, size]), [0, 2, 3, 1])


def warp(images, affine, crop, size: int, border: str):
    """Bilinear samples (galaxy, size, size) of images (galaxy, y, x)."""
    pixel = tf.range(size, dtype=crop.dtype)
    q = crop[:, :2, None] + pixel * crop[:, 2, None, None] // size
    q = tf.cast(q, number_type())
    rows, columns = (
        affine[:, axis, 0, None, None] * q[:, 0, :, None]
        + affine[:, axis, 1, None, None] * q[:, 1, None, :]
        + affine[:, axis, 2, None, None]
        for axis in (0, 1)
    )
    top, left = tf.floor(rows), tf.floor(columns)
    down, right = rows - top, columns - left
    flat, last = tf.reshape(images, [tf.shape(images)[0], -1]), images.shape[1] - 1

    def tap(y, x):
        place = tf.clip_by_value(y, 0, last) * (last + 1) + tf.clip_by_value(x, 0, last)
        places = tf.cast(place, tf.int32)
        value = tf.cast(tf.gather(flat, places, batch_dims=1), number_type())
        inside = (y >= 0) & (y <= last) & (x >= 0) & (x <= last)
        return tf.where(inside, value, 0) if border == "zero" else value

    above = (1 - right) * tap(top, left) + right * tap(top, left + 1)
    below = (1 - right) * tap(top + 1, left) + right * tap(top + 1, left + 1)
    return (1 - down) * above + down * below


def adjust_contrast(x, contrast):
    """Images (galaxy, y, x) with another contrast about their mean, and another brightness."""
    mean = tf.reduce_mean(x, (1, 2), keepdims=True)
    return (x - mean) * contrast[:, 1, None, None] + mean + contrast[:, 0, None, None]
