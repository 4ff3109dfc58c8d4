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
/* MESS_SMALL leaves out what MESS_FAST does: a kilobyte less of code.
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
  size_t used;                   /* bytes of `memory` that are kept afterwards */
  const uint8_t *bytes, *text;
  uint32_t size, text_size, flags, books_count, sums_count, largest_table;
  uint32_t start[10], end[10], coder[10];
  uint32_t eps_at;
  struct mess_i_item *items;
  struct mess_i_book *books;
  uint8_t *steps, *axes;         /* of each sum of references: float32; what it has exponents for */
  int8_t *levels, *exponents;    /* of all of them, one after the other */
  uint64_t mask;
  struct { uint32_t at; int32_t low; const uint32_t *sums; const uint32_t *jump; } table[48];
} mess_file;

/* Checks a file and finds all that is in it. `bytes` and `memory` must stay as they are while it is read.
 * MESS_MEMORY leaves in `need` how much is missing at least: give that and call again, until it is enough (at most
 * four calls; begin with none). */
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
#define MESS_I_IS_FAST(flags) 0
#else
#define MESS_I_IS_FAST(flags) ((flags) & MESS_FAST)
#endif
#define MESS_I_TOTAL ((uint32_t)1 << 24)
#define MESS_I_JUMPS 512               /* parts of the 2^24 quantiles, for each of which a table says its symbol */
#define MESS_I_JUMP_FROM 4096          /* numbers of a stream that make such a list worth its while */
#define MESS_I_END 0xFFFFFFFFu

enum { MESS_I_MANIFEST = 1, MESS_I_REFERENCES, MESS_I_INDICES, MESS_I_SCALES, MESS_I_OFFSETS, MESS_I_TENSORS,
       MESS_I_NORMS, MESS_I_SUMS, MESS_I_GRAPH };  /* a graph is passed over: what it says is for other readers */

typedef struct mess_i_item {           /* a row of `tensors`; places are offsets within the text or the file */
  uint32_t name, name_end, shape;
  uint8_t kind, dtype, tracked, is_source;
  uint32_t book;                       /* or the number of its eps, or the item that it is tied to */
  uint32_t part;                       /* that it is tied to */
  uint32_t count, rows;
  uint32_t stream[3], table[3];        /* of sums: lane, levels, exponents; bytes of the lane, place among sums */
} mess_i_item;

typedef struct mess_i_book {
  int64_t source;
  uint32_t unit, by_row, numbers, stream, table;
  uint64_t stride;
  uint32_t count, row, in_row;         /* references; numbers a row, and references */
  const float *ready;                  /* the numbers, if they are kept */
} mess_i_book;

typedef struct { uint32_t size; const uint32_t *sums; const uint32_t *jump; } mess_i_table;
typedef struct { const uint8_t *bytes; uint32_t at, end, table, largest, jumps; int bad; } mess_i_reader;  /* see 8.5 */
typedef struct { uint64_t x; const uint8_t *words; uint32_t left; } mess_i_coder;
typedef struct { uint8_t *at, *end; } mess_i_arena;

static uint32_t mess_i_le32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static uint64_t mess_i_le64(const uint8_t *p) { return mess_i_le32(p) | (uint64_t)mess_i_le32(p + 4) << 32; }
static uint32_t mess_i_load(const void *p) { uint32_t x; memcpy(&x, p, 4); return x; }
static void mess_i_store(void *p, uint32_t x) { memcpy(p, &x, 4); }
static float mess_i_from_bits(uint32_t x) { float f; memcpy(&f, &x, 4); return f; }
static uint32_t mess_i_bits(float f) { uint32_t x; memcpy(&x, &f, 4); return x; }
static size_t mess_i_length(const char *text) { size_t n = 0; while (text[n]) n++; return n; }
static int mess_i_is_one_of(uint32_t c, const char *all) { while (*all && (uint8_t)*all != c) all++; return *all != 0; }
static int mess_i_finite(uint32_t bits) { return (bits >> 23 & 255) != 255; }
static uint32_t mess_i_width(uint32_t dtype) {
  return dtype == MESS_FLOAT64 || dtype == MESS_INT64 ? 8 : dtype == MESS_FLOAT32 || dtype == MESS_INT32 ? 4
         : dtype == MESS_FLOAT16 || dtype == MESS_BFLOAT16 || dtype == MESS_INT16 ? 2 : 1;
}

/* Gives out memory, 8 bytes at a time; null once there is no more, but it goes on counting. */
static void *mess_i_take(mess_i_arena *arena, uint64_t size, uint64_t *need) {
  uint8_t *at = arena->at;
  size = (size + 7) & ~(uint64_t)7;
  *need += size;
  if (!at || size > (uint64_t)(arena->end - at)) return arena->at = 0;
  arena->at = at + size;
  return at;
}

/* ---- clause 2: SHA-256 (FIPS 180-4) and clause 3: CRC-32 ---- */

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
  uint32_t w[16], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], o = h[7], i, t;
  for (i = 0; i < 64; i++) {
    if (i < 16) {
      w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    } else {
      uint32_t x = w[(i + 1) & 15], y = w[(i + 14) & 15];
      w[i & 15] += w[(i + 9) & 15] + (mess_i_turn(x, 7) ^ mess_i_turn(x, 18) ^ x >> 3)
                   + (mess_i_turn(y, 17) ^ mess_i_turn(y, 19) ^ y >> 10);
    }
    t = w[i & 15] + k[i] + o + (g ^ (e & (f ^ g))) + (mess_i_turn(e, 6) ^ mess_i_turn(e, 11) ^ mess_i_turn(e, 25));
    o = g, g = f, f = e, e = d + t;
    t += ((a & b) | (c & (a | b))) + (mess_i_turn(a, 2) ^ mess_i_turn(a, 13) ^ mess_i_turn(a, 22));
    d = c, c = b, b = a, a = t;
  }
  h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += o;
}

/* Clause 2: whether the header's SHA-256 is the file's, its own 32 bytes taken as 0. */
static int mess_i_sha_is_right(const uint8_t *bytes, uint32_t size) {
  uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t block[64];
  uint32_t at, i, left;
  for (at = 0; size - at >= 64; at += 64) {
    if (at) { mess_i_sha_block(h, bytes + at); continue; }
    memcpy(block, bytes, 64);
    memset(block + 22, 0, 32);
    mess_i_sha_block(h, block);
  }
  left = size - at;
  memset(block, 0, 64);
  memcpy(block, bytes + at, left);
  if (!at) memset(block + 22, 0, 32);
  block[left] = 0x80;
  if (left >= 56) { mess_i_sha_block(h, block); memset(block, 0, 64); }
  for (i = 0; i < 8; i++) block[56 + i] = (uint8_t)((uint64_t)size * 8 >> (56 - 8 * i));
  mess_i_sha_block(h, block);
  for (i = 0; i < 32; i++) if (bytes[22 + i] != (uint8_t)(h[i / 4] >> (24 - i % 4 * 8))) return 0;
  return 1;
}

static uint32_t mess_i_crc(const uint8_t *p, uint32_t size) {
  uint32_t table[16], crc = ~(uint32_t)0, i, j;
  for (i = 0; i < 16; i++) for (table[i] = i, j = 0; j < 4; j++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
  while (size--) {
    crc ^= *p++;
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return ~crc;
}

/* Clauses 2 and 3: header and section table. */
static int mess_i_sections(mess_file *f, const uint8_t *b, size_t size, int flags) {
  uint32_t n, i, last = 0;
  uint64_t expected;
  if (size < 54 || memcmp(b, "\x89MESS\r\n\x1a", 8)) return MESS_NOT_MESS;
  if (b[8] != 1 || b[10] || b[11]) return MESS_VERSION;
  if (mess_i_le64(b + 14) != size) return MESS_CUT_SHORT;
  if (size > 0xFFFFFFF0u) return MESS_TOO_LARGE;
  if (!(flags & MESS_TRUSTED) && !mess_i_sha_is_right(b, (uint32_t)size)) return MESS_CHECKSUM;
  n = b[12] | (uint32_t)b[13] << 8;
  expected = 54 + 24 * (uint64_t)n;
  if (!n || n > 64 || expected > size) return MESS_SECTIONS;
  for (i = 0; i < n; i++) {
    const uint8_t *e = b + 54 + 24 * i;
    uint32_t type = e[0];
    uint64_t length = mess_i_le64(e + 16);
    if (type < 1 || type > 9) return MESS_VERSION;
    if (e[1] > (type == MESS_I_MANIFEST || type == MESS_I_GRAPH ? 1 : type == MESS_I_SUMS ? 2 : 0) || (type == MESS_I_SUMS && !e[1])) return MESS_VERSION;
    if (e[2] || e[3] || type <= last || mess_i_le64(e + 8) != expected || length > size - expected) return MESS_SECTIONS;
    f->coder[type] = e[1];
    f->start[type] = (uint32_t)expected;
    expected += length;
    f->end[type] = (uint32_t)expected;
    if (!(flags & MESS_TRUSTED) && mess_i_crc(b + f->start[type], (uint32_t)length) != mess_i_le32(e + 4)) return MESS_CHECKSUM;
    last = type;
  }
  if (expected != size) return MESS_SECTIONS;
  return f->start[MESS_I_MANIFEST] ? MESS_OK : MESS_SECTIONS;
}

/* ---- clause 4: JSON, read in place. Positions are offsets in the text; 0 is a failure (a value never starts behind
 * nothing, since all of them stand in an object) ---- */

typedef struct { const uint8_t *at, *end; const char *rest; int json; } mess_i_name;  /* a string, then `rest` */

static uint32_t mess_i_hex4(const uint8_t *p) {
  uint32_t x = 0, i;
  for (i = 0; i < 4; i++) x = x << 4 | (p[i] <= '9' ? p[i] - 48u : (p[i] | 32u) - 87u);
  return x;
}

/* The next character of a checked string, its escapes undone; MESS_I_END behind the last. */
static uint32_t mess_i_next(mess_i_name *s) {
  uint32_t c, more;
  if (s->at == s->end) {
    if (!s->rest || !*s->rest) return MESS_I_END;
    return (uint8_t)*s->rest++;
  }
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
    } else {
      c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
    }
    return c;
  }
  if (c < 0xC0) return c;
  more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
  for (c &= 0x3Fu >> more; more && s->at < s->end; more--) c = c << 6 | (*s->at++ & 0x3F);
  return c;
}

