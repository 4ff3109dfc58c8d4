#ifndef MESS_DECODER
#define MESS_DECODER
#include <stdint.h>

typedef struct {         /* integers of 1, 2 or 4 bytes, times step; with step 0 floats of 2 or 4 bytes */
  const void *values;
  float step;
  uint32_t bytes;
} mess_numbers;

typedef struct {         /* references: every `stride` numbers a window of `unit`, within rows of `row` */
  mess_numbers numbers;
  uint32_t count, unit, stride, row;
} mess_book;

typedef struct {         /* `size` numbers in rows of `row`, cut into units of `unit`; a row's last may be short */
  uint32_t size, row, unit;
  const mess_book *book; /* 0: the numbers themselves are in `scale` */
  const void *index;     /* if not 0, of `index_bytes`: a unit is reference[index] * scale + offset; */
  uint32_t index_bytes;  /* if 0: the sum of all references, each times a scale of its own */
  mess_numbers scale, offset;
} mess_tensor;

static inline float mess_half(uint16_t half) {
  union { float value; uint32_t bits; } x;
  uint32_t rest = half & 0x7FFFu;
  x.value = (float)rest * 0x1p-24f;                            /* below 2^-14 this is all */
  if (rest >= 0x400u) x.bits = (rest << 13) + 0x38000000u;
  x.bits |= (uint32_t)(half & 0x8000u) << 16;
  return x.value;
}

static inline float mess_number(const mess_numbers *x, uint32_t i) {
  float number;
  if (x->step == 0) number = x->bytes == 2 ? mess_half(((const uint16_t *)x->values)[i]) : ((const float *)x->values)[i];
  else if (x->bytes == 1) number = (float)((const int8_t *)x->values)[i] * x->step;
  else if (x->bytes == 2) number = (float)((const int16_t *)x->values)[i] * x->step;
  else number = (float)((const int32_t *)x->values)[i] * x->step;
  return number;
}

/* Number i of reference k. */
static inline float mess_reference(const mess_book *book, uint32_t k, uint32_t i) {
  uint32_t in_row = (book->row - book->unit) / book->stride + 1;
  return mess_number(&book->numbers, k / in_row * book->row + k % in_row * book->stride + i);
}

/* Writes unit n of a tensor, such as a 3x3 kernel, and returns how many numbers that is. */
static inline uint32_t mess_unit(const mess_tensor *t, uint32_t n, float *out) {
  uint32_t in_row = (t->row - 1) / t->unit + 1, at = n % in_row * t->unit, i, k = 0;
  uint32_t length = t->row - at < t->unit ? t->row - at : t->unit;
  if (t->book && t->index)
    k = t->index_bytes == 1 ? ((const uint8_t *)t->index)[n] : t->index_bytes == 2 ? ((const uint16_t *)t->index)[n]
                                                                        : ((const uint32_t *)t->index)[n];
  for (i = 0; i < length; i++) {
    float sum = 0, product;
    if (!t->book) {
      sum = mess_number(&t->scale, n / in_row * t->row + at + i);
    } else if (!t->index) {
      for (k = 0; k < t->book->count; k++) {
        product = mess_number(&t->scale, n * t->book->count + k) * mess_reference(t->book, k, i);
        sum = sum + product;
      }
    } else {
      sum = mess_reference(t->book, k, i);
      if (t->scale.values) {
        product = sum * mess_number(&t->scale, n);
        sum = product + mess_number(&t->offset, n);
      }
    }
    out[i] = sum;
  }
  return length;
}

/* Writes a whole tensor, in the order of its shape. */
static inline void mess_decode(const mess_tensor *t, float *out) {
  uint32_t n, done = 0;
  for (n = 0; done < t->size; n++) done += mess_unit(t, n, out + done);
}
#endif
