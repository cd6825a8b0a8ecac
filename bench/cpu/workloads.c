// Workloads that bench/cpu runs natively, on the software CPU and under QEMU: one line "name nanoseconds-per-iteration" each.
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
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

// What CoreMark is made of, in about its proportions: a list that is searched and reversed, a matrix of small integers, a state
// machine over text, and a CRC, bit by bit, of what they find.
static uint16_t crc16(uint16_t crc, uint16_t value) {
  for (int i = 0; i < 16; ++i, value >>= 1) crc = (uint16_t)((crc ^ value) & 1 ? (crc >> 1) ^ 0xA001 : crc >> 1);
  return crc;
}

struct node {
  struct node* next;
  uint16_t key, value;
};

static uint16_t use_list(uint16_t crc) {
  static struct node nodes[64];
  struct node* head = NULL;
  for (int i = 0; i < 64; ++i) {
    nodes[i] = (struct node){head, (uint16_t)(i * 37 & 63), (uint16_t)(i ^ crc)};
    head = &nodes[i];
  }
  for (uint16_t key = 0; key < 16; ++key) {
    struct node* found = head;
    while (found != NULL && found->key != key * 4) found = found->next;
    crc = crc16(crc, found == NULL ? key : found->value);
    struct node* reversed = NULL;
    while (head != NULL) {
      struct node* next = head->next;
      head->next = reversed;
      reversed = head;
      head = next;
    }
    head = reversed;
  }
  return crc;
}

static uint16_t use_matrix(uint16_t crc) {
  static int16_t a[12][12], b[12][12];
  int32_t sum = 0;
  for (int i = 0; i < 12; ++i) {
    for (int j = 0; j < 12; ++j) {
      a[i][j] = (int16_t)(crc + i * j);
      b[i][j] = (int16_t)(crc ^ (i - j));
    }
  }
  for (int i = 0; i < 12; ++i) {
    for (int j = 0; j < 12; ++j) {
      int32_t cell = 0;
      for (int k = 0; k < 12; ++k) cell += a[i][k] * b[k][j];
      sum += cell >> 4 & 0x7F;
    }
  }
  return crc16(crc, (uint16_t)sum);
}

static uint16_t use_states(uint16_t crc) {
  static const char text[] = "5012,-874,+122,1.5e-6,0x3f,.25,T0.3e-1F,-110.700,+0.64400,";
  unsigned states[5] = {0}, state = 0;
  for (const char* at = text; *at != 0; ++at) {
    switch (state) {
      case 0: state = *at >= '0' && *at <= '9' ? 1 : *at == '+' || *at == '-' ? 0 : *at == '.' ? 2 : 4; break;
      case 1: state = *at >= '0' && *at <= '9' ? 1 : *at == '.' ? 2 : *at == ',' ? 0 : 4; break;
      case 2: state = *at >= '0' && *at <= '9' ? 2 : *at == 'e' ? 3 : *at == ',' ? 0 : 4; break;
      case 3: state = *at == ',' ? 0 : 3; break;
      default: state = *at == ',' ? 0 : 4; break;
    }
    ++states[state];
  }
  for (int i = 0; i < 5; ++i) crc = crc16(crc, (uint16_t)states[i]);
  return crc;
}

static void integer_mix(long n) {
  uint16_t crc = 0;
  for (long i = 0; i < n; ++i) crc = use_states(use_matrix(use_list(crc)));
  sink = crc;
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

// The best of many short runs: what the processor can do when nothing else wants it. A run is far shorter than a time slice: longer ones
// are never left alone on a busy computer.
static const double kShort = 0.0002;

static void measure(const char* name, void (*work)(long), long first) {
  long n = first;
  double best = 0, spent = 0;
  for (int runs = 0; runs < 4000 && (spent < 0.6 || runs < 5); ++runs) {
    double start = now();
    work(n);
    double took = now() - start;
    spent += took;
    if (took < kShort && n < (1L << 40)) {
      n *= 2;
      continue;
    }
    if (best == 0 || took / (double)n < best) best = took / (double)n;
  }
  printf("BENCH %s %.3f\n", name, best * 1e9);
  fflush(stdout);
}

// Nanoseconds until as many processes as are asked for, each on a processor of its own, have done the same work.
static double together(int processes) {
  double best = 0;
  struct {
    atomic_int ready, go;
  }* start_line = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (int run = 0; run < 12; ++run) {
    start_line->ready = start_line->go = 0;
    for (int i = 0; i < processes; ++i) {
      if (fork() != 0) continue;
      cpu_set_t own;
      CPU_ZERO(&own);
      CPU_SET(i, &own);
      sched_setaffinity(0, sizeof own, &own);
      start_line->ready++;
      while (start_line->go == 0) sched_yield();
      integer_mix(800);
      _exit(0);
    }
    while (start_line->ready < processes) usleep(100);
    double start = now();
    start_line->go = 1;
    while (wait(NULL) > 0) continue;
    double took = now() - start;
    if (best == 0 || took < best) best = took;
  }
  munmap(start_line, 4096);
  return best * 1e9;
}

// workloads [all|pair]: an argument of another kind is what fork-exec-wait starts.
int main(int argc, char** argv) {
  int is_pair = argc > 1 && strcmp(argv[1], "pair") == 0;
  if (argc > 1 && !is_pair && strcmp(argv[1], "all") != 0) return 0;
  self = argv[0];
  if (is_pair) {
    printf("BENCH one-process %.0f\n", together(1));
    printf("BENCH two-processes %.0f\n", together(2));
    return 0;
  }
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = c & 1 ? 0xEDB88320U ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  for (int i = 0; i < 2048; ++i) chain[i] = &chain[(i * 769 + 1) & 2047];
  measure("alu", alu, 100000);
  measure("crc-table", crc, 100000);
  measure("integer-mix", integer_mix, 100);
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
