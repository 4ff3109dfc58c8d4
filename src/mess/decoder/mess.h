/*
 * mess.h: reads .mess files in C99, straight from memory, tensor by tensor, to the very bits that Python reads.
 *
 * In one C file, before the #include:
 *     #define MESS_IMPLEMENTATION
 *
 *     mess_file net;
 *     mess_tensor t;
 *     mess_open(&net, bytes, size, memory, sizeof memory, 0);         (0 is success, as everywhere below)
 *     mess_find(&net, "layer1.0.conv1.weight", &t);
 *     mess_decode(&net, &t, out, sizeof out, scratch, sizeof scratch);
 *
 * It takes no memory of its own, needs no library (string.h apart) and no floating point to decode: only the last step,
 * from integers to numbers, multiplies and adds. A damaged file gives an error code. After mess_open a mess_file is only
 * read, so threads may share it, each with a scratch of its own.
 *
 * Files must say names and shapes themselves: `mess compress --self-contained`, or `mess decompress net.mess -o plain.mess`,
 * which also leaves the manifest uncompressed. A compressed one needs zstd: see MESS_ZSTD_DECODE, below.
 * The comments name clauses of docs/FORMAT.md, which specifies the file.
 */
#ifndef MESS_H
#define MESS_H
#include <stddef.h>
#include <stdint.h>

#ifndef MESS_API
#define MESS_API extern
#endif
#ifndef MESS_MAX_BYTES            /* tensors that take more than this, all together, are refused (clause 11.8) */
#define MESS_MAX_BYTES 0x80000000u
#endif
#if MESS_MAX_BYTES > 0xFFFFFFFF   /* counts and sizes of tensors are kept in 32 bits */
#error "mess.h: MESS_MAX_BYTES must be below 2^32"
#endif
#ifndef MESS_SUMS                 /* sums kept of a table without MESS_FAST; those between are added up again: memory or speed */
#define MESS_SUMS 128
#endif
/* MESS_SMALL leaves out what MESS_FAST does: 250 bytes of code.
 * MESS_NO_SHA leaves out SHA-256, another 900: of the checksums, the CRC-32 of each section alone is then compared.
 * To read compressed manifests, #define MESS_ZSTD_DECODE as a function (or as what mess_zstd.h defines it to be):
 *     size_t MESS_ZSTD_DECODE(void *out, size_t out_size, const void *frame, size_t frame_size);
 * which returns how many bytes it wrote, at most out_size; 0 is a failure. */

#ifdef __cplusplus
extern "C" {
#endif

enum {
  MESS_OK,
  MESS_NOT_MESS,   /* no .mess file */
  MESS_VERSION,    /* a version, flag, section or coder that this reader does not know */
  MESS_CUT_SHORT,  /* another length than its header says */
  MESS_CHECKSUM,   /* damaged */
  MESS_SECTIONS,   /* a section table that breaks clause 3 */
  MESS_MANIFEST,   /* a manifest that breaks clauses 4 and 5 */
  MESS_NAMED,      /* names and shapes are not in the file, but in the definition of a network that it names */
  MESS_ZSTD,       /* a compressed manifest, and no MESS_ZSTD_DECODE, or one that failed */
  MESS_STREAM,     /* a stream that breaks clauses 6 to 10 */
  MESS_TOO_LARGE,  /* more than MESS_MAX_BYTES */
  MESS_MEMORY,     /* too little memory, scratch or room for the output was given */
  MESS_NO_TENSOR   /* no tensor of that name or number */
};

/* dtypes, clause 5.3; bfloat16 and float16 are given as their bits */
enum { MESS_FLOAT32, MESS_FLOAT16, MESS_BFLOAT16, MESS_FLOAT64, MESS_INT64, MESS_INT32, MESS_INT16, MESS_INT8,
       MESS_UINT8, MESS_BOOL };

/* flags of mess_open */
enum {
  MESS_FAST = 1,     /* keep tables and references ready in `memory`: more of it, and several times the speed */
  MESS_TRUSTED = 2,  /* do not compare the checksums: they have been */
  MESS_ANY_ORDER = 4 /* tensors need not be sorted by name (mess_find looks at all), nor their names be compared */
};

/* Parts of a BatchNorm layer (clause 9.3). Part 0, all that it computes with, is its scale, then its shift. */
enum { MESS_WHOLE, MESS_WEIGHT, MESS_BIAS, MESS_RUNNING_MEAN, MESS_RUNNING_VAR, MESS_BATCHES_TRACKED };

typedef struct {
  uint32_t item, part;           /* place in the file's list, and MESS_WHOLE or a part of a BatchNorm layer */
  uint32_t dtype, dims;
  uint64_t shape[8];
  uint32_t count;                /* numbers */
  uint32_t bytes;                /* that mess_decode writes */
  uint32_t is_batch_norm;        /* part 0 of one: two rows, y = x * scale + shift */
} mess_tensor;

typedef struct {                 /* all of it is the decoder's own; `count`, `need` and `used` may be read */
  uint32_t count;                /* tensors and BatchNorm layers, sorted by name */
  size_t need;                   /* bytes of `memory` that mess_open takes: after MESS_MEMORY, at least so many */
  size_t used;                   /* bytes of `memory` that are kept afterwards; the rest is free, for scratch or anything */
  const uint8_t *bytes, *text;
  uint32_t size, text_size, flags, books_count, sums_count, largest_table, clusters_count, lanes, start[10], end[10], eps_at;
  uint8_t coder[10];
  struct mess_i_item *items;
  struct mess_i_book *books;
  int8_t *told[6];               /* of sums of references: MESS_I_STEPS and on */
  uint64_t mask;                 /* clause 10.2: contexts that have a table */
  struct mess_i_cluster *clusters;
  struct mess_i_table *ready;    /* those tables, if they are kept */
} mess_file;

/* Checks a file and finds all that is in it. `bytes` and `memory` must stay as they are while it is read.
 * MESS_MEMORY leaves in `need` how much is missing at least: give that and call again, until it is enough (a
 * few calls; begin with none). */
MESS_API int mess_open(mess_file *file, const void *bytes, size_t size, void *memory, size_t memory_size, int flags);

/* Says what stands in a place from 0 to count - 1, or under a name (of a tensor, or of a BatchNorm layer). */
MESS_API int mess_at(const mess_file *file, uint32_t item, uint32_t part, mess_tensor *tensor);
MESS_API int mess_find(const mess_file *file, const char *name, mess_tensor *tensor);

/* Writes a tensor's name in UTF-8, with a 0 behind; returns its length, also if `size` is too little (then cut). */
MESS_API size_t mess_name(const mess_file *file, uint32_t item, uint32_t part, char *out, size_t size);

/* Bytes of scratch that mess_decode needs for a tensor. */
MESS_API size_t mess_scratch(const mess_file *file, const mess_tensor *tensor);

/* Writes a tensor in its dtype and the order of its shape. `out` and `scratch` must be aligned for its numbers (4 or 8). */
MESS_API int mess_decode(const mess_file *file, const mess_tensor *tensor, void *out, size_t out_size,
                         void *scratch, size_t scratch_size);

/* Rounds decoded float32 numbers, halves to even; `out` may be `in`. The scale of int8 is the largest magnitude / 127;
 * give each output channel (the first dimension) by itself for a scale a channel. */
MESS_API void mess_to_float16(const float *in, uint16_t *out, size_t count);
MESS_API float mess_to_int8(const float *in, int8_t *out, size_t count);

MESS_API const char *mess_error(int code);

#ifdef __cplusplus
}
#endif
#endif /* MESS_H */

#ifdef MESS_IMPLEMENTATION
#undef MESS_IMPLEMENTATION
#include <string.h>

#ifdef __FAST_MATH__
#error "mess.h: every operation must round as IEEE 754 says; do not use -ffast-math"
#endif
/* no fused multiply-add (clause 9.2), whatever the compiler is told */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
typedef volatile float mess_i_float;   /* where registers are wider, memory rounds */
#else
typedef float mess_i_float;
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define MESS_I_BYTE(k, size) ((size) - 1 - (k))
#else
#define MESS_I_BYTE(k, size) (k)
#endif
#ifdef MESS_SMALL
#define MESS_I_IS_FAST(flags) ((void)(flags), 0)
#else
#define MESS_I_IS_FAST(flags) ((flags) & MESS_FAST)
#endif
#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
#define MESS_I_INLINE __attribute__((always_inline)) static inline
#else
#define MESS_I_INLINE static
#endif
#define MESS_I_TOTAL ((uint32_t)1 << 24)
#define MESS_I_JUMPS 512               /* parts of the 2^24 quantiles, for each of which a list says its symbol */
#define MESS_I_JUMP_FROM 4096          /* numbers of a stream that make such a list worth its while */
#define MESS_I_END 0xFFFFFFFFu

enum { MESS_I_MANIFEST = 1, MESS_I_REFERENCES, MESS_I_INDICES, MESS_I_SCALES, MESS_I_OFFSETS, MESS_I_TENSORS,
       MESS_I_NORMS, MESS_I_EXPANSIONS, MESS_I_GRAPH };  /* a graph is passed over: what it says is for other readers */

/* What section 8 says (clauses 10.2, 10.9 and 10.10): of each tensor its step, a float32, and what it has exponents and levels
 * for; all exponents; all levels of terms; all of rows and columns; of each tensor the first context of trellises. */
enum { MESS_I_STEPS, MESS_I_AXES, MESS_I_EXPONENTS, MESS_I_LEVELS, MESS_I_SIDES, MESS_I_TRELLISES };

typedef struct { uint32_t at, table; } mess_i_place;  /* of a stream in the file, and the table read before (clause 8.5) */

typedef struct mess_i_item {           /* a row of `tensors` */
  uint32_t name, name_end;             /* in the text */
  uint8_t kind, dtype, part;           /* a tie to a BatchNorm layer is to a part of it */
  uint8_t special;                     /* P: references are cut from it; B: it counts batches */
  uint32_t book;                       /* or the number of its eps, or the item that it is tied to */
  uint32_t count, rows;
  mess_i_place stream[3];              /* E: its lane, behind `lanes`, and its bytes; levels, place among sums; exponents, other levels */
} mess_i_item;

typedef struct mess_i_book {
  int32_t source;
  uint32_t unit, stride, by_row, numbers;
  uint32_t count, row, in_row;         /* references; numbers a row, and references */
  mess_i_place stream;
  const float *ready;                  /* the numbers, if they are kept */
} mess_i_book;

typedef struct mess_i_table {
  uint32_t size, kind, m, v, most;     /* most: the first symbol of the largest weight */
  uint32_t step;                       /* symbols from one of the sums to the next */
  uint32_t extra;                      /* what the frequency of `most` is above its weight's */
  const uint8_t *codes;                /* of a bell: ratio and fall */
  uint64_t total;                      /* of the weights */
  uint32_t *sums;                      /* of the frequencies before symbols 0, step, 2 step ...; room for `step` more */
  const uint64_t *jump;                /* of the first symbol in a part: 16 bits itself, 24 its sum, 24 its frequency (0: it is not alone) */
} mess_i_table;

typedef struct mess_i_cluster { uint32_t at; int32_t low; } mess_i_cluster;   /* a table of clause 10.2, its lowest integer */
typedef struct { const uint8_t *bytes; uint32_t at, end, table, fast, *largest; int bad, any; } mess_i_reader;   /* any: also NaN, infinity */
typedef struct { uint64_t x; const uint8_t *words; uint32_t left; } mess_i_coder;
typedef struct { uint8_t *at, *end; size_t need; } mess_i_arena;

static uint32_t mess_i_le32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static uint64_t mess_i_le64(const uint8_t *p) { return mess_i_le32(p) | (uint64_t)mess_i_le32(p + 4) << 32; }
static uint32_t mess_i_load(const void *p) { uint32_t x; memcpy(&x, p, 4); return x; }
static void mess_i_store(void *p, uint32_t x) { memcpy(p, &x, 4); }
static float mess_i_from_bits(uint32_t x) { float f; memcpy(&f, &x, 4); return f; }
static uint32_t mess_i_bits(float f) { uint32_t x; memcpy(&x, &f, 4); return x; }
static void mess_i_put(uint8_t *p, uint32_t width, uint64_t x) {
  uint32_t k;
  for (k = 0; k < width; k++, x >>= 8) p[MESS_I_BYTE(k, width)] = (uint8_t)x;
}
static uint64_t mess_i_get(const uint8_t *p, uint32_t width) {
  uint64_t x = 0;
  uint32_t k;
  for (k = width; k--;) x = x << 8 | p[MESS_I_BYTE(k, width)];
  return x;
}
static int mess_i_is_one_of(uint32_t c, const char *all) { while (*all && (uint8_t)*all != c) all++; return *all != 0; }

