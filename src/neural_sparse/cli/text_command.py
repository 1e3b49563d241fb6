"""A command whose arguments are texts, which may begin with a dash."""

from __future__ import annotations

from typing import Any

import click
from typer.core import TyperCommand


class TextCommand(TyperCommand):
    """Says how a text that begins with a dash is given, where it was taken for an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = f'a text that begins with a dash goes behind --: {ctx.command_path} ... -- "{error.option_name} ..."'
            message = f"{error.message}; {hint}"
            raise click.NoSuchOption(error.option_name, message, error.possibilities, error.ctx) from error
