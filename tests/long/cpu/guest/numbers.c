// What a compiler, a libm and a scheduler of registers make of a program: its output is the same on every processor.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252u;
static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static int by_value(const void* a, const void* b) {
  const uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
  return (x > y) - (x < y);
}

static void integers(void) {
  uint64_t sum = 0;
  int64_t quotients = 0;
  for (int i = 0; i < 200000; ++i) {
    const uint64_t a = next(), b = next() | 1;
    sum += (a / b) ^ (a % b) ^ (uint64_t)__builtin_popcountll(a) ^ (a << (b & 63)) ^ (a >> (b & 31));
    quotients += (int64_t)a / ((int32_t)b | 1) + (int16_t)a * (int8_t)b;
  }
  printf("integers %" PRIu64 " %" PRId64 "\n", sum, quotients);
}

static void sorting(void) {
  enum { kCount = 50000 };
  uint32_t* values = malloc(kCount * sizeof *values);
  for (int i = 0; i < kCount; ++i) values[i] = (uint32_t)next();
  qsort(values, kCount, sizeof *values, by_value);
  uint64_t mixed = 0;
  for (int i = 0; i < kCount; ++i) mixed = mixed * 31 + values[i];
  printf("sorting %" PRIu64 "\n", mixed);
  free(values);
}

static void floats(void) {
  double sum = 0;
  float narrow = 0;
  long double wide = 0;
  for (int i = 1; i < 50000; ++i) {
    const double x = (double)(next() >> 11) * 0x1p-53;
    sum += sin(x) * cos(3 * x) + exp(-x) + log1p(x) + pow(x, 0.3) + atan2(x, 1 - x) + fmod(100 * x, 7);
    narrow += sqrtf((float)x) * 0.001f;
    wide += sqrtl((long double)x) / i + sinl((long double)x);
  }
  printf("floats %.10g %.5g %.12Lg\n", sum, (double)narrow, wide);
  printf("rounding %ld %ld %lld %g %g\n", lrint(2.5), lround(-2.5), llrint(1e15 + 0.5), rint(-0.5), trunc(-1.7));
}

static void texts(void) {
  char text[4096];
  size_t length = 0;
  for (int i = 0; i < 200; ++i) length += (size_t)snprintf(text + length, sizeof text - length, "%d:%x,", i * 7919, (unsigned)next());
  uint64_t mixed = 0;
  for (int shift = 0; shift < 64; ++shift) {
    char copy[4200];
    memset(copy, shift, sizeof copy);
    copy[sizeof copy - 1] = 0;
    memcpy(copy + shift, text, length);
    memmove(copy + shift / 2, copy + shift, length);
    mixed = mixed * 1099511628211u + strlen(strchr(copy + shift / 2, ',')) + (unsigned)(memcmp(copy + shift / 2, text, length) == 0);
  }
  printf("texts %zu %" PRIu64 "\n", length, mixed);
}

int main(void) {
  integers();
  sorting();
  floats();
  texts();
  return 0;
}
