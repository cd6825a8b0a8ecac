#include "programs/bygone_vm/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include "support/unique_fd.h"

namespace bygone::programs::vm {
namespace {

// What the first version of Landlock knows; later versions' rights stay as they are without it.
constexpr std::uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t kWrite = kRead | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
                                 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_DIR;
constexpr std::uint64_t kAll = kWrite | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                               LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;

Result<void> allow(int rules, const std::filesystem::path& path, std::uint64_t access) {
  const UniqueFd folder(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!folder && errno == ENOENT) return {};
  if (!folder) return fail_errno(errno, "opening " + path.string() + " for the sandbox");
  landlock_path_beneath_attr rule = {};
  rule.allowed_access = access;
  rule.parent_fd = folder.get();
  if (::syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) return fail_errno(errno, "allowing " + path.string());
  return {};
}

Result<void> restrict_files(const SandboxOptions& options, const Log& log) {
  landlock_ruleset_attr attributes = {};
  attributes.handled_access_fs = kAll;
  const UniqueFd rules(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
  if (!rules) {
    log.info("this kernel has no Landlock: the machine's process can open the files that you can open");
    return {};
  }
  for (const auto& folder : options.writable) BYGONE_CHECK(allow(rules.get(), folder, kWrite));
  for (const auto& folder : options.readable) BYGONE_CHECK(allow(rules.get(), folder, std::filesystem::is_directory(folder) ? kRead : std::uint64_t{LANDLOCK_ACCESS_FS_READ_FILE}));
  if (::syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0) return fail_errno(errno, "entering the sandbox");
  return {};
}

// By what they are for. Anything else fails with EPERM: starting programs, other processes' memory, mounts, namespaces, keys, modules…
constexpr auto kAllowed = std::to_array<int>({
    // memory and threads
    SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mprotect), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(mlock), SCMP_SYS(munlock),
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(get_robust_list), SCMP_SYS(rseq), SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(exit),
    SCMP_SYS(exit_group), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_setaffinity), SCMP_SYS(membarrier), SCMP_SYS(arch_prctl),
    SCMP_SYS(prctl), SCMP_SYS(set_tid_address), SCMP_SYS(getcpu), SCMP_SYS(restart_syscall), SCMP_SYS(memfd_create), SCMP_SYS(mincore), SCMP_SYS(getrusage),
    // signals
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigtimedwait), SCMP_SYS(sigaltstack), SCMP_SYS(tgkill), SCMP_SYS(signalfd4),
    // time, randomness
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(time),
    SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(timerfd_gettime), SCMP_SYS(timer_create), SCMP_SYS(timer_settime),
    SCMP_SYS(timer_delete), SCMP_SYS(getrandom), SCMP_SYS(sysinfo), SCMP_SYS(uname), SCMP_SYS(getrlimit), SCMP_SYS(prlimit64),
    // waiting
    SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select),
    SCMP_SYS(pselect6), SCMP_SYS(eventfd2), SCMP_SYS(pipe2),
    // files
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(preadv), SCMP_SYS(pwritev),
    SCMP_SYS(preadv2), SCMP_SYS(pwritev2), SCMP_SYS(lseek), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(sync_file_range), SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate), SCMP_SYS(flock), SCMP_SYS(fcntl), SCMP_SYS(ioctl), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(close),
    SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(stat), SCMP_SYS(fstat), SCMP_SYS(lstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(statfs),
    SCMP_SYS(fstatfs), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getdents64),
    SCMP_SYS(getcwd), SCMP_SYS(umask), SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(rmdir), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(rename),
    SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(chmod), SCMP_SYS(fchmod), SCMP_SYS(fchmodat), SCMP_SYS(copy_file_range),
    SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_register),
    // sockets: control, guest sockets, NAT
    SCMP_SYS(socket), SCMP_SYS(socketpair), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(connect),
    SCMP_SYS(shutdown), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(recvmmsg),
    SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
});

Result<void> restrict_calls() {
  struct Release {
    void operator()(void* filter) const { ::seccomp_release(filter); }
  };
  const std::unique_ptr<void, Release> filter(::seccomp_init(SCMP_ACT_ERRNO(EPERM)));
  const auto check = [](int result) { return result == 0 ? Result<void>() : fail_errno(-result, "preparing the system call filter"); };
  if (!filter) return fail(ErrorCode::kExhausted, "no memory for the system call filter");
  for (const int call : kAllowed) BYGONE_CHECK(check(::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0)));
  // Threads, never processes. clone3 hides its flags behind a pointer; told that there is none, the C library takes clone.
  BYGONE_CHECK(check(::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0)));
  const scmp_arg_cmp is_thread{0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD};
  BYGONE_CHECK(check(::seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &is_thread)));
  for (const scmp_datum_t policy : {SCHED_BATCH, SCHED_OTHER}) {  // support/pace.h
    const scmp_arg_cmp is_policy{1, SCMP_CMP_EQ, policy, 0};
    BYGONE_CHECK(check(::seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(sched_setscheduler), 1, &is_policy)));
  }
  BYGONE_CHECK(check(::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1)));
  return check(::seccomp_load(filter.get()));
}

}  // namespace

Result<void> enter_sandbox(const SandboxOptions& options, const Log& log) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno(errno, "giving up new privileges");
  BYGONE_CHECK(restrict_files(options, log));
  return restrict_calls();
}

}  // namespace bygone::programs::vm
