import gzip
import io
import os
import re
import struct
import subprocess
import sys
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image, ImageFile

from shared.data.cutouts import (
    LARGEST,
    LARGEST_FILE,
    SIZE,
    cutout,
    grz_colours,
    lanczos,
    noise_stretch,
    reduced,
)

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("TRIZOO_REAL_DATA", ROOT.parent / "shared" / "data"))


def read_cutout(path, channels=1, stretch="noise"):
    return cutout(path.read_bytes(), channels, stretch)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(path, pixels, **how):
    Image.fromarray(pixels).save(path, **how)
    return path


def fits_file(path, planes):
    fits.PrimaryHDU(planes).writeto(path)
    return path


def blob(side=300, background=0.0):
    y, x = np.mgrid[:side, :side] - side / 2
    sky = np.random.default_rng(1).normal(background, 1, (side, side))
    return (sky + 500 * np.exp(-np.hypot(x, y) / 12)).astype(np.float32)


def test_an_image_of_the_stored_size_is_only_averaged(tmp_path):
    pixels = noise(SIZE, SIZE, 3)
    found = read_cutout(saved(tmp_path / "a.png", pixels))
    assert found.shape == (SIZE, SIZE, 1)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[..., 0], np.rint(pixels.sum(2, dtype=int) / 3))


def test_the_mean_weighs_colours_alike(tmp_path):
    red = np.zeros((SIZE, SIZE, 3), np.uint8)
    red[:, ::2, 0] = 255
    assert np.unique(read_cutout(saved(tmp_path / "a.png", red))).tolist() == [0, 85]


def test_the_mean_is_not_rounded_before_the_reduction(tmp_path):
    pixels = noise(512, 512, 3)
    pixels[:160] = 0
    pixels[:160, 0::2, 0] = 1  # a mean of 1/3
    pixels[:160, 1::2, 0] = 4  # and of 4/3: 5/6 together, but 1/2 if both were rounded first
    assert np.unique(read_cutout(saved(tmp_path / "a.png", pixels))[:75]).tolist() == [1]


def test_an_oblong_image_is_cut_about_its_centre(tmp_path):
    pixels = noise(SIZE, SIZE + 40)
    found = read_cutout(saved(tmp_path / "a.png", pixels))[..., 0]
    np.testing.assert_array_equal(found, pixels[:, 20:-20])
    found = read_cutout(saved(tmp_path / "b.png", pixels.T))[..., 0]
    np.testing.assert_array_equal(found, pixels.T[20:-20])


def test_reduction_averages_over_what_it_leaves_out(tmp_path):
    squares = (np.indices((1024, 1024)).sum(0) % 2 * 255).astype(np.uint8)
    squares[320:] = noise(704, 1024)
    found = read_cutout(saved(tmp_path / "a.png", squares))[:75]
    assert abs(int(found.min()) - 128) <= 3
    assert abs(int(found.max()) - 128) <= 3


def test_reduction_keeps_edges_as_lanczos_does(tmp_path):
    step = noise(512, 512)
    step[150:250] = 50
    step[150:250, 256:] = 200
    row = read_cutout(saved(tmp_path / "a.png", step))[100, :, 0].astype(int)
    assert row[:100].tolist() == [50] * 100
    assert row[-100:].tolist() == [200] * 100
    assert row.min() < 49  # the overshoot that gentler filters do not have
    assert row.max() > 201


def test_jpeg_is_read_near_enough(tmp_path):
    y, x = np.mgrid[:424, :424]
    pixels = (127 + 100 * np.sin(x / 40) * np.cos(y / 40)).astype(np.uint8)
    exact = read_cutout(saved(tmp_path / "a.png", pixels)).astype(int)
    lossy = read_cutout(saved(tmp_path / "a.jpeg", pixels, quality=95)).astype(int)
    assert np.abs(exact - lossy).max() <= 4


