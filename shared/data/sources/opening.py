"""Which source of images `dataset.images` names."""

from pathlib import Path

from shared.data.sources.images import Source, files, kind_of
from shared.run.spec import DatasetSpec


def open_source(dataset: DatasetSpec) -> Source:
    """The place that dataset.images names; raises FileNotFoundError or ValueError where there is none such."""
    images = dataset.images
    if images.startswith(("http://", "https://")):
        from shared.data.sources.service import open_service

        return open_service(dataset)
    if images.startswith("hub:"):
        from shared.data.sources.hub import open_hub

        return open_hub(dataset)
    if Path(images).is_dir():
        from shared.data.sources.folder import Folder

        return Folder(Path(images))
    paths = files(images)
    kind = kind_of(images, paths)
    if kind == "parquet":
        from shared.data.sources.table import Tables

        return Tables(images, paths, dataset.columns.id)
    if kind == "tfrecord":
        from shared.data.sources.tfrecord import TFRecords

        return TFRecords(images, paths, dataset.columns.id)
    from shared.data.sources.archive import Archives

    return Archives(kind, images, paths)
