#pragma once

#include <string>
#include <vector>

#include "kindred/internal/process.hpp"
#include "kindred/worker_options.hpp"

namespace kindred::internal {

/// Executes this program anew: the very inode that runs now, also where its file was replaced or deleted.
/// `role` becomes its first argument, and the two descriptors its 3 and 4. Errors: `SystemError`.
[[nodiscard]] Process execute_program(const char* role, int socket, int lifeline,
                                      const WorkerOptions& options,
                                      const std::vector<std::string>& environment);

}  // namespace kindred::internal