def test_modes_of_one_picture_agree(tmp_path):
    grey = noise(SIZE, SIZE)
    rgb = np.repeat(grey[..., None], 3, 2)
    opaque = np.concatenate([rgb, np.full((SIZE, SIZE, 1), 255, np.uint8)], 2)
    palette = Image.fromarray(grey).convert("P")
    palette.save(tmp_path / "palette.png")
    saved(tmp_path / "rgb.png", rgb)
    saved(tmp_path / "rgba.png", opaque)
    saved(tmp_path / "deep.png", grey.astype(np.uint16) * 257)
    Image.fromarray(grey).convert("LA").save(tmp_path / "la.png")
    for name in ("palette", "rgb", "rgba", "deep", "la"):
        np.testing.assert_array_equal(read_cutout(tmp_path / f"{name}.png")[..., 0], grey, name)


def test_transparency_and_cmyk_are_refused(tmp_path):
    pixels = np.full((SIZE, SIZE, 4), 255, np.uint8)
    pixels[3, 4, 3] = 254
    with pytest.raises(ValueError, match=r"transparent.*without an alpha channel"):
        read_cutout(saved(tmp_path / "a.png", pixels))
    Image.new("CMYK", (300, 300)).save(tmp_path / "b.jpg")
    with pytest.raises(ValueError, match=r"CMYK.*RGB or grey"):
        read_cutout(tmp_path / "b.jpg")


def test_small_images_are_not_enlarged(tmp_path):
    with pytest.raises(ValueError, match=r"300 x 255 pixels.*256 x 256 or more"):
        read_cutout(saved(tmp_path / "a.png", noise(255, 300)))


@pytest.mark.parametrize("lost", [1, 2, 3, 100, 20_000])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_picture_is_refused(tmp_path, suffix, lost):
    path = saved(tmp_path / f"a.{suffix}", noise(300, 300, 3))
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ValueError, match=r"damaged .*fetch it again"):
        read_cutout(path)


def test_a_jpeg_whose_end_is_zeros_is_refused(tmp_path):
    path = saved(tmp_path / "a.jpg", noise(300, 300, 3))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(ValueError, match=r"damaged .*fetch it again"):
        read_cutout(path)


def test_pillow_may_not_have_been_told_to_hide_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = saved(tmp_path / "a.jpg", noise(300, 300, 3))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r"LOAD_TRUNCATED_IMAGES.*False"):
        read_cutout(path)


@pytest.mark.parametrize("compress_level", [0, 6])
def test_every_byte_of_a_png_is_checked(tmp_path, compress_level):
    path = saved(tmp_path / "a.png", noise(300, 300), compress_level=compress_level)
    data = path.read_bytes()
    for place in (100, len(data) // 2, len(data) - 30, len(data) - 14):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match=r"damaged .*fetch it again"):
            read_cutout(path)


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html><p>503", b"GIF89a..."])
def test_other_files_are_refused_by_their_beginning(tmp_path, data):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"not a JPEG or PNG: it begins with b'"):
        read_cutout(path)


@pytest.mark.parametrize("side", [LARGEST + 1, 11_000, 60_000])
def test_a_decompression_bomb_is_not_unpacked(tmp_path, side):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(ValueError, match=r".*cut it"):
        read_cutout(tmp_path / "a.png")


def test_fits_axes_may_lie_either_way(tmp_path):
    planes = np.stack([blob(), 2 * blob(), 3 * blob()])
    first = read_cutout(fits_file(tmp_path / "a.fits", planes))
    last = read_cutout(fits_file(tmp_path / "b.fits", np.moveaxis(planes, 0, 2)))
    flat = read_cutout(fits_file(tmp_path / "c.fits", 2 * blob()))
    np.testing.assert_array_equal(first, last)
    assert np.abs(first.astype(int) - flat).max() <= 1
    assert first.max() == 255
    assert first[128, 128, 0] > first[128, 150, 0] > first[128, 200, 0]


def test_stretch_does_not_know_units_or_the_level_of_the_sky():
    flux = blob()[None]
    np.testing.assert_allclose(noise_stretch(flux), noise_stretch(flux * 1e3 + 5e3), atol=0.1)


def test_stretch_is_the_documented_one():
    flux = np.arange(1001, dtype=float).reshape(1, 7, 143)  # median 500, absolute deviation 250
    black, white = 500 - 2 * 1.4826 * 250, 999.0
    expected = 255 * np.arcsinh((700 - black) / (3 * 1.4826 * 250))
    expected /= np.arcsinh((white - black) / (3 * 1.4826 * 250))
    np.testing.assert_allclose(noise_stretch(flux).ravel()[700], expected)
    assert noise_stretch(flux).max() == 255


