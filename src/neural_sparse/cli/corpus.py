"""`neural-sparse encode`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

CORPUS_HELP = (
    "A corpus.jsonl ({_id, title?, text} per line), a folder that holds one, or a .txt (a text per line)."
)


def encode(
    model: str = typer.Argument(help="A trained model: folder, hub id, or folder inside a package."),
    corpus: Path = typer.Option(help=CORPUS_HELP),
    output: Path = typer.Option(help="Folder for the index, the texts and the query side."),
    max_length: int | None = typer.Option(
        None, min=3, help="Tokens per document; the model's own limit if not given."
    ),
) -> None:
    """Encode a corpus once; the folder is all that `search` needs, without the model."""
    import time

    from rich.console import Console

    from neural_sparse.errors import InputError
    from neural_sparse.model.encoder import NeuralSparseEncoder
    from neural_sparse.search.encoded import MANIFEST, EncodedCollection

    if output.is_file():
        raise InputError(f"{output} is a file; --output is a folder")
    if output.exists() and any(output.iterdir()) and not (output / MANIFEST).is_file():
        raise InputError(f"{output} exists and holds something else; choose an empty folder")
    doc_ids, texts = _read(corpus)
    encoder = NeuralSparseEncoder(model, max_length)
    started = time.perf_counter()
    vectors = encoder.encode_documents(texts, show_progress=True)
    seconds = time.perf_counter() - started
    EncodedCollection.save(output, encoder, vectors, doc_ids, texts)
    stats = encoder.get_sparsity_stats(vectors)
    console = Console()
    console.print(
        f"{len(texts):,} documents in {seconds:.0f} s ({len(texts) / seconds:.0f} per second), "
        f"{stats['avg_nonzero_terms']:.1f} terms per document"
    )
    console.print(f"search them: neural-sparse search {output}")


def _read(corpus: Path) -> tuple[list[str], list[str]]:
    """Ids and texts; a line of plain text has its number as id."""
    from neural_sparse.data.collection import read_corpus
    from neural_sparse.data.corpus_file import corpus_file
    from neural_sparse.errors import InputError

    file = corpus_file(corpus)
    if file.suffix != ".txt":
        return read_corpus(file)
    lines = list(_lines(file))
    if not lines:
        raise InputError(f"{file}: the corpus is empty")
    return [str(number) for number, _ in lines], [text for _, text in lines]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank."""
    from neural_sparse.errors import InputError

    if not file.is_file():
        raise InputError(f"{file}: no such file")
    with file.open(encoding="utf-8") as lines:
        try:
            yield from ((number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip())
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 ({error})") from error