static int mess_i_compare(mess_i_name a, mess_i_name b) {
  for (;;) {
    uint32_t x = mess_i_next(&a), y = mess_i_next(&b);
    if (x != y) return x == MESS_I_END || (y != MESS_I_END && x < y) ? -1 : 1;
    if (x == MESS_I_END) return 0;
  }
}

/* Clause 4.1: passes over a string, from behind its first quote to its last. */
static uint32_t mess_i_string(const uint8_t *t, uint32_t at, uint32_t end) {
  while (at < end) {
    uint32_t c = t[at++], i, more, low = 0x80, high = 0xBF;
    if (c == '"') return at - 1;
    if (c < 0x20) return 0;
    if (c == '\\') {
      if (at >= end) return 0;
      c = t[at++];
      if (c == 'u') {
        if (end - at < 4) return 0;
        for (i = 0; i < 4; i++, at++)
          if (!((t[at] >= '0' && t[at] <= '9') || ((t[at] | 32) >= 'a' && (t[at] | 32) <= 'f'))) return 0;
      } else if (!mess_i_is_one_of(c, "\"\\/bfnrt")) {
        return 0;
      }
    } else if (c >= 0x80) {            /* UTF-8 (RFC 3629) */
      if (c < 0xC2 || c > 0xF4) return 0;
      more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
      if (c == 0xE0) low = 0xA0;
      if (c == 0xED) high = 0x9F;
      if (c == 0xF0) low = 0x90;
      if (c == 0xF4) high = 0x8F;
      for (; more; more--, low = 0x80, high = 0xBF)
        if (at >= end || t[at] < low || t[at++] > high) return 0;
    }
  }
  return 0;
}

static uint32_t mess_i_space(const uint8_t *t, uint32_t at, uint32_t end) {
  while (at < end && (t[at] == ' ' || t[at] == '\n' || t[at] == '\r' || t[at] == '\t')) at++;
  return at;
}

static uint32_t mess_i_digits(const uint8_t *t, uint32_t at, uint32_t end) {
  while (at < end && t[at] >= '0' && t[at] <= '9') at++;
  return at;
}

static uint32_t mess_i_number(const uint8_t *t, uint32_t at, uint32_t end) {
  uint32_t from = at, start;
  if (at < end && t[at] == '-') at++;
  start = at;
  at = mess_i_digits(t, at, end);
  if (at == start || (t[start] == '0' && at > start + 1)) return 0;
  if (at < end && t[at] == '.') {
    start = at + 1;
    at = mess_i_digits(t, start, end);
    if (at == start) return 0;
  }
  if (at < end && (t[at] | 32) == 'e') {
    start = at + 1;
    if (start < end && (t[start] == '+' || t[start] == '-')) start++;
    at = mess_i_digits(t, start, end);
    if (at == start) return 0;
  }
  return at - from > 30 ? 0 : at;
}

/* Clause 4.1: checks a value and passes over it; `left` is how many more may be nested. */
static uint32_t mess_i_value(const uint8_t *t, uint32_t at, uint32_t end, int left) {
  at = mess_i_space(t, at, end);
  if (at >= end) return 0;
  if (t[at] == '"') return (at = mess_i_string(t, at + 1, end)) ? at + 1 : 0;
  if (t[at] == '{' || t[at] == '[') {
    uint8_t close = t[at] == '{' ? '}' : ']';
    if (!left) return 0;
    at = mess_i_space(t, at + 1, end);
    if (at < end && t[at] == close) return at + 1;
    for (;;) {
      if (close == '}') {
        at = mess_i_space(t, at, end);
        if (at >= end || t[at] != '"' || !(at = mess_i_string(t, at + 1, end))) return 0;
        at = mess_i_space(t, at + 1, end);
        if (at >= end || t[at++] != ':') return 0;
      }
      if (!(at = mess_i_value(t, at, end, left - 1))) return 0;
      at = mess_i_space(t, at, end);
      if (at >= end) return 0;
      if (t[at] == close) return at + 1;
      if (t[at++] != ',') return 0;
    }
  }
  if (end - at >= 4 && (!memcmp(t + at, "true", 4) || !memcmp(t + at, "null", 4))) return at + 4;
  if (end - at >= 5 && !memcmp(t + at, "false", 5)) return at + 5;
  return mess_i_number(t, at, end);
}

/* The first value of a list that starts at `at`, or the one behind the value that ends at `at`; 0 if there is no more.
 * These read what mess_i_value has checked. */
static uint32_t mess_i_first(const mess_file *f, uint32_t at) {
  at = mess_i_space(f->text, at + 1, f->text_size);
  return f->text[at] == ']' ? 0 : at;
}
static uint32_t mess_i_after(const mess_file *f, uint32_t at) {
  at = mess_i_space(f->text, mess_i_value(f->text, at, f->text_size, 16), f->text_size);
  return f->text[at] == ',' ? mess_i_space(f->text, at + 1, f->text_size) : 0;
}

