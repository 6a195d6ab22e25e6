#include "kindred/error.hpp"

#include "kindred/internal/system_mend.hpp"

namespace kindred {

std::string_view to_string(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::usage: return "usage";
    case ErrorKind::system: return "system";
    case ErrorKind::task: return "task";
    case ErrorKind::worker_lost: return "worker lost";
    case ErrorKind::broken_pool: return "broken pool";
    case ErrorKind::task_timeout: return "task timeout";
    case ErrorKind::timeout: return "timeout";
    case ErrorKind::cancelled: return "cancelled";
    case ErrorKind::protocol: return "protocol";
  }
  return "unknown";
}

SystemError::SystemError(std::string call, int error_number, std::string_view while_doing,
                         std::string_view mend)
    : Error{ErrorKind::system},
      std::system_error{error_number, std::generic_category()},
      call_{std::move(call)},
      message_{call_} {
  // Appended piece by piece: g++ 12 takes a sum of strings at -O3 for copies that overlap (-Wrestrict).
  message_ += " failed while ";
  message_ += while_doing;
  message_ += ": ";
  message_ += std::generic_category().message(error_number);
  message_ += " (errno ";
  message_ += std::to_string(error_number);
  message_ += ").";
  const std::string by_errno = mend.empty() ? internal::mend_for(call_, error_number) : std::string{mend};
  if (by_errno.empty()) return;
  message_ += ' ';
  message_ += by_errno;
}

}  // namespace kindred
