// What a SystemError tells people to do: chosen by the call and its errno.
#include <cerrno>
#include <string>

#include "kindred/error.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;

namespace {

struct Case {
  const char* call;
  int error_number;
  const char* mend;
};
const Case cases[] = {
    {"eventfd", EMFILE, "ulimit -n"},
    {"pipe2", ENFILE, "fs.file-max"},
    {"fork", EAGAIN, "ulimit -u"},
    {"pthread_create", EAGAIN, "pids.max"},
    {"fork", ENOMEM, "Memory is short"},
    {"pidfd_open", ENOSYS, "needs Linux 5.10"},
    {"pidfd_open", ENOSYS, "pidfd_open is not known here"},
    {"pidfd_open", EPERM, "pidfd_open is forbidden here: a container, a seccomp filter"},
    {"pidfd_open", ESRCH, "let that code wait for its own pids"},
    {"memfd_create", ENOSYS, "needs Linux 5.10"},
    {"memfd_create", EMFILE, "ulimit -n"},
    {"fallocate", ENOSPC, "Shared memory is short"},
    {"fallocate", ENOMEM, "Shared memory is short"},
    {"fallocate", EFBIG, "ulimit -f"},
    {"mmap", ENOMEM, "ulimit -v"},
    {"execve", ENOENT, "mount /proc"},
    {"execve", EACCES, "noexec"},
    {"execve", EPERM, "security module"},
    {"execve", ENOEXEC, "StartMethod::fork"},
    {"execve", ETXTBSY, "is being written"},
    {"epoll_ctl", ENOSPC, "fs.epoll.max_user_watches"},
    {"sendmsg", ENOBUFS, "net.core.wmem_default"},
    {"fcntl(F_DUPFD_CLOEXEC)", EMFILE, "ulimit -n"},
    {"fcntl(F_ADD_SEALS)", EPERM, "is forbidden here"},
    {"open", ENOSPC, "file system is full"},
    {"open", EACCES, "permissions"},
    {"write", EROFS, "read-only"},
    {"write", EIO, "dmesg"},
    {"nice", EPERM, "CAP_SYS_NICE"},
    {"setrlimit", EPERM, "CAP_SYS_RESOURCE"},
    {"chdir", ENOENT, "Name a directory that the worker may enter"},
};

}  // namespace

TEST_CASE("a failed system call is told with the mend for its errno") {
  for (const Case& one : cases) {
    const SystemError error{one.call, one.error_number, "testing"};
    CHECK_CONTAINS(error.what(), std::string{one.call} + " failed while testing: ");
    CHECK_CONTAINS(error.what(), "(errno " + std::to_string(one.error_number) + ").");
    CHECK_CONTAINS(error.what(), one.mend);
  }
}

TEST_CASE("a limit is named only where raising it helps") {
  for (const char* const call :
       {"fork", "vfork", "execve", "pidfd_open", "eventfd", "socketpair", "sendmsg", "recvmsg",
        "memfd_create", "fallocate", "mmap", "epoll_create1", "pthread_create"}) {
    for (int number = 1; number < 134; ++number) {
      const SystemError error{call, number, "testing"};
      const std::string text = error.what();
      CAPTURE(text);
      CHECK(
          (!contains(text, "ulimit -n") || number == EMFILE || number == ETOOMANYREFS || number == ENOBUFS));
      CHECK((!contains(text, "ulimit -u") || number == EAGAIN));
      CHECK((!contains(text, "ulimit -v") || number == ENOMEM));
    }
  }
}

TEST_CASE("a place that knows more than the errno has the last word") {
  const SystemError error{"open", EMFILE, "testing", "Do something else."};
  CHECK_CONTAINS(error.what(), "(errno 24). Do something else.");
  CHECK(!contains(error.what(), "ulimit"));
  CHECK(error.code().value() == EMFILE);
  CHECK(error.call() == "open");
}