/* Gives out memory, 8 bytes at a time; null once there is no more, but it goes on counting. */
static void *mess_i_take(mess_i_arena *arena, uint32_t count, uint32_t each) {
  uint64_t size = ((uint64_t)count * each + 7) & ~(uint64_t)7;
  uint8_t *at = arena->at;
  arena->need = size < (size_t)-1 - arena->need ? arena->need + (size_t)size : (size_t)-1;
  arena->at = at && size <= (uint64_t)(arena->end - at) ? at + size : 0;
  return arena->at ? at : 0;
}
static mess_i_arena mess_i_arena_of(void *memory, size_t size) {
  mess_i_arena arena;
  size_t skip = (8 - ((uintptr_t)memory & 7)) & 7;
  arena.at = memory && size > skip ? (uint8_t *)memory + skip : 0;
  arena.end = arena.at ? (uint8_t *)memory + size : 0;
  arena.need = 7;
  return arena;
}

/* ---- clause 1.4 and dtypes (5.3): numbers, in integers, since small machines have no such instructions ---- */

static uint32_t mess_i_width(uint32_t dtype) { return (uint32_t)"\4\2\2\10\10\4\2\1\1\1"[dtype]; }
static uint32_t mess_i_fraction(uint32_t dtype) { return (uint32_t)"\27\12\7\64"[dtype]; }   /* bits of a float dtype */
static uint32_t mess_i_exponent(uint32_t dtype) { return (uint32_t)"\10\5\10\13"[dtype]; }

/* m * 2^e as a float, halves to even; beyond the largest it is infinity. */
static uint64_t mess_i_rounded(uint64_t m, int e, uint32_t dtype) {
  uint32_t fraction = mess_i_fraction(dtype), highest = (1u << mess_i_exponent(dtype)) - 1, shift;
  uint64_t infinity = (uint64_t)highest << fraction, rest;
  if (!m) return 0;
  for (; !(m >> 63); m <<= 1) e--;
  e += 63 + (int)(highest >> 1);
  shift = 63 - fraction + (e < 1 ? (uint32_t)(1 - e) : 0);
  if (shift > 64) return 0;
  rest = m << (64 - shift);
  m = m >> 1 >> (shift - 1);
  if (rest >> 63 && (rest << 1 || (m & 1))) m++;
  if (e > 1) m += (uint64_t)(uint32_t)(e - 1) << fraction;
  return m < infinity ? m : infinity;
}

static int mess_i_finite(uint64_t bits, uint32_t dtype) {
  uint32_t highest = (1u << mess_i_exponent(dtype)) - 1;
  return (bits >> mess_i_fraction(dtype) & highest) != highest;
}

/* A finite number of one float dtype as another; an infinity or none of numbers becomes an infinity. */
static uint64_t mess_i_converted(uint64_t bits, uint32_t from, uint32_t to) {
  uint32_t fraction = mess_i_fraction(from), exponent = mess_i_exponent(from), highest = (1u << exponent) - 1;
  uint64_t m = bits << (63 - fraction) & ~((uint64_t)1 << 63), sign = bits >> (fraction + exponent);
  uint32_t e = (uint32_t)(bits >> fraction) & highest;
  if (from == to) return bits;
  if (e) m |= (uint64_t)1 << 63; else e = 1;
  return mess_i_rounded(m, (int)e - (int)(highest >> 1) - 63, to) | sign << (mess_i_fraction(to) + mess_i_exponent(to));
}

/* ---- clause 2: SHA-256 (FIPS 180-4); clause 3: CRC-32 and the section table ---- */

#ifndef MESS_NO_SHA
static uint32_t mess_i_turn(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void mess_i_sha_block(uint32_t *h, const uint8_t *p) {
  static const uint32_t k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};
  uint32_t w[16], s[8], i, t;
  memcpy(s, h, sizeof s);
  for (i = 0; i < 64; i++) {
    if (i < 16) {
      w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    } else {
      uint32_t x = w[(i + 1) & 15], y = w[(i + 14) & 15];
      w[i & 15] += w[(i + 9) & 15] + (mess_i_turn(x, 7) ^ mess_i_turn(x, 18) ^ x >> 3)
                   + (mess_i_turn(y, 17) ^ mess_i_turn(y, 19) ^ y >> 10);
    }
    t = w[i & 15] + k[i] + s[7] + (s[6] ^ (s[4] & (s[5] ^ s[6])))
        + (mess_i_turn(s[4], 6) ^ mess_i_turn(s[4], 11) ^ mess_i_turn(s[4], 25));
    s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + t;
    t += ((s[0] & s[1]) | (s[2] & (s[0] | s[1]))) + (mess_i_turn(s[0], 2) ^ mess_i_turn(s[0], 13) ^ mess_i_turn(s[0], 22));
    s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = t;
  }
  for (i = 0; i < 8; i++) h[i] += s[i];
}

/* Clause 2: whether the header's SHA-256 is the file's, its own 32 bytes taken as 0. */
static int mess_i_sha_is_right(const uint8_t *bytes, uint32_t size) {
  uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint32_t end = (size + 72) & ~63u, at, n, i;                   /* with the bit and the length behind it */
  uint8_t block[64];
  for (at = 0; at < end; at += 64) {
    int inside = at && at + 64 <= size;
    for (i = 0, n = at; !inside && i < 64; i++, n++) {
      block[i] = (uint8_t)(n >= size || n - 22 < 32 ? 0x80 * (n == size) : bytes[n]);
      if (n >= end - 5) block[i] = (uint8_t)((uint64_t)size * 8 >> 8 * (end - 1 - n));
    }
    mess_i_sha_block(h, inside ? bytes + at : block);
  }
  for (i = 0; i < 32; i++) if (bytes[22 + i] != (uint8_t)(h[i / 4] >> (24 - i % 4 * 8))) return 0;
  return 1;
}
#endif

