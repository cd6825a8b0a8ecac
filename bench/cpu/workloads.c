// Workloads that bench/cpu runs natively, on the software CPU and under QEMU: one line "name nanoseconds-per-iteration" each.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static volatile uint64_t sink;

static void alu(long n) {
  uint64_t a = 1, b = 2, c = 3;
  for (long i = 0; i < n; ++i) {
    a = a * 3 + b;
    b ^= c << 7;
    c += a >> 3;
  }
  sink = a + b + c;
}

static uint32_t table[256];
static uint8_t buffer[4096];
static void crc(long n) {
  uint32_t x = ~0U;
  for (long i = 0; i < n; ++i) x = table[(x ^ buffer[i & 4095]) & 255] ^ (x >> 8);
  sink = x;
}

static __attribute__((noinline)) int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static void calls(long n) {
  for (long i = 0; i < n; ++i) sink = (uint64_t)fib(15);
}

static int compare(const void* a, const void* b) { return *(const int*)a - *(const int*)b; }
static void sorting(long n) {
  static int data[4096];
  for (long i = 0; i < n; ++i) {
    uint32_t x = 1;
    for (int j = 0; j < 4096; ++j) data[j] = (int)((x = x * 1664525 + 1013904223) >> 8);
    qsort(data, 4096, sizeof data[0], compare);
  }
  sink = (uint64_t)data[7];
}

static void* chain[2048];
static void chase(long n) {
  void** p = chain;
  for (long i = 0; i < n; ++i) p = *p;
  sink = (uint64_t)p;
}

static void sse_double(long n) {
  volatile double seed = 1.0001;
  double x = seed, y = 0.5;
  for (long i = 0; i < n; ++i) {
    x = x * 1.0000001 + y;
    y = y / 1.0000002 + 1e-9;
  }
  sink = (uint64_t)(x + y);
}

static void x87(long n) {
  volatile long double seed = 1.0001L;
  long double x = seed, y = 0.5L;
  for (long i = 0; i < n; ++i) {
    x = x * 1.0000001L + y;
    y = y / 1.0000002L + 1e-9L;
  }
  sink = (uint64_t)(x + y);
}

static float va[1024], vb[1024];
__attribute__((optimize("tree-vectorize"))) static void vector(long n) {
  for (long i = 0; i < n; ++i) {
    for (int j = 0; j < 1024; ++j) va[j] = va[j] * 0.5f + vb[j];
    __asm__ volatile("" : : : "memory");
  }
}

static char from[65536], to[65536];
static void copying(long n) {
  for (long i = 0; i < n; ++i) {
    memcpy(to, from, sizeof to);
    __asm__ volatile("" : : : "memory");
  }
}
static void rep_movsb(long n) {
  for (long i = 0; i < n; ++i) {
    void *d = to, *s = from;
    size_t c = sizeof to;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(c) : : "memory");
  }
}

static void getppid_(long n) {
  for (long i = 0; i < n; ++i) syscall(SYS_getppid);
}

static void pipes(long n) {
  int a[2], b[2];
  char c = 0;
  if (pipe(a) || pipe(b)) exit(1);
  pid_t child = fork();
  if (child == 0) {
    while (read(a[0], &c, 1) == 1 && c == 0) if (write(b[1], &c, 1) != 1) break;
    _exit(0);
  }
  for (long i = 0; i < n; ++i) {
    if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1) exit(1);
  }
  c = 1;
  if (write(a[1], &c, 1) != 1) exit(1);
  waitpid(child, NULL, 0);
  close(a[0]); close(a[1]); close(b[0]); close(b[1]);
}

static void forks(long n) {
  for (long i = 0; i < n; ++i) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, NULL, 0);
  }
}

static char* self;
static void execs(long n) {
  for (long i = 0; i < n; ++i) {
    pid_t child = fork();
    if (child == 0) {
      execl(self, self, "nothing", (char*)NULL);
      _exit(1);
    }
    waitpid(child, NULL, 0);
  }
}

static void faults(long n) {
  for (long i = 0; i < n; i += 256) {
    char* p = mmap(NULL, 256 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int j = 0; j < 256; ++j) p[j * 4096] = 1;
    munmap(p, 256 * 4096);
  }
}

// The best of many short runs: what the processor can do when nothing else wants it.
static void measure(const char* name, void (*work)(long), long first) {
  long n = first;
  double best = 0, spent = 0;
  for (int runs = 0; runs < 200 && (spent < 0.6 || runs < 5); ++runs) {
    double start = now();
    work(n);
    double took = now() - start;
    spent += took;
    if (took < 0.003 && n < (1L << 40)) {
      n *= 2;
      continue;
    }
    if (best == 0 || took / (double)n < best) best = took / (double)n;
  }
  printf("BENCH %s %.3f\n", name, best * 1e9);
  fflush(stdout);
}

int main(int argc, char** argv) {
  if (argc > 1) return 0;
  self = argv[0];
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320U ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  for (int i = 0; i < 2048; ++i) chain[i] = &chain[(i * 769 + 1) & 2047];
  measure("alu", alu, 100000);
  measure("crc-table", crc, 100000);
  measure("recursive-calls", calls, 10);
  measure("quicksort", sorting, 1);
  measure("pointer-chase", chase, 100000);
  measure("sse2-double", sse_double, 100000);
  measure("x87", x87, 100000);
  measure("sse-vector", vector, 100);
  measure("memcpy-64k", copying, 10);
  measure("rep-movsb-64k", rep_movsb, 10);
  measure("getppid", getppid_, 1000);
  measure("page-fault", faults, 256);
  measure("pipe-ping-pong", pipes, 100);
  measure("fork-exit-wait", forks, 4);
  measure("fork-exec-wait", execs, 4);
  return 0;
}
