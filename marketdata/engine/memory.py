"""Memory by address, and the few machine instructions that numba has no word for.

A book is one block of memory, passed to compiled code as one int64: arrays as arguments cost 0.04 us each and call.
An address and an index are plain int64; nothing here checks bounds, so every caller owns a block whose layout
(``marketdata.engine.layout``) it keeps. Frames are copied into a buffer with room to read ``PADDING`` bytes past
their end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

PADDING = 128
# An intrinsic is called with other arguments than it is written with: (the typing context, then types).
instruction: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic
_HIGH_BITS = 0x8080808080808080

# Where CPython keeps the length and the text of a bytes object, as seen from its id().
BYTES_LENGTH = 2  # words
BYTES_TEXT = bytes.__basicsize__ - 1  # bytes

_BIT, _BYTE, _INT, _LONG, _DOUBLE = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.DoubleType()


def _pointer(builder: Any, address: Any, index: Any, size: int, kind: Any) -> Any:
    offset = builder.mul(index, ir.Constant(_LONG, size)) if size != 1 else index
    return builder.inttoptr(builder.add(address, offset), kind.as_pointer())


def _reader(kind: Any, numba_kind: Any, size: int, align: int) -> Callable[..., Any]:
    @instruction
    def read(_typing: Any, address: Any, index: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.load(_pointer(builder, arguments[0], arguments[1], size, kind), align=align)

        return numba_kind(types.int64, types.int64), generate

    return read


def _writer(kind: Any, numba_kind: Any, size: int, align: int) -> Callable[..., Any]:
    @instruction
    def write(_typing: Any, address: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            builder.store(arguments[2], _pointer(builder, arguments[0], arguments[1], size, kind), align=align)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, numba_kind), generate

    return write


# Words: the index counts 8 bytes.
load = _reader(_LONG, types.int64, 8, 8)
store = _writer(_LONG, types.int64, 8, 8)
load_bits = _reader(_LONG, types.uint64, 8, 8)
store_bits = _writer(_LONG, types.uint64, 8, 8)
load_float = _reader(_DOUBLE, types.float64, 8, 8)
store_float = _writer(_DOUBLE, types.float64, 8, 8)
# Half words: the index counts 4 bytes.
load_half = _reader(_INT, types.int32, 4, 4)
store_half = _writer(_INT, types.int32, 4, 4)
# Text: the index counts bytes; eight of them, the first lowest, from any position.
load_text = _reader(_LONG, types.uint64, 1, 1)


@instruction
def load_byte(_typing: Any, address: Any, index: Any) -> Any:
    """One byte as int64."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.zext(builder.load(_pointer(builder, arguments[0], arguments[1], 1, _BYTE)), _LONG)

    return types.int64(types.int64, types.int64), generate