static uint32_t mess_i_crc(const uint8_t *p, uint32_t size) {
  uint32_t table[16], crc = ~(uint32_t)0, i, j;
  for (i = 0; i < 16; i++)
    for (table[i] = i, j = 0; j < 4; j++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
  while (size--) {
    crc ^= *p++;
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return ~crc;
}

/* Clauses 2 and 3: header and section table. */
static int mess_i_sections(mess_file *f, const uint8_t *b, size_t size) {
  static const uint8_t coders[10] = {0, 2, 1, 1, 1, 1, 2, 1, 4, 2};   /* how many a section knows */
  int check = !(f->flags & MESS_TRUSTED);
  uint32_t n, i, last = 0;
  uint64_t expected;
  if (size < 54 || memcmp(b, "\x89MESS\r\n\x1a", 8)) return MESS_NOT_MESS;
  if (b[8] != 1 || b[10] || b[11]) return MESS_VERSION;
  if (mess_i_le64(b + 14) != size) return MESS_CUT_SHORT;
  if (size > 0xFFFFFF00u) return MESS_TOO_LARGE;
#ifndef MESS_NO_SHA
  if (check && !mess_i_sha_is_right(b, (uint32_t)size)) return MESS_CHECKSUM;
#endif
  n = b[12] | (uint32_t)b[13] << 8;
  expected = 54 + 24 * (uint64_t)n;
  if (!n || n > 64 || expected > size) return MESS_SECTIONS;
  for (i = 0; i < n; i++) {
    const uint8_t *e = b + 54 + 24 * i;
    uint32_t type = e[0];
    uint64_t length = mess_i_le64(e + 16);
    if (type < 1 || type > 9 || e[1] >= coders[type] || (type == MESS_I_EXPANSIONS && !e[1])) return MESS_VERSION;
    if (e[2] || e[3] || type <= last || mess_i_le64(e + 8) != expected || length > size - expected) return MESS_SECTIONS;
    f->coder[type] = e[1];
    f->start[type] = (uint32_t)expected;
    expected += length;
    f->end[type] = (uint32_t)expected;
    if (check && mess_i_crc(b + f->start[type], (uint32_t)length) != mess_i_le32(e + 4)) return MESS_CHECKSUM;
    last = type;
  }
  return expected == size && f->start[MESS_I_MANIFEST] ? MESS_OK : MESS_SECTIONS;
}

/* ---- clause 4: JSON, read in place. Positions are offsets in the text; 0 is a failure or the end of a list (a value
 * never stands at 0, since all of them stand in an object) ---- */

typedef struct { const uint8_t *at, *end; const char *rest; int json; } mess_i_name;  /* a string, then `rest` */

static uint32_t mess_i_peek(const mess_file *f, uint32_t at) { return at < f->text_size ? f->text[at] : 0; }

static uint32_t mess_i_hex4(const uint8_t *p) {
  uint32_t x = 0, i;
  for (i = 0; i < 4; i++) x = x << 4 | (p[i] <= '9' ? p[i] - 48u : (p[i] | 32u) - 87u);
  return x;
}

static uint32_t mess_i_more(uint32_t c) { return c < 0xC0 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3; }   /* bytes of UTF-8 behind c */

/* The next character of a checked string, its escapes undone; MESS_I_END behind the last. */
static uint32_t mess_i_next(mess_i_name *s) {
  uint32_t c, more;
  if (s->at == s->end) return s->rest && *s->rest ? (uint8_t)*s->rest++ : MESS_I_END;
  c = *s->at++;
  if (c == '\\' && s->json) {
    c = *s->at++;
    if (c == 'u') {
      c = mess_i_hex4(s->at);
      s->at += 4;
      if (c >> 10 == 0xD800 >> 10 && s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u' &&
          mess_i_hex4(s->at + 2) >> 10 == 0xDC00 >> 10) {
        c = 0x10000 + ((c & 0x3FF) << 10) + (mess_i_hex4(s->at + 2) & 0x3FF);
        s->at += 6;
      }
      return c;
    }
    return c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
  }
  more = mess_i_more(c);
  for (c &= more ? 0x3Fu >> more : 0xFF; more && s->at < s->end; more--) c = c << 6 | (*s->at++ & 0x3F);
  return c;
}

static int mess_i_compare(mess_i_name a, mess_i_name b) {
  for (;;) {
    uint32_t x = mess_i_next(&a) + 1, y = mess_i_next(&b) + 1;      /* 0: the end */
    if (x != y) return x < y ? -1 : 1;
    if (!x) return 0;
  }
}

/* Clause 4.1: passes over a string, from behind its first quote to its last. */
static uint32_t mess_i_string(const mess_file *f, uint32_t at) {
  for (;;) {
    uint32_t c = mess_i_peek(f, at++), i, more = mess_i_more(c);
    if (c == '"') return at - 1;
    if (c < 0x20) return 0;
    if (c == '\\') {
      c = mess_i_peek(f, at++);
      if (!mess_i_is_one_of(c, "\"\\/bfnrtu")) return 0;
      for (i = 0; c == 'u' && i < 4; i++) if (!mess_i_is_one_of(mess_i_peek(f, at++), "0123456789abcdefABCDEF")) return 0;
    } else if (c >= 0x80) {            /* UTF-8 (RFC 3629) */
      uint32_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
      if (c < 0xC2 || c > 0xF4) return 0;
      for (; more; more--, at++, low = 0x80, high = 0xBF)
        if (mess_i_peek(f, at) < low || mess_i_peek(f, at) > high) return 0;
    }
  }
}

static uint32_t mess_i_space(const mess_file *f, uint32_t at) {
  while (mess_i_is_one_of(mess_i_peek(f, at), " \n\r\t")) at++;
  return at;
}

/* Passes over digits, of which there must be one. */
static uint32_t mess_i_digits(const mess_file *f, uint32_t at) {
  uint32_t from = at;
  while (mess_i_peek(f, at) - '0' < 10) at++;
  return at > from ? at : 0;
}

static uint32_t mess_i_number(const mess_file *f, uint32_t at) {
  uint32_t from = at, start = at + (mess_i_peek(f, at) == '-');
  at = mess_i_digits(f, start);
  if (!at || (mess_i_peek(f, start) == '0' && at > start + 1)) return 0;
  if (mess_i_peek(f, at) == '.' && !(at = mess_i_digits(f, at + 1))) return 0;
  if ((mess_i_peek(f, at) | 32) == 'e') {
    start = at + 1;
    if (!(at = mess_i_digits(f, start + (mess_i_peek(f, start) == '+' || mess_i_peek(f, start) == '-')))) return 0;
  }
  return at - from > 30 ? 0 : at;
}

/* Clause 4.1: checks a value and passes over it; `left` is how many more may be nested. */
static uint32_t mess_i_value(const mess_file *f, uint32_t at, int left) {
  uint32_t c;
  at = mess_i_space(f, at);
  c = mess_i_peek(f, at);
  if (c == '"') return (at = mess_i_string(f, at + 1)) ? at + 1 : 0;
  if (c == '{' || c == '[') {
    uint32_t close = c + 2;            /* '}' or ']' */
    at = mess_i_space(f, at + 1);
    if (!left || mess_i_peek(f, at) == close) return left ? at + 1 : 0;
    do {
      if (close == '}') {
        at = mess_i_space(f, at);
        if (mess_i_peek(f, at) != '"' || !(at = mess_i_string(f, at + 1))) return 0;
        at = mess_i_space(f, at + 1);
        if (mess_i_peek(f, at++) != ':') return 0;
      }
      if (!(at = mess_i_value(f, at, left - 1))) return 0;
      at = mess_i_space(f, at);
      c = mess_i_peek(f, at++);
    } while (c == ',');
    return c == close ? at : 0;
  }
  if (mess_i_is_one_of(c, "tfn")) {
    const char *word = c == 't' ? "true" : c == 'f' ? "false" : "null";
    while (*word && mess_i_peek(f, at) == (uint8_t)*word) at++, word++;
    return *word ? 0 : at;
  }
  return mess_i_number(f, at);
}

/* The first value of a list that starts at `at`, or the one behind the value that ends at `at`; 0 if there is no more.
 * These read what mess_i_value has checked. */
static uint32_t mess_i_first(const mess_file *f, uint32_t at) {
  at = mess_i_space(f, at + 1);
  return f->text[at] == ']' ? 0 : at;
}
static uint32_t mess_i_after(const mess_file *f, uint32_t at) {
  at = mess_i_space(f, mess_i_value(f, at, 16));
  return mess_i_peek(f, at) == ',' ? mess_i_space(f, at + 1) : 0;
}

/* An integer below 2^42; 0 for anything else. */
static int mess_i_integer(const mess_file *f, uint32_t at, int64_t *out) {
  uint32_t end = mess_i_value(f, at, 16), minus = f->text[at] == '-';
  int64_t x = 0;
  for (at += minus; at < end; at++) {
    if ((uint32_t)f->text[at] - '0' > 9 || x > (int64_t)1 << 41) return 0;
    x = x * 10 + (f->text[at] - '0');
  }
  *out = minus ? -x : x;
  return 1;
}

static mess_i_name mess_i_json(const mess_file *f, uint32_t at, uint32_t end, const char *rest) {
  mess_i_name s;
  s.at = f->text + at, s.end = f->text + end, s.rest = rest, s.json = 1;
  return s;
}
static mess_i_name mess_i_plain(const char *text) {
  mess_i_name s;
  s.at = s.end = (const uint8_t *)text, s.rest = 0, s.json = 0;
  while (*s.end) s.end++;
  return s;
}

/* ---- clause 1: varints and packed numbers; clause 7: tables ---- */

static uint64_t mess_i_varint(mess_i_reader *r, uint64_t highest) {
  uint64_t x = 0;
  uint32_t place;
  for (place = 0; place < 10 && r->at < r->end; place++) {
    uint8_t part = r->bytes[r->at++];
    if (place == 9 && part > 1) break;
    x |= (uint64_t)(part & 127) << 7 * place;
    if (part < 128) {
      if ((place && !part) || x > highest) break;
      return x;
    }
  }
  r->bad = 1;
  return 0;
}
static int64_t mess_i_zigzag(uint64_t x) { return (int64_t)(x >> 1 ^ (~(x & 1) + 1)); }
static uint32_t mess_i_skip(mess_i_reader *r, uint64_t size) {
  uint32_t at = r->at;
  if (size > r->end - r->at) { r->bad = 1; return at; }
  r->at += (uint32_t)size;
  return at;
}
static uint32_t mess_i_byte(mess_i_reader *r) { return r->at < r->end ? r->bytes[r->at++] : (r->bad = 1, 0u); }

/* Clause 1.3: number i of those packed in `width` bits, at most 57. */
MESS_I_INLINE uint64_t mess_i_packed(const uint8_t *p, uint32_t i, uint32_t width) {
  uint64_t bit = (uint64_t)i * width, x = 0;
  uint32_t skip = bit & 7, k;
  for (k = 0, p += bit >> 3; 8 * k < skip + width; k++) x |= (uint64_t)p[k] << 8 * k;
  return x >> skip & (((uint64_t)1 << width) - 1);
}

/* Clauses 7.1 to 7.4: checks a table and passes over it. `largest` learns how many sums there will be to keep. */
static void mess_i_read_table(mess_i_reader *r, mess_i_table *t) {
  uint32_t i, code, largest = 0;
  memset(t, 0, sizeof *t);
  t->size = (uint32_t)mess_i_varint(r, 65536), t->kind = mess_i_byte(r), t->step = 1;
  if (!t->size || t->kind > 2) r->bad = 1;
  if (r->bad) return;
  if (t->kind == 1) t->most = (uint32_t)mess_i_varint(r, t->size - 1);
  if (t->kind == 2) {
    t->m = mess_i_byte(r), t->v = t->m & 15, t->m >>= 4;
    if (t->m < 1 || t->m > 8 || t->v < 1 || t->v > 9) r->bad = 1;
  }
  t->codes = r->bytes + mess_i_skip(r, t->kind == 1 ? 4 : ((uint64_t)t->size * t->v + 7) / 8);
  if (r->bad) return;
  for (i = 0; t->kind == 2 && i < t->size; i++) {
    code = (uint32_t)mess_i_packed(t->codes, i, t->v);
    if (code > largest) largest = code;
  }
  if (largest && ((largest - 1) >> t->m) + t->m > 32) r->bad = 1;
  if (t->size * t->v % 8 && r->bytes[r->at - 1] >> t->size * t->v % 8) r->bad = 1;
  while (!r->fast && t->size > MESS_SUMS * t->step) t->step *= 2;
  i = (t->size + t->step - 1) / t->step + 1 + (t->step > 1 ? t->step : 0);
  if (r->largest && *r->largest < i) *r->largest = i;
}

/* Clauses 7.2 to 7.5: passes over the weights of symbols `from` to `end` - 1, a bell's from its centre outwards. Without `out`
 * it returns their sum and finds the first largest; else it adds the frequencies, those of `step` symbols to one place each. */
static uint64_t mess_i_weigh(mess_i_table *t, uint32_t from, uint32_t end, uint32_t step, uint32_t *out) {
  const uint8_t *p = t->codes;
  uint32_t centre = t->most, bell = t->kind == 1, i, side, s;
  uint64_t sum = 0, peak = 0, w = (uint64_t)1 << 32, ratio = bell ? p[0] | (uint32_t)p[1] << 8 : 0;
  for (i = bell ? 0 : from; bell ? i <= centre || i < t->size - centre : i < end; i++) {
    if (t->kind == 2) {
      uint32_t code = (uint32_t)mess_i_packed(p, i, t->v), m = t->m;
      w = code ? (uint64_t)((1u << m) + ((code - 1) & ((1u << m) - 1))) << ((code - 1) >> m) : 0;
    }
    for (side = 0; side < (bell && i ? 2 : 1); side++) {
      s = !bell ? i : side ? centre + i : centre - i;                      /* below 0 is above `end` */
      if (s < from || s >= end) continue;
      sum += w;
      if (out) out[(s - from) / step] += 1 + (uint32_t)(w * (MESS_I_TOTAL - t->size) / t->total);
      else if (w > peak) peak = w, t->most = s;
    }
    if (bell) w = w * ratio >> 16, ratio = ratio * (65536 - (p[2] | (uint32_t)p[3] << 8)) >> 16;
  }
  return sum;
}

/* Clause 7.5: the sums of the frequencies, in `memory`, and where they jump, if it is wanted. */
static void mess_i_build(mess_i_table *t, uint64_t *memory, int jumps) {
  uint32_t *sums = (uint32_t *)(memory + (jumps ? MESS_I_JUMPS + 1 : 0)), n = (t->size + t->step - 1) / t->step, i, sum = 0, s = 0;
  t->total = mess_i_weigh(t, 0, t->size, 1, 0);
  if (!t->total) t->kind = 0, t->total = (uint64_t)t->size << 32;
  memset(sums, 0, 4 * (n + 1));
  mess_i_weigh(t, 0, t->size, t->step, sums);
  for (i = 0; i <= n; i++) { uint32_t frequency = sums[i]; sums[i] = sum; sum += frequency; }
  t->extra = MESS_I_TOTAL - sum;
  for (i = t->most / t->step + 1; i <= n; i++) sums[i] += t->extra;
  t->sums = sums, t->jump = jumps ? memory : 0;
  for (i = 0; jumps && i <= MESS_I_JUMPS; i++) {
    uint32_t from = i < MESS_I_JUMPS ? i * (MESS_I_TOTAL / MESS_I_JUMPS) : MESS_I_TOTAL - 1, frequency;
    while (sums[s + 1] <= from) s++;
    frequency = sums[s + 1] - from >= MESS_I_TOTAL / MESS_I_JUMPS ? sums[s + 1] - sums[s] : 0;
    memory[i] = s | (uint64_t)sums[s] << 16 | (uint64_t)frequency << 40;
  }
}

/* ---- clause 6: the coder ---- */

/* Clauses 6.2 and 10.6: `size` bytes of words, the last of which may lack the zero bytes at its end. */
static void mess_i_start(mess_i_coder *c, const uint8_t *words, uint32_t size) {
  uint32_t rest = size & 3, i;
  c->x = 0, c->words = words, c->left = size / 4;
  for (i = rest; i--;) c->x = c->x << 8 | words[c->left * 4 + i];
  for (i = rest ? 1 : 0; i < 2 && c->left; i++) c->x = c->x << 32 | mess_i_le32(words + 4 * --c->left);
}

/* The symbol of quantile q among the `step` symbols whose first sum is sums[place], and its sum and frequency. */
static uint32_t mess_i_among(mess_i_table *t, uint32_t place, uint32_t q, uint32_t *sum, uint32_t *frequency) {
  uint32_t from = place * t->step, end = t->size - from < t->step ? t->size : from + t->step, s = 0;
  uint32_t *own = t->sums + (t->size + t->step - 1) / t->step + 1;
  memset(own, 0, 4 * t->step);
  mess_i_weigh(t, from, end, 1, own);
  if (t->most - from < t->step) own[t->most - from] += t->extra;
  for (*sum = t->sums[place]; q - *sum >= own[s]; s++) *sum += own[s];
  *frequency = own[s];
  return from + s;
}

MESS_I_INLINE uint32_t mess_i_symbol(mess_i_coder *c, mess_i_table *t) {  /* clause 6.3 */
  uint32_t q = (uint32_t)c->x & (MESS_I_TOTAL - 1), s = 0, high = (t->size + t->step - 1) / t->step, sum = 0, frequency = 0;
  if (MESS_I_IS_FAST(MESS_FAST) && t->jump) {
    const uint64_t *jump = t->jump + ((uint32_t)c->x / (MESS_I_TOTAL / MESS_I_JUMPS) & (MESS_I_JUMPS - 1));
    s = (uint32_t)*jump & 0xFFFF, sum = (uint32_t)(*jump >> 16) & 0xFFFFFF, frequency = (uint32_t)(*jump >> 40);
    high = ((uint32_t)jump[1] & 0xFFFF) + 1;
  }
  if (!frequency) {
    while (high - s > 1) {
      uint32_t middle = (s + high) / 2;
      if (t->sums[middle] <= q) s = middle; else high = middle;
    }
    sum = t->sums[s], frequency = t->sums[s + 1] - sum;
    if (t->step > 1) {                 /* with copies, so that all else may stay in registers */
      mess_i_table copy = *t;
      uint32_t own_sum, own;
      s = mess_i_among(&copy, s, q, &own_sum, &own);
      sum = own_sum, frequency = own;
    }
  }
  c->x = (c->x >> 24) * frequency + (q - sum);
  if (!(c->x >> 32) && c->left) c->x = c->x << 32 | mess_i_le32(c->words + 4 * --c->left);
  return s;
}

/* ---- clause 8: streams ---- */

/* Where decoded integers go: as they are, in `width` bytes; as float32; or, with a step, times that (clause 9.1). */
typedef struct { uint8_t *at; uint32_t stride, width, step; int as_float; uint64_t below; uint64_t *work; } mess_i_sink;

static int mess_i_sunk(const mess_i_sink *sink, uint32_t i, int64_t value) {
  uint8_t *p = sink->at + (size_t)i * sink->stride;
  uint64_t magnitude = value < 0 ? ~(uint64_t)value + 1 : (uint64_t)value;
  if (sink->step) {
    uint32_t exponent = sink->step >> 23;
    mess_i_float x = (float)(int32_t)value;
    if (exponent >= 127 + 96 &&                /* it may be more than float32 holds */
        magnitude * ((sink->step & 0x7FFFFF) | 0x800000) > (uint64_t)0xFFFFFF << (254 - exponent)) return 0;
    x = x * mess_i_from_bits(sink->step);
    mess_i_store(p, mess_i_bits(x));
  } else if (sink->as_float) {
    mess_i_store(p, (uint32_t)mess_i_rounded(magnitude, 0, MESS_FLOAT32) | (value < 0 ? 0x80000000u : 0));
  } else {
    if (sink->below && (uint64_t)value >= sink->below) return 0;   /* clause 9.2: an index of no reference */
    mess_i_put(p, sink->width, (uint64_t)value);
  }
  return 1;
}

/* Clause 8.5: integers from low to high, put into the sink; with none only passed over. */
static int mess_i_integers(mess_i_reader *r, uint32_t count, int64_t low, int64_t high, const mess_i_sink *sink) {
  uint32_t coding = mess_i_byte(r), bits, lanes = 1, lane, i = 0, lengths, words, rest, end, length, total = 0, most;
  int64_t first = mess_i_zigzag(mess_i_varint(r, ~(uint64_t)0));
  uint64_t packed, room = (uint64_t)high - (uint64_t)first, above;
  mess_i_reader again;
  mess_i_table table;
  mess_i_coder coder;
  if (r->bad || first < low || first > high || coding > 2) return MESS_STREAM;
  if (!coding) {
    for (; sink && i < count; i++) if (!mess_i_sunk(sink, i, first)) return MESS_STREAM;
    return MESS_OK;
  }
  bits = mess_i_byte(r);
  if (coding == 1) r->table = r->at;
  if (!count || bits > 57 || !r->table || r->bad) return MESS_STREAM;
  again = *r;
  again.at = r->table;
  mess_i_read_table(coding == 1 ? r : &again, &table);
  if (r->bad || again.bad) return MESS_STREAM;
  if (count / 16384 > 1) lanes = (uint32_t)mess_i_varint(r, count / 16384);       /* clause 6.4 */
  lengths = r->at, most = (r->end - r->at) / 4;
  for (lane = 0; lane < lanes; lane++) total += (uint32_t)mess_i_varint(r, most - total);
  words = mess_i_skip(r, 4 * total);
  packed = (uint64_t)count * bits;
  rest = mess_i_skip(r, (packed + 7) / 8);
  if (r->bad || !lanes) return MESS_STREAM;
  if (!sink) return MESS_OK;
  if (packed % 8 && r->bytes[r->at - 1] >> packed % 8) return MESS_STREAM;
  if (table.size > 1) mess_i_build(&table, sink->work, r->fast && count >= MESS_I_JUMP_FROM);
  again.at = lengths;
  for (lane = 0; lane < lanes; lane++, words += 4 * length) {
    length = (uint32_t)mess_i_varint(&again, ~(uint64_t)0), end = (uint32_t)((uint64_t)count * (lane + 1) / lanes);
    mess_i_start(&coder, r->bytes + words, 4 * length);
    if (length && (table.size == 1 || !mess_i_le32(r->bytes + words + 4 * (length - 1)))) return MESS_STREAM;
    for (; i < end; i++) {
      above = table.size > 1 ? mess_i_symbol(&coder, &table) : 0;
      if (bits) {
        if (above >> (64 - bits)) return MESS_STREAM;
        above = above << bits | mess_i_packed(r->bytes + rest, i, bits);
      }
      if (above > room || !mess_i_sunk(sink, i, (int64_t)((uint64_t)first + above))) return MESS_STREAM;
    }
    if (coder.x || coder.left) return MESS_STREAM;
  }
  return MESS_OK;
}

static void mess_i_range(uint32_t dtype, int64_t *low, int64_t *high) {  /* clause 8.3 */
  *high = dtype == MESS_BOOL ? 1 : dtype == MESS_UINT8 ? 255 : (int64_t)(((uint64_t)1 << (8 * mess_i_width(dtype) - 1)) - 1);
  *low = dtype == MESS_BOOL || dtype == MESS_UINT8 ? 0 : -*high - 1;
}

/* Clauses 8.1 to 8.4 and 9.1. A stream of `count` numbers, each put `stride` bytes after the one before: as float32
 * (`as_float`, with `wide` for 8 bytes a number where it is float64), or as they are; with no `out` passed over. */
static int mess_i_stream(mess_i_reader *r, uint32_t count, int as_float, uint8_t *out, uint32_t stride, uint64_t *work,
                         uint8_t *wide) {
  uint32_t head = mess_i_byte(r), form = head & 3, dtype = head >> 2, width, plane, i, kept = r->table;
  int64_t low, high;
  mess_i_sink sink = {0};
  int error = 0;
  if (r->bad || form > 2 || dtype > 9 || (form == 2) != (form && dtype < 4) || (!form && dtype)) return MESS_STREAM;
  sink.at = out, sink.stride = stride, sink.work = work, sink.as_float = as_float;
  width = sink.width = mess_i_width(dtype);
  if (form < 2) {
    if (!form) {
      i = mess_i_skip(r, 4);
      if (!r->bad) sink.step = mess_i_le32(r->bytes + i);
      if (!sink.step || sink.step >= 0x7F800000u) return MESS_STREAM;
    }
    mess_i_range(form ? dtype : MESS_INT32, &low, &high);
    return mess_i_integers(r, count, low, high, out ? &sink : 0);
  }
  if (!as_float || dtype != MESS_FLOAT64) wide = out;
  else sink.stride = 8;
  sink.width = 1, sink.as_float = 0, r->table = 0;
  for (plane = 0; plane < width && !error; plane++) {
    if (out) sink.at = wide + MESS_I_BYTE(plane, width);
    error = mess_i_integers(r, count, 0, 255, out ? &sink : 0);
  }
  r->table = kept;
  for (i = 0; out && i < count && !error; i++) {
    uint64_t bits = mess_i_get(wide + (size_t)i * sink.stride, width);
    if (!r->any && !mess_i_finite(bits, dtype)) error = MESS_STREAM;
    if (as_float) mess_i_store(out + (size_t)i * stride, (uint32_t)mess_i_converted(bits, dtype, MESS_FLOAT32));
  }
  return error;
}

/* ---- clause 5: what there is ---- */

static const char *const mess_i_parts[6] = {".", ".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked"};

static mess_i_name mess_i_named(const mess_file *f, uint32_t item, uint32_t part) {
  const mess_i_item *x = &f->items[item];
  return mess_i_json(f, x->name, x->name_end, part ? mess_i_parts[part] + (x->name == x->name_end) : 0);
}

static uint32_t mess_i_search(const mess_file *f, mess_i_name name) {
  uint32_t low = 0, high = f->count;
  for (; MESS_I_IS_FAST(MESS_FAST) && f->flags & MESS_ANY_ORDER && low < high; low++)
    if (!mess_i_compare(mess_i_named(f, low, 0), name)) return low;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    int side = mess_i_compare(mess_i_named(f, middle, 0), name);
    if (!side) return middle;
    if (side < 0) low = middle + 1; else high = middle;
  }
  return MESS_I_END;
}

/* Finds a tensor, also a part of a BatchNorm layer (clause 9.3), or the layer itself. */
static uint32_t mess_i_lookup(const mess_file *f, mess_i_name name, uint32_t *part) {
  uint32_t found = mess_i_search(f, name);
  ptrdiff_t length = name.end - name.at;
  for (*part = 0; found == MESS_I_END && *part < 5;) {
    mess_i_name suffix = mess_i_plain(mess_i_parts[++*part]), prefix = name;
    ptrdiff_t n = suffix.end - suffix.at;
    if (length == n - 1) n--, suffix.at++;                         /* the layer has no name */
    if (length < n || memcmp(name.end - n, suffix.at, (size_t)n)) continue;
    prefix.end -= n;
    found = mess_i_search(f, prefix);
    if (found != MESS_I_END && (f->items[found].kind != 'B' || *part >= 5u + f->items[found].special)) found = MESS_I_END;
  }
  return found;
}

/* Clause 5.1: finds the values of the manifest by their keys. */
static int mess_i_keys(const mess_file *f, uint32_t *value) {
  static const char *const keys[8] = {"scheme", "books", "tensors", "network", "eps", "layout", "kinds", "ties"};
  uint32_t at = mess_i_space(f, 0), end = mess_i_value(f, 0, 16), from, key;
  memset(value, 0, 8 * sizeof *value);
  if (!end || mess_i_space(f, end) != f->text_size || f->text[at] != '{') return 0;
  for (at = mess_i_space(f, at + 1); f->text[at] == '"'; at = mess_i_after(f, value[key])) {
    from = at + 1, at = mess_i_string(f, from);
    for (key = 0; key < 8; key++) if (!mess_i_compare(mess_i_json(f, from, at, 0), mess_i_plain(keys[key]))) break;
    if (key == 8 || value[key]) return 0;
    value[key] = mess_i_space(f, mess_i_space(f, at + 1) + 1);
  }
  return value[0] && f->text[value[0]] == '{' && value[1] && f->text[value[1]] == '[' &&
         (!value[3] || f->text[value[3]] == '{' || f->text[value[3]] == 'n') && (!value[4] || f->text[value[4]] == '[');
}

/* A number from 0 below 1 with a point or an exponent, in units of 2^-52, halves to even; 2^64 - 1 for none. */
static uint64_t mess_i_eps(const mess_file *f, uint32_t at) {
  uint32_t end = mess_i_value(f, at, 16), is_float = 0, i;
  int scale = 0, behind = 0, exponent = 0, down, minus = f->text[at] == '-';
  uint64_t d = 0, power = 1, x = 0;
  if (!minus && (uint32_t)f->text[at] - '0' > 9) return ~(uint64_t)0;
  for (at += (uint32_t)minus; at < end && (f->text[at] | 32) != 'e'; at++) {
    if (f->text[at] == '.') { behind = is_float = 1; continue; }
    if (d < 1000000000000000000u) d = d * 10 + (f->text[at] - '0'), scale -= behind;    /* 19 digits */
    else scale += !behind;
  }
  if (at < end) {
    is_float = 1, down = f->text[at + 1] == '-';
    for (at += 1 + (down || f->text[at + 1] == '+'); at < end; at++)
      if (exponent < 1000) exponent = exponent * 10 + (f->text[at] - '0');
    scale += down ? -exponent : exponent;
  }
  if (!is_float || (d && (minus || scale >= 0))) return ~(uint64_t)0;
  for (; d && scale < -18; scale++) d /= 10;
  for (; d && scale < 0; scale++) power *= 10;
  if (d >= power) return ~(uint64_t)0;
  for (i = 0; i < 52; i++) {
    d *= 2, x *= 2;
    if (d >= power) d -= power, x++;
  }
  return x + (2 * d > power || (2 * d == power && (x & 1)));
}

/* Clause 9.3: float32 of the float64 root of 1 + eps, in integers. */
static float mess_i_root(const mess_file *f, uint32_t number) {
  uint64_t x, root = 0, rest = 0;
  uint32_t at = mess_i_first(f, f->eps_at);
  int i;
  while (number--) at = mess_i_after(f, at);
  x = ((uint64_t)1 << 52) + mess_i_eps(f, at);
  for (i = 52; i >= 0; i--) {
    rest = rest << 2 | (i >= 26 ? x >> (2 * i - 52) & 3 : 0);
    root <<= 1;
    if (rest > 2 * root) rest -= 2 * root + 1, root |= 1;
  }
  return mess_i_from_bits((uint32_t)mess_i_rounded(root + (rest > root), -52, MESS_FLOAT32));
}

/* Clause 5.3: a shape; its numbers, at most 2^48, and dimensions. */
static int mess_i_shape(const mess_file *f, uint32_t at, uint64_t *shape, uint32_t *dims, uint64_t *count) {
  int64_t d;
  uint32_t i;
  *dims = 0, *count = 1;
  if (f->text[at] != '[') return 0;
  for (at = mess_i_first(f, at); at; at = mess_i_after(f, at)) {
    if (*dims == 8 || !mess_i_integer(f, at, &d) || d < 0 || d > (int64_t)1 << 40) return 0;
    shape[(*dims)++] = (uint64_t)d;
    if (!d) *count = 0;
  }
  for (i = 0; i < *dims && *count; i++) {
    if (shape[i] > ((uint64_t)1 << 48) / *count) return 0;
    *count *= shape[i];
  }
  return 1;
}

/* The shape of a row, or the name that it is tied to: the third cell. */
static uint32_t mess_i_third(const mess_file *f, const mess_i_item *x) {
  return mess_i_after(f, mess_i_after(f, x->name - 1));
}

/* Clauses 5.2 and 5.3: a row of `tensors`. */
static int mess_i_row(mess_file *f, uint32_t at, mess_i_item *x, uint32_t eps_count) {
  uint32_t cells[5], n = 0, length = 0, c, dims;
  uint64_t shape[8], count;
  int64_t dtype;
  mess_i_name s;
  memset(x, 0, sizeof *x);
  if (f->text[at] != '[') return MESS_MANIFEST;
  for (at = mess_i_first(f, at); at && n < 5; at = mess_i_after(f, at)) cells[n++] = at;
  if (n < 3 || n > 4 || f->text[cells[0]] != '"' || f->text[cells[1]] != '"') return MESS_MANIFEST;
  x->name = cells[0] + 1;
  x->name_end = mess_i_string(f, x->name);
  for (s = mess_i_json(f, x->name, x->name_end, 0); (c = mess_i_next(&s)) != MESS_I_END; length++)
    if (c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0xD800 && c < 0xE000)) return MESS_MANIFEST;
  if (length > 1024) return MESS_MANIFEST;
  s = mess_i_json(f, cells[1] + 1, mess_i_string(f, cells[1] + 1), 0);
  c = mess_i_next(&s);
  if (!mess_i_is_one_of(c, "PMCEBbT")) return MESS_MANIFEST;
  x->kind = (uint8_t)c;
  for (length = 0; (c = mess_i_next(&s)) != MESS_I_END; length++) {
    if (c - '0' > 9 || length == 6) return MESS_MANIFEST;
    x->book = x->book * 10 + c - '0';
  }
  if ((x->kind == 'P' || x->kind == 'T') != !length) return MESS_MANIFEST;
  if (x->kind == 'T') return n == 3 && f->text[cells[2]] == '"' ? MESS_OK : MESS_MANIFEST;
  if (n < 4 || !mess_i_integer(f, cells[3], &dtype) || dtype < 0 || dtype > 9 ||
      !mess_i_shape(f, cells[2], shape, &dims, &count)) return MESS_MANIFEST;
  if (count > MESS_MAX_BYTES) return MESS_TOO_LARGE;
  x->dtype = (uint8_t)dtype, x->count = (uint32_t)count;
  if (dims && shape[0] <= MESS_MAX_BYTES) x->rows = (uint32_t)shape[0];
  if (x->kind == 'B' || x->kind == 'b') {
    if (x->book >= eps_count || dims != 1 || dtype) return MESS_MANIFEST;
    x->special = x->kind == 'B';
    x->kind = 'B';
  }
  return MESS_OK;
}