def test_bands_are_stretched_by_the_limits_of_their_mean():
    flux = np.stack([0.5 * blob(), blob(), 1.5 * blob()])
    together = noise_stretch(flux)
    np.testing.assert_allclose(together[1], noise_stretch(blob()[None])[0], atol=1e-3)
    assert together[2, 150, 160] > together[1, 150, 160] > together[0, 150, 160]


def test_grz_is_the_published_arcsinh_scaling():
    flux = np.zeros((3, 2, 2))
    flux[:, 0, 0] = 0.008, 0.014, 0.019  # one in each colour
    flux[:, 0, 1] = 0, 0, 0.019 * 3  # red alone: mean 1
    flux[:, 1, 0] = 8e3, 14e3, 19e3  # beyond white
    flux[:, 1, 1] = -8, -14, -19  # below black
    red, green, blue = grz_colours(flux)
    black, white = np.arcsinh(-0.5), np.arcsinh(300)
    grey = 255 * (np.arcsinh(1) - black) / (white - black)
    np.testing.assert_allclose([red[0, 0], green[0, 0], blue[0, 0]], grey)
    np.testing.assert_allclose(red[0, 1], 255 * (3 * np.arcsinh(1) - black) / (white - black))
    np.testing.assert_allclose(green[0, 1], 255 * -black / (white - black))
    assert red[1, 0] == green[1, 0] == blue[1, 0] == 255
    assert red[1, 1] == 0
    zero = grz_colours(np.zeros((3, 1, 1)))
    np.testing.assert_allclose(zero, 255 * -black / (white - black))


def test_grz_files_are_coloured_before_they_are_reduced(tmp_path):
    rng = np.random.default_rng(3)
    planes = rng.normal(0, 0.01, (3, 424, 424)).astype(np.float32)
    found = read_cutout(fits_file(tmp_path / "a.fits", planes), 3, "grz")
    wanted = np.stack([reduced(plane.astype(np.float32)) for plane in grz_colours(planes)], -1)
    np.testing.assert_array_equal(found, np.clip(np.rint(wanted), 0, 255))
    grey = read_cutout(tmp_path / "a.fits", 1, "grz")[..., 0]
    assert np.abs(grey - np.clip(wanted.mean(-1), 0, 255)).max() <= 0.51
    with pytest.raises(ValueError, match=r"1 bands, not g, r and z.*stretch=noise"):
        read_cutout(fits_file(tmp_path / "b.fits", planes[0]), 1, "grz")


def test_colours_are_kept_where_three_channels_are_wanted(tmp_path):
    pixels = noise(SIZE, SIZE, 3)
    found = read_cutout(saved(tmp_path / "a.png", pixels), 3)
    np.testing.assert_array_equal(found, pixels)
    grey = noise(SIZE, SIZE)
    np.testing.assert_array_equal(
        read_cutout(saved(tmp_path / "b.png", grey), 3), np.repeat(grey[..., None], 3, 2)
    )
    big = noise(600, 500, 3)
    planes = [read_cutout(saved(tmp_path / f"{c}.png", big[..., c]))[..., 0] for c in range(3)]
    np.testing.assert_array_equal(
        read_cutout(saved(tmp_path / "c.png", big), 3), np.stack(planes, -1)
    )
    planes = np.stack([blob(), 2 * blob(), 3 * blob()])
    colours = read_cutout(fits_file(tmp_path / "a.fits", planes), 3).astype(int)
    assert colours.shape == (SIZE, SIZE, 3)
    assert (colours[128, 140] > 0).all()
    assert colours[128, 140, 0] < colours[128, 140, 1] < colours[128, 140, 2]
    with pytest.raises(ValueError, match=r"2 bands, not 1 or 3"):
        read_cutout(fits_file(tmp_path / "b.fits", planes[:2]), 3)


