"""What ran, on what, and where every number of the report came from."""

from reports.blocks import Section, prose, ranges, table
from reports.runs import VERSIONS, Book, Record, command, gathered, setting, variations

HOME = ("backend", "versions", "device", "precision", "threads", "processor", "Python", "commit")
SHOWN = (
    "dataset.name",
    "question",
    "positive",
    "model.image_size",
    "training.steps",
    "training.batch_size",
)


def ran(book: Book) -> Section:
    """The settings, what the records ran on, and every record."""
    homes = gathered(book.records, _home)
    rows = [
        {
            "record": record.number,
            "task": record.task,
            "setting": book.setting(record),
            "backend": record.title,
            "seed": record.at("run.seed"),
            "dataset": record.at("run.dataset.name"),
            "place": list(homes).index(_home(record)) + 1,
            "time (s)": record.at("seconds"),
        }
        for record in book.records
    ]
    places = [
        {"place": place}
        | dict(zip(HOME, home, strict=True))
        | {"records": ranges(record.number for record in records)}
        for place, (home, records) in enumerate(homes.items(), 1)
    ]
    words = prose(
        "A setting is all that was configured but the task, the backend and the seed; a place is "
        "where it ran and what ran it. Means are taken over seeds only: two runs that differ in "
        "anything else are two rows."
    )
    numbers = [record.number for record in book.records]
    tables = {"Settings": _settings(book), "Places": places, "Records": rows}
    return Section("What ran", (words, *(table(name, tables[name], numbers) for name in tables)))


def _home(record: Record) -> tuple:
    return (
        record.title,
        versions(record.at("where") or {}),
        record.at("where.device"),
        record.precision,
        record.at("where.threads"),
        record.at("host.processor"),
        record.at("host.python"),
        record.at("host.commit"),
    )


def _settings(book: Book) -> list[dict]:
    found = gathered(book.of(*dict.fromkeys(record.task for record in book.records)), setting)
    firsts = {key: records[0] for key, records in found.items()}
    others = variations(firsts.values(), ("task", "backend", *SHOWN))
    rows = []
    for key, name in book.settings.items():
        first = firsts[key]
        rows.append(
            {
                "setting": name,
                "dataset": first.at("run.dataset.name"),
                "question": first.at("run.question"),
                "yes": ", ".join(map(str, first.at("run.positive") or ())),
                "image size (px)": first.at("run.model.image_size"),
                "precision": first.precision,
                "steps": first.at("run.training.steps"),
                "batch": first.at("run.training.batch_size"),
                "besides": others[first.number],
                "records": ranges(record.number for record in found[key]),
            }
        )
    return rows


def versions(where: dict) -> str:
    """The versions of frameworks in WHERE, those of VERSIONS only."""
    inner = where.get("versions") if isinstance(where.get("versions"), dict) else where
    return ", ".join(f"{name} {inner[name]}" for name in VERSIONS if inner.get(name))


def origins(book: Book) -> Section:
    """The folder, the command and the commit of every record."""
    rows = [
        {
            "record": record.number,
            "folder": record.place,
            "command": command(record),
            "commit": record.at("host.commit"),
            "started": record.at("started"),
        }
        for record in book.records
    ]
    words = prose(
        "Below each table and figure stand the numbers of the records it was made from. "
        "Folders are below the folder of records; the run.json in each holds its whole "
        "configuration. A command that its record does not hold is put "
        "together from the configuration's main keys.",
    )
    numbers = [record.number for record in book.records]
    return Section(
        "Where it came from", (words, table("Records", rows, numbers, code=("folder", "command")))
    )