/* Clause 5.5: a row of `books`, and how the tensor is cut that it stands for. */
static int mess_i_book_row(mess_file *f, uint32_t at, mess_i_book *b) {
  int64_t number;
  uint32_t n[5], i = 0;
  memset(b, 0, sizeof *b);
  if (f->text[at] != '[') return MESS_MANIFEST;
  for (at = mess_i_first(f, at); at && i < 5; at = mess_i_after(f, at), i++) {
    int64_t end = i ? (int64_t)1 << 40 : (int64_t)f->count;
    if (!mess_i_integer(f, at, &number) || number < (i ? 0 : -1) || number >= end) return MESS_MANIFEST;
    if (i == 4 && number > (int64_t)MESS_MAX_BYTES) return MESS_TOO_LARGE;
    n[i] = number >> 32 ? 0xFFFFFFFF : (uint32_t)number;
  }
  if (at || i != 5 || !n[1] || !n[2] || n[3] > 1 || (n[0] != 0xFFFFFFFF) == (n[4] > 0) || n[4] % n[1]) return MESS_MANIFEST;
  b->source = (int32_t)n[0], b->by_row = n[3], b->row = b->numbers = n[4], b->unit = n[1], b->stride = n[2];
  if (b->source < 0) {
    b->stride = b->unit, b->count = b->in_row = b->numbers / b->unit;
  } else {
    mess_i_item *x = &f->items[b->source];
    if (x->kind != 'P') return MESS_MANIFEST;
    x->special = 1;
    b->numbers = x->count, b->row = b->by_row && x->rows ? x->count / x->rows : x->count;
    b->in_row = b->row >= b->unit ? (b->row - b->unit) / b->stride + 1 : 0;
    b->count = b->row ? b->numbers / b->row * b->in_row : 0;
  }
  return MESS_OK;
}

