#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/context_id.hpp"
#include "kindred/level.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

struct KeptRecord;

/// The abstract name of the local socket where a log is offered to kindred-tail:
/// `kindred/<uid>/<pid>/<serial>`.
[[nodiscard]] std::string tail_name(std::uint32_t uid, std::uint32_t pid, std::uint32_t serial);

/// What a visitor asks for. It travels as one line, `kindred-tail/2 key=value ...`, in the form of a text
/// line's fields; a key that may have several values is repeated.
struct TailRequest {
  /// What is wanted: facts about the pool, records, or that the level be set. Any other word is looked for
  /// among the answers that `TailServer::offer` was given.
  static constexpr std::string_view facts = "facts", records = "records", set_level = "set_level";
  std::string ask{records};

  bool follow = true;          ///< false: only the records that are kept now
  Level level = Level::trace;  ///< records of this level and above; with `set_level`, the level to set
  std::vector<int> workers{};  ///< of any of these, -1 is the parent; empty: of all
  std::vector<std::uint64_t> task_ids{};  ///< of any of these tasks ...
  std::vector<std::string> task_names{};  ///< ... or of one of these names; both empty: of all
  std::string logger{};                   ///< of this name, or below it
  std::string text{};                     ///< in the message
  std::vector<std::string> nodes{};       ///< of any of these nodes of a cluster; empty: of all
  std::optional<std::int64_t> since{};    ///< nanoseconds of the Unix epoch: records of that time and later
  static constexpr std::uint64_t all = INT64_MAX;
  std::uint64_t last = 10;      ///< that many of the records that are kept come first
  std::vector<Field> others{};  ///< where another word is asked for: all other keys, as they came

  [[nodiscard]] std::string to_line() const;
  /// Returns the request; nothing: the line is none. Its sender is not trusted.
  [[nodiscard]] static std::optional<TailRequest> parse(std::string_view line);
  /// Could the record be one that is asked for? Decided without formatting it.
  [[nodiscard]] bool may_accept(const KeptRecord& kept) const noexcept;
  [[nodiscard]] bool accepts(const LogRecord& record) const;

 private:
  [[nodiscard]] bool take(const Field& field);
};

/// What a tail is answered, line by line. Each begins with one of these, and a record, which is a JSON
/// object, with its `{`.
namespace tail_answer {
inline constexpr char info =
    'i';  ///< fields: pid, serial, start_method, workers, since (unix seconds), program
inline constexpr char lost =
    'l';  ///< a number: how many records were forgotten before this tail came to them
inline constexpr char refused = 'r';  ///< words: why
inline constexpr char done = 'd';     ///< what was asked for was done, or all that is kept was sent
inline constexpr char end = 'e';      ///< the log has ended
}  // namespace tail_answer

}  // namespace kindred::internal
