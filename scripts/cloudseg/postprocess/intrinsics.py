"""Machine words, bits and vectors: the few things that numba cannot say, as LLVM instructions.

Addresses are int64 numbers, and nothing here checks them. An array access in numba first asks whether the index is
negative, and arrays that are read-only, strided or transposed are all types of their own, each compiled anew; kernels
that take addresses and strides compile once for all of them.

Vectors are plain LLVM vectors of 64 bytes or more. LLVM cuts them to what the processor has (AVX-512, AVX2, SSE2,
NEON), so that one text serves every processor. Only `average_looked_up` needs a certain one, and says so.
"""

from functools import cache

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

_BIT, _BYTE, _SHORT, _WORD, _LONG = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_FLOAT = ir.FloatType()

RING = (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)  # clockwise, (rows, columns)


def _pointer(builder, address, kind):
    return builder.inttoptr(address, kind.as_pointer())


def _splat(builder, value, lanes):
    """Return a vector with the value in every lane."""
    vector = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_WORD, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_WORD, lanes), [0] * lanes))


def _constants(kind, lanes, value):
    return ir.Constant(ir.VectorType(kind, lanes), [value] * lanes)


def _call(builder, name, *arguments):
    """Call the LLVM intrinsic of that name, which returns the type of its first argument."""
    kinds = [argument.type for argument in arguments]
    function = builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(kinds[0], kinds), name)
    return builder.call(function, arguments)