/* Clause 5.5: numbers a row of a tensor that is cut by a codebook's rule; its units; where a reference begins. */
static uint32_t mess_i_row_of(const mess_i_item *x, const mess_i_book *b) {
  return b->by_row && x->rows ? x->count / x->rows : x->count;
}
static uint32_t mess_i_units(const mess_i_item *x, const mess_i_book *b) {
  uint32_t row = mess_i_row_of(x, b);
  return row ? x->count / row * (row / b->unit + (row % b->unit != 0)) : 0;
}
static uint32_t mess_i_columns(const mess_i_item *x, const mess_i_book *b) {   /* clause 10.1 */
  return x->rows ? x->count / x->rows / b->unit : 0;
}
static size_t mess_i_reference(const mess_i_book *b, uint32_t index) {
  return (size_t)(index / b->in_row) * b->row + (size_t)(index % b->in_row) * b->stride;
}

/* Clauses 5.3, 9.3, 9.4 and 10.1: whether a tensor fits the others and its codebook. */
static int mess_i_fits(mess_file *f, uint32_t item, uint64_t *total) {
  mess_i_item *x = &f->items[item];
  const mess_i_book *b = &f->books[x->book < f->books_count ? x->book : 0];
  uint64_t shape[8], count;
  uint32_t at, part, dims;
  if (x->kind == 'T') {
    at = mess_i_third(f, x) + 1;
    x->book = mess_i_lookup(f, mess_i_json(f, at, mess_i_string(f, at), 0), &part);
    x->part = (uint8_t)part;
    if (x->book == MESS_I_END || f->items[x->book].kind == 'T' || (f->items[x->book].kind == 'B' && !part)) return MESS_MANIFEST;
    *total += (uint64_t)f->items[x->book].count * mess_i_width(f->items[x->book].dtype);
  } else if (x->kind == 'B') {
    for (part = 1; !(f->flags & MESS_ANY_ORDER) && part < 5u + x->special; part++) {
      uint32_t same = mess_i_search(f, mess_i_named(f, item, part));
      if (same != MESS_I_END && f->items[same].kind != 'B') return MESS_MANIFEST;
    }
  } else if (x->kind != 'P') {
    if (x->book >= f->books_count || x->dtype > MESS_FLOAT64 || !b->count) return MESS_MANIFEST;
    if (x->kind != 'E') {
      *total += (x->kind == 'M' ? 12 : 4) * (uint64_t)mess_i_units(x, b);
      return MESS_OK;
    }
    mess_i_shape(f, mess_i_third(f, x), shape, &dims, &count);
    for (count = 1 % b->unit, part = 1; part < dims; part++) count = count * (shape[part] % b->unit) % b->unit;
    if (!dims || count) return MESS_MANIFEST;
    count = (uint64_t)x->rows * mess_i_columns(x, b) * b->count;
    if (shape[0] > MESS_MAX_BYTES || count > MESS_MAX_BYTES) return MESS_TOO_LARGE;
    *total += 4 * (count + b->count);
    f->sums_count++;
  }
  return MESS_OK;
}

/* Clauses 5.1 to 5.5: books and tensors, and that they fit together. */
static int mess_i_contents(mess_file *f, mess_i_arena *arena) {
  uint32_t value[8], at, i, eps_count = 0;
  uint64_t total = 0;
  int error = 0;
  if (!mess_i_keys(f, value)) return MESS_MANIFEST;
  for (f->eps_at = value[4], at = value[4] ? mess_i_first(f, value[4]) : 0; at; at = mess_i_after(f, at), eps_count++)
    if (mess_i_eps(f, at) == ~(uint64_t)0) return MESS_MANIFEST;
  if (!value[2]) return value[3] && f->text[value[3]] == '{' ? MESS_NAMED : MESS_MANIFEST;
  if (value[5] || value[6] || value[7] || f->text[value[2]] != '[') return MESS_MANIFEST;
  for (at = mess_i_first(f, value[2]); at; at = mess_i_after(f, at)) f->count++;
  for (at = mess_i_first(f, value[1]); at; at = mess_i_after(f, at)) f->books_count++;
  if (f->count > 1u << 20 || f->books_count > 1u << 20) return MESS_MANIFEST;
  f->items = (mess_i_item *)mess_i_take(arena, f->count, sizeof *f->items);
  f->books = (mess_i_book *)mess_i_take(arena, f->books_count, sizeof *f->books);
  if (!arena->at) return MESS_MEMORY;
  for (i = 0, at = mess_i_first(f, value[2]); at && !error; at = mess_i_after(f, at), i++) {
    mess_i_item *x = &f->items[i];
    error = mess_i_row(f, at, x, eps_count);
    if (!error && i && !(f->flags & MESS_ANY_ORDER) && mess_i_compare(mess_i_named(f, i - 1, 0), mess_i_named(f, i, 0)) >= 0)
      error = MESS_MANIFEST;
    if (x->kind != 'T') total += (uint64_t)x->count * (x->kind == 'B' ? 16 : mess_i_width(x->dtype));
  }
  for (i = 0, at = mess_i_first(f, value[1]); at && !error; at = mess_i_after(f, at), i++) {
    error = mess_i_book_row(f, at, &f->books[i]);
    if (f->books[i].source < 0) total += 4 * (uint64_t)f->books[i].numbers;
  }
  for (i = 0; i < f->count && !error; i++) {
    error = mess_i_fits(f, i, &total);
    if (!error && total > MESS_MAX_BYTES) error = MESS_TOO_LARGE;
  }
  return error ? error : total > MESS_MAX_BYTES ? MESS_TOO_LARGE : MESS_OK;
}

/* Memory for a table of so many sums, and, with MESS_FAST, where they jump. */
static uint64_t *mess_i_work(const mess_file *f, uint32_t sums, mess_i_arena *arena) {
  return (uint64_t *)mess_i_take(arena, sums + (MESS_I_IS_FAST(f->flags) ? 2 * (MESS_I_JUMPS + 1) : 0), 4);
}

/* Reads from `at`; streams decode with a table that stands at `table` before any of their own. */
static mess_i_reader mess_i_read(const mess_file *f, uint32_t at, uint32_t end, uint32_t table) {
  mess_i_reader r;
  r.bytes = f->bytes, r.at = at, r.end = end, r.table = table, r.largest = 0, r.bad = r.any = 0, r.fast = MESS_I_IS_FAST(f->flags) != 0;
  return r;
}

/* Clause 5.6: the section of an item's stream j; 0 if it has none. */
static uint32_t mess_i_section(const mess_i_item *x, uint32_t j) {
  if (x->kind == 'P') return j ? 0 : x->special ? MESS_I_REFERENCES : MESS_I_TENSORS;
  if (x->kind == 'B') return j < 2 ? MESS_I_NORMS : 0;
  return j < 3 && (x->kind == 'M' || (x->kind == 'C' && !j)) ? MESS_I_INDICES + j : 0;
}

/* Clause 5.6: passes over all streams and notes where each starts. */
static int mess_i_streams(mess_file *f) {
  mess_i_reader readers[8], *r;
  uint32_t i, j;
  int error = 0;
  for (i = 2; i < 8; i++) readers[i] = mess_i_read(f, f->start[i], f->end[i], 0), readers[i].largest = &f->largest_table;
  for (i = 0; i < f->books_count && !error; i++) {
    mess_i_book *b = &f->books[i];
    r = &readers[MESS_I_REFERENCES];
    b->stream.at = r->at, b->stream.table = r->table;
    if (b->source < 0) error = mess_i_stream(r, b->numbers, 1, 0, 4, 0, 0);
  }
  for (i = 0; i < f->count && !error; i++) {
    mess_i_item *x = &f->items[i];
    for (j = 0; mess_i_section(x, j) && !error; j++) {
      r = &readers[mess_i_section(x, j)];
      x->stream[j].at = r->at, x->stream[j].table = r->table;
      error = mess_i_stream(r, mess_i_section(x, 0) == MESS_I_INDICES ? mess_i_units(x, &f->books[x->book]) : x->count, 1, 0, 4, 0, 0);
    }
    /* indices are integers (clause 9.2), and so are the numbers of integer tensors (clause 9.4) */
    if (!error && mess_i_section(x, 0) == MESS_I_INDICES && (f->bytes[x->stream[0].at] & 3) != 1) error = MESS_STREAM;
    if (!error && x->kind == 'P' && x->dtype > MESS_FLOAT64 && f->bytes[x->stream[0].at] != (x->dtype << 2 | 1)) error = MESS_STREAM;
  }
  for (i = 0; i < f->books_count && !error; i++)
    if (f->books[i].source >= 0) f->books[i].stream = f->items[f->books[i].source].stream[0];
  for (i = 2; i < 8 && !error; i++) if (readers[i].at != readers[i].end) error = MESS_STREAM;
  return error;
}

