"""A group of commands whose first argument may be no command at all."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


def group_with_default(default: str) -> type[TyperGroup]:
    """A group that reads `group ARGUMENTS` as `group DEFAULT ARGUMENTS` unless a command is named."""

    class GroupWithDefault(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in (*self.commands, *ctx.help_option_names):
                args = [default, *args]
            return super().parse_args(ctx, args)

    return GroupWithDefault
