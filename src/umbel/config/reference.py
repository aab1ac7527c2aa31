"""Writes the page of documentation about all settings from their declarations."""

from collections.abc import Iterator
from typing import Any

from umbel.config.checking import describe
from umbel.config.declaring import Setting
from umbel.config.loading import CELERY_VARIABLES, OTHER_VARIABLES
from umbel.config.sections import SECTIONS

INTRODUCTION = """\
# Configuration

<!-- Written by `python -m umbel.config docs/reference/configuration.md` from the declarations; do not edit. -->

Settings have Celery's lower-case names where Celery has the setting, and can be given in several places. Later ones of
these go before earlier ones:

1. the defaults on this page;
2. `[tool.umbel]` of the nearest `pyproject.toml`, from the working directory up, where the application enables it;
3. `app.config_from_object(...)`: a module, class, object or dict, or the dotted name of one; with
   `namespace="CELERY"` only names such as `CELERY_BROKER_URL` count, as in Django's settings;
4. environment variables: `UMBEL_` and the name in upper case, such as `UMBEL_WORKER_CONCURRENCY=8`;
5. keywords of the application and assignments: `app.conf.task_always_eager = True`, `app.conf.update(...)`.

`umbel config` shows every value and where it came from, `umbel config NAME` explains one setting.

Celery's old upper-case names, such as `CELERY_ACKS_LATE`, are accepted in place of the new ones. An unknown name is an
error that suggests a known one, and so is a value of the wrong type. Only in modules and objects without a namespace,
names that resemble no setting are ignored with a warning.

Seconds may be given as `timedelta`, lists as tuples. In the environment, booleans are `true`/`false` or `1`/`0`, lists
are comma-separated or JSON, dicts are JSON, and `none` stands for None.
"""


def page() -> str:
    """The page in Markdown."""
    return "\n".join(_lines())


def default_text(declared: Setting) -> str:
    """A default as the documentation and ``umbel config`` show it."""
    return shown(declared.default)


def shown(value: Any) -> str:
    """A value on one line, whole numbers without a fraction."""
    if isinstance(value, float) and value.is_integer():
        return f"{value:g}" if abs(value) < 1e6 else str(int(value))
    return repr(value)


def _lines() -> Iterator[str]:
    yield INTRODUCTION
    for section, settings in SECTIONS.items():
        title, _, about = (section.__doc__ or "").strip().partition(": ")
        yield f"## {title}\n"
        about = " ".join(about.split())
        yield f"{about[0].upper()}{about[1:]}\n"
        for declared in settings.values():
            yield from _setting(declared)
    yield "## Environment variables\n"
    yield "Read for compatibility with Celery; the `UMBEL_` variable of the same setting goes before them:\n"
    yield from (f"- `{variable}` sets `{name}`" for variable, name in CELERY_VARIABLES.items())
    yield "\nVariables that begin with `UMBEL_` and are not settings:\n"
    yield from (f"- `{variable}`: {about}" for variable, about in OTHER_VARIABLES.items())
    yield ""


def _setting(declared: Setting) -> Iterator[str]:
    yield f"### `{declared.name}`\n"
    yield f"{declared.doc}\n"
    if declared.ignored:
        yield f"**No effect in Umbel**: {declared.ignored}.\n"
    yield f"- Type: `{describe(declared.type)}`" + (
        f", at least {declared.minimum:g}" if declared.minimum is not None else ""
    )
    yield f"- Default: `{default_text(declared)}`" + (
        f" (**differs from Celery**: {declared.celery})" if declared.celery else ""
    )
    if declared.own:
        yield "- Umbel's own, unknown to Celery"
    if declared.old:
        yield f"- Celery's old name: `{declared.old}`"
    yield ""