/* An integer below 2^40; 0 for anything else. */
static int mess_i_integer(const mess_file *f, uint32_t at, int64_t *out) {
  uint32_t end = mess_i_value(f->text, at, f->text_size, 16);
  int minus = f->text[at] == '-';
  int64_t x = 0;
  for (at += (uint32_t)minus; at < end; at++) {
    if (f->text[at] < '0' || f->text[at] > '9' || x > (int64_t)1 << 41) return 0;
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
  s.at = (const uint8_t *)text, s.end = s.at + mess_i_length(text), s.rest = 0, s.json = 0;
  return s;
}

/* ---- clause 1.2 and clause 7: varints and tables ---- */

static uint64_t mess_i_varint(mess_i_reader *r, uint64_t highest) {
  uint64_t x = 0;
  uint32_t place;
  for (place = 0; place < 10; place++) {
    uint8_t part;
    if (r->at >= r->end) break;
    part = r->bytes[r->at++];
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

static uint32_t mess_i_code(const uint8_t *p, uint32_t i, uint32_t v) {  /* clause 7.4; of at most 9 bits */
  uint32_t bit = i * v, byte = bit >> 3, x = p[byte];
  if ((bit & 7) + v > 8) x |= (uint32_t)p[byte + 1] << 8;
  if ((bit & 7) + v > 16) x |= (uint32_t)p[byte + 2] << 16;
  return x >> (bit & 7) & ((1u << v) - 1);
}
static uint64_t mess_i_weight(uint32_t code, uint32_t m) {
  return code ? (uint64_t)((1u << m) + ((code - 1) & ((1u << m) - 1))) << ((code - 1) >> m) : 0;
}

/* Clause 7.1: checks a table and passes over it; returns how many symbols it has. */
static uint32_t mess_i_pass_table(mess_i_reader *r) {
  uint32_t size = (uint32_t)mess_i_varint(r, 65536), kind = mess_i_byte(r);
  if (!size || kind > 2) r->bad = 1;
  if (r->bad) return 0;
  if (kind == 1) {
    mess_i_varint(r, size - 1);
    mess_i_skip(r, 4);
  } else if (kind == 2) {
    uint32_t head = mess_i_byte(r), m = head >> 4, v = head & 15, i, largest = 0, at;
    if (m < 1 || m > 8 || v < 1 || v > 9) { r->bad = 1; return 0; }
    at = mess_i_skip(r, ((uint64_t)size * v + 7) / 8);
    if (r->bad) return 0;
    for (i = 0; i < size; i++) {
      uint32_t code = mess_i_code(r->bytes + at, i, v);
      if (code > largest) largest = code;
    }
    if (largest && ((largest - 1) >> m) + m > 32) r->bad = 1;
    if (size * v % 8 && r->bytes[r->at - 1] >> size * v % 8) r->bad = 1;
  }
  return size;
}

/* Clauses 7.2 to 7.5: sums[s] is the sum of the frequencies before symbol s. `jump` (or null) has, for each part of the
 * quantiles, the first symbol's frequency (0 if it is not alone in this part), and its sum (24 bits) and itself (8 bits). */
static void mess_i_build(const uint8_t *bytes, uint32_t at, uint32_t end, mess_i_table *table, uint32_t *sums, uint32_t *jump) {
  mess_i_reader r = {0};
  uint32_t size, kind, i, s, most = 0, sum, m = 0, v = 0;
  uint64_t total = 0, peak = 0, left;
  r.bytes = bytes, r.at = at, r.end = end;
  size = (uint32_t)mess_i_varint(&r, 65536);
  kind = mess_i_byte(&r);
  left = MESS_I_TOTAL - size;
  if (kind == 1) {
    uint32_t centre = (uint32_t)mess_i_varint(&r, size - 1), pass;
    const uint8_t *p = bytes + r.at;
    for (pass = 0; pass < 2; pass++) {
      uint64_t w = (uint64_t)1 << 32, ratio = p[0] | (uint32_t)p[1] << 8, keep = 65536 - (p[2] | (uint32_t)p[3] << 8);
      for (i = 0; i <= centre || centre + i < size; i++) {
        if (!pass) total += w * ((i <= centre) + (i && centre + i < size));
        if (pass && i <= centre) sums[centre - i] = 1 + (uint32_t)(w * left / total);
        if (pass && centre + i < size) sums[centre + i] = 1 + (uint32_t)(w * left / total);
        w = w * ratio >> 16;
        ratio = ratio * keep >> 16;
      }
    }
    most = centre;
  } else {
    const uint8_t *p = 0;
    if (kind == 2) {
      m = mess_i_byte(&r), v = m & 15, m >>= 4;
      p = bytes + r.at;
      for (i = 0; i < size; i++) {
        uint64_t w = mess_i_weight(mess_i_code(p, i, v), m);
        total += w;
        if (w > peak) peak = w, most = i;
      }
    }
    for (i = 0; i < size; i++)
      sums[i] = total ? 1 + (uint32_t)(mess_i_weight(mess_i_code(p, i, v), m) * left / total) : MESS_I_TOTAL / size;
  }
  for (sum = 0, i = 0; i < size; i++) sum += sums[i];
  sums[most] += MESS_I_TOTAL - sum;
  for (sum = 0, i = 0; i < size; i++) { uint32_t x = sums[i]; sums[i] = sum; sum += x; }
  sums[size] = sum;
  if (size > 256 || !MESS_I_IS_FAST(MESS_FAST)) jump = 0;
  table->size = size, table->sums = sums, table->jump = jump;
  for (s = 0, i = 0; jump && i < MESS_I_JUMPS; i++) {
    uint32_t from = i * (MESS_I_TOTAL / MESS_I_JUMPS), to = from + MESS_I_TOTAL / MESS_I_JUMPS;
    while (sums[s + 1] <= from) s++;
    jump[2 * i] = sums[s + 1] >= to ? sums[s + 1] - sums[s] : 0;
    jump[2 * i + 1] = sums[s] << 8 | s;
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

#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
__attribute__((always_inline)) inline
#endif
static uint32_t mess_i_symbol(mess_i_coder *c, const mess_i_table *t) {  /* clause 6.3 */
  uint32_t q = (uint32_t)c->x & (MESS_I_TOTAL - 1), s = 0, sum = 0, frequency = 0;
  uint64_t x;
  if (MESS_I_IS_FAST(MESS_FAST) && t->jump) {
    const uint32_t *entry = t->jump + q / (MESS_I_TOTAL / MESS_I_JUMPS) * 2;
    frequency = entry[0], s = entry[1] & 255, sum = entry[1] >> 8;
    if (!frequency) while (t->sums[s + 1] <= q) s++;
  } else {
    uint32_t high = t->size;
    while (high - s > 1) {
      uint32_t middle = (s + high) / 2;
      if (t->sums[middle] <= q) s = middle; else high = middle;
    }
  }
  if (!frequency) sum = t->sums[s], frequency = t->sums[s + 1] - sum;
  x = (c->x >> 24) * frequency + (q - sum);
  if (!(x >> 32) && c->left) x = x << 32 | mess_i_le32(c->words + 4 * --c->left);
  c->x = x;
  return s;
}

/* ---- clause 8: streams ---- */

enum { MESS_I_TO_INTEGER, MESS_I_TO_FLOAT, MESS_I_TO_STEPPED };
typedef struct { uint8_t *at; uint32_t stride, width; int how; uint32_t step; uint64_t below; uint32_t *work; } mess_i_sink;

/* An integer as float32, halves to even; in integers, since small machines have no such instruction. */
static uint32_t mess_i_rounded(int64_t value) {
  uint64_t m = value < 0 ? ~(uint64_t)value + 1 : (uint64_t)value, rest;
  uint32_t exponent = 127 + 63, bits;
  if (!m) return 0;
  for (; !(m >> 63); m <<= 1) exponent--;
  bits = (uint32_t)(m >> 40), rest = m & 0xFFFFFFFFFF;
  if (rest > (uint64_t)1 << 39 || (rest == (uint64_t)1 << 39 && (bits & 1))) bits++;
  return (value < 0 ? 0x80000000u : 0) + ((exponent - 1) << 23) + bits;
}

static int mess_i_put(const mess_i_sink *sink, uint32_t i, int64_t value) {
  uint8_t *p = sink->at + (size_t)i * sink->stride;
  if (sink->how == MESS_I_TO_STEPPED) {        /* clause 9.1 */
    uint32_t exponent = sink->step >> 23;
    mess_i_float x = (float)(int32_t)value;
    if (exponent >= 127 + 96) {                /* it may be more than float32 holds */
      uint64_t product = (uint64_t)(value < 0 ? -value : value) * ((sink->step & 0x7FFFFF) | 0x800000);
      if (product > (uint64_t)0xFFFFFF << (254 - exponent)) return 0;
    }
    x = x * mess_i_from_bits(sink->step);
    mess_i_store(p, mess_i_bits(x));
  } else if (sink->how == MESS_I_TO_FLOAT) {
    mess_i_store(p, mess_i_rounded(value));
  } else if (sink->below && (uint64_t)value >= sink->below) {
    return 0;                                  /* clause 9.2: an index of no reference */
  } else if (sink->width == 1) {
    *p = (uint8_t)value;
  } else if (sink->width == 2) {
    uint16_t x = (uint16_t)value;
    memcpy(p, &x, 2);
  } else if (sink->width == 4) {
    mess_i_store(p, (uint32_t)value);
  } else {
    memcpy(p, &value, 8);
  }
  return 1;
}

/* Clause 8.5: integers from low to high, put into the sink; with none only passed over. */
static int mess_i_integers(mess_i_reader *r, uint32_t count, int64_t low, int64_t high, const mess_i_sink *sink) {
  uint32_t coding = mess_i_byte(r), bits, size, lanes = 1, lane, i = 0, lengths, words, rest;
  int64_t first = mess_i_zigzag(mess_i_varint(r, ~(uint64_t)0));
  uint64_t total = 0, packed, room;
  mess_i_reader again;
  mess_i_table table = {0};
  if (r->bad || first < low || first > high || coding > 2) return MESS_STREAM;
  if (!coding) {
    for (; sink && i < count; i++) if (!mess_i_put(sink, i, first)) return MESS_STREAM;
    return MESS_OK;
  }
  bits = mess_i_byte(r);
  if (!count || bits > 57) return MESS_STREAM;
  if (coding == 1) r->table = r->at;
  if (!r->table || r->bad) return MESS_STREAM;
  again = *r;
  again.at = r->table;
  size = mess_i_pass_table(coding == 1 ? r : &again);
  if (r->bad || again.bad) return MESS_STREAM;
  if (size > r->largest) r->largest = size;
  if (count / 16384 > 1) lanes = (uint32_t)mess_i_varint(r, count / 16384);
  if (!lanes) return MESS_STREAM;
  lengths = r->at;
  for (lane = 0; lane < lanes; lane++) total += mess_i_varint(r, ((uint64_t)1 << 40) - 1);
  words = mess_i_skip(r, 4 * total);
  packed = (uint64_t)count * bits;
  rest = mess_i_skip(r, (packed + 7) / 8);
  if (r->bad) return MESS_STREAM;
  if (packed % 8 && r->bytes[r->at - 1] >> packed % 8 && sink) return MESS_STREAM;
  if (!sink) return MESS_OK;
  if (size > 1)
    mess_i_build(r->bytes, r->table, r->end, &table, sink->work,
                 count >= MESS_I_JUMP_FROM && r->jumps ? sink->work + r->jumps : 0);
  room = (uint64_t)high - (uint64_t)first;
  again.at = lengths;
  for (lane = 0; lane < lanes; lane++) {
    uint32_t length = (uint32_t)mess_i_varint(&again, ~(uint64_t)0), end = (uint32_t)((uint64_t)count * (lane + 1) / lanes);
    mess_i_coder coder;
    mess_i_start(&coder, r->bytes + words, 4 * length);
    if (length && (size == 1 || !mess_i_le32(r->bytes + words + 4 * (length - 1)))) return MESS_STREAM;
    words += 4 * length;
    for (; i < end; i++) {
      uint64_t above = size > 1 ? mess_i_symbol(&coder, &table) : 0;
      if (bits) {
        uint64_t bit = (uint64_t)i * bits, low_bits;
        uint32_t from = rest + (uint32_t)(bit >> 3), k;
        if (above >> (64 - bits)) return MESS_STREAM;
        if (r->end - from >= 8) {
          low_bits = mess_i_le64(r->bytes + from);
        } else {
          for (low_bits = 0, k = 0; from + k < r->end; k++) low_bits |= (uint64_t)r->bytes[from + k] << 8 * k;
        }
        above = (above << bits) + (low_bits >> (bit & 7) & (((uint64_t)1 << bits) - 1));
      }
      if (above > room) return MESS_STREAM;
      if (!mess_i_put(sink, i, (int64_t)((uint64_t)first + above))) return MESS_STREAM;
    }
    if (coder.x || coder.left) return MESS_STREAM;
  }
  return MESS_OK;
}

static void mess_i_range(uint32_t dtype, int64_t *low, int64_t *high) {  /* clause 8.3 */
  uint32_t bits = 8 * mess_i_width(dtype);
  *high = dtype == MESS_BOOL ? 1 : dtype == MESS_UINT8 ? 255 : (int64_t)(((uint64_t)1 << (bits - 1)) - 1);
  *low = dtype == MESS_BOOL || dtype == MESS_UINT8 ? 0 : -*high - 1;
}

/* float64 to float32, halves to even; beyond the largest it is infinity. */
static uint32_t mess_i_narrowed(uint64_t d) {
  uint32_t sign = (uint32_t)(d >> 63) << 31, shift = 29;
  int exponent = (int)(d >> 52 & 0x7FF) - 1023;
  uint64_t m = d & (((uint64_t)1 << 52) - 1), half, whole;
  if (exponent < -150) return sign;
  if (exponent > 127) return sign | 0x7F800000u;
  m |= (uint64_t)1 << 52;
  if (exponent < -126) shift += (uint32_t)(-126 - exponent);
  half = (uint64_t)1 << (shift - 1);
  whole = m >> shift;
  m &= 2 * half - 1;
  if (m > half || (m == half && (whole & 1))) whole++;
  return sign | (uint32_t)(whole + (exponent < -126 ? 0 : (uint64_t)(exponent + 126) << 23));
}

/* float32 to another float dtype (clause 9.4), halves to even. */
static void mess_i_cast(uint32_t x, uint32_t dtype, uint8_t *out) {
  uint32_t sign = x >> 31, e = x >> 23 & 255, m = x & 0x7FFFFF;
  uint16_t half;
  if (dtype == MESS_FLOAT32) { mess_i_store(out, x); return; }
  if (dtype == MESS_FLOAT64) {
    uint64_t d = (uint64_t)sign << 63;
    if (e == 255) {
      d |= (uint64_t)0x7FF << 52 | (uint64_t)m << 29;
    } else if (e | m) {
      if (!e) { for (e = 1; !(m & 0x800000); m <<= 1) e--; m &= 0x7FFFFF; }
      d |= (uint64_t)(e + 1023 - 127) << 52 | (uint64_t)m << 29;
    }
    memcpy(out, &d, 8);
    return;
  }
  if (dtype == MESS_BFLOAT16) {
    half = (uint16_t)((x + 0x7FFF + (x >> 16 & 1)) >> 16);
  } else if (e >= 143) {
    half = 0x7C00;
  } else if (e < 102) {
    half = 0;
  } else {
    uint32_t shift = e < 113 ? 126 - e : 13, rest;
    m |= 0x800000;
    rest = m & ((1u << shift) - 1);
    half = (uint16_t)((m >> shift) + (e < 113 ? 0 : (e - 113) << 10));
    if (rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && (half & 1))) half++;
  }
  if (dtype == MESS_FLOAT16) half = (uint16_t)(half | sign << 15);
  memcpy(out, &half, 2);
}

static uint32_t mess_i_from_half(uint32_t h) {
  uint32_t sign = (h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3FF;
  if (!e && !m) return sign;
  if (!e) { for (e = 1; !(m & 0x400); m <<= 1) e--; m &= 0x3FF; }
  return sign | (e + 112) << 23 | m << 13;
}

/* Clauses 8.1 to 8.4 and 9.1. A stream of `count` numbers, each put `stride` bytes after the one before: as float32
 * (`as_float`, with `wide` for 8 bytes a number where it is float64), or as they are; with no `out` passed over. */
static int mess_i_stream(mess_i_reader *r, uint32_t count, int as_float, uint8_t *out, uint32_t stride, uint32_t *work,
                         uint8_t *wide) {
  uint32_t head = mess_i_byte(r), form = head & 3, dtype = head >> 2, width, plane, i, kept = r->table;
  int64_t low, high;
  mess_i_sink sink = {0};
  int error;
  if (r->bad || form > 2 || dtype > 9 || (form == 2) != (form && dtype < 4) || (!form && dtype)) return MESS_STREAM;
  sink.at = out, sink.stride = stride, sink.work = work;
  if (!form) {
    uint32_t at = mess_i_skip(r, 4);
    if (r->bad) return MESS_STREAM;
    sink.step = mess_i_le32(r->bytes + at);
    if (!sink.step || sink.step >= 0x7F800000u) return MESS_STREAM;
    sink.how = MESS_I_TO_STEPPED;
    mess_i_range(MESS_INT32, &low, &high);
    return mess_i_integers(r, count, low, high, out ? &sink : 0);
  }
  width = sink.width = mess_i_width(dtype);
  if (form == 1) {
    sink.how = as_float ? MESS_I_TO_FLOAT : MESS_I_TO_INTEGER;
    mess_i_range(dtype, &low, &high);
    return mess_i_integers(r, count, low, high, out ? &sink : 0);
  }
  if (!as_float || dtype != MESS_FLOAT64) wide = 0;
  sink.width = 1, sink.stride = wide ? 8 : stride, r->table = 0;
  for (plane = 0; plane < width; plane++) {
    sink.at = out ? (wide ? wide : out) + MESS_I_BYTE(plane, width) : 0;
    error = mess_i_integers(r, count, 0, 255, out ? &sink : 0);
    if (error) return error;
  }
  r->table = kept;
  for (i = 0; out && i < count; i++) {
    uint8_t *p = out + (size_t)i * stride;
    uint16_t half;
    uint64_t d;
    uint32_t x = 0;
    if (width == 8) {
      memcpy(&d, wide ? wide + (size_t)i * 8 : p, 8);
      if ((d >> 52 & 0x7FF) == 0x7FF) return MESS_STREAM;
      if (wide) mess_i_store(p, mess_i_narrowed(d));
    } else if (width == 4) {
      x = mess_i_load(p);
      if (!mess_i_finite(x)) return MESS_STREAM;
    } else {
      memcpy(&half, p, 2);
      if (dtype == MESS_FLOAT16 ? (half & 0x7C00) == 0x7C00 : (half & 0x7F80) == 0x7F80) return MESS_STREAM;
      x = dtype == MESS_FLOAT16 ? mess_i_from_half(half) : (uint32_t)half << 16;
    }
    if (as_float && width == 2) mess_i_store(p, x);
  }
  return MESS_OK;
}

/* ---- clause 5: what there is ---- */

static const char *const mess_i_parts[6] = {"", "weight", "bias", "running_mean", "running_var", "num_batches_tracked"};
static const char *const mess_i_dotted[6] = {"", ".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked"};

static mess_i_name mess_i_named(const mess_file *f, uint32_t item, uint32_t part) {
  const mess_i_item *x = &f->items[item];
  return mess_i_json(f, x->name, x->name_end, x->name == x->name_end ? mess_i_parts[part] : mess_i_dotted[part]);
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
  size_t length = (size_t)(name.end - name.at);
  if (found != MESS_I_END) { *part = MESS_WHOLE; return found; }
  for (*part = 1; *part < 6; ++*part) {
    size_t n = mess_i_length(mess_i_parts[*part]);
    mess_i_name prefix = name;
    if (length < n || memcmp(name.end - n, mess_i_parts[*part], n)) continue;
    if (length > n && name.end[-(ptrdiff_t)n - 1] != '.') continue;
    prefix.end -= n + (length > n);
    found = mess_i_search(f, prefix);
    if (found != MESS_I_END && f->items[found].kind == 'B' && (*part < 5 || f->items[found].tracked)) return found;
  }
  return MESS_I_END;
}

/* Clause 5.1: finds the values of the manifest by their keys. */
static int mess_i_keys(const mess_file *f, uint32_t *value) {
  static const char *const keys[8] = {"scheme", "books", "tensors", "network", "eps", "layout", "kinds", "ties"};
  uint32_t at = mess_i_space(f->text, 0, f->text_size), end = mess_i_value(f->text, 0, f->text_size, 16);
  memset(value, 0, 8 * sizeof *value);
  if (!end || mess_i_space(f->text, end, f->text_size) != f->text_size || f->text[at] != '{') return 0;
  at = mess_i_space(f->text, at + 1, f->text_size);
  while (f->text[at] == '"') {
    uint32_t from = at + 1, key;
    at = mess_i_string(f->text, from, f->text_size);
    for (key = 0; key < 8; key++)
      if (!mess_i_compare(mess_i_json(f, from, at, 0), mess_i_plain(keys[key]))) break;
    if (key == 8 || value[key]) return 0;
    at = mess_i_space(f->text, at + 1, f->text_size);
    value[key] = mess_i_space(f->text, at + 1, f->text_size);
    at = mess_i_after(f, value[key]);
    if (!at) break;
  }
  return value[0] && f->text[value[0]] == '{' && value[1] && f->text[value[1]] == '[' &&
         (!value[3] || f->text[value[3]] == '{' || f->text[value[3]] == 'n') && (!value[4] || f->text[value[4]] == '[');
}

/* A number from 0 below 1 with a point or an exponent, in units of 2^-52, halves to even; 2^64 - 1 for none. */
static uint64_t mess_i_eps(const mess_file *f, uint32_t at) {
  uint32_t end = mess_i_value(f->text, at, f->text_size, 16), digits = 0, is_float = 0, i;
  int scale = 0, behind = 0, exponent = 0, minus = f->text[at] == '-';
  uint64_t d = 0, power = 1, x = 0;
  if (f->text[at] != '-' && !(f->text[at] >= '0' && f->text[at] <= '9')) return ~(uint64_t)0;
  for (at += (uint32_t)minus; at < end && (f->text[at] | 32) != 'e'; at++) {
    if (f->text[at] == '.') { behind = is_float = 1; continue; }
    if (d || f->text[at] != '0') digits++;
    if (digits <= 19) d = d * 10 + (f->text[at] - '0');
    scale += digits > 19 ? !behind : -behind;
  }
  if (at < end) {
    int down = f->text[at + 1] == '-';
    is_float = 1;
    for (at += 1 + (down || f->text[at + 1] == '+'); at < end; at++)
      if (exponent < 1000) exponent = exponent * 10 + (f->text[at] - '0');
    scale += down ? -exponent : exponent;
  }
  if (!is_float || (d && (minus || scale >= 0))) return ~(uint64_t)0;
  for (; d && scale < -18; scale++) d /= 10;
  if (!d) return 0;
  for (; scale < 0; scale++) power *= 10;
  if (d >= power) return ~(uint64_t)0;
  for (i = 0; i < 52; i++) {
    d *= 2;
    x = x << 1 | (d >= power);
    if (d >= power) d -= power;
  }
  return x + (2 * d > power || (2 * d == power && (x & 1)));
}

/* Clause 9.3: float32 of the float64 root of 1 + eps, in integers. */
static float mess_i_root(const mess_file *f, uint32_t number) {
  uint64_t x, root = 0, rest = 0, m;
  uint32_t at = mess_i_first(f, f->eps_at);
  int i;
  while (number--) at = mess_i_after(f, at);
  x = ((uint64_t)1 << 52) + mess_i_eps(f, at);
  for (i = 52; i >= 0; i--) {
    rest = rest << 2 | (i >= 26 ? x >> (2 * i - 52) & 3 : 0);
    m = root << 2 | 1;
    root <<= 1;
    if (rest >= m) rest -= m, root |= 1;
  }
  if (rest > root) root++;
  m = root >> 29;
  rest = root & 0x1FFFFFFF;
  if (rest > 0x10000000 || (rest == 0x10000000 && (m & 1))) m++;
  return mess_i_from_bits((uint32_t)(m + ((uint64_t)126 << 23)));
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

/* Clauses 5.2 and 5.3: a row of `tensors`. */
static int mess_i_row(mess_file *f, uint32_t at, mess_i_item *x, uint32_t eps_count) {
  uint32_t cells[5], n = 0, i, length = 0, c, kind[8], kinds = 0, dims;
  uint64_t shape[8], count;
  int64_t dtype;
  mess_i_name s;
  memset(x, 0, sizeof *x);
  if (f->text[at] != '[') return MESS_MANIFEST;
  for (at = mess_i_first(f, at); at && n < 5; at = mess_i_after(f, at)) cells[n++] = at;
  if (n < 3 || n > 4 || f->text[cells[0]] != '"' || f->text[cells[1]] != '"') return MESS_MANIFEST;
  x->name = cells[0] + 1;
  x->name_end = mess_i_string(f->text, x->name, f->text_size);
  for (s = mess_i_json(f, x->name, x->name_end, 0); (c = mess_i_next(&s)) != MESS_I_END; length++)
    if (c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0xD800 && c < 0xE000)) return MESS_MANIFEST;
  if (length > 1024) return MESS_MANIFEST;
  s = mess_i_json(f, cells[1] + 1, mess_i_string(f->text, cells[1] + 1, f->text_size), 0);
  while ((c = mess_i_next(&s)) != MESS_I_END && kinds < 8) kind[kinds++] = c;
  if (!kinds || kinds > 7 || !mess_i_is_one_of(kind[0], "PMCEBbT")) return MESS_MANIFEST;
  x->kind = (uint8_t)kind[0];
  if ((x->kind == 'P' || x->kind == 'T') != (kinds == 1)) return MESS_MANIFEST;
  for (i = 1; i < kinds; i++) {
    if (kind[i] < '0' || kind[i] > '9') return MESS_MANIFEST;
    x->book = x->book * 10 + kind[i] - '0';
  }
  x->shape = cells[2];
  if (x->kind == 'T') return n == 3 && f->text[cells[2]] == '"' ? MESS_OK : MESS_MANIFEST;
  if (n < 4 || !mess_i_integer(f, cells[3], &dtype) || dtype < 0 || dtype > 9) return MESS_MANIFEST;
  if (!mess_i_shape(f, cells[2], shape, &dims, &count)) return MESS_MANIFEST;
  if (count > MESS_MAX_BYTES) return MESS_TOO_LARGE;
  x->dtype = (uint8_t)dtype, x->count = (uint32_t)count;
  if (dims && shape[0] <= MESS_MAX_BYTES) x->rows = (uint32_t)shape[0];
  if (x->kind == 'B' || x->kind == 'b') {
    if (x->book >= eps_count || dims != 1 || dtype) return MESS_MANIFEST;
    x->tracked = x->kind == 'B';
    x->kind = 'B';
  }
  return MESS_OK;
}

/* Clause 5.5: a row of `books`. */
static int mess_i_book_row(const mess_file *f, uint32_t at, mess_i_book *b) {
  int64_t n[5];
  uint32_t i = 0;
  memset(b, 0, sizeof *b);
  if (f->text[at] != '[') return MESS_MANIFEST;
  for (at = mess_i_first(f, at); at && i < 5; at = mess_i_after(f, at))
    if (!mess_i_integer(f, at, &n[i++]) || n[i - 1] >= (int64_t)1 << 40 || n[i - 1] <= -((int64_t)1 << 40)) return MESS_MANIFEST;
  if (at || i != 5 || n[0] < -1 || n[0] >= (int64_t)f->count || n[1] < 1 || n[2] < 1 || n[3] < 0 || n[3] > 1 || n[4] < 0 ||
      (n[0] >= 0) == (n[4] > 0) || n[4] % n[1])
    return MESS_MANIFEST;
  if (n[4] > (int64_t)MESS_MAX_BYTES) return MESS_TOO_LARGE;
  b->source = n[0], b->stride = (uint64_t)n[2], b->by_row = (uint32_t)n[3], b->numbers = (uint32_t)n[4];
  b->unit = n[1] > 0xFFFFFFFF ? 0xFFFFFFFF : (uint32_t)n[1];
  return MESS_OK;
}

/* Clause 5.5: numbers a row of a tensor that is cut by a codebook's rule. */
static uint32_t mess_i_row_of(const mess_i_item *x, const mess_i_book *b) {
  return b->by_row && x->rows ? x->count / x->rows : x->count;
}
static uint32_t mess_i_units(const mess_i_item *x, const mess_i_book *b) {
  uint32_t row = mess_i_row_of(x, b);
  return row ? x->count / row * (row / b->unit + (row % b->unit != 0)) : 0;
}
static uint32_t mess_i_columns(const mess_i_item *x, const mess_i_book *b) { return x->rows ? x->count / x->rows / b->unit : 0; }

/* Clauses 5.1 to 5.5: books and tensors, and that they fit together. */
static int mess_i_contents(mess_file *f, mess_i_arena *arena, uint64_t *need) {
  uint32_t value[8], at, i, eps_count = 0, dims, part;
  uint64_t total = 0, shape[8], count;
  int error;
  if (!mess_i_keys(f, value)) return MESS_MANIFEST;
  for (f->eps_at = value[4], at = value[4] ? mess_i_first(f, value[4]) : 0; at; at = mess_i_after(f, at), eps_count++)
    if (mess_i_eps(f, at) == ~(uint64_t)0) return MESS_MANIFEST;
  if (!value[2]) return value[3] && f->text[value[3]] == '{' ? MESS_NAMED : MESS_MANIFEST;
  if (value[5] || value[6] || value[7] || f->text[value[2]] != '[') return MESS_MANIFEST;
  for (at = mess_i_first(f, value[2]); at; at = mess_i_after(f, at)) f->count++;
  for (at = mess_i_first(f, value[1]); at; at = mess_i_after(f, at)) f->books_count++;
  if (f->count > 1u << 20 || f->books_count > 1u << 20) return MESS_MANIFEST;
  f->items = (mess_i_item *)mess_i_take(arena, (uint64_t)f->count * sizeof *f->items, need);
  f->books = (mess_i_book *)mess_i_take(arena, (uint64_t)f->books_count * sizeof *f->books, need);
  if (!arena->at) return MESS_MEMORY;
  for (i = 0, at = mess_i_first(f, value[2]); at; at = mess_i_after(f, at), i++) {
    mess_i_item *x = &f->items[i];
    if ((error = mess_i_row(f, at, x, eps_count)) != 0) return error;
    if (i && !(f->flags & MESS_ANY_ORDER) && mess_i_compare(mess_i_named(f, i - 1, 0), mess_i_named(f, i, 0)) >= 0) return MESS_MANIFEST;
    if (x->kind != 'T') total += (uint64_t)x->count * (x->kind == 'B' ? 16 : mess_i_width(x->dtype));
  }
  for (i = 0, at = mess_i_first(f, value[1]); at; at = mess_i_after(f, at), i++) {
    mess_i_book *b = &f->books[i];
    mess_i_item *x;
    if ((error = mess_i_book_row(f, at, b)) != 0) return error;
    total += 4 * (uint64_t)b->numbers;
    if (b->source < 0) {
      b->row = b->numbers, b->stride = b->unit, b->count = b->in_row = b->numbers / b->unit;
      continue;
    }
    x = &f->items[b->source];
    if (x->kind != 'P') return MESS_MANIFEST;
    x->is_source = 1;
    b->numbers = x->count, b->row = mess_i_row_of(x, b);
    b->in_row = b->row >= b->unit ? (uint32_t)((b->row - b->unit) / b->stride + 1) : 0;
    b->count = b->row ? b->numbers / b->row * b->in_row : 0;
  }
  for (i = 0; i < f->count; i++) {
    mess_i_item *x = &f->items[i];
    if (x->kind == 'T') {
      at = x->shape + 1;
      x->book = mess_i_lookup(f, mess_i_json(f, at, mess_i_string(f->text, at, f->text_size), 0), &x->part);
      if (x->book == MESS_I_END || f->items[x->book].kind == 'T' || (f->items[x->book].kind == 'B' && !x->part)) return MESS_MANIFEST;
    } else if (x->kind == 'B') {
      for (part = 1; !(f->flags & MESS_ANY_ORDER) && part < 5u + x->tracked; part++) {
        uint32_t same = mess_i_search(f, mess_i_named(f, i, part));
        if (same != MESS_I_END && f->items[same].kind != 'B') return MESS_MANIFEST;
      }
    } else if (x->kind != 'P') {
      const mess_i_book *b = &f->books[x->book];
      if (x->book >= f->books_count || x->dtype > MESS_FLOAT64 || !b->count) return MESS_MANIFEST;
      if (x->kind != 'E') continue;
      mess_i_shape(f, x->shape, shape, &dims, &count);
      for (count = 1 % b->unit, part = 1; part < dims; part++) count = count * (shape[part] % b->unit) % b->unit;
      if (!dims || count) return MESS_MANIFEST;
      count = (uint64_t)x->rows * mess_i_columns(x, b) * b->count;
      if (shape[0] > MESS_MAX_BYTES || count > MESS_MAX_BYTES) return MESS_TOO_LARGE;
      total += 4 * count;
      f->sums_count++;
    }
    if (total > MESS_MAX_BYTES) return MESS_TOO_LARGE;
  }
  return total > MESS_MAX_BYTES ? MESS_TOO_LARGE : MESS_OK;
}

/* ---- clause 10: the head of the sums of references ---- */

/* Bytes that a table takes, and, with MESS_FAST, its jumps behind where one of the largest would end. */
static uint64_t mess_i_work(const mess_file *f) {
  return 4 * ((uint64_t)f->largest_table + 1) + (MESS_I_IS_FAST(f->flags) ? 8 * MESS_I_JUMPS : 0);
}

/* Reads from `at`; streams decode with a table that stands at `table` before any of their own. */
static mess_i_reader mess_i_read(const mess_file *f, uint32_t at, uint32_t end, uint32_t table) {
  mess_i_reader r;
  r.bytes = f->bytes, r.at = at, r.end = end, r.table = table, r.largest = 0, r.bad = 0;
  r.jumps = MESS_I_IS_FAST(f->flags) ? f->largest_table + 1 : 0;
  return r;
}

/* Small integers, one byte each. */
static int mess_i_small(mess_file *f, mess_i_reader *r, uint32_t count, int low, int high, void *out, mess_i_arena arena, uint64_t need) {
  mess_i_reader first = *r;
  mess_i_sink sink = {0};
  int error = mess_i_integers(&first, count, low, high, 0);
  if (first.largest > f->largest_table) f->largest_table = first.largest;
  *r = mess_i_read(f, r->at, r->end, 0);
  sink.at = (uint8_t *)out, sink.stride = sink.width = 1;
  sink.work = (uint32_t *)mess_i_take(&arena, mess_i_work(f), &need);
  if (need > f->need) f->need = (size_t)need;
  return error ? error : sink.work ? mess_i_integers(r, count, low, high, &sink) : MESS_MEMORY;
}

static int mess_i_sums_head(mess_file *f, mess_i_arena *arena, uint64_t *need) {
  mess_i_reader r = mess_i_read(f, f->start[MESS_I_SUMS], f->end[MESS_I_SUMS], 0), first = r;
  mess_i_arena rest;
  uint64_t terms = 0, exponents = 0, room = 0, integers = 0;
  uint32_t i, j, k, n = 0, *work;
  int error;
  if (!f->sums_count) return r.at == r.end ? MESS_OK : MESS_STREAM;
  if (r.at == r.end || f->bytes[r.at] != 2) return MESS_STREAM;           /* planes of float32 */
  for (i = 0; i < f->count; i++) {
    mess_i_item *x = &f->items[i];
    if (x->kind != 'E') continue;
    x->table[1] = n++;
    x->stream[1] = (uint32_t)terms;
    terms += f->books[x->book].count;
    integers += (uint64_t)x->rows * mess_i_columns(x, &f->books[x->book]);
    if (terms > MESS_MAX_BYTES) return MESS_TOO_LARGE;
  }
  f->steps = (uint8_t *)mess_i_take(arena, 4 * (uint64_t)n, need);
  f->axes = (uint8_t *)mess_i_take(arena, n, need);
  f->levels = (int8_t *)mess_i_take(arena, terms, need);
  if ((error = mess_i_stream(&first, n, 0, 0, 4, 0, 0)) != 0) return error;
  if (first.largest > f->largest_table) f->largest_table = first.largest;
  r = mess_i_read(f, r.at, r.end, 0);
  rest = *arena, room = *need;
  work = (uint32_t *)mess_i_take(&rest, mess_i_work(f), &room);
  if (room > f->need) f->need = (size_t)room;
  if (!work) return MESS_MEMORY;
  if ((error = mess_i_stream(&r, n, 0, f->steps, 4, work, 0)) != 0) return error;
  for (i = 0; i < n; i++) if (mess_i_load(f->steps + 4 * i) - 1 >= 0x7F7FFFFFu) return MESS_STREAM;
  memset(f->axes, 0, n);
  if (f->coder[MESS_I_SUMS] == 2) {
    if ((error = mess_i_small(f, &r, n, 0, 7, f->axes, *arena, *need)) != 0) return error;
    for (i = 0; i < f->count; i++) {
      mess_i_item *x = &f->items[i];
      if (x->kind != 'E') continue;
      x->stream[2] = (uint32_t)exponents;
      j = f->axes[x->table[1]];
      if (j && !(x->rows && mess_i_columns(x, &f->books[x->book]))) return MESS_STREAM;
      exponents += (j & 1 ? x->rows : 0) + (uint64_t)(j & 2 ? mess_i_columns(x, &f->books[x->book]) : 0) + (j & 4 ? f->books[x->book].count : 0);
      if (exponents > MESS_MAX_BYTES) return MESS_TOO_LARGE;
    }
    f->exponents = (int8_t *)mess_i_take(arena, exponents, need);
    if (!arena->at) { f->need = (size_t)(*need > f->need ? *need : f->need); return MESS_MEMORY; }
    if ((error = mess_i_small(f, &r, (uint32_t)exponents, -64, 63, f->exponents, *arena, *need)) != 0) return error;
  }
  if ((error = mess_i_small(f, &r, (uint32_t)terms, -96, 96, f->levels, *arena, *need)) != 0) return error;
  for (i = 0; i < f->count; i++) {                                         /* changes become levels */
    const mess_i_item *x = &f->items[i];
    uint32_t count = x->kind == 'E' ? f->books[x->book].count : 0, before;
    if (x->kind != 'E') continue;
    for (before = i; before && !(f->items[before - 1].kind == 'E' && f->books[f->items[before - 1].book].count == count);) before--;
    for (k = 0; k < count; k++) {
      int level = f->levels[x->stream[1] + k] + (before ? f->levels[f->items[before - 1].stream[1] + k] : 48);
      if (level < 0 || level > 95) return MESS_STREAM;
      f->levels[x->stream[1] + k] = (int8_t)level;
    }
  }
  k = mess_i_skip(&r, 6);
  if (r.bad) return MESS_STREAM;
  f->mask = mess_i_le32(f->bytes + k) | (uint64_t)f->bytes[k + 4] << 32 | (uint64_t)f->bytes[k + 5] << 40;
  if (!f->mask && integers) return MESS_STREAM;
  for (i = 0; i < 48; i++) {
    if (!(f->mask >> i & 1)) continue;
    f->table[i].low = (int32_t)mess_i_zigzag(mess_i_varint(&r, (1 << 17) - 1));
    f->table[i].at = r.at;
    k = mess_i_pass_table(&r);
    if (r.bad || f->table[i].low < -32767 || f->table[i].low + (int32_t)k - 1 > 32767) return MESS_STREAM;
    if (k > f->largest_table) f->largest_table = k;
  }
  for (i = 0; i < f->count; i++)
    if (f->items[i].kind == 'E') {
      uint64_t length = mess_i_varint(&r, ((uint64_t)1 << 40) - 1);
      if (r.bad || length > r.end) return MESS_STREAM;
      f->items[i].table[0] = (uint32_t)length;
    }
  for (i = 0; i < f->count; i++)
    if (f->items[i].kind == 'E') f->items[i].stream[0] = mess_i_skip(&r, f->items[i].table[0]);
  return r.bad || r.at != r.end ? MESS_STREAM : MESS_OK;
}

/* Clause 5.6: passes over all streams and notes where each starts. */
static int mess_i_streams(mess_file *f) {
  mess_i_reader readers[9];
  uint32_t i, j, count;
  int error = 0;
  for (i = 0; i < 9; i++) readers[i] = mess_i_read(f, f->start[i], f->end[i], 0);
  for (i = 0; i < f->books_count; i++) {
    mess_i_book *b = &f->books[i];
    if (b->source >= 0) continue;
    b->stream = readers[2].at, b->table = readers[2].table;
    if ((error = mess_i_stream(&readers[2], b->numbers, 1, 0, 4, 0, 0)) != 0) return error;
  }
  for (i = 0; i < f->count; i++) {
    mess_i_item *x = &f->items[i];
    uint32_t sections[3] = {0, 0, 0};
    count = x->count;
    if (x->kind == 'P') {
      sections[0] = x->is_source ? MESS_I_REFERENCES : MESS_I_TENSORS;
    } else if (x->kind == 'B') {
      sections[0] = sections[1] = MESS_I_NORMS;
    } else if (x->kind == 'M' || x->kind == 'C') {
      count = mess_i_units(x, &f->books[x->book]);
      sections[0] = MESS_I_INDICES;
      if (x->kind == 'M') sections[1] = MESS_I_SCALES, sections[2] = MESS_I_OFFSETS;
    }
    for (j = 0; j < 3 && sections[j]; j++) {
      mess_i_reader *r = &readers[sections[j]];
      x->stream[j] = r->at, x->table[j] = r->table;
      if ((error = mess_i_stream(r, count, 1, 0, 4, 0, 0)) != 0) return error;
    }
    /* indices are integers (clause 9.2), and so are the numbers of integer tensors (clause 9.4) */
    if (sections[0] == MESS_I_INDICES && (f->bytes[x->stream[0]] & 3) != 1) return MESS_STREAM;
    if (x->kind == 'P' && x->dtype > MESS_FLOAT64 && f->bytes[x->stream[0]] != (x->dtype << 2 | 1)) return MESS_STREAM;
  }
  for (i = 0; i < f->books_count; i++)
    if (f->books[i].source >= 0) f->books[i].stream = f->items[f->books[i].source].stream[0], f->books[i].table = f->items[f->books[i].source].table[0];
  for (i = 2; i < 8; i++) {
    if (readers[i].at != readers[i].end) return MESS_STREAM;
    if (readers[i].largest > f->largest_table) f->largest_table = readers[i].largest;
  }
  return MESS_OK;
}

/* Bytes of what float64 numbers need on their way to float32. */
static uint64_t mess_i_wide(const mess_file *f, uint32_t stream, uint32_t count) {
  return f->bytes[stream] == (MESS_FLOAT64 << 2 | 2) ? 8 * (uint64_t)count : 0;
}

/* A stream of section `type` as float32. */
static int mess_i_floats(const mess_file *f, uint32_t type, uint32_t stream, uint32_t table, uint32_t count, void *out,
                         uint32_t stride, uint32_t *work, uint8_t *wide) {
  mess_i_reader r = mess_i_read(f, stream, f->end[type], table);
  return mess_i_stream(&r, count, 1, (uint8_t *)out, stride, work, wide);
}

/* MESS_FAST: references as floats, and the tables of section 8, ready for all that is decoded. */
static int mess_i_prepare(mess_file *f, mess_i_arena *arena, uint64_t *need) {
  uint32_t i;
  for (i = 0; i < f->books_count; i++) {
    mess_i_book *b = &f->books[i];
    float *ready = (float *)mess_i_take(arena, 4 * (uint64_t)b->numbers, need);
    mess_i_arena rest = *arena;
    uint64_t room = *need;
    uint32_t *work = (uint32_t *)mess_i_take(&rest, mess_i_work(f), &room);
    uint8_t *wide = (uint8_t *)mess_i_take(&rest, mess_i_wide(f, b->stream, b->numbers), &room);
    int error;
    if (room > f->need) f->need = (size_t)room;
    if (!rest.at) { arena->at = 0; continue; }
    error = mess_i_floats(f, MESS_I_REFERENCES, b->stream, b->table, b->numbers, ready, 4, work, wide);
    if (error) return error;
    b->ready = ready;
  }
  for (i = 0; i < 48; i++) {
    mess_i_reader r = mess_i_read(f, f->table[i].at, f->end[MESS_I_SUMS], 0);
    mess_i_table table;
    uint32_t size, *sums;
    uint32_t *jump;
    if (!(f->mask >> i & 1)) continue;
    size = mess_i_pass_table(&r);
    sums = (uint32_t *)mess_i_take(arena, 4 * ((uint64_t)size + 1), need);
    jump = (uint32_t *)mess_i_take(arena, 8 * MESS_I_JUMPS, need);
    if (!arena->at) continue;
    mess_i_build(f->bytes, f->table[i].at, f->end[MESS_I_SUMS], &table, sums, jump);
    f->table[i].sums = sums, f->table[i].jump = table.jump;
  }
  return arena->at ? MESS_OK : MESS_MEMORY;
}

/* Clause 4: the text of the manifest, decompressed into memory if it is compressed. */
static int mess_i_text(mess_file *f, mess_i_arena *arena, uint64_t *need) {
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
    text = (uint8_t *)mess_i_take(arena, length, need);
    if (!text) return MESS_MEMORY;
    if (MESS_ZSTD_DECODE(text, (size_t)length, z, size) != length) return MESS_ZSTD;
    f->text = text, f->text_size = (uint32_t)length;
#else
    (void)arena, (void)need;
    return MESS_ZSTD;
#endif
  }
  return f->text_size && f->text_size <= 1u << 26 ? MESS_OK : MESS_MANIFEST;
}

MESS_API int mess_open(mess_file *f, const void *bytes, size_t size, void *memory, size_t memory_size, int flags) {
  mess_i_arena arena;
  uint64_t need = 7;
  int error;
  memset(f, 0, sizeof *f);
  f->bytes = (const uint8_t *)bytes, f->size = (uint32_t)size, f->flags = (uint32_t)flags;
  arena.at = memory_size < 8 ? 0 : (uint8_t *)memory;
  arena.end = arena.at ? arena.at + memory_size : 0;
  if (arena.at) arena.at += (8 - ((uintptr_t)arena.at & 7)) & 7;
  error = mess_i_sections(f, f->bytes, size, flags);
  if (!error) error = mess_i_text(f, &arena, &need);
  if (!error) error = mess_i_contents(f, &arena, &need);
  if (!error) error = mess_i_streams(f);
  if (!error) error = mess_i_sums_head(f, &arena, &need);
  if (!error && MESS_I_IS_FAST(flags)) error = mess_i_prepare(f, &arena, &need);
  if (!error && f->largest_table < 1) f->largest_table = 1;
  if (need > f->need) f->need = (size_t)need;
  f->used = (size_t)need;
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
  if (part && (x->kind != 'B' || part >= 5u + x->tracked)) return MESS_NO_TENSOR;
  t->item = item, t->part = part, t->dtype = x->dtype, t->count = x->count;
  mess_i_shape(f, x->shape, t->shape, &t->dims, &count);
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
  if (item == MESS_I_END) { memset(t, 0, sizeof *t); return MESS_NO_TENSOR; }
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

/* ---- clause 10: sums of references ---- */

typedef struct {                 /* what lies in the scratch of a tensor */
  uint32_t *work;
  uint8_t *wide, *octaves;
  float *book, *floats, *refs, *coefs, *steps;
  uint8_t *units, *planes;
  uint64_t *sums;
  int lowest;                    /* sum of exponents */
} mess_i_plan;

/* Clause 10.9: how many sums of exponents there may be, from the lowest on; 0 if the tensor has no exponents. */
static uint32_t mess_i_exponents(const mess_file *f, const mess_i_item *x, int *lowest) {
  const mess_i_book *b = &f->books[x->book];
  uint32_t axes = f->axes[x->table[1]], axis, i, sizes[3];
  const int8_t *own = axes ? f->exponents + x->stream[2] : 0;
  int highest = 0;
  sizes[0] = x->rows, sizes[1] = mess_i_columns(x, b), sizes[2] = b->count;
  for (axis = 0; axis < 3; axis++) {
    int low = 63, high = -64;
    if (!(axes >> axis & 1)) continue;
    for (i = 0; i < sizes[axis]; i++, own++) {
      if (*own < low) low = *own;
      if (*own > high) high = *own;
    }
    *lowest += low, highest += high;
  }
  return axes ? (uint32_t)(highest - *lowest + 1) : 0;
}

/* Whether indices, scales and offsets fit behind the numbers that are not written yet. */
static int mess_i_in_place(const mess_i_item *x, const mess_i_book *b) {
  uint32_t row = mess_i_row_of(x, b);
  return row && row % b->unit == 0 && b->unit >= (x->kind == 'M' ? 3u : 1u);
}

static uint64_t mess_i_plan_of(const mess_file *f, const mess_tensor *t, mess_i_arena arena, mess_i_plan *p) {
  const mess_i_item *x = &f->items[t->item];
  const mess_i_book *b = 0;
  uint64_t need = 7, wide = 0, floats = 0, n;
  int raw;
  memset(p, 0, sizeof *p);
  if (x->kind == 'B' && t->part > 2) return 0;
  if (x->kind == 'M' || x->kind == 'C' || x->kind == 'E') b = &f->books[x->book];
  n = b && x->kind != 'E' ? mess_i_units(x, b) : x->count;
  if (b && !b->ready) wide = mess_i_wide(f, b->stream, b->numbers);
  raw = x->kind == 'P' && (f->bytes[x->stream[0]] & 3) && f->bytes[x->stream[0]] >> 2 == x->dtype;
  if (!raw && x->dtype != MESS_FLOAT32) floats = 4 * (uint64_t)x->count;
  if (!raw && (x->kind == 'P' || x->kind == 'B')) wide = mess_i_wide(f, x->stream[0], x->count);
  if ((x->kind == 'M' || x->kind == 'B') && mess_i_wide(f, x->stream[1], (uint32_t)n) > wide) wide = mess_i_wide(f, x->stream[1], (uint32_t)n);
  if (x->kind == 'M' && mess_i_wide(f, x->stream[2], (uint32_t)n) > wide) wide = mess_i_wide(f, x->stream[2], (uint32_t)n);
  p->work = (uint32_t *)mess_i_take(&arena, mess_i_work(f), &need);
  p->wide = (uint8_t *)mess_i_take(&arena, wide, &need);
  if (b && !b->ready) p->book = (float *)mess_i_take(&arena, 4 * (uint64_t)b->numbers, &need);
  if (x->kind == 'E') {
    uint32_t columns = mess_i_columns(x, b);
    if (MESS_I_IS_FAST(f->flags)) p->planes = (uint8_t *)mess_i_take(&arena, 4 * (uint64_t)x->rows * columns * b->count, &need);
    else if (floats || b->count > b->unit) floats = 4 * (uint64_t)x->rows * columns * (b->count > b->unit ? b->count : b->unit);
    p->sums = (uint64_t *)mess_i_take(&arena, 8 * ((uint64_t)x->rows + columns), &need);
    p->octaves = (uint8_t *)mess_i_take(&arena, (uint64_t)x->rows + columns, &need);
    p->refs = (float *)mess_i_take(&arena, 4 * (uint64_t)b->count * ((b->unit + 3) & ~3u), &need);
    p->coefs = (float *)mess_i_take(&arena, 4 * (uint64_t)b->count, &need);
    p->lowest = 0;
    n = mess_i_exponents(f, x, &p->lowest);
    if (n) p->steps = (float *)mess_i_take(&arena, 4 * n, &need);
  }
  if (b && x->kind != 'E' && !mess_i_in_place(x, b)) p->units = (uint8_t *)mess_i_take(&arena, 12 * n, &need);
  if (floats) p->floats = (float *)mess_i_take(&arena, floats, &need);
  return arena.at ? need : need + ((uint64_t)1 << 63);
}

static uint32_t mess_i_octave(uint64_t sum, uint32_t n, uint64_t total) {  /* clause 10.4; h + 14 */
  static const uint16_t edges[34] = {7, 8, 9, 11, 13, 15, 18, 21, 25, 30, 35, 42, 50, 59, 70, 83, 99, 118, 140, 166, 198,
                                     235, 280, 332, 395, 470, 559, 664, 790, 940, 1117, 1328, 1580, 1879};
  uint64_t x = sum * 64 * n / total + 6;
  uint32_t low = 0, high = 34;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (edges[middle] <= x) low = middle + 1; else high = middle;
  }
  return low;
}

/* Clauses 10.3 to 10.7. Integer k of unit i, an int32, goes to all + i * stride + k * apart. Until it is decoded, that is
 * where the place of the next unit stands whose integer has the same table: lists that need no memory. */
static int mess_i_sum_integers(const mess_file *f, const mess_i_item *x, mess_i_plan *p, uint32_t columns, uint32_t terms,
                               uint8_t *all, size_t stride, size_t apart) {
  const int8_t *levels = f->levels + x->stream[1];
  uint32_t rows = x->rows, stage, i, r, c;
  uint64_t total = 0;
  mess_i_coder coder, now;
  const uint8_t *lane = f->bytes + x->stream[0];
  if (x->table[0] && !lane[x->table[0] - 1]) return MESS_STREAM;
  mess_i_start(&coder, lane, x->table[0]);
  memset(p->sums, 0, 8 * ((size_t)rows + columns));
  for (stage = 0; stage <= terms && rows && columns; stage++) {
    uint32_t k = stage < 2 ? 0 : stage - 1, from = stage == 1 ? rows / 2 : 0, to = stage ? rows : rows / 2, cell = from * columns;
    uint8_t of_sum[69], *tail[48], *slots = all + k * apart;
    uint32_t heads[48], lowest = 0;
    while (!(f->mask >> lowest & 1)) lowest++;
    for (i = 0; i < 69; i++) {                                             /* clauses 10.4 and 10.5 */
      int context = levels[k] + (int)i - 28;
      context = context < 0 ? 0 : context > 95 ? 47 : context / 2;
      while (context > (int)lowest && !(f->mask >> context & 1)) context--;
      of_sum[i] = (uint8_t)(context < (int)lowest ? (int)lowest : context);
    }
    for (i = 0; i < rows + columns; i++)
      p->octaves[i] = (uint8_t)(!total || (i < rows && !k) ? 14 : mess_i_octave(p->sums[i], i < rows ? rows : columns, total));
    for (i = 0; i < 48; i++) tail[i] = (uint8_t *)&heads[i];
    for (r = from; r < to; r++) {
      const uint8_t *table = of_sum + p->octaves[r], *octaves = p->octaves + rows;
      for (c = 0; c < columns; c++, cell++) {
        uint32_t j = table[octaves[c]];
        mess_i_store(tail[j], cell);
        tail[j] = slots + cell * stride;
      }
    }
    for (i = 0; i < 48; i++) mess_i_store(tail[i], MESS_I_END);
    for (i = lowest; i < 48; i++) {
      mess_i_table table;
      int32_t low = f->table[i].low;
      if (heads[i] == MESS_I_END) continue;
      if (MESS_I_IS_FAST(MESS_FAST) && f->table[i].sums) {
        mess_i_reader reader = mess_i_read(f, f->table[i].at, f->size, 0);
        table.sums = f->table[i].sums, table.jump = f->table[i].jump, table.size = (uint32_t)mess_i_varint(&reader, 65536);
      } else {
        mess_i_build(f->bytes, f->table[i].at, f->end[MESS_I_SUMS], &table, p->work, 0);
      }
      now = coder;                      /* a copy, for registers */
      for (cell = heads[i]; cell != MESS_I_END;) {
        uint8_t *slot = slots + cell * stride;
        cell = mess_i_load(slot);
        mess_i_store(slot, (uint32_t)(low + (table.size > 1 ? (int32_t)mess_i_symbol(&now, &table) : 0)));
      }
      coder = now;
    }
    for (r = from, cell = from * columns; r < to && stage < terms; r++) {
      uint64_t sum = 0;
      for (c = 0; c < columns; c++, cell++) {
        int32_t q = (int32_t)mess_i_load(slots + cell * stride);
        uint32_t magnitude = (uint32_t)(q < 0 ? -q : q);
        sum += magnitude;
        p->sums[rows + c] += magnitude;
      }
      p->sums[r] += sum;
      total += sum;
    }
  }
  return coder.x || coder.left ? MESS_STREAM : MESS_OK;
}

/* Clause 10.9: the step of exponent e, or 0 where it is not a normal number. */
static float mess_i_step(float step, int e) {
  static const uint32_t quarter[4] = {0x3F800000, 0x3F9837F0, 0x3FB504F3, 0x3FD744FD};
  int i = (e + 256) / 4 - 64;
  mess_i_float s = step * mess_i_from_bits(quarter[(e + 256) % 4]);
  uint32_t bits;
  s = s * mess_i_from_bits((uint32_t)(i + 127) << 23);
  bits = mess_i_bits(s);
  return bits < 0x800000 || bits >= 0x7F800000 ? 0.0f : s;
}

/* Clause 10.8: numbers u to u + 4 N - 1 of a unit. */
#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__) && (!defined(__FLT_EVAL_METHOD__) || __FLT_EVAL_METHOD__ == 0)
typedef float mess_i_four __attribute__((vector_size(16)));
#define MESS_I_ADD(N)                                                        \
  {                                                                          \
    mess_i_four sum[N] = {{0}}, ref, product;                                \
    const float *refs = p->refs + u;                                         \
    for (k = 0; k < terms; k++, refs += padded)                              \
      for (j = 0; j < N; j++) {                                              \
        memcpy(&ref, refs + 4 * j, 16);                                      \
        product = p->coefs[k] * ref;                                         \
        sum[j] = sum[j] + product;                                           \
      }                                                                      \
    memcpy(told, sum, 16 * N);                                               \
  }
#else
#define MESS_I_ADD(N)                                                        \
  for (j = 0; j < 4 * N; j++) {                                              \
    mess_i_float sum = 0;                                                    \
    for (k = 0; k < terms; k++) {                                            \
      mess_i_float product = p->coefs[k] * p->refs[(size_t)k * padded + u + j]; \
      sum = sum + product;                                                   \
    }                                                                        \
    told[j] = sum;                                                           \
  }
#endif

static int mess_i_sum(const mess_file *f, const mess_i_item *x, mess_i_plan *p, const float *numbers, uint8_t *floats) {
  const mess_i_book *b = &f->books[x->book];
  uint32_t columns = mess_i_columns(x, b), terms = b->count, unit = b->unit, padded = (unit + 3) & ~3u, k, r, c, u, j;
  size_t stride = p->planes ? 4 : 4 * (size_t)(terms > unit ? terms : unit), cell = 0;
  size_t apart = p->planes ? 4 * (size_t)x->rows * columns : 4;
  uint8_t *integers = p->planes ? p->planes : floats;
  uint32_t axes = f->axes[x->table[1]];
  const int8_t *of_row = axes ? f->exponents + x->stream[2] : f->levels, *of_column = of_row + (axes & 1 ? x->rows : 0);
  const int8_t *of_term = of_column + (axes & 2 ? columns : 0);
  float step = mess_i_from_bits(mess_i_load(f->steps + 4 * x->table[1]));
  int error = mess_i_sum_integers(f, x, p, columns, terms, integers, stride, apart), finite = 1, base = 0;
  if (error) return error;
  for (k = 0; k < terms; k++)
    for (u = 0; u < padded; u++)
      p->refs[(size_t)k * padded + u] = u < unit ? numbers[(size_t)(k / b->in_row) * b->row + k % b->in_row * b->stride + u] : 0;
  for (j = 0, k = mess_i_exponents(f, x, &base); j < k; j++) p->steps[j] = mess_i_step(step, (int)j + p->lowest);
  for (r = 0; r < x->rows; r++) {
    for (c = 0; c < columns; c++, cell++) {
      const uint8_t *in = integers + cell * stride;
      uint8_t *out = floats + cell * 4 * unit;
      base = -p->lowest;
      if (axes & 1) base += of_row[r];
      if (axes & 2) base += of_column[c];
      for (k = 0; k < terms; k++) {
        float own = axes ? p->steps[base + (axes & 4 ? of_term[k] : 0)] : step;
        finite &= own != 0;
        p->coefs[k] = (float)(int32_t)mess_i_load(in + k * apart) * own;
      }
      for (u = 0; u < unit; u += j) {
        float told[12];
        uint32_t n = unit - u;
        if (n > 8) MESS_I_ADD(3) else MESS_I_ADD(1)
        n = n > 8 && n < 12 ? n : n > 8 ? 12 : n < 4 ? n : 4;
        for (j = 0; j < n; j++) finite &= mess_i_finite(mess_i_bits(told[j]));
        memcpy(out + 4 * (size_t)u, told, 4 * (size_t)n);
      }
    }
  }
  return finite ? MESS_OK : MESS_STREAM;
}

/* ---- clause 9: tensors ---- */

/* Clause 9.2: references, times scale, plus offset. */
static int mess_i_matched(const mess_file *f, const mess_i_item *x, mess_i_plan *p, const float *numbers, uint8_t *floats) {
  const mess_i_book *b = &f->books[x->book];
  uint32_t n = mess_i_units(x, b), row = mess_i_row_of(x, b), each = x->kind == 'M' ? 12 : 4, i, u, at = 0, length;
  uint8_t *units = p->units ? p->units : floats + 4 * (size_t)x->count - (size_t)each * n;
  int error, finite = 1;
  mess_i_reader r = mess_i_read(f, x->stream[0] + 1, f->end[MESS_I_INDICES], x->table[0]);
  mess_i_sink sink = {0};
  int64_t low, high;
  if (p->units) each = 12;
  sink.at = units, sink.stride = each, sink.width = 4, sink.below = b->count, sink.work = p->work;
  mess_i_range(f->bytes[x->stream[0]] >> 2, &low, &high);
  error = mess_i_integers(&r, n, low, high, &sink);
  if (!error && x->kind == 'M') error = mess_i_floats(f, MESS_I_SCALES, x->stream[1], x->table[1], n, units + 4, each, p->work, p->wide);
  if (!error && x->kind == 'M') error = mess_i_floats(f, MESS_I_OFFSETS, x->stream[2], x->table[2], n, units + 8, each, p->work, p->wide);
  if (error) return error;
  for (i = 0; i < n; i++, units += each, at = at + length == row ? 0 : at + length) {
    uint32_t index = mess_i_load(units);
    const float *ref = numbers + (size_t)(index / b->in_row) * b->row + index % b->in_row * b->stride;
    float scale = 1, offset = 0;
    length = row - at < b->unit ? row - at : b->unit;
    if (x->kind == 'M') scale = mess_i_from_bits(mess_i_load(units + 4)), offset = mess_i_from_bits(mess_i_load(units + 8));
    for (u = 0; u < length; u++, floats += 4) {
      mess_i_float number = ref[u];
      uint32_t bits;
      if (x->kind == 'M') {
        number = number * scale;
        number = number + offset;
      }
      bits = mess_i_bits(number);
      finite &= mess_i_finite(bits);
      mess_i_store(floats, bits);
    }
  }
  return finite ? MESS_OK : MESS_STREAM;
}

static int mess_i_norm(const mess_file *f, const mess_tensor *t, mess_i_plan *p, uint8_t *out) {  /* clause 9.3 */
  const mess_i_item *x = &f->items[t->item];
  uint32_t i;
  int error = 0;
  if (t->part == MESS_BATCHES_TRACKED) { memset(out, 0, 8); return MESS_OK; }
  for (i = 0; i < x->count && t->part > 2; i++) mess_i_store(out + 4 * i, t->part == MESS_RUNNING_VAR ? 0x3F800000 : 0);
  if (t->part <= 1) error = mess_i_floats(f, MESS_I_NORMS, x->stream[0], x->table[0], x->count, out, 4, p->work, p->wide);
  if (!t->part) out += 4 * (size_t)x->count;
  if (!error && (!t->part || t->part == MESS_BIAS))
    error = mess_i_floats(f, MESS_I_NORMS, x->stream[1], x->table[1], x->count, out, 4, p->work, p->wide);
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

MESS_API size_t mess_scratch(const mess_file *f, const mess_tensor *t) {
  mess_i_plan plan;
  mess_i_arena none = {0, 0};
  uint64_t need = t->item < f->count ? mess_i_plan_of(f, t, none, &plan) << 1 >> 1 : 0;
  return need > (size_t)-1 ? (size_t)-1 : (size_t)need;
}

MESS_API int mess_decode(const mess_file *f, const mess_tensor *t, void *out, size_t out_size, void *scratch, size_t scratch_size) {
  const mess_i_item *x;
  mess_i_arena arena;
  mess_i_plan p;
  const float *numbers = 0;
  uint8_t *floats;
  uint64_t need;
  uint32_t i, width, dtype;
  int error = 0;
  if (t->item >= f->count) return MESS_NO_TENSOR;
  x = &f->items[t->item];
  arena.at = (uint8_t *)scratch, arena.end = arena.at ? arena.at + scratch_size : 0;
  if (arena.at) i = (8 - ((uintptr_t)arena.at & 7)) & 7, arena.at = i > scratch_size ? 0 : arena.at + i;
  need = mess_i_plan_of(f, t, arena, &p);
  if (out_size < t->bytes || need > scratch_size) return MESS_MEMORY;
  if (x->kind == 'B') return mess_i_norm(f, t, &p, (uint8_t *)out);
  if (x->kind == 'P') {
    dtype = f->bytes[x->stream[0]];
    if ((dtype & 3) && dtype >> 2 == x->dtype) {                             /* clause 9.4: the numbers themselves */
      mess_i_reader r = mess_i_read(f, x->stream[0], f->end[x->is_source ? MESS_I_REFERENCES : MESS_I_TENSORS], x->table[0]);
      return mess_i_stream(&r, x->count, 0, (uint8_t *)out, mess_i_width(x->dtype), p.work, 0);
    }
  } else {
    const mess_i_book *b = &f->books[x->book];
    numbers = b->ready;
    if (!numbers) {
      error = mess_i_floats(f, MESS_I_REFERENCES, b->stream, b->table, b->numbers, p.book, 4, p.work, p.wide);
      numbers = p.book;
    }
  }
  floats = p.floats ? (uint8_t *)p.floats : (uint8_t *)out;
  if (!error && x->kind == 'P')
    error = mess_i_floats(f, x->is_source ? MESS_I_REFERENCES : MESS_I_TENSORS, x->stream[0], x->table[0], x->count, floats, 4, p.work, p.wide);
  else if (!error && x->kind == 'E')
    error = mess_i_sum(f, x, &p, numbers, floats);
  else if (!error)
    error = mess_i_matched(f, x, &p, numbers, floats);
  width = mess_i_width(x->dtype);
  for (i = 0; !error && p.floats && i < x->count; i++)
    mess_i_cast(mess_i_load(floats + 4 * (size_t)i), x->dtype, (uint8_t *)out + (size_t)i * width);
  return error;
}

MESS_API void mess_to_float16(const float *in, uint16_t *out, size_t count) {
  size_t i;
  for (i = 0; i < count; i++)
    mess_i_cast(mess_i_load((const uint8_t *)in + 4 * i), MESS_FLOAT16, (uint8_t *)out + 2 * i);
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
