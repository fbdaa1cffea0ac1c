"""Compiles the plans of schema/resolve.py to programs that read another writer's values.

Such a program reads the writer's bytes in their order. Values of fields that the reader has are stored in its
slots, as in an ordinary program; other fields are skipped. Parts that are equal use the reader's own
programs. The operations that only such programs have are in resolved.pyx.
"""

from libc.stdint cimport uint32_t

from deli_com.coding.columns cimport Columns
from deli_com.coding.program cimport *
from deli_com.coding.resolved cimport enable_resolved
from deli_com.coding.rows cimport RowReader
from deli_com.coding.shapes cimport StructShapes, emit_root_shape, emit_shapes, struct_shapes

from deli_com.errors import EncodeError, SchemaMismatch
from deli_com.schema import plan as plans
from deli_com.schema import tree
from deli_com.schema.measure import least_size
from deli_com.types import nodes
from deli_com.types.graph import check, size_in
from deli_com.types.instance import record_spec
from deli_com.types.kinds import MISSING

cdef enum:
    MAX_PART = 1 << 30        # bytes of one operation in a run
    MAX_TOTAL = 1 << 18       # limit on the operations of all programs of one resolution
    MAX_OPERATIONS = 512      # length of a program from which structs are called instead of inlined
    SMALL = 8                 # most fields of a struct that is inlined where it is skipped

cdef dict SIZES = dict(tree.SIZES)