/* ---- clause 10: the head of the sums of references ---- */

/* Decodes what comes next: `n` float32 (clause 8.4), or, from low to high, bytes (clause 8.5). Free memory serves for tables. */
static int mess_i_head(mess_file *f, mess_i_reader *r, uint32_t n, int low, int high, void *out, const mess_i_arena *arena) {
  mess_i_reader first = *r;
  mess_i_arena spare = *arena;
  mess_i_sink sink = {0};
  uint32_t sums = 2;
  int pass, error = 0;
  *r = mess_i_read(f, r->at, r->end, 0);
  first.largest = &sums, first.table = 0;
  for (pass = 0; pass < 2 && !error; pass++) {
    if (pass) {
      sink.at = (uint8_t *)out, sink.stride = sink.width = 1;
      sink.work = mess_i_work(f, sums, &spare);
      if (spare.need > f->need) f->need = spare.need;
      if (!sink.work) return MESS_MEMORY;
    }
    if (low == high) error = mess_i_stream(pass ? r : &first, n, 0, sink.at, 4, sink.work, 0);
    else error = mess_i_integers(pass ? r : &first, n, low, high, pass ? &sink : 0);
  }
  return error;
}

static uint32_t mess_i_axes(const mess_file *f, const mess_i_item *x) {
  return (uint32_t)f->told[MESS_I_AXES][x->stream[1].table];
}

/* Clauses 10.9 and 10.10: how many exponents, or levels, the axes of a tensor have. */
static uint32_t mess_i_along(const mess_i_item *x, const mess_i_book *b, uint32_t axes) {
  return (axes & 1 ? x->rows : 0) + (axes & 2 ? mess_i_columns(x, b) : 0) + (axes & 4 ? b->count : 0);
}

/* Clause 10.2. Of a sum, stream[0] gets its lane and how long it is, stream[1] its levels of terms and its place, stream[2] its
 * exponents and its levels of rows and columns. */
static int mess_i_sums(mess_file *f, mess_i_arena *arena) {
  static const int8_t ranges[6][3] = {   /* the first coder that has it, the lowest and the highest number */
    {1, 0, 0}, {2, 0, 31}, {2, -64, 63}, {1, -96, 96}, {3, -64, 63}, {3, 0, 48}};
  mess_i_reader r = mess_i_read(f, f->start[MESS_I_EXPANSIONS], f->end[MESS_I_EXPANSIONS], 0);
  uint32_t n = f->sums_count, counts[6] = {0}, coder = f->coder[MESS_I_EXPANSIONS], integers = 0, place = 0, ready = 0, i, k, what;
  mess_i_table table;
  int error;
  if (!n) return r.at == r.end ? MESS_OK : MESS_STREAM;
  if (r.at == r.end || f->bytes[r.at] != 2) return MESS_STREAM;           /* planes of float32 */
  counts[MESS_I_STEPS] = counts[MESS_I_AXES] = counts[MESS_I_TRELLISES] = n;
  for (what = 0; what < 6; what++) {
    int8_t *out;
    for (; ready < (what < 2 ? 2 : 6); ready++) f->told[ready] = (int8_t *)mess_i_take(arena, counts[ready], ready ? 1 : 4);
    out = f->told[what];
    if (coder >= (uint32_t)ranges[what][0]) {
      if ((error = mess_i_head(f, &r, counts[what], ranges[what][1], ranges[what][2], out, arena)) != 0) return error;
    } else if (what == MESS_I_AXES) {
      memset(out, 0, n);
    }
    for (i = 0; i < f->count && what == MESS_I_AXES; i++) {
      mess_i_item *x = &f->items[i];
      const mess_i_book *b = &f->books[x->book];
      uint32_t axes, columns;
      if (x->kind != 'E') continue;
      columns = mess_i_columns(x, b), axes = (uint32_t)out[place];
      if (mess_i_load(f->told[MESS_I_STEPS] + 4 * place) - 1 >= 0x7F7FFFFFu ||
          (axes && (!x->rows || !columns || (axes > 7 && coder < 3)))) return MESS_STREAM;
      if (b->count > MESS_MAX_BYTES - counts[MESS_I_LEVELS]) return MESS_TOO_LARGE;
      integers |= x->rows && columns;
      x->stream[1].at = counts[MESS_I_LEVELS], x->stream[1].table = place++;
      x->stream[2].at = counts[MESS_I_EXPONENTS], x->stream[2].table = counts[MESS_I_SIDES];
      counts[MESS_I_LEVELS] += b->count;
      counts[MESS_I_EXPONENTS] += mess_i_along(x, b, axes);     /* not more than integers, but for two a tensor */
      counts[MESS_I_SIDES] += mess_i_along(x, b, axes >> 3);
    }
  }
  for (i = 0; i < f->count; i++) {                                         /* changes become levels */
    const mess_i_item *x = &f->items[i];
    int8_t *levels = f->told[MESS_I_LEVELS];
    uint32_t count = x->kind == 'E' ? f->books[x->book].count : 0, before = i;
    while (count && before && !(f->items[before - 1].kind == 'E' && f->books[f->items[before - 1].book].count == count)) before--;
    for (k = 0; k < count; k++) {
      int level = levels[x->stream[1].at + k] + (before ? levels[f->items[before - 1].stream[1].at + k] : 48);
      if (level < 0 || level > 95) return MESS_STREAM;
      levels[x->stream[1].at + k] = (int8_t)level;
    }
  }
  k = mess_i_skip(&r, 6);
  if (r.bad) return MESS_STREAM;
  f->mask = mess_i_le32(f->bytes + k) | (uint64_t)f->bytes[k + 4] << 32 | (uint64_t)f->bytes[k + 5] << 40;
  if (!f->mask && integers) return MESS_STREAM;
  for (i = 0; i < 48; i++) f->clusters_count += f->mask >> i & 1;
  f->clusters = (mess_i_cluster *)mess_i_take(arena, f->clusters_count, sizeof *f->clusters);
  if (!arena->at) return MESS_MEMORY;
  r.largest = &f->largest_table;
  for (i = 0; i < f->clusters_count; i++) {
    int32_t low = (int32_t)mess_i_zigzag(mess_i_varint(&r, (1 << 17) - 1));
    f->clusters[i].low = low, f->clusters[i].at = r.at;
    mess_i_read_table(&r, &table);
    if (r.bad || low < -32767 || low + (int32_t)table.size - 1 > 32767) return MESS_STREAM;
  }
  for (i = k = 0; i < f->count; i++) {
    mess_i_item *x = &f->items[i];
    if (x->kind == 'E') x->stream[0].at = k, k += x->stream[0].table = (uint32_t)mess_i_varint(&r, r.end - k);
  }
  f->lanes = r.at;
  return r.bad || k != r.end - r.at ? MESS_STREAM : MESS_OK;
}

/* ---- clauses 9 and 10: tensors ---- */

typedef struct { size_t from; int32_t exponent; float coefficient; } mess_i_term;   /* of a sum; from: its reference */
typedef struct {                 /* what lies in the scratch of a tensor */
  uint64_t *work, *sums;         /* for a table; of magnitudes, of each row and column, octaves of them behind, or those alone */
  uint8_t *wide, *units, *planes;
  float *book, *floats, *steps;
  mess_i_term *terms;
  int lowest, count;             /* of the sums of exponents; steps */
} mess_i_plan;

/* How many of a stream's numbers need eight bytes on their way to float32. */
static uint32_t mess_i_wide(const mess_file *f, mess_i_place stream, uint32_t count) {
  return f->bytes[stream.at] == (MESS_FLOAT64 << 2 | 2) ? count : 0;
}

/* A stream as float32. */
static int mess_i_floats(const mess_file *f, mess_i_place stream, uint32_t count, void *out, uint32_t stride, mess_i_plan *p) {
  mess_i_reader r = mess_i_read(f, stream.at, f->size, stream.table);
  return mess_i_stream(&r, count, 1, (uint8_t *)out, stride, p->work, p->wide);
}

/* MESS_FAST: references as floats, and the tables of section 8, ready for all that is decoded. */
static int mess_i_prepare(mess_file *f, mess_i_arena *arena) {
  uint32_t i;
  for (i = 0; i < f->books_count; i++) {
    mess_i_book *b = &f->books[i];
    float *ready = (float *)mess_i_take(arena, b->numbers, 4);
    mess_i_arena spare = *arena;
    mess_i_plan p = {0};
    int error;
    p.work = mess_i_work(f, f->largest_table, &spare);
    p.wide = (uint8_t *)mess_i_take(&spare, mess_i_wide(f, b->stream, b->numbers), 8);
    if (spare.need > f->need) f->need = spare.need;
    if (!spare.at) { arena->at = 0; continue; }
    if ((error = mess_i_floats(f, b->stream, b->numbers, ready, 4, &p)) != 0) return error;
    b->ready = ready;
  }
  f->ready = (mess_i_table *)mess_i_take(arena, f->clusters_count, sizeof *f->ready);
  for (i = 0; i < f->clusters_count; i++) {
    mess_i_reader r = mess_i_read(f, f->clusters[i].at, f->size, 0);
    mess_i_table table;
    uint64_t *memory;
    mess_i_read_table(&r, &table);
    memory = (uint64_t *)mess_i_take(arena, 2 * (MESS_I_JUMPS + 1) + table.size + 1, 4);
    if (!memory) continue;
    mess_i_build(&table, memory, 1);
    f->ready[i] = table;
  }
  return arena->at ? MESS_OK : MESS_MEMORY;
}

/* Clause 10.9: how many sums of exponents there may be, from the lowest on; 1 if the tensor has no exponents. */
static uint32_t mess_i_spread(const mess_file *f, const mess_i_item *x, int *lowest) {
  uint32_t axes = mess_i_axes(f, x), axis, i, n;
  const int8_t *own = f->told[MESS_I_EXPONENTS] + x->stream[2].at;
  int highest = *lowest = 0;
  for (axis = 1; axis < 8; axis *= 2) {
    int low = 63, high = -64;
    for (i = 0, n = mess_i_along(x, &f->books[x->book], axes & axis); i < n; i++, own++) {
      if (*own < low) low = *own;
      if (*own > high) high = *own;
    }
    if (n) *lowest += low, highest += high;
  }
  return (uint32_t)(highest - *lowest + 1);
}

/* Whether indices, scales and offsets fit behind the numbers that are not written yet. */
static int mess_i_in_place(const mess_i_item *x, const mess_i_book *b) {
  uint32_t row = mess_i_row_of(x, b);
  return row && row % b->unit == 0 && b->unit >= (x->kind == 'M' ? 3u : 1u);
}

/* Clause 9.4: whether a tensor's numbers are those of its stream, as they are. */
static int mess_i_is_raw(const mess_file *f, const mess_i_item *x) {
  uint32_t head = f->bytes[x->stream[0].at];
  return x->kind == 'P' && (head & 3) && head >> 2 == x->dtype;
}

/* What a tensor's decoding takes, from the arena: `need` counts. */
static void mess_i_plan_of(const mess_file *f, const mess_tensor *t, mess_i_arena *arena, mess_i_plan *p) {
  const mess_i_item *x = &f->items[t->item];
  const mess_i_book *b = 0;
  uint32_t wide = 0, floats = 0, n = x->count, more, j, raw = (uint32_t)mess_i_is_raw(f, x);
  memset(p, 0, sizeof *p);
  if (x->kind == 'B' && t->part > 2) return;
  if (x->kind == 'M' || x->kind == 'C' || x->kind == 'E') b = &f->books[x->book];
  if (b && x->kind != 'E') n = mess_i_units(x, b);
  if (b && !b->ready) wide = mess_i_wide(f, b->stream, b->numbers);
  if (!raw && x->dtype != MESS_FLOAT32) floats = x->count;
  for (j = 0; !raw && mess_i_section(x, j); j++) {
    more = mess_i_wide(f, x->stream[j], n);
    if (more > wide) wide = more;
  }
  p->work = mess_i_work(f, f->largest_table, arena);
  p->wide = (uint8_t *)mess_i_take(arena, wide, 8);
  if (b && !b->ready) p->book = (float *)mess_i_take(arena, b->numbers, 4);
  if (x->kind == 'E') {
    uint32_t columns = mess_i_columns(x, b), cells = x->rows * columns, told = f->coder[MESS_I_EXPANSIONS] == 3;
    if (MESS_I_IS_FAST(f->flags)) p->planes = (uint8_t *)mess_i_take(arena, cells * b->count, 4);
    else if (floats || b->count > b->unit) floats = cells * (b->count > b->unit ? b->count : b->unit);
    p->sums = (uint64_t *)mess_i_take(arena, x->rows + (told ? 2 : 1) * columns, told ? 1 : 9);
    p->terms = (mess_i_term *)mess_i_take(arena, b->count, sizeof *p->terms);
    p->count = (int)mess_i_spread(f, x, &p->lowest);
    p->steps = (float *)mess_i_take(arena, (uint32_t)p->count, 4);
  } else if (b && !mess_i_in_place(x, b)) {
    p->units = (uint8_t *)mess_i_take(arena, n, 12);
  }
  if (floats) p->floats = (float *)mess_i_take(arena, floats, 4);
}

