"""`trizoo show`: draw a dataset's questions, and which answers lead to which."""

from pathlib import Path

from shared.data.schema import answers, mermaid, svg
from shared.run.progress import printable
from shared.run.records import write_whole
from shared.run.spec import RunSpec


def show(run: RunSpec, folder: Path) -> dict:
    """Draw what volunteers are asked: schema.svg and schema.mmd in `folder`, the latter also as words on the screen."""
    questions, leads = run.dataset.questions, run.dataset.leads
    count = len(answers(questions))
    title = f"{run.dataset.name}: {count} answers to {len(questions)} questions"
    drawing, words = svg(questions, leads, title), mermaid(questions, leads)
    write_whole(folder / "schema.svg", lambda beside: beside.write_text(drawing, "utf-8"))
    write_whole(folder / "schema.mmd", lambda beside: beside.write_text(words, "utf-8"))
    print(printable(words), end="")
    results = {
        "questions": len(questions),
        "answers": count,
        "summary": f"{title}: {folder / 'schema.svg'}",
    }
    return {"where": {}, "results": results}
