"""What a `Codec` class declares: its fields in order, and for sealed ones their variants."""

from __future__ import annotations

from typing import Any

from deli_com.types import nodes
from deli_com.types.annotations import parse
from deli_com.types.delivery import Delivery
from deli_com.types.keys import check_key
from deli_com.types.scope import Scope

__all__ = ["FieldSpec", "Spec"]


class FieldSpec:
    """One field of one class, as declared; its node as soon as the annotation resolves."""

    __slots__ = (
        "annotation",
        "default",
        "factory",
        "kw_only",
        "name",
        "node",
        "notes",
        "owner",
        "renamed_from",
        "scope",
        "wire_name",
    )

    def __init__(
        self,
        owner: str,
        name: str,
        annotation: Any,
        *,
        default: Any,
        factory: Any,
        kw_only: bool,
        scope: Scope,
        renamed_from: tuple[str, ...] = (),
    ) -> None:
        self.owner = owner
        self.name = name
        self.annotation = annotation
        self.default = default
        self.factory = factory
        self.kw_only = kw_only
        self.scope = scope
        self.renamed_from = renamed_from  # what other versions of the class call it
        self.wire_name = name  # its name in the schema; another one only where Python would not have that
        self.notes: tuple[Any, ...] = ()  # of its line in the schema
        self.node: nodes.Node | None = None

    def resolve(self, *, final: bool) -> nodes.Node | None:
        """The field's node; None while a name is missing, which is an error if `final`."""
        if self.node is None:
            try:
                self.node = parse(self.annotation, self.scope)
            except NameError as error:
                if final:
                    raise TypeError(f"{self.owner}.{self.name}: {error}") from error
            except (TypeError, SyntaxError, AttributeError) as error:
                raise TypeError(f"{self.owner}.{self.name}: {error}") from error
        return self.node


class Spec:
    """The declaration of one struct, sealed class or variant.

    Attributes
    ----------
    cls : type
        The class.
    fields : tuple of FieldSpec
        In wire order: those of the base first.
    sealed : bool
        Whether `cls` is a sealed class, which makes no instances.
    variant_of : type or None
        The sealed class that `cls` is a variant of.
    variants : dict of str to type
        Of a sealed class, by name, in the order of definition; that is the wire's index.
    frozen_list : bool
        The variants were compiled into something: no more may come.
    delivery : Delivery
        How values of the class are delivered, as it says or inherits.
    delivery_said : bool
        The class says so itself.
    notes : tuple or None
        Of a class made from a schema text: the notes of its line there.
    program : Program or None
        Compiled form, made and kept by coding/program.pyx.
    columns : Columns or None
        The same as rows of a structured array, by coding/columns.pyx.
    checks : int or None
        How many of the columns are of bools and enums; None until it is known that the class has columns.
    complete : bool
        All that the class reaches is resolved, and no class that is made later can be among it.
    waits_for : FieldSpec, Spec or None
        What was not resolved, or open for more variants, as the class was made; or something like it.
    """

    __slots__ = (
        "checks",
        "cls",
        "columns",
        "complete",
        "delivery",
        "delivery_said",
        "fields",
        "frozen",
        "frozen_list",
        "key_checked",
        "notes",
        "program",
        "scope",
        "sealed",
        "variant_of",
        "variants",
        "waits_for",
    )

    def __init__(
        self,
        cls: Any,
        fields: tuple[FieldSpec, ...],
        scope: Scope,
        *,
        frozen: bool,
        sealed: bool,
        delivery: Delivery,
        delivery_said: bool = False,
    ) -> None:
        self.cls = cls
        self.fields = fields
        self.scope = scope
        self.frozen = frozen
        self.sealed = sealed
        self.delivery = delivery
        self.delivery_said = delivery_said
        self.notes: tuple[Any, ...] | None = None
        self.key_checked = not delivery.key
        self.variant_of: Any = None
        self.variants: dict[str, Any] = {}
        self.frozen_list = False
        self.program: Any = None
        self.columns: Any = None
        self.checks: int | None = None
        self.complete = False
        self.waits_for: FieldSpec | Spec | None = None

    def resolve(self, *, final: bool) -> bool:
        """Resolve every field; whether all are. The frames of the scope go when they are."""
        unresolved = [item for item in self.fields if item.resolve(final=final) is None]
        if not unresolved:
            self.scope.forget()
        if not self.key_checked:
            check_key(self, final=final)
            self.key_checked = final
        return not unresolved

    def nodes(self) -> list[tuple[str, nodes.Node]]:
        """Name and node of every field; `TypeError` where one does not resolve."""
        self.resolve(final=True)
        return [(item.name, item.node) for item in self.fields if item.node is not None]

    def add_variant(self, cls: Any) -> None:
        """Take `cls` as the next variant. Its module and name were checked by `check_variant`."""
        self.variants[cls.__name__] = cls

    def check_variant(self, name: str, module: str) -> None:
        """Whether a variant of that name may come now; `TypeError` if not."""
        own = self.cls.__qualname__
        if module != self.cls.__module__:
            raise TypeError(
                f"{name}: variants of {own} must be in its module, {self.cls.__module__}, not in {module}: "
                "otherwise the order of imports would decide the bytes"
            )
        if name in self.variants:
            raise TypeError(
                f"{own} already has a variant {name}: "
                f"to define it again, run the definition of {own} again too"
            )
        if self.frozen_list:
            raise TypeError(
                f"{name} comes too late: {own} is already compiled with the variants "
                f"{', '.join(self.variants)}"
            )
