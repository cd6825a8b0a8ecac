// Runs in the guest: one TCP stream to or from the host for as long as the host keeps it, from one large buffer.
// Usage: stream send|receive ADDRESS PORT SECONDS
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[256 << 10];

int main(int count, char** arguments) {
  if (count != 5) return 2;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[3]))};
  inet_pton(AF_INET, arguments[2], &address.sin_addr);
  const int stream = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(stream, (struct sockaddr*)&address, sizeof address) != 0) return 1;
  const int sends = strcmp(arguments[1], "send") == 0;
  const time_t end = time(NULL) + atoi(arguments[4]);
  for (;;) {
    const ssize_t done = sends ? write(stream, buffer, sizeof buffer) : read(stream, buffer, sizeof buffer);
    if (done <= 0 || time(NULL) > end) return 0;
  }
}
