#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "front/small_lock.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/level.hpp"
#include "kindred/log_record.hpp"
#include "record/fields.hpp"
#include "record/message_plan.hpp"

namespace kindred::internal {

/// A place in the code that logs, as it is written to the dictionary of a log area:
///
///     u32 bytes (of all, a multiple of 8), u32 line, u32 format, u16 file, u16 function, u16 types, u8
///     level, u8 level name, then these texts
struct SiteFacts {
  std::string_view format;
  std::string_view file;
  std::string_view function;
  std::string_view types;       ///< an `ArgType` for each argument, with `arg_is_field`
  std::string_view level_name;  ///< of a custom level
  std::uint32_t line = 0;
  Level level = Level::info;
};
inline constexpr std::size_t site_head_bytes = 20;

void encode_site(std::vector<std::byte>& out, const SiteFacts& facts);

/// A site as the collector uses it: its format taken apart once. Immutable. Threads: any thread.
class Site {
 public:
  /// The names of file and function must last: records point to them.
  explicit Site(const SiteFacts& facts);

  [[nodiscard]] Level level() const noexcept { return level_; }
  [[nodiscard]] const std::string& level_name() const noexcept { return level_name_; }
  [[nodiscard]] const SourceLocation& source() const noexcept { return source_; }
  [[nodiscard]] const MessagePlan& plan() const noexcept { return plan_; }
  [[nodiscard]] bool has_fields() const noexcept { return plan_.has_fields(); }

  /// Formats a record's arguments (a private copy) into `message` (appended), and adds its key-values to
  /// `fields`. False where the bytes are not what the site's types say.
  [[nodiscard]] bool format(std::span<const std::byte> arguments, TextBuffer& message,
                            std::vector<Field>& fields) const;

 private:
  Level level_;
  std::string level_name_;
  SourceLocation source_;
  MessagePlan plan_;
};

/// The sites of one log, which end with it. Where they have come to take 64 MiB, a further one has no place
/// in the code. The names of files and functions stay as long as the process, because records that users keep
/// point to them: 16 MiB a process, of which a log takes a quarter of what others have left. So logs of
/// hostile workers, however many, leave the next log room. A site beyond that has no place either.
/// Threads: any thread.
class SiteTable {
 public:
  static constexpr std::size_t max_bytes = 64U * 1024 * 1024;
  static constexpr std::size_t max_bytes_without_place = 4U * 1024 * 1024;
  static constexpr std::size_t max_name_bytes = 16U * 1024 * 1024;

  SiteTable() = default;
  SiteTable(const SiteTable&) = delete;
  SiteTable& operator=(const SiteTable&) = delete;
  /// Returns the site that was encoded so, the same object for the same bytes. Null where they make no sense.
  /// `bytes` is private memory.
  [[nodiscard]] const Site* intern(std::span<const std::byte> bytes);
  [[nodiscard]] const Site* intern(const SiteFacts& facts);

 private:
  // Under the lock.
  const Site* add(const std::string& key, SiteFacts facts, std::size_t most);
  const Site* intern_without_place(SiteFacts facts);

  SmallLock lock_;
  std::unordered_map<std::string, std::unique_ptr<const Site>> all_;
  std::size_t bytes_ = 0;
  std::optional<std::size_t> name_budget_;  ///< decided when the first name comes
};

}  // namespace kindred::internal
