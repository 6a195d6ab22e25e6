#pragma once

#include <string>
#include <string_view>

namespace kindred::internal {

/// What a person can do about a system call that failed: chosen by the errno, and by the call where the errno
/// means different things. Empty: nothing is known. `call` is as `SystemError::call` has it.
[[nodiscard]] std::string mend_for(std::string_view call, int error_number);

}  // namespace kindred::internal
