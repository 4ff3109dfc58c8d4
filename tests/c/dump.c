/* Decodes .mess files from standard input, each with its size (uint32) before it. For each file it writes the decoder's
 * error code and how many bytes follow, then for each tensor: length of the name, dtype, number of dimensions, bytes,
 * the name, the shape, the bytes.
 *
 *     dump [flags of mess_open] < files
 *
 * Every piece of memory is as large as the decoder asks for and no larger, so that a sanitizer sees a step beyond. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define MESS_IMPLEMENTATION
#include "mess.h"

static uint8_t *told;
static size_t told_size, told_room;

static void tell(const void *bytes, size_t size) {
  if (told_room - told_size < size) {
    told = (uint8_t *)realloc(told, told_room = 2 * told_room + size);
    if (!told) abort();
  }
  if (size) memcpy(told + told_size, bytes, size);
  told_size += size;
}

static void tell_tensor(const mess_file *net, uint32_t item, uint32_t part, const mess_tensor *t, const void *out) {
  char name[8192];
  uint32_t head[4];
  head[0] = (uint32_t)mess_name(net, item, part, name, sizeof name);
  head[1] = t->dtype, head[2] = t->dims, head[3] = t->bytes;
  tell(head, sizeof head);
  tell(name, head[0]);
  tell(t->shape, 8 * t->dims);
  tell(out, t->bytes);
}

static int dump(const uint8_t *bytes, size_t size, int flags) {
  mess_file net;
  mess_tensor t;
  size_t have = 0;
  void *memory = 0;
  uint32_t i, part;
  int error;
  while ((error = mess_open(&net, bytes, size, memory, have, flags)) == MESS_MEMORY) {
    if (net.need <= have) abort();
    free(memory);
    memory = malloc(have = net.need);
    if (!memory) return MESS_MEMORY;
  }
  for (i = 0; !error && i < net.count; i++) {
    for (part = 0; !error && part < 6; part++) {
      size_t scratch_size;
      void *out, *scratch;
      if (mess_at(&net, i, part, &t)) continue;
      scratch_size = mess_scratch(&net, &t);
      out = malloc(t.bytes ? t.bytes : 1);
      scratch = malloc(scratch_size ? scratch_size : 1);
      if (out && scratch) error = mess_decode(&net, &t, out, t.bytes, scratch, scratch_size);
      else error = MESS_MEMORY;
      if (!error && !t.is_batch_norm) tell_tensor(&net, i, part, &t, out);
      free(out);
      free(scratch);
    }
  }
  free(memory);
  return error;
}

#ifndef MESS_FUZZ
int main(int argc, char **argv) {
  uint32_t size;
  while (fread(&size, 4, 1, stdin) == 1) {
    uint8_t *bytes = (uint8_t *)malloc(size ? size : 1);
    uint32_t head[2];
    if (!bytes || fread(bytes, 1, size, stdin) != size) return 1;
    told_size = 0;
    head[0] = (uint32_t)dump(bytes, size, argc > 1 ? atoi(argv[1]) : 0);
    head[1] = head[0] ? 0 : (uint32_t)told_size;
    fwrite(head, sizeof head, 1, stdout);
    if (head[1]) fwrite(told, 1, head[1], stdout);
    free(bytes);
  }
  return 0;
}
#else
/* For libFuzzer: any bytes, taken as a file whose length and checksums are right. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  uint8_t *copy = (uint8_t *)malloc(size ? size : 1);
  size_t i;
  if (!copy) return 0;
  if (size) memcpy(copy, bytes, size);
  for (i = 0; size >= 22 && i < 8; i++) copy[14 + i] = (uint8_t)((uint64_t)size >> 8 * i);
  told_size = 0;
  dump(copy, size, MESS_TRUSTED);
  told_size = 0;
  dump(copy, size, MESS_TRUSTED | MESS_FAST);
  free(copy);
  return 0;
}
#endif
