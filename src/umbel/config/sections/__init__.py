"""Every setting there is, by section. To add one, declare it in the section's file; nothing else needs to change."""

from umbel.config.declaring import Setting
from umbel.config.sections.application import ApplicationSettings, MonitoringSettings
from umbel.config.sections.broker import BrokerSettings, RedisSettings
from umbel.config.sections.foreign import ForeignSettings
from umbel.config.sections.results import ResultDatabaseSettings, ResultSettings
from umbel.config.sections.schedule import ScheduleSettings
from umbel.config.sections.tasks import SendingSettings, TaskSettings
from umbel.config.sections.worker import WorkerConsumingSettings, WorkerLogSettings, WorkerProcessSettings


class Declared(
    ApplicationSettings,
    TaskSettings,
    SendingSettings,
    BrokerSettings,
    RedisSettings,
    WorkerProcessSettings,
    WorkerConsumingSettings,
    WorkerLogSettings,
    ResultSettings,
    ResultDatabaseSettings,
    ScheduleSettings,
    MonitoringSettings,
    ForeignSettings,
):
    """All settings as typed attributes."""


SECTIONS: dict[type, dict[str, Setting]] = {
    section: {name: value for name, value in vars(section).items() if isinstance(value, Setting)}
    for section in Declared.__bases__
}

DECLARED: dict[str, Setting] = {name: declared for section in SECTIONS.values() for name, declared in section.items()}

OLD_NAMES: dict[str, str] = {declared.old: name for name, declared in DECLARED.items() if declared.old is not None}
