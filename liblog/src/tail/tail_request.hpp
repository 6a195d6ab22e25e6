#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kindred/internal/context_id.hpp"
#include "kindred/level.hpp"
#include "kindred/log_record.hpp"
#include "record/site.hpp"

namespace kindred::internal {

struct KeptRecord;

/// Where a log is offered to kindred-tail: `kindred/<uid>/<pid>/<serial>` among the abstract names of local
/// sockets.
[[nodiscard]] std::string tail_name(std::uint32_t uid, std::uint32_t pid, std::uint32_t serial);

/// What a tail asks for. It travels as one line, `kindred-tail/1 key=value ...`, in the form of a text line's
/// fields.
struct TailRequest {
  bool follow = true;  ///< false: only what is known of the pool is told
  Level level = Level::trace;
  std::optional<int> worker{};  ///< -1: the parent
  std::optional<std::uint64_t> task_id{};
  std::string task_name{};  ///< empty: any
  std::string logger{};     ///< of this name, or below it
  std::string text{};       ///< in the message
  std::uint64_t last = 10;  ///< so many of the records that are kept come first

  [[nodiscard]] std::string to_line() const;
  /// Nothing where it is no such line: who sent it is not trusted.
  [[nodiscard]] static std::optional<TailRequest> parse(std::string_view line);
  /// Without formatting it: may the record be one that is asked for?
  [[nodiscard]] bool may_accept(const KeptRecord& kept) const noexcept;
  [[nodiscard]] bool accepts(const LogRecord& record) const;
};

/// What a tail is answered, line by line. Each begins with one of these, and a record, which is a JSON
/// object, with its `{`.
namespace tail_answer {
inline constexpr char info =
    'i';  ///< fields: pid, serial, start_method, workers, since (unix seconds), program
inline constexpr char lost = 'l';  ///< a number: so many records were forgotten before this tail came to them
inline constexpr char refused = 'r';  ///< words: why
inline constexpr char end = 'e';      ///< the log has ended
}  // namespace tail_answer

}  // namespace kindred::internal