@pytest.mark.parametrize("side", [257, 300, 423, 424, 511, 512, 700, 1000, LARGEST])
def test_reduction_is_pillows_lanczos(side):
    plane = noise(side, side, seed=side).astype(np.float32)
    pillow = np.asarray(Image.fromarray(plane).resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    np.testing.assert_allclose(reduced(plane), pillow, atol=2e-3)
    assert (np.diff(lanczos(side).indptr) <= 6 * side / SIZE + 2).all()


def test_a_file_of_absurd_length_is_refused_unread(monkeypatch):
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(ValueError, match=rf"{LARGEST_FILE + 1} bytes.*at most"):
        cutout(bytes(LARGEST_FILE + 1))


def test_fits_that_was_not_observed_is_refused(tmp_path):
    hole = blob()
    hole[5, 5] = np.nan
    with pytest.raises(ValueError, match=r"1 of 90000 values are not finite"):
        read_cutout(fits_file(tmp_path / "a.fits", hole))
    half = blob()
    half[:100] = 0
    with pytest.raises(ValueError, match=r"over 20% of a band is exactly 0"):
        read_cutout(fits_file(tmp_path / "b.fits", np.stack([blob(), half, blob()])))
    with pytest.raises(ValueError, match=r"nothing is brighter than the sky"):
        read_cutout(fits_file(tmp_path / "c.fits", np.full((300, 300), 7.0)))


def test_fits_of_other_shapes_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"its axes are \(9, 300, 300\).*\(y, x\)"):
        read_cutout(fits_file(tmp_path / "a.fits", np.zeros((9, 300, 300))))
    with pytest.raises(ValueError, match=r"225 x 225 pixels"):
        read_cutout(fits_file(tmp_path / "b.fits", np.zeros((3, 225, 225))))
    table = fits.BinTableHDU.from_columns([fits.Column("id", "K", array=[1])])
    table.writeto(tmp_path / "c.fits")
    with pytest.raises(ValueError, match=r"it holds no image.*dataset\.table"):
        read_cutout(tmp_path / "c.fits")


@pytest.mark.parametrize("lost", [1, 2880, 200_000])
def test_truncated_fits_is_refused(tmp_path, lost):
    path = fits_file(tmp_path / "a.fits", blob())
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ValueError, match=r".*(damaged|truncated)"):
        read_cutout(path)


# Images without data. Of a drawn galaxy nothing is real but how much of it is dark.


def encoded(pixels, kind="PNG", **how):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def galaxy(side=300, width=20, flat=0.5, steep=1.0, turned=0.5):
    y, x = np.mgrid[:side, :side] - side / 2
    across = (y * np.cos(turned) - x * np.sin(turned)) / flat
    along = x * np.cos(turned) + y * np.sin(turned)
    return 220 * np.exp(-((np.hypot(along, across) / width) ** (1 / steep)))


def in_bytes(light):
    return np.clip(light, 0, 255).astype(np.uint8)


def on_sky(level=20, sigma=5):
    return in_bytes(galaxy() + np.random.default_rng(2).normal(level, sigma, (300, 300)))


WAYS = [("PNG", {}), ("JPEG", {"quality": 95}), ("JPEG", {"quality": 50})]


@pytest.mark.parametrize(("kind", "how"), WAYS)
@pytest.mark.parametrize("value", [0, 30, 128, 255])
def test_an_image_of_one_value_or_half_of_it_is_refused(kind, how, value):
    whole, middle, noisy = np.full((300, 300), value, np.uint8), on_sky(), on_sky()
    left, low, bars, corner = (on_sky() for _ in range(4))
    left[:, :150] = low[150:] = bars[:75] = bars[-75:] = value
    corner[np.indices((300, 300)).sum(0) < 300] = value
    middle[100:200, 100:200] = value
    noisy[:] = value // 2 + np.random.default_rng(0).integers(0, 2, (300, 300))
    bad = [whole, left, low, corner, bars, noisy] + ([middle] if value < 255 else [])
    for pixels in bad:
        with pytest.raises(
            ValueError, match=r"\d+% of it is constant \(\d+ of 255\).*leave it out"
        ):
            cutout(encoded(pixels, kind, **how))
        with pytest.raises(ValueError, match=r"\d+% of it is constant \(\d+, \d+, \d+ of 255\)"):
            cutout(encoded(np.repeat(pixels[..., None], 3, 2), kind, **how), 3)
    third = on_sky()  # the edge of a survey
    third[:100] = value
    cutout(encoded(third, kind, **how))


