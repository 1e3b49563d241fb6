"""`neural-sparse average`."""

from __future__ import annotations

from pathlib import Path

import typer


def average(
    models: list[str] = typer.Argument(help="Two or more models trained from the same start."),
    output: Path = typer.Option(..., "--output", "-o", help="Folder to write; must not exist yet."),
) -> None:
    """Average the weights of several trained models: often better than each, at the cost of one.

    Example: neural-sparse average outputs/*/final_model -o outputs/averaged
    """
    from neural_sparse.io.files import check_output_folder, replacing_folder

    check_output_folder(output)
    from neural_sparse.model.averaging import average_models

    mean = average_models(models)
    with replacing_folder(output) as folder:
        mean.save_pretrained(str(folder))
    print(
        f"the mean of {len(models)} models is {output}; judge it: neural-sparse evaluate {output} -c COLLECTION"
    )
