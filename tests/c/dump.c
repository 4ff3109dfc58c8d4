/* Writes all tensors of a .mess file: dump [fast] < net.mess. For each: length of the name, the name, dtype, number of
 * dimensions, shape, bytes, the bytes. Every piece of memory is as large as it need be and no larger, so that a
 * sanitizer sees a step beyond. Exits with the decoder's error code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define MESS_IMPLEMENTATION
#include "mess.h"

static int write_tensor(const mess_file *net, uint32_t item, uint32_t part, const mess_tensor *t, void *out) {
  char name[8192];
  uint32_t head[4];
  head[0] = (uint32_t)mess_name(net, item, part, name, sizeof name);
  head[1] = t->dtype, head[2] = t->dims, head[3] = t->bytes;
  fwrite(head, sizeof head, 1, stdout);
  fwrite(name, 1, head[0], stdout);
  fwrite(t->shape, 8, t->dims, stdout);
  fwrite(out, 1, t->bytes, stdout);
  return 0;
}

int dump(const uint8_t *bytes, size_t size, int flags, int quiet) {
  mess_file net;
  mess_tensor t, whole;
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
    mess_at(&net, i, 0, &whole);
    for (part = 0; !error && part < 6; part++) {
      size_t scratch_size;
      void *out, *scratch;
      if (mess_at(&net, i, part, &t)) continue;
      if (whole.is_batch_norm && !part && !quiet) continue;
      scratch_size = mess_scratch(&net, &t);
      out = malloc(t.bytes ? t.bytes : 1);
      scratch = malloc(scratch_size ? scratch_size : 1);
      if (out && scratch) error = mess_decode(&net, &t, out, t.bytes, scratch, scratch_size);
      else error = MESS_MEMORY;
      if (!error && !quiet) write_tensor(&net, i, part, &t, out);
      free(out);
      free(scratch);
    }
  }
  free(memory);
  return error;
}

#ifndef MESS_FUZZ
int main(int argc, char **argv) {
  size_t size = 0, room = 1 << 16, n;
  uint8_t *bytes = malloc(room), *exact;
  int error;
  while (bytes && (n = fread(bytes + size, 1, room - size, stdin)) > 0)
    if ((size += n) == room) bytes = realloc(bytes, room *= 2);
  exact = malloc(size ? size : 1);
  if (!bytes || !exact) return MESS_MEMORY;
  memcpy(exact, bytes, size);
  free(bytes);
  error = dump(exact, size, argc > 1 && !strcmp(argv[1], "fast") ? MESS_FAST : 0, 0);
  free(exact);
  return error;
}
#else
/* For libFuzzer: anything that the decoder does with a file, its checksums made right (they are not compared). */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  uint8_t *copy = malloc(size ? size : 1);
  if (!copy) return 0;
  memcpy(copy, bytes, size);
  if (size >= 22) for (int i = 0; i < 8; i++) copy[14 + i] = (uint8_t)((uint64_t)size >> 8 * i);
  dump(copy, size, MESS_TRUSTED, 1);
  dump(copy, size, MESS_TRUSTED | MESS_FAST, 1);
  free(copy);
  return 0;
}
#endif
