"""`neural-sparse recipes`."""

from __future__ import annotations

import typer


def recipes(
    recipe: str | None = typer.Argument(None, help="A shipped recipe or a file, to see all of its values."),
    overrides: list[str] | None = typer.Argument(None, metavar="[KEY=VALUE]...", help="Keys to change."),
) -> None:
    """List the recipes that come with the package, or print every value of one as `train` would use it.

    Example: neural-sparse recipes finetune batch_size=20 > mine.yaml
    """
    import yaml

    from neural_sparse.config import read_recipe, recipe_to_dict, shipped_recipes
    from neural_sparse.errors import InputError

    if recipe is None:
        from neural_sparse.io.terminal import console as make_console
        from neural_sparse.report.tables import terminal_table

        rows = [list(item) for item in shipped_recipes().items()]
        make_console().print(terminal_table(["recipe", "what it is for"], rows, frame=False))
        return
    try:
        values = recipe_to_dict(read_recipe(recipe, overrides or []))
    except InputError:  # shipped ones leave the data to the user
        values = recipe_to_dict(read_recipe(recipe, [*(overrides or []), "train=any"])) | {"train": []}
    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")
