// TCP streams between a guest and its host, each counted by the one who receives.
//   stream serve PORT                         at the host, on 127.0.0.1: one connection after another, for ever
//   stream send|receive ADDRESS PORT SECONDS  in the guest: prints MB/s
// A client begins with 's' or 'r' and the seconds. Who sends does so for that long and ends its side; when that was the client, the
// server answers with the rate as text.
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[256 << 10];

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void send_for(int stream, double seconds) {
  const double end = now() + seconds;
  while (now() < end && write(stream, buffer, sizeof buffer) > 0) {}
  shutdown(stream, SHUT_WR);
}

/// From the first byte to the end of the stream, in MB/s.
static double receive_all(int stream) {
  double start = 0, total = 0;
  for (;;) {
    const ssize_t got = read(stream, buffer, sizeof buffer);
    if (start == 0) start = now();
    if (got <= 0) return total / (now() - start) / 1e6;
    total += (double)got;
  }
}

static int serve(struct sockaddr_in address) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  const int yes = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0 || listen(listener, 4) != 0) {
    perror("stream: listening");
    return 1;
  }
  for (;;) {
    const int stream = accept(listener, NULL, NULL);
    unsigned char wish[2];
    if (stream >= 0 && recv(stream, wish, sizeof wish, MSG_WAITALL) == sizeof wish) {
      if (wish[0] == 'r') {
        send_for(stream, wish[1]);
        (void)!read(stream, buffer, 1);  // until the client has all of it
      } else {
        dprintf(stream, "%.2f\n", receive_all(stream));
      }
    }
    close(stream);
  }
}

int main(int count, char** arguments) {
  signal(SIGPIPE, SIG_IGN);
  const int serves = count == 3 && strcmp(arguments[1], "serve") == 0;
  if (!serves && count != 5) return 2;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[serves ? 2 : 3]))};
  inet_pton(AF_INET, serves ? "127.0.0.1" : arguments[2], &address.sin_addr);
  if (serves) return serve(address);
  const int stream = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(stream, (struct sockaddr*)&address, sizeof address) != 0) {
    perror("stream: connecting");
    return 1;
  }
  const char wish[2] = {arguments[1][0], (char)atoi(arguments[4])};
  if (write(stream, wish, sizeof wish) != sizeof wish) return 1;
  if (wish[0] == 'r') {
    printf("%.2f\n", receive_all(stream));
    return 0;
  }
  send_for(stream, wish[1]);
  const ssize_t got = read(stream, buffer, sizeof buffer);
  return got > 0 && write(STDOUT_FILENO, buffer, (size_t)got) == got ? 0 : 1;
}
