/* Seconds that mess.h takes to decode a whole file: speed FLAGS ROUNDS < net.mess. Prints numbers, and of each round the
 * seconds of processor time for opening it and for all. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#define MESS_IMPLEMENTATION
#include "mess.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
  static uint8_t bytes[1 << 26];
  size_t size = fread(bytes, 1, sizeof bytes, stdin), have = 0, largest = 1, scratch_size = 1;
  int flags = atoi(argv[argc - 2]), rounds = atoi(argv[argc - 1]), round;
  mess_file net;
  mess_tensor t;
  void *memory = 0, *out, *scratch;
  uint64_t numbers = 0;
  uint32_t n;
  while (mess_open(&net, bytes, size, memory, have, flags) == MESS_MEMORY) memory = realloc(memory, have = net.need);
  for (n = 0; n < net.count; n++) {
    mess_at(&net, n, 0, &t);
    numbers += t.count;
    if (t.bytes > largest) largest = t.bytes;
    if (mess_scratch(&net, &t) > scratch_size) scratch_size = mess_scratch(&net, &t);
  }
  out = malloc(largest), scratch = malloc(scratch_size);
  printf("%llu\n", (unsigned long long)numbers);
  for (round = 0; round < rounds; round++) {
    double start = now(), opened;
    if (mess_open(&net, bytes, size, memory, have, flags)) return 1;
    opened = now();
    for (n = 0; n < net.count; n++)
      if (mess_at(&net, n, 0, &t) || mess_decode(&net, &t, out, largest, scratch, scratch_size)) return 1;
    printf("%.9f %.9f\n", opened - start, now() - start);
  }
  return 0;
}
