"""What was measured apart and lies beside the records as a file of its own: crash recovery, stores, small pieces."""

from reports.blocks import Section, bare, from_files, prose, table
from reports.runs import TITLES, RecordSet, files

TITLE = "Kills, stores and small pieces"
WAYS = {
    "decode": "Pillow decodes, and no more",
    "decode_and_reduce": "Pillow decodes and reduces, numpy averages the colours",
    "prepare": "trizoo prepare: reads the table, decodes, reduces, hashes, writes, commits",
}


def extras(record_set: RecordSet) -> Section:
    """What was left of runs that were killed, images a second into a store, and what all frameworks wait for."""
    blocks = [*_kills(record_set), *_stores(record_set), *_pieces(record_set)]
    if not blocks:
        return bare(
            TITLE,
            "Neither benchmarks.kills, benchmarks.stores nor make bench has left a file among the records.",
        )
    return Section(TITLE, tuple(blocks))


def _kills(record_set: RecordSet) -> list:
    blocks = []
    for origin, content in files(record_set, "kills.json").items():
        rows = [
            {
                "backend": TITLES.get(one["backend"], "none"),
                "task": one["task"],
                "kills": one["kills"],
                "errors of the disk": one["errors"],
                "power cuts": one["cuts"],
                "in the end": "the same bytes" if one["right"] else "not the same",
                "time (s)": one["seconds"],
            }
            for one in content["runs"]
        ]
        caption = f"Runs interrupted at random moments and started again, against one that was not ({origin})"
        blocks.append(from_files(table(caption, rows, [], {"time (s)": ".0f"}), origin))
    return blocks


def _stores(record_set: RecordSet) -> list:
    blocks = []
    for origin, content in files(record_set, "stores.json").items():
        speeds, against = content["images_per_second"], content["prepare_against"]
        rows = [
            {
                "way": WAYS.get(way, way),
                "images/s": speed,
                "prepare takes, times as long": against.get(way),
            }
            for way, speed in speeds.items()
        ]
        caption = f"Images a second into a store, {content['images']:,} files ({origin})"
        formats = {"images/s": ",.0f", "prepare takes, times as long": ".2f"}
        blocks.append(from_files(table(caption, rows, [], formats), origin))
    return [prose("Medians; by python -m benchmarks.stores."), *blocks] if blocks else []


def _pieces(record_set: RecordSet) -> list:
    blocks = []
    for origin, content in files(record_set, "pieces.json").items():
        rows = [
            {
                "piece": one["name"].removeprefix("test_").replace("_", " "),
                "median (ms)": 1e3 * one["stats"]["median"],
                "between the quarters (ms)": 1e3 * one["stats"]["iqr"],
                "rounds": one["stats"]["rounds"],
            }
            for one in content["benchmarks"]
        ]
        caption = f"Small pieces, without any framework ({origin})"
        formats = {"median (ms)": ".3f", "between the quarters (ms)": ".3f"}
        blocks.append(from_files(table(caption, rows, [], formats), origin))
    words = "What every framework waits for, by pytest-benchmark (make bench)."
    return [prose(words), *blocks] if blocks else []
