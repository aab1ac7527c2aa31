"""Options that an application adds to ``umbel worker`` with ``app.user_options["worker"].add(…)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import click

from umbel.errors import ConfigurationError

if TYPE_CHECKING:
    from umbel.app import Umbel

_PARAMETERS = "umbel.user_options.parameters"
_VALUES = "umbel.user_options.values"


class ExtensibleCommand(click.Command):
    """A command with more options than its own.

    The application, which adds them, is loaded for this only when there is an option that the command does not know,
    or when help is asked for; otherwise it is loaded later, when the log is set up.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *ctx.meta.get(_PARAMETERS, ())]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(argument in ctx.help_option_names for argument in args):
            self._load(ctx)
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption:
            if _PARAMETERS in ctx.meta or not self._load(ctx):
                raise
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        added = {each.name for each in ctx.meta.get(_PARAMETERS, ())}
        ctx.meta[_VALUES] = {name: ctx.params.pop(name) for name in list(ctx.params) if name in added}
        return super().invoke(ctx)

    def _load(self, ctx: click.Context) -> bool:
        from umbel.cli import Context

        context = ctx.find_object(Context)
        if context is None or not (context.spec or context.given):
            return False
        ctx.meta[_PARAMETERS] = _parameters(context.app, super().get_params(ctx))
        return bool(ctx.meta[_PARAMETERS])


def all_options(ctx: click.Context, app: Umbel) -> dict[str, Any]:
    """The values of the command's own options and of those that were added, by name.

    Raises click's errors where one that was added is required and missing.
    """
    if _PARAMETERS in ctx.meta:
        return {**ctx.params, **ctx.meta[_VALUES]}
    command = click.Command(ctx.info_name, params=_parameters(app, ctx.command.params), add_help_option=False)
    with command.make_context(ctx.info_name, [], parent=ctx.parent) as added:
        return {**ctx.params, **added.params}


def _parameters(app: Umbel, own: Iterable[click.Parameter]) -> list[click.Parameter]:
    taken = {name for parameter in own for name in (parameter.name, *parameter.opts, *parameter.secondary_opts)}
    found: list[click.Parameter] = []
    for given in app.user_options["worker"]:
        for parameter in _parameters_of(given):
            double = taken & {parameter.name, *parameter.opts, *parameter.secondary_opts}
            if double:
                raise ConfigurationError(
                    f"app.user_options['worker'] adds {min(filter(None, double))}, which umbel worker has already"
                )
            found.append(parameter)
    return sorted(found, key=lambda parameter: parameter.name or "")


def _parameters_of(given: Any) -> list[click.Parameter]:
    if isinstance(given, click.Parameter):
        return [given]
    if not callable(given):
        raise ConfigurationError(f"app.user_options['worker'] has {given!r}, no click.Option and no click.option(…)")

    def decorated() -> None: ...

    cast("Callable[[Any], Any]", given)(decorated)
    return list(getattr(decorated, "__click_params__", []))
