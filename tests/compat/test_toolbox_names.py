"""The names of Celery's tool modules are there, and take Celery's arguments. The lists are those of Celery 5.7."""

from __future__ import annotations

import importlib
import inspect

import pytest

NAMES = {
    "schedules": "ParseException schedule crontab crontab_parser maybe_schedule solar",
    "states": "PENDING RECEIVED STARTED SUCCESS FAILURE REVOKED RETRY IGNORED READY_STATES "
    "UNREADY_STATES EXCEPTION_STATES PROPAGATE_STATES precedence state",
    "local": "Proxy PromiseProxy try_import maybe_evaluate",
    "loaders": "get_loader_cls",
    "loaders.app": "AppLoader",
    "loaders.base": "BaseLoader",
    "loaders.default": "Loader DEFAULT_CONFIG_MODULE",
    "contrib.abortable": "AbortableAsyncResult AbortableTask",
    "contrib.migrate": "StopFiltering State republish migrate_task migrate_tasks move task_id_eq "
    "task_id_in start_filter move_task_by_id move_by_idmap move_by_taskmap "
    "move_direct move_direct_by_id",
    "contrib.rdb": "CELERY_RDB_HOST CELERY_RDB_PORT DEFAULT_PORT Rdb debugger set_trace",
    "platforms": "EX_OK EX_FAILURE EX_UNAVAILABLE EX_USAGE SYSTEM IS_macOS IS_WINDOWS SIGMAP "
    "pyimplementation LockFailed get_fdmax Pidfile create_pidlock close_open_fds "
    "DaemonContext detached parse_uid parse_gid setgroups initgroups setgid setuid "
    "maybe_drop_privileges signals signal_name set_process_title set_mp_process_title "
    "get_errno_name ignore_errno fd_by_path isatty",
    "utils": "LOG_LEVELS cached_property chunks gen_task_name gen_unique_id get_cls_by_name "
    "get_full_cls_name import_from_cwd instantiate memoize nodename nodesplit noop "
    "uuid worker_direct",
    "utils.collections": "AttributeDictMixin AttributeDict BufferMap ChainMap ConfigurationView "
    "DictAttribute Evictable LimitedSet Messagebuffer OrderedDict force_mapping "
    "lpmerge",
    "utils.debug": "blockdetection sample_mem memdump sample humanbytes mem_rss ps cry",
    "utils.dispatch": "Signal",
    "utils.dispatch.signal": "Signal",
    "utils.functional": "LRUCache is_list maybe_list memoize mlazy noop first firstmethod chunks padlist "
    "mattrgetter uniq regen dictfilter lazy maybe_evaluate head_from_fun maybe "
    "fun_accepts_kwargs",
    "utils.imports": "NotAPackage qualname instantiate symbol_by_name cwd_in_path find_module "
    "import_from_cwd reload_from_cwd module_file gen_task_name",
    "utils.log": "ColorFormatter LoggingProxy base_logger set_in_sighandler in_sighandler "
    "get_logger get_task_logger mlevel get_multiprocessing_logger "
    "reset_multiprocessing_logger LOG_LEVELS",
    "utils.nodenames": "worker_direct gethostname nodename anon_nodename nodesplit default_nodename "
    "node_format host_format",
    "utils.objects": "Bunch FallbackContext getitem_property mro_lookup",
    "utils.saferepr": "saferepr reprstream",
    "utils.serialization": "UnpickleableExceptionWrapper subclass_exception find_pickleable_exception "
    "create_exception_cls get_pickleable_exception get_pickleable_etype "
    "get_pickled_exception strtobool",
    "utils.text": "abbr abbrtask dedent dedent_initial ensure_newlines ensure_sep fill_paragraphs "
    "indent join pluralize pretty str_to_list simple_format truncate",
    "utils.threads": "bgThread Local LocalStack LocalManager get_ident default_socket_timeout",
    "utils.time": "LocalTimezone timezone maybe_timedelta delta_resolution remaining rate weekday "
    "humanize_seconds maybe_iso8601 is_naive add_seconds_to_datetime "
    "subtract_datetimes make_aware localize to_utc maybe_make_aware ffwd utcoffset "
    "adjust_timestamp get_exponential_backoff_interval",
}

