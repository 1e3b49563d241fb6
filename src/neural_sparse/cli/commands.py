"""Kinds of commands: a group whose first argument may be no command, a command whose texts may begin with a dash."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


def group_with_default(default: str) -> type[TyperGroup]:
    """A group that reads `group ARGUMENTS` as `group DEFAULT ARGUMENTS` unless a command is named."""

    class GroupWithDefault(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in (*self.commands, *ctx.help_option_names):
                args = [default, *args]
            return super().parse_args(ctx, args)

    return GroupWithDefault


class TextCommand(TyperCommand):
    """Says how a text that begins with a dash is given, where it was taken for an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            refused: Any = error
            if type(error).__name__ == "NoSuchOption":  # click's, or that of the click inside typer
                hint = f'{ctx.command_path} ... -- "{refused.option_name} ..."'
                refused.message = f"{refused.message}; a text that begins with a dash goes behind --: {hint}"
            raise
