"""``umbel config``: every setting with its value and where that came from; one of them explained."""

import json
from typing import Any, Protocol, cast

import click

from umbel.config import DECLARED, DEFAULT, Setting, Settings
from umbel.config.checking import describe
from umbel.config.masking import masked
from umbel.config.naming import known
from umbel.config.reference import default_text, shown
from umbel.errors import ConfigurationError


class HasSettings(Protocol):
    """What has a configuration: an application."""

    @property
    def conf(self) -> Settings: ...


class HasApp(Protocol):
    """What has an application: the object that ``-A`` leaves in the context."""

    @property
    def app(self) -> HasSettings: ...


@click.command("config")
@click.argument("name", required=False)
@click.option("--changed", is_flag=True, help="Only settings that are not at their default.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def config(context: click.Context, name: str | None, changed: bool, as_json: bool) -> None:
    """Show every setting, its value and where it came from; with NAME, explain one setting.

    Passwords and keys are masked. NAME may be Celery's old upper-case name.
    """
    try:
        settings = settings_of(context.obj)
        settings.load()
        if name is not None:
            declared = DECLARED[known(name, "command line")]
            explained = _as_dict(settings, declared, explain=True)
            click.echo(json.dumps(explained, indent=2) if as_json else _explanation(settings, declared))
            return
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    chosen = [s for s in DECLARED.values() if not changed or settings.origin(s.name) != DEFAULT]
    if as_json:
        click.echo(json.dumps({s.name: _as_dict(settings, s) for s in chosen}, indent=2))
    elif chosen:
        click.echo("\n".join(_table(settings, chosen)))
    else:
        click.echo("every setting is at its default")


def settings_of(found: HasSettings | HasApp | None) -> Settings:
    """The settings of what the context holds: an application, what has one, or nothing.

    With nothing, these are the settings that an application without configuration of its own would have, with the
    nearest ``pyproject.toml`` read.
    """
    if found is None:
        return Settings(pyproject=True)
    if hasattr(found, "conf"):
        return cast(HasSettings, found).conf
    return cast(HasApp, found).app.conf


def _table(settings: Settings, chosen: list[Setting]) -> list[str]:
    rows = [(s.name, _shown(settings, s), settings.origin(s.name)) for s in chosen]
    names = max(len(name) for name, _, _ in rows)
    values = min(40, max(len(value) for _, value, _ in rows))
    return [
        click.style(f"{name:<{names}}  {value:<{values}}  {origin}", dim=origin == DEFAULT)
        for name, value, origin in rows
    ]


def _explanation(settings: Settings, declared: Setting) -> str:
    least = f", at least {declared.minimum:g}" if declared.minimum is not None else ""
    differs = f" (Celery: {declared.celery})" if declared.celery else ""
    lines = [
        click.style(f"{declared.name} = {_shown(settings, declared)}", bold=True),
        f"  {declared.doc}",
        f"  type         {describe(declared.type)}{least}",
        f"  default      {default_text(declared)}{differs}",
        f"  origin       {settings.origin(declared.name)}",
        f"  environment  UMBEL_{declared.name.upper()}",
    ]
    if declared.old:
        lines.append(f"  old name     {declared.old}")
    if declared.ignored:
        lines.append(f"  no effect in Umbel: {declared.ignored}")
    return "\n".join(lines)


def _shown(settings: Settings, declared: Setting) -> str:
    return shown(masked(declared, settings[declared.name]))


def _as_dict(settings: Settings, declared: Setting, explain: bool = False) -> dict[str, Any]:
    value = {
        "value": _plain(masked(declared, settings[declared.name])),
        "origin": settings.origin(declared.name),
    }
    if not explain:
        return value
    return {
        "name": declared.name,
        **value,
        "doc": declared.doc,
        "type": describe(declared.type),
        "default": _plain(declared.default),
        "celery_default": declared.celery,
        "old_name": declared.old,
        "environment": f"UMBEL_{declared.name.upper()}",
        "no_effect": declared.ignored,
    }


def _plain(value: Any) -> Any:
    """``value`` as JSON can write it; what it cannot becomes its representation."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    try:
        return json.loads(json.dumps(value, default=repr))
    except (TypeError, ValueError):
        return repr(value)
