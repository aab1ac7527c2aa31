"""How a setting is declared: name and type by an annotated class attribute, the rest by :func:`setting`.

    class BrokerSettings:
        broker_url: str | None = setting(None, "URL of the broker.", old="BROKER_URL")

Type checkers see an attribute of the annotated type. At run time the class holds a :class:`Setting`, a descriptor
without ``__set__``: an object's own value hides it, so that a read costs no call once the values are loaded.
"""

from typing import Any, Protocol, TypeVar, cast, overload

T = TypeVar("T")


class Loadable(Protocol):
    """What holds values of settings and can fetch them when the first one is read."""

    def load(self) -> None: ...


class Setting:
    """What is known of one setting.

    ``default`` is Umbel's default, ``doc`` one line of Markdown, ``old`` Celery's upper-case name, ``celery`` Celery's
    own default where it differs, ``minimum`` the least allowed number, ``secret`` whether the value must not be
    shown, ``own`` whether Celery does not have the setting, ``ignored`` why it has no effect in Umbel.
    """

    __slots__ = ("celery", "default", "doc", "ignored", "minimum", "name", "old", "own", "owner", "secret")

    name: str
    owner: type

    def __init__(
        self,
        default: Any,
        doc: str,
        *,
        old: str | None = None,
        celery: str | None = None,
        minimum: float | None = None,
        secret: bool = False,
        own: bool = False,
        ignored: str | None = None,
    ) -> None:
        self.default = default
        self.doc = doc
        self.old = old
        self.celery = celery
        self.minimum = minimum
        self.secret = secret
        self.own = own
        self.ignored = ignored

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = owner
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "Setting": ...
    @overload
    def __get__(self, instance: Loadable, owner: type) -> Any: ...
    def __get__(self, instance: Loadable | None, owner: type) -> Any:
        if instance is None:
            return self
        instance.load()
        return instance.__dict__[self.name]

    @property
    def type(self) -> Any:
        """The annotation: what values must be."""
        return self.owner.__annotations__[self.name]

    def fresh_default(self) -> Any:
        """The default, copied if it could be changed in place."""
        default: Any = self.default
        return default.copy() if type(default) in (dict, list) else default


def setting(
    default: T,
    doc: str,
    *,
    old: str | None = None,
    celery: str | None = None,
    minimum: float | None = None,
    secret: bool = False,
    own: bool = False,
    ignored: str | None = None,
) -> T:
    """Declare a setting; the parameters are those of :class:`Setting`."""
    declared = Setting(
        default,
        doc,
        old=old,
        celery=celery,
        minimum=minimum,
        secret=secret,
        own=own,
        ignored=ignored,
    )
    return cast(T, declared)
