"""Declarations: the worker's processes, consuming, logs and events."""

from typing import Any, Literal

from umbel.config.declaring import setting


class WorkerProcessSettings:
    """Worker processes: how many processes a worker has and how long they live."""

    worker_pool: str | type[Any] = setting(
        "prefork",
        "Kind of lanes: prefork, threads, gevent, eventlet, asyncio, solo, or a registered name.",
        old="CELERYD_POOL",
    )
    worker_concurrency: int | None = setting(
        None,
        "Lanes of each process, with prefork the number of processes; None means the number of processors, with "
        "asyncio, gevent and eventlet 100.",
        old="CELERYD_CONCURRENCY",
        minimum=1,
    )
    worker_processes: int | None = setting(
        None,
        "Executor processes, each with `worker_concurrency` lanes; None means one, with prefork one per lane.",
        minimum=1,
        own=True,
    )
    worker_autoscaler: str | type[Any] | None = setting(
        None,
        "Class that decides how large the worker is between the limits of `worker_autoscale`; None means "
        "`umbel.Autoscaler`.",
        old="CELERYD_AUTOSCALER",
        celery="its own class",
    )
    worker_autoscale: str | None = setting(
        None,
        "`MAX,MIN`: between how many tasks at a time the worker is scaled by load (as with `--autoscale`).",
        own=True,
    )
    worker_autoscale_cooldown: float = setting(
        30.0,
        "Seconds for which autoscaling keeps the largest size that was needed, before it shrinks.",
        minimum=0,
        own=True,
    )
    worker_reload: bool = setting(
        False, "Start anew when the project's code changes, as with `--reload`; for development.", own=True
    )
    worker_reload_dirs: list[str] = setting(
        [],
        "Directories whose code is watched by `worker_reload`, with all below them; empty means those from which the "
        "project's modules were imported.",
        own=True,
    )
    worker_max_tasks_per_child: int | None = setting(
        None,
        "Tasks after which an executor process is replaced.",
        old="CELERYD_MAX_TASKS_PER_CHILD",
        minimum=1,
    )
    worker_max_memory_per_child: int | None = setting(
        None,
        "Resident memory in KiB above which an executor process is replaced after its task.",
        old="CELERYD_MAX_MEMORY_PER_CHILD",
        minimum=1,
    )
    worker_blocking_threshold: float = setting(
        1.0,
        "Seconds after which a task that blocks the event loop of an asyncio pool is shown in the log; 0: never.",
        minimum=0,
        own=True,
    )
    worker_cancel_grace: float = setting(
        0.3,
        "Seconds that a task of a process with several lanes has to end when its hard time limit is over or it was "
        "revoked with `terminate`; then the process is killed, and what else ran there runs again.",
        minimum=0,
        own=True,
    )
    worker_proc_alive_timeout: float = setting(
        4.0,
        "Seconds a new executor process may take until it is ready.",
        old="CELERYD_PROC_ALIVE_TIMEOUT",
        minimum=0,
        ignored="executors are forked from a nursery that holds the application",
    )
    worker_pool_restarts: bool = setting(
        False,
        "Allow the remote control command `pool_restart`.",
        old="CELERYD_POOL_RESTARTS",
        ignored="there is no such remote control command yet",
    )
    worker_pool_putlocks: bool = setting(
        True,
        "Limit what waits in the pool by a lock.",
        old="CELERYD_POOL_PUTLOCKS",
        ignored="lanes hold what adaptive prefetch gives them, without locks",
    )
    worker_pool_start_method: str = setting(
        "fork",
        "How pool processes are started.",
        old="CELERYD_POOL_START_METHOD",
        ignored="executors are always forked from a single-threaded nursery",
    )
    worker_lost_wait: float = setting(
        10.0,
        "Seconds until a task whose process is gone counts as lost.",
        old="CELERYD_WORKER_LOST_WAIT",
        ignored="the end of a process is noticed at once",
    )
    worker_executable: str | None = setting(
        None,
        "Python executable of a worker that is started in the background.",
        ignored="it is given by `umbel worker --executable`, before the application is imported",
    )
    worker_logfile: str | None = setting(None, "Log file of a worker.")
    worker_pidfile: str | None = setting(None, "File for the process id of a worker.")
    worker_uid: str | int | None = setting(None, "User that a worker changes to.")
    worker_gid: str | int | None = setting(None, "Group that a worker changes to.")
    worker_umask: str | int | None = setting(None, "File mode mask of a worker in the background.")