def _loader(kind, signed):
    @intrinsic
    def load(typing_context, address, index):
        def generate(context, builder, signature, arguments):
            place = builder.add(arguments[0], builder.mul(arguments[1], ir.Constant(_LONG, kind.width // 8)))
            value = builder.load(_pointer(builder, place, kind), align=1)
            if kind.width == 64:
                return value
            return builder.sext(value, _LONG) if signed else builder.zext(value, _LONG)

        return types.int64(types.int64, types.int64), generate

    return load


def _storer(kind):
    @intrinsic
    def store(typing_context, address, index, value):
        def generate(context, builder, signature, arguments):
            place = builder.add(arguments[0], builder.mul(arguments[1], ir.Constant(_LONG, kind.width // 8)))
            value = arguments[2] if kind.width == 64 else builder.trunc(arguments[2], kind)
            builder.store(value, _pointer(builder, place, kind), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), generate

    return store


# load32(address, i) is the i-th int32 from the address on, as int64; store32(address, i, value) writes it.
load8, load16, load32, load64 = (
    _loader(_BYTE, False),
    _loader(_SHORT, False),
    _loader(_WORD, True),
    _loader(_LONG, True),
)
store8, store16, store32, store64 = _storer(_BYTE), _storer(_SHORT), _storer(_WORD), _storer(_LONG)


@intrinsic
def shift_right(typing_context, word, count):
    """Shift the 64 bits of a word right, filling with zeros; count in 0..63."""

    def generate(context, builder, signature, arguments):
        return builder.lshr(*arguments)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def lowest_bit(typing_context, word):
    """Return the place of the lowest bit that is set; 64 when none is."""

    def generate(context, builder, signature, arguments):
        return _call(builder, "llvm.cttz.i64", arguments[0], ir.Constant(_BIT, 0))

    return types.int64(types.int64), generate


@intrinsic
def bit_count(typing_context, word):
    """Return how many bits are set."""

    def generate(context, builder, signature, arguments):
        return _call(builder, "llvm.ctpop.i64", arguments[0])

    return types.int64(types.int64), generate


@intrinsic
def bits_at_least(typing_context, address, level):
    """Compare the 64 bytes from the address on with a level: bit i is set when byte i reaches it."""

    def generate(context, builder, signature, arguments):
        pixels = builder.load(_pointer(builder, arguments[0], ir.VectorType(_BYTE, 64)), align=1)
        levels = _splat(builder, builder.trunc(arguments[1], _BYTE), 64)
        return builder.bitcast(builder.icmp_unsigned(">=", pixels, levels), _LONG)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def prefetch(typing_context, address, line):
    """Ask for the line-th 64 bytes from an address on, which will be read soon. Any address will do."""

    def generate(context, builder, signature, arguments):
        place = builder.add(arguments[0], builder.mul(arguments[1], ir.Constant(_LONG, 64)))
        name, kind = "llvm.prefetch.p0i8", ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _WORD, _WORD, _WORD])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        hints = [ir.Constant(_WORD, hint) for hint in (0, 2, 1)]  # to read, into the second-level cache, data
        builder.call(function, [_pointer(builder, place, _BYTE), *hints])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _copier(as_mask):
    @intrinsic
    def copy(typing_context, source, target):
        def generate(context, builder, signature, arguments):
            bytes64 = ir.VectorType(_BYTE, 64)
            pixels = builder.load(_pointer(builder, arguments[0], bytes64), align=1)
            if as_mask:
                pixels = builder.zext(builder.icmp_unsigned("!=", pixels, _constants(_BYTE, 64, 0)), bytes64)
            builder.store(pixels, _pointer(builder, arguments[1], bytes64), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return copy


# copy_64(source, target) copies 64 bytes; mask_64 makes every byte but 0 a 1 on the way.
copy_64, mask_64 = _copier(False), _copier(True)


def _butterfly(widest):
    """Return three of the six stages of a bit transpose: those that swap blocks of widest, widest/2, widest/4 bits."""
    keep_low = {32: 0xFFFFFFFF, 16: 0x0000FFFF0000FFFF, 8: 0x00FF00FF00FF00FF}
    keep_low |= {4: 0x0F0F0F0F0F0F0F0F, 2: 0x3333333333333333, 1: 0x5555555555555555}

    @intrinsic
    def transpose(typing_context, address, stride):
        def generate(context, builder, signature, arguments):
            eight = ir.VectorType(_LONG, 8)
            address, stride = arguments
            places = [builder.add(address, builder.mul(stride, ir.Constant(_LONG, row))) for row in range(8)]
            places = [_pointer(builder, place, eight) for place in places]
            rows = [builder.load(place, align=8) for place in places]
            for distance, bits in ((4, widest), (2, widest // 2), (1, widest // 4)):
                shift, mask = _constants(_LONG, 8, bits), _constants(_LONG, 8, keep_low[bits])
                for high in range(8):
                    if high & distance:
                        continue
                    a, b = rows[high], rows[high + distance]
                    moved = builder.and_(builder.xor(builder.lshr(a, shift), b), mask)
                    rows[high + distance] = builder.xor(b, moved)
                    rows[high] = builder.xor(a, builder.shl(moved, shift))
            for row, place in zip(rows, places, strict=True):
                builder.store(row, place, align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return transpose


# transpose_32_16_8(address, stride), transpose_4_2_1: on eight rows of eight words each, `stride` bytes apart.
transpose_32_16_8, transpose_4_2_1 = _butterfly(32), _butterfly(4)


@intrinsic
def rings(typing_context, pixels, stride, masks, words):
    """Say of 64 pixels which of their eight neighbours come before them, as one byte each at `masks`.

    Bit n is the n-th neighbour clockwise from the upper left. Larger values come first, equal ones in memory order.
    At `words` go three words with a bit per pixel: valleys, with both neighbours of their row before them; peaks,
    above 0 with none of these; saddles, above 0 with two or more arcs of neighbours before them.
    """

    def generate(context, builder, signature, arguments):
        bytes64 = ir.VectorType(_BYTE, 64)
        pixels, stride, masks, words = arguments
        zero = _constants(_BYTE, 64, 0)

        def load(rows, columns):
            place = builder.add(pixels, builder.mul(stride, ir.Constant(_LONG, rows)))
            place = builder.add(place, ir.Constant(_LONG, columns))
            return builder.load(_pointer(builder, place, bytes64), align=1)

        centre = load(0, 0)
        ring = ir.Constant(bytes64, [0] * 64)
        for bit, (rows, columns) in enumerate(RING):
            comparison = ">=" if (rows, columns) < (0, 0) else ">"
            before = builder.icmp_unsigned(comparison, load(rows, columns), centre)
            ring = builder.or_(ring, builder.select(before, _constants(_BYTE, 64, 1 << bit), _constants(_BYTE, 64, 0)))
        builder.store(ring, _pointer(builder, masks, bytes64), align=1)

        def rotated(mask, left):
            up = builder.shl(mask, _constants(_BYTE, 64, left))
            return builder.or_(up, builder.lshr(mask, _constants(_BYTE, 64, 8 - left)))

        def write(number, condition):
            place = builder.add(words, ir.Constant(_LONG, 8 * number))
            builder.store(builder.bitcast(condition, _LONG), _pointer(builder, place, _LONG), align=8)

        above_zero = builder.icmp_unsigned("!=", centre, zero)
        beside = builder.and_(ring, _constants(_BYTE, 64, 0b10001000))
        write(0, builder.icmp_unsigned("==", beside, _constants(_BYTE, 64, 0b10001000)))
        write(1, builder.and_(above_zero, builder.icmp_unsigned("==", beside, zero)))
        sides = builder.and_(ring, _constants(_BYTE, 64, 0b10101010))
        filled = builder.or_(ring, builder.and_(rotated(sides, 1), rotated(sides, 7)))
        begins = builder.and_(filled, builder.not_(rotated(filled, 1)))
        more = builder.and_(begins, builder.sub(begins, _constants(_BYTE, 64, 1)))
        write(2, builder.and_(above_zero, builder.icmp_unsigned("!=", more, zero)))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


def _sum_over_members(builder, members, count, place, vector, term):
    """Add up, in registers, a vector per member: term(member's number, its pixels from `place` on)."""
    total = cgutils.alloca_once_value(builder, ir.Constant(vector, None))
    table = _pointer(builder, members, _LONG)
    with cgutils.for_range(builder, count) as loop:
        start = builder.add(builder.load(builder.gep(table, [loop.index])), place)
        pixels = builder.load(_pointer(builder, start, ir.VectorType(_BYTE, vector.count)), align=1)
        value = term(loop.index, pixels)
        add = builder.fadd if vector.element == _FLOAT else builder.add
        builder.store(add(builder.load(total), value), total)
    return builder.load(total)


def _store_rounded(builder, value, scale, half, out):
    """Store floor(scale * value + half) of a vector of floats as bytes."""
    lanes = value.type.count
    scaled = builder.fadd(builder.fmul(value, _splat(builder, scale, lanes)), _splat(builder, half, lanes))
    pixels = builder.fptoui(scaled, ir.VectorType(_BYTE, lanes))
    builder.store(pixels, _pointer(builder, out, pixels.type), align=1)


@intrinsic
def average_256(typing_context, members, count, place, scale, half, out):
    """Store floor(scale * sum + half) of 256 pixels from `place` on; at most 256 members, so that sums fit 16 bits.

    numba's own loops add in 64 bits and do not become vectors: they take 25 times longer. Four cache lines of a member
    in a row are read faster than one (10 % for a plane, 20 % for an image), and their sums still fit the registers.
    """

    def generate(context, builder, signature, arguments):
        members, count, place, scale, half, out = arguments
        shorts = ir.VectorType(_SHORT, 256)
        total = _sum_over_members(
            builder, members, count, place, shorts, lambda _, pixels: builder.zext(pixels, shorts)
        )
        total = builder.uitofp(total, ir.VectorType(_FLOAT, 256))
        _store_rounded(builder, total, scale, half, out)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3, types.float32, types.float32, types.int64), generate


def _weighted(of_root):
    @intrinsic
    def average(typing_context, members, weights, count, place, half, out):
        def generate(context, builder, signature, arguments):
            members, weights, count, place, half, out = arguments
            weights = _pointer(builder, weights, _FLOAT)
            floats = ir.VectorType(_FLOAT, 64)

            def term(number, pixels):
                value = builder.uitofp(pixels, floats)
                if of_root:
                    value = _call(builder, "llvm.sqrt.v64f32", value)
                return builder.fmul(value, _splat(builder, builder.load(builder.gep(weights, [number])), 64))

            total = _sum_over_members(builder, members, count, place, floats, term)
            _store_rounded(builder, total, ir.Constant(_FLOAT, 1), half, out)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4, types.float32, types.int64), generate

    return average


# weighted_average(members, weights, count, place, half, out): floor(sum of weight * pixel + half) of 64 pixels from
# `place` on, with float32 weights; weighted_average_of_roots: the same of the pixels' square roots.
weighted_average, weighted_average_of_roots = _weighted(False), _weighted(True)


@cache
def can_permute_bytes() -> bool:
    """Say whether numba compiles for a processor with AVX-512 VBMI: it looks up 64 bytes in a table of 128 at once."""
    return config.CPU_NAME is None and config.CPU_FEATURES is None and bool(get_host_cpu_features().get("avx512vbmi"))


@intrinsic
def average_looked_up(typing_context, members, tables, count, place, half, out):
    """Store (sum of the members' table entries + half) >> 16 of 64 pixels from `place` on; for VBMI alone.

    Each member has a table of 256 entries below 2^24, as three tables of bytes. The sums of the low, middle and high
    bytes are kept apart, in 16 bits each, of even and of odd pixels: at most 256 members.
    """

    def generate(context, builder, signature, arguments):
        members, tables, count, place, half, out = arguments
        bytes64, shorts, words = ir.VectorType(_BYTE, 64), ir.VectorType(_SHORT, 32), ir.VectorType(_WORD, 32)
        sums = [cgutils.alloca_once_value(builder, ir.Constant(shorts, None)) for _ in range(6)]
        low_byte, eight = _constants(_SHORT, 32, 255), _constants(_SHORT, 32, 8)
        with cgutils.for_range(builder, count) as loop:
            start = builder.load(builder.gep(_pointer(builder, members, _LONG), [loop.index]))
            pixels = builder.load(_pointer(builder, builder.add(start, place), bytes64), align=1)
            upper = builder.icmp_signed("<", pixels, _constants(_BYTE, 64, 0))
            table = builder.add(tables, builder.mul(loop.index, ir.Constant(_LONG, 768)))
            for third in range(3):
                parts = [
                    builder.load(_pointer(builder, builder.add(table, ir.Constant(_LONG, at)), bytes64), align=1)
                    for at in range(256 * third, 256 * third + 256, 64)
                ]
                permute = "llvm.x86.avx512.vpermi2var.qi.512"
                lower_half = _call(builder, permute, parts[0], pixels, parts[1])
                upper_half = _call(builder, permute, parts[2], pixels, parts[3])
                found = builder.bitcast(builder.select(upper, upper_half, lower_half), shorts)
                for odd, value in enumerate((builder.and_(found, low_byte), builder.lshr(found, eight))):
                    total = sums[2 * third + odd]
                    builder.store(builder.add(builder.load(total), value), total)
        rounded = []
        for odd in range(2):
            total = _splat(builder, builder.trunc(half, _WORD), 32)
            for third in range(3):
                part = builder.zext(builder.load(sums[2 * third + odd]), words)
                total = builder.add(total, builder.shl(part, _constants(_WORD, 32, 8 * third)))
            rounded.append(builder.trunc(builder.lshr(total, _constants(_WORD, 32, 16)), shorts))
        both = builder.or_(rounded[0], builder.shl(rounded[1], eight))
        builder.store(both, _pointer(builder, out, shorts), align=1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def load_float(typing_context, address, index):
    """Return the index-th float32 from an address on."""

    def generate(context, builder, signature, arguments):
        return builder.load(builder.gep(_pointer(builder, arguments[0], _FLOAT), [arguments[1]]))

    return types.float32(types.int64, types.int64), generate


@intrinsic
def weighted_pixels(typing_context, pixels, weights, taps, out):
    """Store the weighted sum of neighbouring pixels of three bytes as four floats, of which the last means nothing.

    The products are added in their order, each rounded, as OpenCV adds them. Reads one byte behind the last pixel.
    """

    def generate(context, builder, signature, arguments):
        pixels, weights, taps, out = arguments
        floats = ir.VectorType(_FLOAT, 4)
        total = cgutils.alloca_once_value(builder, ir.Constant(floats, None))
        with cgutils.for_range(builder, taps) as loop:
            place = builder.add(pixels, builder.mul(loop.index, ir.Constant(_LONG, 3)))
            pixel = builder.load(_pointer(builder, place, ir.VectorType(_BYTE, 4)), align=1)
            weight = builder.load(builder.gep(_pointer(builder, weights, _FLOAT), [loop.index]))
            product = builder.fmul(builder.uitofp(pixel, floats), _splat(builder, weight, 4))
            builder.store(builder.fadd(builder.load(total), product), total)
        builder.store(builder.load(total), _pointer(builder, out, floats), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


def _scaler(adds):
    @intrinsic
    def scale(typing_context, values, factor, sums):
        def generate(context, builder, signature, arguments):
            values, factor, sums = arguments
            floats = ir.VectorType(_FLOAT, 16)
            place = _pointer(builder, sums, floats)
            product = builder.fmul(
                builder.load(_pointer(builder, values, floats), align=4), _splat(builder, factor, 16)
            )
            builder.store(builder.fadd(builder.load(place, align=4), product) if adds else product, place, align=4)
            return context.get_dummy_value()

        return types.void(types.int64, types.float32, types.int64), generate

    return scale


# scale_16(values, factor, sums) stores 16 floats times a factor; add_scaled_16 adds them, the product rounded.
scale_16, add_scaled_16 = _scaler(False), _scaler(True)


@intrinsic
def round_16(typing_context, values, out):
    """Store 16 floats from 0 to 255.5 as bytes, halves to the even number."""

    def generate(context, builder, signature, arguments):
        floats = ir.VectorType(_FLOAT, 16)
        values = builder.load(_pointer(builder, arguments[0], floats), align=4)
        whole = _call(builder, "llvm.rint.v16f32", values)
        whole = _call(builder, "llvm.minnum.v16f32", whole, _constants(_FLOAT, 16, 255))  # no byte is 256
        pixels = builder.fptoui(whole, ir.VectorType(_BYTE, 16))
        builder.store(pixels, _pointer(builder, arguments[1], pixels.type), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def join_64(typing_context, source, some, every):
    """Put the 64 bytes at `source` into those at `some` with OR, and into those at `every` with AND."""

    def generate(context, builder, signature, arguments):
        bytes64 = ir.VectorType(_BYTE, 64)
        source, some, every = (_pointer(builder, each, bytes64) for each in arguments)
        pixels = builder.load(source, align=1)
        builder.store(builder.or_(builder.load(some, align=1), pixels), some, align=1)
        builder.store(builder.and_(builder.load(every, align=1), pixels), every, align=1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def are_one_byte_64(typing_context, some, every):
    """Say whether the 64 bytes at `some` and those at `every` are all the same byte."""

    def generate(context, builder, signature, arguments):
        bytes64 = ir.VectorType(_BYTE, 64)
        some, every = (builder.load(_pointer(builder, each, bytes64), align=1) for each in arguments)
        first = _splat(builder, builder.extract_element(some, ir.Constant(_WORD, 0)), 64)
        others = builder.or_(builder.xor(some, first), builder.xor(every, first))
        differ = builder.icmp_unsigned("!=", others, _constants(_BYTE, 64, 0))
        return builder.icmp_unsigned("==", builder.bitcast(differ, _LONG), ir.Constant(_LONG, 0))

    return types.boolean(types.int64, types.int64), generate
