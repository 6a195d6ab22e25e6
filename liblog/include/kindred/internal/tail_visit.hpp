#pragma once

#include <chrono>
#include <functional>
#include <string_view>

namespace kindred::internal {

struct TailRequest;

/// A visitor at the log's door, for the answers that are given there besides the log's own.
///
/// Threads: the visitor's own thread. It has the program's nice value, because an answer may take locks that
/// the program waits for; an answer that takes none lowers itself with `begin_background_thread`.
class TailVisit {
 public:
  TailVisit() = default;
  TailVisit(const TailVisit&) = delete;
  TailVisit& operator=(const TailVisit&) = delete;
  virtual ~TailVisit() = default;
  /// Sends whole lines. False: the visitor has gone, or the time at the log's end is over.
  virtual bool send(std::string_view lines) noexcept = 0;
  /// Waits until `until`. False: the visitor has gone, or the log has ended.
  virtual bool pause(std::chrono::steady_clock::time_point until) noexcept = 0;
};
/// Answers one request, `ask=<word>`, whose other keys are in `TailRequest::others`.
using TailAnswer = std::function<void(const TailRequest& request, TailVisit& visit)>;

}  // namespace kindred::internal
