"""Inner loops of matching and refinement, at the rate of the machine's vector units.

Owns what the compiler does not write well by itself: left to its own choice it takes vectors of 256
bits where the machine has 512, keeps sums in memory, which costs four fifths of the rate, and makes
lists number by number. Flat arrays only; no symmetry, no patterns. What a loop means is
`matching_kernel`'s and `refinement_kernel`'s.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import config, types
from numba.extending import intrinsic

__all__ = [
    "BLOCK",
    "COLUMNS",
    "PLACES",
    "ROWS",
    "compress",
    "find_block_maxima",
    "find_block_maximum",
    "keep_highest",
    "list_near",
    "multiply",
    "multiply_narrow",
]

_FEATURES = config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
_WIDE = "+avx512f" in _FEATURES
_LANES = 16 if _WIDE else 8  # numbers of a vector; a processor of narrower ones takes two of them
_VECTORS = 4 if _WIDE else 2  # of a row of sums: all sums stay in registers
ROWS = 4  # rows of a product that are summed at once
COLUMNS = _LANES * _VECTORS  # columns that are
_NARROW_ROWS = 8  # rows of a product as wide as a vector
BLOCK = 64  # numbers of which first the maximum is looked at
PLACES = 64  # places that a maximum tells apart, in the last bits of its number

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _INTS = ir.VectorType(_FLOAT, _LANES), ir.VectorType(_INT, _LANES)
_NONE, _MASK = ir.Constant(_VECTOR, ir.Undefined), ir.VectorType(ir.IntType(1), _LANES)


@numba.njit(cache=True, error_model="numpy")
def multiply(
    a, a_at, a_step, n_rows, n_inner, b, b_at, b_step, n_columns, out, out_at, out_step
):  # fmt: skip
    """Set a part of `out` (n_rows, n_columns) to the product of parts of `a` and `b`.

    Of float32 arrays in C order, taken as flat: `at` is where a part begins, `step` the distance of
    its rows. `n_rows` is a multiple of ROWS, `n_columns` of COLUMNS; `n_inner` is 1 or more.
    """
    for i in range(0, n_rows, ROWS):
        for j in range(0, n_columns, COLUMNS):
            _multiply_block(
                a, a_at + i * a_step, a_step, b, b_at + j, b_step, n_inner,
                out, out_at + i * out_step + j, out_step,
            )  # fmt: skip


@numba.njit(cache=True, error_model="numpy")
def multiply_narrow(
    a, a_at, a_step, n_rows, n_inner, b, b_at, b_step, n_columns, out, out_at, out_step
):  # fmt: skip
    """Do `multiply` where `n_rows` is a multiple of 8 and `n_columns` of 16 alone."""
    for i in range(0, n_rows, _NARROW_ROWS):
        for j in range(0, n_columns, _LANES):
            _multiply_narrow_block(
                a, a_at + i * a_step, a_step, b, b_at + j, b_step, n_inner,
                out, out_at + i * out_step + j, out_step,
            )  # fmt: skip


@numba.njit(cache=True, error_model="numpy")
def keep_highest(sums, n_angles, n_columns, highest):
    """Fill in the highest correlation in each quarter of a turn, and at which angle it is.

    Parameters
    ----------
    sums
        Shape (8, n_angles, n_columns), float32: cosine sums of a and b, sine sums of c and d, of
        each even harmonics and odd ones. `n_angles` is at most PLACES, `n_columns` a multiple of
        COLUMNS.
    highest
        Shape (8, n_columns), int32: the bits of the highest number, 0 where none is above 0, the
        last ones replaced by the angle's.
    """
    for j in range(0, n_columns, _LANES):
        _keep_highest_block(sums, j, n_columns, n_angles, highest)


@numba.njit(cache=True, error_model="numpy")
def compress(values, weights, n, out):
    """Fill `out` with ``weight * value**(11/16)``, 0 where a value is none; return their power.

    Of float32 arrays taken as flat, `n` numbers, a multiple of 16. Better than 1e-6 of a number
    between 1e-6 and 1e6.
    """
    return _compress(values, weights, n, out)


@numba.njit(cache=True, error_model="numpy")
def list_near(table, n_columns, x, y, z, reach, indices, n_most):
    """List the columns whose distance from a plane is below their reach; return their number.

    Parameters
    ----------
    table
        Rows of `n_columns` numbers, float32, taken as flat: coordinates along x, y and z, and the
        plane's place along its normal.
    n_columns
        A multiple of 16.
    x, y, z
        The normal, float32.
    reach
        Shape (n_columns,), float32.
    indices
        Space for `n_most` numbers and 32 more, int32.
    n_most
        Where the list ends; up to 16 more may be listed.
    """
    return _list_near(table, n_columns, x, y, z, reach, indices, n_most)


@numba.njit(cache=True, error_model="numpy")
def find_block_maxima(values, maxima):
    """Fill `maxima`, float32, with the largest number of each BLOCK of `values`, and return theirs.

    Of float32 or int8, in C order; the last block may be shorter.
    """
    n_whole = values.size // BLOCK
    largest = np.float32(-3e38)
    for b in range(maxima.size):
        highest = values[b * BLOCK]
        if b < n_whole:
            highest = find_block_maximum(values, b * BLOCK)
        else:
            for i in range(b * BLOCK, values.size):
                highest = values[i] if values[i] > highest else highest
        maxima[b] = highest
        largest = maxima[b] if maxima[b] > largest else largest
    return largest


# ------------------------------------------------------------------------- instructions


@intrinsic
def find_block_maximum(typing, values, start):
    """Return the largest of BLOCK numbers, float32 or int8 in C order, from a place on."""
    signature = values.dtype(values, start)

    def write(context, builder, signature, arguments):
        floats = isinstance(values.dtype, types.Float)
        # of bytes a whole block at once, of floats a vector after the other
        number, lanes = (_FLOAT, _LANES) if floats else (ir.IntType(8), BLOCK)
        vector = ir.VectorType(number, lanes)
        data = _get_data(context, builder, signature, arguments, 0)
        highest = None
        for at in range(0, BLOCK, lanes):
            pointer = builder.gep(data, [builder.add(arguments[1], arguments[1].type(at))])
            part = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=1 + 3 * floats)
            if highest is not None:
                part = builder.select(builder.fcmp_ordered(">", part, highest), part, highest)
            highest = part
        compare = builder.fcmp_ordered if floats else builder.icmp_signed
        return _reduce(builder, highest, lambda a, b: builder.select(compare(">", a, b), a, b))

    return signature, write


@intrinsic
def _multiply_block(typing, a, a_at, a_step, b, b_at, b_step, n_inner, out, out_at, out_step):
    """Set ROWS x COLUMNS of `out` to a product."""
    signature = types.void(a, a_at, a_step, b, b_at, b_step, n_inner, out, out_at, out_step)
    return signature, _write_product(ROWS, _VECTORS)


@intrinsic
def _multiply_narrow_block(
    typing, a, a_at, a_step, b, b_at, b_step, n_inner, out, out_at, out_step
):
    """Set _NARROW_ROWS rows of `out`, as wide as a vector, to a product."""
    signature = types.void(a, a_at, a_step, b, b_at, b_step, n_inner, out, out_at, out_step)
    return signature, _write_product(_NARROW_ROWS, 1)


def _write_product(n_rows: int, n_vectors: int):
    """Return what writes a product of so many rows and vectors, whose sums stay in registers."""

    def write(context, builder, signature, arguments):
        n_inner, integer = arguments[6], arguments[6].type
        a, b, out = (
            [
                builder.gep(
                    _get_data(context, builder, signature, arguments, i),
                    [builder.add(arguments[i + 1], builder.mul(arguments[i + 2], integer(row)))],
                )
                for row in range(n_rows)
            ]
            for i in (0, 3, 7)
        )
        zero = ir.Constant(_VECTOR, [0.0] * _LANES)
        k, sums, finish = _begin_loop(builder, n_inner, [zero] * (n_rows * n_vectors))
        b_row = builder.gep(b[0], [builder.mul(k, arguments[5])])
        columns = [_load(builder, b_row, integer(_LANES * v)) for v in range(n_vectors)]
        totals = []
        for row in range(n_rows):
            factor = _repeat(builder, builder.load(builder.gep(a[row], [k])), _NONE)
            for column in columns:
                product = builder.fmul(factor, column, flags=("contract",))
                before = sums[len(totals)]
                totals.append(builder.fadd(before, product, flags=("contract",)))
        finish(totals)
        for i, total in enumerate(totals):
            row, v = divmod(i, n_vectors)
            _store(builder, total, out[row], integer(_LANES * v))
        return context.get_dummy_value()

    return write


@intrinsic
def _keep_highest_block(typing, sums, start, n_columns, n_angles, highest):
    """Do `keep_highest` for the columns of one vector."""
    signature = types.void(sums, start, n_columns, n_angles, highest)

    def write(context, builder, signature, arguments):
        _, start, n_columns, n_angles, _ = arguments
        data = _get_data(context, builder, signature, arguments, 0)
        out = _get_data(context, builder, signature, arguments, 4)
        integer = start.type
        zero = ir.Constant(_INTS, [0] * _LANES)
        q, kept, finish = _begin_loop(builder, n_angles, [zero] * 8)
        values = []
        for i in range(8):
            row = builder.add(builder.mul(n_angles, integer(i)), q)
            at = builder.add(start, builder.mul(row, n_columns))
            values.append(_load(builder, data, at))
        angle = _repeat(builder, builder.trunc(q, _INT), ir.Constant(_INTS, ir.Undefined))
        rest = ir.Constant(_INTS, [-PLACES] * _LANES)
        following = []
        for before, correlation in zip(kept, _combine(builder, *values), strict=True):
            # numbers above 0 are ordered as their bits are, and all others below 0
            bits = builder.or_(builder.and_(builder.bitcast(correlation, _INTS), rest), angle)
            higher = builder.icmp_signed(">", bits, before)
            following.append(builder.select(higher, bits, before))
        finish(following)
        for i, bits in enumerate(following):
            _store(builder, bits, out, builder.add(start, builder.mul(n_columns, integer(i))))
        return context.get_dummy_value()

    return signature, write


@intrinsic
def _list_near(typing, table, n_columns, x, y, z, reach, indices, n_most):
    """Do `list_near`."""
    signature = types.int64(table, n_columns, x, y, z, reach, indices, n_most)

    def write(context, builder, signature, arguments):
        _, n_columns, *normal, _, _, n_most = arguments
        rows, reach, out = (_get_data(context, builder, signature, arguments, i) for i in (0, 5, 6))
        integer, none = n_columns.type, ir.Constant(_MASK, [0] * _LANES)
        normal = [_repeat(builder, component, _NONE) for component in normal]
        n_turns = builder.udiv(n_columns, integer(_LANES))
        turn, (n_found,), finish = _begin_loop(builder, n_turns, [ir.IntType(64)(0)])
        at = builder.mul(turn, integer(_LANES))
        x, y, z, place = (
            _load(builder, rows, builder.add(at, builder.mul(n_columns, integer(row))))
            for row in range(4)
        )
        for column, component in zip((x, y, z), normal, strict=True):
            part = builder.fmul(column, component, flags=("contract",))
            place = builder.fsub(place, part, flags=("contract",))
        bits = ir.Constant(_INTS, [0x7FFFFFFF] * _LANES)
        distance = builder.bitcast(builder.and_(builder.bitcast(place, _INTS), bits), _VECTOR)
        near = builder.fcmp_ordered("<", distance, _load(builder, reach, at))
        room = builder.icmp_signed("<", n_found, builder.sext(n_most, ir.IntType(64)))
        near = builder.select(room, near, none)
        found = _repeat(builder, builder.trunc(at, _INT), ir.Constant(_INTS, ir.Undefined))
        found = builder.add(found, ir.Constant(_INTS, list(range(_LANES))))
        _store_chosen(builder, found, near, builder.gep(out, [n_found]))
        count = builder.ctpop(builder.bitcast(near, ir.IntType(_LANES)))
        total = builder.add(n_found, builder.zext(count, ir.IntType(64)))
        finish([total])
        return total

    return signature, write


# the logarithm to base 2 of 1 + x over x, x within a third, and the power of 2 within a half
_LOGARITHM = (
    1.44269505, -0.72134755, 0.480895817, -0.360668539, 0.28871829, -0.240707797, 0.201699001,
    -0.175166688, 0.203237192, -0.188215489,
)  # fmt: skip
_POWER = (
    1.0, 0.693147207, 0.240226512, 0.0555032721, 0.0096180256, 0.00134004322, 0.00015469732,
)  # fmt: skip


@intrinsic
def _compress(typing, values, weights, n, out):
    """Do `compress`."""
    signature = types.float32(values, weights, n, out)

    def write(context, builder, signature, arguments):
        n = arguments[2]
        values, weights, out = (
            _get_data(context, builder, signature, arguments, i) for i in (0, 1, 3)
        )
        zero = ir.Constant(_VECTOR, [0.0] * _LANES)
        n_turns = builder.udiv(n, n.type(_LANES))
        turn, (power,), finish = _begin_loop(builder, n_turns, [zero])
        at = builder.mul(turn, n.type(_LANES))
        value = _load(builder, values, at)
        raised = builder.fmul(_raise(builder, value), _load(builder, weights, at))
        raised = builder.select(builder.fcmp_ordered(">", value, zero), raised, zero)
        _store(builder, raised, out, at)
        square = builder.fmul(raised, raised, flags=("contract",))
        total = builder.fadd(power, square, flags=("contract",))
        finish([total])
        return _reduce(builder, total, builder.fadd)

    return signature, write


def _raise(builder, value):
    """Return positive numbers to the power 11/16, by logarithm and exponential."""

    def numbers(number):
        return ir.Constant(_VECTOR, [float(number)] * _LANES)

    def integers(number):
        return ir.Constant(_INTS, [number] * _LANES)

    def add(a, b):
        return builder.fadd(a, b, flags=("contract",))

    def evaluate(coefficients, x):
        total = numbers(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            total = add(builder.fmul(total, x, flags=("contract",)), numbers(coefficient))
        return total

    bits = builder.bitcast(value, _INTS)
    # value = 2^exponent (1 + x), which is 2/3 to 4/3
    exponent = builder.ashr(builder.sub(bits, integers(0x3F2AAAAB)), integers(23))
    x = builder.bitcast(builder.sub(bits, builder.shl(exponent, integers(23))), _VECTOR)
    x = add(x, numbers(-1))
    logarithm = builder.fmul(evaluate(_LOGARITHM, x), x, flags=("contract",))
    logarithm = add(logarithm, builder.sitofp(exponent, _VECTOR))
    logarithm = builder.fmul(logarithm, numbers(11 / 16))
    # above 0, so that the fraction is cut downwards
    whole = builder.fptosi(builder.fadd(logarithm, numbers(1024.5)), _INTS)
    whole = builder.sub(whole, integers(1024))
    rest = builder.fsub(logarithm, builder.sitofp(whole, _VECTOR))
    power = builder.bitcast(evaluate(_POWER, rest), _INTS)
    return builder.bitcast(builder.add(power, builder.shl(whole, integers(23))), _VECTOR)


def _reduce(builder, vector, join):
    """Return what joining all numbers of a vector gives, its upper half to the lower, and again."""
    lanes = vector.type.count
    while lanes > 1:
        lanes //= 2
        vector = join(
            *(
                builder.shuffle_vector(
                    vector, vector, ir.Constant(ir.VectorType(_INT, lanes), list(places))
                )
                for places in (range(lanes), range(lanes, 2 * lanes))
            )
        )
    return builder.extract_element(vector, _INT(0))


def _combine(builder, a_even, a_odd, b_even, b_odd, c_even, c_odd, d_even, d_odd) -> list:
    """Return the correlations in four quarters of a turn, of templates and of mirror images."""
    add, subtract = builder.fadd, builder.fsub
    quarters = []
    # of templates (a + b) cos + (d - c) sin, of their mirror images (a - b) cos + (d + c) sin
    for join, join_sines in ((add, subtract), (subtract, add)):
        even, odd = join(a_even, b_even), join(a_odd, b_odd)
        sine_even, sine_odd = join_sines(d_even, c_even), join_sines(d_odd, c_odd)
        # half a turn negates odd harmonics; the other direction negates sines
        for half in (add, subtract):
            cosines, sines = half(even, odd), half(sine_even, sine_odd)
            quarters += [subtract(cosines, sines), add(cosines, sines)]
    return quarters


def _begin_loop(builder, n, initial: list):
    """Begin a loop of n turns, 1 or more; return counter, carried values and how to end it."""
    before = builder.block
    loop, after = builder.append_basic_block("turn"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    counter = builder.phi(n.type)
    counter.add_incoming(n.type(0), before)
    carried = [builder.phi(value.type) for value in initial]
    for phi, value in zip(carried, initial, strict=True):
        phi.add_incoming(value, before)

    def finish(values: list) -> None:
        following = builder.add(counter, n.type(1))
        counter.add_incoming(following, loop)
        for phi, value in zip(carried, values, strict=True):
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, n), loop, after)
        builder.position_at_end(after)

    return counter, carried, finish


def _get_data(context, builder, signature, arguments, i: int):
    """Return the pointer to the first element of the array that is argument i."""
    return context.make_array(signature.args[i])(context, builder, arguments[i]).data


def _repeat(builder, number, none):
    """Return a vector that holds a number in each lane; `none` is an undefined one."""
    vector = builder.insert_element(none, number, _INT(0))
    return builder.shuffle_vector(vector, none, ir.Constant(_INTS, [0] * _LANES))


def _load(builder, pointer, at):
    """Return the vector that begins at an element; arrays begin where they like."""
    pointer = builder.gep(pointer, [at])
    return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _store(builder, vector, pointer, at) -> None:
    pointer = builder.bitcast(builder.gep(pointer, [at]), vector.type.as_pointer())
    builder.store(vector, pointer, align=4)


def _store_chosen(builder, vector, mask, pointer) -> None:
    """Store those numbers of a vector that a mask chooses, one beside the other."""
    kind = ir.FunctionType(ir.VoidType(), [_INTS, _INT.as_pointer(), _MASK])
    name = f"llvm.masked.compressstore.v{_LANES}i32"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    builder.call(function, [vector, pointer, mask])