static uint32_t mess_i_octave(uint64_t sum, uint32_t n, uint64_t total) {  /* clause 10.4; h + 14 */
  static const int16_t edges[34] = {7, 8, 9, 11, 13, 15, 18, 21, 25, 30, 35, 42, 50, 59, 70, 83, 99, 118, 140, 166, 198,
                                    235, 280, 332, 395, 470, 559, 664, 790, 940, 1117, 1328, 1580, 1879};
  uint64_t x = sum * 64 * n / total + 6;
  int16_t small = (int16_t)(x < 2000 ? x : 2000), found = 0;
  uint32_t i;
  for (i = 0; i < 34; i++) found = (int16_t)(found + (edges[i] <= small));
  return (uint32_t)found;
}

/* Clauses 10.4, 10.5 and 10.10: which table stands for a level and a sum of octaves, `even` of which leave the level as it is. */
static void mess_i_tables(const mess_file *f, int level, int even, uint8_t *of_sum) {
  int context, seen = 0, i;
  uint32_t n = 0;
  for (i = 0; i < 256; i++) {
    context = level + i - even;
    context = context < 0 ? 0 : context > 95 ? 47 : context / 2;
    for (; seen <= context; seen++) n += f->mask >> seen & 1;
    of_sum[i] = (uint8_t)(n ? n - 1 : 0);
  }
}

/* Adds the magnitudes of a row's integers to the sums of its columns, and returns their sum. */
MESS_I_INLINE uint64_t mess_i_magnitudes(const uint8_t *slot, size_t stride, uint64_t *sums, uint32_t columns) {
  uint64_t sum = 0;
  uint32_t c;
  for (c = 0; c < columns; c++, slot += stride) {
    int32_t q = (int32_t)mess_i_load(slot);
    uint32_t magnitude = (uint32_t)(q < 0 ? -q : q);
    sum += magnitude;
    sums[c] += magnitude;
  }
  return sum;
}

/* Gives each row, then each column, its number of those told, if its axis has any, plus 64; returns what is left of those told. */
static const int8_t *mess_i_sides(const int8_t *told, uint32_t axes, uint32_t rows, uint32_t columns, uint8_t *out) {
  uint32_t i;
  for (i = 0; i < rows + columns; i++) *out++ = (uint8_t)(64 + (axes & (i < rows ? 1 : 2) ? *told++ : 0));
  return told;
}

/* Clause 10.12: what a row of indices stands for; those of columns whose octaves are below `from` are no steps of trellises.
 * Behind the octaves are the bits of each column's trellis, the last lowest. */
MESS_I_INLINE void mess_i_trellises(uint8_t *slot, size_t stride, uint8_t *octaves, uint32_t columns, int from) {
  uint8_t *bits = octaves + columns;
  uint32_t c;
  for (c = 0; c < columns; c++) {     /* without branches, so that compilers make vectors of it */
    uint32_t q = mess_i_load(slot + c * stride), before = bits[c];
    uint32_t step = (uint32_t)(from - 1 - octaves[c]) >> 31, sign = 0 - (step & before);
    mess_i_store(slot + c * stride, ((4 * q + step) ^ sign) - sign);
    bits[c] = (uint8_t)(before + (before & (0 - step)) + ((q ^ before >> 1 ^ before >> 2) & step));
  }
}

/* Clauses 10.3 to 10.7 and 10.10 to 10.12. Integer k of unit i, an int32, goes to all + i * stride + k * apart. Until it is
 * decoded, that is where the place of the next unit stands whose integer has the same table: lists that need no memory. */
static int mess_i_sum_integers(const mess_file *f, const mess_i_item *x, mess_i_plan *p, uint32_t columns, uint32_t terms,
                               uint8_t *all, size_t stride, size_t apart) {
  uint32_t rows = x->rows, told = f->coder[MESS_I_EXPANSIONS] == 3, stage, i, r, c, tables = f->clusters_count;
  uint64_t total = 0;
  mess_i_table built;
  mess_i_coder coder, now;
  const uint8_t *lane = f->bytes + f->lanes + x->stream[0].at;
  uint8_t *octaves = (uint8_t *)p->sums + (told ? 0 : 8 * ((size_t)rows + columns)), *of_column = octaves + rows;
  if (x->stream[0].table && !lane[x->stream[0].table - 1]) return MESS_STREAM;
  mess_i_start(&coder, lane, x->stream[0].table);
  if (told) mess_i_sides(f->told[MESS_I_SIDES] + x->stream[2].table, mess_i_axes(f, x) >> 3, rows, columns, octaves);
  else memset(p->sums, 0, 8 * ((size_t)rows + columns));
  for (stage = told; stage <= terms && rows && columns; stage++) {
    uint32_t k = stage < 2 ? 0 : stage - 1, from = stage == 1 && !told ? rows / 2 : 0, to = stage ? rows : rows / 2;
    int level = f->told[MESS_I_LEVELS][x->stream[1].at + k];
    uint8_t of_sum[256], *slots = all + k * apart;
    uint32_t heads[48], cell = to * columns;
    mess_i_tables(f, level, told ? 128 : 28, of_sum);
    for (i = 0; i < rows + columns && !told; i++)
      octaves[i] = (uint8_t)(!total || (i < rows && !k) ? 14 : mess_i_octave(p->sums[i], i < rows ? rows : columns, total));
    for (i = 0; i < tables; i++) heads[i] = MESS_I_END;
    for (r = to; r-- > from;) {             /* from the last on, so that the first are the heads */
      const uint8_t *table = of_sum + octaves[r];
      for (c = columns; c--;) {
        uint32_t j = table[of_column[c]];
        mess_i_store(slots + --cell * stride, heads[j]);
        heads[j] = cell;
      }
    }
    for (i = 0; i < tables; i++) {
      mess_i_table table;
      int32_t low = f->clusters[i].low;
      if (heads[i] == MESS_I_END) continue;
      if (MESS_I_IS_FAST(f->flags)) {
        table = f->ready[i];
      } else {
        mess_i_reader reader = mess_i_read(f, f->clusters[i].at, f->size, 0);
        mess_i_read_table(&reader, &built);
        mess_i_build(&built, p->work, 0);
        table = built;
      }
      now = coder;                      /* copies, for registers */
      for (cell = heads[i]; cell != MESS_I_END;) {
        uint8_t *slot = slots + cell * stride;
        cell = mess_i_load(slot);
        mess_i_store(slot, (uint32_t)(low + (table.size > 1 ? (int32_t)mess_i_symbol(&now, &table) : 0)));
      }
      coder = now;
    }
    if (told) {
      int first = f->told[MESS_I_TRELLISES][x->stream[1].table], least = first ? 2 * first - level + 128 : 0;
      if (first == 48) continue;
      memset(of_column + columns, 0, columns);
      for (r = 0; r < rows; r++, slots += columns * stride) {
        if (MESS_I_IS_FAST(f->flags)) mess_i_trellises(slots, 4, of_column, columns, least - octaves[r]);
        else mess_i_trellises(slots, stride, of_column, columns, least - octaves[r]);
      }
      continue;
    }
    for (r = from; r < to && stage < terms; r++) {
      const uint8_t *slot = slots + (size_t)r * columns * stride;
      uint64_t sum = MESS_I_IS_FAST(f->flags) ? mess_i_magnitudes(slot, 4, p->sums + rows, columns)
                                 : mess_i_magnitudes(slot, stride, p->sums + rows, columns);
      p->sums[r] += sum;
      total += sum;
    }
  }
  return coder.x || coder.left ? MESS_STREAM : MESS_OK;
}

/* Clause 10.9: the step of exponent e; not a number where it is not a normal one. */
static float mess_i_step(float step, int e) {
  static const uint32_t quarter[4] = {0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD};
  int i = (e + 256) / 4 - 64;
  mess_i_float s = step * mess_i_from_bits(quarter[(e + 256) % 4]);
  uint32_t bits;
  s = s * mess_i_from_bits((uint32_t)(i + 127) << 23);
  bits = mess_i_bits(s);
  return bits < 0x800000 || bits >= 0x7F800000 ? mess_i_from_bits(0x7FC00000) : s;
}

#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__) && (!defined(__FLT_EVAL_METHOD__) || __FLT_EVAL_METHOD__ == 0)
#define MESS_I_FOUR
typedef float mess_i_four __attribute__((vector_size(16), aligned(4), may_alias));
#endif

/* An integer to the coefficient that it stands for, in its place. */
MESS_I_INLINE void mess_i_scale(uint8_t *p, float step) {
  mess_i_float product = (float)(int32_t)mess_i_load(p) * step;
  mess_i_store(p, mess_i_bits(product));
}

/* Clause 10.8. `odd` stays 0 as long as all numbers are finite. */
static int mess_i_sum(const mess_file *f, const mess_i_item *x, mess_i_plan *p, const float *numbers, uint8_t *floats) {
  const mess_i_book *b = &f->books[x->book];
  uint32_t columns = mess_i_columns(x, b), terms = b->count, unit = b->unit, axes = mess_i_axes(f, x), k, r, c, u;
  uint8_t *planes = MESS_I_IS_FAST(f->flags) ? p->planes : 0, *in = planes ? planes : floats, *own;
  size_t stride = planes ? 4 : 4 * (size_t)(terms > unit ? terms : unit);
  size_t apart = planes ? 4 * (size_t)x->rows * columns : 4;
  uint8_t *sides = (uint8_t *)p->sums, *of_column = sides + x->rows;
  const int8_t *of_term = f->told[MESS_I_EXPONENTS] + x->stream[2].at;
  float step = mess_i_from_bits(mess_i_load(f->told[MESS_I_STEPS] + 4 * (size_t)x->stream[1].table));
  mess_i_float odd = 0, sum, product;
  int error = mess_i_sum_integers(f, x, p, columns, terms, in, stride, apart), i;
  if (error) return error;
  of_term = mess_i_sides(of_term, axes, x->rows, columns, sides);
  for (i = 0; i < p->count; i++) p->steps[i] = axes & 7 ? mess_i_step(step, i + p->lowest) : step;
  for (k = 0; k < terms; k++) p->terms[k].from = mess_i_reference(b, k), p->terms[k].exponent = axes & 4 ? of_term[k] : 0;
#ifdef MESS_I_FOUR
  mess_i_four odds = {0}, times;
#endif
  for (r = 0; r < x->rows; r++) {
    int base = sides[r] - 128 - p->lowest;
    for (k = 0; k < terms && planes; k++) {
      int sum_of_both = base + p->terms[k].exponent;
      step = axes & 2 ? 0 : p->steps[sum_of_both + 64];
      for (c = 0, own = in + k * apart; c < columns && axes & 2; c++, own += 4)
        mess_i_scale(own, p->steps[sum_of_both + of_column[c]]);
      for (; c < columns; c++, own += 4) mess_i_scale(own, step);
    }
    c = 0;
#ifdef MESS_I_FOUR
    for (; planes && unit == 1 && columns - c >= 4; c += 4, in += 16, floats += 16) {
      mess_i_four all = {0};
      for (k = 0; k < terms; k++) times = *(const mess_i_four *)(in + k * apart) * numbers[p->terms[k].from], all = all + times;
      *(mess_i_four *)floats = all;
      odds = odds + all * 0.0f;
    }
#endif
    for (; c < columns; c++, in += stride, floats += 4 * (size_t)unit) {
      size_t gap = apart;
      for (k = 0, own = in; k < terms && !planes; k++)
        p->terms[k].coefficient = (float)(int32_t)mess_i_load(in + k * apart)
                                  * p->steps[base + of_column[c] + p->terms[k].exponent];
      if (!planes) own = (uint8_t *)&p->terms->coefficient, gap = sizeof *p->terms;
      u = 0;
#ifdef MESS_I_FOUR
      for (; unit - u >= 8; u += 8) {
        mess_i_four low = {0}, high = {0};
        for (k = 0; k < terms; k++) {
          const mess_i_four *ref = (const mess_i_four *)(numbers + p->terms[k].from + u);
          float coefficient = mess_i_from_bits(mess_i_load(own + k * gap));
          times = coefficient * ref[0], low = low + times;
          times = coefficient * ref[1], high = high + times;
        }
        *(mess_i_four *)(floats + 4 * u) = low, *(mess_i_four *)(floats + 4 * u + 16) = high;
        odds = odds + low * 0.0f + high * 0.0f;
      }
#endif
      for (; u < unit; u++) {
        for (sum = 0, k = 0; k < terms; k++) {
          product = mess_i_from_bits(mess_i_load(own + k * gap)) * numbers[p->terms[k].from + u];
          sum = sum + product;
        }
        odd = odd + sum * 0.0f;
        mess_i_store(floats + 4 * (size_t)u, mess_i_bits(sum));
      }
    }
  }
#ifdef MESS_I_FOUR
  odd = odd + odds[0] + odds[1] + odds[2] + odds[3];
#endif
  return mess_i_finite(mess_i_bits(odd), MESS_FLOAT32) ? MESS_OK : MESS_STREAM;
}