def test_the_share_of_what_is_constant_is_told():
    half = on_sky()
    half[150:] = 0
    with pytest.raises(ValueError, match=r"^50% of it is constant"):
        cutout(encoded(half))


@pytest.mark.parametrize(("kind", "how"), WAYS)
def test_a_galaxy_on_a_black_sky_is_no_image_without_data(kind, how):
    for width, flat, steep, turned in product((10, 30), (0.2, 0.7), (0.5, 1, 2), (0, 0.5)):
        cutout(encoded(in_bytes(galaxy(300, width, flat, steep, turned)), kind, **how))
    cutout(encoded(on_sky(0, 3), kind, **how))
    cutout(encoded(on_sky(-3, 3), kind, **how))


@pytest.mark.parametrize(("kind", "how"), WAYS)
@pytest.mark.parametrize("turns", range(4))
def test_a_galaxy_cut_in_half_on_a_black_sky_is_refused(kind, how, turns):
    for column in (140, 150, 200):
        pixels = np.rot90(in_bytes(galaxy()), turns).copy()
        pixels[:, :column] = 0
        with pytest.raises(ValueError, match="of it is constant"):
            cutout(encoded(pixels, kind, **how))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data: set TRIZOO_REAL_DATA to their folder")
def test_real_galaxies_are_not_taken_for_images_without_data():
    pictures = sorted((REAL / "sdss_gz1" / "images").iterdir())[::40]
    for folder in ("gz_hubble", "gz_decals", "true_format_samples"):
        pictures += [p for p in (REAL / folder).rglob("*") if p.suffix in (".jpg", ".png")]
    assert len(pictures) > 200
    for path in pictures:
        read_cutout(path)
    with pytest.raises(ValueError, match="77% of it is constant"):  # a server's error message
        read_cutout(REAL / "sdss_gz1" / "images" / "587729387686002878.jpeg")


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_few_bits_in_sixteen_are_refused(bits):
    values = np.rint(galaxy() / 220 * (2**bits - 1)).astype(np.uint16)
    for data in (encoded(values), colour_png(values)):
        with pytest.raises(ValueError, match=r"16 bits are used to .*12 bits by 16.*FITS"):
            cutout(data)
    grown = values << (16 - bits)
    for data in (encoded(grown), colour_png(grown)):
        assert len(np.unique(cutout(data))) > 128


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in chunks)


def colour_png(values):
    """A PNG of 16-bit colours, which Pillow reads and does not write."""
    height, width = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    lines = np.repeat(values[..., None], 3, 2).astype(">u2").reshape(height, -1).view(np.uint8)
    lines = np.pad(lines, ((0, 0), (1, 0)))
    return png((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))


# Which image of a FITS file


def fits_bytes(*units):
    file = io.BytesIO()
    fits.HDUList([*units]).writeto(file)
    return file.getvalue()


FLUX, WEIGHT = blob(), np.random.default_rng(4).normal(9, 0.1, (300, 300)).astype(np.float32)
PRIMARY, EXTENSION, PACKED = fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU


@pytest.mark.parametrize(
    "units",
    [
        [PRIMARY(FLUX), EXTENSION(WEIGHT, name="WHT")],
        [PRIMARY(), EXTENSION(WEIGHT, name="WHT"), EXTENSION(FLUX, name="SCI")],
        [PRIMARY(WEIGHT), EXTENSION(FLUX, name="SCI"), EXTENSION(WEIGHT, name="ERR")],
        [PRIMARY(), EXTENSION(WEIGHT, name="invvar_r"), EXTENSION(FLUX, name="image_r")],
        [PRIMARY(), EXTENSION(WEIGHT, name="MASK"), EXTENSION(FLUX)],
        [PRIMARY(FLUX), EXTENSION(np.arange(5.0))],
        [PRIMARY(WEIGHT.astype(np.int16)), PACKED(FLUX, name="SCI", quantize_level=-1e-6)],
    ],
)
def test_the_science_image_of_a_fits_file_is_read(units):
    found, expected = cutout(fits_bytes(*units)), cutout(fits_bytes(PRIMARY(FLUX)))
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("units", "listed"),
    [
        ([PRIMARY(WEIGHT), EXTENSION(FLUX)], r"0 PRIMARY 300 x 300, 1 \(no name\) 300 x 300"),
        ([PRIMARY(), EXTENSION(WEIGHT, name="WHT")], "1 WHT 300 x 300"),
        (
            [PRIMARY(), EXTENSION(FLUX, name="SCI"), EXTENSION(FLUX, name="SCI", ver=2)],
            "1 SCI 300 x 300, 2 SCI 300 x 300",
        ),
    ],
)
def test_a_fits_file_whose_image_is_not_plain_is_refused_until_it_is_named(units, listed):
    data = fits_bytes(*units)
    with pytest.raises(ValueError, match=rf"{listed}\. Name one in dataset\.hdu"):
        cutout(data)
    last = len(units) - 1
    expected = cutout(fits_bytes(PRIMARY(units[-1].data)))
    np.testing.assert_array_equal(cutout(data, hdu=str(last)), expected)
    with pytest.raises(
        ValueError, match=r"none of its images is dataset\.hdu=7; it has .*300 x 300"
    ):
        cutout(data, hdu="7")


