/* What mess.h takes of string.h, where there is no C library (wasm.c has it). */
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);
char *strchr(const char *text, int c);
