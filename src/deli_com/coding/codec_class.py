"""`Codec`, the base class of structs and sealed types, and its metaclass.

The class statement becomes an ordinary class with slots, whose C part is in types/instance.pyx. For people
and type checkers it is a dataclass.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
import pickle
import re
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self

from typing_extensions import Buffer, dataclass_transform

from deli_com._fastcodec import TypeCodec
from deli_com.coding.class_methods import class_methods, set_class_codec
from deli_com.types import nodes
from deli_com.types.declaration import FieldSpec, Spec
from deli_com.types.delivery import Policy, declared
from deli_com.types.graph import can_cycle, check
from deli_com.types.instance import (
    Record,
    RecordType,
    declare_class,
    enable_vectorcall,
    frozen_delattr,
    frozen_setattr,
    record_spec,
    seal_class,
)
from deli_com.types.kinds import MISSING, FieldOptions, field
from deli_com.types.scope import Scope

__all__ = ["RESERVED", "Codec", "CodecMeta"]

RESERVED = frozenset({"to_bytes", "encode", "from_bytes", "decode"})
_CLASS_VAR = re.compile(r"\s*(?:\w+\s*\.\s*)?ClassVar\b")
_KW_ONLY = re.compile(r"\s*(?:\w+\s*\.\s*)?KW_ONLY\s*$")
_INIT_VAR = re.compile(r"\s*(?:\w+\s*\.\s*)?InitVar\b")


class MutableDefault(TypeError, ValueError):
    """A default that all values would share. It is a `ValueError`, as with dataclasses, and a `TypeError`, as
    all errors of a class body are."""


class CodecMeta(RecordType, abc.ABCMeta):
    """The type of `Codec` classes. It is an `abc.ABCMeta`, so that classes may have abstract methods."""

    # The checks of plain classes, which are faster. A class cannot become a subclass of a struct by
    # registration.
    __instancecheck__ = type.__instancecheck__
    __subclasscheck__ = type.__subclasscheck__

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        frozen: bool = False,
        kw_only: bool = False,
        sealed: bool = False,
        policy: Policy | None = None,
        key: str | tuple[str, ...] | None = None,
        retain: bool | None = None,
        max_age: float | None = None,
        weakref_slot: bool = False,
        **kwargs: Any,
    ) -> Any:
        if not any(isinstance(base, CodecMeta) for base in bases):  # Codec itself
            base_class: Any = super().__new__(mcls, name, bases, {**namespace, "__slots__": ()})
            seal_class(base_class, (), False, False, False)
            for key, method in class_methods(base_class).items():
                type.__setattr__(base_class, key, method)
            return base_class
        qualname = namespace.get("__qualname__", name)
        if kwargs:
            _check_keywords(qualname, bases, kwargs)
        parent = _parent(qualname, bases, namespace)
        module = namespace.get("__module__", "")
        _check_options(qualname, name, parent, module, frozen=frozen, sealed=sealed)

        inherited = () if parent is None else parent.fields
        scope = Scope({}, sys._getframe(1), module)
        own = tuple(_own_fields(qualname, namespace, scope, inherited, kw_only=kw_only))
        fields = inherited + own
        _check_order(qualname, fields)
        delivery = declared(
            qualname,
            None if parent is None else parent.delivery,
            tuple(item.name for item in fields),
            policy=policy,
            key=key,
            retain=retain,
            max_age=max_age,
        )
        said = any(option is not None for option in (policy, key, retain, max_age))
        names = {item.name for item in own}
        body = {key: value for key, value in namespace.items() if key not in names}
        for key, value in body.items():
            scope.add(key, value)
        body["__slots__"] = (*(item.name for item in own), *_extra_slots(bases, namespace, weakref_slot))
        body["__by_reference__"] = ByReference(module, qualname)
        _add_dataclass_face(body, fields, frozen=frozen)
        cls: Any = super().__new__(mcls, name, bases, body, **kwargs)
        if cls.__abstractmethods__ and parent is not None and parent.sealed:
            raise TypeError(
                f"{qualname}: a variant has values, so it must define "
                f"{', '.join(sorted(cls.__abstractmethods__))}, abstract in {parent.cls.__qualname__}"
            )

        spec = Spec(cls, fields, scope, frozen=frozen, sealed=sealed, delivery=delivery, delivery_said=said)
        scope.add(name, cls)
        if parent is not None and parent.sealed:
            spec.variant_of = parent.cls
        _complete(cls, spec, own, namespace)
        if spec.variant_of is not None and parent is not None:
            parent.add_variant(cls)
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> None:
        type.__init__(cls, name, bases, namespace)

    def __setattr__(cls, name: str, value: Any) -> None:
        if name == "__bases__":
            raise TypeError(
                f"{cls.__qualname__}.__bases__ cannot be set: its fields are fixed; define a new class"
            )
        spec = record_spec(cls)
        if spec is not None:
            _check_attribute(cls, spec, name, value)
            if name == "__dataclass_params__":
                _yield_to_dataclass(cls, value)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        spec = record_spec(cls)
        if spec is not None and (name in RESERVED or any(item.name == name for item in spec.fields)):
            raise TypeError(
                f"{cls.__qualname__}.{name} cannot be deleted: values of the class are made of it"
            )
        super().__delattr__(name)

    @property
    def __signature__(cls) -> inspect.Signature:
        """What ``inspect.signature`` shows for the constructor."""
        spec = record_spec(cls)
        if spec is None:
            return inspect.Signature()
        ordered = sorted(spec.fields, key=lambda item: item.kw_only)
        return inspect.Signature(
            [
                inspect.Parameter(
                    item.name,
                    inspect.Parameter.KEYWORD_ONLY
                    if item.kw_only
                    else inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=_shown_default(item),
                    annotation=item.annotation,
                )
                for item in ordered
            ]
        )

    def __compile_codec__(cls) -> None:
        """Compile the codec of the class. C code calls this on first use."""
        spec = record_spec(cls)
        if spec is None:
            raise TypeError("Codec itself is no type of a value: name a subclass")
        if cls.__abstractmethods__ and not spec.sealed:
            raise TypeError(f"{cls.__qualname__} is abstract, so it has no values")
        name = cls.__qualname__
        if spec.variant_of is not None:
            facts = check(nodes.StructNode(cls), cls)
            made: TypeCodec[Any] = TypeCodec(cls, nodes.StructNode(cls), facts, name, cls)
        else:
            node = nodes.SealedNode(cls) if spec.sealed else nodes.StructNode(cls)
            made = TypeCodec(cls, node, check(node), name)
        set_class_codec(cls, made)


enable_vectorcall(CodecMeta)


def _add_dataclass_face(body: dict[str, Any], fields: tuple[FieldSpec, ...], *, frozen: bool) -> None:
    # Makes values of the class look like those of a dataclass, and refuse changes if frozen.
    specimen: Any = _FrozenSpecimen if frozen else _Specimen
    body["__match_args__"] = tuple(item.name for item in fields if not item.kw_only)
    body["__dataclass_fields__"] = {item.name: _dataclass_field(item) for item in fields}
    body["__dataclass_params__"] = specimen.__dataclass_params__
    if frozen:
        body["__setattr__"] = frozen_setattr
        body["__delattr__"] = frozen_delattr
        if "__eq__" in body:
            body.setdefault("__hash__", Record.__hash__)
    else:
        body.setdefault("__hash__", None)


def _complete(cls: Any, spec: Spec, own: tuple[FieldSpec, ...], namespace: dict[str, Any]) -> None:
    # The class has its slots. This declares how values are made, compared and encoded, if all names are
    # defined.
    declare_class(cls, spec)
    for item in own:
        item.resolve(final=False)
    seal_class(
        cls,
        [
            (item.name, *_fallback(item), item.kw_only, item.node is None or _may_hold_arrays(item.node))
            for item in spec.fields
        ],
        not spec.sealed and not cls.__abstractmethods__,
        can_cycle(spec),
        hasattr(cls, "__post_init__"),
    )
    spec.resolve(final=False)
    for key, method in class_methods(cls).items():
        if key not in namespace:
            type.__setattr__(cls, key, method)


class ByReference:
    """An object in each class that prevents pickling the class by value.

    cloudpickle, which joblib, dask and ray use, takes apart classes of ``__main__`` and of notebooks, and
    rebuilds them from a bare class statement. The copy would have no fields, and its values would be empty.
    """

    __slots__ = ("_module", "_name")

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __reduce__(self) -> Any:
        raise pickle.PicklingError(
            f"{self._name} of {self._module} cannot be pickled by value, as cloudpickle (joblib, dask, ray) "
            "does with classes of __main__, of notebooks and of functions: it would arrive without fields. "
            "Put it in a module that both processes import"
        )


def _check_keywords(name: str, bases: tuple[type, ...], keywords: dict[str, Any]) -> None:
    # Class keywords that Codec does not know. A mix-in may accept them.
    if any("__init_subclass__" in vars(cls) for base in bases for cls in base.__mro__[:-1]):
        return
    known = list(CodecMeta.__new__.__kwdefaults__ or ())
    for keyword in keywords:
        near = get_close_matches(keyword, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise TypeError(f"{name}: {keyword!r} is no class keyword of Codec; {hint}")


def _extra_slots(bases: tuple[type, ...], namespace: dict[str, Any], weakref_slot: bool) -> Iterator[str]:
    if weakref_slot and not any(base.__weakrefoffset__ for base in bases):
        yield "__weakref__"
    # functools.cached_property stores its value in the instance's __dict__.
    is_cached = any(isinstance(value, functools.cached_property) for value in namespace.values())
    if is_cached and not any(base.__dictoffset__ for base in bases):
        yield "__dict__"


def _check_attribute(cls: Any, spec: Spec, name: str, value: Any) -> None:
    # Attributes that must not be set on an existing class, by reloading tools or by hand.
    if name in RESERVED:
        owner = getattr(value, "__objclass__", None) or getattr(value, "__self__", None)
        if isinstance(owner, CodecMeta) and owner is not cls:
            raise TypeError(f"{cls.__qualname__}.{name}: this is the method of another class, {owner!r}")
    elif any(item.name == name for item in spec.fields):
        raise TypeError(f"{cls.__qualname__}.{name} is a field: this attribute of the class cannot be set")
    elif name == "__slots__":
        raise TypeError(
            f"{cls.__qualname__} arrives without its fields: it was pickled by value. "
            "Put it in a module that both processes import"
        )


def _yield_to_dataclass(cls: Any, params: Any) -> None:
    # The dataclass decorator starts here. It would add methods that the class lacks, such as __setattr__ and
    # __hash__.
    own = vars(cls)
    if params.frozen:
        for name, function in (("__setattr__", frozen_setattr), ("__delattr__", frozen_delattr)):
            if own.get(name) is function:
                type.__delattr__(cls, name)
    if (params.unsafe_hash or (params.eq and params.frozen)) and own.get("__hash__", cls) is None:
        type.__delattr__(cls, "__hash__")


def _parent(name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Spec | None:
    # The declaration that the class extends. It also checks what no class may have.
    specs = [
        spec for base in bases if isinstance(base, CodecMeta) and (spec := record_spec(base)) is not None
    ]
    if len(specs) > 1:
        raise TypeError(f"{name}: a struct extends one struct, not {len(specs)}")
    if namespace.get("__type_params__") or any(base is Generic for base in bases):
        raise TypeError(f"{name}: generic structs have no wire form; write one class for each type")
    if getattr(sys.modules.get("typing"), "Protocol", None) in bases:
        raise TypeError(f"{name}: a struct cannot be a Protocol")
    for method in ("__init__", "__new__"):
        found = next((vars(base) for base in bases if method in vars(base) and _is_mix_in(base)), namespace)
        if method in found:
            raise TypeError(
                f"{name}: {method} cannot be defined, the fields are the constructor; use __post_init__"
            )
    if "__slots__" in namespace:
        raise TypeError(f"{name}: __slots__ are made from the fields and cannot be defined")
    return specs[0] if specs else None


def _is_mix_in(base: type) -> bool:
    return base is not object and not isinstance(base, CodecMeta)


def _check_options(
    name: str, short: str, parent: Spec | None, module: str, *, frozen: bool, sealed: bool
) -> None:
    if parent is None:
        return
    base = parent.cls.__qualname__
    if parent.variant_of is not None:
        raise TypeError(
            f"{name}: {base} is a variant of {parent.variant_of.__qualname__}, and variants are final"
        )
    if parent.frozen and not frozen:
        raise TypeError(f"{name}: {base} is frozen, so it needs frozen=True too")
    if frozen and not parent.frozen:
        raise TypeError(f"{name}: {base} needs frozen=True too")
    if parent.sealed:
        if sealed:
            raise TypeError(f"{name}: a variant of {base} cannot be sealed itself")
        parent.check_variant(short, module)


def _own_fields(
    qualname: str, namespace: dict[str, Any], scope: Scope, inherited: tuple[FieldSpec, ...], *, kw_only: bool
) -> Iterator[FieldSpec]:
    taken = {item.name for item in inherited}
    for name in namespace:
        if name in taken:
            raise TypeError(
                f"{qualname}.{name}: this field of the base class cannot be declared or set again"
            )
    for name, annotation in _annotations(namespace).items():
        if _is_class_var(annotation):
            continue
        if annotation is dataclasses.KW_ONLY or (isinstance(annotation, str) and _KW_ONLY.match(annotation)):
            kw_only = True
            continue
        where = f"{qualname}.{name}"
        if isinstance(annotation, dataclasses.InitVar) or (
            isinstance(annotation, str) and _INIT_VAR.match(annotation)
        ):
            raise TypeError(f"{where}: InitVar is not supported")
        if name in taken:
            raise TypeError(f"{where}: this field of the base class cannot be declared again")
        if name in RESERVED:
            raise TypeError(
                f"{where}: {name} is a method of every struct; rename the field (names are not sent)"
            )
        if name.startswith("__") and name.endswith("__"):
            raise TypeError(f"{where}: dunder names cannot be fields; rename it (names are not sent)")
        options = namespace.get(name, MISSING)
        if isinstance(options, dataclasses.Field):
            raise TypeError(f"{where}: use deli_com.field, not dataclasses.field")
        if not isinstance(options, FieldOptions):
            options = FieldOptions(options, MISSING, None)
        default = options.default
        if default is not MISSING and type(default).__hash__ is None:
            raise MutableDefault(
                f"{where}: mutable default {type(default)} would be shared by all values: "
                "use field(default_factory=...)"
            )
        yield FieldSpec(
            qualname,
            name,
            annotation,
            default=default,
            factory=options.default_factory,
            kw_only=kw_only if options.kw_only is None else bool(options.kw_only),
            scope=scope,
            renamed_from=options.renamed_from,
        )


def _annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    # The annotations of the class body. Strings are not resolved.
    if sys.version_info >= (3, 14):
        # The namespace may hold a function instead, and names may not be defined yet.
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(namespace)
        if annotate is not None:
            return dict(annotationlib.call_annotate_function(annotate, annotationlib.Format.FORWARDREF))
    return dict(namespace.get("__annotations__", {}))


def _is_class_var(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return _CLASS_VAR.match(annotation) is not None
    return annotation is ClassVar or getattr(annotation, "__origin__", None) is ClassVar


def _check_order(name: str, fields: tuple[FieldSpec, ...]) -> None:
    before = None
    for item in fields:
        if item.kw_only:
            continue
        if item.default is not MISSING or item.factory is not MISSING:
            before = item.name
        elif before is not None:
            raise TypeError(f"{name}.{item.name}: a field without a default follows {before}, which has one")


def _fallback(item: FieldSpec) -> tuple[int, Any]:
    # 0, 1, 2: see types/metatype.h.
    if item.default is not MISSING:
        return 1, item.default
    if item.factory is not MISSING:
        return 2, item.factory
    return 0, None


def _shown_default(item: FieldSpec) -> Any:
    kind, value = _fallback(item)
    return (inspect.Parameter.empty, value, FACTORY)[kind]


class _Factory:
    # The text that a signature shows for a default_factory, as for a dataclass.
    def __repr__(self) -> str:
        return "<factory>"


FACTORY = _Factory()


def _may_hold_arrays(node: nodes.Node) -> bool:
    # Whether comparing such values with `==` could give an array, or fail, instead of giving a bool.
    match node:
        case nodes.ArrayNode() | nodes.NdArrayNode() | nodes.StructuredNode() | nodes.FixedNode():
            return True
        case nodes.ShapedNode():
            return True
        case nodes.ListNode(nodes.StructNode(_)):
            return True  # such a field also accepts a structured array
        case nodes.OptionNode(item) | nodes.ListNode(item) | nodes.TupleNode(item):
            return _may_hold_arrays(item)
        case nodes.ProductNode(items):
            return any(_may_hold_arrays(item) for item in items)
        case _:
            return False


def _dataclass_field(item: FieldSpec) -> Any:
    # The objects that dataclasses.fields, asdict and replace use.
    kind, value = _fallback(item)
    made: Any
    if kind == 1:
        made = dataclasses.field(default=value, kw_only=item.kw_only)
    elif kind == 2:
        made = dataclasses.field(default_factory=value, kw_only=item.kw_only)
    else:
        made = dataclasses.field(kw_only=item.kw_only)
    made.name = item.name
    made.type = item.annotation
    made._field_type = _FIELD_TYPE
    return made


@dataclasses.dataclass
class _Specimen:
    field: int


@dataclasses.dataclass(frozen=True)
class _FrozenSpecimen:
    pass


# The private mark that dataclasses sets on fields, copied from one.
_FIELD_TYPE = _Specimen.__dataclass_fields__["field"]._field_type  # type: ignore[attr-defined]


@dataclass_transform(field_specifiers=(field,))
class Codec(Record, metaclass=CodecMeta):
    """Base class of structs and sealed types: dataclasses that can be encoded.

    1. Annotated names are the fields, in order. `field` gives defaults. Names annotated with ``ClassVar`` and
       names without an annotation are not fields.
    2. Class keywords: ``frozen`` (no assignment, and a hash), ``kw_only``, ``sealed`` (an enum whose variants
       are the direct subclasses); ``policy``, ``key``, ``retain``, ``max_age`` (how messages of the class are
       delivered, see below); ``weakref_slot`` (allows `weakref.ref` to values, for 8 bytes each).
       ``functools.cached_property`` gives the values of its class a ``__dict__``.
    3. A subclass appends its fields. A field of class ``P`` accepts exactly a ``P``, no subclass.
    4. ``__post_init__`` runs on construction and on decoding, which adds the time of that call to each value.
    5. The delivery keywords apply only if the class is the whole message. ``policy`` says what happens to
       a client that is behind: ``"disconnect"``, ``"wait"``, ``"skip"``, ``"latest"``. Without a policy the
       server's ``slow_client`` applies. With ``"latest"``, ``key`` names the field, or a tuple of fields, and
       the newest message of each key is kept. ``retain=True`` sends these messages to new clients first. A
       subclass inherits the keywords that it does not set. On a sealed class they are the defaults of its
       variants.
    6. ``max_age`` is a number of seconds, for any policy. A message that is older is left out, and counted as
       skipped: at the sender when it reaches a client that is behind, and at the receiver when the program
       comes to it, where the age counts from its arrival. The clocks of the two are not compared.

    Examples
    --------
    >>> class Point(Codec):
    ...     x: f32
    ...     y: f32
    >>> Point(1.5, -3.0).to_bytes().hex()
    '0000c03f000040c0'
    """

    if TYPE_CHECKING:
        # Made for each class by coding/class_methods.pyx, which has their docstrings.
        def to_bytes(self) -> bytes: ...
        def encode(self, buf: bytearray) -> None: ...
        @classmethod
        def from_bytes(cls, data: Buffer, strict: bool = False) -> Self: ...
        @classmethod
        def decode(cls, data: Buffer, pos: int = 0) -> tuple[Self, int]: ...

        __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

        def __init_subclass__(
            cls,
            *,
            frozen: bool = False,
            kw_only: bool = False,
            sealed: bool = False,
            policy: Policy | None = None,
            key: str | tuple[str, ...] | None = None,
            retain: bool | None = None,
            max_age: float | None = None,
            weakref_slot: bool = False,
        ) -> None: ...
