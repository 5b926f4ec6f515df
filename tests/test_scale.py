"""The cost model: measured pieces, put together."""

import re

import pytest

import trizoo
from conf.compose import read_yaml
from reports import scale
from shared.run.launch import ROOT

PRICES = read_yaml(trizoo.CONF / "prices.yaml")
ROUND = scale.Pieces(
    read=100.0,
    image_bytes=65536.0,
    row_bytes=250.0,
    write=50_000.0,
    cpu=50.0,
    gpu=20_000.0,
    cpu_train=10.0,
    gpu_train=10_000.0,
    cpu_start=5.0,
    gpu_start=10.0,
)


def test_every_piece_is_in_the_records():
    for name, value in scale.pieces()._asdict().items():
        assert value > 0, name


def test_a_cpu_reads_and_computes_in_turn_and_a_gpu_at_the_same_time():
    cpu = scale.cost(scale.Machine("cpu", 1, 4, False, 0.36), ROUND, parts=10)
    assert (cpu.read, cpu.network, cpu.write) == (2500, 5000, 20)
    assert cpu.seconds == 2500 + 5000 + 20 + 50
    assert cpu.bottleneck == "the network"
    assert cpu.dollars == pytest.approx(7570 / 10_000)
    assert (cpu.bytes_read, cpu.bytes_written) == (65_536_000_000, 250_000_000)
    gpu = scale.cost(scale.Machine("gpu", 1, 16, True, 3.6), ROUND, parts=1)
    assert gpu.seconds == max(625, 50) + 20 + 10
    assert gpu.bottleneck == "reading"


def test_more_nodes_share_all_but_the_writing():
    one = scale.cost(scale.Machine("one", 1, 8, False, 1.0), ROUND, parts=64)
    many = scale.cost(scale.Machine("many", 32, 8, False, 32.0), ROUND, parts=64)
    assert (many.read, many.network) == (one.read / 32, one.network / 32)
    assert many.write == one.write
    assert one.seconds / 32 < many.seconds < one.seconds


def test_the_work_of_a_run_is_counted():
    w20 = trizoo.compose(["task=active", "experiment=w20"])
    images, galaxies = scale.images_of(w20)
    assert images == (1875 + 25 * 750) * 256
    assert galaxies == 26 * 8000  # four shards hold more than there are
    predict = trizoo.compose(["task=predict", "dataset.galaxies=1000", "training.members=5"])
    assert scale.images_of(predict) == (0, 5000)
    assert scale.images_of(trizoo.compose(["task=fit", "model=resnet18"])) is None


def test_the_simulation_of_2020_costs_less_than_fifty_dollars():
    config = trizoo.compose(["task=active", "experiment=w20"])
    hours = scale.expected_hours(config, PRICES["speed"]["H100"], scale.pieces())
    assert 0 < hours * PRICES["spot"]["aws"]["H100"] < 50


def test_the_page_has_the_table_of_the_records():
    page = (ROOT / "docs" / "scale.md").read_text()
    assert scale.table(PRICES) in page
    assert re.search(r"never run|not run", page, re.I)