def test_a_fits_image_is_named_by_its_extname():
    data = fits_bytes(PRIMARY(WEIGHT), EXTENSION(FLUX, name="G"), EXTENSION(WEIGHT, name="R"))
    np.testing.assert_array_equal(cutout(data, hdu="g"), cutout(fits_bytes(PRIMARY(FLUX))))


# Values that stand for missing ones


@pytest.mark.parametrize("value", [-99, -999, -32768, 1e20, 9999999])
@pytest.mark.parametrize("count", [2, 50, 9000])
def test_values_that_stand_for_missing_ones_are_refused(value, count):
    flux = blob()
    flux.ravel()[:count] = value
    message = rf"{count} are {value:g}, far from".replace("+", r"\+")
    with pytest.raises(ValueError, match=message):
        cutout(fits_bytes(PRIMARY(flux)))
    with pytest.raises(ValueError, match=message):
        cutout(fits_bytes(PRIMARY(np.stack([FLUX, flux, FLUX]))))


def test_a_saturated_star_and_whole_numbers_stand_for_themselves():
    cutout(fits_bytes(PRIMARY(np.minimum(blob(), 200))))
    cutout(fits_bytes(PRIMARY(np.rint(blob()).astype(np.int16))))
    counts = np.random.default_rng(0).poisson(np.maximum(blob(), 0) / 50).astype(np.int32)
    cutout(fits_bytes(PRIMARY(counts)))


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.uint8])
@pytest.mark.parametrize("packed", [False, True])
def test_blank_and_scales_are_those_of_the_header(kind, packed):
    top = 255 if kind == np.uint8 else 20_000
    values = np.clip(blob(background=10) * 0.4 + 5, 1, top).astype(kind)
    for blank in (0, 100):
        holed = values.copy()
        holed[5, :3] = blank
        unit = PACKED(holed) if packed else PRIMARY(holed)
        offset = 2**15 if kind == np.uint16 else 0
        unit.header["BLANK"] = blank - offset
        with pytest.raises(
            ValueError, match=rf"{np.sum(holed == blank)} of 90000 values are not f"
        ):
            cutout(fits_bytes(*([PRIMARY()] if packed else []), unit))
    scaled = PRIMARY(blob())
    scaled.scale("int16", bscale=0.02, bzero=0)
    difference = cutout(fits_bytes(scaled)).astype(int) - cutout(fits_bytes(PRIMARY(blob())))
    assert np.abs(difference).max() <= 1


def test_a_band_of_one_value_is_refused():
    planes = np.stack([FLUX, np.full_like(FLUX, -1), FLUX])
    with pytest.raises(ValueError, match=r"band 2 of it is -1 everywhere"):
        cutout(fits_bytes(PRIMARY(planes)))
    half = blob()
    half[150:] = np.median(half)
    with pytest.raises(ValueError, match="of it is constant"):
        cutout(fits_bytes(PRIMARY(half)))


# Files that promise more than they are: each is refused within 400 MB more than it takes to begin.

BOUNDED = """
import resource, sys
import numpy, PIL.Image, scipy.sparse, astropy.io.fits
from shared.data.cutouts import cutout
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (400 << 20),) * 2)
try:
    cutout(open(sys.argv[1], "rb").read())
except ValueError as problem:
    print(problem)
"""


