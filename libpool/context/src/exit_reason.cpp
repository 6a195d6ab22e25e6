#include "kindred/exit_reason.hpp"

#include <csignal>
#include <cstring>

namespace kindred {

std::string signal_name(int signal) {
  const char* const abbreviation = ::sigabbrev_np(signal);
  return abbreviation == nullptr ? "signal " + std::to_string(signal) : std::string{"SIG"} + abbreviation;
}

std::string to_string(const ExitReason& reason) {
  switch (reason.kind) {
    case ExitReason::Kind::exited: return "exited with code " + std::to_string(reason.code);
    case ExitReason::Kind::signalled:
      return "was killed by " + signal_name(reason.signal) + (reason.core_dumped ? " (core dumped)" : "");
    case ExitReason::Kind::timed_out: return "was killed because the task ran over its time limit";
    case ExitReason::Kind::lost: return "is gone; its exit status was taken by another part of this program";
  }
  return "ended in an unknown way";
}

}  // namespace kindred
