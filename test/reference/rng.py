#!/usr/bin/env python3
"""Golden numbers of test/unit/base/rng_test.c: base/rng.h written a second time. Prints C initializers."""
M = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M
    return z ^ (z >> 31)


def u64(seed, stream, counter):
    z = mix((seed + GOLDEN) & M)
    z = mix(((z ^ stream) + GOLDEN) & M)
    return mix(((z ^ counter) + GOLDEN) & M)


def uniform(seed, stream, counter):
    return (u64(seed, stream, counter) >> 40) / 2.0**24


def normal(seed, stream, counter):
    base = u64(seed, stream, counter)
    words = [mix((base + i * GOLDEN) & M) for i in (1, 2, 3)]
    return (sum((w >> (16 * p)) & 0xFFFF for w in words for p in range(4)) - 6 * 65535) / 2.0**16


def permute(seed, stream, count, index):
    half = 1
    while half < 32 and (count - 1) >> (2 * half):
        half += 1
    key = u64(seed, stream, count)
    while True:
        left, right = index >> half, index & ((1 << half) - 1)
        for r in range(1, 9):
            f = mix(((key + r * GOLDEN) & M) ^ right) >> (64 - half)
            left, right = right, left ^ f
        index = left << half | right
        if index < count:
            return index


for args in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (42, 7, 123456789), (M, M, M)]:
    a = ", ".join(f"UINT64_C({v})" for v in args)
    print(f"{{{a}, UINT64_C(0x{u64(*args):016x}), {uniform(*args).hex()}f, {normal(*args).hex()}f}},")
for args in [(1, 0, 10, 3), (1, 0, 1000, 999), (7, 2, 1 << 40, 12345), (7, 2, M, M - 1)]:
    print("{" + ", ".join(f"UINT64_C({v})" for v in args) + f", UINT64_C({permute(*args)})}},")