def card(key, value):
    return f"{key:8}= {value:>20}".ljust(80)


def header(*cards):
    text = "".join(cards) + "END".ljust(80)
    return text.ljust(-(-len(text) // 2880) * 2880).encode()


EMPTY = header(card("SIMPLE", "T"), card("BITPIX", 8), card("NAXIS", 0))
NOTHING = header(
    "XTENSION= 'IMAGE   '".ljust(80),
    *map(card, ["BITPIX", "NAXIS", "PCOUNT", "GCOUNT"], (8, 0, 0, 1)),
)


def packed_bomb(side, **changed):
    data = fits_bytes(PRIMARY(), PACKED(np.zeros((side, side), np.int16), tile_shape=(side, side)))
    for key, (old, new) in changed.items():
        before, after = (f"{key:8}= {value:>20}".encode() for value in (old, new))
        assert before in data
        data = data.replace(before, after)
    return data


def gzip_bomb():
    unit = PACKED(np.zeros((300, 300), np.int16), compression_type="GZIP_1", tile_shape=(300, 300))
    data = fits_bytes(PRIMARY(), unit)
    with fits.open(io.BytesIO(data), disable_image_compression=True) as units:
        head = units[1].header
        bomb = gzip.compress(bytes(1 << 29), 1)
        head["PCOUNT"] = len(bomb)
        body = struct.pack(">ii", len(bomb), 0) + bomb
        return EMPTY + head.tostring().encode() + body + bytes(-len(body) % 2880)


HUGE = {"ZNAXIS1": (300, 60_000), "ZNAXIS2": (300, 60_000)}
BOMBS = {
    "packed": (lambda: packed_bomb(300, **HUGE), "60000 x 60000 pixels; cut it"),
    "tiles": (lambda: packed_bomb(4000, ZTILE1=(4000, 1), ZTILE2=(4000, 1)), "16000000 tiles"),
    "gzip": (gzip_bomb, "unpacks to more than"),
    "units": (lambda: EMPTY + 10_000 * NOTHING, "more than 100 extensions"),
    "header": (lambda: header(card("SIMPLE", "T"), *[card("A", 1)] * 350_000), "headers .*longer"),
    "cube": (
        lambda: header(
            *map(
                card,
                ["SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3"],
                ("T", -64, 3, 4096, 4096, 4),
            )
        ),
        "end is missing|bytes, and may have",
    ),
    "chunks": (lambda: png((b"IHDR", bytes(13)), *[(b"teSt", b"")] * 70_000), "more than 65536 pa"),
    "profile": (
        lambda: png(
            (b"IHDR", struct.pack(">IIBBBBB", 300, 300, 8, 0, 0, 0, 0)),
            (b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 29), 1)),
            (b"IDAT", zlib.compress(bytes(301 * 300))),
            (b"IEND", b""),
        ),
        "damaged",
    ),
    "texts": (
        lambda: png(
            (b"IHDR", struct.pack(">IIBBBBB", 300, 300, 8, 0, 0, 0, 0)),
            *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 1000,
            (b"IDAT", zlib.compress(bytes(301 * 300))),
            (b"IEND", b""),
        ),
        "damaged",
    ),
    "segments": (lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 70_000, "more than 65536 parts"),
    "padding": (lambda: b"\xff\xd8" + b"\xff" * 10_000_000, "more than 65536 parts"),
    "scans": (lambda: b"\xff\xd8" + b"\xff\xda\0\2" * 200, "200 scans"),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is that of Linux")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_that_promises_more_than_it_is_is_refused_within_bounds(tmp_path, bomb):
    make, message = BOMBS[bomb]
    (tmp_path / "a").write_bytes(make())
    ran = subprocess.run(
        [sys.executable, "-c", BOUNDED, tmp_path / "a"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(message, ran.stdout), ran.stdout


def test_the_bytes_and_not_the_name_say_what_a_file_is(tmp_path):
    file = io.BytesIO()
    pixels = noise(SIZE, SIZE)
    Image.fromarray(pixels).save(file, "PNG")
    np.testing.assert_array_equal(cutout(file.getvalue())[..., 0], pixels)