class WorkerConsumingSettings:
    """Worker consuming: what a worker takes from the queues, and how it proves that it lives."""

    worker_prefetch_seconds: float = setting(
        0.2,
        "Work that adaptive prefetch holds per lane, in seconds of the tasks' mean duration.",
        minimum=0,
        own=True,
    )
    worker_prefetch_multiplier: int | None = setting(
        None,
        "Fixed number of tasks held per lane (0: no limit); None adapts the number to the tasks' duration.",
        old="CELERYD_PREFETCH_MULTIPLIER",
        celery="4",
        minimum=0,
    )
    worker_disable_prefetch: bool = setting(
        False, "Take a task only when a lane is free.", old="CELERYD_DISABLE_PREFETCH"
    )
    worker_enable_prefetch_count_reduction: bool = setting(
        True,
        "Prefetch less after a broken connection until running tasks have ended.",
        old="CELERYD_ENABLE_PREFETCH_COUNT_REDUCTION",
        ignored="what a lost lease or connection held is never run twice in one worker",
    )
    worker_eta_task_limit: int | None = setting(
        None,
        "How many tasks with a future ETA are held in memory.",
        old="CELERYD_ETA_TASK_LIMIT",
        ignored="the broker keeps delayed tasks",
    )
    worker_lease: float = setting(
        5.0,
        "Seconds without renewal after which a worker counts as dead and others take over its tasks.",
        minimum=0.1,
        own=True,
    )
    worker_lease_renewal: float = setting(
        1.0, "Seconds between renewals of the lease; well below `worker_lease`.", minimum=0.01, own=True
    )
    worker_crash_limit: int = setting(
        3, "Processes that a task may crash before it goes to the dead letters.", minimum=1, own=True
    )
    worker_delivery_limit: int = setting(
        10, "Deliveries without any outcome before a task goes to the dead letters.", minimum=1, own=True
    )
    worker_stall_timeout: float = setting(
        30.0,
        "Seconds without progress, while work waits and lanes are free, after which the watchdog rebuilds "
        "the connection.",
        minimum=1,
        own=True,
    )
    worker_health_address: str | None = setting(
        None, "`PORT` or `HOST:PORT` on which `/livez` and `/readyz` are answered over HTTP.", own=True
    )
    worker_shutdown_grace: float | None = setting(
        None,
        "Seconds that running tasks get at shutdown before they are given back; None waits for their end.",
        minimum=0,
        own=True,
    )
    worker_soft_shutdown_timeout: float = setting(
        0.0,
        "Seconds between the signal to stop now and giving running tasks back.",
        old="CELERYD_SOFT_SHUTDOWN_TIMEOUT",
        minimum=0,
    )
    worker_enable_soft_shutdown_on_idle: bool = setting(
        False,
        "Keep the time of `worker_soft_shutdown_timeout` even if no task is running.",
        old="CELERYD_ENABLE_SOFT_SHUTDOWN_ON_IDLE",
    )
    worker_cancel_long_running_tasks_on_connection_loss: bool = setting(
        False,
        "End running tasks that are acknowledged late when the connection is lost.",
        old="CELERYD_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS",
        ignored="what a lost connection held counts no more, wherever it runs",
    )
    worker_deduplicate_successful_tasks: bool = setting(
        False,
        "Do not run a redelivered task again if its result is already stored as a success; what follows it is sent.",
        old="CELERYD_DEDUPLICATE_SUCCESSFUL_TASKS",
    )
    worker_detect_quorum_queues: bool = setting(
        True,
        "Use native delays and no global prefetch if a queue is a quorum queue.",
        old="CELERYD_DETECT_QUORUM_QUEUES",
        ignored="delays are kept by the broker with every type of queue",
    )
    worker_direct: bool = setting(
        False,
        "Give every worker a queue of its own, its node name followed by `.dq2`, to which tasks can be sent.",
        old="CELERY_WORKER_DIRECT",
    )
    worker_disable_rate_limits: bool = setting(
        False, "Ignore the rate limits of all tasks.", old="CELERY_DISABLE_RATE_LIMITS"
    )
    worker_state_db: str | None = setting(
        None,
        "File in which a worker remembers revoked tasks.",
        old="CELERYD_STATE_DB",
        ignored="revoked tasks are recorded in the broker, for all workers",
    )
    worker_timer: str | None = setting(
        None,
        "Class of the worker's timer.",
        old="CELERYD_TIMER",
        ignored="the supervisor runs on asyncio, which has its own timers",
    )
    worker_timer_precision: float = setting(
        1.0,
        "Seconds that the timer may sleep.",
        old="CELERYD_TIMER_PRECISION",
        ignored="timers of asyncio are exact",
    )
    worker_consumer: str | None = setting(
        None,
        "Class of the worker's consumer.",
        old="CELERYD_CONSUMER",
        celery="its own class",
        ignored="boot steps extend the worker",
    )
    worker_agent: str | None = setting(
        None,
        "Class of an agent that is started with the worker.",
        old="CELERYD_AGENT",
        ignored="boot steps extend the worker",
    )


