"""The declaration of a `Codec` class: its fields in order, and the variants of a sealed class."""

from __future__ import annotations

from typing import Any

from deli_com.types import nodes
from deli_com.types.annotations import parse
from deli_com.types.delivery import Delivery
from deli_com.types.keys import check_key
from deli_com.types.scope import Scope
from deli_com.types.shape import check_shapes

__all__ = ["FieldSpec", "Spec"]


class FieldSpec:
    """One declared field of a class. Its node is set when the annotation resolves."""

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
        self.renamed_from = renamed_from  # names of the field in other versions of the class
        self.wire_name = name  # its name in the schema; differs only if Python does not allow that name
        self.notes: tuple[Any, ...] = ()  # notes of its line in the schema
        self.node: nodes.Node | None = None

    def resolve(self, *, final: bool) -> nodes.Node | None:
        """The field's node; None while a name is not defined, which is an error if `final`."""
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
        In wire order; those of the base class come first.
    sealed : bool
        Whether `cls` is a sealed class, which has no instances.
    variant_of : type or None
        The sealed class that `cls` is a variant of.
    variants : dict of str to type
        Variants of a sealed class by name, in the order of definition, which is their index on the wire.
    frozen_list : bool
        True once a program uses the list of variants. Then no variant can be added.
    delivery : Delivery
        How values of the class are delivered, as declared or inherited.
    delivery_said : bool
        True if the class declares it itself.
    notes : tuple or None
        For a class made from a schema text: the notes of its line.
    program : Program or None
        The compiled program, made and kept by coding/program.pyx.
    columns : Columns or None
        The columns of a structured array of the class, made by coding/columns.pyx.
    checks : int or None
        Number of bool and enum columns; None until it is known that the class has columns.
    complete : bool
        True if all that the class reaches is resolved, and no class made later can become part of it.
    waits_for : FieldSpec, Spec or None
        A field or class that was not resolved or not complete when the class was made, if any.
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
        "shapes_checked",
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
        self.shapes_checked = False
        self.variant_of: Any = None
        self.variants: dict[str, Any] = {}
        self.frozen_list = False
        self.program: Any = None
        self.columns: Any = None
        self.checks: int | None = None
        self.complete = False
        self.waits_for: FieldSpec | Spec | None = None

    def resolve(self, *, final: bool) -> bool:
        """Resolve every field. Returns whether all are resolved; then the scope's frames are released."""
        unresolved = [item for item in self.fields if item.resolve(final=final) is None]
        if not unresolved:
            self.scope.forget()
        if not self.key_checked:
            check_key(self, final=final)
            self.key_checked = final
        if not self.shapes_checked and not unresolved:
            check_shapes(self)
            self.shapes_checked = True
        return not unresolved

    def nodes(self) -> list[tuple[str, nodes.Node]]:
        """Name and node of every field; `TypeError` if one does not resolve."""
        self.resolve(final=True)
        return [(item.name, item.node) for item in self.fields if item.node is not None]

    def add_variant(self, cls: Any) -> None:
        """Add `cls` as the next variant. `check_variant` has checked its module and name."""
        self.variants[cls.__name__] = cls

    def check_variant(self, name: str, module: str) -> None:
        """Raise `TypeError` if no variant of that name can be added now."""
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