def _matcher(width: int) -> Callable[..., Any]:
    @instruction
    def match(_typing: Any, address: Any, index: Any, character: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            vector = ir.VectorType(_BYTE, width)
            text = builder.load(_pointer(builder, arguments[0], arguments[1], 1, vector), align=1)
            blank = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(blank, arguments[2], ir.Constant(_INT, 0))
            wanted = builder.shuffle_vector(first, blank, ir.Constant(ir.VectorType(_INT, width), [0] * width))
            found = builder.bitcast(builder.icmp_unsigned("==", text, wanted), ir.IntType(width))
            return found if width == 64 else builder.zext(found, _LONG)

        return types.uint64(types.int64, types.int64, types.uint8), generate

    return match


# Which of the next 32 or 64 bytes are a character: bit n for byte n. One comparison of the whole vector.
match_32 = _matcher(32)
match_64 = _matcher(64)


def _counter(operation: str) -> Callable[..., Any]:
    @instruction
    def count(_typing: Any, bits: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return getattr(builder, operation)(arguments[0], ir.Constant(_BIT, 0))

        return types.int64(types.uint64), generate

    return count


@instruction
def count_ones(_typing: Any, bits: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


# Zeros below the lowest and above the highest one; 64 for no ones at all.
trailing_zeros = _counter("cttz")
leading_zeros = _counter("ctlz")


@instruction
def copy_text(_typing: Any, target: Any, source: Any, length: Any) -> Any:
    """So many bytes from one address to another."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        target, source = (builder.inttoptr(address, _BYTE.as_pointer()) for address in arguments[:2])
        cgutils.raw_memcpy(builder, target, source, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


_CALLBACK = ir.FunctionType(ir.VoidType(), [_LONG] * 4)


@instruction
def call_back(_typing: Any, function: Any, first: Any, second: Any, third: Any, fourth: Any) -> Any:
    """Call a compiled function (``marketdata.engine.compiled.callback``) by its address."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.call(builder.inttoptr(arguments[0], _CALLBACK.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


LANES = 8
# No price or quantity has more steps: their products with a per mille, and a price beyond any other, fit an int64.
LARGEST_UNITS = 1 << 50
_LANES = ir.VectorType(_LONG, LANES)
_FLOAT_LANES = ir.VectorType(_DOUBLE, LANES)


def _every_lane(kind: Any, value: Any) -> Any:
    return ir.Constant(ir.VectorType(kind, LANES), [value] * LANES)


def _spread(builder: Any, value: Any, kind: Any) -> Any:
    blank = ir.Constant(ir.VectorType(kind, LANES), ir.Undefined)
    first = builder.insert_element(blank, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, blank, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


@instruction
def convert_lanes(
    _typing: Any, texts: Any, scales: Any, values: Any, results: Any, index: Any, unit: Any, inverse: Any, lowest: Any
) -> Any:
    """Eight numbers at once, from ``index`` on: (digits of ``texts`` * ``scales`` + ``values``) / ``unit`` into
    ``results``.

    A text is eight characters, each already reduced by "0", the first lowest; ``inverse`` is 1 / ``unit``. Returns 0
    when all were digits, multiples of the unit, and results from ``lowest`` to LARGEST_UNITS.
    """

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        texts, scales, values, results, index, unit, inverse, lowest = arguments

        def lanes(address: Any) -> Any:
            return builder.load(_pointer(builder, address, index, 8, _LANES), align=8)

        def constant(value: int) -> Any:
            return _every_lane(_LONG, value)

        def combine(digits: Any, factor: int, shift: int, kept: int) -> Any:
            products = builder.lshr(builder.mul(digits, constant(factor)), constant(shift))
            return builder.and_(products, constant(kept))

        text = lanes(texts)
        wrong = builder.and_(builder.or_(builder.add(text, constant(0x7676767676767676)), text), constant(_HIGH_BITS))
        pairs = combine(text, 2_561, 8, 0x00FF00FF00FF00FF)
        fours = combine(pairs, 6_553_601, 16, 0x0000FFFF0000FFFF)
        eights = combine(fours, 42_949_672_960_001, 32, 0xFFFFFFFF)
        number = builder.add(builder.mul(eights, lanes(scales)), lanes(values))
        scaled = builder.fmul(builder.sitofp(number, _FLOAT_LANES), _spread(builder, inverse, _DOUBLE))
        steps = builder.fptosi(builder.fadd(scaled, _every_lane(_DOUBLE, 0.5)), _LANES)
        builder.store(steps, _pointer(builder, results, index, 8, _LANES), align=8)
        between = builder.icmp_signed("!=", builder.mul(steps, _spread(builder, unit, _LONG)), number)
        # Unsigned: what is below the lowest lies far beyond the highest.
        above_lowest = builder.sub(steps, _spread(builder, lowest, _LONG))
        room = builder.sub(ir.Constant(_LONG, LARGEST_UNITS), lowest)
        outside = builder.icmp_unsigned(">", above_lowest, _spread(builder, room, _LONG))
        wrong = builder.or_(wrong, builder.sext(builder.or_(between, outside), _LANES))
        reduce = builder.module.declare_intrinsic("llvm.vector.reduce.or.v8i64", fnty=ir.FunctionType(_LONG, [_LANES]))
        return builder.call(reduce, [wrong])

    number = types.int64
    return types.uint64(*[number] * 6, types.float64, number), generate


@instruction
def multiply_lanes(_typing: Any, ones: Any, others: Any, index: Any) -> Any:
    """The sum, as a float, of the products of eight pairs of integers from ``index`` on."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        ones, others, index = arguments

        def lanes(address: Any) -> Any:
            return builder.sitofp(builder.load(_pointer(builder, address, index, 8, _LANES), align=8), _FLOAT_LANES)

        kind = ir.FunctionType(_DOUBLE, [_DOUBLE, _FLOAT_LANES])
        reduce = builder.module.declare_intrinsic("llvm.vector.reduce.fadd.v8f64", fnty=kind)
        products = builder.fmul(lanes(ones), lanes(others))
        return builder.call(reduce, [ir.Constant(_DOUBLE, 0.0), products], fastmath=("reassoc",))

    return types.float64(types.int64, types.int64, types.int64), generate


@instruction
def filled_words(_typing: Any, words: Any, index: Any) -> Any:
    """Which of eight words from ``index`` on are not 0: bit n for the n-th."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        loaded = builder.load(_pointer(builder, arguments[0], arguments[1], 8, _LANES), align=8)
        filled = builder.icmp_unsigned("!=", loaded, _every_lane(_LONG, 0))
        return builder.zext(builder.bitcast(filled, _BYTE), _LONG)

    return types.uint64(types.int64, types.int64), generate


@instruction
def sum_slots(_typing: Any, quantities: Any, index: Any) -> Any:
    """Of 64 words from ``index`` on: their sum, and the sum of each times its place (0 to 63)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        quantities, index = arguments
        total = weighed = _every_lane(_LONG, 0)
        for first in range(0, 64, LANES):
            place = builder.add(index, ir.Constant(_LONG, first))
            words = builder.load(_pointer(builder, quantities, place, 8, _LANES), align=8)
            places = ir.Constant(_LANES, [ir.Constant(_LONG, first + lane) for lane in range(LANES)])
            total = builder.add(total, words)
            weighed = builder.add(weighed, builder.mul(words, places))
        reduce = builder.module.declare_intrinsic("llvm.vector.reduce.add.v8i64", fnty=ir.FunctionType(_LONG, [_LANES]))
        sums = [builder.call(reduce, [each]) for each in (total, weighed)]
        return context.make_tuple(builder, signature.return_type, sums)

    return types.UniTuple(types.int64, 2)(types.int64, types.int64), generate