/* Clause 9.2: references, times scale, plus offset. */
static int mess_i_matched(const mess_file *f, const mess_i_item *x, mess_i_plan *p, const float *numbers, uint8_t *floats) {
  const mess_i_book *b = &f->books[x->book];
  uint32_t n = mess_i_units(x, b), row = mess_i_row_of(x, b), each = x->kind == 'M' || p->units ? 12 : 4, i, u, at = 0, length;
  uint8_t *units = p->units ? p->units : floats + 4 * (size_t)x->count - (size_t)each * n;
  int error, finite = 1;
  mess_i_reader r = mess_i_read(f, x->stream[0].at + 1, f->size, x->stream[0].table);
  mess_i_sink sink = {0};
  int64_t low, high;
  sink.at = units, sink.stride = each, sink.width = 4, sink.below = b->count, sink.work = p->work;
  mess_i_range(f->bytes[x->stream[0].at] >> 2, &low, &high);
  error = mess_i_integers(&r, n, low, high, &sink);
  for (i = 1; i < 3 && !error && x->kind == 'M'; i++) error = mess_i_floats(f, x->stream[i], n, units + 4 * i, each, p);
  for (i = 0; i < n && !error; i++, units += each, at = at + length == row ? 0 : at + length) {
    const float *ref = numbers + mess_i_reference(b, mess_i_load(units));
    float scale = 1, offset = 0;
    length = row - at < b->unit ? row - at : b->unit;
    if (x->kind == 'M') scale = mess_i_from_bits(mess_i_load(units + 4)), offset = mess_i_from_bits(mess_i_load(units + 8));
    for (u = 0; u < length; u++, floats += 4) {
      mess_i_float number = ref[u];
      if (x->kind == 'M') {
        number = number * scale;
        number = number + offset;
      }
      finite &= mess_i_finite(mess_i_bits(number), MESS_FLOAT32);
      mess_i_store(floats, mess_i_bits(number));
    }
  }
  return error ? error : finite ? MESS_OK : MESS_STREAM;
}

static int mess_i_norm(const mess_file *f, const mess_tensor *t, mess_i_plan *p, uint8_t *out) {  /* clause 9.3 */
  const mess_i_item *x = &f->items[t->item];
  uint32_t i;
  int error = 0;
  if (t->part == MESS_BATCHES_TRACKED) { memset(out, 0, 8); return MESS_OK; }
  for (i = 0; i < x->count && t->part > 2; i++) mess_i_store(out + 4 * i, t->part == MESS_RUNNING_VAR ? 0x3F800000 : 0);
  if (t->part <= 1) error = mess_i_floats(f, x->stream[0], x->count, out, 4, p);
  if (!error && (!t->part || t->part == MESS_BIAS))
    error = mess_i_floats(f, x->stream[1], x->count, out + (t->part ? 0 : 4 * (size_t)x->count), 4, p);
  if (!error && t->part == MESS_WEIGHT) {
    float root = mess_i_root(f, x->book);
    for (i = 0; i < x->count; i++) {
      mess_i_float weight = mess_i_from_bits(mess_i_load(out + 4 * i));
      weight = weight * root;
      mess_i_store(out + 4 * i, mess_i_bits(weight));
    }
  }
  return error;
}

/* ---- what a program calls ---- */

/* Clause 4: the text of the manifest, decompressed into memory if it is compressed. */
static int mess_i_text(mess_file *f, mess_i_arena *arena) {
  const uint8_t *z = f->bytes + f->start[MESS_I_MANIFEST];
  uint32_t size = f->end[MESS_I_MANIFEST] - f->start[MESS_I_MANIFEST];
  f->text = z, f->text_size = size;
  if (f->coder[MESS_I_MANIFEST]) {
#ifdef MESS_ZSTD_DECODE
    uint8_t *text;
    uint64_t length = 0;
    uint32_t at, bytes, i;
    if (size < 6 || mess_i_le32(z) != 0xFD2FB528u) return MESS_MANIFEST;   /* a frame that says its size (RFC 8878) */
    at = 5 + !(z[4] & 32) + ((z[4] & 3) == 3 ? 4 : z[4] & 3);
    bytes = z[4] >> 6 ? 1u << (z[4] >> 6) : z[4] & 32 ? 1 : 0;
    if (!bytes || size - at < bytes || at > size) return MESS_MANIFEST;
    for (i = 0; i < bytes; i++) length |= (uint64_t)z[at + i] << 8 * i;
    if (bytes == 2) length += 256;
    if (length > 1u << 26) return MESS_MANIFEST;
    text = (uint8_t *)mess_i_take(arena, (uint32_t)length, 1);
    if (!text) return MESS_MEMORY;
    if (MESS_ZSTD_DECODE(text, (size_t)length, z, size) != length) return MESS_ZSTD;
    f->text = text, f->text_size = (uint32_t)length;
#else
    (void)arena;
    return MESS_ZSTD;
#endif
  }
  return f->text_size && f->text_size <= 1u << 26 ? MESS_OK : MESS_MANIFEST;
}

MESS_API int mess_open(mess_file *f, const void *bytes, size_t size, void *memory, size_t memory_size, int flags) {
  mess_i_arena arena = mess_i_arena_of(memory, memory_size);
  int error;
  memset(f, 0, sizeof *f);
  f->bytes = (const uint8_t *)bytes, f->size = (uint32_t)size, f->flags = (uint32_t)flags, f->largest_table = 2;
  error = mess_i_sections(f, f->bytes, size);
  if (!error) error = mess_i_text(f, &arena);
  if (!error) error = mess_i_contents(f, &arena);
  if (!error) error = mess_i_streams(f);
  if (!error) error = mess_i_sums(f, &arena);
  if (!error && MESS_I_IS_FAST(flags)) error = mess_i_prepare(f, &arena);
  if (arena.need > f->need) f->need = arena.need;
  f->used = arena.need;
  if (error) f->count = 0;
  return error;
}

MESS_API int mess_at(const mess_file *f, uint32_t item, uint32_t part, mess_tensor *t) {
  const mess_i_item *x;
  uint64_t count;
  memset(t, 0, sizeof *t);
  if (item >= f->count) return MESS_NO_TENSOR;
  x = &f->items[item];
  if (x->kind == 'T') {
    if (part) return MESS_NO_TENSOR;
    part = x->part, item = x->book, x = &f->items[item];
  }
  if (part && (x->kind != 'B' || part >= 5u + x->special)) return MESS_NO_TENSOR;
  t->item = item, t->part = part, t->dtype = x->dtype, t->count = x->count;
  mess_i_shape(f, mess_i_third(f, x), t->shape, &t->dims, &count);
  if (x->kind == 'B' && !part) {
    t->is_batch_norm = 1, t->dims = 2, t->shape[1] = t->shape[0], t->shape[0] = 2, t->count *= 2;
  } else if (part == MESS_BATCHES_TRACKED) {
    t->dims = 0, t->count = 1, t->dtype = MESS_INT64;
  }
  t->bytes = t->count * mess_i_width(t->dtype);
  return MESS_OK;
}

MESS_API int mess_find(const mess_file *f, const char *name, mess_tensor *t) {
  uint32_t part, item = mess_i_lookup(f, mess_i_plain(name), &part);
  return mess_at(f, item, part, t);
}

MESS_API size_t mess_name(const mess_file *f, uint32_t item, uint32_t part, char *out, size_t size) {
  mess_i_name s;
  uint32_t c, more;
  size_t n = 0;
  if (item >= f->count || part > 5) { if (size) *out = 0; return 0; }
  s = mess_i_named(f, item, part);
  while ((c = mess_i_next(&s)) != MESS_I_END) {
    more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    if (n + 1 < size) out[n] = (char)(more ? (0xF0 << (3 - more) & 0xFF) | c >> 6 * more : c);
    for (n++; more--; n++) if (n + 1 < size) out[n] = (char)(0x80 | (c >> 6 * more & 63));
  }
  if (size) out[n < size ? n : size - 1] = 0;
  return n;
}

MESS_API size_t mess_scratch(const mess_file *f, const mess_tensor *t) {
  mess_i_plan plan;
  mess_i_arena arena = mess_i_arena_of(0, 0);
  if (t->item >= f->count) return 0;
  mess_i_plan_of(f, t, &arena, &plan);
  return arena.need;
}

MESS_API int mess_decode(const mess_file *f, const mess_tensor *t, void *out, size_t out_size, void *scratch, size_t scratch_size) {
  mess_i_arena arena = mess_i_arena_of(scratch, scratch_size);
  const mess_i_item *x = &f->items[t->item];
  mess_i_plan p;
  const float *numbers = 0;
  uint8_t *floats;
  uint32_t i;
  int error = 0;
  if (t->item >= f->count) return MESS_NO_TENSOR;
  mess_i_plan_of(f, t, &arena, &p);
  if (out_size < t->bytes || arena.need > scratch_size) return MESS_MEMORY;
  if (x->kind == 'B') return mess_i_norm(f, t, &p, (uint8_t *)out);
  if (mess_i_is_raw(f, x)) {
    mess_i_reader r = mess_i_read(f, x->stream[0].at, f->size, x->stream[0].table);
    r.any = !x->special && f->coder[MESS_I_TENSORS];               /* clause 8.4 */
    return mess_i_stream(&r, x->count, 0, (uint8_t *)out, mess_i_width(x->dtype), p.work, 0);
  }
  if (x->kind != 'P') {
    const mess_i_book *b = &f->books[x->book];
    numbers = b->ready ? b->ready : p.book;
    if (!b->ready) error = mess_i_floats(f, b->stream, b->numbers, p.book, 4, &p);
  }
  floats = p.floats ? (uint8_t *)p.floats : (uint8_t *)out;
  if (!error && x->kind == 'P') error = mess_i_floats(f, x->stream[0], x->count, floats, 4, &p);
  else if (!error && x->kind == 'E') error = mess_i_sum(f, x, &p, numbers, floats);
  else if (!error) error = mess_i_matched(f, x, &p, numbers, floats);
  for (i = 0; !error && p.floats && i < x->count; i++)
    mess_i_put((uint8_t *)out + (size_t)i * mess_i_width(x->dtype), mess_i_width(x->dtype),
               mess_i_converted(mess_i_load(floats + 4 * (size_t)i), MESS_FLOAT32, x->dtype));
  return error;
}

MESS_API void mess_to_float16(const float *in, uint16_t *out, size_t count) {
  size_t i;
  for (i = 0; i < count; i++)
    out[i] = (uint16_t)mess_i_converted(mess_i_load((const uint8_t *)in + 4 * i), MESS_FLOAT32, MESS_FLOAT16);
}

MESS_API float mess_to_int8(const float *in, int8_t *out, size_t count) {
  float largest = 0, scale;
  size_t i;
  for (i = 0; i < count; i++) {
    float x = in[i] < 0 ? -in[i] : in[i];
    if (x > largest) largest = x;
  }
  scale = largest > 0 ? largest / 127 : 1;
  for (i = 0; i < count; i++) {
    mess_i_float x = mess_i_from_bits(mess_i_load((const uint8_t *)in + 4 * i)) / scale;
    x = x + 12582912.0f;                         /* 1.5 * 2^23: what is rounded off below is less than 1 */
    x = x - 12582912.0f;
    out[i] = (int8_t)(x > 127 ? 127 : x < -127 ? -127 : x);
  }
  return scale;
}

MESS_API const char *mess_error(int code) {
  static const char *const texts[] = {
    "success", "no .mess file", "a version of the format that this reader does not know", "another length than the header says",
    "damaged: a checksum differs", "a wrong section table", "a wrong manifest",
    "names and shapes are not in the file: write it with mess decompress -o plain.mess",
    "a compressed manifest: write it with mess decompress -o plain.mess, or define MESS_ZSTD_DECODE", "a wrong stream",
    "too large", "too little memory was given", "no such tensor"};
  return code >= 0 && code < (int)(sizeof texts / sizeof *texts) ? texts[code] : "unknown";
}

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif
#endif /* MESS_IMPLEMENTATION */
