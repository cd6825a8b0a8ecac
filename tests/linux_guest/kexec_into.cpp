// Runs in a guest: goes into another kernel without the machine's help, as kexec(8) does.
//
//   kexec_into KERNEL INITRD COMMANDLINE
#include <fcntl.h>
#include <linux/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

int main(int count, char** words) {
  if (count != 4) {
    std::puts("usage: kexec_into KERNEL INITRD COMMANDLINE");
    return 2;
  }
  const int kernel = ::open(words[1], O_RDONLY), initrd = ::open(words[2], O_RDONLY);
  if (::syscall(SYS_kexec_file_load, kernel, initrd, std::strlen(words[3]) + 1, words[3], 0UL) != 0) {
    std::printf("kexec_into: loading: %s\n", std::strerror(errno));
    return 1;
  }
  ::sync();
  ::syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, nullptr);
  std::printf("kexec_into: going: %s\n", std::strerror(errno));
  return 1;
}
