/* mess.h for JavaScript: one file an instance of the module, its bytes at the beginning of the free memory. */
#define MESS_API static
#define MESS_IMPLEMENTATION
#include "mess.h"

#define EXPORTED(name) __attribute__((export_name(#name)))
#define PAGE 65536u

extern unsigned char __heap_base;
static uint32_t top, file_at;
static mess_file net;
static mess_tensor tensor;
static char name[4200];

void *memcpy(void *to, const void *from, size_t size) {
  unsigned char *a = to;
  const unsigned char *b = from;
  while (size--) *a++ = *b++;
  return to;
}
void *memset(void *to, int byte, size_t size) {
  unsigned char *a = to;
  while (size--) *a++ = (unsigned char)byte;
  return to;
}
int memcmp(const void *a, const void *b, size_t size) {
  const unsigned char *x = a, *y = b;
  for (; size--; x++, y++) if (*x != *y) return *x < *y ? -1 : 1;
  return 0;
}
size_t strlen(const char *text) {
  size_t n = 0;
  while (text[n]) n++;
  return n;
}
char *strchr(const char *text, int c) {
  for (; *text; text++) if (*text == (char)c) return (char *)text;
  return c ? 0 : (char *)text;
}

/* Where `size` bytes are free behind what is kept; 0 where memory cannot grow so far. */
static uint32_t room(uint64_t size) {
  uint64_t end = (uint64_t)top + size, have = (uint64_t)__builtin_wasm_memory_size(0) * PAGE;
  if (end > have && (end > 0x7FFF0000u || __builtin_wasm_memory_grow(0, (size_t)((end - have + PAGE - 1) / PAGE)) == (size_t)-1)) return 0;
  return top;
}

/* Keeps room for a file, and returns where its bytes go. */
EXPORTED(file_room) uint32_t file_room(uint32_t size) {
  top = ((uint32_t)(uintptr_t)&__heap_base + 15) & ~15u;
  file_at = room(size);
  if (file_at) top = (top + size + 15) & ~15u;
  return file_at;
}

EXPORTED(open) int open(uint32_t size) {
  size_t have = 0;
  int error;
  while ((error = mess_open(&net, (const void *)(uintptr_t)file_at, size, (void *)(uintptr_t)(have ? top : 0), have, MESS_FAST)) == MESS_MEMORY) {
    if (net.need <= have || !room(net.need)) return MESS_MEMORY;
    have = net.need;
  }
  top = (top + (uint32_t)net.used + 15) & ~15u;
  return error;
}

EXPORTED(count) uint32_t count(void) { return net.count; }

/* Where { item, part, dtype, dims (uint32), shape (8 uint64), count, bytes, is_batch_norm (uint32) } of a tensor is; 0 if none. */
EXPORTED(at) uint32_t at(uint32_t item, uint32_t part) {
  return mess_at(&net, item, part, &tensor) ? 0 : (uint32_t)(uintptr_t)&tensor;
}

EXPORTED(name_at) uint32_t name_at(void) { return (uint32_t)(uintptr_t)name; }
EXPORTED(name_size) uint32_t name_size(uint32_t item, uint32_t part) { return (uint32_t)mess_name(&net, item, part, name, sizeof name); }

/* Decodes what `at` has found last; where its numbers are, or minus an error. */
EXPORTED(decode) int decode(void) {
  size_t scratch = mess_scratch(&net, &tensor);
  uint32_t out = (uint32_t)(((uint64_t)tensor.bytes + 15) & ~(uint64_t)15);
  int error;
  if (!room((uint64_t)out + scratch)) return -MESS_MEMORY;
  error = mess_decode(&net, &tensor, (void *)(uintptr_t)top, tensor.bytes, (void *)(uintptr_t)(top + out), scratch);
  return error ? -error : (int)top;
}

static uint32_t stream_end(uint32_t from, uint32_t section) {
  uint32_t i, j, at, end = net.end[section];
  for (i = 0; i < net.count; i++)
    for (j = 0; mess_i_section(&net.items[i], j); j++) {
      at = net.items[i].stream[j].at;
      if (at > from && at < end) end = at;
    }
  return end;
}

/* Bytes of the file that are an item's own: its streams, or its lane. */
EXPORTED(own_bytes) uint32_t own_bytes(uint32_t item) {
  const mess_i_item *x = &net.items[item];
  uint32_t j, sum = 0;
  if (item >= net.count) return 0;
  if (x->kind == 'E') return x->stream[0].table;
  for (j = 0; mess_i_section(x, j); j++) sum += stream_end(x->stream[j].at, mess_i_section(x, j)) - x->stream[j].at;
  return sum;
}

EXPORTED(error_at) uint32_t error_at(int code) { return (uint32_t)(uintptr_t)mess_error(code); }
EXPORTED(error_size) uint32_t error_size(int code) { return (uint32_t)strlen(mess_error(code)); }
EXPORTED(manifest_at) uint32_t manifest_at(void) { return (uint32_t)(uintptr_t)net.text; }
EXPORTED(manifest_size) uint32_t manifest_size(void) { return net.text_size; }
EXPORTED(root) float root(uint32_t item) { return item < net.count && net.items[item].kind == 'B' ? mess_i_root(&net, net.items[item].book) : 1; }