ARGUMENTS = {
    "schedules:crontab": "minute='*', hour='*', day_of_week='*', day_of_month='*', month_of_year='*'",
    "schedules:schedule": "run_every=None, relative=False, nowfun=None, app=None",
    "schedules:solar": "event, lat, lon",
    "schedules:crontab_parser": "max_=60, min_=0",
    "schedules:maybe_schedule": "s, relative=False, app=None",
    "contrib.abortable:AbortableAsyncResult": "id, backend=None, task_name=None, app=None, parent=None",
    "contrib.migrate:move": "predicate, connection=None, exchange=None, routing_key=None, source=None, "
    "app=None, callback=None, limit=None, transform=None, **kwargs",
    "contrib.migrate:start_filter": "app, conn, filter, limit=None, timeout=1.0, ack_messages=False, tasks=None, "
    "queues=None, callback=None, forever=False, on_declare_queue=None, "
    "consume_from=None, state=None, accept=None, **kwargs",
    "contrib.migrate:migrate_task": "producer, body_, message, queues=None",
    "contrib.migrate:republish": "producer, message, exchange=None, routing_key=None, remove_props=None",
    "contrib.rdb:Rdb": "host='127.0.0.1', port=6899, port_search_limit=100, port_skew=0, out=None",
    "local:Proxy": "local, args=None, kwargs=None, name=None, __doc__=None",
    "platforms:detached": "logfile=None, pidfile=None, uid=None, gid=None, umask=0, workdir=None, fake=False, **opts",
    "platforms:DaemonContext": "pidfile=None, workdir=None, umask=None, fake=False, after_chdir=None, "
    "after_forkers=True, **kwargs",
    "utils.collections:LimitedSet": "maxlen=0, expires=0, data=None, minlen=0",
    "utils.collections:BufferMap": "maxsize, iterable=None, bufmaxsize=1000",
    "utils.collections:ConfigurationView": "changes, defaults=None, keys=None, prefix=None",
    "utils.functional:regen": "it",
    "utils.functional:head_from_fun": "fun, bound=False",
    "utils.imports:symbol_by_name": "name, aliases=None, imp=None, package=None, sep='.', default=None, **kwargs",
    "utils.log:ColorFormatter": "fmt=None, use_color=True, datefmt=None",
    "utils.log:LoggingProxy": "logger, loglevel=None",
    "utils.saferepr:saferepr": "o, maxlen=None, maxlevels=3, seen=None",
    "utils.serialization:UnpickleableExceptionWrapper": "exc_module, exc_cls_name, exc_args, text=None",
    "utils.text:abbr": "S, max, ellipsis='...'",
    "utils.time:ffwd": "year=None, month=None, weeks=0, weekday=None, day=None, hour=None, minute=None, "
    "second=None, microsecond=None, **kwargs",
    "utils.time:humanize_seconds": "secs, prefix='', sep='', now='now', microseconds=False",
    "utils.time:remaining": "start, ends_in, now=None, relative=False",
}


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_there(module: str) -> None:
    found = importlib.import_module(f"umbel.compat.celery.{module}")
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_arguments_are_celerys(name: str) -> None:
    module, _, attribute = name.partition(":")
    found = inspect.signature(getattr(importlib.import_module(f"umbel.compat.celery.{module}"), attribute))
    wanted = inspect.signature(eval(f"lambda {ARGUMENTS[name]}: None"))
    mine = {each.name: each for each in found.parameters.values()}
    for each in wanted.parameters.values():
        assert each.name in mine, f"{each.name} is missing"
        assert each.default == mine[each.name].default, each.name
        assert mine[each.name].kind in (each.kind, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [each for each in mine if mine[each].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    asked = [each.name for each in wanted.parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert positional[: len(asked)] == asked
