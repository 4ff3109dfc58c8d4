/* Decodes a network layer by layer on a Cortex-M4 and says, through semihosting, what came out and what memory it took.
 * NET_H is a file that `mess decompress -o net.c` has written. */
#include NET_H

#define MEMORY NET_MEMORY
extern uint32_t _stack_top[], _stack_low[];
static uint64_t memory[NET_MEMORY / 8], scratch[NET_SCRATCH / 8], out[NET_OUTPUT / 8];
static mess_file net;
static uint32_t largest_scratch;

static void say(const char *text) {
  register uint32_t op __asm__("r0") = 4; /* SYS_WRITE0 */
  register const char *what __asm__("r1") = text;
  __asm__ volatile("bkpt 0xAB" : "+r"(op) : "r"(what) : "memory");
}

static void say_number(const char *before, uint32_t x, int base) {
  char text[12];
  int at = 11;
  text[at] = 0;
  do text[--at] = "0123456789abcdef"[x % (uint32_t)base]; while (x /= (uint32_t)base);
  say(before);
  say(text + at);
}

int main(void) {
  uint32_t n, i, *low;
  int error = mess_open(&net, net_mess, sizeof net_mess, memory, sizeof memory, 0);
  for (n = 0; !error && n < net.count; n++) {
    mess_tensor t;
    char name[64];
    uint32_t hash = 2166136261u;
    mess_at(&net, n, MESS_WHOLE, &t);
    mess_name(&net, n, MESS_WHOLE, name, sizeof name);
    if (mess_scratch(&net, &t) > largest_scratch) largest_scratch = mess_scratch(&net, &t);
    error = mess_decode(&net, &t, out, sizeof out, scratch, sizeof scratch);
    for (i = 0; i < t.bytes; i++) hash = (hash ^ ((const uint8_t *)out)[i]) * 16777619u;
    say(name);
    say_number(" ", hash, 16);
    say("\n");
  }
  say_number("error ", (uint32_t)error, 10);
  say_number("\nneed ", (uint32_t)net.need, 10);
  say_number("\nmemory ", sizeof memory, 10);
  say_number("\nscratch ", sizeof scratch, 10);
  say_number("\nscratch_need ", largest_scratch, 10);
  say_number("\noutput ", sizeof out, 10);
  say_number("\nfile ", sizeof net, 10);
  for (low = _stack_low; *low == 0xA5A5A5A5u; low++) {}
  say_number("\nstack ", (uint32_t)((uintptr_t)_stack_top - (uintptr_t)low), 10);
  say("\n");
  return error;
}

extern uint32_t _bss_start[], _bss_end[];
void start(void);
void start(void) {
  uint32_t *p;
  *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* the floating-point unit */
  for (p = _bss_start; p < _bss_end; p++) *p = 0;
  for (p = _stack_low; p < (uint32_t *)__builtin_frame_address(0) - 16; p++) *p = 0xA5A5A5A5u;
  main();
  {
    register uint32_t op __asm__("r0") = 0x18, reason __asm__("r1") = 0x20026; /* SYS_EXIT */
    __asm__ volatile("bkpt 0xAB" : : "r"(op), "r"(reason));
  }
  for (;;) {}
}
__attribute__((section(".vectors"), used)) static void *const vectors[2] = {_stack_top, (void *)start};