cdef class _Compiler:
    # The state of compiling one resolution.
    cdef object resolution
    cdef dict facts           # facts of the reader's classes
    cdef dict by_name         # the writer's definitions by name
    cdef dict sizes
    cdef dict over            # name -> Program that skips a value of the definition
    cdef dict pairs           # id of a pair -> Program
    cdef Py_ssize_t total     # operations of the programs that are complete

    def __init__(self, resolution, facts):
        self.resolution = resolution
        self.facts = facts
        self.by_name = dict(resolution.tree.by_name)
        self.sizes = resolution.sizes
        self.over = {}
        self.pairs = {}

    cdef int done(self, Program program, Py_ssize_t least) except -1:
        cdef Prog* prog = &program.prog
        prog.min_size = least
        prog.max_size = -1
        prog.leaf = prog.count == 1 or (prog.count == 2 and prog.ops[0].code == OP_NEED)
        self.total += prog.count
        if self.total > MAX_TOTAL:
            raise SchemaMismatch("type", ["what is sent is too large to be read as another type"])
        return 0

    # --- skipping values ---

    cdef int skip(self, Program program, tp, str path) except -1:
        # Appends the operations that skip a value of the writer's type.
        cdef Op* op
        cdef Py_ssize_t at, size
        cdef Program inner
        self.check_room(program)
        if isinstance(tp, tree.Scalar):
            if tp.name == "bool":
                program.add_fixed(OP_SKIP_BOOL, 1, 0, path)
            elif tp.name == "str":
                program.add_varying(OP_SKIP_STR, 0, path)
            elif tp.name == "bytes":
                program.add_varying(OP_SKIP_SIZED, 0, path).number = 1
            else:
                self.skip_bytes(program, SIZES[tp.name], path)
        elif isinstance(tp, tree.Ref):
            self.skip_definition(program, self.by_name[tp.name], path)
        elif isinstance(tp, tree.Option):
            program.add_fixed(OP_SKIP_OPTION, 1, 0, path)
            program.run = -1
            at = program.prog.count - 1
            self.skip(program, tp.item, path)
            program.run = -1
            program.prog.ops[at].number = program.prog.count - at - 1
        elif isinstance(tp, tree.List):
            size = SIZES.get(str(tp.item), 0)
            if size and str(tp.item) != "bool":
                program.add_varying(OP_SKIP_SIZED, 0, path).number = size
            else:
                inner = self.skipping(tp.item)
                op = program.add_varying(OP_SKIP_LIST, 0, path)
                op.ref = self.own(program, inner)
        elif isinstance(tp, tree.Fixed):
            size = SIZES.get(str(tp.item), 0)
            if size and str(tp.item) != "bool" and size * tp.count < MAX_PART:
                self.skip_bytes(program, size * tp.count, path)
            else:
                inner = self.skipping(tp.item)
                op = program.add_varying(OP_SKIP_FIXED, 0, path)
                op.ref = self.own(program, inner)
                op.number = tp.count
        else:
            for i, item in enumerate(tp.items):
                self.skip(program, item, f"{path}[{i}]")
        return 0

    cdef int check_room(self, Program program) except -1:
        if self.total + program.prog.count > MAX_TOTAL:
            raise SchemaMismatch("type", ["what is sent is too large to be read as another type"])
        return 0

    cdef int skip_bytes(self, Program program, Py_ssize_t size, str path) except -1:
        # The first of several adjacent skips covers all of them. An error still names the field at fault.
        cdef Py_ssize_t back = 0
        cdef Op* op
        cdef Op* first
        if program.run >= 0:
            op = &program.prog.ops[program.prog.count - 1]
            if op.code == OP_SKIP and (op - op.tail).kind + size < MAX_PART:
                back = op.tail + 1
        op = program.add_fixed(OP_SKIP, size, 0, path)
        op.tail = <int>back
        first = op - back
        first.kind += <int>size
        first.number = back
        return 0

    cdef int skip_definition(self, Program program, definition, str path) except -1:
        cdef Op* op
        cdef Program inner
        if isinstance(definition, tree.Enum):
            program.add_fixed(OP_SKIP_ENUM, 4, 0, path).number = len(definition.members)
        elif isinstance(definition, tree.Struct) and len(definition.fields) <= SMALL and all(
            isinstance(field.type, tree.Scalar) for field in definition.fields
        ):
            for field in definition.fields:
                self.skip(program, field.type, f"{path}.{field.name}")
        else:
            inner = self.skipping(tree.Ref(definition.name))
            op = program.add_varying(OP_CALL, 0, path)
            op.ref = self.own(program, inner)
        return 0

    cdef Program skipping(self, tp):
        # The program that skips one value.
        cdef Program program
        cdef str name = tp.name if isinstance(tp, tree.Ref) else None
        if name in self.over:
            return self.over[name]
        program = Program.__new__(Program)
        least = least_size(tp, self.sizes)
        definition = self.by_name[name] if name is not None else None
        if definition is None or isinstance(definition, tree.Enum):
            self.skip(program, tp, "")
            self.done(program, least)
            return program
        self.over[name] = program  # stored before it is complete, for recursive types
        program.prog.recursive = name in self.resolution.recursive
        program.prog.min_size = least
        if isinstance(definition, tree.Struct):
            for field in definition.fields:
                self.skip(program, field.type, f".{field.name}")
        else:
            self.skip_variants(program, definition)
        self.done(program, least)
        return program

    cdef int skip_variants(self, Program program, definition) except -1:
        cdef Table* table
        cdef Py_ssize_t i
        program.add_varying(OP_SKIP_SEALED, 0, "")
        count = len(definition.variants)
        table = make_table(program, [None] * count, [None] * count, definition.name)
        program.prog.ops[0].ref = table
        for i, variant in enumerate(definition.variants):
            table.progs[i] = <Prog*>self.own(program, self.skipping_variant(variant))
        return 0

    cdef Program skipping_variant(self, variant):
        cdef Program program = Program.__new__(Program)
        for field in variant.fields:
            self.skip(program, field.type, f".{field.name}")
        self.done(program, sum([least_size(field.type, self.sizes) for field in variant.fields]))
        return program

    cdef void* own(self, Program program, Program inner) except NULL:
        program.keep.append(inner)
        return &inner.prog

    # --- reading ---

    cdef int emit(
        self, Program program, plan, Py_ssize_t offset, str path, int depth, bint field
    ) except -1:
        # Appends the operations that read a value into the slot at `offset`. `field`: the slot is a field of
        # a struct.
        cdef Op* op
        cdef Py_ssize_t at
        self.check_room(program)
        if not plan.changed:
            return emit_node(program, plan.node, offset, path, depth, self.facts)
        if isinstance(plan, plans.Number):
            self.number(program, plan, offset, path, field)
        elif isinstance(plan, plans.Numbers):
            self.numbers(program, plan, offset, path)
        elif isinstance(plan, plans.Present):
            self.emit(program, plan.item, offset, path, depth, False)
        elif isinstance(plan, plans.Refer):
            self.refer(program, plan, offset, path, depth)
        elif isinstance(plan, plans.Rows):
            op = program.add_varying(OP_ROWS, offset, path)
            op.ref = program.own(self.rows(plan))
        elif isinstance(plan.node, nodes.OptionNode):
            program.add_fixed(OP_OPTION, 1, offset, path)
            program.run = -1
            at = program.prog.count - 1
            self.emit(program, plan.items[0], offset, path, depth, False)
            program.run = -1
            program.prog.ops[at].number = program.prog.count - at - 1
        elif isinstance(plan.node, nodes.ProductNode):
            self.product(program, plan, offset, path, depth)
        elif isinstance(plan.node, nodes.FixedNode):
            inner = self.element(plan.items[0], plan.least)
            op = program.add_varying(OP_FIXED, offset, path)
            op.number = plan.node.count
            op.ref = self.own(program, inner)
        else:
            inner = self.element(plan.items[0], plan.least)
            code = OP_LIST if isinstance(plan.node, nodes.ListNode) else OP_TUPLE
            op = program.add_varying(code, offset, path)
            op.ref = self.own(program, inner)
        return 0

    cdef int number(self, Program program, plan, Py_ssize_t offset, str path, bint field) except -1:
        cdef int code = KIND_CODES[plan.source]
        cdef Py_ssize_t size = SIZES[plan.source]
        if plan.node.nanoseconds:
            program.add_fixed(OP_NANOSECONDS, size, offset, path).kind = code
        elif plan.node.kind.name == "f64" and code < OP_F32:
            program.add_fixed(OP_AS_FLOAT, size, offset, path).kind = code
        elif field and size == 1:
            program.add_fixed(OP_SMALL_INT, size, offset, path).kind = code
        else:
            program.add_fixed(code, size, offset, path)  # Python numbers need no conversion
        return 0

    cdef int numbers(self, Program program, plan, Py_ssize_t offset, str path) except -1:
        cdef Op* op
        cdef int source = KIND_CODES[plan.source]
        cdef int target
        cdef Py_ssize_t size = SIZES[plan.source]
        node = plan.node
        if isinstance(node, (nodes.ArrayNode, nodes.NdArrayNode)):
            target = KIND_CODES[node.kind.name]
        else:
            target = KIND_CODES[node.item.kind.name]
        if isinstance(node, nodes.FixedNode):
            if size * node.count < MAX_PART:
                op = program.add_fixed(OP_FIXED_WIDER, size * node.count, offset, path)
            else:
                raise SchemaMismatch("type", [f"{path}  more than {MAX_PART} bytes there to convert"])
            op.number = node.count
        else:
            op = program.add_varying(OP_WIDER, offset, path)
            if isinstance(node, nodes.ListNode):
                op.number = INTO_LIST
            elif isinstance(node, nodes.TupleNode):
                op.number = INTO_TUPLE
            elif isinstance(node, nodes.ArrayNode):
                op.number = INTO_ARRAY
            else:
                op.number = INTO_NDARRAY
        op.kind = kinds_pair(source, target)
        return 0

    cdef int refer(self, Program program, plan, Py_ssize_t offset, str path, int depth) except -1:
        cdef Op* op
        cdef Program inner
        pair = plan.pair
        if isinstance(pair, plans.EnumPair):
            self.enumeration(program, pair, offset, path)
        elif isinstance(pair, plans.SealedPair):
            inner = self.pair_program(pair)
            op = program.add_varying(OP_CALL if pair.recursive else inner.prog.ops[0].code, offset, path)
            program.keep.append(inner)
            op.ref = <void*>&inner.prog if pair.recursive else inner.prog.ops[0].ref
        elif pair.recursive or depth >= MAX_INLINE or program.prog.count > MAX_OPERATIONS:
            op = program.add_varying(OP_CALL, offset, path)
            inner = self.pair_program(pair)
            op = &program.prog.ops[program.prog.count - 1]
            op.ref = self.own(program, inner)
        else:
            self.struct(program, pair, offset, path, depth)
        return 0

    cdef int enumeration(self, Program program, pair, Py_ssize_t offset, str path) except -1:
        cdef Op* op = program.add_fixed(OP_MEMBER if None in pair.members else OP_ENUM, 4, offset, path)
        op.ref = make_table(program, list(pair.members), None, pair.cls.__qualname__)
        return 0

    cdef int product(self, Program program, plan, Py_ssize_t offset, str path, int depth) except -1:
        cdef Op* op
        cdef Py_ssize_t at
        cdef Program inner
        if depth >= MAX_INLINE:
            inner = Program.__new__(Program)
            self.product(inner, plan, 0, "", 0)
            self.done(inner, 0)
            op = program.add_varying(OP_CALL, offset, path)
            op.ref = self.own(program, inner)
            return 0
        program.add(OP_ENTER_TUPLE, offset, path).number = len(plan.items)
        for at, item in enumerate(plan.items):
            self.emit(program, item, at * <Py_ssize_t>sizeof(void*), f"{path}[{at}]", depth + 1, False)
        program.add(OP_LEAVE, 0, path).number = len(plan.items)
        return 0

    cdef int struct(self, Program program, pair, Py_ssize_t offset, str path, int depth) except -1:
        cdef Op* op = program.add(OP_ENTER, offset, path)
        cls = pair.cls
        op.ref = program.own(cls)
        cdef StructShapes shapes = struct_shapes(cls)
        for step in pair.steps:
            if isinstance(step, tuple):
                name, plan = step
                self.emit(program, plan, slot_offset(cls, name), f"{path}.{name}", depth + 1, True)
            else:
                self.skip(program, step.type, f"{path}.{step.name}")
        for name, _, default, factory in pair.missing:
            # Between two runs, because a default reads no bytes.
            code = OP_DEFAULT if factory is MISSING else OP_MAKE
            op = program.add(code, slot_offset(cls, name), f"{path}.{name}")
            op.ref = program.own(default if factory is MISSING else factory)
        if shapes is not None:
            emit_shapes(program, shapes, path)
        op = program.add(OP_LEAVE, 0, path)
        op.ref = <void*>cls
        return 0

    cdef Program element(self, plan, Py_ssize_t least):
        # The program of an element.
        cdef Program program
        if not plan.changed:
            return program_of(plan.node, self.facts)
        if isinstance(plan, plans.Refer) and not isinstance(plan.pair, plans.EnumPair):
            return self.pair_program(plan.pair)
        program = Program.__new__(Program)
        self.emit(program, plan, 0, "", 0, False)
        self.done(program, least)
        return program

    cdef Program pair_program(self, pair):
        # The program of a struct, variant or sealed pair.
        cdef Program program
        if not pair.changed:
            is_sealed = isinstance(pair, plans.SealedPair)
            node = nodes.SealedNode(pair.cls) if is_sealed else nodes.StructNode(pair.cls)
            return program_of(node, self.facts)
        if id(pair) in self.pairs:
            return self.pairs[id(pair)]
        program = Program.__new__(Program)
        self.pairs[id(pair)] = program  # stored before it is complete, for recursive types
        program.prog.recursive = pair.recursive
        program.prog.min_size = pair.least
        if isinstance(pair, plans.SealedPair):
            self.variants(program, pair)
        else:
            self.struct(program, pair, 0, "", 0)
        self.done(program, pair.least)
        return program

    cdef int variants(self, Program program, pair) except -1:
        cdef Table* table
        cdef Py_ssize_t i
        lacks = any([isinstance(variant, tree.Variant) for variant in pair.variants])
        program.add_varying(OP_VARIANT if lacks else OP_SEALED, 0, "")
        keys = [None if isinstance(variant, tree.Variant) else variant.cls for variant in pair.variants]
        table = make_table(program, keys, keys, pair.cls.__qualname__)
        program.prog.ops[0].ref = table
        for i, variant in enumerate(pair.variants):
            if isinstance(variant, tree.Variant):
                table.progs[i] = <Prog*>self.own(program, self.skipping_variant(variant))
            else:
                table.progs[i] = <Prog*>self.own(program, self.pair_program(variant))
        return 0

    cdef Program root(self, plan, node, least):
        # As `element`; what the reader lacks is an outcome of its own here.
        cdef Program program = Program.__new__(Program)
        cdef Program inner
        cdef Op* op
        if isinstance(plan, plans.Refer) and isinstance(plan.pair, plans.SealedPair):
            inner = self.pair_program(plan.pair)
            op = program.add_varying(inner.prog.ops[0].code, 0, "")
            program.keep.append(inner)
            op.ref = inner.prog.ops[0].ref
            program.prog.recursive = plan.pair.recursive
        else:
            self.emit(program, plan, 0, "", 0, False)
            emit_root_shape(program, node)
        for i in range(program.prog.count):
            if program.prog.ops[i].code == OP_VARIANT or program.prog.ops[i].code == OP_MEMBER:
                program.prog.ops[i].kind = isinstance(plan, plans.Refer) and not isinstance(
                    plan.pair, plans.StructPair
                )
        self.done(program, least)
        return program

    # --- rows ---

    cdef RowReader rows(self, plan):
        cdef Program program = Program.__new__(Program)
        columns = Columns.of(plan.node.cls)
        self.row_struct(program, plan.pair, 0, "")
        self.done(program, plan.least)
        return RowReader(columns, program)

    cdef Py_ssize_t row_struct(self, Program program, pair, Py_ssize_t offset, str path) except -1:
        # The offsets of the fields of a row that begins at `offset` of the reader's row.
        places = {}
        at = offset
        for name, node in record_spec(pair.cls).nodes():
            places[name] = at, node
            at += size_in(node, self.facts)[0]
        for step in pair.steps:
            if isinstance(step, tuple):
                name, plan = step
                self.row_value(program, plan, places[name][0], f"{path}.{name}")
            else:
                self.skip(program, step.type, f"{path}.{step.name}")
        for name, node, default, factory in pair.missing:
            data = self.row_default(node, f"{path}.{name}", default if factory is MISSING else factory())
            op = program.add(OP_ROW_DEFAULT, places[name][0], f"{path}.{name}")
            op.ref = program.own(data)
        return at - offset

    cdef bytes row_default(self, node, str path, value):
        from deli_com._fastcodec import TypeCodec
        try:
            return TypeCodec(None, node, check(node)).to_bytes(value)
        except EncodeError as error:
            raise SchemaMismatch("type", [f"{path[1:]}  its default does not fit: {error.detail}"]) from error

    cdef int row_value(self, Program program, plan, Py_ssize_t offset, str path) except -1:
        cdef Op* op
        cdef Py_ssize_t size
        self.check_room(program)
        if isinstance(plan, plans.Refer):
            if isinstance(plan.pair, plans.StructPair):
                self.row_struct(program, plan.pair, offset, path)
                return 0
            op = program.add_fixed(OP_ROW_ENUM, 4, offset, path)
            op.number = len(plan.pair.members)
            if plan.pair.changed:
                own = {member: i for i, member in enumerate(plan.pair.cls)}
                indexes = [own.get(member, <uint32_t>NO_MEMBER) for member in plan.pair.members]
                op.ref = program.own(b"".join([i.to_bytes(4, "little") for i in indexes]))
        elif isinstance(plan, (plans.Number, plans.Numbers)):
            node = plan.node
            count = node.count if isinstance(node, nodes.FixedNode) else 1
            kind = node.item.kind if isinstance(node, nodes.FixedNode) else node.kind
            op = program.add_fixed(OP_ROW_WIDER, SIZES[plan.source] * count, offset, path)
            op.kind = kinds_pair(KIND_CODES[plan.source], KIND_CODES[kind.name])
        elif isinstance(plan.node, nodes.FixedNode) and not isinstance(plan, plans.Same):
            item = plan.node.item
            size = size_in(item, self.facts)[0]
            for i in range(plan.node.count):
                self.row_value(program, plan.items[0], offset + i * size, f"{path}[{i}]")
        elif plan.node == nodes.LeafNode("bool"):
            program.add_fixed(OP_ROW_BOOL, 1, offset, path)
        else:  # one or more numbers of the same kind
            size = size_in(plan.node, self.facts)[0]
            if size >= MAX_PART:
                raise SchemaMismatch("type", [f"{path[1:]}  more than {MAX_PART} bytes of a row"])
            program.add_fixed(OP_ROW_COPY, size, offset, path)
        return 0


def compile_reading(resolution, node, dict facts):
    """The Program that a `Resolution` of schema/plan.py describes; `node` and `facts` are the reader's."""
    enable_resolved()
    cdef _Compiler compiler = _Compiler(resolution, facts)
    return compiler.root(resolution.plan, node, least_size(resolution.tree.root, resolution.sizes))
