#pragma once

#include <sys/types.h>

namespace kindred::test {

/// Sends SIGSTOP, and returns when the process stands still: `kill` returns before the signal has arrived.
/// Fails the test where the process has ended.
void stop_process(pid_t pid);

}  // namespace kindred::test
