"""The two inner loops of matching, at the rate of the machine's vector units.

Owns what the compiler does not write well by itself: left to its own choice it takes vectors of 256
bits where the machine has 512, and keeps sums in memory, which costs four fifths of the rate. Flat
arrays only; no symmetry, no patterns. What a loop means is `matching_kernel`'s.
"""

from __future__ import annotations

import numba
from llvmlite import binding, ir
from numba.core import config, types
from numba.extending import intrinsic

__all__ = ["COLUMNS", "PLACES", "ROWS", "keep_highest", "multiply"]

_FEATURES = config.CPU_FEATURES or binding.get_host_cpu_features().flatten()
_WIDE = "+avx512f" in _FEATURES
_LANES = 16 if _WIDE else 8  # numbers of a vector; a processor of narrower ones takes two of them
_VECTORS = 4 if _WIDE else 2  # of a row of sums: all sums stay in registers
ROWS = 4  # rows of a product that are summed at once
COLUMNS = _LANES * _VECTORS  # columns that are
PLACES = 64  # places that a maximum tells apart, in the last bits of its number

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _INTS = ir.VectorType(_FLOAT, _LANES), ir.VectorType(_INT, _LANES)
_NONE = ir.Constant(_VECTOR, ir.Undefined)


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


# ------------------------------------------------------------------------- instructions


@intrinsic
def _multiply_block(typing, a, a_at, a_step, b, b_at, b_step, n_inner, out, out_at, out_step):
    """Set ROWS x COLUMNS of `out` to a product."""
    signature = types.void(a, a_at, a_step, b, b_at, b_step, n_inner, out, out_at, out_step)

    def write(context, builder, signature, arguments):
        n_inner, integer = arguments[6], arguments[6].type
        a, b, out = (
            [
                builder.gep(
                    _get_data(context, builder, signature, arguments, i),
                    [builder.add(arguments[i + 1], builder.mul(arguments[i + 2], integer(row)))],
                )
                for row in range(ROWS)
            ]
            for i in (0, 3, 7)
        )
        zero = ir.Constant(_VECTOR, [0.0] * _LANES)
        k, sums, finish = _begin_loop(builder, n_inner, [zero] * (ROWS * _VECTORS))
        b_row = builder.gep(b[0], [builder.mul(k, arguments[5])])
        columns = [_load(builder, b_row, integer(_LANES * v)) for v in range(_VECTORS)]
        totals = []
        for row in range(ROWS):
            factor = _repeat(builder, builder.load(builder.gep(a[row], [k])), _NONE)
            for column in columns:
                product = builder.fmul(factor, column, flags=("contract",))
                before = sums[len(totals)]
                totals.append(builder.fadd(before, product, flags=("contract",)))
        finish(totals)
        for i, total in enumerate(totals):
            row, v = divmod(i, _VECTORS)
            _store(builder, total, out[row], integer(_LANES * v))
        return context.get_dummy_value()

    return signature, write


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
