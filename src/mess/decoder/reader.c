/* mess.h for `mess.codec.native`: a shared library that Python loads with ctypes. Files come with checksums compared, and
 * with their tensors in the order of the network. */
#define MESS_API static
#define MESS_IMPLEMENTATION
#include "mess.h"

#if defined(_WIN32)
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif
#define FLAGS (MESS_FAST | MESS_TRUSTED | MESS_ANY_ORDER)

EXPORTED size_t mess_reader_size(void);
EXPORTED int mess_reader_open(mess_file *file, const void *bytes, size_t size, void *memory, size_t have, size_t *need);
EXPORTED size_t mess_reader_scratch(const mess_file *file, uint32_t item, uint32_t part);
EXPORTED int mess_reader_decode(const mess_file *file, size_t count, const uint32_t *items, const uint32_t *parts,
                                void *const *outs, const size_t *sizes, void *scratch, size_t scratch_size);

size_t mess_reader_size(void) { return sizeof(mess_file); }

int mess_reader_open(mess_file *file, const void *bytes, size_t size, void *memory, size_t have, size_t *need) {
  int error = mess_open(file, bytes, size, memory, have, FLAGS);
  *need = file->need;
  return error;
}

size_t mess_reader_scratch(const mess_file *file, uint32_t item, uint32_t part) {
  mess_tensor t;
  return mess_at(file, item, part, &t) ? 0 : mess_scratch(file, &t);
}

/* Decodes tensors one after the other; threads may do it at the same time, each with others and a scratch of its own. */
int mess_reader_decode(const mess_file *file, size_t count, const uint32_t *items, const uint32_t *parts,
                       void *const *outs, const size_t *sizes, void *scratch, size_t scratch_size) {
  size_t n;
  int error = 0;
  for (n = 0; n < count && !error; n++) {
    mess_tensor t;
    error = mess_at(file, items[n], parts[n], &t);
    if (!error && t.bytes != sizes[n]) error = MESS_MEMORY;
    if (!error) error = mess_decode(file, &t, outs[n], sizes[n], scratch, scratch_size);
  }
  return error;
}
