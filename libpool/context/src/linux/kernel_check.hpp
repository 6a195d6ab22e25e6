#pragma once

#include "kindred/start_method.hpp"

namespace kindred::internal {

/// Tries each thing that a pool needs of the kernel and has no substitute for, once in a process. What is
/// refused here would else fail at the first start, in another process, or under another call's name. What is
/// only used up (descriptors, memory) is no reason: it may be there again when a worker is started.
/// Errors: `SystemError` that names the call, its errno, and what to do.
void require_kernel(StartMethod method);

}  // namespace kindred::internal