class WorkerLogSettings:
    """Worker logs and events: what a worker tells of its work."""

    worker_enable_remote_control: bool = setting(
        True, "Answer remote control commands.", old="CELERY_ENABLE_REMOTE_CONTROL"
    )
    worker_send_task_events: bool = setting(
        False, "Publish events on the life of each task (as with `--task-events`).", old="CELERY_SEND_EVENTS"
    )
    worker_log_format_style: Literal["text", "json"] = setting(
        "text",
        "Form of log lines: readable text with key=value pairs, or one JSON object per line.",
        own=True,
    )
    worker_log_format: str | None = setting(
        None,
        "Format of the worker's log lines in text style, with `%` as in `logging`; None means lines of Umbel's own, "
        "with key=value pairs.",
        old="CELERYD_LOG_FORMAT",
        celery='"[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"',
    )
    worker_log_datefmt: str | None = setting(
        None, "`strftime` format of times in the worker's log lines.", old="CELERYD_LOG_DATEFMT"
    )
    worker_log_color: bool | None = setting(
        None, "Colour log lines; None does so on a terminal.", old="CELERYD_LOG_COLOR"
    )
    worker_task_log_format: str | None = setting(
        None,
        "Format of lines that are logged while a task runs, with `%(task_name)s` and `%(task_id)s`; None means lines "
        "of Umbel's own.",
        old="CELERYD_TASK_LOG_FORMAT",
        celery='"[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"',
    )
    worker_task_log_datefmt: str | None = setting(
        None, "`strftime` format of times in log lines that tasks write.", old="CELERYD_TASK_LOG_DATEFMT"
    )
    worker_hijack_root_logger: bool = setting(
        True, "Replace handlers that are already set on the root logger.", old="CELERYD_HIJACK_ROOT_LOGGER"
    )
    worker_redirect_stdouts: bool = setting(True, "Send what tasks print to the log.", old="CELERY_REDIRECT_STDOUTS")
    worker_redirect_stdouts_level: str | int = setting(
        "WARNING", "Log level of what tasks print.", old="CELERY_REDIRECT_STDOUTS_LEVEL"
    )
