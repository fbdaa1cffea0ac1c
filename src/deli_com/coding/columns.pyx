"""Structured arrays: the dtype of a struct of fixed width, and the check of its columns.

``list[Tick]`` on the wire has numpy's packed, unaligned layout of the same fields, so an array is copied as a
whole. The columns of bools and enums are checked: a bool is 0 or 1, and an enum is less than its number of
members.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free

from deli_com.types import nodes
from deli_com.types.instance import record_spec
from deli_com.ground.scalar cimport load_u32

cdef enum:
    MAX_CHECKED = 65536  # bool and enum columns of one struct


cdef class Columns:
    """The columns of one struct class, or the single column of an array of bools.

    Attributes
    ----------
    row : int
        Bytes of one row.
    name : str
        Name of the class.
    """

    def __init__(self, node, name):
        checks = []
        self.node = node
        self.name = name
        self.row = _walk(node, 0, name, "", checks)
        self.count = len(checks)
        self.checks = <Check*>PyMem_Calloc(self.count + 1, sizeof(Check))
        if self.checks == NULL:
            raise MemoryError
        self.paths = [path for _, _, path in checks]
        for i, (offset, limit, _) in enumerate(checks):
            self.checks[i].offset = offset
            self.checks[i].limit = limit

    def __dealloc__(self):
        PyMem_Free(self.checks)

    @staticmethod
    def possible(cls):
        """Whether the fields of `cls` can be columns."""
        return _unfit(nodes.StructNode(cls), "") is None and record_spec(cls).checks <= MAX_CHECKED

    @staticmethod
    def of(cls):
        """The columns of `cls`, made once. `TypeError` names a field that cannot be a column."""
        spec = record_spec(cls)
        if spec.columns is None:
            unfit = _unfit(nodes.StructNode(cls), cls.__qualname__)
            if unfit is not None:
                raise TypeError(
                    f"{unfit}: a structured array needs fields of fixed width "
                    "(numbers, bool, enums, structs of such fields, fixed arrays)"
                )
            spec.columns = Columns(nodes.StructNode(cls), cls.__qualname__)
        return spec.columns

    @property
    def dtype(self):
        """The numpy dtype of one row: packed, little-endian. Imports numpy."""
        if self._dtype is None:
            import numpy
            self._dtype = numpy.dtype(_fields(self.node))
        return self._dtype

    cdef Py_ssize_t find_bad(self, const char* data, Py_ssize_t rows, Py_ssize_t* column) noexcept:
        # The row of the first invalid value, or -1. `column` is then its index in `checks`.
        cdef Py_ssize_t i, k, found = -1
        cdef const char* p
        for k in range(self.count):
            p = data + self.checks[k].offset
            if self.checks[k].limit == 0:
                for i in range(rows if found < 0 else found):
                    if <unsigned char>p[0] > 1:
                        found = i
                        column[0] = k
                        break
                    p += self.row
            else:
                for i in range(rows if found < 0 else found):
                    if load_u32(p) >= self.checks[k].limit:
                        found = i
                        column[0] = k
                        break
                    p += self.row
        return found


def _unfit(node, path, inside=()):
    # The path of the first part that cannot be a column, or None. `inside`: the enclosing structs.
    if isinstance(node, (nodes.NumberNode, nodes.EnumNode)) or node == nodes.LeafNode("bool"):
        return None
    if isinstance(node, nodes.FixedNode):
        return _unfit(node.item, path, inside)
    if not isinstance(node, nodes.StructNode) or node.cls in inside:
        return path
    spec = record_spec(node.cls)
    if spec.checks is not None:
        return None
    fields = spec.nodes()
    for name, item in fields:
        unfit = _unfit(item, f"{path}.{name}", (*inside, node.cls))
        if unfit is not None:
            return unfit
    if all([_is_empty(item) for _, item in fields]):
        return path  # rows without bytes cannot be counted
    spec.checks = sum([_checks(item) for _, item in fields])
    return None


def _is_empty(node):
    # Whether values of a valid node have no bytes.
    return isinstance(node, nodes.FixedNode) and (node.count == 0 or _is_empty(node.item))


def _checks(node):
    # The number of bool and enum columns of a valid node.
    if isinstance(node, nodes.FixedNode):
        return node.count * _checks(node.item)
    if isinstance(node, nodes.StructNode):
        return record_spec(node.cls).checks
    return 0 if isinstance(node, nodes.NumberNode) else 1


def _walk(node, offset, path, piece, checks):
    # Bytes of `node`. Appends (offset, limit, path) for each column to check.
    cdef Py_ssize_t start = offset
    if isinstance(node, nodes.NumberNode):
        return node.kind.size
    if isinstance(node, nodes.EnumNode):
        checks.append((offset, len(node.cls), piece))
        size = 4
    elif isinstance(node, nodes.StructNode) and record_spec(node.cls).columns is not None:
        return _again(record_spec(node.cls).columns, offset, path, piece, checks)
    elif isinstance(node, nodes.StructNode):
        for name, item in record_spec(node.cls).nodes():
            if isinstance(item, nodes.StructNode) and record_spec(item.cls).checks <= MAX_CHECKED:
                Columns.of(item.cls)  # cached, so that no class is walked twice
            offset += _walk(item, offset, path, f"{piece}.{name}", checks)
        return offset - start
    elif isinstance(node, nodes.FixedNode):
        for i in range(node.count):
            before = len(checks)
            size = _walk(node.item, offset, path, f"{piece}[{i}]", checks)
            offset += size
            if len(checks) == before:  # numbers only, so the other items need no walk
                return size * node.count
        return offset - start
    else:
        checks.append((offset, 0, piece))
        size = 1
    if len(checks) > MAX_CHECKED:
        raise TypeError(f"{path}{piece}: more than {MAX_CHECKED} bool and enum columns")
    return size


def _again(Columns inner, offset, path, piece, checks):
    # As `_walk`, for a struct whose columns are known.
    cdef Py_ssize_t i
    if len(checks) + inner.count > MAX_CHECKED:
        raise TypeError(f"{path}{piece}: more than {MAX_CHECKED} bool and enum columns")
    for i in range(inner.count):
        checks.append((offset + inner.checks[i].offset, inner.checks[i].limit, piece + inner.paths[i]))
    return inner.row


def _fields(node):
    if isinstance(node, nodes.NumberNode):
        return node.kind.numpy
    if isinstance(node, nodes.EnumNode):
        return "<u4"
    if isinstance(node, nodes.StructNode):
        return [_column(name, item) for name, item in record_spec(node.cls).nodes()]
    return "?"


def _column(name, node):
    shape = ()
    while isinstance(node, nodes.FixedNode):
        shape += (node.count,)
        node = node.item
    fields = _fields(node)
    return (name, fields, shape) if shape else (name, fields)
