"""``umbel shell``: Python with the application at hand."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.cli import Context


@click.command()
@click.option("-I", "--ipython", "kind", flag_value="ipython", help="Use IPython.")
@click.option("-B", "--bpython", "kind", flag_value="bpython", help="Use bpython.")
@click.option("-P", "--python", "kind", flag_value="python", help="Use plain Python.")
@click.option("-T", "--without-tasks", is_flag=True, help="Leave the names of tasks out.")
@click.option("--eventlet", "greenlets", flag_value="eventlet", help="Patch the standard library by eventlet first.")
@click.option("--gevent", "greenlets", flag_value="gevent", help="Patch the standard library by gevent first.")
@click.pass_obj
def shell(context: Context, kind: str | None, without_tasks: bool, greenlets: str | None) -> None:
    """Open a Python shell: IPython or bpython where installed, else plain Python.

    It knows `app`, every task by its short name, and the public names of umbel.

    \b
    Examples:
      umbel -A proj shell
      echo 'print(add.delay(2, 2).get())' | umbel -A proj shell --python
    """
    if greenlets is not None:
        _patch(greenlets)
    app = context.app
    app.import_task_modules()
    app.finalize()
    kind = kind or next((name for name, module in _MODULES.items() if importlib.util.find_spec(module)), "python")
    if kind in _MODULES and importlib.util.find_spec(_MODULES[kind]) is None:
        raise click.UsageError(f"{kind} is not installed: pip install {kind}")
    try:
        _SHELLS[kind](names_for(app, tasks=not without_tasks))
    finally:
        app.close()


def _patch(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise click.UsageError(f"{library} is not installed: pip install umbel[{library}]")
    if library == "gevent":
        importlib.import_module("gevent.monkey").patch_all()
    else:
        importlib.import_module("eventlet").monkey_patch()


def names_for(app: Umbel, *, tasks: bool = True) -> dict[str, Any]:
    """The names in the shell, with or without those of tasks. A short name that two tasks share stands for neither."""
    umbel = importlib.import_module("umbel")
    names: dict[str, Any] = {name: getattr(umbel, name) for name in umbel.__all__}
    if not tasks:
        return {**names, "umbel": umbel, "app": app}
    own = {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}
    shorts = [name.rpartition(".")[2] for name in own]
    names |= {short: task for short, task in zip(shorts, own.values(), strict=True) if shorts.count(short) == 1}
    return {**names, "umbel": umbel, "app": app}


def _python(names: dict[str, Any]) -> None:
    import code
    import sys

    try:
        import readline
        import rlcompleter
    except ImportError:
        pass
    else:
        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    if sys.stdin.isatty():
        code.interact(f"Python {sys.version.split()[0]}, umbel: app is {names['app']!r}", local=names, exitmsg="")
    else:
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), {**names, "__name__": "__main__"})


def _ipython(names: dict[str, Any]) -> None:
    importlib.import_module("IPython").start_ipython(argv=[], user_ns=names)


def _bpython(names: dict[str, Any]) -> None:
    importlib.import_module("bpython").embed(names)


_MODULES = {"ipython": "IPython", "bpython": "bpython"}
_SHELLS: dict[str, Callable[[dict[str, Any]], None]] = {"ipython": _ipython, "bpython": _bpython, "python": _python}
