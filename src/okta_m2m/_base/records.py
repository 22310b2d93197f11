"""Plain frozen data, like ``@dataclass(frozen=True, slots=True)``, but without compiling code at import.

A dataclass compiles source code when its module is imported. For the classes in this package, that took more than half of the
package's import time (``benchmarks/imports.py``). Records share their methods instead.

Invariant: no ``repr`` shows a field that is named in ``hidden``, not even a subclass's ``repr``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NoReturn, dataclass_transform


class _RecordType(type):
    """Turns a class's annotations into its fields. They must be declared as slots before the class is created."""

    # What Record itself inherits:
    _fields: tuple[str, ...] = ()
    _setters: tuple[Callable[[Any, Any], None], ...] = ()

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, hidden: Iterable[str] = ()
    ) -> _RecordType:
        own = tuple([name for name, kind in namespace.get("__annotations__", {}).items() if "ClassVar" not in kind])
        base: Any = bases[0] if bases else cls
        # Only what a class adds: it inherits the rest. Collecting all of it again took 1.5% of the import time.
        if hidden:
            namespace["_hidden"] = base._hidden.union(hidden)
        defaults = {name: namespace.pop(name) for name in own if name in namespace}
        if defaults:
            namespace["_defaults"] = base._defaults | defaults
        fields = base._fields + own
        namespace["__slots__"], namespace["__match_args__"], namespace["_fields"] = own, fields, fields
        made: Any = super().__new__(cls, name, bases, namespace)
        members = vars(made)
        made._setters = base._setters + tuple([members[name].__set__ for name in own])
        return made  # type: ignore[no-any-return]  # Any, because a type checker does not know these attributes


@dataclass_transform(frozen_default=True)
class Record(metaclass=_RecordType):
    """Base of classes whose annotations are their fields. Values are passed by position or by name, and never change.

    Two records are equal if they have the same class and equal fields. Pattern matching uses fields by position.
    """

    _fields: ClassVar[tuple[str, ...]]
    _defaults: ClassVar[dict[str, Any]] = {}
    _hidden: ClassVar[frozenset[str]] = frozenset()
    _setters: ClassVar[tuple[Callable[[Any, Any], None], ...]]

    def __init__(self, *values: Any, **named: Any) -> None:
        for put, value in zip(self._setters, values, strict=False):
            put(self, value)
        if len(values) != len(self._setters):
            self._put_by_name(len(values), named)
        elif named:
            raise TypeError(f"{type(self).__name__} got {sorted(named)} twice, or has no such field")

    def _put_by_name(self, given: int, named: dict[str, Any]) -> None:
        names, name = self._fields, type(self).__name__
        try:
            for put, field in zip(self._setters[given:], names[given:], strict=True):
                put(self, named.pop(field) if field in named else self._defaults[field])
        except KeyError as missing:
            raise TypeError(f"{name} needs {missing.args[0]}") from None
        if named or given > len(names):
            raise TypeError(f"{name} has the fields {', '.join(names) or 'none'}, each of them once")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._fields)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        # A crash report may show an incomplete record, whose creation was interrupted.
        shown = (f"{name}={getattr(self, name, None)!r}" for name in self._fields if name not in self._hidden)
        return f"{type(self).__name__}({', '.join(shown)})"


class _OfDataclass:
    """An attribute that a dataclass with the same fields would have."""

    def __set_name__(self, kind: type, name: str) -> None:
        self._name = name

    def __get__(self, record: object, kind: type[Record]) -> Any:
        from dataclasses import make_dataclass  # heavy

        own = [vars(base).get("__annotations__", {}) for base in reversed(kind.__mro__)]
        fields = [(name, annotations[name]) for annotations in own for name in annotations if name in kind._fields]
        return vars(make_dataclass(kind.__name__, fields, frozen=True))[self._name]


class PublicRecord(Record):
    """Base of records that users hold. ``dataclasses.asdict``, ``fields`` and ``replace``, ``copy``, ``pickle`` and ``pprint``
    work as with a dataclass."""

    __dataclass_fields__: ClassVar = _OfDataclass()
    __dataclass_params__: ClassVar = _OfDataclass()

    def __replace__(self, **changes: Any) -> Record:
        from dataclasses import replace  # heavy

        return replace(self, **changes)

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), self._values()
